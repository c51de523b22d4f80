"""Commands about offers: making them, and fetching invoices for those of others."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from node.daemon.invoice_fetching import NoAnswer, NoWayThere, Refused, TooManyPending, Wish
from node.daemon.node import Node
from node.daemon.offer_book import OfferRow
from node.daemon.offer_drafts import draw_offer
from node.daemon.offers import Offers
from node.daemon.reaching import OurOwnPath
from node.daemon.rpc_offer_views import offer_view
from node.daemon.rpc_parameters import (
    INVALID_PARAMETERS,
    AmountMsat,
    AmountOrAny,
    Array,
    Boolean,
    CommandFailed,
    Hash,
    Integer,
    Label,
    Number,
    Text,
    none_of,
)
from wire.bolt12.errors import CurrencyUnknown, Expired, Unacceptable
from wire.bolt12.forms import Invoice, Offer, decode_form, encode_form, read_form
from wire.bolt12.kinds import DnsName
from wire.bolt12.rules import check_offer, expected_amount, offer_id_of
from wire.codec import DecodeError
from wire.crypto.secp256k1 import Point, is_point
from wire.units import Msat

UNSPECIFIED = -1
OFFER_EXISTS = 1000
ALREADY_DISABLED = 1001
OFFER_EXPIRED = 1002
NO_ROUTE_THERE = 1003
BAD_REPLY = 1004
NO_REPLY = 1005
ALREADY_ENABLED = 1006
USED_SINGLE_USE = 1007

TIMEOUT_SECONDS = 60


class OfferCommands:
    """Offers of ours, and invoices for those of others."""

    def __init__(self, node: Node) -> None:
        self._node = node

    @property
    def _offers(self) -> Offers:
        return self._node.offers

    async def offer(
        self,
        amount: AmountOrAny,
        description: Text | None = None,
        issuer: Text | None = None,
        label: Label = "",
        quantity_max: Integer | None = None,
        absolute_expiry: Integer | None = None,
        recurrence: Text | None = None,
        recurrence_base: Text | None = None,
        recurrence_paywindow: Text | None = None,
        recurrence_limit: Integer | None = None,
        single_use: Boolean = False,
        proportional_amount: Boolean = False,
        optional_recurrence: Boolean = False,
        fronting_nodes: Array | None = None,
    ) -> dict[str, Any]:
        """Ask to be paid, by anybody, as often as they like."""
        none_of(recurrence=recurrence, recurrence_base=recurrence_base, recurrence_limit=recurrence_limit)
        none_of(recurrence_paywindow=recurrence_paywindow, optional_recurrence=optional_recurrence)
        none_of(proportional_amount=proportional_amount)
        if amount == 0:
            raise CommandFailed(INVALID_PARAMETERS, "amount: should be positive or 'any': invalid token '0'")
        wish = Offer(
            offer_amount=amount,
            offer_description=description,
            offer_issuer=issuer,
            offer_quantity_max=quantity_max,
            offer_absolute_expiry=absolute_expiry,
        )
        fronting = self._fronts(fronting_nodes)
        offer = draw_offer(self._node.switch, wish, fronting)
        self._check(offer)
        row = OfferRow(offer_id_of(offer), offer.text, label, single_use, is_fronted=bool(fronting))
        known = self._offers.book.offers.get(row.offer_id)
        if known is None:
            await self._offers.book.put(row)
        elif not self._offers.book.is_active(known):
            raise CommandFailed(OFFER_EXISTS, "Offer already exists, but isn't active")
        return {**offer_view(self._offers.book, known or row), "created": known is None}

    def _check(self, offer: Offer) -> None:
        """Whether others can read and answer an offer."""
        try:
            check_offer(decode_form(Offer, encode_form(offer)), self._node.switch.house.chain_hash, 0)
        except (DecodeError, Unacceptable) as wrong:
            raise CommandFailed(INVALID_PARAMETERS, f"The offer cannot be made: {wrong}") from None

    def _fronts(self, given: list[Any] | None) -> tuple[Point, ...] | None:
        """The peers that our user wants to lead to us."""
        if given is None:
            return self._node.config.fronting_nodes or None
        found = []
        for each in given:
            try:
                peer_id = bytes.fromhex(each)
            except (TypeError, ValueError):
                peer_id = b""
            if not is_point(peer_id):
                why = "fronting_nodes: should be an array of node ids"
                raise CommandFailed(INVALID_PARAMETERS, why)
            found.append(peer_id)
        return tuple(found)

    async def listoffers(self, offer_id: Hash | None = None, active_only: Boolean = False) -> dict[str, Any]:
        """Our offers, in the order of their ids."""
        book = self._offers.book
        return {
            "offers": [
                offer_view(book, row)
                for row in book.offers.values()
                if offer_id in (None, row.offer_id) and (book.is_active(row) or not active_only)
            ]
        }

    async def disableoffer(self, offer_id: Hash) -> dict[str, Any]:
        """Answer nobody who asks for an invoice of an offer any more."""
        row, book = self._row(offer_id), self._offers.book
        if not book.is_active(row):
            raise CommandFailed(ALREADY_DISABLED, "offer already disabled")
        return await self._put(row, is_enabled=False)

    async def enableoffer(self, offer_id: Hash) -> dict[str, Any]:
        """Answer again who asks for an invoice of an offer."""
        row, book = self._row(offer_id), self._offers.book
        if book.is_active(row):
            raise CommandFailed(ALREADY_ENABLED, "offer already enabled")
        if row.is_single_use and book.is_used(row):
            raise CommandFailed(USED_SINGLE_USE, "cannot re-enable a single-use offer that was used")
        return await self._put(row, is_enabled=True)

    def _row(self, offer_id: bytes) -> OfferRow:
        row = self._offers.book.offers.get(offer_id)
        if row is None:
            raise CommandFailed(INVALID_PARAMETERS, "Unknown offer")
        return row

    async def _put(self, row: OfferRow, *, is_enabled: bool) -> dict[str, Any]:
        changed = msgspec.structs.replace(row, is_enabled=is_enabled)
        await self._offers.book.put(changed)
        return offer_view(self._offers.book, changed)

    async def fetchinvoice(
        self,
        offer: Text,
        amount_msat: AmountMsat | None = None,
        quantity: Integer | None = None,
        recurrence_counter: Integer | None = None,
        recurrence_start: Number | None = None,
        recurrence_label: Text | None = None,
        timeout: Integer = TIMEOUT_SECONDS,
        payer_note: Text | None = None,
        payer_metadata: Text | None = None,
        bip353: Text | None = None,
    ) -> dict[str, Any]:
        """Ask the issuer of an offer for an invoice."""
        none_of(recurrence_counter=recurrence_counter, recurrence_start=recurrence_start)
        none_of(recurrence_label=recurrence_label)
        wish = Wish(
            amount_msat,
            quantity,
            payer_note,
            None if payer_metadata is None else payer_metadata.encode(),
            None if bip353 is None else _name(bip353),
        )
        invoice = await fetched(self._node, offer, wish, timeout)
        return {"invoice": invoice.text, "changes": _changes(invoice)}


async def fetched(node: Node, text: str, wish: Wish, timeout_seconds: float) -> Invoice:
    """An invoice for somebody's offer.

    Raises:
        CommandFailed: there is none.
    """
    fetcher = node.offers.fetcher
    try:
        request = fetcher.request_for(read_form(Offer, text), wish)
    except Expired as over:
        raise CommandFailed(OFFER_EXPIRED, str(over)) from None
    except Unacceptable as wrong:
        raise CommandFailed(INVALID_PARAMETERS, f"The offer cannot be answered: {wrong}") from None
    with as_refusal("The invoice"):
        return await fetcher.fetch(request, timeout_seconds)


@contextmanager
def as_refusal(what: str) -> Iterator[None]:
    """Say why nothing has come of a message, in Core Lightning's numbers."""
    try:
        yield
    except (NoWayThere, OurOwnPath) as lost:
        raise CommandFailed(NO_ROUTE_THERE, str(lost)) from None
    except NoAnswer as late:
        raise CommandFailed(NO_REPLY, str(late)) from None
    except Refused as refused:
        raise CommandFailed(BAD_REPLY, str(refused), {"error": refused.why}) from None
    except Unacceptable as wrong:
        raise CommandFailed(BAD_REPLY, f"{what} is not as it must be: {wrong}") from None
    except TooManyPending as many:
        raise CommandFailed(UNSPECIFIED, str(many)) from None


def _name(text: str) -> DnsName:
    name, _, domain = text.removeprefix("₿").partition("@")
    return DnsName(name.encode(), domain.encode())


def _changes(invoice: Invoice) -> dict[str, Any]:
    """What of an invoice does not follow from its offer: the rest is repeated, or it would be refused."""
    return {} if amount_follows(invoice) else {"amount_msat": invoice.invoice_amount}


def amount_follows(invoice: Invoice) -> bool:
    """Whether an invoice asks for what its offer says."""
    try:
        expected_msat = expected_amount(invoice) if invoice.offer_amount is not None else Msat(0)
    except CurrencyUnknown:
        return False
    return expected_msat == invoice.invoice_amount
