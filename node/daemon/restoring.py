"""Channels that are known from a backup alone, taken in: a node that has lost its state begins again.

What a backup says is first written down, then the chain is read for what has become of each channel
since it was opened, and then the channel stands where all others stand: behind its peer, which is
asked to close it, and watched for the commitment that pays us. A backup never changes a channel
that the database knows.
"""

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import msgspec
import trio

from htlc.backup import Backup, BadBackup, Entry, encode_entry, restored, unseal
from htlc.reestablish import reestablish
from node.chain.interface import BlockConnected, BlockEvent, Chain
from node.daemon.backup import BIRTHDAY, FILE_NAME, NUMBER, BackupFile
from node.daemon.reconnect import Address, Caller
from node.daemon.store import Store
from node.daemon.switch import Switch
from node.daemon.turn import Turn
from node.daemon.watch import Followed, Watcher
from wire.bitcoin.tx import OutPoint, Transaction
from wire.crypto.secp256k1 import Point

log = logging.getLogger("rill.backup")

SKIPPED = 1_000_000  # numbers of keys, and of backups, that were used after the backup was made
REORGANISED_BLOCKS = 6

Found: TypeAlias = Sequence[tuple[int, dict[bytes, list[Transaction]]]]
"""By height: the transactions that concern channels, by channel."""


