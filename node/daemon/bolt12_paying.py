"""What is to be paid for a text of BOLT 12: an invoice, or an offer that one is fetched for first."""

from node.daemon.blinded_ways import blinded_ways
from node.daemon.invoice_fetching import Wish
from node.daemon.node import Node
from node.daemon.paying import Wanted
from node.daemon.payments import Note
from node.daemon.rpc_offers import amount_follows, fetched
from node.daemon.rpc_parameters import INVALID_PARAMETERS, CommandFailed
from wire.bolt12.errors import Expired, Unacceptable, WrongAmount
from wire.bolt12.forms import Invoice, Offer, read_form
from wire.bolt12.rules import check_invoice, expected_amount, is_usable
from wire.bolt12.text import decode_text
from wire.crypto.secp256k1 import Point
from wire.features import BASIC_MPP, Features
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
    ways = zip(invoice.invoice_paths or (), invoice.invoice_blindedpay or (), strict=True)
    # b12-offers.6
    usable = [(path, price) for path, price in ways if is_usable(price)]
    blinded = blinded_ways(node.switch, node.graph, usable)
    if blinded is None:
        raise CommandFailed(NO_ROUTE, "None of the invoice's paths begins at a node that we know")
    return Wanted(
        Point(invoice.invoice_node_id or b""),
        invoice.invoice_payment_hash or b"",
        Msat(invoice.invoice_amount or 0),
        # what the payee wants is in the price of the path
        final_cltv_expiry_delta=0,
        may_split=Features.from_bytes(invoice.invoice_features or b"").has(BASIC_MPP),
        hints=blinded.hints,
        blinded=blinded,
        note=Note(bolt12=invoice.text, description=invoice.offer_description or ""),
    )


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
