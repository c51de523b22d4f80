"""Payments to whoever is at the end of blinded paths: routes up to them, over several, round what fails."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from htlc.relay import Toll
from node.daemon.blinded_ways import blinded_ways
from node.daemon.invoices import DEFAULT_FINAL_DELTA_BLOCKS, InvoiceRow
from node.daemon.paying import Payment, PaymentFailed, Wanted
from onion.blinded import PaymentConstraints, PaymentRelay, RecipientData, blind, padded
from onion.blinded_payment import aggregate
from tests.bolt import bolt
from tests.node.line import CAPACITY_SAT, Network, line, network
from tests.node.payments import AMOUNT, TOLL, attempts, set_toll, settle
from wire.blinded_path import BlindedPath
from wire.bolt12.kinds import PayInfo
from wire.crypto.hashes import sha256
from wire.crypto.secp256k1 import point_of
from wire.units import MAX_MSAT, Msat, msat

NAMES = "alice bob carol diana"
RELAY = PaymentRelay(TOLL.cltv_expiry_delta, TOLL.fee_proportional_millionths, TOLL.fee_base_msat)
PAYEE = point_of(sha256(b"somebody"))
MOST = Msat(MAX_MSAT)


def way(net: Network, names: str, path_id: bytes, most_msat: Msat = MOST) -> tuple[BlindedPath, PayInfo]:
    """A path over these nodes to the last of them, and its price."""
    nodes = [net[name] for name in names.split()]
    until = PaymentConstraints(nodes[0].switch.height + 500, Msat(1))
    told = [
        RecipientData(next_node_id=after.node_id, payment_relay=RELAY, payment_constraints=until)
        for after in nodes[1:]
    ]
    told.append(RecipientData(path_id=path_id, payment_constraints=until))
    path = blind(
        sha256(b"path", names.encode()), list(zip((n.node_id for n in nodes), padded(told), strict=True))
    )
    price = aggregate([RELAY] * (len(nodes) - 1), DEFAULT_FINAL_DELTA_BLOCKS)
    base, rate, delta = price.fee_base_msat, price.fee_proportional_millionths, price.cltv_expiry_delta
    return path, PayInfo(base, rate, delta, Msat(1), most_msat)


async def pay(
    net: Network, invoice: InvoiceRow, *ways: tuple[BlindedPath, PayInfo], may_split: bool = False
) -> Payment:
    """Alice pays over these ways."""
    alice, amount_msat = net["alice"], invoice.amount_msat
    blinded = blinded_ways(alice.switch, alice.graph, ways)
    assert blinded is not None
    assert amount_msat is not None
    wanted = Wanted(PAYEE, invoice.payment_hash, amount_msat, final_cltv_expiry_delta=0, may_split=may_split)
    return await alice.payer.pay(replace(wanted, hints=blinded.hints, blinded=blinded))


@bolt("blinded-paths.2", "blinded-paths.5")
@pytest.mark.parametrize("names", ["diana", "carol diana", "bob carol diana", "alice bob carol diana"])
async def test_a_route_leads_to_where_the_path_begins(tmp_path: Path, names: str) -> None:
    async with line(tmp_path, NAMES) as net:
        invoice = await net["diana"].add_invoice(Msat(AMOUNT))
        paid = await pay(net, invoice, way(net, names, invoice.payment_secret))
        assert paid.preimage == invoice.payment_preimage
        await settle(net)
        received_msat = net["diana"].switch.invoices.rows[invoice.payment_hash].received_msat or 0
        assert AMOUNT <= received_msat <= AMOUNT + 50
        [attempt] = attempts(net["alice"])
        assert len(attempt.nodes) == 3
        # what is blinded is not known to us, and has no channels that we could name
        known = [net[name].node_id for name in NAMES.split()[1:]]
        assert attempt.nodes[: 4 - len(names.split())] == tuple(known[: 4 - len(names.split())])
        assert net["diana"].node_id not in attempt.nodes[:2]
        assert (attempt.nodes[-1] == net["diana"].node_id) is (names == "diana")


async def test_the_first_node_may_be_named_by_its_channel(tmp_path: Path) -> None:
    async with line(tmp_path, NAMES) as net:
        invoice = await net["diana"].add_invoice(Msat(AMOUNT))
        path, price = way(net, "carol diana", invoice.payment_secret)
        bob, carol = net["bob"].node_id, net["carol"].node_id
        name = bytes([carol > bob]) + net.short_channel_id("bob", "carol").to_bytes(8, "big")
        await pay(net, invoice, (replace(path, first_node_id=name), price))
        alice = net["alice"]
        nowhere = replace(path, first_node_id=bytes(9))
        assert blinded_ways(alice.switch, alice.graph, [(nowhere, price)]) is None
        # nor is there a way to pay oneself
        to_alice = way(net, "alice", bytes(32))
        assert blinded_ways(alice.switch, alice.graph, [to_alice]) is None


@bolt("b12-offers.5")
async def test_what_one_path_cannot_carry_goes_over_several(tmp_path: Path) -> None:
    async with network(tmp_path, NAMES) as net:
        await net.join([("alice", "bob"), ("alice", "carol"), ("bob", "diana"), ("carol", "diana")])
        invoice = await net["diana"].add_invoice(Msat(AMOUNT))
        most_msat = Msat(AMOUNT * 2 // 3)
        ways = [way(net, names, invoice.payment_secret, most_msat) for names in ("bob diana", "carol diana")]
        with pytest.raises(PaymentFailed):
            await pay(net, invoice, *ways)
        paid = await pay(net, invoice, *ways, may_split=True)
        assert paid.parts == 2
        await settle(net)


@bolt("blinded-paths.6")
async def test_a_path_that_fails_is_left_for_another(tmp_path: Path) -> None:
    async with network(tmp_path, NAMES) as net:
        await net.join([("alice", "bob"), ("alice", "carol"), ("bob", "diana"), ("carol", "diana")])
        invoice = await net["diana"].add_invoice(Msat(AMOUNT))
        ways = [way(net, names, invoice.payment_secret) for names in ("bob diana", "carol diana")]
        for name in ("bob", "carol"):
            set_toll(net, name, "diana", Toll(fee_base_msat=Msat(5000)))
        with pytest.raises(PaymentFailed, match="invalid_onion_blinding") as failed:
            await pay(net, invoice, *ways)
        assert failed.value.attempts == 2
        set_toll(net, "carol", "diana", TOLL)
        paid = await pay(net, invoice, *ways)
        assert paid.route[0] == net["carol"].node_id
        await settle(net)


@bolt("blinded-paths.6")
async def test_a_payee_that_refuses_is_not_asked_again(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        invoice = await net["bob"].add_invoice(msat(CAPACITY_SAT // 3))
        with pytest.raises(PaymentFailed, match="says hop 1") as failed:
            await pay(net, invoice, way(net, "bob", bytes(32)), may_split=True)
        assert (failed.value.attempts, failed.value.is_payees_wish) == (1, True)
