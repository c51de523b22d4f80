"""The payment that an invoice of BOLT 12 asks for."""

from gossip.graph import Graph
from node.daemon.blinded_ways import blinded_ways
from node.daemon.paying import Wanted
from node.daemon.payments import Note
from node.daemon.switch import Switch
from wire.bolt12.forms import Invoice
from wire.bolt12.rules import is_usable
from wire.features import BASIC_MPP, Features


class NoKnownStart(Exception):
    """No path of the invoice begins at a node that we can name."""

    def __init__(self) -> None:
        super().__init__("none of the invoice's paths begins at a node that we know")


def wanted_for(switch: Switch, graph: Graph, invoice: Invoice) -> Wanted:
    """What pays an invoice that keeps the rules.

    Raises:
        NoKnownStart: nothing can.
    """
    assert invoice.invoice_node_id is not None, "it was checked"
    assert invoice.invoice_payment_hash is not None, "it was checked"
    assert invoice.invoice_amount is not None, "it was checked"
    ways = zip(invoice.invoice_paths or (), invoice.invoice_blindedpay or (), strict=True)
    # b12-offers.6
    usable = [(path, price) for path, price in ways if is_usable(price)]
    blinded = blinded_ways(switch, graph, usable)
    if blinded is None:
        raise NoKnownStart
    return Wanted(
        invoice.invoice_node_id,
        invoice.invoice_payment_hash,
        invoice.invoice_amount,
        # what the payee wants is in the price of the path
        final_cltv_expiry_delta=0,
        may_split=Features.from_bytes(invoice.invoice_features or b"").has(BASIC_MPP),
        hints=blinded.hints,
        blinded=blinded,
        note=Note(bolt12=invoice.text, description=invoice.offer_description or ""),
    )
