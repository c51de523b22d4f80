"""What Core Lightning's commands take and answer, as a table of facts; our replies are held to it.

A command's line has its parameters in their order, the optional ones in brackets. Below it stands
each field of its reply: the way to it, its kind, and when it is there: `!` always, `when` always if
a neighbour has such a value, `not` never then, `with` always then and never else, and `ours` what
Core Lightning does not have. A field that the table does not have is a mistake.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

TABLE = Path(__file__).parents[1] / "vectors" / "rpc_replies.txt"
ALWAYS, OURS = "!", "ours"


def _digits(count: int | None) -> Callable[[Any], bool]:
    pattern = re.compile("([0-9a-f]{2})*" if count is None else f"[0-9a-f]{{{count}}}")
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _text(pattern: str) -> Callable[[Any], bool]:
    compiled = re.compile(pattern, re.DOTALL)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def _unsigned(bits: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and 0 <= value < 1 << bits


KINDS: dict[str, Callable[[Any], bool]] = {
    "point": _text("0[23][0-9a-f]{64}"),
    "hex": _digits(None),
    "hex32": _digits(64),
    "hex64": _digits(128),
    "text": lambda value: isinstance(value, str),
    "truth": lambda value: isinstance(value, bool),
    "u8": _unsigned(8),
    "u16": _unsigned(16),
    "u32": _unsigned(32),
    "u64": _unsigned(64),
    "msat": _unsigned(63),
    "sat": _unsigned(53),
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) in (int, float),
    "scid": _text("[0-9]+x[0-9]+x[0-9]+"),
    "scid/dir": _text("[0-9]+x[0-9]+x[0-9]+/[01]"),
    "outpoint": _text("[0-9a-f]{64}:[0-9]+"),
    "list": lambda value: isinstance(value, list),
    "map": lambda value: isinstance(value, dict),
    "names": lambda value: isinstance(value, dict),  # each with what belongs to it
    "any": lambda _: True,
}


class Condition(NamedTuple):
    """Whether a neighbour has one of these values."""

    name: str
    values: tuple[str, ...]
    is_so: bool

    def holds(self, neighbours: dict[str, Any]) -> bool:
        value = neighbours.get(self.name, "")
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        return (shown in self.values) is self.is_so


class Field:
    """One field, and what is in it."""

    def __init__(self, kind: str = "map", presence: str = "") -> None:
        self.kind, self.inner = kind, dict[str, "Field"]()
        words = [word for word in presence.split("; ") if word]
        self.is_always, self.is_ours = ALWAYS in words, OURS in words
        self._when = [_condition(word) for word in words if word.startswith(("when ", "with "))]
        self._not = [_condition(word) for word in words if word.startswith("not ")]
        self._only = [_condition(word) for word in words if word.startswith("with ")]

    def is_kind(self, value: Any) -> bool:
        known = KINDS.get(self.kind)
        return value in self.kind.split("|") if known is None else known(value)

    def must_be(self, neighbours: dict[str, Any]) -> bool:
        return self.is_always or any(each.holds(neighbours) for each in self._when)

    def may_be(self, neighbours: dict[str, Any]) -> bool:
        only = not self._only or any(each.holds(neighbours) for each in self._only)
        return only and not any(each.holds(neighbours) for each in self._not)


def _condition(word: str) -> Condition:
    name, negation, values = re.fullmatch(r"\w+ (\w+)(!?)=(.*)", word, re.DOTALL).groups()  # type: ignore[union-attr]
    return Condition(name, tuple(values.split("|")), not negation)


class Command(NamedTuple):
    """A line of the table, and the lines below it."""

    parameters: tuple[str, ...]
    reply: Field


@lru_cache(maxsize=1)
def table() -> dict[str, Command]:
    """All commands by name."""
    found: dict[str, Command] = {}
    reply = Field()
    for line in TABLE.read_text().splitlines():
        if line.startswith("  "):
            path, kind, *presence = line.strip().split("  ")
            _place(reply, path.replace("[]", ".[]").split("."), Field(kind, *presence))
        elif line and not line.startswith("#"):
            reply, (name, *parameters) = Field(), line.split()
            found[name] = Command(tuple(parameters), reply)
    return found


def _place(at: Field, way: list[str], field: Field) -> None:
    *before, last = way
    for name in before:
        at = at.inner.setdefault(name, Field("any"))
    if last in at.inner:
        field.inner = at.inner[last].inner
    at.inner[last] = field


def faults(method: str, result: Any) -> list[str]:
    """Where a reply is not as the table has it."""
    command = table().get(method.replace("_", "-")) or table().get(method)
    return [] if command is None else list(_faults(method, command.reply, result))


def _faults(way: str, field: Field, value: Any) -> Iterator[str]:
    if not field.is_kind(value):
        yield f"{way} is {value!r}, not {field.kind}"
    elif isinstance(value, list) and "[]" in field.inner:
        for each in value:
            yield from _faults(f"{way}[]", field.inner["[]"], each)
    elif isinstance(value, dict) and (field.inner or field.kind == "map") and not field.is_ours:
        for name, inner in field.inner.items():
            if name not in value and inner.must_be(value):
                yield f"{way} lacks {name}"
            elif name in value and not inner.may_be(value):
                yield f"{way} has {name}, which it may not have now"
            elif name in value:
                yield from _faults(f"{way}.{name}", inner, value[name])
        for name in value.keys() - field.inner.keys():
            yield f"{way} has {name}, of which nobody knows"
