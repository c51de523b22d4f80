"""Every message is declared as the BOLTs declare it: number, name, fields, lengths, records."""

import re
import struct
from itertools import pairwise
from typing import Any, get_type_hints

import pytest

from tests.bolt import bolt
from tests.wire.samples import vectors
from wire.codec import (
    MAX_MESSAGE_BYTES,
    BigSize,
    Check,
    Counted,
    DecodeError,
    EncodeError,
    Extension,
    Fixed,
    Flag,
    Group,
    Kind,
    Message,
    MessageTooLong,
    Rest,
    Truncated,
    UnknownEvenRecord,
    WrongMessage,
)
from wire.messages.base import Error, Init, PeerStorage, Ping, Pong, Unknown, Warning, printable
from wire.messages.catalogue import MESSAGES, decode, decode_as, encode
from wire.schema import schema_of

TABLE = vectors("messages")
ROWS = {row["type"]: row for row in TABLE["messages"]}
STREAMS: dict[str, Any] = TABLE["tlv_streams"]
SUBTYPES: dict[str, Any] = TABLE["subtypes"]
INIT_EXTENSIONS = vectors("bolt1")["init_extension"]

SIGNED_GOSSIP = {"channel_announcement", "node_announcement", "channel_update"}

every_message = pytest.mark.parametrize("cls", MESSAGES.values(), ids=lambda cls: cls.__name__)


