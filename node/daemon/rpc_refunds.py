"""Commands about money that is handed out: requests to be sent an invoice, and invoices for them."""

import secrets
from typing import Any

import msgspec
import trio

from node.daemon.invoices import Asked, InvoiceRow, LabelTaken, new_invoice
from node.daemon.node import Node
from node.daemon.offer_book import OfferBook, RequestRow
from node.daemon.offer_desk import NotPayableNow, write_invoice
from node.daemon.offer_drafts import draw_request, needed_fronts
from node.daemon.offer_paths import Terms, payment_paths
from node.daemon.offer_ticket import NONCE_BYTES
from node.daemon.rpc_invoices import LABEL_TAKEN
from node.daemon.rpc_offer_views import request_view
from node.daemon.rpc_offers import OFFER_EXPIRED, UNSPECIFIED, as_refusal
from node.daemon.rpc_parameters import (
    INVALID_PARAMETERS,
    AmountMsat,
    Boolean,
    CommandFailed,
    Hash,
    Integer,
    Label,
    Text,
)
from node.daemon.rpc_payment_views import invoice_view
from wire.bolt12.errors import Expired, FieldForbidden, Unacceptable, WrongAmount
from wire.bolt12.forms import Invoice, InvoiceRequest, decode_form, encode_form, read_form
from wire.bolt12.rules import check_offer_time, check_request, request_id_of
from wire.codec import DecodeError
from wire.units import Msat

ALREADY_DISABLED = 1001
TIMEOUT_SECONDS = 90


class RefundCommands:
    """Requests of ours, and invoices for those of others."""

    def __init__(self, node: Node) -> None:
        self._node = node

    @property
    def _book(self) -> OfferBook:
        return self._node.offers.book

    async def invoicerequest(
        self,
        amount: AmountMsat,
        description: Text,
        issuer: Text | None = None,
        label: Label = "",
        absolute_expiry: Integer | None = None,
        single_use: Boolean = True,
    ) -> dict[str, Any]:
        """Offer to pay whoever sends an invoice."""
        wish = InvoiceRequest(
            offer_description=description,
            offer_issuer=issuer,
            offer_absolute_expiry=absolute_expiry,
            invreq_amount=amount,
        )
        request = draw_request(self._node.switch, wish, secrets.token_bytes(NONCE_BYTES))
        try:
            as_read = decode_form(InvoiceRequest, encode_form(request))
            check_request(as_read, self._node.switch.house.chain_hash)
        except (DecodeError, Unacceptable) as wrong:
            why = f"The invoice request cannot be made: {wrong}"
            raise CommandFailed(INVALID_PARAMETERS, why) from None
        row = RequestRow(request_id_of(request), request.text, label, single_use)
        await self._book.put(row)
        return request_view(row)

    async def listinvoicerequests(
        self, invreq_id: Hash | None = None, active_only: Boolean = False
    ) -> dict[str, Any]:
        """Our invoice requests."""
        return {
            "invoicerequests": [
                request_view(row)
                for row in self._book.requests.values()
                if invreq_id in (None, row.invreq_id) and (row.is_active or not active_only)
            ]
        }

    async def disableinvoicerequest(self, invreq_id: Hash) -> dict[str, Any]:
        """Pay no invoice for a request any more."""
        row = self._book.requests.get(invreq_id)
        if row is None:
            raise CommandFailed(INVALID_PARAMETERS, "Unknown invoice_request")
        if not row.is_active:
            raise CommandFailed(ALREADY_DISABLED, "invoice_request is not currently active")
        changed = msgspec.structs.replace(row, is_enabled=False)
        await self._book.put(changed)
        return request_view(changed)

    async def sendinvoice(
        self,
        invreq: Text,
        label: Label,
        amount_msat: AmountMsat | None = None,
        timeout: Integer = TIMEOUT_SECONDS,
        quantity: Integer | None = None,
    ) -> dict[str, Any]:
        """Send an invoice to whoever requests one, and wait until it is paid."""
        request = self._read(invreq, amount_msat)
        if quantity not in (None, request.invreq_quantity):
            raise CommandFailed(INVALID_PARAMETERS, "quantity: it is for the invoice request to say")
        row = self._row(request, label, timeout)
        invoice = self._invoice(request, row)
        row = msgspec.structs.replace(row, asked=Asked(invoice.text))
        switch, paid = self._node.switch, trio.Event()
        try:
            await switch.ask(lambda turn: switch.invoices.add(turn, row))
        except LabelTaken as taken:
            raise CommandFailed(LABEL_TAKEN, f"Duplicate label '{taken.label}'") from None

        def look(settled: InvoiceRow) -> None:
            if settled.payment_hash == row.payment_hash:
                paid.set()

        switch.invoices.on_settled.append(look)
        try:
            with as_refusal("The invoice request"):
                await self._node.offers.fetcher.deliver(invoice, paid, timeout)
        finally:
            switch.invoices.on_settled.remove(look)
        return invoice_view(self._node, switch.invoices.rows[row.payment_hash], switch.now())

    def _read(self, text: str, amount_msat: Msat | None) -> InvoiceRequest:
        switch = self._node.switch
        try:
            request = read_form(InvoiceRequest, text)
            if request.is_for_offer:
                raise FieldForbidden("offer_issuer_id", 22)
            check_offer_time(request, switch.now())
            check_request(request, switch.house.chain_hash)
            if amount_msat not in (None, request.invreq_amount):
                raise WrongAmount(amount_msat or 0, request.invreq_amount or 0)
        except Expired as over:
            raise CommandFailed(OFFER_EXPIRED, str(over)) from None
        except Unacceptable as wrong:
            raise CommandFailed(INVALID_PARAMETERS, f"Invalid invoice request: {wrong}") from None
        return request

    def _row(self, request: InvoiceRequest, label: str, timeout_seconds: int) -> InvoiceRow:
        node = self._node
        row = new_invoice(
            secrets.token_bytes(32),
            secrets.token_bytes(32),
            request.invreq_amount,
            request.offer_description or "",
            node.switch.now(),
            timeout_seconds,
            node.config.final_delta_blocks,
        )
        return msgspec.structs.replace(row, label=label)

    def _invoice(self, request: InvoiceRequest, row: InvoiceRow) -> Invoice:
        switch, signer = self._node.switch, self._node.signer
        over = needed_fronts(switch) or None
        terms = Terms(row.payment_secret, row.min_final_cltv_expiry_delta, row.amount_msat or Msat(0))
        paths = payment_paths(switch, self._node.graph, terms, over)
        if not paths:
            raise CommandFailed(UNSPECIFIED, str(NotPayableNow()))
        secret = signer.node_secret if over is None else signer.offer_secret(b"payee", row.payment_hash)
        return write_invoice(request, row, paths, secret)
