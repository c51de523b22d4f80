"""A watchtower and clients that ask for too much, or for nothing that can be understood."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from htlc.watchtower import MOST_BLOB_BYTES
from node.chain.embedded import EmbeddedChain
from node.daemon.node import PortTaken
from node.daemon.peer import Peer, PeerGone, call
from node.daemon.signer import Signer
from node.daemon.store import DatabaseInUse
from node.daemon.tower_messages import (
    ADD_JUSTICE,
    FORGET_CHANNEL,
    REFUSED,
    STORED,
    AddJustice,
    ForgetChannel,
    Reason,
    Refused,
    read_refused,
    read_stored,
    write_add,
    write_forget,
)
from node.daemon.tower_store import ROW_BYTES
from node.daemon.watchtower import TowerConfig, Watchtower
from tests.node.line import HOST, PATIENCE_SECONDS
from wire.bitcoin.block import CHAIN_HASH
from wire.codec import Message
from wire.crypto.hashes import sha256
from wire.features import OUR_INIT
from wire.messages.base import Init

BLOB = bytes(1000)
ROOM = 10 * (len(BLOB) + ROW_BYTES)


class Caller:
    """A client that says what a test likes."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._send, self._answers = trio.open_memory_channel[Refused | int](1000)
        self._asked = 0
        self.gone = trio.Event()

    async def run(self) -> None:
        await self.peer.run(_ignore, {STORED: self._stored, REFUSED: self._refused})
        self.gone.set()

    async def _stored(self, _: bytes, payload: bytes) -> None:
        self._send.send_nowait(read_stored(payload))

    async def _refused(self, _: bytes, payload: bytes) -> None:
        self._send.send_nowait(read_refused(payload))

    def say(self, number: int, payload: bytes) -> None:
        self.peer.send_raw(number.to_bytes(2, "big") + payload)

    async def add(self, hint: int, blob: bytes = BLOB, *, channel: int = 0, part: int = 0) -> Reason | None:
        """Ask the tower to keep something; why it does not."""
        self._asked += 1
        name = channel.to_bytes(16, "big")
        request = AddJustice(self._asked, name, hint.to_bytes(16, "big"), part, blob)
        self.say(ADD_JUSTICE, write_add(request))
        return await self._answer()

    async def forget(self, channel: int) -> Reason | None:
        """Ask the tower to drop something."""
        self._asked += 1
        self.say(FORGET_CHANNEL, write_forget(ForgetChannel(self._asked, channel.to_bytes(16, "big"))))
        return await self._answer()

    async def _answer(self) -> Reason | None:
        answer = await self._answers.receive()
        if isinstance(answer, Refused):
            assert answer.request_id == self._asked
            return answer.reason
        assert answer == self._asked
        return None


def _ignore(_: Peer, __: Message, ___: bytes) -> None: ...


class Desk:
    """A tower, and a way to it for anybody."""

    def __init__(self, tower: Watchtower, nursery: trio.Nursery) -> None:
        self.tower, self._nursery = tower, nursery

    async def caller(self, name: str, network: str = "regtest") -> Caller:
        stream = await trio.open_tcp_stream(HOST, self.tower.port)
        init = Init(features=OUR_INIT.to_bytes(), networks=(CHAIN_HASH[network],))
        caller = Caller(await call(stream, Signer(sha256(name.encode())), self.tower.node_id, init))
        self._nursery.start_soon(caller.run)
        return caller


@asynccontextmanager
async def desk(directory: Path, **options: int) -> AsyncIterator[Desk]:
    with EmbeddedChain() as chain, trio.fail_after(PATIENCE_SECONDS):
        tower = Watchtower(TowerConfig(directory, **options), chain)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            await nursery.start(tower.run)
            yield Desk(tower, nursery)
            nursery.cancel_scope.cancel()