def wire_name(cls: type) -> str:
    """`update_add_htlc` of UpdateAddHtlc."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()


def shape(kind: Kind | None) -> Any:
    """A kind in the terms that the table uses too."""
    match kind:
        case Fixed(format, check):
            is_point = check in (Check.POINT, Check.POINT_PREFIX)
            is_signed = format.islower() and not format.endswith("s")
            return "fixed", struct.calcsize(">" + format), is_point, is_signed
        case Counted(None):
            return "counted"
        case Counted(Counted()):
            return "counted", "counted"
        case Counted(item):
            return "counted", shape(item)
        case Rest(None):
            return "rest"
        case Rest(type() as cls):
            return "rest", shape_of_class(cls)
        case Rest(Fixed() as item):
            return "rest", shape(item)
        case Group(cls):
            return shape_of_class(cls)
        case BigSize():
            return "bigsize"
        case Flag():
            return "flag"
    raise AssertionError(kind)


def shape_of_class(cls: type) -> list[Any]:
    return [(name, shape(kind)) for name, kind in schema_of(cls).fields]


def shape_of_field(field: dict[str, Any]) -> Any:
    """A field of the table."""
    kind = field["type"]
    if "count_field" in field:
        return "counted" if kind == "byte" else ("counted", shape_of_type(kind))
    if field.get("count") == "rest":
        return "rest" if kind == "byte" else ("rest", shape_of_type(kind))
    if kind == "bigsize":
        return "bigsize"
    count = field.get("count", 1)
    return (
        "fixed",
        count * TABLE["fixed_sizes"][kind],
        kind == "point",
        kind.startswith("s") and kind[1:].isdigit(),
    )


def shape_of_type(kind: str) -> Any:
    if kind == "witness":
        return "counted"
    if kind in SUBTYPES:
        return shape_of_fields(SUBTYPES[kind]["fields"])
    return "fixed", TABLE["fixed_sizes"][kind], kind == "point", False


def shape_of_fields(fields: list[dict[str, Any]]) -> list[Any]:
    """Fields of the table in order, without those that count others; each of these counts the next."""
    counts = {field["count_field"] for field in fields if "count_field" in field}
    for before, field in pairwise(fields):
        if "count_field" in field:
            assert (before["name"], before["type"]) == (field["count_field"], "u16")
    return [(field["name"], shape_of_field(field)) for field in fields if field["name"] not in counts]


def shape_of_record(fields: list[dict[str, Any]]) -> Any:
    """One field is the record itself; arrays of constant size are kept as raw bytes."""
    if not fields:
        return "flag"
    if all(isinstance(field.get("count"), int) for field in fields):
        return "fixed", sum(shape_of_field(field)[1] for field in fields), False, False
    return shape_of_field(fields[0]) if len(fields) == 1 else shape_of_fields(fields)


def test_every_number_of_the_table_has_its_class() -> None:
    assert {number: wire_name(cls) for number, cls in MESSAGES.items()} == {
        number: row["name"] for number, row in ROWS.items()
    }


@every_message
def test_a_message_has_the_fields_of_the_table(cls: type[Message]) -> None:
    row, fields = ROWS[cls.TYPE], schema_of(cls).fields
    if row["name"] in SIGNED_GOSSIP:
        assert fields[-1] == ("extension", Extension())
        fields = fields[:-1]
    assert [(name, shape(kind)) for name, kind in fields] == shape_of_fields(row["fields"])


@every_message
def test_a_message_has_the_records_of_the_table(cls: type[Message]) -> None:
    stream = ROWS[cls.TYPE]["tlv_stream"]
    expected = STREAMS[stream]["records"] if stream else []
    declared = [(name, record.type, shape(record.kind)) for name, record in schema_of(cls).records]
    assert declared == [(row["name"], row["type"], shape_of_record(row["fields"])) for row in expected]


@every_message
def test_a_record_that_is_absent_is_none_or_false(cls: type[Message]) -> None:
    hints = get_type_hints(cls)
    defaults = dict(zip(cls.__struct_fields__[::-1], cls.__struct_defaults__[::-1], strict=False))
    for name, record in schema_of(cls).records:
        if isinstance(record.kind, Flag):
            assert defaults[name] is False
        else:
            assert defaults[name] is None
            assert type(None) in hints[name].__args__


@bolt("framing-tlv.4")
@pytest.mark.parametrize("case", INIT_EXTENSIONS, ids=lambda case: case["label"])
def test_an_extension_is_a_tlv_stream(case: dict[str, Any]) -> None:
    raw = bytes.fromhex(case["message"])
    if case["valid"]:
        assert decode(raw) == Init()
    else:
        with pytest.raises(DecodeError):
            decode(raw)


@bolt("framing-tlv.4", "framing-tlv.6")
def test_an_extension_may_follow_a_message_that_declares_no_records() -> None:
    pong = encode(Pong(b"abc"))
    assert decode(pong + bytes.fromhex("010164")) == Pong(b"abc")
    with pytest.raises(UnknownEvenRecord):
        decode(pong + bytes.fromhex("020164"))
    with pytest.raises(Truncated):
        decode(pong + bytes.fromhex("0102"))


@bolt("framing-tlv.2", "framing-tlv.3")
@pytest.mark.parametrize(("type", "is_even"), [(98, True), (99, False), (32769, False)])
def test_an_unknown_message_is_kept_as_it_came(type: int, is_even: bool) -> None:
    raw = type.to_bytes(2, "big") + b"whatever"
    message = decode(raw)
    assert message == Unknown(type, b"whatever")
    assert isinstance(message, Unknown)
    assert message.is_even == is_even
    assert encode(message) == raw


@bolt("framing-tlv.3")
@every_message
def test_a_known_message_that_is_too_short_is_refused(cls: type[Message]) -> None:
    with pytest.raises(Truncated):
        decode(cls.TYPE.to_bytes(2, "big") + b"\0")


@bolt("framing-tlv.2")
def test_a_message_has_a_type_and_at_most_65535_bytes() -> None:
    for raw in (b"", b"\0"):
        with pytest.raises(Truncated):
            decode(raw)
        with pytest.raises(Truncated):
            decode_as(Pong, raw)
    with pytest.raises(MessageTooLong):
        decode(bytes(MAX_MESSAGE_BYTES + 1))
    largest = Pong(bytes(MAX_MESSAGE_BYTES - 4))
    assert decode(encode(largest)) == largest
    with pytest.raises(EncodeError):
        encode(Pong(bytes(MAX_MESSAGE_BYTES - 3)))


@bolt("peer-storage.1")
def test_the_largest_blob_fits_one_message() -> None:
    assert len(encode(PeerStorage(bytes(65531)))) == MAX_MESSAGE_BYTES
    with pytest.raises(EncodeError):
        encode(PeerStorage(bytes(65532)))


def test_a_message_can_be_read_from_a_view() -> None:
    raw = encode(Ping(5, b"abc"))
    assert decode(memoryview(b"..." + raw)[3:]) == Ping(5, b"abc")


def test_a_reader_that_knows_the_class_refuses_another() -> None:
    with pytest.raises(WrongMessage):
        decode_as(Pong, encode(Ping(5)))


@bolt("init.2")
def test_the_features_of_an_init_are_both_its_fields() -> None:
    init = Init(globalfeatures=b"\x02\x00", features=b"\x01")
    assert list(init.all_features()) == [0, 9]


@bolt("error-warning.3")
@pytest.mark.parametrize(("data", "shown"), [(b"no funds", "no funds"), (b"\x1b[2J", "1b5b324a"), (b"", "")])
def test_what_a_peer_writes_cannot_command_a_terminal(data: bytes, shown: str) -> None:
    assert Error(bytes(32), data).text == Warning(bytes(32), data).text == printable(data) == shown
