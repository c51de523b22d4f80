"""BOLT 4, packet replay: an onion is passed on once, whoever brings it again and whenever."""

from collections.abc import Iterator

import pytest

from htlc import steps
from htlc.ladder import Paid
from htlc.opening import ANCHORS_TYPE, Wish
from node.daemon.payments import Status
from node.daemon.turn import Turn
from tests.bolt import bolt
from tests.node.lockstep import Line, quick_directory
from tests.node.plain_node import PlainNode
from wire.messages.channel import UpdateAddHtlc
from wire.units import Msat, Sat

AMOUNT_MSAT = 10_000_000


@pytest.fixture
def line() -> Iterator[Line]:
    """Three nodes with two open channels."""
    with quick_directory() as directory, Line(directory, "alice bob carol") as line:
        line.fund((node, value_sat) for node in line.nodes for value_sat in (1_100_000, 200_000, 200_000))
        for link in line.links:
            link.join()
            line.begin_opening(link, Wish(Sat(1_000_000), Msat(500_000_000), 1000, ANCHORS_TYPE, True))
            line.settle()
        line.mine(3)
        line.settle()
        yield line


def pay(line: Line, payment_hash: bytes, secret: bytes) -> UpdateAddHtlc:
    """Alice pays Carol; what she says to Bob for it."""
    alice, bob, carol = line.nodes
    alice.pay(line.route(alice, carol, AMOUNT_MSAT), payment_hash, secret)
    [htlc] = alice.channel_with(bob).htlcs.local.values()
    add = steps.add_message(alice.channel_with(bob).id, htlc)
    line.settle()
    return add


def say_again(line: Line, add: UpdateAddHtlc, times: int = 1) -> None:
    """Alice offers Bob the same onion in new HTLCs."""
    alice, bob, _ = line.nodes

    def act(turn: Turn) -> None:
        for _ in range(times):
            channel = turn.channel(add.channel_id)
            assert channel is not None
            offered = (add.amount_msat, add.payment_hash, add.cltv_expiry, add.onion_routing_packet)
            turn.take(steps.offer(channel, *offered, Paid(1_000_000)))
            turn.saved[channel.id] = None

    alice.ask(act)
    line.settle()
    assert not alice.channel_with(bob).htlcs.local


def offered(bob: PlainNode, carol: PlainNode) -> int:
    """How many HTLCs Bob has offered Carol."""
    return bob.channel_with(carol).next_htlc_id.local


@bolt("processing.2")
@pytest.mark.parametrize("is_paid", [True, False])
@pytest.mark.parametrize("is_restarted", [True, False])
def test_an_onion_is_passed_on_once(line: Line, is_paid: bool, is_restarted: bool) -> None:
    alice, bob, carol = line.nodes
    invoice = carol.add_invoice(AMOUNT_MSAT, 0)
    add = pay(line, invoice.payment_hash, invoice.payment_secret if is_paid else bytes(32))
    wanted = Status.COMPLETE if is_paid else Status.FAILED
    assert alice.switch.payments.rows[invoice.payment_hash].status is wanted
    if is_restarted:
        bob.die()
        bob.start()
        for link in line.links:
            link.join()
        line.settle()
    say_again(line, add, times=2)
    assert offered(bob, carol) == 1
    assert not bob.warnings


@bolt("processing.2")
def test_the_same_onion_twice_in_one_turn_is_passed_on_once(line: Line) -> None:
    alice, bob, carol = line.nodes
    invoice = carol.add_invoice(AMOUNT_MSAT, 0)
    alice.pay(line.route(alice, carol, AMOUNT_MSAT), invoice.payment_hash, invoice.payment_secret)
    [htlc] = alice.channel_with(bob).htlcs.local.values()
    say_again(line, steps.add_message(alice.channel_with(bob).id, htlc))
    assert offered(bob, carol) == 1


@bolt("processing.2")
def test_an_onion_is_remembered_as_long_as_it_could_be_passed_on(line: Line) -> None:
    _, bob, carol = line.nodes
    invoice = carol.add_invoice(AMOUNT_MSAT, 0)
    add = pay(line, invoice.payment_hash, invoice.payment_secret)
    assert len(list(bob.store.items("onions"))) == 1
    line.mine(40)
    assert not list(bob.store.items("onions"))
    say_again(line, add)
    assert offered(bob, carol) == 1
