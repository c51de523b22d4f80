"""The rules for whoever reads an offer, an invoice request or an invoice (BOLT 12, requirements).

Every check raises the class of `wire.bolt12.errors` that says which rule is broken, and returns
nothing otherwise. Time and chain are arguments.
"""

from collections.abc import Collection

from wire.bitcoin.block import CHAIN_HASH
from wire.bolt12.errors import (
    BadName,
    CurrencyUnknown,
    Expired,
    FeatureRequired,
    FieldForbidden,
    FieldMissing,
    NothingToPay,
    NotMirrored,
    NoUsablePath,
    OutOfRange,
    PathsDoNotMatch,
    QuantityOutOfBounds,
    TooLittle,
    TooMuch,
    WrongAmount,
    WrongChain,
    WrongIssuer,
)
from wire.bolt12.forms import (
    OFFER_RANGES,
    REQUEST_RANGES,
    Form,
    Invoice,
    InvoiceRequest,
    Offer,
    fields_of,
    in_ranges,
    records_of,
)
from wire.bolt12.kinds import PayInfo
from wire.bolt12.merkle import SIGNATURE_RANGE, check_signature, merkle_root
from wire.crypto.secp256k1 import Point
from wire.features import BASIC_MPP, Features
from wire.units import MAX_MSAT, Msat

BITCOIN = CHAIN_HASH["bitcoin"]
# what an invoice may require of who pays it
UNDERSTOOD = Features.of(optional=(BASIC_MPP,))
_NAME_BYTES = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.")
_NO_FEATURES = Features()
_NUMBERS = {name: number for number, (name, _) in fields_of(Invoice).items()}


def offer_id_of(form: Offer) -> bytes:
    """The name of an offer, also as a request or an invoice repeats it."""
    return merkle_root(list(filter(in_ranges(*OFFER_RANGES), records_of(form))))


def request_id_of(form: InvoiceRequest) -> bytes:
    """The name of a request, also as an invoice repeats it."""
    return merkle_root(list(filter(in_ranges(*REQUEST_RANGES), records_of(form))))


# --- an offer


def check_offer(offer: Offer, chain_hash: bytes, now_seconds: float) -> None:
    """Whether an offer may be answered with a request.

    Raises:
        Unacceptable: one of its subclasses.
    """
    # b12-offers.3
    _check_ranges(offer, OFFER_RANGES)
    _check_offer_fields(offer)
    if offer.offer_issuer_id is None and offer.offer_paths is None:
        raise _missing("offer_issuer_id")
    if chain_hash not in (offer.offer_chains or (BITCOIN,)):
        raise WrongChain(_NUMBERS["offer_chains"])
    check_offer_time(offer, now_seconds)


def check_offer_time(offer: Offer, now_seconds: float) -> None:
    """Whether an offer still stands.

    Raises:
        Expired: it does not.
    """
    expiry = offer.offer_absolute_expiry
    if expiry is not None and now_seconds > expiry:
        raise Expired("offer", expiry, _NUMBERS["offer_absolute_expiry"])


def _check_offer_fields(offer: Offer) -> None:
    # b12-offers.6
    _check_features(offer, "offer_features", _NO_FEATURES)
    if offer.offer_currency is not None and offer.offer_amount is None:
        raise _missing("offer_amount")
    if offer.offer_amount == 0:
        raise NothingToPay("offer_amount", _NUMBERS["offer_amount"])
    if offer.offer_amount is not None and offer.offer_description is None:
        raise _missing("offer_description")
    _check_paths(offer, "offer_paths")


# --- a request


def check_request(request: InvoiceRequest, chain_hash: bytes) -> None:
    """Whether a request may be answered with an invoice, as far as it alone can tell.

    Raises:
        Unacceptable: one of its subclasses.
    """
    # b12-offers.4
    _check_ranges(request, (*REQUEST_RANGES, SIGNATURE_RANGE))
    _require(request, "invreq_metadata", "invreq_payer_id")
    _check_features(request, "invreq_features", _NO_FEATURES)
    _check_paths(request, "invreq_paths")
    if (request.invreq_chain or BITCOIN) != chain_hash:
        raise WrongChain(_NUMBERS["invreq_chain"])
    _check_name(request)
    if request.invreq_amount == 0:
        raise NothingToPay("invreq_amount", _NUMBERS["invreq_amount"])
    if request.is_for_offer:
        _check_offer_fields(request)
        _check_quantity(request)
        _check_request_amount(request)
    else:
        _forbid(request, "offer_chains", "offer_features", "offer_quantity_max")
        _require(request, "invreq_amount")
    if request.is_for_offer or request.signature is not None:
        assert request.invreq_payer_id is not None, "it was required"
        check_signature(request, request.invreq_payer_id)


