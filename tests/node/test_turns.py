"""What somebody asks of the owner loop happens as a whole or not at all."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import trio

from htlc import steps
from htlc.errors import ChannelError
from htlc.ladder import Paid
from node.daemon.turn import Turn
from tests.node.line import Network, line, sent_by
from tests.node.payer import SCRIPT
from wire.bitcoin.tx import OutPoint, Transaction, TxIn, TxOut
from wire.messages.base import Warning
from wire.messages.channel import UpdateAddHtlc
from wire.units import Msat, Sat

SPEND = Transaction(2, (TxIn(OutPoint(b"\x11" * 32, 0)),), (TxOut(Sat(1000), SCRIPT),))


class Broken(Exception):
    """The act was half done."""


def offering(net: Network, hash_byte: int, said: list[str]) -> Callable[[Turn], None]:
    """An act that stages one of everything: an HTLC, rows, a transaction, words and things to do."""
    alice = net["alice"]
    channel_id = net.channel("alice", "bob").id

    def act(turn: Turn) -> None:
        channel = turn.channel(channel_id)
        assert channel is not None
        expiry, packet = alice.switch.height + 40, bytes(1366)
        step = steps.offer(channel, Msat(5_000_000), bytes([hash_byte]) * 32, expiry, packet, Paid(hash_byte))
        turn.take(step)
        turn.saved[channel_id] = None
        turn.gone.setdefault(channel_id, []).extend(step.channel.htlcs.local.values())
        turn.onions.add(bytes([hash_byte]))
        turn.send(channel.charter.peer_id, Warning(channel_id, f"{hash_byte}".encode()))
        turn.write(lambda: alice.store.put_meta(f"{hash_byte}", b"is there"))
        turn.writes_once[b"test"] = lambda: alice.store.put_meta("last", bytes([hash_byte]))
        turn.broadcast(msgspec.structs.replace(SPEND, locktime=hash_byte))
        turn.then(lambda: said.append(f"then {hash_byte}"))

    return act


def breaking(act: Callable[[Turn], None], error: Exception) -> Callable[[Turn], None]:
    def broken(turn: Turn) -> None:
        act(turn)
        turn.warn(b"\x02" * 33, bytes(32), "why")
        raise error

    return broken


@pytest.mark.parametrize("error", [Broken(), ChannelError("refused")])
async def test_what_fails_half_way_leaves_nothing_of_itself(tmp_path: Path, error: Exception) -> None:
    """Even between two others of the same turn, of which everything is done."""
    async with line(tmp_path, "alice bob") as net:
        alice, said = net["alice"], list[str]()
        turns: list[Turn] = []
        alice.switch.on_turn.append(turns.append)
        sent = sent_by(alice)

        async def refused() -> None:
            with pytest.raises(type(error)):
                await alice.switch.ask(breaking(offering(net, 2, said), error))

        async with trio.open_nursery() as nursery:
            for act in (offering(net, 1, said), None, offering(net, 3, said)):
                if act is None:
                    nursery.start_soon(refused)
                else:
                    nursery.start_soon(alice.switch.ask, act)
                # in this order
                await trio.lowlevel.checkpoint()
        [turn] = [turn for turn in turns if turn.onions]
        assert said == ["then 1", "then 3"]
        adds = [message for _, message in sent if isinstance(message, UpdateAddHtlc)]
        assert [add.payment_hash[0] for add in adds] == [1, 3]
        assert {message.text for _, message in sent if isinstance(message, Warning)} == {"1", "3"}
        assert [alice.store.meta(f"{number}") for number in (1, 2, 3)] == [b"is there", None, b"is there"]
        assert {transaction.locktime for transaction in alice.store.waiting_broadcasts()} == {1, 3}
        htlcs = net.channel("alice", "bob").htlcs.local.values()
        assert {htlc.payment_hash[0] for htlc in htlcs} == {1, 3}
        [gone] = turn.gone.values()
        assert {htlc.payment_hash[0] for htlc in gone} == {1, 3}
        assert (turn.onions, turn.warned) == ({b"\x01", b"\x03"}, [])


async def test_a_turn_of_nothing_but_failures_writes_nothing(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        alice, said = net["alice"], list[str]()
        await net.wait_for_quiet()
        sent, before, commits = sent_by(alice), net.channel("alice", "bob"), alice.store.commits
        with pytest.raises(Broken):
            await alice.switch.ask(breaking(offering(net, 7, said), Broken()))
        assert (sent, said, alice.store.commits) == ([], [], commits)
        assert net.channel("alice", "bob") is before
        await net.pay("alice", "bob", 1_000_000)
        await net.wait_for_quiet()
        net.check_conserved()
