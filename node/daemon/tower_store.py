"""What a watchtower keeps: sealed justice by hint, and the breaches that it pursues.

Blobs lie in the order in which they came, and an index finds them by hint: sorted by hint instead,
each insertion would split pages full of blobs. What a client has is charged with what its rows
cost beside their blobs, so that many small ones are no way around its quota.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from htlc.watchtower import Breach
from node.daemon.store import Damaged, Database
from node.daemon.tower_messages import AddJustice, Reason

SCHEMA = """
create table if not exists clients(id integer primary key, node_id blob unique not null,
    bytes integer not null);
create table if not exists tags(id integer primary key, client integer not null, tag blob not null,
    unique(client, tag));
create table if not exists justice(id integer primary key, tag integer not null, hint blob not null,
    part integer not null, blob blob not null);
create unique index if not exists justice_by_hint on justice(hint, tag, part);
create index if not exists justice_by_tag on justice(tag);
create table if not exists breaches(id integer primary key, value blob not null);
"""
ROW_BYTES = 160
"""What a row costs beside its blob, indexes included, when every row has a tag of its own."""

_INSERT = (
    "insert into justice(tag, hint, part, blob) values(?, ?, ?, ?)"
    " on conflict(hint, tag, part) do update set blob = excluded.blob"
)
_CHARGE = (
    "insert into clients(node_id, bytes) values(?, ?)"
    " on conflict(node_id) do update set bytes = bytes + excluded.bytes"
)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Breach).decode


class TowerStore(Database):
    """The database of a watchtower. Writers run inside a transaction of the caller."""

    def __init__(self, path: Path, most_client_bytes: int, most_bytes: int) -> None:
        """Open or create it.

        Raises:
            DatabaseInUse, Damaged: it cannot be opened.
        """
        super().__init__(path, SCHEMA)
        self.most_client_bytes, self.most_bytes = most_client_bytes, most_bytes
        self.used_bytes = self._number("select coalesce(sum(bytes), 0) from clients") or 0

    @property
    def count(self) -> int:
        """How many blobs there are."""
        return self._number("select count(*) from justice") or 0

    def _number(self, query: str, *arguments: bytes | int | None) -> int | None:
        """The one number that a query finds, or None."""
        row = self.db.execute(query, arguments).fetchone()
        return None if row is None else int(row[0])

    # --- clients

    def client_bytes(self, node_id: bytes) -> int:
        """What this client is charged."""
        return self._number("select bytes from clients where node_id = ?", node_id) or 0

    def add(self, node_id: bytes, request: AddJustice) -> Reason | None:
        """Keep a blob; the same one again changes nothing. Gives the reason if it is refused."""
        tag = self._tag(node_id, request.tag)
        before = self._length(tag, request)
        more = len(request.blob) - before if before is not None else len(request.blob) + ROW_BYTES
        if self.client_bytes(node_id) + more > self.most_client_bytes:
            return Reason.QUOTA
        if self.used_bytes + more > self.most_bytes:
            return Reason.FULL
        self._charge(node_id, more)
        row = (tag or self._new_tag(node_id, request.tag), request.hint, request.part, request.blob)
        self.db.execute(_INSERT, row)
        return None

    def forget(self, node_id: bytes, name: bytes) -> None:
        """Drop all blobs with this tag; a breach that is being pursued is pursued on."""
        tag = self._tag(node_id, name)
        if tag is None:
            return
        charged = f"select coalesce(sum(length(blob) + {ROW_BYTES}), 0) from justice where tag = ?"
        self._charge(node_id, -(self._number(charged, tag) or 0))
        self.db.execute("delete from justice where tag = ?", (tag,))
        self.db.execute("delete from tags where id = ?", (tag,))

    def _tag(self, node_id: bytes, name: bytes) -> int | None:
        query = "select tags.id from tags join clients on client = clients.id where node_id = ? and tag = ?"
        return self._number(query, node_id, name)

    def _new_tag(self, node_id: bytes, name: bytes) -> int:
        insert = "insert into tags(client, tag) select id, ? from clients where node_id = ?"
        self.db.execute(insert, (name, node_id))
        return self.db.last_insert_rowid()

    def _length(self, tag: int | None, request: AddJustice) -> int | None:
        query = "select length(blob) from justice where hint = ? and tag = ? and part = ?"
        return self._number(query, request.hint, tag, request.part)

    def _charge(self, node_id: bytes, more: int) -> None:
        self.used_bytes += more
        self.db.execute(_CHARGE, (node_id, more))

    # --- breaches

    def matching(self, hint: bytes) -> list[tuple[int, bytes]]:
        """The blobs under a hint, each with its id."""
        return list(self.db.execute("select id, blob from justice where hint = ?", (hint,)))

    def put_breach(self, id: int, breach: Breach) -> None:
        self.db.execute("insert or replace into breaches values(?, ?)", (id, _encode(breach)))

    def drop_breach(self, id: int) -> None:
        self.db.execute("delete from breaches where id = ?", (id,))

    def breaches(self) -> Iterator[tuple[int, Breach]]:
        """Those that are being pursued.

        Raises:
            Damaged: one cannot be read.
        """
        for id, value in self.db.execute("select id, value from breaches"):
            try:
                yield id, _decode(value)
            except msgspec.MsgspecError as error:
                raise Damaged(self.path, str(error)) from None
