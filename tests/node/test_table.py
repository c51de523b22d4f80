"""Rows that are in the database and not in memory: what is read is always what was last said."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from node.daemon.invoices import InvoiceRow, new_invoice
from node.daemon.store import Database, Store
from node.daemon.table import Table
from node.daemon.turn import Turn
from tests.node.line import line
from tests.node.lockstep import quick_directory
from tests.node.payments import AMOUNT
from wire.units import Msat

SCHEMA = "create table if not exists things(name blob primary key, value blob not null) without rowid;"
REMEMBERED = 3


class Thing(msgspec.Struct, frozen=True):
    size: int
    color: str = ""


def things(store: Database) -> Table[bytes, Thing]:
    columns = {"size": lambda row: row.size or None, "color": lambda row: row.color or None}
    return Table(store, "things", "name", Thing, columns, remembered=REMEMBERED)


def commit(store: Database, turn: Turn) -> None:
    """As the owner loop does."""
    with store.transaction():
        for write in turn.writes_once.values():
            write()
    for act in turn.after:
        act()


@contextmanager
def turns(store: Database) -> Iterator[Turn]:
    turn = Turn(cast(Any, None))
    yield turn
    commit(store, turn)


NAMES = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f"])
SIZES, COLORS = st.integers(0, 3), st.sampled_from(["", "red", "blue"])


class Rows(RuleBasedStateMachine):
    """A table beside a dictionary, through turns and restarts."""

    def __init__(self) -> None:
        super().__init__()
        self._place = quick_directory()
        self._path = self._place.__enter__() / "things.sqlite"
        self.said: dict[bytes, Thing] = {}
        self._open()

    def _open(self) -> None:
        self.store = Database(self._path, SCHEMA)
        self.table, self.turn = things(self.store), Turn(cast(Any, None))
        self.is_held = False

    def teardown(self) -> None:
        self.store.close()
        self._place.__exit__(None, None, None)

    @rule(name=NAMES, size=SIZES, color=COLORS)
    def put(self, name: bytes, size: int, color: str) -> None:
        self.said[name] = Thing(size, color)
        self.table.put(self.turn, name, self.said[name])

    @rule(name=NAMES)
    def drop(self, name: bytes) -> None:
        self.said.pop(name, None)
        self.table.put(self.turn, name, None)

    @rule(name=NAMES, size=SIZES)
    def hold(self, name: bytes, size: int) -> None:
        self.said[name] = Thing(size)
        self.table.hold(name, self.said[name])
        self.is_held = True

    @rule()
    def end_the_turn(self) -> None:
        commit(self.store, self.turn)
        self.turn = Turn(cast(Any, None))

    @precondition(lambda self: not self.is_held)
    @rule()
    def start_again(self) -> None:
        self.end_the_turn()
        assert [self.table._unwritten, len(self.table._recent) <= REMEMBERED] == [{}, True]
        self.store.close()
        self._open()

    @invariant()
    def it_says_what_was_said(self) -> None:
        table, said = self.table, self.said
        assert dict(table.items()) == said
        assert len(table) == len(said)
        assert {name: table.get(name) for name in (b"a", b"b", b"c")} == {
            name: said.get(name) for name in (b"a", b"b", b"c")
        }
        for color in ("red", "blue"):
            assert table.where("color", color) == [
                row for _, row in sorted(said.items()) if row.color == color
            ]


TestRows = Rows.TestCase
TestRows.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_durable_rows_are_in_the_order_of_a_column(tmp_path: Path) -> None:
    store = Database(tmp_path / "things.sqlite", SCHEMA)
    table = things(store)
    with turns(store) as turn:
        for name, size in ((b"a", 7), (b"b", 5), (b"c", 0), (b"d", 9)):
            table.put(turn, name, Thing(size))
    assert [row.size for _, row in table.having("size")] == [5, 7, 9]
    assert table.first_after("size", 5) == Thing(7)
    assert table.first_after("size", 9) is None
    with pytest.raises(KeyError):
        table[b"e"]
    store.close()


def test_a_database_that_is_older_than_a_column_gets_it(tmp_path: Path) -> None:
    path = tmp_path / "node.sqlite"
    store = Store(path)
    rows = [
        msgspec.structs.replace(
            new_invoice(bytes([number]) * 32, bytes(32), Msat(1), "", 0),
            label="" if number & 1 else f"label {number}",
            created_index=number,
        )
        for number in range(1, 10)
    ]
    for row in rows:
        store.put_value("invoices", row.payment_hash, row)
    store.close()
    store = Store(path)
    columns = {"label": lambda row: row.label or None}
    table: Table[bytes, InvoiceRow] = Table(store, "invoices", "payment_hash", InvoiceRow, columns)
    assert table.where("label", "label 4") == [rows[3]]
    assert dict(table.items()) == {row.payment_hash: row for row in rows}
    store.close()


async def test_what_is_over_is_not_in_memory(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        payments, invoices = net["alice"].switch.payments, net["bob"].switch.invoices
        for _ in range(5):
            await net.pay("alice", "bob", AMOUNT)
        await net["alice"].switch.ask(lambda _: None)
        for table in (payments.rows, payments._attempts, invoices.rows):
            assert len(table) == 5
            assert table._unwritten == {}
        for of_a_payment in (
            payments._flying,
            payments._hashes,
            payments._waited,
            payments._attempts._recent,
        ):
            assert not of_a_payment
