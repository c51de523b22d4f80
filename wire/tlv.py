"""TLV streams and the integers they are built of (BOLT 1, type-length-value format).

A stream is read into a list of (type, value) in one pass that enforces everything which does
not need the meaning of a record: minimal integers, strictly increasing types, lengths inside
the stream. What a type means is the caller's.
"""

from collections.abc import Collection, Iterable
from struct import Struct

from wire.codec import NotMinimal, RecordsNotIncreasing, Truncated, UnknownEvenRecord, WrongLength

MAX_U64 = 2**64 - 1

_pack_u16 = Struct(">BH").pack
_pack_u32 = Struct(">BI").pack
_pack_u64 = Struct(">BQ").pack


def write_bigsize(value: int) -> bytes:
    """The shortest BigSize encoding: 1, 3, 5 or 9 bytes (BOLT 1, appendix A)."""
    if value < 0xFD:
        return value.to_bytes(1, "big")
    if value <= 0xFFFF:
        return _pack_u16(0xFD, value)
    if value <= 0xFFFFFFFF:
        return _pack_u32(0xFE, value)
    return _pack_u64(0xFF, value)


def read_bigsize(raw: bytes, at: int = 0, part: str = "a BigSize") -> tuple[int, int]:
    """The integer at an offset, and the offset after it.

    Raises:
        Truncated: the bytes end inside it.
        NotMinimal: a shorter encoding exists.
    """
    if at >= len(raw):
        raise Truncated(part)
    first = raw[at]
    if first < 0xFD:
        return first, at + 1
    end = at + 1 + (2 << (first - 0xFD))
    if end > len(raw):
        raise Truncated(part)
    value = int.from_bytes(raw[at + 1 : end], "big")
    # framing-tlv.6: the three longer forms start where the shorter one ends
    if value < (0xFD, 0x10000, 0x100000000)[first - 0xFD]:
        raise NotMinimal(part)
    return value, end


def write_truncated(value: int) -> bytes:
    """The big-endian integer without leading zero bytes; zero is empty."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def read_truncated(value: bytes, limit: int) -> int:
    """An integer that fills the bytes given and had at most `limit` of them.

    Raises:
        WrongLength: there are more bytes than the type can have.
        NotMinimal: the first byte is zero.
    """
    if len(value) > limit:
        raise WrongLength(f"tu{limit * 8}", len(value))
    if value[:1] == b"\0":
        raise NotMinimal(f"tu{limit * 8}")
    return int.from_bytes(value, "big")


def read_tu16(value: bytes) -> int:
    """A truncated integer of at most 2 bytes."""
    return read_truncated(value, 2)


def read_tu32(value: bytes) -> int:
    """A truncated integer of at most 4 bytes."""
    return read_truncated(value, 4)


def read_tu64(value: bytes) -> int:
    """A truncated integer of at most 8 bytes."""
    return read_truncated(value, 8)


def read_records(raw: bytes, at: int = 0) -> list[tuple[int, bytes]]:
    """Every record from the offset to the end, in order.

    Raises:
        Truncated: a type, length or value is cut off.
        NotMinimal: a type or length is longer than it need be.
        RecordsNotIncreasing: a type repeats or goes down.
    """
    records = []
    previous, total = -1, len(raw)
    while at < total:
        type, at = read_bigsize(raw, at, "a record's type")
        # framing-tlv.6: strictly increasing, also among records we skip
        if type <= previous:
            raise RecordsNotIncreasing(type, previous)
        length, at = read_bigsize(raw, at, "a record's length")
        end = at + length
        if end > total:
            raise Truncated(f"record {type}")
        records.append((type, raw[at:end]))
        previous, at = type, end
    return records


def read_known(raw: bytes, at: int, known: Collection[int]) -> dict[int, bytes]:
    """The records of known types; unknown odd ones are skipped.

    Raises:
        UnknownEvenRecord: a record that is even and not among the known.
        DecodeError: the stream itself is malformed.
    """
    found = {}
    for type, value in read_records(raw, at):
        if type in known:
            found[type] = value
        elif not type & 1:
            raise UnknownEvenRecord(type)
    return found


def write_record(type: int, value: bytes) -> bytes:
    """One record."""
    return write_bigsize(type) + write_bigsize(len(value)) + value


def write_records(records: Iterable[tuple[int, bytes]]) -> bytes:
    """A stream of records, which are sorted by type first."""
    return b"".join([write_record(type, value) for type, value in sorted(records)])
