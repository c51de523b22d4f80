"""Answering who asks for an invoice of one of our offers (BOLT 12, requirements for a writer).

Requests come over onion messages, which cost nobody anything, so few are answered at a time, little
is kept of them, and one that did not come the way its offer leads is left without any answer: it
could be from somebody who wants to know whose offer it is (b12-offers.4).
"""

import logging
import secrets

import msgspec
import trio

from gossip.graph import Graph
from node.daemon.invoices import OFFERED_EXPIRY_SECONDS, Asked, InvoiceRow, new_invoice
from node.daemon.messenger import Allowance
from node.daemon.offer_book import OfferBook, OfferRow
from node.daemon.offer_drafts import issuer_secret, path_id_of
from node.daemon.offer_paths import Terms, fronts, payment_paths
from node.daemon.offer_ticket import NONCE_BYTES, Ticket
from node.daemon.reaching import Reach
from node.daemon.switch import Switch
from node.daemon.turn import Turn
from onion.message import INVOICE, Arrived
from wire.blinded_path import BlindedPath
from wire.bolt12.errors import Unacceptable
from wire.bolt12.forms import (
    Invoice,
    InvoiceRequest,
    decode_form,
    read_form,
    widened,
)
from wire.bolt12.kinds import PayInfo
from wire.bolt12.merkle import signed
from wire.bolt12.rules import (
    check_offer_time,
    check_request,
    expected_amount,
    offer_id_of,
    request_id_of,
)
from wire.codec import DecodeError
from wire.crypto.secp256k1 import Point, Secret, point_of
from wire.features import BASIC_MPP, Features
from wire.units import Msat

log = logging.getLogger("rill.offers")

MOST_REQUEST_BYTES = 4096
MOST_UNPAID = 100
"""So many invoices of one offer are kept unpaid; older ones are dropped, and can be paid all the same."""

FEATURES = Features.of(optional=(BASIC_MPP,)).to_bytes()


class OfferOver(Unacceptable):
    """Our user has withdrawn the offer, or it was for one payment and has got it."""

    def __init__(self) -> None:
        super().__init__("the offer is no longer available")


class RequestSpent(Unacceptable):
    """There was an invoice for this request, and it cannot be paid any more."""

    def __init__(self) -> None:
        super().__init__("the invoice for this request was paid, or has expired: ask with another request")


class NotPayableNow(Unacceptable):
    """No channel can bring us anything."""

    def __init__(self) -> None:
        super().__init__("no payment can reach the issuer now")