class UnusableBackup(Exception):
    """A node without a database has a backup file that it cannot begin again from."""

    def __init__(self, path: Path, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(f"{path} {why}")


# At a start, before anything else reads the database


def read_backup(path: Path, key: bytes, chain_hash: bytes) -> Backup:
    """The backup in a file.

    Raises:
        UnusableBackup: it cannot be read, or is none of ours on this network.
    """
    try:
        backup = unseal(path.read_bytes(), key)
    except BadBackup as bad:
        raise UnusableBackup(path, bad.why) from None
    except OSError as error:
        raise UnusableBackup(path, f"cannot be read: {error.strerror}") from None
    if backup.chain_hash != chain_hash:
        raise UnusableBackup(path, "is of a node on another network")
    return backup


def take_up_file(store: Store, directory: Path, key: bytes, chain_hash: bytes) -> None:
    """Learn from the backup file what the database does not know: everything, if there was none.

    Raises:
        UnusableBackup: there is nothing but the file, and it is not ours.
    """
    path = directory / FILE_NAME
    if not path.exists():
        return
    is_new = store.meta(BIRTHDAY) is None and store.meta("followed") is None
    try:
        backup = read_backup(path, key, chain_hash)
    except UnusableBackup as bad:
        if is_new:
            # the next write would destroy the only thing that may bring the money back
            raise
        aside = path.replace(path.with_name(FILE_NAME + ".unusable"))
        log.error("the backup file is put aside and written anew", extra={"why": bad.why, "to": str(aside)})
        return
    if is_new:
        begin_again(store, backup)
        return
    known = {channel.id for channel in store.channels()}
    unknown = [entry for entry in backup.entries if entry.channel_id not in known]
    if unknown:
        log.error("the database lacks channels of the backup file", extra={"count": len(unknown)})
        with store.transaction():
            _write_down(store, unknown)


def nothing_but_a_seed(chain_hash: bytes) -> Backup:
    """What is known of a node that has no backup; its peers may know more."""
    return Backup(0, chain_hash, 0, 0, (0, 0), ())


def begin_again(store: Store, backup: Backup, from_height: int | None = None) -> None:
    """Write everything that a backup says into a new database.

    The chain will be read from the height that is given, or from where the backup says.
    """
    birthday = backup.birthday if from_height is None else from_height
    with store.transaction():
        store.put_meta(NUMBER, (backup.number + SKIPPED).to_bytes(8, "big"))
        store.put_meta(BIRTHDAY, birthday.to_bytes(8, "big"))
        store.put_meta("next_key_index", (backup.next_key_index + SKIPPED).to_bytes(8, "big"))
        names = zip(("receive", "change"), backup.wallet_indexes, strict=True)
        store.db.executemany("insert or replace into wallet_numbers values(?, ?)", names)
        _write_down(store, backup.entries)


def _write_down(store: Store, entries: Iterable[Entry]) -> None:
    for entry in entries:
        row = (entry.channel_id, encode_entry(entry))
        store.db.execute("insert or ignore into restores values(?, ?)", row)
        if entry.host:
            address = msgspec.msgpack.encode(Address(Point(entry.peer_id), entry.host, entry.port))
            store.db.execute("insert or ignore into addresses values(?, ?)", (entry.peer_id, address))


def _strike_out(store: Store, channel_id: bytes) -> None:
    store.db.execute("delete from restores where channel_id = ?", (channel_id,))


# While the node runs


class Restorer:
    """Takes channels in that backups name, whenever one is found: at a start, by a user, by a peer."""

    def __init__(
        self, switch: Switch, watcher: Watcher, chain: Chain, caller: Caller, file: BackupFile
    ) -> None:
        self._switch, self._watcher, self._chain, self._caller = switch, watcher, chain, caller
        self._file, self._pending = file, file.pending
        self._wake = trio.Event()

    def learn(self, turn: Turn, backup: Backup) -> list[bytes]:
        """Write down the channels that nobody here knows; their ids. `run` takes them in then."""
        file = self._file
        if backup.number > file.latest.number:
            log.error(
                "the database is older than a backup of it: channels may be behind their peers",
                extra={"ours": file.latest.number, "backup": backup.number},
            )
            file.raise_number(turn, backup.number)
        return self.learn_entries(turn, backup.entries)

    def learn_entries(self, turn: Turn, entries: Iterable[Entry]) -> list[bytes]:
        """The same for channels alone."""
        fresh = [entry for entry in entries if self._is_unknown(turn, entry)]
        if fresh:
            log.warning("a backup knows channels that the database does not", extra={"count": len(fresh)})
            self._pending.update({entry.channel_id: entry for entry in fresh})
            turn.write(lambda: _write_down(self._switch.store, fresh))
            turn.then(self._begin)
            for entry in fresh:
                if entry.host:
                    self._caller.learn(Address(Point(entry.peer_id), entry.host, entry.port))
        return [entry.channel_id for entry in fresh]

    def _is_unknown(self, turn: Turn, entry: Entry) -> bool:
        return turn.channel(entry.channel_id) is None and entry.channel_id not in self._pending

    def _begin(self) -> None:
        self._file.touch()
        self._wake.set()

    async def run(self) -> None:
        """Take in what is learned, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                while self._pending:
                    entries = list(self._pending.values())
                    await self._take_in(entries)
                    for peer_id in {Point(entry.peer_id) for entry in entries}:
                        nursery.start_soon(self._caller.call_again, peer_id)
                self._wake = trio.Event()
                await self._wake.wait()

    async def _take_in(self, entries: Sequence[Entry]) -> None:
        """Read what the chain says of them, and go on from where the node stands."""
        first = max(1, min(entry.known_since for entry in entries) - REORGANISED_BLOCKS)
        search = _Search(entries)
        if await self._switch.ask(lambda turn: self._adopt(turn, search, first)):
            return
        async for event in self._chain.follow(first):
            search.read(event)
            if event.height >= self._switch.height:
                await self._watcher.wait_for_height(event.height)
                if await self._switch.ask(lambda turn: self._adopt(turn, search, first)):
                    return

    def _adopt(self, turn: Turn, search: "_Search", first: int) -> bool:
        """Make them channels of ours, unless there are blocks that one of us has read alone."""
        if self._switch.height >= first and self._watcher.followed != search.followed:
            return False
        for entry in search.entries:
            self._adopt_one(turn, entry, search.found)
        return True

    def _adopt_one(self, turn: Turn, entry: Entry, found: Found) -> None:
        switch, channel_id = self._switch, entry.channel_id
        secrets = switch.signer.channel_secrets(entry.key_index)
        channel = restored(entry, secrets)
        del self._pending[channel_id]
        turn.write(partial(_strike_out, switch.store, channel_id))
        turn.put(channel)
        log.warning("a channel is restored from a backup", extra={"channel": channel_id.hex()})
        switch.resolver.relive(turn, channel_id, [(h, by[channel_id]) for h, by in found if channel_id in by])
        turn.send(entry.peer_id, reestablish(channel, secrets))


class _Search:
    """What blocks that were read before hold about some channels."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.followed: Followed | None = None
        self.found: list[tuple[int, dict[bytes, list[Transaction]]]] = []
        self._watched = {
            OutPoint(entry.funding_txid, entry.funding_index): entry.channel_id for entry in entries
        }

    def read(self, event: BlockEvent) -> None:
        """The next step of the chain."""
        if not isinstance(event, BlockConnected):
            self.followed = None
            self.found = [(height, by) for height, by in self.found if height < event.height]
            return
        self.followed = Followed(event.height, event.block_hash)
        touching: dict[bytes, list[Transaction]] = {}
        for transaction in event.transactions:
            for channel_id in {
                self._watched[i.outpoint] for i in transaction.inputs if i.outpoint in self._watched
            }:
                touching.setdefault(channel_id, []).append(transaction)
                made = map(transaction.outpoint, range(len(transaction.outputs)))
                self._watched.update(dict.fromkeys(made, channel_id))
        if touching:
            self.found.append((event.height, touching))
