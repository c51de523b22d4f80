"""Values of every message class, drawn from the schema that the class declares."""

import json
import struct
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from wire.codec import (
    BigSize,
    Check,
    Counted,
    Extension,
    Fixed,
    Flag,
    Group,
    Kind,
    Message,
    Record,
    Rest,
    Truncatable,
)
from wire.crypto.secp256k1 import point_of
from wire.schema import schema_of
from wire.units import MAX_MSAT, MAX_SAT

VECTORS = Path(__file__).parents[1] / "vectors"
POINTS = [point_of(number.to_bytes(32, "big")) for number in range(1, 9)]

_LARGEST = {Check.SAT: MAX_SAT, Check.MSAT: MAX_MSAT}


def vectors(name: str) -> Any:
    """One file of the protocol's figures."""
    return json.loads((VECTORS / f"{name}.json").read_text())


def values(kind: Kind) -> st.SearchStrategy[Any]:
    """What a field of this kind can hold."""
    match kind:
        case Fixed():
            return _fixed(kind)
        case Counted(None) | Rest(None) | Extension():
            return st.binary(max_size=80)
        case Counted(Counted()):
            return st.lists(st.binary(max_size=80), max_size=4).map(tuple)
        case Counted(Fixed() as item) | Rest(Fixed() as item):
            return st.lists(values(item), max_size=5).map(tuple)
        case Rest(type() as cls):
            return st.lists(structures(cls), max_size=5).map(tuple)
        case Truncatable(limit):
            return st.integers(0, 256**limit - 1)
        case BigSize():
            return st.integers(0, 2**64 - 1)
        case Flag():
            return st.booleans()
        case Group(cls):
            return structures(cls)
    raise AssertionError(kind)


def _fixed(fixed: Fixed) -> st.SearchStrategy[Any]:
    size = struct.calcsize(">" + fixed.format)
    if fixed.check in (Check.POINT, Check.POINT_PREFIX):
        return st.sampled_from(POINTS)
    if fixed.format.endswith("s"):
        return st.binary(min_size=32, max_size=32).map(lambda seed: (seed * (size // 32 + 1))[:size])
    if fixed.format.islower():
        return st.integers(-(256**size) // 2, 256**size // 2 - 1)
    return st.integers(0, _LARGEST.get(fixed.check, 256**size - 1))


@cache
def structures(cls: type) -> st.SearchStrategy[Any]:
    """Values of a class that annotates its fields, such as a message."""
    schema = schema_of(cls)
    fields = {name: values(kind) for name, kind in schema.fields}
    records = {name: _maybe(record) for name, record in schema.records}
    return st.builds(cls, **fields, **records)


def _maybe(record: Record) -> st.SearchStrategy[Any]:
    present = values(record.kind)
    return present if isinstance(record.kind, Flag) else st.none() | present


def messages(*classes: type[Message]) -> st.SearchStrategy[Message]:
    """Messages of any of these classes."""
    return st.one_of([structures(cls) for cls in classes])
