"""What this node sells and has sold."""

from pathlib import Path

import msgspec

from node.stream.books import Books
from wire.crypto.secp256k1 import Point
from wire.units import Msat

_SCHEMA = """
create table if not exists shares(root blob primary key, value blob not null) without rowid;
create table if not exists sales(payment_hash blob primary key, root blob not null, chunk integer not null,
    buyer blob not null, received_msat integer not null, sold_at integer not null) without rowid;
"""


class Share(msgspec.Struct, frozen=True):
    """A file on sale."""

    path: str
    manifest: bytes
    modified_ns: int
    is_bought: bool = False
    """Whether we bought it ourselves, and sell what we have of it."""


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


class SalesBook(Books):
    """Files on sale, and every chunk that was paid for."""

    def __init__(self, path: Path) -> None:
        """Open or create it; raises DatabaseInUse, Damaged."""
        super().__init__(path, _SCHEMA)

    def put_share(self, root: bytes, share: Share) -> None:
        """Keep a share; durable at once."""
        self.note("insert or replace into shares values(?, ?)", root, msgspec.msgpack.encode(share))
        self.flush()

    def drop_share(self, root: bytes) -> None:
        """Forget a share; durable at once."""
        self.note("delete from shares where root = ?", root)
        self.flush()

    def shares(self) -> list[Share]:
        """The files on sale."""
        rows = self._db.execute("select value from shares")
        return [msgspec.msgpack.decode(value, type=Share) for (value,) in rows]

    def note_sale(self, sale: Sale) -> None:
        """Enter a sale; one that is known already stays as it is."""
        row = (sale.payment_hash, sale.root, sale.chunk, sale.buyer, sale.received_msat, sale.sold_at)
        self.note("insert or ignore into sales values(?, ?, ?, ?, ?, ?)", *row)

    def has_sale(self, payment_hash: bytes) -> bool:
        """Whether the sale with this hash is entered and durable."""
        found = self._db.execute("select 1 from sales where payment_hash = ?", (payment_hash,)).fetchone()
        return found is not None

    def sums(self) -> list[Sum]:
        """The sums of all sales, by title and buyer."""
        self.flush()
        rows = self._db.execute(
            "select root, buyer, count(*), sum(received_msat), max(sold_at) from sales group by root, buyer"
        )
        return [Sum(root, buyer, chunks, Msat(msat), last) for root, buyer, chunks, msat, last in rows]

    def earned_msat(self) -> Msat:
        """What all sales brought."""
        self.flush()
        [(earned,)] = self._db.execute("select coalesce(sum(received_msat), 0) from sales")
        return Msat(earned)
