"""One database per node, one transaction per turn (DESIGN §3).

A channel is one row holding the whole value: encoding 50 pending HTLCs takes 6 µs, while a row
for each HTLC would cost as many statements at every signature. SQLite in WAL mode with
synchronous=FULL makes a commit one fsync. The exclusive lock refuses a second process, and
spares the shared-memory index.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import apsw
import msgspec

from htlc.channel import Channel
from htlc.ladder import Htlc, Side
from wire.bitcoin.tx import Transaction, parse_transaction
from wire.units import Msat

CACHE_KIB = 256
"""Pages of SQLite's own: the system has them all, and gives one again for a microsecond."""
FORMAT = 1
"""The number of what is written into databases: another one for every change that leaves something in them
which cannot be read any more, or means something else. Before there was a number, it was 0."""
META_SCHEMA = "create table if not exists meta(key text primary key, value blob not null) without rowid;"
SCHEMA = """
create table if not exists channels(channel_id blob primary key, value blob not null) without rowid;
create table if not exists past_htlcs(channel_id blob, side integer, id integer, entered integer not null,
    left integer not null, amount_msat integer not null, payment_hash blob not null,
    cltv_expiry integer not null, primary key(channel_id, side, id)) without rowid;
create table if not exists resolutions(channel_id blob primary key, value blob not null) without rowid;
create table if not exists closing_wishes(channel_id blob primary key, value blob not null) without rowid;
create table if not exists broadcasts(txid blob primary key, raw blob not null, settled integer)
    without rowid;
create table if not exists invoices(payment_hash blob primary key, value blob not null) without rowid;
create table if not exists offers(offer_id blob primary key, value blob not null) without rowid;
create table if not exists used_offers(offer_id blob primary key) without rowid;
create table if not exists invoice_requests(invreq_id blob primary key, value blob not null) without rowid;
create table if not exists payments(payment_hash blob primary key, value blob not null) without rowid;
create table if not exists attempts(id integer primary key, value blob not null);
create table if not exists tolls(channel_id blob primary key, value blob not null) without rowid;
create table if not exists lenient(key blob primary key) without rowid;
create table if not exists onions(cltv_expiry integer, digest blob, primary key(cltv_expiry, digest))
    without rowid;
create index if not exists onions_by_digest on onions(digest);
create table if not exists histories(channel_id blob primary key, value blob not null) without rowid;
create table if not exists passages(id integer primary key, value blob not null);
create table if not exists forwards(channel_in blob primary key, value blob not null) without rowid;
create table if not exists addresses(node_id blob primary key, value blob not null) without rowid;
create table if not exists gossip(name blob primary key, raw blob not null) without rowid;
"""