class OfferDesk:
    """Answers requests for invoices."""

    def __init__(
        self, switch: Switch, graph: Graph, reach: Reach, book: OfferBook, final_delta_blocks: int
    ) -> None:
        self._switch, self._graph, self._reach, self.book = switch, graph, reach, book
        self._final_delta_blocks = final_delta_blocks
        self._allowance = Allowance(trio.current_time())

    async def answer(self, arrived: Arrived, raw: bytes) -> None:
        """Send whoever asks an invoice, or the reason why there is none."""
        if arrived.reply_path is None or len(raw) > MOST_REQUEST_BYTES:
            return
        if not self._allowance.take(trio.current_time()):
            return
        try:
            request = decode_form(InvoiceRequest, raw)
        except DecodeError as wrong:
            log.debug("a request for an invoice is dropped", extra={"why": str(wrong)})
            return
        row = self._row_for(request, arrived.path_id)
        if row is None:
            log.debug("a request for an invoice is dropped", extra={"why": "it is for no offer of ours"})
            return
        try:
            self._reach.reply(arrived.reply_path, INVOICE, await self.invoice_for(row, request))
        except Unacceptable as refused:
            log.info("a request gets no invoice", extra={"offer": row.offer_id.hex(), "why": str(refused)})
            self._reach.reply_error(arrived.reply_path, refused)

    def _row_for(self, request: InvoiceRequest, path_id: bytes | None) -> OfferRow | None:
        """The offer that a request answers, if it came the way that the offer leads."""
        if not request.is_for_offer:
            return None
        row = self.book.offers.get(offer_id_of(request))
        return row if path_id == path_id_of(self._switch.signer, request) else None

    async def invoice_for(self, row: OfferRow, request: InvoiceRequest) -> Invoice:
        """An invoice that answers a request for this offer; durable when it returns.

        Raises:
            Unacceptable: the request breaks a rule, or the offer is over.
        """
        if not self.book.is_active(row):
            raise OfferOver
        check_offer_time(request, self._switch.now())
        check_request(request, self._switch.house.chain_hash)
        amount_msat = request.invreq_amount or expected_amount(request)
        label = f"{row.offer_id.hex()[:8]}-{request_id_of(request).hex()[:32]}"
        known = self._known(label)
        if known is not None:
            # who asks twice has not heard the first answer
            return known
        ticket = Ticket(
            secrets.token_bytes(NONCE_BYTES),
            row.offer_id,
            amount_msat,
            int(self._switch.now()) + OFFERED_EXPIRY_SECONDS,
            self._final_delta_blocks,
            row.is_single_use,
        )
        invoice_row = self._entry(ticket, request, label)
        paths = self._paths(row, invoice_row)
        invoice = write_invoice(request, invoice_row, paths, issuer_secret(self._switch.signer, request))
        asked = Asked(invoice.text, row.offer_id, row.is_single_use, request.invreq_payer_note or "")

        def act(turn: Turn) -> Invoice:
            known = self._known(label)
            if known is not None:
                return known
            self._make_room(turn, row.offer_id)
            self._switch.invoices.add(turn, msgspec.structs.replace(invoice_row, asked=asked))
            return invoice

        return await self._switch.ask(act)

    def _known(self, label: str) -> Invoice | None:
        row = self._switch.invoices.labelled(label)
        if row is None or row.asked is None:
            return None
        if not row.is_open(self._switch.now()):
            raise RequestSpent
        return read_form(Invoice, row.asked.bolt12)

    def _entry(self, ticket: Ticket, request: InvoiceRequest, label: str) -> InvoiceRow:
        signer = self._switch.signer
        row = new_invoice(
            ticket.preimage(signer),
            ticket.path_id(signer),
            ticket.amount_msat,
            request.offer_description or "",
            ticket.expires_at - OFFERED_EXPIRY_SECONDS,
            OFFERED_EXPIRY_SECONDS,
            ticket.final_delta_blocks,
        )
        return msgspec.structs.replace(row, label=label)

    def _paths(self, row: OfferRow, invoice_row: InvoiceRow) -> list[tuple[BlindedPath, PayInfo]]:
        """The paths of an invoice: over no others than the offer's, if our user chose those."""
        offer_paths = row.offer.offer_paths
        over = None
        if offer_paths is not None:
            over = [path.first_node_id for path in offer_paths] if row.is_fronted else fronts(self._switch)
        return self.paths(invoice_row, over)

    def paths(self, invoice_row: InvoiceRow, over: list[Point] | None) -> list[tuple[BlindedPath, PayInfo]]:
        """Paths to be paid for an invoice; `over` are the peers that they begin at, if not at us.

        Raises:
            NotPayableNow: there are none.
        """
        amount_msat = invoice_row.amount_msat or Msat(0)
        terms = Terms(invoice_row.payment_secret, invoice_row.min_final_cltv_expiry_delta, amount_msat)
        found = payment_paths(self._switch, self._graph, terms, over)
        if not found:
            raise NotPayableNow
        return found

    def _make_room(self, turn: Turn, offer_id: bytes) -> None:
        """Drop the oldest unpaid invoices of an offer; what is being paid now stays."""
        invoices, gathering = self._switch.invoices, self._switch.gathering
        unpaid = sorted(invoices.rows.where("unpaid_offer", offer_id), key=lambda row: row.created_index)
        waiting = [row for row in unpaid if row.payment_hash not in gathering.waiting]
        for row in waiting[: max(0, len(unpaid) - MOST_UNPAID + 1)]:
            invoices.drop(turn, row)


def write_invoice(
    request: InvoiceRequest, row: InvoiceRow, paths: list[tuple[BlindedPath, PayInfo]], secret: Secret
) -> Invoice:
    """The invoice that answers a request, signed."""
    # b12-offers.5
    has_default_expiry = row.expiry_seconds == OFFERED_EXPIRY_SECONDS
    invoice = widened(
        Invoice,
        request,
        invoice_paths=tuple(path for path, _ in paths),
        invoice_blindedpay=tuple(price for _, price in paths),
        invoice_created_at=row.created_at,
        invoice_relative_expiry=None if has_default_expiry else row.expiry_seconds,
        invoice_payment_hash=row.payment_hash,
        invoice_amount=row.amount_msat,
        invoice_features=FEATURES,
        invoice_node_id=point_of(secret),
    )
    return signed(invoice, secret)
