"""Invoices: what a payee asks for, in text that fits a QR code (BOLT 11).

Reading goes from the outside in, and every step has its own error: bech32, the network and the
amount before the separator, the tagged fields, the signature over all of them. Writing goes the
same way back; the order of fields is ours, as the format leaves it free.

Whether an invoice has expired, and whether we can reach its payee, is for the payer to find out.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from wire.bitcoin.address import is_witness_program, witness_script_pubkey
from wire.bitcoin.bech32 import (
    Checksum,
    InvalidBech32,
    bytes_padded,
    bytes_within,
    letters_of,
    number_of,
    words_of,
    words_of_letters,
)
from wire.bitcoin.bech32 import decode as decode_bech32
from wire.bitcoin.bech32 import encode as encode_bech32
from wire.bitcoin.script import p2pkh, p2sh
from wire.bolt11_errors import (
    BadAmount,
    BadInvoiceSignature,
    BothDescriptions,
    HighSignature,
    MalformedField,
    MissingFeatureDependency,
    MissingField,
    NotBech32,
    NotMinimalField,
    SubMillisatoshi,
    TruncatedInvoice,
    UnknownPrefix,
    UnknownRequiredFeature,
    UnwritableInvoice,
    WrongChecksumKind,
)
from wire.bolt11_errors import InvalidInvoice as InvalidInvoice
from wire.crypto.hashes import sha256
from wire.crypto.secp256k1 import (
    InvalidSignature,
    Point,
    Secret,
    has_low_s,
    is_point,
    is_signed,
    point_of,
    recover,
    sign_recoverable,
)
from wire.features import PAYABLE, Features
from wire.units import MAX_MSAT, Msat

CURRENCY: Final = {"bitcoin": "bc", "testnet": "tb", "testnet4": "tb", "signet": "tbs", "regtest": "bcrt"}
"""What the text begins with after `ln`, by the names of the networks in `wire.bitcoin.block`."""

DEFAULT_EXPIRY_SECONDS = 3600
DEFAULT_MIN_FINAL_CLTV_EXPIRY_DELTA = 18
MAX_FIELD_BYTES = 639
URI_SCHEME = "lightning:"

_TIMESTAMP_WORDS = 7
_SIGNATURE_WORDS = 104
_MAX_FIELD_WORDS = 1023
_HOP_BYTES = 51
_P2PKH_VERSION, _P2SH_VERSION = 17, 18
# The fields whose length says whether they are what their letter means
_WORDS_OF_FIXED = {"p": 52, "s": 52, "h": 52, "n": 53}
_PICO_PER_MSAT = 10
_PICO_PER_UNIT = {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}
_HUMAN_PART = re.compile(r"ln([a-z]+)([0-9].*)?")
_AMOUNT = re.compile(r"([1-9][0-9]{0,20})([munp]?)")


class RouteHop(msgspec.Struct, frozen=True):
    """A channel on the way to a payee that the graph may not show; `pubkey` is its start."""

    pubkey: Point
    short_channel_id: int
    fee_base_msat: Msat
    fee_proportional_millionths: int
    cltv_expiry_delta: int


class Fallback(msgspec.Struct, frozen=True):
    """Where on chain to pay instead: a witness version and program, 17 a P2PKH or 18 a P2SH hash."""

    version: int
    program: bytes

    def script(self) -> bytes:
        """The output script to pay to."""
        if self.version == _P2PKH_VERSION:
            return p2pkh(self.program)
        if self.version == _P2SH_VERSION:
            return p2sh(self.program)
        return witness_script_pubkey(self.version, self.program)

    @classmethod
    def of_script(cls, script: bytes) -> "Fallback":
        """The fallback that pays to a script which has an address."""
        if script[:3] == b"\x76\xa9\x14":
            return cls(_P2PKH_VERSION, script[3:23])
        if script[:2] == b"\xa9\x14":
            return cls(_P2SH_VERSION, script[2:22])
        # OP_0, or OP_1 to OP_16, and one push
        return cls(script[0] - 0x50 if script[0] else 0, script[2:])


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. Exactly one of `description` and `description_hash` is set."""

    currency: str
    amount_msat: Msat | None = None
    timestamp: int
    payment_hash: bytes
    payment_secret: bytes
    payee: Point
    description: str | None = None
    description_hash: bytes | None = None
    expiry_seconds: int = DEFAULT_EXPIRY_SECONDS
    min_final_cltv_expiry_delta: int = DEFAULT_MIN_FINAL_CLTV_EXPIRY_DELTA
    route_hints: tuple[tuple[RouteHop, ...], ...] = ()
    fallbacks: tuple[Fallback, ...] = ()
    features: Features = Features()
    payment_metadata: bytes | None = None

    @property
    def expires_at(self) -> int:
        """The first second, since 1970, at which it should not be paid any more."""
        return self.timestamp + self.expiry_seconds

    def is_about(self, description: str) -> bool:
        """Whether this is the description that the payee committed to."""
        # b11-invoices.3: a description that came by another way must match the hash
        if self.description_hash is None:
            return description == self.description
        return sha256(description.encode("utf-8", "replace")) == self.description_hash


