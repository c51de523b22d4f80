"""What was under way when a channel went to chain or a node died, and what is known in a first turn."""

from collections.abc import Iterator

import pytest

from htlc import deadlines
from htlc.channel import Phase
from htlc.opening import ANCHORS_TYPE, Wish
from htlc.relay import Toll
from node.daemon.payments import Status
from tests.bolt import bolt
from tests.node.lockstep import Line, quick_directory
from tests.node.plain_node import PlainNode
from wire.bitcoin.tx import TxOut
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


@bolt("funding_created-funding_signed.4")
def test_a_channel_that_is_never_funded_is_forgotten_in_the_end(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "FUNDING_BLOCKS", 10)
    alice, bob, _ = line.nodes
    link = line.links[0]
    line.begin_opening(link, Wish(Sat(100_000), Msat(0), 1000, ANCHORS_TYPE, True))
    while not any(channel.phase is Phase.AWAITING_FUNDING for channel in bob.switch.channels.values()):
        for to in (0, 1):
            link.deliver(to)
            link.nodes[to].turn()
    # funding_signed is lost, and Alice will not know the channel
    link.join()
    line.settle()
    unfunded = bob.channel_with(alice)
    assert unfunded.id not in alice.switch.channels
    line.mine(9)
    assert bob.switch.channels[unfunded.id].phase is Phase.FAILED
    line.mine(1)
    assert bob.switch.channels[unfunded.id].phase is Phase.CLOSED
    assert not bob.switch.resolver.resolutions
    bob.die()
    bob.start()
    assert not bob.switch.resolver.resolutions


def test_what_is_paid_to_a_node_that_dies_young_is_seen(line: Line) -> None:
    dora = PlainNode("dora", line.chain.directory / "dora", line.chain, line.nodes[0].house, Toll())
    script = dora.ask(dora.switch.new_script)
    dora.die()
    line.chain.faucet.pay([TxOut(Sat(50_000), script)])
    line.mine()
    dora.start()
    dora.follow()
    assert dora.wallet.balance_sat().confirmed_sat == 50_000
    dora.die()
