"""What was said is on disk, and what is on disk can be said again (DESIGN §3)."""

import shutil
import stat
import sys
from collections import Counter
from contextlib import suppress
from enum import Enum
from pathlib import Path
from random import Random

import apsw
import msgspec
import pytest
import trio
import trio.testing

from htlc.channel import Channel
from htlc.ladder import Failed, Fulfilled
from htlc.reestablish import disconnected
from node.daemon.invoices import InvoiceRow
from node.daemon.node import Node
from node.daemon.paying import PaymentFailed
from node.daemon.payments import Status
from node.daemon.peer import Peer
from node.daemon.store import FORMAT, Damaged, DatabaseInUse, Store
from node.daemon.switch import Request
from node.daemon.turn import Turn
from tests.bolt import bolt
from tests.node.line import Held, Network, line, network, until
from tests.node.payments import AMOUNT, payments_on_disk
from wire.codec import Message
from wire.messages.channel import (
    AcceptChannel,
    ChannelReady,
    ClosingComplete,
    ClosingSig,
    CommitmentSigned,
    FundingSigned,
    OpenChannel,
    RevokeAndAck,
    Shutdown,
    UpdateAddHtlc,
    UpdateFailHtlc,
    UpdateFulfillHtlc,
)
from wire.units import Msat


def stored(node: Node, channel_id: bytes) -> Channel:
    """The channel as a crash now would leave it."""
    assert not node.store.db.in_transaction
    return {channel.id: channel for channel in node.store.channels()}[channel_id]


class Witness:
    """Compares what a node says, as it says it, with what is on its disk."""

    def __init__(self, node: Node) -> None:
        self.node, self.seen = node, Counter[type[Message]]()
        self._of_channel = Counter[tuple[bytes, type[Message]]]()
        self._release = node.switch._release
        node.switch._release = self._released  # type: ignore[method-assign]

    def _released(self, turn: Turn) -> None:
        for _, message in turn.outgoing:
            self.seen[type(message)] += 1
            self._check(message)
        self._release(turn)

    def _check(self, message: Message) -> None:
        match message:
            case OpenChannel() | AcceptChannel():
                assert self.node.store.meta(
                    "next_key_index"
                ) == self.node.switch.establishment._next_key_index.to_bytes(8, "big")
            case FundingSigned(channel_id=channel_id):
                stored(self.node, channel_id)
            case ChannelReady(channel_id=channel_id):
                assert stored(self.node, channel_id).is_ready.local
            case UpdateAddHtlc(channel_id=channel_id, id=htlc_id):
                assert stored(self.node, channel_id).htlcs.local[htlc_id].payment_hash == message.payment_hash
            case UpdateFulfillHtlc(channel_id=channel_id, id=htlc_id):
                outcome = stored(self.node, channel_id).htlcs.remote[htlc_id].outcome
                assert isinstance(outcome, Fulfilled)
                assert outcome.payment_preimage == message.payment_preimage
            case UpdateFailHtlc(channel_id=channel_id, id=htlc_id):
                assert stored(self.node, channel_id).htlcs.remote[htlc_id].outcome == Failed(message.reason)
            case CommitmentSigned(channel_id=channel_id):
                self._of_channel[channel_id, CommitmentSigned] += 1
                assert (
                    stored(self.node, channel_id).number.remote
                    == self._of_channel[channel_id, CommitmentSigned]
                )
            case RevokeAndAck(channel_id=channel_id):
                self._of_channel[channel_id, RevokeAndAck] += 1
                assert (
                    stored(self.node, channel_id).number.local == self._of_channel[channel_id, RevokeAndAck]
                )
            case Shutdown(channel_id=channel_id):
                assert stored(self.node, channel_id).closing.scripts.local == message.scriptpubkey
            case ClosingComplete(channel_id=channel_id):
                assert stored(self.node, channel_id).closing.our_last_fee_sat == message.fee_satoshis
            case ClosingSig(channel_id=channel_id):
                assert stored(self.node, channel_id).closing.transaction is not None


async def live_a_life(net: Network) -> None:
    """From opening to closing, with payments that arrive and payments that do not."""
    await net.join([("alice", "bob"), ("bob", "carol")])
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(net.pay, "alice", "carol", AMOUNT)
            nursery.start_soon(net.pay, "carol", "alice", AMOUNT)
            nursery.start_soon(fail, net)
    await net.wait_for_quiet()
    net.check_conserved()
    for a, b in ("alice", "bob"), ("carol", "bob"):
        await net[a].close_channel(net.ids[a, b])


