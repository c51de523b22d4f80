"""What `decode` shows of BOLT 12, and what a rune may ask of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from node.daemon.rpc_offer_views import decoded_bolt12
from node.daemon.rune_book import Asking, NotPermitted, RuneBook
from node.daemon.runes import Alternative, Restriction
from tests.bolt import bolt
from tests.node.payments import settle
from tests.node.rpc_stage import clients
from tests.node.test_offers import offer_of

FIGURES = json.loads((Path(__file__).parents[1] / "vectors" / "bolt12.json").read_text())


@bolt("b12-offers.3")
@pytest.mark.parametrize("case", FIGURES["offers"], ids=lambda case: case["label"])
def test_every_offer_of_the_specification_is_shown(case: dict[str, Any]) -> None:
    shown = decoded_bolt12(case["bolt12"], "bitcoin")
    assert (shown["type"], shown["valid"]) == ("bolt12 offer", case["valid"])
    assert ("warning" in shown) is not case["valid"]
    assert json.dumps(shown)
    if case["valid"]:
        assert len(shown["offer_id"]) == 64


def test_the_parts_of_an_offer_have_their_names() -> None:
    cases = {case["label"]: decoded_bolt12(case["bolt12"], "bitcoin") for case in FIGURES["offers"]}
    assert cases["amount_10000_msat"]["offer_amount_msat"] == 10_000
    dollars = cases["currency_usd_amount"]
    assert (dollars["offer_currency"], dollars["currency_minor_unit"]) == ("USD", 2)
    assert (dollars["offer_amount"], "offer_amount_msat" in dollars) == (10_000, False)
    assert cases["quantity_unlimited"]["offer_quantity_max"] == 0
    assert cases["unknown_odd_33"]["unknown_offer_tlvs"][0]["type"] == 33
    [path] = cases["blinded_path_sciddir_intro"]["offer_paths"]
    assert (path["first_scid"], path["first_scid_dir"]) == ("0x0x42", 0)
    assert "first_node_id" in cases["blinded_path_two_hops"]["offer_paths"][0]
    request = decoded_bolt12(FIGURES["signatures"][-1]["bolt12"], "bitcoin")
    assert (request["type"], request["valid"]) == ("bolt12 invoice_request", True)
    assert decoded_bolt12("lni1qq", "bitcoin")["type"] == "bolt12 invoice"


async def test_an_invoice_is_shown_whole(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob") as (net, [alice, bob]):
        offer = await offer_of(bob)
        text = (await alice.call("fetchinvoice", offer=offer["bolt12"]))["invoice"]
        shown = await alice.call("decode", string=text)
        assert shown["valid"]
        assert shown["offer_id"] == offer["offer_id"]
        assert (shown["invoice_node_id"], shown["invoice_relative_expiry"]) == (bob.id, 7200)
        assert shown["invoice_amount_msat"] == 50_000
        [path] = shown["invoice_paths"]
        assert path["first_node_id"] == bob.id
        assert path["payinfo"]["cltv_expiry_delta"] == 30
        required = "invreq_metadata invreq_payer_id invoice_created_at invoice_payment_hash signature"
        assert not set(required.split()) - shown.keys()
        bent = text[:-1] + ("q" if text[-1] != "q" else "p")
        assert not (await alice.call("decode", string=bent))["valid"]
        await settle(net)


def below(amount: str) -> Restriction:
    return Restriction((Alternative.parse(f"pinvinvstring_amount<{amount}"),))


async def test_a_rune_may_bound_what_an_invoice_asks_for(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob") as (net, [alice, bob]):
        offer = (await offer_of(bob))["bolt12"]
        text = (await alice.call("fetchinvoice", offer=offer))["invoice"]
        book = RuneBook(net["alice"])
        little = await book.issue((below("50001"),))
        less = await book.issue((below("50000"),))

        def asking(invoice: str) -> Asking:
            return Asking(0, method="xpay", params={"invstring": invoice})

        await book.use(little, asking(text))
        with pytest.raises(NotPermitted):
            await book.use(less, asking(text))
        # who may choose the amount is not bounded by what the offer says
        with pytest.raises(NotPermitted):
            await book.use(little, asking(offer))