# ── reading ──────────────────────────────────────────────────────────────────────────────────


def decode(text: str, understood: Features | None = PAYABLE) -> Invoice:
    """The invoice in a text, with or without the URI scheme, its signature checked.

    `understood` are the features that an invoice may require of its payer; None stands for all
    that have a name, to show an invoice without the intent to pay it.

    Raises:
        InvalidInvoice: one of its subclasses, by the rule that is broken.
    """
    human, words = _unwrapped(text)
    currency, amount_msat = _read_human_part(human)
    if len(words) < _TIMESTAMP_WORDS + _SIGNATURE_WORDS:
        raise TruncatedInvoice("timestamp or signature")
    signed, signature = words[:-_SIGNATURE_WORDS], bytes_padded(words[-_SIGNATURE_WORDS:])
    fields = _usable(split_fields(signed[_TIMESTAMP_WORDS:]))
    _check_descriptions(fields)
    features = _read_features(fields.get("9", [b""])[0], understood)
    digest = signed_digest(human, signed)
    return Invoice(
        currency=currency,
        amount_msat=amount_msat,
        timestamp=number_of(signed[:_TIMESTAMP_WORDS]),
        payment_hash=_required_bytes(fields, "p", "payment_hash"),
        payment_secret=_required_bytes(fields, "s", "payment_secret"),
        payee=_payee(fields, digest, signature),
        description=_description(fields),
        description_hash=_optional_bytes(fields, "h"),
        expiry_seconds=_minimal_number(fields, "x", DEFAULT_EXPIRY_SECONDS),
        min_final_cltv_expiry_delta=_minimal_number(fields, "c", DEFAULT_MIN_FINAL_CLTV_EXPIRY_DELTA),
        route_hints=tuple(map(_read_route_hint, fields.get("r", ()))),
        fallbacks=tuple(_read_fallbacks(fields.get("f", ()))),
        features=features,
        payment_metadata=_optional_bytes(fields, "m"),
    )


def signature_of(text: str) -> bytes:
    """The signature under an invoice that has been read: r and s, without the recovery number."""
    return bytes_padded(_unwrapped(text)[1][-_SIGNATURE_WORDS:])[:64]


def split_fields(words: bytes) -> list[tuple[str, bytes]]:
    """The tagged fields in their order: the letter, and the words of the contents.

    Raises:
        TruncatedInvoice: the last one does not end where the words do.
    """
    fields, at = [], 0
    while at < len(words):
        if len(words) - at < 3:
            raise TruncatedInvoice("last field")
        end = at + 3 + (words[at + 1] << 5) + words[at + 2]
        if end > len(words):
            raise TruncatedInvoice("last field")
        fields.append((letters_of(words[at : at + 1]), words[at + 3 : end]))
        at = end
    return fields


