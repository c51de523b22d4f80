"""Numbers by which a client learns what it has not seen yet: they count, and never go back.

Invoices, attempts to pay and passages are each numbered in the order in which they were made,
and again whenever one changes; how many were deleted is counted too (Core Lightning's `wait`).
The largest number in a table would not do: it goes back when the last row is deleted.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import msgspec

if TYPE_CHECKING:
    from node.daemon.store import Store
    from node.daemon.turn import Turn

META_KEY = "indexes"
INVOICES, SENDPAYS, FORWARDS = "invoices", "sendpays", "forwards"
CREATED, UPDATED, DELETED = "created", "updated", "deleted"
PAID = "paid"  # of invoices alone: the order in which they were

Listener: TypeAlias = Callable[[str, str, int, object], None]


class Indexes:
    """The counts by what is counted: (subsystem, index)."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        raw = store.meta(META_KEY)
        self._counts: dict[str, int] = msgspec.json.decode(raw) if raw else {}
        self.on_counted: list[Listener] = []  # told which, the new count, and the row, once it is durable

    def value(self, subsystem: str, index: str) -> int:
        """How many there were."""
        return self._counts.get(f"{subsystem}.{index}", 0)

    def begin_after(self, subsystem: str, index: str, number: int) -> None:
        """Give out no number up to this one: it is in a row that is older than the counts."""
        self._counts[f"{subsystem}.{index}"] = max(number, self.value(subsystem, index))

    def next(self, turn: "Turn", subsystem: str, index: str) -> int:
        """A new number, which is durable when the turn is."""
        return self.reach(turn, subsystem, index, self.value(subsystem, index) + 1)

    def reach(self, turn: "Turn", subsystem: str, index: str, number: int) -> int:
        """Let a number be given out that was drawn before the turn."""
        self.begin_after(subsystem, index, number)
        turn.writes_once[META_KEY.encode()] = self._write
        return number

    def _write(self) -> None:
        self._store.put_meta(META_KEY, msgspec.json.encode(self._counts))

    def tell(self, turn: "Turn", subsystem: str, index: str, row: object) -> None:
        """Let those who wait know of the row that the last number was given to."""
        if self.on_counted:
            number = self.value(subsystem, index)
            for listener in self.on_counted:
                turn.then(lambda call=listener: call(subsystem, index, number, row))  # type: ignore[misc]
