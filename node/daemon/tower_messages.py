"""What a node and its watchtower say to each other, over BOLT 8.

The numbers are odd and from the range that BOLT 1 leaves to applications. The node numbers what it
asks; the tower answers each in turn, once the answer holds whatever happens to it.
"""

from enum import IntEnum
from struct import Struct as Layer

from msgspec import Struct

from htlc.watchtower import HINT_BYTES, MOST_BLOB_BYTES
from wire.codec import DecodeError, Truncated, WrongLength

ADD_JUSTICE, STORED, REFUSED, FORGET_CHANNEL = 48101, 48103, 48105, 48107
TAG_BYTES = 16

_add = Layer(f">Q{TAG_BYTES}s{HINT_BYTES}sB")
_forget = Layer(f">Q{TAG_BYTES}s")
_stored = Layer(">Q")
_refused = Layer(">QH")


class Reason(IntEnum):
    """Why a tower does not keep something."""

    QUOTA = 1
    """You have as much here as anybody may."""
    FULL = 2
    """The tower has as much as it will."""

    @property
    def text(self) -> str:
        return {Reason.QUOTA: "our quota there is used up", Reason.FULL: "it is full"}[self]


class UnknownReason(DecodeError):
    """A refusal for a reason that is not in the list."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"refused for the unknown reason {code}")


class AddJustice(Struct, frozen=True, gc=False):
    """Keep this part of the justice for a revoked commitment. `tag` stands for its channel."""

    request_id: int
    tag: bytes
    hint: bytes
    part: int
    blob: bytes


class ForgetChannel(Struct, frozen=True, gc=False):
    """The channel is over: keep nothing of it."""

    request_id: int
    tag: bytes


class Refused(Struct, frozen=True, gc=False):
    """The tower does not do what it was asked."""

    request_id: int
    reason: Reason


def write_add(message: AddJustice) -> bytes:
    """The payload of an `add_justice`."""
    return _add.pack(message.request_id, message.tag, message.hint, message.part) + message.blob


def read_add(payload: bytes) -> AddJustice:
    """Raises DecodeError."""
    if len(payload) <= _add.size:
        raise Truncated("add_justice")
    if len(payload) > _add.size + MOST_BLOB_BYTES:
        raise WrongLength("add_justice", len(payload))
    request_id, tag, hint, part = _add.unpack_from(payload)
    return AddJustice(request_id, tag, hint, part, payload[_add.size :])


def write_forget(message: ForgetChannel) -> bytes:
    """The payload of a `forget_channel`."""
    return _forget.pack(message.request_id, message.tag)


def read_forget(payload: bytes) -> ForgetChannel:
    """Raises DecodeError."""
    return ForgetChannel(*_forget.unpack(_sized(_forget, payload, "forget_channel")))


def write_stored(request_id: int) -> bytes:
    """The payload of a `stored`: it is done, for good."""
    return _stored.pack(request_id)


def read_stored(payload: bytes) -> int:
    """Raises DecodeError."""
    request_id: int = _stored.unpack(_sized(_stored, payload, "stored"))[0]
    return request_id


def write_refused(message: Refused) -> bytes:
    """The payload of a `refused`."""
    return _refused.pack(message.request_id, message.reason)


def read_refused(payload: bytes) -> Refused:
    """Raises DecodeError."""
    request_id, code = _refused.unpack(_sized(_refused, payload, "refused"))
    try:
        return Refused(request_id, Reason(code))
    except ValueError:
        raise UnknownReason(code) from None


def _sized(layer: Layer, payload: bytes, part: str) -> bytes:
    if len(payload) != layer.size:
        raise WrongLength(part, len(payload))
    return payload
