"""What the bytes of a message may be made of (BOLT 1, fundamental types), and how they may be wrong.

A message class annotates its fields with the aliases at the end of this module; `wire.schema`
compiles them into one decode and one encode function. The kinds are plain descriptions: they
hold no code that runs for a message.

Every fault of a peer's bytes is a `DecodeError`; a value of ours that no message can carry is an
`EncodeError`, which is a defect of this node.
"""

from enum import Enum
from typing import Annotated, ClassVar, TypeAlias

import msgspec

from wire.units import Msat, Sat

MAX_MESSAGE_BYTES = 65535


class DecodeError(ValueError):
    """The bytes break a rule of the encoding; the connection is to be closed (BOLT 1)."""


class Truncated(DecodeError):
    """The bytes end inside the named part."""

    def __init__(self, part: str) -> None:
        self.part = part
        super().__init__(f"the bytes end inside {part}")


class NotMinimal(DecodeError):
    """A BigSize or truncated integer takes more bytes than its value needs."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(f"{kind} is not in its shortest form")


class WrongLength(DecodeError):
    """A part has a length that its contents cannot have."""

    def __init__(self, part: str, length: int) -> None:
        self.part, self.length = part, length
        super().__init__(f"{part} cannot be {length} bytes long")


class BadPoint(DecodeError):
    """A field that must be a compressed point of the curve is not."""

    def __init__(self, field: str) -> None:
        self.field = field
        super().__init__(f"{field} is not a compressed point")


class AmountTooLarge(DecodeError):
    """An amount is above the 21 million bitcoin there can be."""

    def __init__(self, field: str, amount: int) -> None:
        self.field, self.amount = field, amount
        super().__init__(f"{field} of {amount} is more than all bitcoin")


class RecordsNotIncreasing(DecodeError):
    """A TLV record's type is not above the one before it."""

    def __init__(self, type: int, previous: int) -> None:
        self.type, self.previous = type, previous
        super().__init__(f"TLV record {type} follows record {previous}")


class UnknownEvenRecord(DecodeError):
    """A TLV record that must be understood is not."""

    def __init__(self, type: int) -> None:
        self.type = type
        super().__init__(f"TLV record {type} is even and unknown")


class MessageTooLong(DecodeError):
    """More bytes than the transport can frame."""

    def __init__(self, length: int) -> None:
        self.length = length
        super().__init__(f"a message of {length} bytes exceeds {MAX_MESSAGE_BYTES}")


class WrongMessage(DecodeError):
    """A message of another type than the caller reads."""

    def __init__(self, expected: str, type: int) -> None:
        self.expected, self.type = expected, type
        super().__init__(f"a message of type {type} is no {expected}")


class EncodeError(ValueError):
    """A value of ours does not fit the field it is written to."""

    def __init__(self, message: str, why: str) -> None:
        self.message, self.why = message, why
        super().__init__(f"{message} cannot be encoded: {why}")


class Message(msgspec.Struct, frozen=True, gc=False):
    """A Lightning message: its class is its schema (`wire.schema`), `TYPE` its number.

    Fields are named and ordered as on the wire, without those that only count others. The
    records of its TLV stream follow as optional fields, each named as its record.
    """

    TYPE: ClassVar[int]


class Check(Enum):
    """What the reader verifies of a fixed-size field beyond its size."""

    NOTHING = "nothing"
    POINT = "a point on the curve"
    POINT_PREFIX = "the first byte of a compressed point"
    SAT = "at most all bitcoin, in satoshi"
    MSAT = "at most all bitcoin, in millisatoshi"


class Fixed(msgspec.Struct, frozen=True):
    """A field of constant size: its `struct` format, without the byte order."""

    format: str
    check: Check = Check.NOTHING


class Counted(msgspec.Struct, frozen=True):
    """A u16 count, then so many bytes (no item), or so many items, as a tuple."""

    item: "Fixed | Counted | None" = None


class Rest(msgspec.Struct, frozen=True):
    """All remaining bytes (no item), or items up to the end, as a tuple.

    An item that is a class is a structure of fixed-size fields.
    """

    item: Fixed | type | None = None


class Extension(msgspec.Struct, frozen=True):
    """All remaining bytes, kept unread instead of parsed as a TLV stream."""


class Truncatable(msgspec.Struct, frozen=True):
    """An integer without its leading zero bytes, at most `limit` bytes; it ends its record."""

    limit: int


class BigSize(msgspec.Struct, frozen=True):
    """An integer of 1, 3, 5 or 9 bytes; it fills its record."""


class Flag(msgspec.Struct, frozen=True):
    """An empty record: present is True."""


class Group(msgspec.Struct, frozen=True):
    """A structure whose class annotates its own fields; it fills its record."""

    cls: type


Kind: TypeAlias = Fixed | Counted | Rest | Extension | Truncatable | BigSize | Flag | Group


class Record(msgspec.Struct, frozen=True):
    """This field is the TLV record of this type."""

    type: int
    kind: Kind


U8 = Annotated[int, Fixed("B")]
U16 = Annotated[int, Fixed("H")]
U32 = Annotated[int, Fixed("I")]
U64 = Annotated[int, Fixed("Q")]
S8 = Annotated[int, Fixed("b")]
S16 = Annotated[int, Fixed("h")]
S32 = Annotated[int, Fixed("i")]
S64 = Annotated[int, Fixed("q")]
Bytes32 = Annotated[bytes, Fixed("32s")]
ChainHash = Bytes32
ChannelId = Bytes32
Sha256 = Bytes32
Signature = Annotated[bytes, Fixed("64s")]
Point = Annotated[bytes, Fixed("33s", Check.POINT)]
# Gossip is verified by signature before use, which parses the key: no need to do it twice.
SignedPoint = Annotated[bytes, Fixed("33s", Check.POINT_PREFIX)]
ShortChannelId = Annotated[int, Fixed("Q")]
# framing-tlv.7: amounts that can move money are capped when read
SatU64 = Annotated[Sat, Fixed("Q", Check.SAT)]
MsatU64 = Annotated[Msat, Fixed("Q", Check.MSAT)]
# A limit that a peer sets on itself moves no money; Core Lightning sends 2^64-1 for "no limit".
MsatLimit = Annotated[Msat, Fixed("Q")]
SatS64 = Annotated[int, Fixed("q")]
CountedBytes = Annotated[bytes, Counted()]

BYTES32 = Fixed("32s")
SIGNATURE = Fixed("64s")
POINT = Fixed("33s", Check.POINT)
