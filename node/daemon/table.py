"""Rows by their key, in the database: what a node has done in years has no place in its memory.

There are only the rows that are not durable yet, which stand before those of the database, and the few
that were looked at last. A row is one encoded value; what it must be found by is a column beside it, with
an index over the rows that have it.
"""

from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import msgspec

if TYPE_CHECKING:
    from node.daemon.store import Database
    from node.daemon.turn import Turn

Key = TypeVar("Key", bytes, int)
Row = TypeVar("Row", bound=msgspec.Struct)
Column: TypeAlias = bytes | str | int | None

_encode = msgspec.msgpack.Encoder().encode


class Table(Generic[Key, Row]):
    """One table of a store, whose rows are values of one kind."""

    def __init__(
        self,
        store: "Database",
        name: str,
        key_name: str,
        kind: type[Row],
        columns: Mapping[str, Callable[[Row], Column]],
        *,
        remembered: int = 64,
    ) -> None:
        """`columns` gives the columns beside the value; a row that has None there is not in the index."""
        self._db, self._name, self._key_name, self._columns = store.db, name, key_name, columns
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._remembered = remembered
        self._unwritten: dict[Key, Row | None] = {}  # None: dropped
        self._recent: dict[Key, Row] = {}
        names = ", ".join((key_name, "value", *columns))
        marks = ", ".join("?" * (2 + len(columns)))
        self._select = f"select value from {name} where {key_name} = ?"
        self._insert = f"insert or replace into {name}({names}) values({marks})"
        self._widen()

    def _widen(self) -> None:
        """Give a table that is new, or older than a column, the columns that it lacks."""
        known = {row[1] for row in self._db.execute(f"pragma table_info({self._name})")}
        missing = [column for column in self._columns if column not in known]
        if not missing:
            return
        with self._db:  # all of it or nothing
            for column in missing:
                self._db.execute(f"alter table {self._name} add column {column}")
                self._db.execute(
                    f"create index if not exists {self._name}_by_{column} on {self._name}({column})"
                    f" where {column} is not null"
                )
            for key, row in list(self.items()):
                self._insert_row(key, row)

    # --- reading

    def get(self, key: Key) -> Row | None:
        """The row, if there is one."""
        if key in self._unwritten:
            return self._unwritten[key]
        row = self._recent.get(key)
        if row is None:
            found = self._db.execute(self._select, (key,)).fetchone()
            if found is not None:
                row = self._remember(key, self._decode(found[0]))
        return row

    def __getitem__(self, key: Key) -> Row:
        row = self.get(key)
        if row is None:
            raise KeyError(key)
        return row

    def __contains__(self, key: Key | None) -> bool:
        return key is not None and self.get(key) is not None

    def __len__(self) -> int:
        [(durable,)] = self._db.execute(f"select count(*) from {self._name}")
        count = int(durable)
        for key, row in self._unwritten.items():
            is_durable = self._db.execute(self._select, (key,)).fetchone() is not None
            count += (row is not None) - is_durable
        return count

    def items(self) -> Iterator[tuple[Key, Row]]:
        """All rows, one by one, by their keys; nothing may be written meanwhile."""
        rest = dict(self._unwritten)
        for key, raw in self._db.execute(f"select {self._key_name}, value from {self._name}"):
            row = rest.pop(key) if key in rest else self._decode(raw)
            if row is not None:
                yield key, row
        yield from ((key, row) for key, row in rest.items() if row is not None)

    def values(self) -> Iterator[Row]:
        """All rows, one by one."""
        return (row for _, row in self.items())

    def where(self, column: str, value: Column) -> list[Row]:
        """The rows that have this in a column, by their keys."""
        query = f"select {self._key_name}, value from {self._name} where {column} = ?"
        found = {
            key: self._decode(raw)
            for key, raw in self._db.execute(query, (value,))
            if key not in self._unwritten
        }
        read = self._columns[column]
        late = {key: row for key, row in self._unwritten.items() if row is not None and read(row) == value}
        return [row for _, row in sorted((found | late).items(), key=itemgetter(0))]

    def first_after(self, column: str, number: int) -> Row | None:
        """The durable row with the least number in a column that is larger than this one."""
        query = f"select {self._key_name} from {self._name} where {column} > ? order by {column} limit 1"
        found = self._db.execute(query, (number,)).fetchone()
        return None if found is None else self[found[0]]

    def having(self, column: str) -> Iterator[tuple[Key, Row]]:
        """The durable rows that have something in a column, by what they have."""
        query = (
            f"select {self._key_name}, value from {self._name} where {column} is not null order by {column}"
        )
        return ((key, self._decode(raw)) for key, raw in self._db.execute(query))

    def _remember(self, key: Key, row: Row) -> Row:
        if self._remembered:
            if len(self._recent) >= self._remembered:
                del self._recent[next(iter(self._recent))]
            self._recent[key] = row
        return row

    # --- writing

    def hold(self, key: Key, row: Row) -> None:
        """Have a row in memory alone, until it is put or dropped."""
        self._unwritten[key] = row

    def put(self, turn: "Turn", key: Key, row: Row | None) -> None:
        """Write a row, or drop it if it is None; all that a turn does to one is one write."""
        self._unwritten[key] = row
        turn.writes_once[f"{self._name} {key!r}".encode()] = lambda: self._write(key)
        turn.then(lambda: self._note_durable(key, row))

    def _write(self, key: Key) -> None:
        row = self._unwritten[key]
        if row is None:
            self._db.execute(f"delete from {self._name} where {self._key_name} = ?", (key,))
        else:
            self._insert_row(key, row)

    def _insert_row(self, key: Key, row: Row) -> None:
        self._db.execute(self._insert, (key, _encode(row), *[read(row) for read in self._columns.values()]))

    def _note_durable(self, key: Key, row: Row | None) -> None:
        """If it was not changed again meanwhile, the database has it."""
        if key in self._unwritten and self._unwritten[key] is row:
            del self._unwritten[key]
            self._recent.pop(key, None)
            if row is not None:
                self._remember(key, row)
