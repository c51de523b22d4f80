"""What a node keeps of its sales and its purchases: one database beside the node's own.

Writes are gathered and made durable together. Nothing here is what a payment depends on: a sale
that was paid and not booked is found again among the node's invoices, and a chunk that was paid
and not booked among the ciphertexts that are kept until it is (`Shelf`).
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import trio

from node.daemon.store import Database
from wire.crypto.secp256k1 import Point
from wire.units import Msat

GATHER_SECONDS = 0.5
_SCHEMA = """
create table if not exists shares(root blob primary key, value blob not null) without rowid;
create table if not exists sales(payment_hash blob primary key, root blob not null, chunk integer not null,
    buyer blob not null, received_msat integer not null, sold_at integer not null) without rowid;
create table if not exists titles(root blob primary key, value blob not null) without rowid;
create table if not exists chunks(root blob, chunk integer, provider blob not null,
    price_msat integer not null, fee_msat integer not null, bought_at integer not null,
    subtree blob not null, proof blob not null, primary key(root, chunk)) without rowid;
create table if not exists wasted(payment_hash blob primary key, root blob not null, provider blob not null,
    price_msat integer not null, fee_msat integer not null, paid_at integer not null) without rowid;
"""


class Sale(msgspec.Struct, frozen=True, gc=False):
    """A chunk that was paid for."""

    payment_hash: bytes
    root: bytes
    chunk: int
    buyer: Point
    received_msat: Msat
    sold_at: int


class Sum(msgspec.Struct, frozen=True, gc=False):
    """The sales of one title to one buyer."""

    root: bytes
    buyer: Point
    chunks: int
    received_msat: Msat
    last_at: int


class Purchase(msgspec.Struct, frozen=True, gc=False):
    """A chunk that is ours: what it cost, and what proves its place."""

    chunk: int
    provider: Point
    price_msat: Msat
    fee_msat: Msat
    bought_at: int
    subtree: bytes
    proof: bytes


class Books:
    """The rows, and a task that makes what is noted durable: start `run` in a nursery."""

    def __init__(self, path: Path) -> None:
        """Open or create the database.

        Raises:
            DatabaseInUse, Damaged: it cannot be opened.
        """
        self._database = Database(path, _SCHEMA)
        self._db = self._database.db
        self._noted: list[tuple[str, tuple[object, ...]]] = []
        self._after: list[Callable[[], None]] = []
        self._has_work = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled, and what is noted then too."""
        task_status.started()
        try:
            while True:
                await self._has_work.wait()
                await trio.sleep(GATHER_SECONDS)
                self.flush()
        finally:
            self.flush()
            self._database.close()

    def flush(self) -> None:
        """Make everything that was noted durable."""
        noted, after = self._noted, self._after
        self._noted, self._after, self._has_work = [], [], trio.Event()
        if noted:
            with self._database.transaction() as db:
                for statement, row in noted:
                    db.execute(statement, row)
        for act in after:
            act()

    def _note(self, statement: str, *row: object, then: Callable[[], None] | None = None) -> None:
        self._noted.append((statement, row))
        if then is not None:
            self._after.append(then)
        self._has_work.set()

    # --- shares and titles: values by root

    def put(self, table: str, root: bytes, value: msgspec.Struct) -> None:
        """Keep a share or a title; durable at once."""
        self._note(f"insert or replace into {table} values(?, ?)", root, msgspec.msgpack.encode(value))
        self.flush()

    def drop(self, table: str, root: bytes) -> None:
        """Forget a share or a title; durable at once."""
        self._note(f"delete from {table} where root = ?", root)
        self.flush()

    def values(self, table: str) -> Iterator[bytes]:
        """The encoded shares or titles."""
        for (value,) in self._db.execute(f"select value from {table}"):
            yield value

    # --- sales

    def note_sale(self, sale: Sale) -> None:
        """Enter a sale; one that is known already stays as it is."""
        row = (sale.payment_hash, sale.root, sale.chunk, sale.buyer, sale.received_msat, sale.sold_at)
        self._note("insert or ignore into sales values(?, ?, ?, ?, ?, ?)", *row)

    def has_sale(self, payment_hash: bytes) -> bool:
        """Whether the sale with this hash is entered and durable."""
        found = self._db.execute("select 1 from sales where payment_hash = ?", (payment_hash,)).fetchone()
        return found is not None

    def sales_by_buyer(self) -> list[Sum]:
        """The sums of all sales, by title and buyer."""
        self.flush()
        rows = self._db.execute(
            "select root, buyer, count(*), sum(received_msat), max(sold_at) from sales group by root, buyer"
        )
        return [Sum(root, buyer, chunks, Msat(msat), last) for root, buyer, chunks, msat, last in rows]

    # --- purchases

    def note_purchases(
        self, root: bytes, purchases: Iterable[Purchase], then: Callable[[], None] | None = None
    ) -> None:
        """Enter chunks that are written and durable; `then` is called when the rows are durable too."""
        for each in purchases:
            self._note(
                "insert or ignore into chunks values(?, ?, ?, ?, ?, ?, ?, ?)",
                root,
                *msgspec.structs.astuple(each),
            )
        if then is not None:
            self._after.append(then)

    def note_waste(
        self, payment_hash: bytes, root: bytes, provider: Point, price_msat: Msat, fee_msat: Msat, at: int
    ) -> None:
        """Enter a payment that brought no chunk: the provider cheated, or came too late."""
        row = (payment_hash, root, provider, price_msat, fee_msat, at)
        self._note("insert or ignore into wasted values(?, ?, ?, ?, ?, ?)", *row)

    def purchases(self, root: bytes) -> Iterator[Purchase]:
        """The chunks of a title that are ours."""
        self.flush()
        rows = self._db.execute(
            "select chunk, provider, price_msat, fee_msat, bought_at, subtree, proof from chunks"
            " where root = ? order by chunk",
            (root,),
        )
        for row in rows:
            yield Purchase(*row)

    def purchase(self, root: bytes, chunk: int) -> Purchase | None:
        """One of them."""
        row = self._db.execute(
            "select chunk, provider, price_msat, fee_msat, bought_at, subtree, proof from chunks"
            " where root = ? and chunk = ?",
            (root, chunk),
        ).fetchone()
        return Purchase(*row) if row else None

    def forget_purchases(self, root: bytes, first: int) -> None:
        """The chunks from this one on are no longer there."""
        self._note("delete from chunks where root = ? and chunk >= ?", root, first)
        self.flush()

    def wasted_msat(self, root: bytes) -> tuple[Msat, Msat]:
        """What was paid for nothing: prices and fees."""
        self.flush()
        [(spent, fees)] = self._db.execute(
            "select coalesce(sum(price_msat), 0), coalesce(sum(fee_msat), 0) from wasted where root = ?",
            (root,),
        )
        return Msat(spent), Msat(fees)

    def spent_since(self, at: int) -> list[tuple[int, int]]:
        """What was paid for chunks since then: seconds and msat."""
        rows = self._db.execute(
            "select bought_at, price_msat from chunks where bought_at >= ?"
            " union all select paid_at, price_msat from wasted where paid_at >= ?",
            (at, at),
        )
        return [(seconds, msat) for seconds, msat in rows]

    def earned_and_spent(self) -> tuple[Msat, Msat, Msat]:
        """Over all titles: received from buyers, paid to providers, paid to the nodes on the way."""
        self.flush()
        [(earned,)] = self._db.execute("select coalesce(sum(received_msat), 0) from sales")
        [(spent, fees)] = self._db.execute(
            "select coalesce(sum(price_msat), 0), coalesce(sum(fee_msat), 0) from"
            " (select price_msat, fee_msat from chunks union all select price_msat, fee_msat from wasted)"
        )
        return Msat(earned), Msat(spent), Msat(fees)
