"""Every message there is, by number and by class (BOLT 1, 2, 4, 7).

Codecs are compiled when a class is first met, so that importing this costs no more than the
classes themselves.
"""

from typing import TypeVar

from wire.codec import MAX_MESSAGE_BYTES, EncodeError, Message, MessageTooLong, Truncated, WrongMessage
from wire.messages import base, channel, gossip, interactive, onion
from wire.messages.base import Unknown
from wire.schema import Decode, Encode, message_codec

M = TypeVar("M", bound=Message)

MESSAGES: dict[int, type[Message]] = {
    cls.TYPE: cls
    for module in (base, channel, interactive, gossip, onion)
    for cls in vars(module).values()
    if isinstance(cls, type) and issubclass(cls, Message) and cls is not Message
}


class _Decoders(dict[int, Decode]):
    """The decode function of each number, compiled when first asked for."""

    def __missing__(self, number: int) -> Decode:
        if number not in MESSAGES:
            return _unknown
        self[number] = message_codec(MESSAGES[number]).decode
        return self[number]


class _Encoders(dict[type, Encode]):
    """The encode function of each class, compiled when first asked for."""

    def __missing__(self, cls: type) -> Encode:
        self[cls] = _encode_unknown if cls is Unknown else message_codec(cls).encode
        return self[cls]


def _unknown(raw: bytes) -> Unknown:
    return Unknown(raw[0] << 8 | raw[1], raw[2:])


def _encode_unknown(message: Unknown) -> bytes:
    return message.type.to_bytes(2, "big") + message.payload


_decoders, _encoders = _Decoders(), _Encoders()


def decode(raw: bytes | memoryview) -> Message | Unknown:
    """The message in the bytes, which start with its u16 type.

    Raises:
        DecodeError: a known message is malformed, or there is no type, or too many bytes.
    """
    if type(raw) is not bytes:
        raw = bytes(raw)
    if not 2 <= len(raw) <= MAX_MESSAGE_BYTES:
        raise Truncated("the message type") if len(raw) < 2 else MessageTooLong(len(raw))
    message: Message | Unknown = _decoders[raw[0] << 8 | raw[1]](raw)
    return message


def decode_as(cls: type[M], raw: bytes) -> M:
    """A message whose class is known to the caller, such as one of the custom range.

    Raises:
        DecodeError: it is malformed, or of another type.
    """
    if len(raw) < 2:
        raise Truncated("the message type")
    if raw[0] << 8 | raw[1] != cls.TYPE:
        raise WrongMessage(cls.__name__, raw[0] << 8 | raw[1])
    message: M = message_codec(cls).decode(raw)
    return message


def encode(message: Message | Unknown) -> bytes:
    """The bytes of a message, its u16 type first.

    Raises:
        EncodeError: a value does not fit its field, or the whole not into one message.
    """
    raw = _encoders[type(message)](message)
    if len(raw) > MAX_MESSAGE_BYTES:
        raise EncodeError(type(message).__name__, f"{len(raw)} bytes")
    return raw
