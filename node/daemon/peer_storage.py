"""Peers keep our backup for us, and we keep theirs (BOLT 1, peer storage; option_provide_storage).

What a peer gives back is authentic or ignored, and only tells of channels that we do not know: it
can be an old one of ours, and must do no harm then. A peer has room here once it has paid for a
channel on the chain; its blob is of one message's size, and only the latest is kept.
"""

import logging
from collections.abc import Iterable
from functools import partial
from typing import Any, TypeAlias

import trio

from htlc.backup import BadBackup, unseal
from htlc.channel import Channel, Phase
from node.chain.interface import BlockConnected
from node.daemon.backup import BackupFile
from node.daemon.peer import Peer
from node.daemon.restoring import Restorer
from node.daemon.store import Store
from node.daemon.switch import Switch
from node.daemon.turn import Turn
from wire.features import PROVIDE_STORAGE, Features
from wire.messages.base import PeerStorage, PeerStorageRetrieval
from wire.messages.catalogue import encode

log = logging.getLogger("rill.backup")

SCHEMA = """
create table if not exists peer_storage(node_id blob primary key, blob blob not null, alone_since integer);
"""

Given: TypeAlias = PeerStorage | PeerStorageRetrieval

GATHERING_SECONDS = 1.0  # channels open in bursts, and every blob is as large as a message may be
LOOK_BLOCKS = 144
KEPT_BLOCKS = 2016


class PeerStorer:
    """Our blob at our peers, and theirs here."""

    def __init__(self, switch: Switch, file: BackupFile, restorer: Restorer, features: Features) -> None:
        self._switch, self._file, self._restorer = switch, file, restorer
        self._kept = _Kept(switch.store)
        self._is_offered = features.has(PROVIDE_STORAGE)
        self._holding: dict[bytes, int] = {}  # by peer: the number of our backup that it has
        self._waiting: dict[bytes, bytes] = {}  # what peers gave us, and is not written yet
        self._wake = trio.Event()
        self._is_sweeping = True
        file.on_written.append(lambda: self._wake.set())
        switch.on_channels_changed.append(self._look)

    # --- a connection

    def peer_up(self, peer: Peer) -> None:
        """A connection is up, and nothing but init has been said on it."""
        self._holding.pop(peer.node_id, None)
        blob = self._waiting.get(peer.node_id)
        blob = self._kept.blob_of(peer.node_id) if blob is None else blob
        if blob is not None:
            # peer-storage.2
            peer.send(PeerStorageRetrieval(blob))

    async def receive(self, peer: Peer, message: Given) -> None:
        """A peer's blob, or ours: what ours tells is durable before anything else of the peer is read."""
        if isinstance(message, PeerStorageRetrieval):
            await self._receive_ours(peer, message.blob)
        elif self._is_offered and _has_channel(self._switch.channels.values(), peer.node_id):
            # peer-storage.1
            self._waiting[peer.node_id] = message.blob
            self._wake.set()

    # --- theirs

    def _keep(self, turn: Turn) -> None:
        """Write what came since the last time: a peer that sends much costs one write a second."""
        for node_id, blob in self._waiting.items():
            turn.write(partial(self._kept.put, node_id, blob))
            log.info("a peer's backup is kept", extra={"peer": node_id.hex()})
        self._waiting = {}

    def note_block(self, block: BlockConnected) -> None:
        """Now and then, look whose channels have all been closed for long."""
        if block.height % LOOK_BLOCKS == 0:
            self._is_sweeping = True
            self._wake.set()

    def _sweep(self, turn: Turn) -> None:
        height = turn.switch.height
        for node_id, alone_since in self._kept.all():
            since = None if _has_channel(turn.all_channels(), node_id) else alone_since or height
            if since is not None and height >= since + KEPT_BLOCKS:
                turn.write(partial(self._kept.forget, node_id))
            elif since != alone_since:
                turn.write(partial(self._kept.note, node_id, since))

    # --- ours

    async def _receive_ours(self, peer: Peer, blob: bytes) -> None:
        try:
            # peer-storage.3
            backup = unseal(blob, self._switch.signer.backup_key)
        except BadBackup as bad:
            shown = {"peer": peer.node_id.hex(), "why": bad.why}
            log.warning("what a peer gives back is not what we gave it", extra=shown)
            return
        if backup.chain_hash != self._switch.house.chain_hash:
            log.warning("a peer gives back a backup of another network", extra={"peer": peer.node_id.hex()})
            return
        await self._switch.ask(lambda turn: self._restorer.learn(turn, backup))
        if backup == self._file.latest:
            self._holding[peer.node_id] = backup.number

    def _look(self, changed: list[Channel]) -> None:
        if any(self._lacks(channel) for channel in changed):
            self._wake.set()

    def _lacks(self, channel: Channel) -> bool:
        """Whether the channel's peer keeps backups, and has not our latest."""
        peer_id, number = channel.charter.peer_id, self._file.latest.number
        if number == 0 or self._holding.get(peer_id) == number or channel.id not in self._switch.live:
            return False
        peer = self._switch.peers.get(peer_id)
        return peer is not None and peer.features.has(PROVIDE_STORAGE) and _is_funded(channel)

    async def run(self) -> None:
        """Give our backup to whoever lacks the latest, until cancelled."""
        while True:
            await self._wake.wait()
            await trio.sleep(GATHERING_SECONDS)
            self._wake = trio.Event()
            if self._waiting:
                await self._switch.ask(self._keep)
            if self._is_sweeping:
                self._is_sweeping = False
                await self._switch.ask(self._sweep)
            lacking = {c.charter.peer_id for c in self._switch.channels.values() if self._lacks(c)}
            if lacking:
                self._give(lacking)

    def _give(self, peer_ids: set[bytes]) -> None:
        number, raw = self._file.latest.number, encode(PeerStorage(self._file.sealed_for_peers()))
        for peer_id in peer_ids:
            self._switch.peers[peer_id].send_raw(raw)
            self._holding[peer_id] = number


class _Kept:
    """The blobs of peers on our disk. Writers run inside a transaction of the caller."""

    def __init__(self, store: Store) -> None:
        self._db = store.db

    def blob_of(self, node_id: bytes) -> bytes | None:
        """What that peer gave us last."""
        row = self._db.execute("select blob from peer_storage where node_id = ?", (node_id,)).fetchone()
        return row[0] if row else None

    def put(self, node_id: bytes, blob: bytes) -> None:
        """Keep it in the place of the one before."""
        self._db.execute("insert or replace into peer_storage values(?, ?, null)", (node_id, blob))

    def all(self) -> list[tuple[bytes, int | None]]:
        """Whose we have, and since which height a peer has had no channel with us."""
        rows: list[Any] = self._db.execute("select node_id, alone_since from peer_storage").fetchall()
        return rows

    def note(self, node_id: bytes, alone_since: int | None) -> None:
        """The peer has lost its last channel, or has one again."""
        change = "update peer_storage set alone_since = ? where node_id = ?"
        self._db.execute(change, (alone_since, node_id))

    def forget(self, node_id: bytes) -> None:
        """It was kept long enough."""
        self._db.execute("delete from peer_storage where node_id = ?", (node_id,))


def _has_channel(channels: Iterable[Channel], node_id: bytes) -> bool:
    return any(_is_funded(c) for c in channels if c.charter.peer_id == node_id)


def _is_funded(channel: Channel) -> bool:
    return channel.short_channel_id is not None and channel.phase is not Phase.CLOSED
