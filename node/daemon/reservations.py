"""Coins of the wallet that our user keeps for a transaction of his own, until some block.

They survive a restart, as what is planned over days has to; what the node itself is about to spend is
reserved in memory alone.
"""

import apsw
import msgspec

from wire.bitcoin.tx import OutPoint

SCHEMA = """
create table if not exists wallet_reservations(txid blob, position integer, until integer not null,
    primary key(txid, position)) without rowid;
"""


class Reservation(msgspec.Struct, frozen=True, gc=False):
    """What became of one coin: up to which height it was kept, and is now; 0 if it was or is not."""

    outpoint: OutPoint
    before: int
    until: int


class Reservations:
    """Up to which height each coin is kept."""

    def __init__(self) -> None:
        self._until: dict[OutPoint, int] = {}
        self._is_changed = False

    def until(self, outpoint: OutPoint, height: int) -> int:
        """The height at which it is free again; 0 if it is free now."""
        until = self._until.get(outpoint, 0)
        return until if until > height else 0

    def extend(self, outpoint: OutPoint, blocks: int, height: int) -> Reservation:
        """Keep it so many blocks, or so many more."""
        before = self.until(outpoint, height)
        return self._set(outpoint, before, max(before, height) + blocks)

    def shorten(self, outpoint: OutPoint, blocks: int, height: int) -> Reservation:
        """Keep it so many blocks less, or not at all."""
        before = self.until(outpoint, height)
        after = before - blocks
        return self._set(outpoint, before, after if after > height else 0)

    def _set(self, outpoint: OutPoint, before: int, until: int) -> Reservation:
        self._is_changed = True
        self._until.pop(outpoint, None)
        if until:
            self._until[outpoint] = until
        return Reservation(outpoint, before, until)

    def forget(self, outpoint: OutPoint) -> None:
        """It is spent."""
        if self._until.pop(outpoint, None) is not None:
            self._is_changed = True

    def save(self, db: apsw.Connection) -> None:
        """Write them if they changed; the caller begins and commits."""
        if self._is_changed:
            db.execute("delete from wallet_reservations")
            rows = [(outpoint.txid, outpoint.index, until) for outpoint, until in self._until.items()]
            db.executemany("insert into wallet_reservations values(?, ?, ?)", rows)
            self._is_changed = False

    def load(self, db: apsw.Connection) -> None:
        """Take back what was saved."""
        rows = db.execute("select txid, position, until from wallet_reservations")
        self._until = {OutPoint(txid, position): until for txid, position, until in rows}