async def test_a_client_may_store_so_much_and_no_more(tmp_path: Path) -> None:
    async with desk(tmp_path, most_client_bytes=ROOM) as at:
        greedy, modest = await at.caller("greedy"), await at.caller("modest")
        assert [await greedy.add(hint) for hint in range(12)] == [None] * 10 + [Reason.QUOTA] * 2
        assert at.tower.store.used_bytes == ROOM
        assert await modest.add(0) is None


async def test_many_tiny_blobs_are_no_way_around_the_quota(tmp_path: Path) -> None:
    async with desk(tmp_path, most_client_bytes=ROOM) as at:
        greedy = await at.caller("greedy")
        answers = [await greedy.add(hint, b"x", channel=hint) for hint in range(100)]
        assert answers.count(None) == ROOM // (ROW_BYTES + 1) < 100


async def test_identities_cost_nothing_so_all_together_have_a_limit_too(tmp_path: Path) -> None:
    async with desk(tmp_path, most_bytes=ROOM) as at:
        answers = [await (await at.caller(str(number))).add(0) for number in range(12)]
        assert answers == [None] * 10 + [Reason.FULL] * 2


async def test_the_same_again_is_not_charged_again(tmp_path: Path) -> None:
    async with desk(tmp_path, most_client_bytes=ROOM) as at:
        caller = await at.caller("client")
        assert [await caller.add(1) for _ in range(30)] == [None] * 30
        assert at.tower.store.count == 1
        assert at.tower.store.used_bytes == len(BLOB) + ROW_BYTES


async def test_what_is_forgotten_makes_room(tmp_path: Path) -> None:
    async with desk(tmp_path, most_client_bytes=ROOM) as at:
        caller, other = await at.caller("client"), await at.caller("other")
        for hint in range(10):
            await caller.add(hint, channel=hint % 2)
        assert await other.forget(0) is None
        assert await caller.add(10) is Reason.QUOTA
        assert await caller.forget(0) is None
        assert at.tower.store.count == 5
        assert [await caller.add(hint) for hint in range(10, 16)] == [None] * 5 + [Reason.QUOTA]


async def test_clients_may_have_the_same_hint(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        one, two = await at.caller("one"), await at.caller("two")
        await one.add(1, b"one")
        await two.add(1, b"two")
        assert {blob for _, blob in at.tower.store.matching((1).to_bytes(16, "big"))} == {b"one", b"two"}


@pytest.mark.parametrize(
    ("number", "payload"),
    [
        (ADD_JUSTICE, b""),
        (ADD_JUSTICE, bytes(41)),
        (ADD_JUSTICE, bytes(42 + MOST_BLOB_BYTES)),
        (FORGET_CHANNEL, bytes(23)),
        (FORGET_CHANNEL, bytes(25)),
    ],
)
async def test_garbage_costs_the_connection(tmp_path: Path, number: int, payload: bytes) -> None:
    async with desk(tmp_path) as at:
        caller = await at.caller("client")
        caller.say(number, payload)
        await caller.gone.wait()
        assert at.tower.store.count == 0
        assert await (await at.caller("client")).add(0) is None


async def test_a_client_on_another_chain_is_sent_away(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        with pytest.raises(PeerGone):
            await at.caller("client", "bitcoin")


async def test_a_crowd_is_not_let_in(tmp_path: Path) -> None:
    async with desk(tmp_path, most_connections=2) as at:
        first = await at.caller("1")
        await at.caller("2")
        with pytest.raises(PeerGone):
            await at.caller("3")
        assert await first.add(0) is None


async def test_what_was_acknowledged_is_there_after_a_crash(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await (await at.caller("client")).add(7)
    async with desk(tmp_path) as at:
        assert at.tower.store.count == 1
        assert at.tower.store.used_bytes == len(BLOB) + ROW_BYTES


async def test_a_directory_has_one_tower_and_a_port_one_listener(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        with EmbeddedChain() as chain:
            with pytest.raises(DatabaseInUse):
                Watchtower(TowerConfig(tmp_path), chain)
            other = Watchtower(TowerConfig(tmp_path / "other", port=at.tower.port), chain)
            with pytest.RaisesGroup(PortTaken):
                await other.run()
