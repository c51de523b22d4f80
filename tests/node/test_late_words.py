"""What was under way when a channel went to chain, and what a node knows in its first turn."""

from collections.abc import Iterator

import pytest

from htlc.channel import Phase
from htlc.opening import ANCHORS_TYPE, Wish
from node.daemon.payments import Status
from tests.bolt import bolt
from tests.node.lockstep import Line, quick_directory
from tests.node.plain_node import PlainNode
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


def pay(line: Line, payer: PlainNode, payee: PlainNode, number: int = 0) -> bytes:
    """Send a payment on its way."""
    invoice = payee.add_invoice(AMOUNT_MSAT, number)
    payer.pay(line.route(payer, payee, AMOUNT_MSAT), invoice.payment_hash, invoice.payment_secret)
    return invoice.payment_hash


def test_what_crosses_a_force_close_costs_no_connection(line: Line) -> None:
    alice, bob, _ = line.nodes
    pay(line, bob, alice)
    alice.force_close(alice.channel_with(bob).id)
    line.settle()
    assert not alice.warnings
    assert not bob.warnings
    assert line.links[0].is_up


@bolt("forwarding-safety.2")
def test_a_preimage_that_crosses_a_force_close_goes_upstream_at_once(line: Line) -> None:
    alice, bob, carol = line.nodes
    carol.is_holding = True
    payment_hash = pay(line, alice, carol)
    line.settle()
    carol.release()
    bob.force_close(bob.channel_with(carol).id)
    line.settle()
    assert alice.switch.payments.rows[payment_hash].status is Status.COMPLETE
    line.mine(200)
    assert bob.channel_with(carol).phase is carol.channel_with(bob).phase is Phase.CLOSED
    assert bob.switch.ledger.fees_msat > 0


def test_a_node_knows_its_height_before_it_reads_a_block(line: Line) -> None:
    alice = line["alice"]
    alice.die()
    line.chain.regtest.mine(1, line.chain.faucet.script)
    alice.start()
    assert alice.switch.height == line.chain.regtest.height - 1
