"""A message class is compiled into one decode and one encode function (BOLT 1, message format).

The annotated fields of a class (`wire.codec`) are its schema. On first use they are turned into
the source of two plain functions: neighbouring fixed-size fields become one `struct` call, every
length is checked once, and a value is made in one call. What comes out for `update_fee`:

    def decode(_raw):
        try:
            channel_id, feerate_per_kw = _unpack0(_raw, 2)
            if len(_raw) != 38:
                _read_known(_raw, 38, ())
            return _cls(channel_id, feerate_per_kw)
        except _struct_error:
            raise _Truncated('UpdateFee') from None

    def encode(_value):
        try:
            if len(_value.channel_id) != 32: raise _EncodeError('UpdateFee', 'channel_id')
            _raw = _pack0(134, _value.channel_id, _value.feerate_per_kw)
            return _raw
        except (_struct_error, OverflowError) as _error:
            raise _EncodeError('UpdateFee', str(_error)) from None

Rejected: a loop over field objects, which takes nearly twice as long; and a class with
hand-written functions per message, which is three places to say one thing.
"""

import struct
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, get_type_hints

import msgspec

from wire import tlv
from wire.codec import (
    AmountTooLarge,
    BadPoint,
    BigSize,
    Check,
    Counted,
    EncodeError,
    Fixed,
    Flag,
    Group,
    Kind,
    Record,
    Rest,
    Truncatable,
    Truncated,
    WrongLength,
)
from wire.crypto.secp256k1 import is_point
from wire.units import MAX_MSAT, MAX_SAT

Decode = Callable[[bytes], Any]
Encode = Callable[[Any], bytes]


class Codec(msgspec.Struct, frozen=True):
    """The two functions of a class. `decode` takes, and `encode` gives, the u16 type as well."""

    decode: Decode
    encode: Encode


class Schema(msgspec.Struct, frozen=True):
    """What a class declares: its fixed part in order, and its TLV records by field name."""

    name: str
    fields: tuple[tuple[str, Kind], ...]
    records: tuple[tuple[str, Record], ...]


def schema_of(cls: type) -> Schema:
    """The schema that a class's annotations spell."""
    hints = get_type_hints(cls, include_extras=True)
    kinds = [(name, hints[name].__metadata__[0]) for name in cls.__struct_fields__]  # type: ignore[attr-defined]
    fields = tuple((name, kind) for name, kind in kinds if not isinstance(kind, Record))
    records = tuple((name, kind) for name, kind in kinds if isinstance(kind, Record))
    return Schema(cls.__name__, fields, records)


@cache
def message_codec(cls: type) -> Codec:
    """The codec of a message class, compiled once."""
    schema = schema_of(cls)
    return Codec(_Decoder(schema, cls, 2).compile(), _Encoder(schema, cls.TYPE).compile())  # type: ignore[attr-defined]


@cache
def group_codec(cls: type) -> Codec:
    """The codec of a structure that fills a TLV record: no type in front, nothing behind."""
    schema = schema_of(cls)
    return Codec(_Decoder(schema, cls, 0).compile(), _Encoder(schema, None).compile())


@lru_cache(maxsize=512)
def _array(format: str, count: int) -> struct.Struct:
    """The layout of so many equal items; most commitments have few, none has over 483."""
    return struct.Struct(">" + format * count)


def _read_parts(raw: bytes, at: int, count: int) -> tuple[tuple[bytes, ...], int]:
    """`count` parts that each have a u16 length in front, and the offset after them."""
    parts = []
    for _ in range(count):
        start = at + 2
        at = start + int.from_bytes(raw[at:start], "big")
        if start > len(raw) or at > len(raw):
            raise Truncated("a list of parts")
        parts.append(raw[start:at])
    return tuple(parts), at


def _write_parts(parts: tuple[bytes, ...]) -> bytes:
    return b"".join([len(part).to_bytes(2, "big") + part for part in parts])