def signed_digest(human: str, signed_words: bytes) -> bytes:
    """What the signature is over: the part before the separator and the words as whole bytes."""
    return sha256(human.encode(), bytes_padded(signed_words))


def _unwrapped(text: str) -> tuple[str, bytes]:
    # b11-invoices.1: bech32 of any length, in one case
    if text[: len(URI_SCHEME)].lower() == URI_SCHEME:
        text = text[len(URI_SCHEME) :]
    try:
        decoded = decode_bech32(text)
    except InvalidBech32 as why:
        raise NotBech32(why) from None
    if decoded.checksum is not Checksum.BECH32:
        raise WrongChecksumKind
    return decoded.prefix, decoded.words


def _read_human_part(human: str) -> tuple[str, Msat | None]:
    parts = _HUMAN_PART.fullmatch(human)
    if parts is None or parts[1] not in CURRENCY.values():
        raise UnknownPrefix(human)
    return parts[1], None if parts[2] is None else _read_amount(parts[2])


def _read_amount(text: str) -> Msat:
    parts = _AMOUNT.fullmatch(text)
    if parts is None:
        raise BadAmount(text)
    amount_msat, rest = divmod(int(parts[1]) * _PICO_PER_UNIT[parts[2]], _PICO_PER_MSAT)
    if rest:
        raise SubMillisatoshi(text)
    if amount_msat > MAX_MSAT:
        raise BadAmount(text)
    return Msat(amount_msat)


def _usable(fields: Iterable[tuple[str, bytes]]) -> dict[str, list[bytes]]:
    """The fields by letter, in their order, without those of a wrong length.

    The specification's text would have an invoice with such a field refused, its examples have
    the field ignored. We ignore it: without a good one of the same letter the invoice falls anyway.
    """
    by_letter: dict[str, list[bytes]] = {}
    for letter, words in fields:
        if len(words) == _WORDS_OF_FIXED.get(letter, len(words)):
            by_letter.setdefault(letter, []).append(words)
    return by_letter


def _optional_bytes(fields: dict[str, list[bytes]], letter: str) -> bytes | None:
    # Zero padding is the writer's duty; refusing another one's would protect nobody.
    return bytes_within(fields[letter][0]) if letter in fields else None


def _required_bytes(fields: dict[str, list[bytes]], letter: str, name: str) -> bytes:
    # b11-invoices.3: no payment without a hash and a secret; of several, the first is preferred
    if letter not in fields:
        raise MissingField(name)
    return bytes_within(fields[letter][0])


def _check_descriptions(fields: dict[str, list[bytes]]) -> None:
    # b11-invoices.3: a description or the hash of one, not both
    if "d" in fields and "h" in fields:
        raise BothDescriptions
    if "d" not in fields and "h" not in fields:
        raise MissingField("description")


def _description(fields: dict[str, list[bytes]]) -> str | None:
    raw = _optional_bytes(fields, "d")
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        raise MalformedField("d") from None


def _minimal_number(fields: dict[str, list[bytes]], letter: str, default: int) -> int:
    if letter not in fields:
        return default
    words = fields[letter][0]
    # b11-invoices.2: the shortest form, and no wider than the 64 bits anyone computes with
    if words[:1] == b"\x00":
        raise NotMinimalField(letter)
    number = number_of(words)
    if number >> 64:
        raise MalformedField(letter)
    return number


def _read_features(words: bytes, understood: Features | None) -> Features:
    if words[:1] == b"\x00":
        raise NotMinimalField("9")
    features = Features(number_of(words))
    # b11-invoices.3: what must be understood and is not forbids to pay
    bit = features.unknown_even(understood)
    if bit is not None:
        raise UnknownRequiredFeature(bit)
    for feature, needs in features.missing_dependencies():
        raise MissingFeatureDependency(feature, needs)
    return features