class DatabaseInUse(Exception):
    """Another process has this node's database open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} is in use by another process")


class Damaged(Exception):
    """The file is no database of ours, or of a version that we cannot read."""

    def __init__(self, path: Path, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(f"{path} cannot be read as a node's database: {why}")


_encode = msgspec.msgpack.Encoder().encode
_decode_channel = msgspec.msgpack.Decoder(Channel).decode


class Database:
    """A file that one process owns. Everything that is written is durable when `commit` returns."""

    def __init__(self, path: Path, schema: str) -> None:
        """Open or create it.

        Raises:
            DatabaseInUse: another process has it.
            Damaged: it is not one of ours.
        """
        self.path = path
        self.commits = 0
        try:
            self.db = apsw.Connection(str(path), statementcachesize=200)
            self.db.execute("pragma locking_mode=exclusive")
            self._check_format()
            self.db.execute("pragma journal_mode=wal")
            self.db.execute("pragma synchronous=full")
            self.db.execute(f"pragma cache_size=-{CACHE_KIB}")
            self.db.execute(f"begin; {META_SCHEMA + schema}; pragma user_version={FORMAT}; commit")
        except (apsw.BusyError, apsw.LockedError):
            raise DatabaseInUse(path) from None
        except (apsw.NotADBError, apsw.CorruptError, apsw.CantOpenError, apsw.SQLError) as error:
            raise Damaged(path, str(error)) from None

    def _check_format(self) -> None:
        """Let nothing be read as what it is not, nor be changed."""
        [(found,)] = self.db.execute("pragma user_version")
        is_new = not self.db.execute("select 1 from sqlite_master").fetchall()
        if not is_new and found != FORMAT:
            self.db.close()
            age = "an earlier" if found < FORMAT else "a later"
            why = f"{age} version of Rill wrote it, in format {found}, and this one reads format {FORMAT}"
            raise Damaged(self.path, f"{why}; start the version that wrote it")

    def close(self) -> None:
        self.db.close()

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """All of it durable at the end, or none of it."""
        self.db.execute("begin immediate")
        try:
            yield self.db
        except BaseException:
            self.db.execute("rollback")
            raise
        self.db.execute("commit")
        self.commits += 1

    # Rows. Writers run inside a transaction of the caller.

    def put_meta(self, key: str, value: bytes) -> None:
        self.db.execute("insert or replace into meta values(?, ?)", (key, value))

    def meta(self, key: str) -> bytes | None:
        row = self.db.execute("select value from meta where key = ?", (key,)).fetchone()
        return row[0] if row else None


class Store(Database):
    """The node's database."""

    def __init__(self, path: Path, more_schema: str = "") -> None:
        """Open or create the database.

        Raises:
            DatabaseInUse, Damaged: as of any database of ours.
        """
        super().__init__(path, SCHEMA + more_schema)

    def put_channel(self, channel: Channel) -> None:
        self.db.execute("insert or replace into channels values(?, ?)", (channel.id, _encode(channel)))

    def channels(self) -> list[Channel]:
        try:
            return [_decode_channel(row[0]) for row in self.db.execute("select value from channels")]
        except msgspec.MsgspecError as error:
            raise Damaged(self.path, str(error)) from None

    def put_past(self, channel_id: bytes, gone: Iterable[Htlc]) -> None:
        """Keep what it takes to punish a revoked commitment that contained these HTLCs."""
        self.db.executemany(
            "insert or replace into past_htlcs values(?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    channel_id,
                    h.proposer,
                    h.id,
                    h.entered,
                    h.left,
                    h.amount_msat,
                    h.payment_hash,
                    h.cltv_expiry,
                )
                for h in gone
            ],
        )

    def past_htlcs(self, channel_id: bytes, remote_number: int) -> list[Htlc]:
        """The settled HTLCs that their commitment of this number contained."""
        rows = self.db.execute(
            "select side, id, amount_msat, payment_hash, cltv_expiry, entered, left from past_htlcs"
            " where channel_id = ? and entered <= ? and left > ?",
            (channel_id, remote_number, remote_number),
        )
        return [
            Htlc(Side(row[0]), row[1], Msat(row[2]), row[3], row[4], entered=row[5], left=row[6])
            for row in rows
        ]

    def every_past_htlc(self, channel_id: bytes) -> list[Htlc]:
        """The settled HTLCs of a channel."""
        rows = self.db.execute(
            "select side, id, amount_msat, payment_hash, cltv_expiry from past_htlcs where channel_id = ?",
            (channel_id,),
        )
        return [Htlc(Side(side), number, Msat(amount), *rest) for side, number, amount, *rest in rows]

    def put_onion(self, cltv_expiry: int, digest: bytes) -> None:
        """Remember an onion that was passed on, for as long as it could be passed on."""
        self.db.execute("insert into onions values(?, ?)", (cltv_expiry, digest))

    def has_onion(self, digest: bytes) -> bool:
        found = self.db.execute("select 1 from onions where digest = ?", (digest,))
        return found.fetchone() is not None

    def forget_onions(self, cltv_expiry: int) -> None:
        """Forget the onions that ask for less: nobody would pass them on any more."""
        self.db.execute("delete from onions where cltv_expiry < ?", (cltv_expiry,))

    def forget_channel(self, channel_id: bytes) -> None:
        """Drop what was kept to resolve a channel on the chain: it is irrevocably over."""
        self.db.execute("delete from resolutions where channel_id = ?", (channel_id,))
        self.db.execute("delete from past_htlcs where channel_id = ?", (channel_id,))

    def put_broadcast(self, transaction: Transaction) -> None:
        """Remember what we gave to the chain until it is irrevocable, to give it again."""
        row = (transaction.txid, transaction.serialize())
        self.db.execute("insert or ignore into broadcasts values(?, ?, null)", row)

    def broadcasts(self) -> list[Transaction]:
        return [parse_transaction(row[0]) for row in self.db.execute("select raw from broadcasts")]

    def waiting_broadcasts(self) -> list[Transaction]:
        """Those that no block has settled: neither they nor what spends the same is in one."""
        rows = self.db.execute("select raw from broadcasts where settled is null")
        return [parse_transaction(row[0]) for row in rows]

    def settle_broadcast(self, txid: bytes, height: int) -> None:
        self.db.execute("update broadcasts set settled = ? where txid = ?", (height, txid))

    def unsettle_broadcasts(self, height: int) -> None:
        self.db.execute("update broadcasts set settled = null where settled >= ?", (height,))

    def forget_broadcasts(self, height: int) -> None:
        """Forget those that a block of this height, or one below, has settled."""
        self.db.execute("delete from broadcasts where settled <= ?", (height,))

    def forget_broadcast(self, txid: bytes) -> None:
        self.db.execute("delete from broadcasts where txid = ?", (txid,))

    def put_value(self, table: str, key: bytes | int, value: msgspec.Struct) -> None:
        """Write a row of one of the tables that hold a value for each key."""
        self.db.execute(f"insert or replace into {table} values(?, ?)", (key, _encode(value)))

    def put_key(self, table: str, key: bytes) -> None:
        """Enter a key into a table that says which there are."""
        self.db.execute(f"insert or replace into {table} values(?)", (key,))

    def drop_key(self, table: str, key: bytes) -> None:
        self.db.execute(f"delete from {table} where key = ?", (key,))

    def keys(self, table: str) -> set[bytes]:
        return {key for (key,) in self.db.execute(f"select key from {table}")}

    def last_passage(self) -> int:
        """The number of the last passage that was kept; 0 if there is none."""
        [(number,)] = self.db.execute("select coalesce(max(id), 0) from passages")
        return int(number)

    def put_passages(self, rows: Sequence[tuple[int, msgspec.Struct]], last: int) -> None:
        """Keep these, and none up to the number `last`."""
        values = [(number, _encode(row)) for number, row in rows]
        self.db.executemany("insert or replace into passages values(?, ?)", values)
        self.db.execute("delete from passages where id <= ?", (last,))

    def forget_passages(self, numbers: Iterable[int]) -> None:
        self.db.executemany("delete from passages where id = ?", [(each,) for each in numbers])

    def used_offers(self) -> set[bytes]:
        """The offers for which an invoice was paid."""
        return {row[0] for row in self.db.execute("select offer_id from used_offers")}

    def note_used_offer(self, offer_id: bytes) -> None:
        self.db.execute("insert or ignore into used_offers values(?)", (offer_id,))

    def values(self, table: str) -> Iterator[bytes]:
        for _, value in self.items(table):
            yield value

    def items(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """The rows of one of those tables: key and encoded value."""
        for row in self.db.execute(f"select * from {table}"):
            yield row[0], row[1]
