"""Our invoices as text (BOLT 11)."""

from node.daemon.invoices import InvoiceRow
from node.daemon.signer import Signer
from wire import bolt11
from wire.crypto.hashes import sha256
from wire.features import INVOICE


def bolt11_text(row: InvoiceRow, network: str, signer: Signer) -> str:
    """The invoice as a string that any wallet reads, signed by the node."""
    invoice = bolt11.Invoice(
        currency=bolt11.CURRENCY[network],
        amount_msat=row.amount_msat,
        timestamp=row.created_at,
        payment_hash=row.payment_hash,
        payment_secret=row.payment_secret,
        description=None if row.is_hashed else row.description,
        description_hash=sha256(row.description.encode()) if row.is_hashed else None,
        fallbacks=row.fallbacks,
        route_hints=row.route_hints,
        expiry_seconds=row.expiry_seconds,
        min_final_cltv_expiry_delta=row.min_final_cltv_expiry_delta,
        payee=signer.node_id,
        # b11-invoices.2: what a payer must understand
        features=INVOICE,
    )
    return bolt11.encode(invoice, signer.node_secret)
