"""What may be written for a parameter of the RPC, as Core Lightning reads it.

A command's parameters are annotated with one of the kinds below; each kind knows what it is called
when something else is given. Command lines send everything as text, so numbers and booleans may be
text too. Amounts are millisatoshi unless they say otherwise: 5, "5msat", "5sat", "0.00000005btc".
"""

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from math import isfinite
from typing import Annotated, Any, Protocol, TypeAlias, TypeVar

import msgspec

from wire import scid
from wire.crypto.secp256k1 import Point, is_point
from wire.units import MAX_MSAT, Msat, Sat

INVALID_PARAMETERS = -32602
MOST_INTEGER = (1 << 63) - 1  # what the database and the messages have room for
MOST_U32 = (1 << 32) - 1
MOST_DIGITS = 20

_AMOUNT = re.compile(r"(?P<number>[0-9]{1,20}(\.[0-9]{1,20})?)(?P<unit>msat|sat|btc)")
_MSAT_PER = {"msat": 1, "sat": 1000, "btc": 100_000_000_000}


class CommandFailed(Exception):
    """A command's refusal, by Core Lightning's number."""

    def __init__(self, code: int, message: str, details: object = None) -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details


class Kind(msgspec.Struct, frozen=True):
    """What a parameter is, and how it is read; reading raises ValueError."""

    what: str
    read: Callable[[Any], Any]

    def of(self, name: str, value: object) -> Any:
        """The value that was given for the parameter of this name.

        Raises:
            CommandFailed: it is no such thing.
        """
        try:
            return self.read(value)
        except (ValueError, TypeError, OverflowError):
            token = msgspec.json.encode(value).decode()
            raise CommandFailed(
                INVALID_PARAMETERS, f"{name}: should be {self.what}: invalid token '{token}'"
            ) from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _integer(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < MOST_DIGITS:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_INTEGER:
        return value
    raise ValueError


def _u32(value: object) -> int:
    number = _integer(value)
    if number > MOST_U32:
        raise ValueError
    return number


def _msat_u32(value: object) -> Msat:
    return Msat(_u32(_msat(value)))


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    number = float(value)
    if not isfinite(number):
        raise ValueError
    return number


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}[_text(value)] if value in ("true", "false") else _fail()


def _fail() -> Any:
    raise ValueError


def _msat(value: object) -> Msat:
    if not isinstance(value, str) or value.isdigit():
        return _bounded(_integer(value))
    found = _AMOUNT.fullmatch(value)
    if found is None:
        raise ValueError
    amount = Decimal(found["number"]) * _MSAT_PER[found["unit"]]
    if amount != int(amount):
        raise ValueError
    return _bounded(int(amount))


def _bounded(amount_msat: int) -> Msat:
    if amount_msat > MAX_MSAT:
        raise ValueError
    return Msat(amount_msat)


def _sat(value: object) -> Sat:
    """A bare number is satoshi here."""
    if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
        return Sat(_msat(f"{_integer(value)}sat") // 1000)
    amount_msat = _msat(value)
    if amount_msat % 1000:
        raise ValueError
    return Sat(amount_msat // 1000)


def _unless(word: str, read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """None for this word."""
    return lambda value: None if value == word else read(value)


def _hex(length: int | None) -> Callable[[Any], bytes]:
    def read(value: object) -> bytes:
        raw = bytes.fromhex(_text(value))
        if length is not None and len(raw) != length:
            raise ValueError
        return raw

    return read


def _point(value: object) -> Point:
    raw = _hex(33)(value)
    if not is_point(raw):
        raise ValueError
    return Point(raw)


def _label(value: object) -> str:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value)


def one_of(*words: str) -> Kind:
    """One of these words."""

    def read(value: object) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return Kind(f"{', '.join(map(repr, words[:-1]))} or '{words[-1]}'", read)


class Numbered(Protocol):
    """What is listed by the order in which it was made, or changed."""

    @property
    def created_index(self) -> int: ...
    @property
    def updated_index(self) -> int: ...


Row = TypeVar("Row", bound=Numbered)


def paged(rows: Sequence[Row], index: str | None, start: int, limit: int | None) -> Sequence[Row]:
    """The rows from a number on, and no more than so many.

    Args:
        rows: in the order of their creation.
        index: by which number, that of their creation or that of their last change.

    Raises:
        CommandFailed: a start or a limit without an index.
    """
    for name, value in (("start", start), ("limit", limit)):
        if value and index is None:
            raise CommandFailed(INVALID_PARAMETERS, f"Can only specify {name} with index")
    if index == "updated":
        found = [row for row in rows if row.updated_index >= start]
        found.sort(key=lambda row: row.updated_index)
    else:
        found = [row for row in rows if row.created_index >= start]
    return found if limit is None else found[:limit]


def at_most_one(**given: object) -> None:
    """Refuse parameters that say what is wanted in more than one way.

    Raises:
        CommandFailed: more than one is given.
    """
    if sum(value is not None for value in given.values()) > 1:
        raise CommandFailed(INVALID_PARAMETERS, f"Can only specify one of {', '.join(given)}")


def none_of(**given: object) -> None:
    """Refuse parameters that stand in their place, but for what is not done here.

    Raises:
        CommandFailed: one of them is given.
    """
    for name, value in given.items():
        if value not in (None, False):
            raise CommandFailed(INVALID_PARAMETERS, f"{name}: is not supported by this node")


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError
    return value


Text: TypeAlias = Annotated[str, Kind("a string", _text)]
Integer: TypeAlias = Annotated[int, Kind("an integer", _integer)]
U32: TypeAlias = Annotated[int, Kind(f"an integer up to {MOST_U32}", _u32)]
Number: TypeAlias = Annotated[float, Kind("a number", _number)]
Boolean: TypeAlias = Annotated[bool, Kind("'true' or 'false'", _boolean)]
AmountMsat: TypeAlias = Annotated[Msat, Kind("a millisatoshi amount", _msat)]
AmountMsatU32: TypeAlias = Annotated[Msat, Kind(f"a millisatoshi amount up to {MOST_U32}", _msat_u32)]
AmountOrAny: TypeAlias = Annotated[Msat | None, Kind("millisatoshis or 'any'", _unless("any", _msat))]
AmountSat: TypeAlias = Annotated[Sat, Kind("a satoshi amount", _sat)]
AmountSatOrAll: TypeAlias = Annotated[Sat | None, Kind("satoshis or 'all'", _unless("all", _sat))]
NodeId: TypeAlias = Annotated[Point, Kind("a node id", _point)]
Hash: TypeAlias = Annotated[bytes, Kind("a 32 byte hash", _hex(32))]
Bytes: TypeAlias = Annotated[bytes, Kind("hex", _hex(None))]
Label: TypeAlias = Annotated[str, Kind("a string or number", _label)]
ShortChannelId: TypeAlias = Annotated[int, Kind("a short_channel_id", lambda value: scid.parse(_text(value)))]
Index: TypeAlias = Annotated[str, one_of("created", "updated")]
InvoiceStatus: TypeAlias = Annotated[str, one_of("paid", "expired", "unpaid")]
PaymentStatus: TypeAlias = Annotated[str, one_of("pending", "complete", "failed")]
EndedStatus: TypeAlias = Annotated[str, one_of("complete", "failed")]
EndedForward: TypeAlias = Annotated[str, one_of("settled", "failed", "local_failed")]
ForwardStatus: TypeAlias = Annotated[str, one_of("offered", "settled", "failed", "local_failed")]
Array: TypeAlias = Annotated[list[Any], Kind("an array", _list)]
Anything: TypeAlias = Annotated[Any, Kind("anything", lambda value: value)]
