"""A watchtower: it keeps sealed justice for nodes, and punishes breaches while they are away.

It is no Lightning node: it has an identity, a database and a chain, and no money. What many clients
send at once is written in one transaction, and only then acknowledged. A client may have so many
bytes and no more; identities cost nothing, so there is a limit for all of them together too.
"""

import logging
from functools import partial
from pathlib import Path

import msgspec
import trio

from node.chain.interface import Chain
from node.daemon.node import PortTaken
from node.daemon.peer import CustomHandler, Peer, PeerGone, answer
from node.daemon.seed import seed_in
from node.daemon.signer import Signer
from node.daemon.tower_messages import (
    ADD_JUSTICE,
    FORGET_CHANNEL,
    REFUSED,
    STORED,
    AddJustice,
    ForgetChannel,
    Refused,
    read_add,
    read_forget,
    write_refused,
    write_stored,
)
from node.daemon.tower_pursuit import Pursuit
from node.daemon.tower_store import TowerStore
from wire.bitcoin.block import CHAIN_HASH
from wire.codec import DecodeError, Message
from wire.crypto.secp256k1 import Point
from wire.features import OUR_INIT
from wire.messages.base import Init

log = logging.getLogger("rill.watchtower")

DEFAULT_PORT = 9911
MOST_WAITING = 1000


class TowerConfig(msgspec.Struct, frozen=True):
    """What makes this tower different from another."""

    directory: Path
    seed: bytes | None = None  # None: the one in the directory, made at the first start
    host: str = "127.0.0.1"
    port: int = 0  # 0: any that is free
    most_client_bytes: int = 256 << 20
    most_bytes: int = 16 << 30
    most_connections: int = 1000


class Watchtower:
    """One watchtower. Construct it, then start `run` in a nursery."""

    def __init__(self, config: TowerConfig, chain: Chain) -> None:
        """Open the tower's database.

        Raises:
            DatabaseInUse, Damaged: it cannot be opened.
        """
        config.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.config = config
        self.signer = Signer(config.seed or seed_in(config.directory))
        path = config.directory / "watchtower.sqlite"
        self.store = TowerStore(path, config.most_client_bytes, config.most_bytes)
        self.pursuit = Pursuit(self.store, chain)
        self.port = 0
        self.peers: dict[Point, Peer] = {}
        self._init = Init(features=OUR_INIT.to_bytes(), networks=(CHAIN_HASH[chain.network],))
        self._connections = trio.CapacityLimiter(config.most_connections)
        self._asked: list[tuple[Peer, AddJustice | ForgetChannel]] = []
        self._wake, self._has_room = trio.Event(), trio.Event()

    @property
    def node_id(self) -> Point:
        """The tower's public key, 33 bytes."""
        return self.signer.node_id

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started once the tower listens and follows the chain.

        Raises:
            PortTaken: it cannot listen.
            UnknownBlock: this is not the chain that it has read so far.
        """
        try:
            async with trio.open_nursery() as nursery:
                listeners = await self._listen()
                await nursery.start(self.pursuit.run)
                nursery.start_soon(self._keep_what_comes)
                nursery.start_soon(trio.serve_listeners, self._serve, listeners)
                task_status.started()
        finally:
            self.store.close()

    async def _listen(self) -> list[trio.SocketListener]:
        host = self.config.host
        try:
            listeners = await trio.open_tcp_listeners(self.config.port, host=host)
        except OSError as error:
            raise PortTaken(host, self.config.port, error.strerror or str(error)) from None
        self.port = listeners[0].socket.getsockname()[1]
        return listeners

    # --- clients

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            self._connections.acquire_on_behalf_of_nowait(stream)
        except trio.WouldBlock:
            return
        try:
            await self._hear(await answer(stream, self.signer, self._init))
        except PeerGone as gone:
            log.info("a caller failed to connect", extra={"why": gone.why})
        finally:
            self._connections.release_on_behalf_of(stream)

    async def _hear(self, peer: Peer) -> None:
        older = self.peers.get(peer.node_id)
        if older is not None:
            older.close("replaced by a newer connection")
        self.peers[peer.node_id] = peer
        custom: dict[int, CustomHandler] = {
            ADD_JUSTICE: partial(self._add, peer),
            FORGET_CHANNEL: partial(self._forget, peer),
        }
        try:
            await peer.run(_ignore, custom)
        finally:
            if self.peers.get(peer.node_id) is peer:
                del self.peers[peer.node_id]

    async def _add(self, peer: Peer, _: bytes, payload: bytes) -> None:
        try:
            await self._ask(peer, read_add(payload))
        except DecodeError as error:
            peer.warn(str(error))

    async def _forget(self, peer: Peer, _: bytes, payload: bytes) -> None:
        try:
            await self._ask(peer, read_forget(payload))
        except DecodeError as error:
            peer.warn(str(error))

    async def _ask(self, peer: Peer, request: AddJustice | ForgetChannel) -> None:
        while len(self._asked) >= MOST_WAITING:
            await self._has_room.wait()
        self._asked.append((peer, request))
        self._wake.set()

    # --- keeping

    async def _keep_what_comes(self) -> None:
        while True:
            if not self._asked:
                self._wake = trio.Event()
                await self._wake.wait()
            asked, self._asked = self._asked, []
            with self.store.transaction():
                answers = [self._keep(peer.node_id, request) for peer, request in asked]
            for (peer, _), (number, payload) in zip(asked, answers, strict=True):
                peer.send_raw(number.to_bytes(2, "big") + payload)
            self._has_room.set()
            self._has_room = trio.Event()
            await trio.lowlevel.checkpoint()

    def _keep(self, node_id: Point, request: AddJustice | ForgetChannel) -> tuple[int, bytes]:
        """Do what was asked; the answer, for when it is durable."""
        if isinstance(request, ForgetChannel):
            self.store.forget(node_id, request.tag)
            return STORED, write_stored(request.request_id)
        reason = self.store.add(node_id, request)
        if reason is None:
            return STORED, write_stored(request.request_id)
        log.info("refused a client", extra={"client": node_id.hex(), "why": reason.text})
        return REFUSED, write_refused(Refused(request.request_id, reason))


def _ignore(_: Peer, __: Message, ___: bytes) -> None:
    """Whatever else a client says is nothing to a tower."""
