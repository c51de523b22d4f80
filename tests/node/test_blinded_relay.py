"""Payments along a path whose recipient stays unknown, over real nodes (BOLT 4, route blinding)."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from gossip.routes import Hop
from htlc import steps
from htlc.ladder import Paid
from htlc.relay import Toll
from node.daemon.errand import Errand
from node.daemon.invoices import DEFAULT_FINAL_DELTA_BLOCKS, InvoiceRow
from node.daemon.payments import Attempt, AttemptRow, PaymentRow
from node.daemon.turn import Turn
from onion.blinded import PaymentConstraints, PaymentRelay, RecipientData, blind, padded
from onion.blinded_payment import aggregate, hops_of
from onion.payload import encode_payload
from onion.sphinx import build
from tests.bolt import bolt
from tests.node.line import Network, line, sent_by
from tests.node.payments import AMOUNT, TOLL, attempts, set_toll, settle
from tests.node.test_payments_in_parts import ended, gathered
from wire.blinded_path import BlindedPath
from wire.codec import Message
from wire.crypto.hashes import sha256
from wire.messages.channel import UpdateAddHtlc, UpdateFailHtlc, UpdateFailMalformedHtlc
from wire.units import Msat

NAMES = "alice bob carol diana"
RELAY = PaymentRelay(TOLL.cltv_expiry_delta, TOLL.fee_proportional_millionths, TOLL.fee_base_msat)
PRICE = aggregate([RELAY, RELAY], DEFAULT_FINAL_DELTA_BLOCKS)


def path_to_diana(net: Network, path_id: bytes, *, by_node: bool = False) -> BlindedPath:
    """From Bob over Carol, as Diana makes it."""
    until = PaymentConstraints(net["diana"].switch.height + 200, Msat(1))
    written = []
    for near, far in (("bob", "carol"), ("carol", "diana")):
        scid = None if by_node else net.short_channel_id(near, far)
        next_node_id = net[far].node_id if by_node else None
        written.append(RecipientData(None, scid, next_node_id, None, None, RELAY, until))
    written.append(RecipientData(path_id=path_id, payment_constraints=until))
    nodes = [net[name].node_id for name in ("bob", "carol", "diana")]
    return blind(sha256(b"path"), list(zip(nodes, padded(written), strict=True)))


async def pay(net: Network, path: BlindedPath, invoice: InvoiceRow, part_msat: int = AMOUNT) -> Attempt:
    """Alice sends a part of the payment, or all of it, along the path."""
    alice, height = net["alice"], net["alice"].switch.height
    told = hops_of(path, Msat(part_msat), height + DEFAULT_FINAL_DELTA_BLOCKS, Msat(AMOUNT))
    hops = [(point, encode_payload(payload)) for point, payload in told]
    onion = build(
        sha256(b"session", bytes([alice.switch.payments.new_attempt_id()])), hops, invoice.payment_hash
    )
    sent_msat = Msat(part_msat + PRICE.fee_msat(Msat(part_msat)))
    row = AttemptRow(
        alice.switch.payments.new_attempt_id(),
        invoice.payment_hash,
        b"",
        tuple(point for point, _ in told),
        (),
        sent_msat,
        Msat(part_msat),
        shared_secrets=onion.shared_secrets,
    )
    if not alice.switch.payments.is_on_its_way(invoice.payment_hash):
        alice.switch.payments.begin(
            PaymentRow(invoice.payment_hash, path.hops[-1].blinded_node_id, Msat(AMOUNT), 0)
        )
    scid = net.short_channel_id("alice", "bob")
    first = Hop(net["bob"].node_id, scid, 0, sent_msat, PRICE.cltv_expiry_delta + 3)
    return await alice.switch.ask(alice.payer.offering_onion(row, first, onion, Errand()))


@bolt("blinded-paths.1", "blinded-paths.2", "blinded-paths.4", "blinded-paths.5")
@pytest.mark.parametrize("by_node", [True, False])
async def test_a_payment_arrives_along_a_blinded_path(tmp_path: Path, by_node: bool) -> None:
    async with line(tmp_path, NAMES) as net:
        invoice = await net["diana"].add_invoice(Msat(AMOUNT))
        path = path_to_diana(net, invoice.payment_secret, by_node=by_node)
        sent = {name: sent_by(net[name]) for name in ("alice", "bob", "carol")}
        assert await ended(await pay(net, path, invoice)) == [""]
        await settle(net)
        # the price of the path is rounded up, to the payee's gain
        received_msat = net["diana"].switch.invoices.rows[invoice.payment_hash].received_msat or 0
        assert AMOUNT <= received_msat <= AMOUNT + 50
        keys = [add.blinded_path for name in sent for add in adds(sent[name])]
        assert keys[0] is None
        assert None not in keys[1:]
        # whoever is on the path does not say how long it took
        assert attempts(net["alice"])[0].hold_times == (0,)


@bolt("processing.2")
async def test_an_onion_on_a_blinded_path_is_passed_on_once_whatever_time_it_is_given(tmp_path: Path) -> None:
    async with line(tmp_path, NAMES) as net:
        invoice = await net["diana"].add_invoice(Msat(AMOUNT))
        sent = {name: sent_by(net[name]) for name in ("bob", "carol")}
        assert await ended(await pay(net, path_to_diana(net, bytes(32)), invoice)) != [""]
        await settle(net)
        [add] = adds(sent["bob"])

        def again(turn: Turn) -> None:
            channel = turn.channel(add.channel_id)
            assert channel is not None
            offered = (add.amount_msat, add.payment_hash, add.cltv_expiry + 1, add.onion_routing_packet)
            turn.take(steps.offer(channel, *offered, Paid(10**6), add.blinded_path))
            turn.saved[channel.id] = None

        await net["bob"].switch.ask(again)
        await settle(net)
        assert len(adds(sent["bob"])) == 2
        assert len(adds(sent["carol"])) == 1


def adds(sent: Sequence[tuple[bytes, Message]]) -> list[UpdateAddHtlc]:
    return [message for _, message in sent if isinstance(message, UpdateAddHtlc)]


@bolt("blinded-paths.5", "payload.4")
async def test_parts_gather_at_the_end_of_a_blinded_path(tmp_path: Path) -> None:
    async with line(tmp_path, NAMES) as net:
        invoice = await net["diana"].add_invoice(Msat(AMOUNT))
        path = path_to_diana(net, invoice.payment_secret)
        first = await pay(net, path, invoice, AMOUNT // 2)
        await gathered(net, "diana", invoice, 1)
        second = await pay(net, path, invoice, AMOUNT // 2)
        assert await ended(first, second) == ["", ""]
        await settle(net)


@bolt("removing.4", "removing.3", "blinded-paths.6")
@pytest.mark.parametrize("where", ["bob", "carol", "diana", "carol is away"])
async def test_wherever_it_fails_the_payer_hears_the_same(tmp_path: Path, where: str) -> None:
    async with line(tmp_path, NAMES) as net:
        invoice = await net["diana"].add_invoice(Msat(AMOUNT))
        path = path_to_diana(net, invoice.payment_secret if where != "diana" else bytes(32))
        match where:
            case "bob":
                set_toll(net, "bob", "carol", Toll(fee_base_msat=Msat(5000)))
            case "carol":
                set_toll(net, "carol", "diana", Toll(htlc_maximum_msat=Msat(1)))
            case "carol is away":
                await net["carol"].disconnect(net["diana"].node_id)
        to_alice, others = sent_by(net["bob"]), [sent_by(net[name]) for name in ("carol", "diana")]
        assert await ended(await pay(net, path, invoice)) == ["invalid_onion_blinding, says hop 1"]
        if where != "carol is away":
            await settle(net)
        assert [m for _, m in to_alice if isinstance(m, UpdateFailHtlc)]
        inside = [m for sent in others for _, m in sent if isinstance(m, UpdateFailMalformedHtlc)]
        assert len(inside) == {"bob": 0, "carol": 1, "diana": 2, "carol is away": 1}[where]
        assert all(m.sha256_of_onion == bytes(32) for m in inside)
        [row] = attempts(net["alice"])
        assert row.refusal is not None
        assert row.refusal.message[2:] == bytes(32)
