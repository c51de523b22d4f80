"""BOLT 1: fundamental types, and what a compiled codec refuses."""

from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bolt import bolt
from tests.wire.samples import POINTS, vectors
from wire.codec import (
    S8,
    S16,
    S32,
    S64,
    U16,
    AmountTooLarge,
    BadPoint,
    BigSize,
    Counted,
    CountedBytes,
    EncodeError,
    Extension,
    Fixed,
    Flag,
    Message,
    MsatU64,
    Point,
    Record,
    Rest,
    SatU64,
    Truncatable,
    Truncated,
    WrongLength,
)
from wire.messages.catalogue import decode_as, encode
from wire.messages.channel import FeeRange, UpdateFulfillHtlc
from wire.units import MAX_MSAT, MAX_SAT, Msat, Sat

FIGURES = vectors("bolt1")


class Signed8(Message, frozen=True):
    TYPE = 40001
    value: S8


class Signed16(Message, frozen=True):
    TYPE = 40002
    value: S16


class Signed32(Message, frozen=True):
    TYPE = 40003
    value: S32


class Signed64(Message, frozen=True):
    TYPE = 40004
    value: S64


class Amounts(Message, frozen=True):
    TYPE = 40005
    satoshis: SatU64
    msat: MsatU64


class Mixed(Message, frozen=True):
    """Every kind there is, in the orders that the BOLTs do not have."""

    TYPE = 40007
    first: CountedBytes
    number: U16
    parts: Annotated[tuple[bytes, ...], Counted(Counted())]
    points: Annotated[tuple[bytes, ...], Counted(Fixed("33s"))]
    second: CountedBytes
    point: Point
    late: Annotated[int | None, Record(9, Truncatable(2))] = None
    early: Annotated[int | None, Record(1, BigSize())] = None
    numbers: Annotated[tuple[int, ...] | None, Record(2, Rest(Fixed("H")))] = None
    ranges: Annotated[tuple[FeeRange, ...] | None, Record(4, Rest(FeeRange))] = None
    present: Annotated[bool, Record(6, Flag())] = False


class Tail(Message, frozen=True):
    TYPE = 40009
    number: U16
    rest: Annotated[bytes, Extension()] = b""


class Amount(Message, frozen=True):
    TYPE = 40011
    amount_msat: Annotated[Msat | None, Record(1, MsatU64.__metadata__[0])] = None


SIGNED: dict[int, type[Any]] = {1: Signed8, 2: Signed16, 4: Signed32, 8: Signed64}
MIXED = Mixed(b"one", 2, (b"", b"part"), tuple(POINTS[:2]), b"three", POINTS[0])


@pytest.mark.parametrize("case", FIGURES["signed_integers"], ids=lambda case: str(case["value"]))
def test_signed_integers_are_twos_complement(case: dict[str, Any]) -> None:
    cls = SIGNED[case["width_bytes"]]
    raw = encode(cls(case["value"]))
    assert raw[2:].hex() == case["bytes"]
    assert decode_as(cls, raw) == cls(case["value"])


@bolt("framing-tlv.7")
def test_amounts_stop_at_all_bitcoin() -> None:
    assert FIGURES["amount_limits"] == {"max_satoshi": MAX_SAT, "max_millisatoshi": MAX_MSAT}
    largest = Amounts(MAX_SAT, MAX_MSAT)
    assert decode_as(Amounts, encode(largest)) == largest
    with pytest.raises(AmountTooLarge) as sat:
        decode_as(Amounts, encode(Amounts(Sat(MAX_SAT + 1), Msat(0))))
    assert (sat.value.field, sat.value.amount) == ("satoshis", MAX_SAT + 1)
    with pytest.raises(AmountTooLarge):
        decode_as(Amounts, encode(Amounts(Sat(0), Msat(MAX_MSAT + 1))))


@bolt("framing-tlv.7")
def test_amounts_in_records_stop_there_too() -> None:
    assert decode_as(Amount, encode(Amount(MAX_MSAT))) == Amount(MAX_MSAT)
    with pytest.raises(AmountTooLarge):
        decode_as(Amount, encode(Amount(Msat(MAX_MSAT + 1))))


@pytest.mark.parametrize(
    "message",
    [
        MIXED,
        Mixed(b"", 0, (), (), b"", POINTS[1]),
        Mixed(
            b"x", 1, (b"y",), (), b"z", POINTS[2], 65535, 2**64 - 1, (1, 2), (FeeRange(Sat(1), Sat(2)),), True
        ),
        Mixed(b"x", 1, (b"y",), (), b"z", POINTS[2], 0, 0, (), (), True),
    ],
)
def test_fields_of_every_kind_come_back(message: Mixed) -> None:
    assert decode_as(Mixed, encode(message)) == message


def test_records_are_written_by_type_whatever_the_order_of_the_fields() -> None:
    written = encode(Mixed(b"", 0, (), (), b"", POINTS[1], late=1, early=1))
    assert written.endswith(bytes.fromhex("010101090101"))


@given(st.integers(0, len(encode(MIXED)) - 1))
def test_a_message_cut_short_is_refused(length: int) -> None:
    with pytest.raises(Truncated):
        decode_as(Mixed, encode(MIXED)[:length])


def test_an_extension_that_is_kept_is_not_read() -> None:
    message = Tail(7, b"\x02\xff no TLV stream")
    assert decode_as(Tail, encode(message)) == message


@pytest.mark.parametrize("bad", [b"\x04" + bytes(32), b"\x02" + b"\xff" * 32, bytes(33)])
def test_a_point_is_on_the_curve(bad: bytes) -> None:
    raw = encode(Mixed(b"", 0, (), (), b"", bad))
    with pytest.raises(BadPoint):
        decode_as(Mixed, raw)


@pytest.mark.parametrize("stream", ["060101", "0102fd01", "020101", "04020000", "01020000"])
def test_a_record_has_exactly_its_length(stream: str) -> None:
    raw = encode(Mixed(b"", 0, (), (), b"", POINTS[0])) + bytes.fromhex(stream)
    with pytest.raises((WrongLength, Truncated)):
        decode_as(Mixed, raw)


@pytest.mark.parametrize(
    "message",
    [
        Mixed(b"", 65536, (), (), b"", POINTS[0]),
        Mixed(b"", -1, (), (), b"", POINTS[0]),
        Mixed(b"", 0, (), (), b"", POINTS[0][:-1]),
        Mixed(bytes(65536), 0, (), (), b"", POINTS[0]),
        UpdateFulfillHtlc(bytes(31), 0, bytes(33)),
        UpdateFulfillHtlc(bytes(32), 0, bytes(32), bytes(919)),
        Mixed(b"", 0, (), (POINTS[0][:-1],), b"", POINTS[0]),
        Mixed(b"", 0, (bytes(65536),), (), b"", POINTS[0]),
        Mixed(b"", 0, (), (), b"", POINTS[0], late=65536),
        Mixed(b"", 0, (), (), b"", POINTS[0], early=-1),
        Mixed(b"", 0, (), (), b"", POINTS[0], numbers=(65536,)),
    ],
)
def test_a_value_that_does_not_fit_is_never_written(message: Message) -> None:
    with pytest.raises(EncodeError):
        encode(message)
