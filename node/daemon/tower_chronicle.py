"""What each commitment of our peers held, and which towers have the justice for it.

A row is written with the signature that makes the commitment, in the same transaction: once its
HTLCs are settled nothing else tells its balances and its feerate, and without them no txid.
"""

import msgspec

from htlc.channel import Channel, Phase
from htlc.justice import Balances, balances_now
from node.daemon.switch import Switch
from node.daemon.turn import Turn

SCHEMA = """
create table if not exists tower_states(channel_id blob, number integer, feerate_per_kw integer not null,
    to_owner_msat integer not null, to_other_msat integer not null, primary key(channel_id, number))
    without rowid;
create table if not exists tower_progress(tower blob, channel_id blob, acknowledged integer not null,
    primary key(tower, channel_id)) without rowid;
"""
ROWS_AT_ONCE = 50


class Chronicle:
    """The rows of all channels, for all towers. Those that write do so in the turn they are given."""

    def __init__(self, switch: Switch) -> None:
        self._db = switch.store.db
        self._db.execute(SCHEMA)
        newest = self._db.execute("select channel_id, max(number) from tower_states group by channel_id")
        self._noted: dict[bytes, int] = dict(newest)
        switch.on_turn.append(self._note_saved)

    def _note_saved(self, turn: Turn) -> None:
        for channel_id in turn.saved:
            self.note(turn, turn.staged[channel_id])

    def note(self, turn: Turn, channel: Channel) -> None:
        """Note the newest commitment of the channel's peer, once."""
        if channel.phase is Phase.CLOSED or self._noted.get(channel.id, -1) >= channel.number.remote:
            return
        self._noted[channel.id] = channel.number.remote
        row = (channel.id, *msgspec.structs.astuple(balances_now(channel)))

        def write() -> None:
            self._db.execute("insert or replace into tower_states values(?, ?, ?, ?, ?)", row)

        turn.write(write)

    def knows(self, channel_id: bytes) -> bool:
        """Whether there are rows of this channel."""
        return channel_id in self._noted

    def revoked(self, channel: Channel, after: int) -> list[Balances]:
        """The next commitments after this number that the peer has revoked."""
        rows = self._db.execute(
            "select number, feerate_per_kw, to_owner_msat, to_other_msat from tower_states"
            " where channel_id = ? and number > ? and number < ? order by number limit ?",
            (channel.id, after, channel.shachain.revealed, ROWS_AT_ONCE),
        )
        return [Balances(*row) for row in rows]

    # --- what towers have

    def acknowledged(self, tower: bytes) -> dict[bytes, int]:
        """Up to which commitment of each channel a tower has everything."""
        query = "select channel_id, acknowledged from tower_progress where tower = ?"
        return dict(self._db.execute(query, (tower,)))

    def put_acknowledged(self, turn: Turn, tower: bytes, acknowledged: dict[bytes, int]) -> None:
        """Write that a tower has more now."""
        rows = [(tower, channel_id, number) for channel_id, number in acknowledged.items()]

        def write() -> None:
            self._db.executemany("insert or replace into tower_progress values(?, ?, ?)", rows)

        turn.write(write)

    def forget(self, turn: Turn, tower: bytes, channel_id: bytes) -> None:
        """This tower has dropped the channel; when all have, so do we."""

        def write() -> None:
            drop = "delete from tower_progress where tower = ? and channel_id = ?"
            self._db.execute(drop, (tower, channel_id))
            drop_states = (
                "delete from tower_states where channel_id = ?1"
                " and not exists (select 1 from tower_progress where channel_id = ?1)"
            )
            self._db.execute(drop_states, (channel_id,))

        self._noted.pop(channel_id, None)
        turn.write(write)
