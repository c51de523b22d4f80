"""Requests and invoices that break a rule: each is refused with its sentence, and costs little."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from node.daemon import invoice_fetching, offer_desk
from node.daemon.invoice_fetching import Fetcher, NoAnswer, Refused, Wish
from node.daemon.messenger import MOST_AT_ONCE
from node.daemon.node import Node
from node.daemon.offer_desk import OfferDesk
from node.daemon.offer_paths import message_path
from node.daemon.rpc_offers import BAD_REPLY
from onion.message import INVOICE_REQUEST, Arrived
from tests.bolt import bolt
from tests.node.line import Network
from tests.node.payments import settle
from tests.node.rpc_stage import Client, clients
from tests.node.test_offers import AMOUNT_MSAT, offer_of
from wire.bolt12.errors import BadSignature, Expired, NotMirrored, Unacceptable, WrongAmount, WrongIssuer
from wire.bolt12.forms import Invoice, InvoiceRequest, Offer, encode_form, read_form, widened
from wire.bolt12.merkle import signed
from wire.crypto.secp256k1 import point_of
from wire.units import Msat

SECRET = bytes(31) + b"\7"
LONG = 30.0


class Shop:
    """Bob sells, Alice asks."""

    def __init__(self, net: Network, alice: Client, bob: Client, offer: dict[str, Any]) -> None:
        self.net, self.alice, self.bob, self.made = net, alice, bob, offer
        self.fetcher: Fetcher = net["alice"].offers.fetcher
        self.desk: OfferDesk = net["bob"].offers.desk

    @property
    def offer(self) -> Offer:
        return read_form(Offer, self.made["bolt12"])

    def request(self, **changes: Any) -> InvoiceRequest:
        """A request with some fields changed, signed all the same."""
        right = self.fetcher.request_for(self.offer, Wish(quantity=1))
        return signed(widened(InvoiceRequest, right, invreq_payer_id=point_of(SECRET), **changes), SECRET)

    async def refusal(self, request: InvoiceRequest) -> str:
        with pytest.raises(Refused) as refused:
            await self.fetcher.fetch(request, LONG)
        return refused.value.why

    async def is_ignored(self, request: InvoiceRequest) -> bool:
        """Whether no answer comes before the one to another request."""
        with pytest.raises(NoAnswer):
            await self.fetcher.fetch(request, 0.3)
        return bool(await self.fetcher.fetch(self.request(), LONG))


@asynccontextmanager
async def shop(directory: Path, **options: Any) -> AsyncIterator[Shop]:
    async with clients(directory, "alice bob") as (net, [alice, bob]):
        offer = await offer_of(bob, quantity_max=5, **options)
        yield Shop(net, alice, bob, offer)


@bolt("b12-offers.4")
async def test_a_request_that_breaks_a_rule_is_told_why(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        assert "signature" in await it.refusal(replace(it.request(), invreq_payer_note="other"))
        assert "signature" in await it.refusal(replace(it.request(), signature=bytes(64)))
        assert "quantity" in await it.refusal(it.request(invreq_quantity=6))
        assert "quantity" in await it.refusal(it.request(invreq_quantity=0))
        assert "invreq_quantity" in await it.refusal(it.request(invreq_quantity=None))
        assert "less than" in await it.refusal(it.request(invreq_amount=Msat(AMOUNT_MSAT - 1)))
        assert "chain" in await it.refusal(it.request(invreq_chain=None))
        assert "feature" in await it.refusal(it.request(invreq_features=b"\1"))
        # none of them has cost us an invoice
        assert (await it.bob.call("listinvoices"))["invoices"] == []
        invoice = await it.fetcher.fetch(it.request(invreq_amount=Msat(AMOUNT_MSAT + 1)), LONG)
        assert invoice.invoice_amount == AMOUNT_MSAT + 1


@bolt("b12-offers.4")
async def test_a_request_for_another_offer_is_left_without_an_answer(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        assert await it.is_ignored(it.request(offer_description="coffee"))
        assert await it.is_ignored(it.request(offer_amount=1))


async def test_what_our_user_may_not_wish_is_refused_here(tmp_path: Path) -> None:
    async with shop(tmp_path, absolute_expiry=1_790_000_100) as it:
        offer, alice = it.made["bolt12"], it.alice
        for wish in ({}, {"quantity": 6}, {"quantity": 2, "amount_msat": AMOUNT_MSAT}, {"bip353": "a b@c"}):
            assert (await alice.error("fetchinvoice", offer=offer, **wish))["code"] == -32602
        assert (await alice.error("fetchinvoice", offer="lno1qq"))["code"] == -32602
        assert (await alice.error("fetchinvoice", offer="lnbc1"))["code"] == -32602
        named = {"bip353": "₿bob@example.org", "payer_metadata": "a secret"}
        fetched = await alice.call("fetchinvoice", offer=offer, quantity=1, **named)
        shown = await alice.call("decode", string=fetched["invoice"])
        assert shown["invreq_bip_353_name"] == {"name": "bob", "domain": "example.org"}
        assert bytes.fromhex(shown["invreq_metadata"]) == b"a secret"
        stale = it.request()
        it.net.clock.seconds += 101
        assert (await alice.error("fetchinvoice", offer=offer, quantity=1))["code"] == 1002
        assert "expired" in await it.refusal(stale)
        it.net.clock.seconds += 7200
        late = await alice.error("pay", bolt11=fetched["invoice"])
        assert (late["code"], late["data"]["expiry"]) == (207, shown["invoice_created_at"] + 7200)
        with pytest.raises(Expired):
            it.fetcher.request_for(it.offer, Wish())


async def test_an_offer_is_disabled_and_enabled(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        offer_id, alice, bob = it.made["offer_id"], it.alice, it.bob
        assert not (await bob.call("disableoffer", offer_id=offer_id))["active"]
        assert (await bob.error("disableoffer", offer_id=offer_id))["code"] == 1001
        assert (await bob.call("listoffers", active_only=True))["offers"] == []
        wish = {"offer": it.made["bolt12"], "quantity": 1}
        refused = await alice.error("fetchinvoice", **wish)
        assert (refused["code"], refused["data"]["error"]) == (1004, "the offer is no longer available")
        again = {"amount": AMOUNT_MSAT, "description": "tea", "quantity_max": 5}
        assert (await bob.error("offer", **again))["code"] == 1000
        assert (await bob.call("enableoffer", offer_id=offer_id))["active"]
        assert (await bob.error("enableoffer", offer_id=offer_id))["code"] == 1006
        await alice.call("fetchinvoice", **wish)
        assert (await bob.error("enableoffer", offer_id="00" * 32))["code"] == -32602


async def test_an_offer_for_one_payment_takes_one(tmp_path: Path) -> None:
    async with shop(tmp_path, single_use=True) as it:
        wish = {"offer": it.made["bolt12"], "quantity": 1}
        first, second = [(await it.alice.call("fetchinvoice", **wish))["invoice"] for _ in range(2)]
        await it.alice.call("pay", bolt11=second)
        assert (await it.alice.error("pay", bolt11=first))["code"] == 203
        assert (await it.alice.error("fetchinvoice", **wish))["code"] == 1004
        [shown] = (await it.bob.call("listoffers"))["offers"]
        assert (shown["active"], shown["used"]) == (False, True)
        assert (await it.bob.error("enableoffer", offer_id=shown["offer_id"]))["code"] == 1007
        await settle(it.net)


@bolt("b12-offers.4")
async def test_the_same_request_gets_the_same_invoice_until_it_is_paid(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        request = it.request()
        first = await it.fetcher.fetch(request, LONG)
        assert await it.fetcher.fetch(request, LONG) == first
        assert len((await it.bob.call("listinvoices"))["invoices"]) == 1
        await it.alice.call("pay", bolt11=first.text)
        assert "was paid" in await it.refusal(request)
        # nor can the invoice be paid twice
        again = await it.alice.call("pay", bolt11=first.text)
        assert again["status"] == "complete"
        [paid] = (await it.alice.call("listpays"))["pays"]
        assert len(paid["attempts"]) == 1
        await settle(it.net)


@bolt("b12-offers.5")
@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({"invreq_payer_note": "something else"}, NotMirrored),
        ({"offer_description": "coffee"}, NotMirrored),
        ({"invoice_amount": Msat(1)}, WrongAmount),
        ({"invoice_created_at": 1}, Expired),
        ({"invoice_node_id": point_of(SECRET)}, WrongIssuer),
        ({"signature": bytes(64)}, BadSignature),
    ],
)
async def test_an_invoice_that_does_not_match_its_request_is_not_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], broken: type[Unacceptable]
) -> None:
    async with shop(tmp_path) as it:
        right = it.desk.invoice_for

        async def wrong(*about: Any) -> Invoice:
            bent = widened(Invoice, await right(*about), **changes)
            secret = it.net["bob"].signer.node_secret
            return signed(bent, secret) if "signature" not in changes else replace(bent, **changes)

        monkeypatch.setattr(it.desk, "invoice_for", wrong)
        with pytest.raises(broken, match=" "):
            await it.fetcher.fetch(it.request(invreq_amount=Msat(2 * AMOUNT_MSAT)), LONG)
        refused = await it.alice.error("xpay", invstring=it.made["bolt12"])
        assert refused["code"] in (BAD_REPLY, -32602)
        assert (await it.alice.call("listpays"))["pays"] == []


async def test_an_invoice_that_was_dropped_to_make_room_can_be_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offer_desk, "MOST_UNPAID", 2)
    async with shop(tmp_path) as it:
        invoices = [await it.fetcher.fetch(it.request(invreq_payer_note=str(n)), LONG) for n in range(5)]
        kept = (await it.bob.call("listinvoices"))["invoices"]
        assert [row["invreq_payer_note"] for row in kept] == ["3", "4"]
        await it.bob.call("delinvoice", label=kept[1]["label"], status="unpaid")
        await it.alice.call("pay", bolt11=invoices[0].text)
        # what our user deleted is not brought back
        assert (await it.alice.error("pay", bolt11=invoices[4].text))["code"] == 203
        offer_id = it.made["offer_id"]
        rows = (await it.bob.call("listinvoices", offer_id=offer_id))["invoices"]
        assert sorted(row["status"] for row in rows) == ["paid", "unpaid"]
        it.net.clock.seconds += 7201
        assert (await it.alice.error("pay", bolt11=invoices[1].text))["code"] == 207
        await settle(it.net)


async def test_requests_cost_no_more_than_we_care_to_spend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop(tmp_path) as it:
        bob, us = it.net["bob"], it.net["alice"].node_id
        back = message_path((us,), bytes(32), SECRET)
        answered = 0

        async def count(*_: Any) -> Invoice:
            nonlocal answered
            answered += 1
            raise Expired("offer", 1, 14)

        monkeypatch.setattr(it.desk, "invoice_for", count)
        raw = encode_form(it.request())
        for _ in range(3 * MOST_AT_ONCE):
            await it.desk.answer(Arrived({INVOICE_REQUEST: raw}, None, back), raw)
        assert MOST_AT_ONCE <= answered < 2 * MOST_AT_ONCE
        assert bob.node_id in it.net["alice"].switch.peers


async def test_any_bytes_for_a_request_leave_the_node_as_it_was(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        raw = encode_form(it.request())
        node: Node = it.net["bob"]
        back = message_path((it.net["alice"].node_id,), bytes(32), SECRET)
        spoiled = [raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :] for at in range(0, len(raw), 7)]
        for each in (b"", b"\0", bytes(5000), raw[:-1], raw + raw, *spoiled):
            node.offers.receive(Arrived({INVOICE_REQUEST: each}, None, back))
            node.offers.receive(Arrived({66: each}, None, back))
            node.offers.receive(Arrived({68: each}, bytes(32), None))
        await trio.testing.wait_all_tasks_blocked()
        assert (await it.bob.call("listinvoices"))["invoices"] == []
        await it.fetcher.fetch(it.request(), LONG)


async def test_a_message_that_is_lost_is_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invoice_fetching, "RETRY_SECONDS", 0.05)
    async with shop(tmp_path) as it:
        right, lost = it.desk.answer, 0

        async def forgetful(*about: Any) -> None:
            nonlocal lost
            lost += 1
            if lost > 2:
                await right(*about)

        monkeypatch.setattr(it.desk, "answer", forgetful)
        await it.fetcher.fetch(it.request(), LONG)
        assert lost >= 3
