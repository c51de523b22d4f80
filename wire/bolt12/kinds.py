"""What a record of an offer, an invoice request or an invoice may contain (BOLT 12).

Each kind reads a record's whole value and writes it back to the same bytes, because a signature
covers the bytes as they came.
"""

from collections.abc import Callable, Sequence
from struct import Struct as Layout
from struct import error as struct_error
from typing import Any, TypeVar

from msgspec import Struct

from wire.blinded_path import BlindedPath, decode_path, encode_path
from wire.codec import AmountTooLarge, BadPoint, DecodeError, Truncated, WrongLength
from wire.crypto.secp256k1 import is_point
from wire.tlv import read_truncated, write_truncated
from wire.units import MAX_MSAT, Msat

T = TypeVar("T")


class NotUtf8(DecodeError):
    """A text is no UTF-8."""

    def __init__(self) -> None:
        super().__init__("a text is not UTF-8")


class PayInfo(Struct, frozen=True, gc=False):
    """What a blinded path costs, and what it carries: `blinded_payinfo`."""

    fee_base_msat: Msat
    fee_proportional_millionths: int
    cltv_expiry_delta: int
    htlc_minimum_msat: Msat
    htlc_maximum_msat: Msat
    features: bytes = b""


class FallbackAddress(Struct, frozen=True, gc=False):
    """Where on chain to pay instead: a witness version and program."""

    version: int
    address: bytes


class DnsName(Struct, frozen=True, gc=False):
    """A BIP 353 name: what is before the `@`, and what is behind it."""

    name: bytes
    domain: bytes


class Kind(Struct, frozen=True):
    """How a record's value is read and written; reading raises DecodeError."""

    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]


_PAY_INFO, _FALLBACK = Layout(">IIHQQH"), Layout(">BH")


def _fixed(size: int) -> Kind:
    def read(raw: bytes) -> bytes:
        if len(raw) != size:
            raise WrongLength("a record", len(raw))
        return raw

    return Kind(read, bytes)


def _truncated(limit: int) -> Kind:
    return Kind(lambda raw: read_truncated(raw, limit), write_truncated)


def _read_msat(raw: bytes) -> Msat:
    # framing-tlv.7: amounts that can move money are capped when read
    amount_msat = read_truncated(raw, 8)
    if amount_msat > MAX_MSAT:
        raise AmountTooLarge("an amount", amount_msat)
    return Msat(amount_msat)


def _read_text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise NotUtf8 from None


def _read_point(raw: bytes) -> bytes:
    if not is_point(raw):
        raise BadPoint("a key")
    return raw


def _read_hashes(raw: bytes) -> tuple[bytes, ...]:
    # an offer for no chain at all could never be answered
    if not raw or len(raw) % 32:
        raise WrongLength("a list of chains", len(raw))
    return tuple(raw[at : at + 32] for at in range(0, len(raw), 32))


def _all(read: Callable[[bytes, int], tuple[T, int]]) -> Callable[[bytes], tuple[T, ...]]:
    """Reads one after another until the record ends."""

    def read_all(raw: bytes) -> tuple[T, ...]:
        found, at = [], 0
        while at < len(raw):
            each, at = read(raw, at)
            found.append(each)
        return tuple(found)

    return read_all


def _read_pay_info(raw: bytes, at: int) -> tuple[PayInfo, int]:
    try:
        base, rate, delta, least, most, size = _PAY_INFO.unpack_from(raw, at)
    except struct_error:
        raise Truncated("blinded_payinfo") from None
    features, at = _cut(raw, at + _PAY_INFO.size, size)
    return PayInfo(Msat(base), rate, delta, Msat(least), Msat(most), features), at


def _write_pay_infos(infos: Sequence[PayInfo]) -> bytes:
    return b"".join(
        _PAY_INFO.pack(
            each.fee_base_msat,
            each.fee_proportional_millionths,
            each.cltv_expiry_delta,
            each.htlc_minimum_msat,
            each.htlc_maximum_msat,
            len(each.features),
        )
        + each.features
        for each in infos
    )


def _read_fallback(raw: bytes, at: int) -> tuple[FallbackAddress, int]:
    try:
        version, size = _FALLBACK.unpack_from(raw, at)
    except struct_error:
        raise Truncated("fallback_address") from None
    address, at = _cut(raw, at + _FALLBACK.size, size)
    return FallbackAddress(version, address), at


def _write_fallbacks(fallbacks: Sequence[FallbackAddress]) -> bytes:
    return b"".join(_FALLBACK.pack(each.version, len(each.address)) + each.address for each in fallbacks)


def _read_name(raw: bytes) -> DnsName:
    name, at = _cut(raw, 1, raw[0] if raw else 0)
    domain, at = _cut(raw, at + 1, raw[at] if at < len(raw) else 0)
    if at != len(raw):
        raise WrongLength("invreq_bip_353_name", len(raw))
    return DnsName(name, domain)


def _write_name(dns: DnsName) -> bytes:
    return bytes((len(dns.name),)) + dns.name + bytes((len(dns.domain),)) + dns.domain


def _cut(raw: bytes, at: int, size: int) -> tuple[bytes, int]:
    if at + size > len(raw):
        raise Truncated("a record")
    return raw[at : at + size], at + size


def _write_paths(paths: Sequence[BlindedPath]) -> bytes:
    return b"".join(map(encode_path, paths))


BYTES = Kind(bytes, bytes)
TEXT = Kind(_read_text, str.encode)
TU32, TU64 = _truncated(4), _truncated(8)
MSAT = Kind(_read_msat, write_truncated)
POINT = Kind(_read_point, bytes)
HASH, SIGNATURE = _fixed(32), _fixed(64)
HASHES = Kind(_read_hashes, b"".join)
PATHS = Kind(_all(decode_path), _write_paths)
PAY_INFOS = Kind(_all(_read_pay_info), _write_pay_infos)
FALLBACKS = Kind(_all(_read_fallback), _write_fallbacks)
DNS_NAME = Kind(_read_name, _write_name)
