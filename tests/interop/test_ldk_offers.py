"""Offers between Rill and LDK (BOLT 12): each pays the other's, and hands out money to it."""

import pytest
import trio

from node.daemon.node import Node
from tests.interop.ldk_peer import LdkPeer
from tests.interop.stage import CAPACITY_SAT, PUSH_MSAT, Stage
from tests.node.rpc_stage import Client

pytestmark = pytest.mark.slow


async def paired(stage: Stage) -> tuple[Node, LdkPeer]:
    """A node of each, with a channel that all can see."""
    ldk, rill = await stage.ldk("theirs", onion_messages=1), await stage.rill("ours")
    await stage.open_public(rill, ldk)
    await stage.confirm(1)
    await stage.usable(rill, 1)
    await stage.everybody_sees(1)
    return rill, ldk


async def test_each_pays_the_others_offers(stage: Stage) -> None:
    rill, ldk = await paired(stage)
    ours = Client(rill)
    for amount in (5_000_000, "any"):
        offer = await ours.call("offer", amount=amount, description="tea from us")
        told = {} if amount != "any" else {"msat": 1_234_567}
        assert (await ldk("pay_offer", offer=offer["bolt12"], note="hello", **told))["status"] == "sent"
    invoices = (await ours.call("listinvoices"))["invoices"]
    assert [row["amount_msat"] for row in invoices] == [5_000_000, 1_234_567]
    assert {(row["status"], row["invreq_payer_note"]) for row in invoices} == {("paid", "hello")}

    theirs = (await ldk("offer"))["offer"]
    assert (await ours.call("decode", string=theirs))["valid"]
    paid = await ours.call("xpay", invstring=theirs, amount_msat=2_000_000, payer_note="merci")
    assert paid["amount_msat"] == 2_000_000
    invoice = (await ours.call("fetchinvoice", offer=theirs, amount_msat=4321))["invoice"]
    assert (await ours.call("pay", bolt11=invoice))["amount_msat"] == 4321
    await stage.quiet(rill)


async def test_each_hands_out_money_to_the_other(stage: Stage) -> None:
    rill, ldk = await paired(stage)
    ours = Client(rill)
    theirs = (await ldk("refund", msat=3_000_000))["refund"]
    got = await ours.call("sendinvoice", invreq=theirs, label="back")
    assert (got["status"], got["amount_received_msat"]) == ("paid", 3_000_000)

    made = await ours.call("invoicerequest", amount=2_500_000, description="from us")
    await ldk("take_refund", refund=made["bolt12"])
    assert (await ldk.saw("payment_claimed"))["msat"] == 2_500_000
    with trio.fail_after(60):
        while not (await ours.call("listinvoicerequests"))["invoicerequests"][0]["used"]:  # noqa: ASYNC110
            await trio.sleep(0.05)
    await stage.quiet(rill)


async def test_they_lead_to_a_node_that_nobody_knows(stage: Stage) -> None:
    """Rill – LDK – Rill private: its offers and their payments begin at LDK, which reads what we wrote."""
    ldk, public = await stage.ldk("between", onion_messages=1), await stage.rill("public")
    private = await stage.rill("private")
    await stage.open_public(public, ldk)
    await stage.connect(private, ldk)
    await private.open_channel(ldk.node_id, CAPACITY_SAT, PUSH_MSAT, is_announced=False)
    await stage.confirm(2)
    for node in (public, private):
        await stage.usable(node, 1)
    await ldk("announce_node")
    await stage.graph(public, lambda graph: ldk.node_id in graph.nodes and len(graph.policies) == 2)
    [channel] = private.channels()
    direction = int(ldk.node_id > private.node_id)
    await stage.graph(private, lambda graph: graph.policy(channel.graph_id or 0, direction) is not None)
    seller, buyer = Client(private), Client(public)
    offer = await seller.call("offer", amount=3_000_000, description="from nowhere")
    shown = await buyer.call("decode", string=offer["bolt12"])
    assert [path["first_node_id"] for path in shown["offer_paths"]] == [ldk.node_id.hex()]
    assert (await buyer.call("xpay", invstring=offer["bolt12"]))["amount_msat"] == 3_000_000
    # LDK buys too: the path begins with itself
    assert (await ldk("pay_offer", offer=offer["bolt12"]))["status"] == "sent"
    assert (await buyer.call("sendinvoice", invreq=await handed_out(seller), label="x"))["status"] == "paid"
    await stage.quiet(private)


async def handed_out(client: Client) -> str:
    made = await client.call("invoicerequest", amount=1_000_000, description="back to you")
    return str(made["bolt12"])