def _read_route_hint(words: bytes) -> tuple[RouteHop, ...]:
    raw = bytes_within(words)
    if not raw or len(raw) % _HOP_BYTES:
        raise MalformedField("r")
    return tuple(_read_hop(raw[at : at + _HOP_BYTES]) for at in range(0, len(raw), _HOP_BYTES))


def _read_hop(raw: bytes) -> RouteHop:
    if not is_point(raw[:33]):
        raise MalformedField("r")
    return RouteHop(
        pubkey=raw[:33],
        short_channel_id=int.from_bytes(raw[33:41], "big"),
        fee_base_msat=Msat(int.from_bytes(raw[41:45], "big")),
        fee_proportional_millionths=int.from_bytes(raw[45:49], "big"),
        cltv_expiry_delta=int.from_bytes(raw[49:], "big"),
    )


def _read_fallbacks(fields: Iterable[bytes]) -> Iterator[Fallback]:
    for words in fields:
        fallback = Fallback(words[0] if words else 31, bytes_within(words[1:]))
        # b11-invoices.3: what cannot be paid to is no reason to refuse the rest
        if is_payable(fallback):
            yield fallback


def is_payable(fallback: Fallback) -> bool:
    """Whether the version is known, and the program as long as it says."""
    if fallback.version in (_P2PKH_VERSION, _P2SH_VERSION):
        return len(fallback.program) == 20
    return is_witness_program(fallback.version, fallback.program)


def _payee(fields: dict[str, list[bytes]], digest: bytes, signature: bytes) -> Point:
    # b11-invoices.4: a named payee signs with a low S; an unnamed one is whoever did sign
    if "n" not in fields:
        try:
            return recover(digest, signature)
        except InvalidSignature:
            raise BadInvoiceSignature from None
    payee, compact = bytes_within(fields["n"][0]), signature[:64]
    if not has_low_s(compact):
        raise HighSignature
    if not is_signed(payee, digest, compact):
        raise BadInvoiceSignature
    return payee


# ── writing ──────────────────────────────────────────────────────────────────────────────────


def encode(invoice: Invoice, secret: Secret) -> str:
    """The text of an invoice, in lower case, signed by its payee's secret.

    Raises:
        UnwritableInvoice: a value that no invoice can say, or that its payee would not sign.
    """
    if point_of(secret) != invoice.payee:
        raise UnwritableInvoice("payee", "the secret is another node's")
    return sign_fields(human_part(invoice), invoice.timestamp, tagged_fields(invoice), secret)


def sign_fields(human: str, timestamp: int, fields: Iterable[tuple[str, bytes]], secret: Secret) -> str:
    """The text of an invoice from its parts: letters and words of the fields, in this order.

    Raises:
        UnwritableInvoice: a field is longer than its length can say, or the time is out of range.
    """
    if timestamp < 0 or timestamp >> 5 * _TIMESTAMP_WORDS:
        raise UnwritableInvoice("timestamp", "it takes more than 35 bits")
    signed = _words_of_number(timestamp).rjust(_TIMESTAMP_WORDS, b"\x00")
    signed += b"".join(_tagged(letter, words) for letter, words in fields)
    signature = sign_recoverable(secret, signed_digest(human, signed))
    return encode_bech32(human, signed + words_of(signature), Checksum.BECH32)


def human_part(invoice: Invoice) -> str:
    """What stands before the separator: the network and the amount in its shortest form."""
    if invoice.currency not in CURRENCY.values():
        raise UnwritableInvoice("currency", "no known network has it")
    if invoice.amount_msat is None:
        return f"ln{invoice.currency}"
    if not 0 < invoice.amount_msat <= MAX_MSAT:
        raise UnwritableInvoice("amount", "it is not positive, or more than all bitcoin")
    amount_pico = invoice.amount_msat * _PICO_PER_MSAT
    letter, unit = next(item for item in _PICO_PER_UNIT.items() if amount_pico % item[1] == 0)
    return f"ln{invoice.currency}{amount_pico // unit}{letter}"


