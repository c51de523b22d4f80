"""Offers between nodes, by their commands: made, fetched over nodes that pass messages on, paid, listed."""

from pathlib import Path
from typing import Any

import pytest

from tests.bolt import bolt
from tests.node.payments import settle
from tests.node.rpc_fields import check
from tests.node.rpc_stage import Client, clients

AMOUNT_MSAT = 50_000
NAMES = "alice bob carol diana"


async def offer_of(client: Client, amount: Any = AMOUNT_MSAT, **options: Any) -> dict[str, Any]:
    made: dict[str, Any] = await client.call("offer", amount=amount, description="tea", **options)
    return made


@bolt("b12-offers.3", "b12-offers.4", "b12-offers.5", "onion-messages.3", "blinded-paths.5")
@pytest.mark.parametrize("names", ["alice diana", NAMES])
async def test_an_offer_is_fetched_and_paid(tmp_path: Path, names: str) -> None:
    async with clients(tmp_path, names) as (net, [alice, *_, diana]):
        offer = check("offer", await offer_of(diana, issuer="Diana", label="the tea", quantity_max=3))
        assert offer["created"]
        assert not (await offer_of(diana, issuer="Diana", label="the tea", quantity_max=3))["created"]
        wish = {"offer": offer["bolt12"], "quantity": 2, "payer_note": "no milk"}
        fetched = check("fetchinvoice", await alice.call("fetchinvoice", **wish))
        assert fetched["changes"] == {}

        [invoice] = (await diana.call("listinvoices", offer_id=offer["offer_id"]))["invoices"]
        assert check("listinvoices bolt12", invoice)["status"] == "unpaid"
        assert (invoice["bolt12"], invoice["invreq_payer_note"]) == (fetched["invoice"], "no milk")
        assert invoice["amount_msat"] == 2 * AMOUNT_MSAT
        # nobody is asked twice for the same
        again = await alice.call("fetchinvoice", **wish)
        assert again["invoice"] != fetched["invoice"]

        paid = check("pay", await alice.call("pay", bolt11=fetched["invoice"], label="cup"))
        assert paid["amount_msat"] == 2 * AMOUNT_MSAT
        assert paid["destination"] == diana.id
        [row] = (await alice.call("listpays", bolt11=fetched["invoice"]))["pays"]
        assert check("listpays bolt12", row)["bolt12"] == fetched["invoice"]
        assert (row["status"], row["label"], "bolt11" in row) == ("complete", "cup", False)
        [invoice] = (await diana.call("listinvoices", invstring=fetched["invoice"]))["invoices"]
        assert (invoice["status"], invoice["local_offer_id"]) == ("paid", offer["offer_id"])
        assert invoice["payment_preimage"] == paid["payment_preimage"]
        [shown] = (await diana.call("listoffers"))["offers"]
        assert (shown["used"], shown["active"], shown["label"]) == (True, True, "the tea")
        await settle(net)


async def test_an_offer_is_paid_at_once(tmp_path: Path) -> None:
    async with clients(tmp_path, NAMES) as (net, [alice, *_, diana]):
        offer = await offer_of(diana)
        paid = check("xpay", await alice.call("xpay", invstring=offer["bolt12"].upper(), payer_note="hello"))
        assert paid["amount_msat"] == AMOUNT_MSAT
        assert (await alice.call("pay", bolt11=f"lightning:{offer['bolt12']}"))["status"] == "complete"
        [first, second] = (await diana.call("listinvoices"))["invoices"]
        assert (first["invreq_payer_note"], "invreq_payer_note" in second) == ("hello", False)
        assert {first["status"], second["status"]} == {"paid"}

        gift = await offer_of(diana, "any")
        assert (await alice.error("xpay", invstring=gift["bolt12"]))["code"] == -32602
        paid = await alice.call("xpay", invstring=gift["bolt12"], amount_msat=12_345)
        assert paid["amount_msat"] == 12_345
        fetched = await alice.call("fetchinvoice", offer=gift["bolt12"], amount_msat=777)
        assert fetched["changes"] == {"amount_msat": 777}
        await settle(net)
