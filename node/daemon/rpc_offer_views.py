"""Offers, invoice requests and invoices of BOLT 12 as Core Lightning's replies show them."""

from contextlib import suppress
from typing import Any

import msgspec

from node.daemon.offer_book import OfferBook, OfferRow, RequestRow
from wire.bitcoin.address import NoAddressForm, address_of, is_witness_program, witness_script_pubkey
from wire.blinded_path import BlindedPath
from wire.bolt12.errors import Unacceptable
from wire.bolt12.forms import (
    DEFAULT_EXPIRY_SECONDS,
    Form,
    Invoice,
    InvoiceRequest,
    Offer,
    fields_of,
    read_form,
)
from wire.bolt12.kinds import DnsName, FallbackAddress, PayInfo
from wire.bolt12.rules import BITCOIN, check_invoice, check_offer, check_request, offer_id_of
from wire.bolt12.text import decode_text
from wire.scid import text_of

# of ISO 4217, those that are not counted in hundredths
_MINOR_UNITS = {"JPY": 0, "KRW": 0, "VND": 0, "CLP": 0, "ISK": 0, "BHD": 3, "KWD": 3, "OMR": 3, "TND": 3}
_FORMS: dict[str, type[Form]] = {cls.PREFIX: cls for cls in (Offer, InvoiceRequest, Invoice)}
_SHOWN_OTHERWISE = (
    "offer_amount",
    "invreq_amount",
    "invoice_paths",
    "invoice_blindedpay",
    "invoice_relative_expiry",
    "invoice_amount",
    "invoice_fallbacks",
)
_POINT_BYTES = 33


def offer_view(book: OfferBook, row: OfferRow) -> dict[str, Any]:
    """An entry of `listoffers`."""
    view: dict[str, Any] = {
        "offer_id": row.offer_id.hex(),
        "active": book.is_active(row),
        "single_use": row.is_single_use,
        "bolt12": row.bolt12,
        "used": book.is_used(row),
        "force_paths": row.is_fronted,
    }
    if row.offer.offer_description is not None:
        view["description"] = row.offer.offer_description
    return {**view, "label": row.label} if row.label else view


def request_view(row: RequestRow) -> dict[str, Any]:
    """An entry of `listinvoicerequests`."""
    view: dict[str, Any] = {
        "invreq_id": row.invreq_id.hex(),
        "active": row.is_active,
        "single_use": row.is_single_use,
        "bolt12": row.bolt12,
        "used": row.is_used,
    }
    return {**view, "label": row.label} if row.label else view


def decoded_bolt12(text: str, network: str) -> dict[str, Any]:
    """What `decode` returns of a text of BOLT 12."""
    cls: type[Form] = Offer
    try:
        prefix, _ = decode_text(text)
        cls = _FORMS.get(prefix, Offer)
        form = read_form(cls, text)
    except Unacceptable as wrong:
        return {"type": _type_of(cls), "valid": False, "warning": str(wrong)}
    shown = {"type": _type_of(cls), "valid": True, **form_view(form, network)}
    try:
        _check(form)
    except Unacceptable as wrong:
        return {**shown, "valid": False, "warning": str(wrong)}
    return shown


def _type_of(cls: type[Form]) -> str:
    return f"bolt12 {cls.NAME}"


def _check(form: Form) -> None:
    """Whether a form keeps the rules, whatever its chain and its time."""
    if isinstance(form, Invoice):
        check_invoice(form, form.invreq_chain or BITCOIN, 0)
    elif isinstance(form, InvoiceRequest):
        check_request(form, form.invreq_chain or BITCOIN)
    elif isinstance(form, Offer):
        check_offer(form, (form.offer_chains or (BITCOIN,))[0], 0)


def form_view(form: Form, network: str) -> dict[str, Any]:
    """Every field of a form, by its name."""
    view: dict[str, Any] = {}
    for name, _ in fields_of(form.__class__).values():
        value = getattr(form, name)
        if value is not None and name not in _SHOWN_OTHERWISE:
            view[name] = _shown(value)
    if isinstance(form, Offer):
        view |= _offer_view(form)
    if isinstance(form, InvoiceRequest) and form.invreq_amount is not None:
        view["invreq_amount_msat"] = form.invreq_amount
    if isinstance(form, Invoice):
        view |= _invoice_view(form, network)
    if form.unknown:
        view[f"unknown_{form.NAME}_tlvs"] = [
            {"type": type, "length": len(value), "value": value.hex()} for type, value in form.unknown
        ]
    return view


def _shown(value: Any) -> Any:
    match value:
        case bytes():
            return value.hex()
        case BlindedPath():
            return _path_view(value)
        case DnsName():
            return {"name": value.name.decode("latin-1"), "domain": value.domain.decode("latin-1")}
        case tuple():
            return [_shown(each) for each in value]
    return value


def _offer_view(offer: Offer) -> dict[str, Any]:
    view: dict[str, Any] = {}
    if not isinstance(offer, InvoiceRequest) or offer.is_for_offer:
        view["offer_id"] = offer_id_of(offer).hex()
    if offer.offer_amount is not None:
        name = "offer_amount" if offer.offer_currency is not None else "offer_amount_msat"
        view[name] = offer.offer_amount
    if offer.offer_currency is not None:
        view["currency_minor_unit"] = _MINOR_UNITS.get(offer.offer_currency, 2)
    return view


def _invoice_view(invoice: Invoice, network: str) -> dict[str, Any]:
    prices = invoice.invoice_blindedpay or ()
    paths = [
        {**_path_view(path), "payinfo": _price_view(price)}
        for path, price in zip(invoice.invoice_paths or (), prices, strict=False)
    ]
    expiry = invoice.invoice_relative_expiry
    view = {
        "invoice_paths": paths,
        "invoice_relative_expiry": DEFAULT_EXPIRY_SECONDS if expiry is None else expiry,
    }
    if invoice.invoice_amount is not None:
        view["invoice_amount_msat"] = invoice.invoice_amount
    if invoice.invoice_fallbacks:
        view["invoice_fallbacks"] = [_fallback_view(each, network) for each in invoice.invoice_fallbacks]
    return view


def _path_view(path: BlindedPath) -> dict[str, Any]:
    first = path.first_node_id
    begins: dict[str, Any] = {"first_node_id": first.hex()}
    if len(first) != _POINT_BYTES:
        begins = {"first_scid": text_of(int.from_bytes(first[1:], "big")), "first_scid_dir": first[0]}
    hops = [
        {
            "blinded_node_id": hop.blinded_node_id.hex(),
            "encrypted_recipient_data": hop.encrypted_recipient_data.hex(),
        }
        for hop in path.hops
    ]
    return {**begins, "first_path_key": path.first_path_key.hex(), "path": hops}


def _price_view(price: PayInfo) -> dict[str, Any]:
    return {**msgspec.structs.asdict(price), "features": price.features.hex()}


def _fallback_view(fallback: FallbackAddress, network: str) -> dict[str, Any]:
    view: dict[str, Any] = {"version": fallback.version, "hex": fallback.address.hex()}
    if is_witness_program(fallback.version, fallback.address):
        script = witness_script_pubkey(fallback.version, fallback.address)
        with suppress(NoAddressForm):
            view["address"] = address_of(script, network)
    return view