_CHECKS = {
    Check.POINT: "if not _is_point({name}): raise _BadPoint({name!r})",
    Check.POINT_PREFIX: "if not 2 <= {name}[0] <= 3: raise _BadPoint({name!r})",
    Check.SAT: f"if {{name}} > {MAX_SAT}: raise _AmountTooLarge({{name!r}}, {{name}})",
    Check.MSAT: f"if {{name}} > {MAX_MSAT}: raise _AmountTooLarge({{name!r}}, {{name}})",
}


class _Source:
    """The lines of one function, and the objects that its underscored names stand for."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.lines: list[str] = []
        self.run: list[tuple[str, Fixed]] = []
        self.names: dict[str, Any] = {
            "_struct_error": struct.error,
            "_EncodeError": EncodeError,
            "_Truncated": Truncated,
            "_BadPoint": BadPoint,
            "_AmountTooLarge": AmountTooLarge,
            "_WrongLength": WrongLength,
            "_is_point": is_point,
            "_array": _array,
            "_join": b"".join,
            "_read_parts": _read_parts,
            "_write_parts": _write_parts,
            "_read_known": tlv.read_known,
            "_write_record": tlv.write_record,
        }

    def name(self, stem: str, thing: Any) -> str:
        """A fresh name for an object the function needs."""
        name = f"_{stem}{len(self.names)}"
        self.names[name] = thing
        return name

    def layout(self) -> struct.Struct:
        """The pending fixed-size fields as one `struct`."""
        return struct.Struct(">" + "".join(fixed.format for _, fixed in self.run))

    def function(self, head: str, tail: str) -> Any:
        """The compiled function: the lines between its first line and its last."""
        body = "".join(f"        {line}\n" for line in self.lines)
        text = f"def {head}:\n    try:\n{body}    {tail}\n"
        exec(compile(text, f"<{head} of {self.schema.name}>", "exec"), self.names)
        return self.names[head.partition("(")[0]]


class _Decoder(_Source):
    """Writes `decode`. `start` and `offset` say where the next field begins: start + offset."""

    def __init__(self, schema: Schema, cls: type, offset: int) -> None:
        super().__init__(schema)
        self.is_message = bool(offset)
        self.start, self.offset = "", offset
        self.names["_cls"] = cls

    def compile(self) -> Decode:
        for name, kind in self.schema.fields:
            self.field(name, kind)
        self.flush()
        self.end()
        decode: Decode = self.function(
            "decode(_raw)",
            f"except _struct_error:\n        raise _Truncated({self.schema.name!r}) from None",
        )
        return decode

    @property
    def here(self) -> str:
        """The offset of the next field as an expression."""
        return (
            f"{self.start} + {self.offset}" if self.start and self.offset else self.start or str(self.offset)
        )

    def flush(self) -> None:
        """One `struct` call for the fixed-size fields collected so far, then their checks."""
        if not self.run:
            return
        layout = self.layout()
        targets = ", ".join(name for name, _ in self.run)
        self.lines.append(f"{targets}, = {self.name('unpack', layout.unpack_from)}(_raw, {self.here})")
        self.offset += layout.size
        for name, fixed in self.run:
            if fixed.check is not Check.NOTHING:
                self.lines.append(_CHECKS[fixed.check].format(name=name))
        self.run = []

    def field(self, name: str, kind: Kind) -> None:
        """One field of the fixed part."""
        if isinstance(kind, Fixed):
            self.run.append((name, kind))
        elif isinstance(kind, Counted):
            self.run.append((f"_n_{name}", Fixed("H")))
            self.flush()
            self.counted(name, kind.item)
            self.start, self.offset = "_at", 0
        else:
            self.flush()
            self.lines.append(f"{name} = _raw[{self.here}:]")
            self.start, self.offset = "len(_raw)", 0

    def counted(self, name: str, item: Fixed | Counted | None) -> None:
        """So many bytes, items or parts as the count just read."""
        count, here = f"_n_{name}", self.here
        if item is None:
            self.lines.append(f"_from = {here}; _at = _from + {count}; {name} = _raw[_from:_at]")
            self.lines.append(f"if len({name}) != {count}: raise _Truncated({name!r})")
        elif isinstance(item, Counted):
            self.lines.append(f"{name}, _at = _read_parts(_raw, {here}, {count})")
        else:
            size = struct.calcsize(">" + item.format)
            # before _array: a count that the bytes cannot hold must not cost us a layout of that size
            self.lines.append(f"_from = {here}; _at = _from + {count} * {size}")
            self.lines.append(f"if _at > len(_raw): raise _Truncated({name!r})")
            self.lines.append(f"{name} = _array({item.format!r}, {count}).unpack_from(_raw, _from)")

    def end(self) -> None:
        """What follows the fixed part: records, nothing, or an extension already taken."""
        values = "".join(f"{name}, " for name, _ in self.schema.fields)
        if not self.is_message:
            wrong = f"_WrongLength({self.schema.name!r}, len(_raw))"
            self.lines.append(f"if len(_raw) != {self.here}: raise {wrong}")
        elif self.schema.records:
            self.lines.append(f"if len(_raw) == {self.here}: return _cls({values})")
            self.records()
            values += "".join(f"{name}, " for name, _ in self.schema.records)
        elif self.start != "len(_raw)":
            # framing-tlv.4: every message may be followed by records, also one that declares none
            self.lines.append(f"if len(_raw) != {self.here}: _read_known(_raw, {self.here}, ())")
        self.lines.append(f"return _cls({values})")

    def records(self) -> None:
        """Reads the TLV stream into one local per declared record."""
        known = self.name("known", frozenset(record.type for _, record in self.schema.records))
        self.lines.append(f"_found = _read_known(_raw, {self.here}, {known})")
        for name, record in self.schema.records:
            read = self.name("read", _record_reader(name, record.kind))
            absent = "False" if isinstance(record.kind, Flag) else "None"
            self.lines.append(
                f"{name} = {read}(_found[{record.type}]) if {record.type} in _found else {absent}"
            )


class _Encoder(_Source):
    """Writes `encode`: a sum of packed runs, byte strings and records."""

    def __init__(self, schema: Schema, type: int | None) -> None:
        super().__init__(schema)
        self.parts: list[str] = []
        self.values: list[str] = []
        if type is not None:
            self.add(str(type), Fixed("H"))

    def compile(self) -> Encode:
        for name, kind in self.schema.fields:
            self.field(f"_value.{name}", kind)
        self.flush()
        self.lines.append(f"_raw = {' + '.join(self.parts)}")
        for name, record in sorted(self.schema.records, key=lambda item: item[1].type):
            write = self.name("write", _record_writer(name, record.kind))
            absent = "False" if isinstance(record.kind, Flag) else "None"
            value = f"_value.{name}"
            self.lines.append(
                f"if {value} is not {absent}: _raw += _write_record({record.type}, {write}({value}))"
            )
        self.lines.append("return _raw")
        refusal = f"raise _EncodeError({self.schema.name!r}, str(_error)) from None"
        encode: Encode = self.function(
            "encode(_value)", f"except (_struct_error, OverflowError) as _error:\n        {refusal}"
        )
        return encode

    def add(self, value: str, fixed: Fixed) -> None:
        """One value of the pending run."""
        self.run.append((value, fixed))
        if fixed.format.endswith("s"):
            # `struct` would cut or pad bytes of another length without a word
            refusal = f"raise _EncodeError({self.schema.name!r}, {value[7:]!r})"
            self.lines.append(f"if len({value}) != {struct.calcsize('>' + fixed.format)}: {refusal}")

    def flush(self) -> None:
        """One `struct` call for the pending run."""
        if self.run:
            pack = self.name("pack", self.layout().pack)
            self.parts.append(f"{pack}({', '.join(value for value, _ in self.run)})")
            self.run = []

    def field(self, value: str, kind: Kind) -> None:
        """One field of the fixed part."""
        if isinstance(kind, Fixed):
            self.add(value, kind)
            return
        if isinstance(kind, Counted):
            self.add(f"len({value})", Fixed("H"))
        self.flush()
        item = kind.item if isinstance(kind, Counted) else None
        if item is None:
            self.parts.append(value)
        elif isinstance(item, Counted):
            self.parts.append(f"_write_parts({value})")
        elif item.format.endswith("s"):
            refusal = f"raise _EncodeError({self.schema.name!r}, {value[7:]!r})"
            size = struct.calcsize(">" + item.format)
            self.lines.append(f"if {{*map(len, {value})}} - {{{size}}}: {refusal}")
            self.parts.append(f"_join({value})")
        else:
            self.parts.append(f"_array({item.format!r}, len({value})).pack(*{value})")


def _checked(name: str, fixed: Fixed) -> Callable[[Any], Any]:
    """A function that returns its argument if the check holds."""
    body = _CHECKS.get(fixed.check, "").format(name=name)
    names: dict[str, Any] = {"_is_point": is_point, "_BadPoint": BadPoint, "_AmountTooLarge": AmountTooLarge}
    exec(f"def checked({name}):\n    {body}\n    return {name}\n", names)
    checked: Callable[[Any], Any] = names["checked"]
    return checked


def _fixed_reader(name: str, fixed: Fixed) -> Decode:
    layout, check = struct.Struct(">" + fixed.format), _checked(name, fixed)

    def read(value: bytes) -> Any:
        if len(value) != layout.size:
            raise WrongLength(name, len(value))
        return check(layout.unpack(value)[0])

    return read


def _rest_reader(name: str, item: Fixed | type | None) -> Decode:
    if item is None:
        return bytes
    make: Any = item if isinstance(item, type) else lambda member: member
    layout = _item_layout(item)

    def read(value: bytes) -> Any:
        if len(value) % layout.size:
            raise WrongLength(name, len(value))
        return tuple([make(*members) for members in layout.iter_unpack(value)])

    return read


def _item_layout(item: Fixed | type) -> struct.Struct:
    """The `struct` of an array's item, a class counting as its fixed-size fields."""
    if isinstance(item, Fixed):
        return struct.Struct(">" + item.format)
    fields = schema_of(item).fields
    return struct.Struct(">" + "".join(kind.format for _, kind in fields if isinstance(kind, Fixed)))


