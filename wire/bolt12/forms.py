"""The three forms of BOLT 12, each declared once: an offer, the request for an invoice, the invoice.

A request repeats every field of the offer that it answers, and an invoice every field of its
request, so each form is the one before it with more fields. A field that we do not know is kept as
it came: it must be repeated too, and signatures cover it.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar, get_type_hints

import msgspec

from wire.blinded_path import BlindedPath
from wire.bolt12.errors import Malformed, WrongPrefix
from wire.bolt12.kinds import (
    BYTES,
    DNS_NAME,
    FALLBACKS,
    HASH,
    HASHES,
    MSAT,
    PATHS,
    PAY_INFOS,
    POINT,
    SIGNATURE,
    TEXT,
    TU32,
    TU64,
    DnsName,
    FallbackAddress,
    Kind,
    PayInfo,
)
from wire.bolt12.text import decode_text, encode_text
from wire.codec import DecodeError, UnknownEvenRecord
from wire.crypto import secp256k1
from wire.tlv import read_records, write_records
from wire.units import Msat

Record: TypeAlias = tuple[int, bytes]

DEFAULT_EXPIRY_SECONDS = 7200


class Field(msgspec.Struct, frozen=True):
    """This field is the record of this type."""

    type: int
    kind: Kind


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """What all of them have: a name, what their text begins with, and records that we do not know."""

    NAME: ClassVar[str]
    PREFIX: ClassVar[str]
    unknown: tuple[Record, ...] = ()

    @property
    def text(self) -> str:
        """As people hand it on."""
        return encode_text(self.PREFIX, encode_form(self))


class Offer(Form, frozen=True, kw_only=True):
    """Something to pay for, as often as one likes."""

    NAME = "offer"
    PREFIX = "lno"
    offer_chains: Annotated[tuple[bytes, ...] | None, Field(2, HASHES)] = None
    offer_metadata: Annotated[bytes | None, Field(4, BYTES)] = None
    offer_currency: Annotated[str | None, Field(6, TEXT)] = None
    offer_amount: Annotated[int | None, Field(8, TU64)] = None  # msat, or the currency's smallest unit
    offer_description: Annotated[str | None, Field(10, TEXT)] = None
    offer_features: Annotated[bytes | None, Field(12, BYTES)] = None
    offer_absolute_expiry: Annotated[int | None, Field(14, TU64)] = None
    offer_paths: Annotated[tuple[BlindedPath, ...] | None, Field(16, PATHS)] = None
    offer_issuer: Annotated[str | None, Field(18, TEXT)] = None
    offer_quantity_max: Annotated[int | None, Field(20, TU64)] = None
    offer_issuer_id: Annotated[secp256k1.Point | None, Field(22, POINT)] = None


class InvoiceRequest(Offer, frozen=True, kw_only=True):
    """Whoever wants to pay asks for an invoice; or, without an offer, whoever wants to be asked to pay."""

    NAME = "invoice_request"
    PREFIX = "lnr"
    invreq_metadata: Annotated[bytes | None, Field(0, BYTES)] = None
    invreq_chain: Annotated[bytes | None, Field(80, HASH)] = None
    invreq_amount: Annotated[Msat | None, Field(82, MSAT)] = None
    invreq_features: Annotated[bytes | None, Field(84, BYTES)] = None
    invreq_quantity: Annotated[int | None, Field(86, TU64)] = None
    invreq_payer_id: Annotated[secp256k1.Point | None, Field(88, POINT)] = None
    invreq_payer_note: Annotated[str | None, Field(89, TEXT)] = None
    invreq_paths: Annotated[tuple[BlindedPath, ...] | None, Field(90, PATHS)] = None
    invreq_bip_353_name: Annotated[DnsName | None, Field(91, DNS_NAME)] = None
    signature: Annotated[secp256k1.Signature | None, Field(240, SIGNATURE)] = None

    @property
    def is_for_offer(self) -> bool:
        """Whether it answers an offer."""
        return self.offer_issuer_id is not None or self.offer_paths is not None


class Invoice(InvoiceRequest, frozen=True, kw_only=True):
    """What is to be paid, and over which paths."""

    NAME = "invoice"
    PREFIX = "lni"
    invoice_paths: Annotated[tuple[BlindedPath, ...] | None, Field(160, PATHS)] = None
    invoice_blindedpay: Annotated[tuple[PayInfo, ...] | None, Field(162, PAY_INFOS)] = None
    invoice_created_at: Annotated[int | None, Field(164, TU64)] = None
    invoice_relative_expiry: Annotated[int | None, Field(166, TU32)] = None
    invoice_payment_hash: Annotated[bytes | None, Field(168, HASH)] = None
    invoice_amount: Annotated[Msat | None, Field(170, MSAT)] = None
    invoice_fallbacks: Annotated[tuple[FallbackAddress, ...] | None, Field(172, FALLBACKS)] = None
    invoice_features: Annotated[bytes | None, Field(174, BYTES)] = None
    invoice_node_id: Annotated[secp256k1.Point | None, Field(176, POINT)] = None

    @property
    def expires_at(self) -> int:
        """The last second at which it may be paid."""
        expiry = self.invoice_relative_expiry
        return (self.invoice_created_at or 0) + (DEFAULT_EXPIRY_SECONDS if expiry is None else expiry)


class InvoiceError(Form, frozen=True, kw_only=True):
    """Why there is no invoice, or why it will not be paid."""

    NAME = "invoice_error"
    PREFIX = ""
    erroneous_field: Annotated[int | None, Field(1, TU64)] = None
    suggested_value: Annotated[bytes | None, Field(3, BYTES)] = None
    error: Annotated[str | None, Field(5, TEXT)] = None


F = TypeVar("F", bound=Form)


@cache
def fields_of(cls: type[Form]) -> dict[int, tuple[str, Kind]]:
    """The records that a form knows: name and kind, by number."""
    hints = get_type_hints(cls, include_extras=True)
    found = {name: hint.__metadata__[0] for name, hint in hints.items() if hasattr(hint, "__metadata__")}
    return {field.type: (name, field.kind) for name, field in sorted(found.items(), key=lambda i: i[1].type)}


def records_of(form: Form) -> list[Record]:
    """All records of a form in their order."""
    known = [
        (type, kind.write(value))
        for type, (name, kind) in fields_of(form.__class__).items()
        if (value := getattr(form, name)) is not None
    ]
    return sorted((*known, *form.unknown))


def encode_form(form: Form) -> bytes:
    """The bytes of a form, the same that it was decoded from."""
    return write_records(records_of(form))


def decode_form(cls: type[F], raw: bytes) -> F:
    """The form in the bytes; whether it keeps the rules of its kind is for `wire.bolt12.rules` to say.

    Raises:
        DecodeError: no stream of records, a record that contains something else, or an even one unknown.
    """
    return _form(cls, read_records(raw))


def _form(cls: type[F], records: Iterable[Record]) -> F:
    fields, values, unknown = fields_of(cls), dict[str, Any](), list[Record]()
    for type, value in records:
        if type in fields:
            name, kind = fields[type]
            values[name] = kind.read(value)
        elif type & 1:
            unknown.append((type, value))
        else:
            raise UnknownEvenRecord(type)
    return cls(unknown=tuple(unknown), **values)


def read_form(cls: type[F], text: str) -> F:
    """The form that a text stands for.

    Raises:
        NotText, WrongPrefix, Malformed: it stands for none of this kind.
    """
    prefix, raw = decode_text(text)
    if prefix != cls.PREFIX:
        raise WrongPrefix(prefix, cls.PREFIX)
    try:
        return decode_form(cls, raw)
    except DecodeError as why:
        raise Malformed(why) from None


def widened(cls: type[F], form: Form, **more: Any) -> F:
    """Another form with all fields of this one but the signature, and some more."""
    kept = {name: getattr(form, name) for name in form.__struct_fields__ if name != "signature"}
    return cls(**{**kept, **more})


def offer_of(form: Offer) -> Offer:
    """The offer that a request or an invoice repeats."""
    return _form(Offer, filter(in_ranges(*OFFER_RANGES), records_of(form)))


def in_ranges(*ranges: tuple[int, int]) -> Callable[[Record], bool]:
    """Whether a record's number is in one of these ranges, their ends included."""
    return lambda record: any(first <= record[0] <= last for first, last in ranges)


OFFER_RANGES = ((1, 79), (1_000_000_000, 1_999_999_999))
REQUEST_RANGES = ((0, 159), (1_000_000_000, 2_999_999_999))
