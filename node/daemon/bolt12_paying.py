"""What is to be paid for a text of BOLT 12: an invoice, or an offer that one is fetched for first."""

from node.daemon.bolt12_wants import NoKnownStart, wanted_for
from node.daemon.invoice_fetching import Wish
from node.daemon.node import Node
from node.daemon.paying import Wanted
from node.daemon.rpc_offers import amount_follows, fetched
from node.daemon.rpc_parameters import INVALID_PARAMETERS, CommandFailed
from wire.bolt12.errors import Expired, Unacceptable, WrongAmount
from wire.bolt12.forms import Invoice, Offer, read_form
from wire.bolt12.rules import check_invoice, expected_amount
from wire.bolt12.text import decode_text
from wire.units import Msat

NO_ROUTE = 205
INVOICE_EXPIRED = 207
ONE_ITEM = 1


async def wanted_by(
    node: Node, text: str, amount_msat: Msat | None, payer_note: str, seconds: float
) -> Wanted:
    """The payment that a text asks for; an invoice for an offer is fetched within so many seconds.

    Raises:
        CommandFailed: it must not be paid, or cannot be.
    """
    invoice = await _invoice(node, text, amount_msat, payer_note, seconds)
    try:
        return wanted_for(node.switch, node.graph, invoice)
    except NoKnownStart as lost:
        raise CommandFailed(NO_ROUTE, str(lost)) from None


async def _invoice(
    node: Node, text: str, amount_msat: Msat | None, payer_note: str, seconds: float
) -> Invoice:
    try:
        prefix, _ = decode_text(text)
        if prefix == Offer.PREFIX:
            return await _fetched(node, text, amount_msat, payer_note, seconds)
        invoice = read_form(Invoice, text)
        check_invoice(invoice, node.switch.house.chain_hash, node.switch.now())
    except Expired as over:
        details = {"now": int(node.switch.now()), "expiry": over.expires_at}
        raise CommandFailed(INVOICE_EXPIRED, "Invoice expired", details) from None
    except Unacceptable as wrong:
        raise CommandFailed(INVALID_PARAMETERS, f"Invalid bolt12: {wrong}") from None
    if amount_msat is not None:
        raise CommandFailed(INVALID_PARAMETERS, "amount_msat parameter unnecessary")
    return invoice


async def _fetched(
    node: Node, text: str, amount_msat: Msat | None, payer_note: str, seconds: float
) -> Invoice:
    """An invoice for an offer that asks for no more than our user has heard of."""
    offer = read_form(Offer, text)
    if amount_msat is None and (offer.offer_amount is None or offer.offer_currency is not None):
        raise CommandFailed(INVALID_PARAMETERS, "amount_msat parameter required")
    quantity = None if offer.offer_quantity_max is None else ONE_ITEM
    wish = Wish(amount_msat, quantity, payer_note or None)
    invoice = await fetched(node, text, wish, seconds)
    if amount_msat is None and not amount_follows(invoice):
        raise WrongAmount(invoice.invoice_amount or 0, expected_amount(invoice))
    return invoice
