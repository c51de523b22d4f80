"""BOLT 2, quiescence between nodes: who is asked for silence keeps it, and loses nothing by it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from htlc import quiescence
from node.daemon.node import Node
from node.daemon.paying import PaymentFailed
from node.daemon.peer import Peer
from tests.bolt import bolt
from tests.node.line import Held, Network, line, sent_by, until
from wire.codec import Message
from wire.features import OUR_INIT, QUIESCE
from wire.messages.channel import CommitmentSigned, Stfu, UpdateAddHtlc, UpdateFulfillHtlc

AMOUNT_MSAT = 10_000_000
ASKING = 1


class Asking:
    """A node that asks its peer for silence; its own switch does not hear of the answer."""

    def __init__(self, net: Network, asker: str, asked: str) -> None:
        self.answers: list[Stfu] = []
        self._net, self._names = net, (asker, asked)
        self._deliver: Callable[[Peer, Message], None] = net[asker].switch.deliver
        net[asker].switch.deliver = self._hear  # type: ignore[method-assign]

    def _hear(self, peer: Peer, message: Message) -> None:
        if isinstance(message, Stfu):
            self.answers.append(message)
        else:
            self._deliver(peer, message)

    def ask(self, initiator: int = ASKING) -> None:
        asker, asked = self._names
        peer = self._net[asker].switch.peers[self._net[asked].node_id]
        peer.send(Stfu(self._net.ids[asker, asked], initiator))


async def is_parted(net: Network, node: Node) -> None:
    """Return once nobody is connected to the node."""
    await until(lambda: not node.switch.peers)


@bolt("stfu.1")
async def test_who_is_asked_answers_and_offers_nothing_until_the_next_connection(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        asking = Asking(net, "bob", "carol")
        asking.ask()
        await until(lambda: bool(asking.answers))
        assert asking.answers == [Stfu(net.ids["bob", "carol"], 0)]
        sent = sent_by(net["carol"])
        with pytest.raises(PaymentFailed):
            await net.pay("carol", "alice", AMOUNT_MSAT)
        assert not any(isinstance(message, UpdateAddHtlc) for _, message in sent)
        await net["carol"].disconnect(net["bob"].node_id)
        await is_parted(net, net["carol"])
        await net.connect("bob", "carol")
        await until(lambda: net.ids["bob", "carol"] in net["carol"].switch.live)
        await net.pay("carol", "alice", AMOUNT_MSAT)


@bolt("stfu.1", "stfu.2")
async def test_a_preimage_waits_for_the_next_connection_which_comes_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with line(tmp_path, "alice bob") as net:
        held, asking, sent = Held(net["bob"], monkeypatch), Asking(net, "alice", "bob"), sent_by(net["bob"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(net.pay, "alice", "bob", AMOUNT_MSAT)
            await held.wait_for(1)
            asking.ask()
            await until(lambda: bool(asking.answers))
            silent_from = len(sent)
            await held.release()
            [htlc] = net.channel("bob", "alice").htlcs.remote.values()
            assert htlc.outcome is not None
            said = [each for _, each in sent[silent_from:]]
            assert not any(isinstance(each, UpdateFulfillHtlc | CommitmentSigned) for each in said)
            # neither side may keep an HTLC waiting for more than a minute
            monkeypatch.setattr(quiescence, "LONGEST_SECONDS", 0)
            await until(lambda: any(isinstance(each, UpdateFulfillHtlc) for _, each in sent))
        await net.wait_for_quiet()
        net.check_conserved()


@bolt("stfu.1")
@pytest.mark.parametrize("case", ["twice", "as an answer", "unagreed"])
async def test_asking_wrongly_costs_the_connection(tmp_path: Path, case: str) -> None:
    features = OUR_INIT.without(QUIESCE) if case == "unagreed" else OUR_INIT
    async with line(tmp_path, "alice bob", features=features) as net:
        asking = Asking(net, "alice", "bob")
        before = net["alice"].switch.peers[net["bob"].node_id]
        asking.ask(0 if case == "as an answer" else 1)
        if case == "twice":
            asking.ask()
        await until(lambda: before.is_closing)
        # the channel outlives it
        await net.connect("alice", "bob")
        await until(lambda: all(node.switch.live for node in net.nodes.values()))
        await net.pay("alice", "bob", AMOUNT_MSAT)