def tagged_fields(invoice: Invoice) -> list[tuple[str, bytes]]:
    """The fields in the order we write them: the letter, and the words of the contents.

    The payee is left out, as the signature tells it; so is what equals its default, except the
    final delta, for which older readers assume another one.
    """
    # b11-invoices.2: one p, one s, one of d and h, minimal x, c and 9
    fields = [("s", words_of(_sized(invoice.payment_secret, 32, "payment_secret")))]
    fields.append(("p", words_of(_sized(invoice.payment_hash, 32, "payment_hash"))))
    fields.append(_description_field(invoice))
    if invoice.payment_metadata is not None:
        fields.append(("m", words_of(invoice.payment_metadata)))
    if invoice.expiry_seconds != DEFAULT_EXPIRY_SECONDS:
        fields.append(("x", _bounded(invoice.expiry_seconds, 64, "expiry_seconds")))
    fields.append(("c", _bounded(invoice.min_final_cltv_expiry_delta, 64, "min_final_cltv_expiry_delta")))
    fields += [("f", _fallback_words(fallback)) for fallback in invoice.fallbacks]
    fields += [("r", _route_hint_words(hint)) for hint in invoice.route_hints]
    if invoice.features.bits:
        fields.append(("9", _words_of_number(invoice.features.bits)))
    return fields


def _tagged(letter: str, words: bytes) -> bytes:
    if len(words) > _MAX_FIELD_WORDS:
        raise UnwritableInvoice(f"field {letter}", f"it takes more than {MAX_FIELD_BYTES} bytes")
    return words_of_letters(letter) + bytes((len(words) >> 5, len(words) & 31)) + words


def _description_field(invoice: Invoice) -> tuple[str, bytes]:
    if (invoice.description is None) == (invoice.description_hash is None):
        raise UnwritableInvoice("description", "there must be one, or the hash of one")
    if invoice.description_hash is not None:
        return "h", words_of(_sized(invoice.description_hash, 32, "description_hash"))
    assert invoice.description is not None
    try:
        return "d", words_of(invoice.description.encode())
    except UnicodeEncodeError:
        raise UnwritableInvoice("description", "it is not valid Unicode") from None


def _sized(raw: bytes, length: int, field: str) -> bytes:
    if len(raw) != length:
        raise UnwritableInvoice(field, f"it is not {length} bytes long")
    return raw


def _bounded(number: int, bits: int, field: str) -> bytes:
    if number < 0 or number >> bits:
        raise UnwritableInvoice(field, f"it takes more than {bits} bits")
    return _words_of_number(number)


def _words_of_number(number: int) -> bytes:
    """The fewest words that hold it; none for zero."""
    length = (number.bit_length() + 4) // 5
    return bytes(number >> 5 * at & 31 for at in range(length - 1, -1, -1))


def _fallback_words(fallback: Fallback) -> bytes:
    if not is_payable(fallback):
        raise UnwritableInvoice("fallback", "no address has that version and length")
    return bytes([fallback.version]) + words_of(fallback.program)


def _route_hint_words(hint: tuple[RouteHop, ...]) -> bytes:
    if not hint:
        raise UnwritableInvoice("route hint", "it has no channel")
    return words_of(b"".join(map(_hop_bytes, hint)))


def _hop_bytes(hop: RouteHop) -> bytes:
    if not is_point(hop.pubkey):
        raise UnwritableInvoice("route hint", "it begins at no point of the curve")
    try:
        return hop.pubkey + b"".join(
            (
                hop.short_channel_id.to_bytes(8, "big"),
                hop.fee_base_msat.to_bytes(4, "big"),
                hop.fee_proportional_millionths.to_bytes(4, "big"),
                hop.cltv_expiry_delta.to_bytes(2, "big"),
            )
        )
    except OverflowError:
        raise UnwritableInvoice("route hint", "a number does not fit its bytes") from None