def _rest_writer(item: Fixed | type | None) -> Encode:
    if item is None:
        return bytes
    pack = _item_layout(item).pack
    if isinstance(item, Fixed):
        return lambda value: b"".join([pack(member) for member in value])
    return lambda value: b"".join([pack(*msgspec.structs.astuple(member)) for member in value])


def _bigsize_reader(name: str) -> Decode:
    def read(value: bytes) -> int:
        number, end = tlv.read_bigsize(value, 0, name)
        if end != len(value):
            raise WrongLength(name, len(value))
        return number

    return read


def _flag_reader(name: str) -> Decode:
    def read(value: bytes) -> bool:
        if value:
            raise WrongLength(name, len(value))
        return True

    return read


def _record_reader(name: str, kind: Kind) -> Decode:
    """The function that reads a record's whole value."""
    match kind:
        case Fixed():
            return _fixed_reader(name, kind)
        case Rest(item):
            return _rest_reader(name, item)
        case Truncatable(limit):
            return lambda value: tlv.read_truncated(value, limit)
        case BigSize():
            return _bigsize_reader(name)
        case Flag():
            return _flag_reader(name)
        case Group(cls):
            return group_codec(cls).decode
    raise AssertionError(kind)


def _record_writer(name: str, kind: Kind) -> Encode:
    """The function that writes a record's whole value."""
    match kind:
        case Fixed():
            return _fixed_writer(name, kind)
        case Rest(item):
            return _rest_writer(item)
        case Truncatable(limit):
            return _truncated_writer(name, limit)
        case BigSize():
            return tlv.write_bigsize
        case Flag():
            return lambda _present: b""
        case Group(cls):
            return group_codec(cls).encode
    raise AssertionError(kind)


def _truncated_writer(name: str, limit: int) -> Encode:
    def write(value: int) -> bytes:
        if value >> 8 * limit:
            raise EncodeError(name, str(value))
        return tlv.write_truncated(value)

    return write


def _fixed_writer(name: str, fixed: Fixed) -> Encode:
    layout = struct.Struct(">" + fixed.format)

    def write(value: Any) -> bytes:
        if isinstance(value, bytes) and len(value) != layout.size:
            raise EncodeError(name, f"{len(value)} bytes")
        return layout.pack(value)

    return write
