"""BOLT 1: BigSize, truncated integers, TLV streams (appendices A and B)."""

from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bolt import bolt
from tests.wire.samples import vectors
from wire.codec import (
    U64,
    BadPoint,
    DecodeError,
    Fixed,
    Group,
    Message,
    NotMinimal,
    Point,
    Record,
    RecordsNotIncreasing,
    Truncatable,
    Truncated,
    UnknownEvenRecord,
    WrongLength,
)
from wire.messages.catalogue import decode_as, encode
from wire.scid import text_of
from wire.tlv import (
    read_bigsize,
    read_records,
    read_tu16,
    read_tu32,
    read_tu64,
    write_bigsize,
    write_records,
    write_truncated,
)

FIGURES = vectors("bolt1")

BIGSIZE_ERRORS = {"not_minimal": NotMinimal, "short_read": Truncated, "empty": Truncated}


class Tlv3(msgspec.Struct, frozen=True):
    node_id: Point
    amount_msat_1: U64
    amount_msat_2: U64


class N1(Message, frozen=True):
    """The namespace n1 of appendix B, as a message that is nothing but its records."""

    TYPE = 1
    tlv1: Annotated[int | None, Record(1, Truncatable(8))] = None
    tlv2: Annotated[int | None, Record(2, Fixed("Q"))] = None
    tlv3: Annotated[Tlv3 | None, Record(3, Group(Tlv3))] = None
    tlv4: Annotated[int | None, Record(254, Fixed("H"))] = None


class N2(Message, frozen=True):
    """The namespace n2 of appendix B."""

    TYPE = 2
    tlv1: Annotated[int | None, Record(0, Truncatable(8))] = None
    tlv2: Annotated[int | None, Record(11, Truncatable(4))] = None


NAMESPACES: dict[str, type[Message]] = {"n1": N1, "n2": N2}

STREAM_ERRORS: dict[str, type[DecodeError]] = {
    "type_truncated": Truncated,
    "type_not_minimal": NotMinimal,
    "length_missing": Truncated,
    "length_truncated": Truncated,
    "length_not_minimal": NotMinimal,
    "value_missing": Truncated,
    "value_truncated": Truncated,
    "unknown_even_type": UnknownEvenRecord,
    "tu64_not_minimal": NotMinimal,
    "tlv1_too_long": WrongLength,
    "tlv2_too_short": WrongLength,
    "tlv2_too_long": WrongLength,
    "tlv3_too_short": Truncated,
    "tlv3_too_long": WrongLength,
    "tlv4_too_short": WrongLength,
    "tlv4_too_long": WrongLength,
    "bad_point": BadPoint,
    "types_not_increasing": RecordsNotIncreasing,
    "duplicate_type": RecordsNotIncreasing,
    "types_not_increasing_ignored": RecordsNotIncreasing,
    "duplicate_type_ignored": RecordsNotIncreasing,
}


def in_namespaces(cases: list[dict[str, Any]]) -> list[Any]:
    """Each case once per namespace it is about."""
    return [
        pytest.param(name, case, id=f"{name}-{case.get('error', 'good')}-{case['stream'][:16]}")
        for case in cases
        for name in case["namespaces"]
    ]


def read(namespace: str, stream: str) -> Message:
    cls = NAMESPACES[namespace]
    return decode_as(cls, cls.TYPE.to_bytes(2, "big") + bytes.fromhex(stream))


def shown(name: str, value: Any) -> Any:
    """A record's value in the form of the figures."""
    if name == "tlv2":
        return text_of(value)
    if isinstance(value, Tlv3):
        return {**msgspec.structs.asdict(value), "node_id": value.node_id.hex()}
    return value


@bolt("framing-tlv.6")
@pytest.mark.parametrize("case", FIGURES["bigsize_decode"], ids=lambda case: case["bytes"] or "empty")
def test_bigsize_is_read_in_its_shortest_form_only(case: dict[str, Any]) -> None:
    raw = bytes.fromhex(case["bytes"])
    if "error" in case:
        with pytest.raises(BIGSIZE_ERRORS[case["error"]]):
            read_bigsize(raw)
    else:
        assert read_bigsize(raw) == (case["value"], len(raw))


@pytest.mark.parametrize("case", FIGURES["bigsize_encode"], ids=lambda case: str(case["value"]))
def test_bigsize_is_written_in_its_shortest_form(case: dict[str, Any]) -> None:
    assert write_bigsize(case["value"]).hex() == case["bytes"]


@given(st.integers(0, 2**64 - 1), st.binary(max_size=4), st.binary(max_size=4))
def test_bigsize_comes_back_from_any_place(value: int, before: bytes, after: bytes) -> None:
    written = write_bigsize(value)
    assert read_bigsize(before + written + after, len(before)) == (value, len(before + written))


@given(st.binary(max_size=9))
def test_any_bigsize_that_is_read_is_written_the_same(raw: bytes) -> None:
    try:
        value, end = read_bigsize(raw)
    except DecodeError:
        return
    assert write_bigsize(value) == raw[:end]


@bolt("framing-tlv.6")
@pytest.mark.parametrize(("read", "limit"), [(read_tu16, 2), (read_tu32, 4), (read_tu64, 8)])
def test_truncated_integers_have_no_leading_zero_and_an_upper_limit(read: Any, limit: int) -> None:
    largest = 256**limit - 1
    for value in (0, 1, 255, 256, largest):
        assert read(write_truncated(value)) == value
    with pytest.raises(NotMinimal):
        read(b"\x00\x01")
    with pytest.raises(NotMinimal):
        read(b"\x00")
    with pytest.raises(WrongLength):
        read(write_truncated(largest + 1))


@bolt("framing-tlv.6")
@pytest.mark.parametrize(("namespace", "case"), in_namespaces(FIGURES["tlv_decode_fail"]))
def test_a_bad_stream_is_refused(namespace: str, case: dict[str, Any]) -> None:
    with pytest.raises(STREAM_ERRORS[case["error"]]):
        read(namespace, case["stream"])


@bolt("framing-tlv.6")
@pytest.mark.parametrize(("namespace", "case"), in_namespaces(FIGURES["tlv_decode_ok"]))
def test_a_good_stream_has_its_values(namespace: str, case: dict[str, Any]) -> None:
    message = read(namespace, case["stream"])
    found = {name: value for name, value in msgspec.structs.asdict(message).items() if value is not None}
    expected = {
        name: next(iter(fields.values())) if len(fields) == 1 else fields
        for name, fields in case["values"].items()
    }
    assert {name: shown(name, value) for name, value in found.items()} == expected
    if found:
        assert encode(message)[2:].hex() == case["stream"]


def test_the_namespaces_are_those_of_the_figures() -> None:
    for name, cls in NAMESPACES.items():
        declared = {
            field: hint.__metadata__[0].type
            for field, hint in cls.__annotations__.items()
            if field.startswith("tlv")
        }
        assert declared == {tlv: row["type"] for tlv, row in FIGURES["tlv_namespaces"][name].items()}


records = st.dictionaries(st.integers(0, 2**64 - 1), st.binary(max_size=300), max_size=6)


@given(records)
def test_records_come_back_sorted(stream: dict[int, bytes]) -> None:
    assert read_records(write_records(stream.items())) == sorted(stream.items())


@given(st.binary(max_size=40))
def test_any_stream_that_is_read_is_written_the_same(raw: bytes) -> None:
    try:
        stream = read_records(raw)
    except DecodeError:
        return
    assert write_records(stream) == raw