def _check_quantity(request: InvoiceRequest) -> None:
    most, quantity = request.offer_quantity_max, request.invreq_quantity
    if most is None:
        _forbid(request, "invreq_quantity")
        return
    _require(request, "invreq_quantity")
    if quantity is not None and (quantity == 0 or (most and quantity > most)):
        raise QuantityOutOfBounds(quantity, most)


def _check_request_amount(request: InvoiceRequest) -> None:
    if request.offer_amount is None:
        _require(request, "invreq_amount")
    elif request.offer_currency is None:
        expected_msat = expected_amount(request)
        if request.invreq_amount is not None and request.invreq_amount < expected_msat:
            raise TooLittle(request.invreq_amount, expected_msat)


def expected_amount(request: InvoiceRequest) -> Msat:
    """What the offer asks for so many items.

    Raises:
        CurrencyUnknown: in money that we cannot convert.
        TooMuch: more than there is.
    """
    if request.offer_currency is not None:
        raise CurrencyUnknown(request.offer_currency)
    count = 1 if request.invreq_quantity is None else request.invreq_quantity
    amount_msat = (request.offer_amount or 0) * count
    if amount_msat > MAX_MSAT:
        raise TooMuch(amount_msat)
    return Msat(amount_msat)


def _check_name(request: InvoiceRequest) -> None:
    # b12-offers.7
    name = request.invreq_bip_353_name
    if name is not None and not _NAME_BYTES.issuperset(name.name + name.domain):
        raise BadName


# --- an invoice


def check_invoice(invoice: Invoice, chain_hash: bytes, now_seconds: float) -> None:
    """Whether an invoice may be paid, as far as it alone can tell.

    Raises:
        Unacceptable: one of its subclasses.
    """
    # b12-offers.5
    _require(invoice, "invoice_amount", "invoice_created_at", "invoice_payment_hash", "invoice_node_id")
    _require(invoice, "invoice_paths", "invoice_blindedpay")
    if invoice.invoice_amount == 0:
        raise NothingToPay("invoice_amount", _NUMBERS["invoice_amount"])
    if (invoice.invreq_chain or BITCOIN) != chain_hash:
        raise WrongChain(_NUMBERS["invreq_chain"])
    _check_features(invoice, "invoice_features", UNDERSTOOD)
    _check_paths(invoice, "invoice_paths")
    paths, prices = invoice.invoice_paths or (), invoice.invoice_blindedpay or ()
    if len(paths) != len(prices):
        raise PathsDoNotMatch(len(paths), len(prices))
    if not any(map(is_usable, prices)):
        raise NoUsablePath
    assert invoice.invoice_node_id is not None, "it was required"
    check_signature(invoice, invoice.invoice_node_id)
    if now_seconds > invoice.expires_at:
        raise Expired("invoice", invoice.expires_at, _NUMBERS["invoice_relative_expiry"])


def is_usable(price: PayInfo) -> bool:
    """Whether a path takes nothing that we do not know."""
    # b12-offers.6
    return Features.from_bytes(price.features).unknown_even(_NO_FEATURES) is None


def check_answer(invoice: Invoice, request: InvoiceRequest, asked: Collection[Point]) -> None:
    """Whether an invoice answers this request.

    Args:
        asked: the keys that the request went to, if the offer names none.

    Raises:
        NotMirrored, WrongIssuer, WrongAmount: it does not.
    """
    is_ours = in_ranges(*REQUEST_RANGES)
    ours, theirs = (dict(filter(is_ours, records_of(form))) for form in (request, invoice))
    for number in sorted(ours.keys() | theirs.keys()):
        if ours.get(number) != theirs.get(number):
            raise NotMirrored(number)
    issuers = asked if request.offer_issuer_id is None else (request.offer_issuer_id,)
    if request.is_for_offer and invoice.invoice_node_id not in issuers:
        raise WrongIssuer
    if request.invreq_amount is not None and invoice.invoice_amount != request.invreq_amount:
        raise WrongAmount(invoice.invoice_amount or 0, request.invreq_amount)


# --- what they share


def _check_ranges(form: Form, ranges: tuple[tuple[int, int], ...]) -> None:
    belongs = in_ranges(*ranges)
    for record in records_of(form):
        if not belongs(record):
            raise OutOfRange(record[0])


def _require(form: Offer, *names: str) -> None:
    for name in names:
        if getattr(form, name) is None:
            raise _missing(name)


def _forbid(form: Offer, *names: str) -> None:
    for name in names:
        if getattr(form, name) is not None:
            raise FieldForbidden(name, _NUMBERS[name])


def _missing(name: str) -> FieldMissing:
    return FieldMissing(name, _NUMBERS[name])


def _check_features(form: Offer, name: str, understood: Features) -> None:
    bit = Features.from_bytes(getattr(form, name) or b"").unknown_even(understood)
    if bit is not None:
        raise FeatureRequired(name, _NUMBERS[name], bit)


def _check_paths(form: Offer, name: str) -> None:
    """A list of paths names one at least; none without hops could be read."""
    if getattr(form, name) == ():
        raise _missing(name)
