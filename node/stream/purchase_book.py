"""What this node has bought: every chunk, what it cost, and where the title lies."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from node.stream.books import Books
from node.stream.content import NotHereYet
from node.stream.merkle import Layout
from wire.crypto.secp256k1 import Point
from wire.units import Msat

_SCHEMA = """
create table if not exists titles(root blob primary key, value blob not null) without rowid;
create table if not exists chunks(root blob, chunk integer, provider blob not null,
    price_msat integer not null, fee_msat integer not null, bought_at integer not null,
    subtree blob not null, proof blob not null, payment_hash blob not null,
    primary key(root, chunk)) without rowid;
create table if not exists wasted(payment_hash blob primary key, root blob not null, provider blob not null,
    price_msat integer not null, fee_msat integer not null, paid_at integer not null) without rowid;
"""
HASH_BYTES = 32
_PURCHASE = "chunk, provider, price_msat, fee_msat, bought_at, subtree, proof, payment_hash"


class Kept(msgspec.Struct, frozen=True):
    """A title that was begun: the file that it lies in, and the first manifest it was bought by."""

    path: str
    manifest: bytes


class Purchase(msgspec.Struct, frozen=True, gc=False):
    """A chunk that is ours: what it cost, and what proves its place."""

    chunk: int
    provider: Point
    price_msat: Msat
    fee_msat: Msat
    bought_at: int
    subtree: bytes
    proof: bytes
    payment_hash: bytes


class Waste(msgspec.Struct, frozen=True, gc=False):
    """A payment that brought no chunk: the provider cheated, or its key came too late."""

    payment_hash: bytes
    provider: Point
    price_msat: Msat
    fee_msat: Msat
    paid_at: int


class PurchaseBook(Books):
    """Titles and their chunks."""

    def __init__(self, path: Path) -> None:
        """Open or create it; raises DatabaseInUse, Damaged."""
        super().__init__(path, _SCHEMA)

    def put_title(self, root: bytes, kept: Kept) -> None:
        """Keep where a title lies; durable at once."""
        self.note("insert or replace into titles values(?, ?)", root, msgspec.msgpack.encode(kept))
        self.flush()

    def title(self, root: bytes) -> Kept | None:
        """Where a title lies, if it was ever begun."""
        row = self._db.execute("select value from titles where root = ?", (root,)).fetchone()
        return msgspec.msgpack.decode(row[0], type=Kept) if row else None

    def titles(self) -> list[Kept]:
        """All that were begun."""
        rows = self._db.execute("select value from titles")
        return [msgspec.msgpack.decode(value, type=Kept) for (value,) in rows]

    def enter(self, root: bytes, purchases: Iterable[Purchase]) -> None:
        """Enter chunks that are written; durable at once."""
        for each in purchases:
            row = msgspec.structs.astuple(each)
            self.note("insert or ignore into chunks values(?, ?, ?, ?, ?, ?, ?, ?, ?)", root, *row)
        self.flush()

    def enter_waste(self, root: bytes, waste: Waste) -> None:
        """Enter a payment for nothing; durable at once."""
        row = (waste.payment_hash, root, waste.provider, waste.price_msat, waste.fee_msat, waste.paid_at)
        self.note("insert or ignore into wasted values(?, ?, ?, ?, ?, ?)", *row)
        self.flush()

    def purchases(self, root: bytes) -> Iterator[Purchase]:
        """The chunks of a title that are ours, in their order."""
        rows = self._db.execute(f"select {_PURCHASE} from chunks where root = ? order by chunk", (root,))
        return (Purchase(*row) for row in rows)

    def purchase(self, root: bytes, chunk: int) -> Purchase | None:
        """One of them."""
        query = f"select {_PURCHASE} from chunks where root = ? and chunk = ?"
        row = self._db.execute(query, (root, chunk)).fetchone()
        return Purchase(*row) if row else None

    def is_entered(self, root: bytes, chunk: int, payment_hash: bytes) -> bool:
        """Whether this payment is accounted for, by the chunk or as a waste."""
        bought = self.purchase(root, chunk)
        if bought is not None and bought.payment_hash == payment_hash:
            return True
        row = self._db.execute("select 1 from wasted where payment_hash = ?", (payment_hash,)).fetchone()
        return row is not None

    def forget(self, root: bytes, first: int) -> None:
        """The chunks from this one on are no longer in the file."""
        self.note("delete from chunks where root = ? and chunk >= ?", root, first)
        self.flush()

    def forget_chunk(self, root: bytes, chunk: int) -> None:
        """This chunk is no longer in the file, or something else is in its place."""
        self.note("delete from chunks where root = ? and chunk = ?", root, chunk)
        self.flush()

    def wasted(self, root: bytes) -> list[Waste]:
        """What was paid for nothing."""
        self.flush()
        rows = self._db.execute(
            "select payment_hash, provider, price_msat, fee_msat, paid_at from wasted where root = ?", (root,)
        )
        return [Waste(*row) for row in rows]

    def spent_since(self, at: int) -> list[tuple[int, int]]:
        """What was paid to providers since then: seconds and msat."""
        self.flush()
        rows = self._db.execute(
            "select bought_at, price_msat from chunks where bought_at >= ?"
            " union all select paid_at, price_msat from wasted where paid_at >= ?",
            (at, at),
        )
        return [(seconds, msat) for seconds, msat in rows]

    def spent_msat(self) -> tuple[Msat, Msat]:
        """Over all titles: to providers, and to the nodes on the way."""
        self.flush()
        [(spent, fees)] = self._db.execute(
            "select coalesce(sum(price_msat), 0), coalesce(sum(fee_msat), 0) from"
            " (select price_msat, fee_msat from chunks union all select price_msat, fee_msat from wasted)"
        )
        return Msat(spent), Msat(fees)


class BoughtProofs:
    """The tree of a title, as far as it was bought: every offer brought the proof of its chunk."""

    def __init__(self, book: PurchaseBook, root: bytes, layout: Layout) -> None:
        self._book, self.root, self.layout = book, root, layout

    def subtree_hash(self, index: int) -> bytes:
        """The hash that stands for a chunk; raises NotHereYet."""
        return self._bought(index).subtree

    def proof(self, index: int) -> tuple[bytes, ...]:
        """The sibling at each layer on the way from a chunk to the root; raises NotHereYet."""
        proof = self._bought(index).proof
        return tuple(proof[at : at + HASH_BYTES] for at in range(0, len(proof), HASH_BYTES))

    def _bought(self, index: int) -> Purchase:
        found = self._book.purchase(self.root, index)
        if found is None:
            raise NotHereYet
        return found
