"""Money handed out over BOLT 12: a request for an invoice, the invoice that is sent for it, its payment."""

from pathlib import Path
from typing import Any

import pytest
import trio

from node.daemon.refunds import RequestOver
from node.daemon.rpc_refunds import RefundCommands
from tests.bolt import bolt
from tests.node.line import Network, network
from tests.node.payments import settle
from tests.node.rpc_fields import check
from tests.node.rpc_stage import Client, clients
from tests.node.test_offers import NAMES
from tests.node.test_offers_hidden import with_a_private_end
from wire.bolt12.forms import Invoice, InvoiceRequest, read_form

AMOUNT_MSAT = 70_000


async def request_of(client: Client, **options: Any) -> dict[str, Any]:
    made: dict[str, Any] = await client.call(
        "invoicerequest", amount=AMOUNT_MSAT, description="your money back", **options
    )
    return made


@bolt("b12-offers.4", "b12-offers.5")
@pytest.mark.parametrize("names", ["alice diana", NAMES])
async def test_who_sends_an_invoice_gets_the_money_once(tmp_path: Path, names: str) -> None:
    async with clients(tmp_path, names) as (net, [alice, *_, diana]):
        made = check("invoicerequest", await request_of(alice, label="refund"))
        assert (made["active"], made["used"], made["single_use"]) == (True, False, True)
        shown = await diana.call("decode", string=made["bolt12"])
        assert (shown["type"], shown["valid"]) == ("bolt12 invoice_request", True)
        assert (shown["invreq_amount_msat"], "offer_id" in shown) == (AMOUNT_MSAT, False)

        got = check("sendinvoice", await diana.call("sendinvoice", invreq=made["bolt12"], label="got it"))
        assert (got["status"], got["amount_received_msat"]) == ("paid", AMOUNT_MSAT)
        again = await diana.error("sendinvoice", invreq=made["bolt12"], label="more")
        assert (again["code"], "no longer" in again["message"]) == (1004, True)
        assert (await diana.error("sendinvoice", invreq=made["bolt12"], label="got it"))["code"] == 900
        [row] = (await alice.call("listinvoicerequests"))["invoicerequests"]
        assert (row["active"], row["used"], row["label"]) == (False, True, "refund")
        [paid] = (await alice.call("listpays"))["pays"]
        assert (paid["status"], paid["bolt12"]) == ("complete", got["bolt12"])
        await settle(net)


async def test_a_private_node_takes_and_hands_out_money(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        alice, _, carol = await with_a_private_end(net)
        made = await request_of(alice)
        got = await carol.call("sendinvoice", invreq=made["bolt12"], label="1")
        assert (got["status"], carol.id in got["bolt12"]) == ("paid", False)
        back = await request_of(carol, single_use=False)
        request = read_form(InvoiceRequest, back["bolt12"])
        assert request.invreq_paths is not None
        assert request.invreq_payer_id != net["carol"].node_id
        for label in ("2", "3"):
            assert (await alice.call("sendinvoice", invreq=back["bolt12"], label=label))["status"] == "paid"
        await settle(net)


async def test_a_request_is_withdrawn_expires_and_is_of_one_amount(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob") as (net, [alice, bob]):
        made = await request_of(alice)
        assert not (await alice.call("disableinvoicerequest", invreq_id=made["invreq_id"]))["active"]
        assert (await alice.error("disableinvoicerequest", invreq_id=made["invreq_id"]))["code"] == 1001
        assert (await alice.call("listinvoicerequests", active_only=True))["invoicerequests"] == []
        assert (await bob.error("sendinvoice", invreq=made["bolt12"], label="a"))["code"] == 1004
        assert (await alice.error("invoicerequest", amount=0, description=""))["code"] == -32602

        short = await request_of(alice, absolute_expiry=1_790_000_100)
        wrong = {"invreq": short["bolt12"], "label": "b", "amount_msat": AMOUNT_MSAT + 1}
        assert (await bob.error("sendinvoice", **wrong))["code"] == -32602
        net.clock.seconds += 101
        assert (await bob.error("sendinvoice", invreq=short["bolt12"], label="b"))["code"] == 1002
        offer = (await bob.call("offer", amount=1, description="x"))["bolt12"]
        assert (await bob.error("sendinvoice", invreq=offer, label="c"))["code"] == -32602


async def invoice_for(net: Network, made: dict[str, Any], label: str) -> Invoice:
    """Bob's invoice for a request, which he does not send."""
    commands, invoices = RefundCommands(net["bob"]), net["bob"].switch.invoices
    request = read_form(InvoiceRequest, made["bolt12"])
    row = commands._row(request, label, 600)
    await net["bob"].switch.ask(lambda turn: invoices.add(turn, row))
    return commands._invoice(request, row)


@bolt("b12-offers.5")
async def test_two_invoices_at_once_take_the_money_once(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob") as (net, [alice, _]):
        made = await request_of(alice)
        offers = net["alice"].offers
        [row] = offers.book.requests.values()
        invoices = [await invoice_for(net, made, label) for label in ("a", "b")]
        refused = []

        async def pay(invoice: Invoice) -> None:
            try:
                await offers.refunds._pay(row, invoice)
            except RequestOver as over:
                refused.append(over)

        async with trio.open_nursery() as nursery:
            for invoice in invoices:
                nursery.start_soon(pay, invoice)
        assert len(refused) == 1
        pays = (await alice.call("listpays"))["pays"]
        assert [each["status"] for each in pays] == ["complete"]
        await settle(net)
