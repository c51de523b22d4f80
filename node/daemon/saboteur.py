"""Breaking connections at a chosen message, for tests of the protocol (--dev-disconnect).

A file has one order in each line: what to do, the message's name, and at the how-manieth such
message. The first line waits for its message; when that came, the next is read. The file may grow
meanwhile, and if it is emptied, connections that were made deaf are closed.
"""

import re
from enum import Enum
from pathlib import Path

import msgspec

from wire.messages.catalogue import MESSAGES

_LINE = re.compile(r"([-+=$0@<x])(WIRE_[A-Z0-9_]+)(?:\*([1-9][0-9]{0,8}))?")
_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


class Fate(Enum):
    """What becomes of a message, or of the connection at it."""

    PASSED = "="
    CUT_BEFORE = "-"
    CUT_AFTER = "+"
    DROPPED = "$"
    DROPPED_AND_CUT = "@"
    SWALLOWED = "0"  # like everything after it, both ways
    LAST = "x"  # it arrives; then nothing, both ways
    CUT_AFTER_RECEIVED = "<"


class BadSabotage(Exception):
    """A line of the file cannot be meant."""

    def __init__(self, path: Path, line: str) -> None:
        super().__init__(f"{path}: {line!r} is not [-+=$0@<x]WIRE_NAME[*N]")
        self.path, self.line = path, line


class Order(msgspec.Struct):
    """A line of the file, and how many such messages are still to come."""

    fate: Fate
    name: str
    left: int


class Saboteur:
    """Tells each connection of a node the fate of each message."""

    def __init__(self, path: Path) -> None:
        """Look at the file.

        Raises:
            BadSabotage: a line cannot be meant.
        """
        self.path = path
        self._lines_done = 0
        self._order: Order | None = None
        for line in self._lines():
            self._read(line)

    @property
    def is_called_off(self) -> bool:
        """Whether the file was emptied."""
        return not self._lines()

    def fate_of_sent(self, raw: bytes) -> Fate:
        """What becomes of a message that we are about to send."""
        return self._fate(raw, is_received=False)

    def fate_of_received(self, raw: bytes) -> Fate:
        """What becomes of the connection at a message that has come."""
        return self._fate(raw, is_received=True)

    def _fate(self, raw: bytes, *, is_received: bool) -> Fate:
        order = self._order or self._next()
        if order is None or order.name != name_of(raw):
            return Fate.PASSED
        if (order.fate is Fate.CUT_AFTER_RECEIVED) is not is_received:
            return Fate.PASSED
        order.left -= 1
        if order.left:
            return Fate.PASSED
        self._order = None
        self._lines_done += 1
        return order.fate

    def _next(self) -> Order | None:
        waiting = self._lines()[self._lines_done :]
        self._order = self._read(waiting[0]) if waiting else None
        return self._order

    def _lines(self) -> list[str]:
        try:
            return [line for line in self.path.read_text().splitlines() if line]
        except OSError:
            return []

    def _read(self, line: str) -> Order:
        found = _LINE.fullmatch(line)
        if found is None:
            raise BadSabotage(self.path, line)
        return Order(Fate(found[1]), found[2], int(found[3] or 1))


def name_of(raw: bytes) -> str:
    """What lightningd calls a message: WIRE_UPDATE_ADD_HTLC."""
    known = MESSAGES.get(int.from_bytes(raw[:2], "big"))
    return "" if known is None else f"WIRE_{_CAPITAL.sub('_', known.__name__).upper()}"