async def fail(net: Network) -> None:
    with pytest.raises(PaymentFailed):
        await net.pay("alice", "carol", AMOUNT, payment_secret=bytes(32))


@bolt("commitment_signed-revoke_and_ack.5", "funding_created-funding_signed.4")
async def test_nothing_is_said_that_is_not_on_disk(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob carol") as net:
        witnesses = [Witness(node) for node in net.nodes.values()]
        await live_a_life(net)
        await net.chain.wait_for_mempool(lambda chain: len(chain.regtest.mempool) == 2)
        seen = sum((witness.seen for witness in witnesses), Counter[type[Message]]())
        for kind in (
            OpenChannel, AcceptChannel, FundingSigned, ChannelReady, UpdateAddHtlc, UpdateFulfillHtlc,
            UpdateFailHtlc, CommitmentSigned, RevokeAndAck, Shutdown, ClosingComplete, ClosingSig,
        ):  # fmt: skip
            assert seen[kind] >= 2


def after_a_crash(channels: list[Channel]) -> list[Channel]:
    """What counts of them: what the peer has proposed and not signed may be forgotten (reestablish.2)."""
    return [disconnected(channel) for channel in sorted(channels, key=lambda channel: channel.id)]


async def test_what_is_on_disk_is_what_is_in_memory_whenever_something_is_said(tmp_path: Path) -> None:
    copies: list[tuple[Path, list[Channel]]] = []
    async with network(tmp_path / "nodes", "alice bob carol") as net:
        release = net["bob"].switch._release

        def copying(turn: Turn) -> None:
            if turn.outgoing:
                copy = tmp_path / str(len(copies))
                copy.mkdir()
                for file in (tmp_path / "nodes" / "bob").glob("node.sqlite*"):
                    shutil.copy(file, copy)
                copies.append((copy / "node.sqlite", after_a_crash(net["bob"].channels())))
            release(turn)

        net["bob"].switch._release = copying  # type: ignore[method-assign]
        await live_a_life(net)
    assert len(copies) > 10
    for path, channels in copies:
        store = Store(path)
        assert after_a_crash(store.channels()) == channels
        store.close()


async def test_a_commit_is_one_fsync_of_a_log_that_survives_power_loss(tmp_path: Path) -> None:
    async with network(tmp_path, "bob") as net:
        pragmas = [
            net["bob"].store.db.pragma(name) for name in ("journal_mode", "synchronous", "locking_mode")
        ]
        assert pragmas == ["wal", 2, "exclusive"]


async def test_whoever_is_told_of_a_payment_can_rely_on_it(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        told: list[bool] = []

        def settled(payment_hash: bytes, amount_msat: Msat) -> None:
            rows = [
                msgspec.msgpack.decode(raw, type=InvoiceRow) for raw in net["bob"].store.values("invoices")
            ]
            told.append(rows[0].is_paid and rows[0].received_msat == amount_msat)

        net["bob"].on_settled(settled)
        invoice = await net["bob"].add_invoice(Msat(AMOUNT))
        await net.pay_row("alice", "bob", invoice)
        assert told == [True]
        assert payments_on_disk(net["alice"])[invoice.payment_hash].status is Status.COMPLETE


# --- a commit that fails


@pytest.mark.parametrize("turn_number", range(1, 5))
async def test_a_commit_that_fails_says_nothing_and_ends_the_node(tmp_path: Path, turn_number: int) -> None:
    async with line(tmp_path, "bob carol") as net:
        alice = net.make("alice")
        net.nodes["alice"] = alice
        said: list[Message] = []

        async def run_and_pay() -> None:
            async with trio.open_nursery() as nursery:
                await nursery.start(alice.run)
                await net.join([("alice", "bob")])
                watch_failing_commit(alice, turn_number, said)
                nursery.start_soon(net.pay, "alice", "carol", AMOUNT)

        with pytest.raises(ExceptionGroup) as failed:
            await run_and_pay()
        assert failed.group_contains(apsw.ConstraintError)
        assert said == []
        # what is left is the state before, and the node goes on from there
        del net.nodes["alice"]
        await until(lambda: alice.node_id not in net["bob"].switch.peers)
        await net.start("alice")
        await net.connect("alice", "bob")
        await net.wait_for_usable()
        await net.wait_for_quiet()
        net.check_conserved()


def watch_failing_commit(node: Node, turn_number: int, said: list[Message]) -> None:
    """Let the commit of the n-th turn from now fail inside SQLite; list what is said after it."""
    commits = 0

    def refuse() -> bool:
        nonlocal commits
        commits += 1
        return commits >= turn_number

    def recorded(peer: Peer, message: Message) -> None:
        if commits >= turn_number:
            said.append(message)
        send(peer, message)

    send = Peer.send
    node.store.db.set_commit_hook(refuse)
    for peer in node.switch.peers.values():
        peer.send = lambda message, peer=peer: recorded(peer, message)  # type: ignore[method-assign,misc]


# --- death and return


class Death(Enum):
    """When in a turn that has something to say a node dies."""

    BEFORE_COMMIT = "before its commit"
    AFTER_COMMIT = "after its commit"
    SPEAKING = "after its first word"


def die_at(net: Network, name: str, turn_number: int, death: Death) -> None:
    """Let a node die in its n-th turn that has something to say."""
    switch, turns = net[name].switch, 0
    commit, release = switch._commit, switch._release

    def committed(turn: Turn) -> None:
        nonlocal turns
        turns += bool(turn.outgoing)
        if turns < turn_number or death is not Death.BEFORE_COMMIT:
            commit(turn)

    def released(turn: Turn) -> None:
        if turns < turn_number:
            release(turn)
        elif death is Death.SPEAKING:
            turn.outgoing, turn.after = turn.outgoing[:1], []
            release(turn)
            fall_silent(net, name)
        else:
            net.kill(name)

    switch._commit, switch._release = committed, released  # type: ignore[method-assign]


def fall_silent(net: Network, name: str) -> None:
    """Die once what was said has left."""
    switch = net[name].switch

    def deaf() -> None:
        """Nothing is done any more, and nobody waits for it."""
        while switch._inbox:
            event = switch._inbox.popleft()
            if isinstance(event, Request):
                event.answered.set()

    switch._turn = deaf  # type: ignore[method-assign]
    for peer in list(switch.peers.values()):
        peer.close("dead")

    def die(peer: Peer) -> bool:
        net.kill(name)
        return False

    switch.add_peer = switch.drop_peer = die  # type: ignore[method-assign,assignment]


@bolt("reestablish.1", "reestablish.2", "reestablish.3", "reestablish.5", "reestablish.6")
@pytest.mark.parametrize("death", Death)
@pytest.mark.parametrize("name", ["alice", "bob", "carol"])
async def test_a_payment_ends_well_whenever_a_node_dies(tmp_path: Path, name: str, death: Death) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        outcomes = set()
        for turn_number in range(1, 8):
            invoice = await net["carol"].add_invoice(Msat(AMOUNT))
            die_at(net, name, turn_number, death)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(try_to_pay, net, invoice, name)
                await net.wait_for_death(name)
                nursery.cancel_scope.cancel()
            await net.start(name)
            for pair in ("alice", "bob"), ("bob", "carol"):
                await net.connect(*pair)
            await net.wait_for_quiet()
            await until(
                lambda: all(len(node.switch.live) == len(node.channels()) for node in net.nodes.values())
            )
            net.check_conserved()
            row = net["alice"].switch.payments.rows.get(invoice.payment_hash)
            is_paid = net["carol"].switch.invoices.rows[invoice.payment_hash].is_paid
            assert is_paid == (row is not None and row.status is Status.COMPLETE)
            assert row is None or row.status is not Status.PENDING
            outcomes.add(is_paid)
        assert True in outcomes


async def try_to_pay(net: Network, invoice: InvoiceRow, name: str) -> None:
    with suppress(PaymentFailed):
        await net.pay_row("alice", "carol", invoice)
    net.kill(name)


@pytest.mark.parametrize("seed", range(4))
async def test_no_death_costs_money_with_many_payments_on_their_way(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    async with line(tmp_path, "alice bob carol") as net:
        for _ in range(4):
            rows = {name: [await net[name].add_invoice(Msat(AMOUNT)) for _ in range(8)] for name in ENDS}
            name, death = random.choice(["alice", "bob", "carol"]), random.choice(list(Death))
            die_at(net, name, random.randrange(1, 12), death)
            async with trio.open_nursery() as nursery:
                for payer, payee in ENDS.items():
                    for invoice in rows[payee]:
                        nursery.start_soon(pay_or_fail, net, payer, payee, invoice)
                nursery.start_soon(kill_when_quiet, net, name)
                await net.wait_for_death(name)
                nursery.cancel_scope.cancel()
            await net.start(name)
            for pair in ("alice", "bob"), ("bob", "carol"):
                await net.connect(*pair)
            await net.wait_for_quiet()
            net.check_conserved()
            for payer, payee in ENDS.items():
                for invoice in rows[payee]:
                    row = net[payer].switch.payments.rows.get(invoice.payment_hash)
                    is_paid = net[payee].switch.invoices.rows[invoice.payment_hash].is_paid
                    assert is_paid == (row is not None and row.status is Status.COMPLETE)


ENDS = {"alice": "carol", "carol": "alice"}


async def pay_or_fail(net: Network, payer: str, payee: str, invoice: InvoiceRow) -> None:
    with suppress(PaymentFailed):
        await net.pay_row(payer, payee, invoice)


async def kill_when_quiet(net: Network, name: str) -> None:
    """In case there were fewer turns than the death was waiting for."""
    await trio.testing.wait_all_tasks_blocked(0.05)
    net.kill(name)


@bolt("forwarding-safety.2", "reestablish.1")
async def test_a_preimage_that_comes_together_with_a_new_connection_goes_upstream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        held = Held(net["carol"], monkeypatch)
        switch, alice_id = net["bob"].switch, net["alice"].node_id
        deliver = switch.deliver

        def with_a_new_connection(peer: Peer, message: Message) -> None:
            deliver(peer, message)
            if isinstance(message, UpdateFulfillHtlc):
                switch.add_peer(switch.peers[alice_id])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(net.pay, "alice", "carol", 1_000_000)
            await held.wait_for(1)
            switch.deliver = with_a_new_connection  # type: ignore[method-assign]
            await held.release()
            await net.chain.tip()
            while net["bob"].node_id in net["alice"].switch.peers:
                await trio.lowlevel.checkpoint()
            await net.connect("alice", "bob")
        await net.wait_for_quiet()
        net.check_conserved()


async def test_a_stopped_node_comes_back_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        held = Held(net["carol"], monkeypatch)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(net.pay, "alice", "carol", AMOUNT)
            await held.wait_for(5)
            await net["alice"].add_invoice(Msat(AMOUNT), "unpaid")
            for name in ("alice", "bob", "carol"):
                before = net[name]
                invoices, payments = dict(before.switch.invoices.rows.items()), payments_on_disk(before)
                await net.stop(name)
                after = net.make(name)
                assert after.node_id == before.node_id
                assert after.switch.channels == before.switch.channels
                assert after.switch.by_scid == before.switch.by_scid
                assert dict(after.switch.invoices.rows.items()) == invoices
                assert dict(after.switch.payments.rows.items()) == payments
                assert after.switch.payments._flying == before.switch.payments._flying
                assert after.switch.ledger.earned == before.switch.ledger.earned
                assert after.balance_sat == before.balance_sat
                after.store.close()
            nursery.cancel_scope.cancel()


# --- one process, one database


def opens(path: Path) -> str:
    return f"from pathlib import Path; from node.daemon.store import Store; Store(Path({str(path)!r}))"


async def test_a_database_in_use_is_refused(tmp_path: Path) -> None:
    async with network(tmp_path, "bob") as net:
        path = net["bob"].store.path
        with pytest.raises(DatabaseInUse):
            net.make("bob")
        other = await trio.run_process(
            [sys.executable, "-c", opens(path)], check=False, capture_stderr=True, cwd=Path.cwd()
        )
        assert b"DatabaseInUse" in other.stderr
        await net.stop("bob")
        other = await trio.run_process([sys.executable, "-c", opens(path)], cwd=Path.cwd())
        await net.start("bob")


@pytest.mark.parametrize("content", [b"not a database, but long enough to look for a header" * 40, None])
async def test_what_is_no_database_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "node.sqlite"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(Damaged):
        Store(path)


@pytest.mark.parametrize(("format", "age"), [(0, "an earlier"), (FORMAT + 1, "a later")])
def test_a_database_of_another_version_is_left_as_it_is(tmp_path: Path, format: int, age: str) -> None:
    path = tmp_path / "node.sqlite"
    store = Store(path)
    with store.transaction():
        store.put_meta("next_key_index", b"\0" * 8)
    store.close()
    # the same version reads it again
    Store(path).close()
    db = apsw.Connection(str(path))
    db.execute(f"pragma user_version={format}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(Damaged, match=f"{age} version of Rill wrote it, in format {format}"):
        Store(path)
    assert path.read_bytes() == before


async def test_a_seed_is_made_once_and_shown_to_nobody(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        first = net.make("alice", seed=None)
        first.store.close()
        again = net.make("alice", seed=None)
        again.store.close()
        assert first.node_id == again.node_id
        assert stat.S_IMODE((tmp_path / "alice" / "seed").stat().st_mode) == 0o600
