"""Money that we hand out: requests of ours to be sent an invoice, and the invoices that come (BOLT 12).

Whoever reads such a request may take the money, as with a note that lies on a table. An invoice is
paid as soon as it has come. A request for one payment counts as used before that is tried, and as
unused again only when nothing of it can arrive any more: a crash in between costs a request, not money.
"""

import logging

import msgspec
import trio

from gossip.graph import Graph
from node.daemon.bolt12_wants import NoKnownStart, wanted_for
from node.daemon.messenger import Allowance
from node.daemon.offer_book import OfferBook, RequestRow
from node.daemon.offer_drafts import request_path_id_of
from node.daemon.paying import Payer, PaymentFailed
from node.daemon.reaching import Reach
from node.daemon.switch import Switch
from node.daemon.turn import Turn
from onion.message import Arrived
from wire.bolt12.errors import Unacceptable
from wire.bolt12.forms import Invoice, decode_form
from wire.bolt12.rules import check_answer, check_invoice, check_offer_time, request_id_of
from wire.codec import DecodeError
from wire.units import Msat

log = logging.getLogger("rill.offers")

MOST_FEE_SHARE = 200
LEAST_FEE_MSAT = Msat(5000)


class RequestOver(Unacceptable):
    """Our user has withdrawn the request, or it was for one payment."""

    def __init__(self) -> None:
        super().__init__("the request for an invoice is no longer available")


class NotPaid(Unacceptable):
    """The payment was tried, and failed."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the payment failed: {why}")


class Refunds:
    """Pays the invoices that our requests bring."""

    def __init__(self, switch: Switch, graph: Graph, payer: Payer, reach: Reach, book: OfferBook) -> None:
        self._switch, self._graph, self._payer, self._reach, self.book = switch, graph, payer, reach, book
        self._allowance = Allowance(trio.current_time())

    async def receive(self, arrived: Arrived, raw: bytes) -> None:
        """Pay an invoice, if a request of ours asks for it and it came the way that the request leads."""
        if not self._allowance.take(trio.current_time()):
            return
        try:
            invoice = decode_form(Invoice, raw)
        except DecodeError as wrong:
            log.debug("an invoice is dropped", extra={"why": str(wrong)})
            return
        row = self.book.requests.get(request_id_of(invoice)) if invoice.invreq_metadata else None
        # b12-offers.5
        if row is None or arrived.path_id != request_path_id_of(self._switch.signer, row.request):
            log.debug("an invoice is dropped", extra={"why": "nobody asked for it"})
            return
        try:
            await self._pay(row, invoice)
        except Unacceptable as refused:
            log.info("an invoice is not paid", extra={"why": str(refused)})
            if arrived.reply_path is not None:
                self._reach.reply_error(arrived.reply_path, refused)

    async def _pay(self, row: RequestRow, invoice: Invoice) -> None:
        if invoice.invoice_payment_hash in self._switch.payments.rows:
            # sent again, because we had not answered yet
            return
        check_offer_time(row.request, self._switch.now())
        check_answer(invoice, row.request, ())
        check_invoice(invoice, self._switch.house.chain_hash, self._switch.now())
        assert invoice.invoice_amount is not None, "it was checked"
        most_fee_msat = Msat(max(LEAST_FEE_MSAT, invoice.invoice_amount // MOST_FEE_SHARE))
        try:
            wanted = wanted_for(self._switch, self._graph, invoice)
            await self._switch.ask(lambda turn: self._claim(turn, row.invreq_id))
            await self._payer.pay(msgspec.structs.replace(wanted, max_fee_msat=most_fee_msat))
        except NoKnownStart as lost:
            raise NotPaid(str(lost)) from None
        except PaymentFailed as failed:
            await self.book.put(
                msgspec.structs.replace(self.book.requests[row.invreq_id], is_used=row.is_used)
            )
            raise NotPaid(failed.reason) from None

    def _claim(self, turn: Turn, invreq_id: bytes) -> None:
        """Count a request as used, unless another invoice was before us."""
        row = self.book.requests[invreq_id]
        if not row.is_active:
            raise RequestOver
        self.book.write(turn, msgspec.structs.replace(row, is_used=True))
