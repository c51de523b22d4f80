"""What a provider promises of a content: its name, its shape and its price, signed.

A manifest is a TLV stream (BOLT 1), so that it can grow; one record is the signature of the
provider's node key over a tagged hash of all the others, unknown ones too. It says nothing of
the single chunk: offers do, and they are sold at the price that stands here.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from node.stream.merkle import InvalidLayout, Layout
from wire.codec import DecodeError, WrongLength
from wire.crypto.hashes import tagged_hash
from wire.crypto.secp256k1 import Point, Signature, is_signed
from wire.tlv import read_records, read_tu32, read_tu64, write_records, write_truncated
from wire.units import MAX_MSAT, Msat

MAX_MANIFEST_BYTES = 4096
MAX_TITLE_BYTES = 256

_TAG = b"rill/manifest/1"
_ROOT, _LENGTH, _CHUNK_SIZE, _PRICE, _TITLE, _PROVIDER, _FREE, _SIGNATURE = 0, 2, 4, 6, 8, 10, 14, 240
_NEEDED = (_ROOT, _LENGTH, _CHUNK_SIZE, _PRICE, _TITLE, _PROVIDER, _SIGNATURE)
_KNOWN = (*_NEEDED, _FREE)


class InvalidManifest(ValueError):
    """The bytes are a manifest, but one that nobody should buy by."""


class ManifestIncomplete(DecodeError):
    """A record that every manifest has is missing."""

    def __init__(self, type: int) -> None:
        self.type = type
        super().__init__(f"the manifest lacks record {type}")


class UnknownManifestRecord(DecodeError):
    """A record that must be understood is not."""

    def __init__(self, type: int) -> None:
        self.type = type
        super().__init__(f"the manifest's record {type} is even and unknown")


class BadManifestRecord(DecodeError):
    """A record whose value is out of its range."""

    def __init__(self, name: str, why: str) -> None:
        self.name, self.why = name, why
        super().__init__(f"the manifest's {name}: {why}")


class ManifestNotSigned(InvalidManifest):
    """The provider it names did not sign it."""

    def __init__(self, provider: Point) -> None:
        self.provider = provider
        super().__init__(f"the manifest is not signed by {provider.hex()}")


class WrongManifest(InvalidManifest):
    """It is sound, but of another content or another provider than asked for."""

    def __init__(self, field: str) -> None:
        self.field = field
        super().__init__(f"the manifest has another {field} than asked for")


class Manifest(Struct, frozen=True):
    """A content for sale.

    `raw` is the encoding that was signed; `unsigned` makes it, `read_manifest` keeps it.
    """

    provider: Point
    root: bytes
    layout: Layout
    price_msat: Msat
    title: str
    raw: bytes
    free_chunks: int = 0
    """How many chunks at the beginning cost nothing."""

    @property
    def total_msat(self) -> Msat:
        """What all chunks cost, routing fees apart."""
        return Msat(self.price_msat * max(0, self.layout.chunk_count - self.free_chunks))

    def price_of(self, index: int) -> Msat:
        """What a chunk costs."""
        return Msat(0) if index < self.free_chunks else self.price_msat


def unsigned(
    provider: Point, root: bytes, layout: Layout, price_msat: Msat, title: str, free_chunks: int = 0
) -> bytes:
    """The records of a manifest before its signature.

    Raises:
        InvalidLayout: no content has this layout.
        BadManifestRecord: the price or the title is out of range.
    """
    _check_price(price_msat)
    layout.checked()
    if len(title.encode()) > MAX_TITLE_BYTES:
        raise BadManifestRecord("title", f"is longer than {MAX_TITLE_BYTES} bytes")
    free = [(_FREE, write_truncated(free_chunks))] if free_chunks else []
    return write_records(
        [
            (_ROOT, root),
            (_LENGTH, write_truncated(layout.length)),
            (_CHUNK_SIZE, write_truncated(layout.chunk_size)),
            (_PRICE, write_truncated(price_msat)),
            (_TITLE, title.encode()),
            (_PROVIDER, provider),
            *free,
        ]
    )


def digest_of(records: bytes) -> bytes:
    """What the provider signs."""
    return tagged_hash(_TAG, records)


def signed(records: bytes, signature: Signature) -> bytes:
    """The manifest's encoding, complete."""
    return write_records([*read_records(records), (_SIGNATURE, signature)])


def read_manifest(raw: bytes) -> Manifest:
    """The manifest in these bytes, whose signature holds.

    Raises:
        DecodeError: the bytes are no manifest.
        ManifestNotSigned: its provider did not sign it.
    """
    if len(raw) > MAX_MANIFEST_BYTES:
        raise WrongLength("a manifest", len(raw))
    records = read_records(raw)
    known = _known_records(records)
    manifest = _manifest(known, raw)
    # read_records takes the shortest forms only, so this gives the signed bytes back
    signed_part = write_records([(type, value) for type, value in records if type != _SIGNATURE])
    if not is_signed(manifest.provider, digest_of(signed_part), known[_SIGNATURE]):
        raise ManifestNotSigned(manifest.provider)
    return manifest


def _known_records(records: Sequence[tuple[int, bytes]]) -> dict[int, bytes]:
    found = dict(records)
    for type in found:
        if type not in _KNOWN and not type & 1:
            raise UnknownManifestRecord(type)
    for type in _NEEDED:
        if type not in found:
            raise ManifestIncomplete(type)
    return found


def _manifest(records: dict[int, bytes], raw: bytes) -> Manifest:
    for type, name, size in ((_ROOT, "root", 32), (_PROVIDER, "provider", 33), (_SIGNATURE, "signature", 64)):
        if len(records[type]) != size:
            raise BadManifestRecord(name, f"is not {size} bytes")
    layout = Layout(read_tu64(records[_LENGTH]), read_tu32(records[_CHUNK_SIZE]))
    try:
        layout.checked()
    except InvalidLayout as reason:
        raise BadManifestRecord("layout", str(reason)) from None
    price_msat = _check_price(read_tu64(records[_PRICE]))
    free_chunks = read_tu32(records[_FREE]) if _FREE in records else 0
    title = _title(records[_TITLE])
    return Manifest(records[_PROVIDER], records[_ROOT], layout, price_msat, title, raw, free_chunks)


def _check_price(price_msat: int) -> Msat:
    if not 1 <= price_msat <= MAX_MSAT:
        raise BadManifestRecord("price", f"{price_msat} msat is no amount that a payment can have")
    return Msat(price_msat)


def _title(raw: bytes) -> str:
    """The title; it is shown to people, so control characters have no place in it."""
    if len(raw) > MAX_TITLE_BYTES:
        raise BadManifestRecord("title", f"is longer than {MAX_TITLE_BYTES} bytes")
    try:
        title = raw.decode()
    except UnicodeDecodeError:
        raise BadManifestRecord("title", "is not UTF-8") from None
    if not title.isprintable():
        raise BadManifestRecord("title", "has characters that cannot be shown")
    return title


def manifest_view(manifest: Manifest) -> dict[str, Any]:
    """A content on sale, for JSON."""
    return {
        "root": manifest.root.hex(),
        "title": manifest.title,
        "length": manifest.layout.length,
        "chunk_size": manifest.layout.chunk_size,
        "chunks": manifest.layout.chunk_count,
        "price_msat": manifest.price_msat,
        "free_chunks": manifest.free_chunks,
        "total_msat": manifest.total_msat,
        "provider": manifest.provider.hex(),
    }
