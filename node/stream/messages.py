"""What viewer and provider say to each other, over any BOLT 8 connection.

The numbers are odd and from the range that BOLT 1 leaves to applications, so a node that does
not know them ignores them. Each message begins with the number that the viewer gave its request;
a ciphertext comes in as many fragments as the 65535-byte frame needs, in order.
"""

from enum import IntEnum
from struct import Struct as Layer
from typing import Any

from msgspec import Struct

from node.stream.manifest import MAX_MANIFEST_BYTES
from node.stream.offer import MAX_OFFER_BYTES
from wire.codec import DecodeError, Truncated, WrongLength

MAX_FRAGMENT_BYTES = 65535 - 2 - 8
MAX_PAGE_BYTES = 60_000
"""The manifests in one message; a catalogue that is longer comes page by page."""
MAX_OPEN_REQUESTS = 512
"""A viewer leaves no more requests unanswered; a provider need not hear those beyond."""

_request_id = Layer(">Q")
_get_manifest = Layer(">Q32s")
_request_chunk = Layer(">Q32sI")
_refusal = Layer(">QH")
_get_catalogue = Layer(">QI")
_catalogue = Layer(">QI")
_size = Layer(">H")


class Reason(IntEnum):
    """Why a provider does not sell."""

    UNKNOWN_CONTENT = 1
    NO_SUCH_CHUNK = 2
    UNPAID = 3
    """Too much has been sent that was not paid for."""
    UNAVAILABLE = 4
    """The content cannot be read any more."""
    NOT_HERE_YET = 5
    """The seller is still buying it itself."""


class UnknownReason(DecodeError):
    """A refusal for a reason that is not in the list."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"refused for the unknown reason {code}")


class GetManifest(Struct, frozen=True, gc=False):
    """Ask for the manifest of a content."""

    request_id: int
    root: bytes


class ManifestReply(Struct, frozen=True, gc=False):
    """The manifest asked for, still encoded."""

    request_id: int
    manifest: bytes


class GetCatalogue(Struct, frozen=True, gc=False):
    """Ask what there is, from the title of this number on."""

    request_id: int
    first: int


class CatalogueReply(Struct, frozen=True, gc=False):
    """How many titles there are, and the next manifests, still encoded."""

    request_id: int
    total: int
    manifests: tuple[bytes, ...]


class RequestChunk(Struct, frozen=True, gc=False):
    """Ask for the offer and the ciphertext of a chunk."""

    request_id: int
    root: bytes
    index: int


class OfferReply(Struct, frozen=True, gc=False):
    """The offer of the chunk asked for, still encoded; its ciphertext follows."""

    request_id: int
    offer: bytes


class Fragment(Struct, frozen=True, gc=False):
    """The next bytes of a ciphertext."""

    request_id: int
    ciphertext: bytes


class Refusal(Struct, frozen=True, gc=False):
    """No sale."""

    request_id: int
    reason: Reason


def write_get_manifest(message: GetManifest) -> bytes:
    """The payload of a `get_manifest`."""
    return _get_manifest.pack(message.request_id, message.root)


def read_get_manifest(payload: bytes) -> GetManifest:
    """Raises DecodeError."""
    request_id, root = _exactly(_get_manifest, payload, "get_manifest")
    return GetManifest(request_id, root)


def write_manifest(message: ManifestReply) -> bytes:
    """The payload of a `manifest`."""
    return _request_id.pack(message.request_id) + message.manifest


def read_manifest_reply(payload: bytes) -> ManifestReply:
    """Raises DecodeError."""
    return ManifestReply(*_numbered(payload, "manifest", MAX_MANIFEST_BYTES))


def write_get_catalogue(message: GetCatalogue) -> bytes:
    """The payload of a `get_catalogue`."""
    return _get_catalogue.pack(message.request_id, message.first)


def read_get_catalogue(payload: bytes) -> GetCatalogue:
    """Raises DecodeError."""
    return GetCatalogue(*_exactly(_get_catalogue, payload, "get_catalogue"))


def write_catalogue(message: CatalogueReply) -> bytes:
    """The payload of a `catalogue`, each manifest after its length."""
    sized = [_size.pack(len(manifest)) + manifest for manifest in message.manifests]
    return _catalogue.pack(message.request_id, message.total) + b"".join(sized)


def read_catalogue_reply(payload: bytes) -> CatalogueReply:
    """Raises DecodeError."""
    if len(payload) < _catalogue.size:
        raise Truncated("a catalogue")
    request_id, total = _catalogue.unpack_from(payload)
    manifests, at = [], _catalogue.size
    while at < len(payload):
        if at + _size.size > len(payload):
            raise Truncated("a catalogue")
        start = at + _size.size
        at = start + _size.unpack_from(payload, at)[0]
        if at > len(payload):
            raise Truncated("a catalogue")
        manifests.append(payload[start:at])
    return CatalogueReply(request_id, total, tuple(manifests))


def write_request_chunk(message: RequestChunk) -> bytes:
    """The payload of a `request_chunk`."""
    return _request_chunk.pack(message.request_id, message.root, message.index)


def read_request_chunk(payload: bytes) -> RequestChunk:
    """Raises DecodeError."""
    request_id, root, index = _exactly(_request_chunk, payload, "request_chunk")
    return RequestChunk(request_id, root, index)


def write_offer(message: OfferReply) -> bytes:
    """The payload of an `offer`."""
    return _request_id.pack(message.request_id) + message.offer


def read_offer_reply(payload: bytes) -> OfferReply:
    """Raises DecodeError."""
    return OfferReply(*_numbered(payload, "offer", MAX_OFFER_BYTES))


def write_fragments(request_id: int, ciphertext: bytes) -> list[bytes]:
    """The payloads of the `ciphertext` messages that carry these bytes."""
    head, view = _request_id.pack(request_id), memoryview(ciphertext)
    starts = range(0, len(ciphertext), MAX_FRAGMENT_BYTES)
    return [b"".join((head, view[at : at + MAX_FRAGMENT_BYTES])) for at in starts]


def read_fragment(payload: bytes) -> Fragment:
    """Raises DecodeError."""
    return Fragment(*_numbered(payload, "ciphertext", MAX_FRAGMENT_BYTES))


def write_refusal(message: Refusal) -> bytes:
    """The payload of a `refusal`."""
    return _refusal.pack(message.request_id, message.reason)


def read_refusal(payload: bytes) -> Refusal:
    """Raises DecodeError."""
    request_id, code = _exactly(_refusal, payload, "refusal")
    try:
        return Refusal(request_id, Reason(code))
    except ValueError:
        raise UnknownReason(code) from None


def _exactly(layer: Layer, payload: bytes, part: str) -> tuple[Any, ...]:
    if len(payload) != layer.size:
        raise WrongLength(part, len(payload))
    return layer.unpack(payload)


def _numbered(payload: bytes, part: str, limit: int) -> tuple[int, bytes]:
    """A request number, then between one and `limit` bytes."""
    if len(payload) <= _request_id.size:
        raise Truncated(part)
    if len(payload) > _request_id.size + limit:
        raise WrongLength(part, len(payload))
    return _request_id.unpack_from(payload)[0], payload[_request_id.size :]
