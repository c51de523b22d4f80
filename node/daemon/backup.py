"""The backup file: rewritten whenever a channel opens or ends, before the channel can hold money.

A change gets its number in the turn that makes it; the file is replaced between that turn's commit
and its messages. So the file never knows of a channel that the database does not, and a number that
is higher than the database's shows that the database is an old one.
"""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from htlc.backup import (
    NONCE_BYTES,
    Backup,
    BadBackup,
    Entry,
    decode_entry,
    entry_of,
    seal,
    seal_for_peers,
    unseal,
)
from htlc.channel import Channel, Phase
from node.daemon.files import replace_file
from node.daemon.wallet_keys import LOOKAHEAD

if TYPE_CHECKING:
    from node.daemon.switch import Switch
    from node.daemon.turn import Turn

SCHEMA = """
create table if not exists restores(channel_id blob primary key, value blob not null) without rowid;
"""
FILE_NAME = "emergency.recover"
NUMBER = "backup_number"
BIRTHDAY = "birthday"

_with = msgspec.structs.replace
Where = Callable[[bytes], tuple[str, int] | None]
"""The address that a peer is known to have."""


class BackupFile:
    """What the backup of a node contains, and the file that holds it."""

    def __init__(self, switch: "Switch", directory: Path, where: Where) -> None:
        self.path = directory / FILE_NAME
        self._switch, self._where = switch, where
        rows = [decode_entry(raw) for raw in switch.store.values("restores")]
        self.pending = {entry.channel_id: entry for entry in rows}
        """Channels that are known from a backup alone, and not taken in yet."""
        self._key = switch.signer.backup_key
        self.latest = self._last()
        self.on_written: list[Callable[[], None]] = []
        self._ids: set[bytes] = set()
        self._height = -1
        self._is_stale, self._is_due = True, False
        switch.on_turn.append(self._look)
        switch.on_channels_changed.append(lambda _: self._write())

    def _last(self) -> Backup:
        """The one that was written last, or one of nothing if that cannot be the file's."""
        number = _number_in(self._switch.store.meta(NUMBER))
        try:
            written = self.read()
        except BadBackup:
            written = None
        if written is not None and written.number == number:
            return written
        birthday = _number_in(self._switch.store.meta(BIRTHDAY))
        return Backup(number, self._switch.house.chain_hash, birthday, 0, (0, 0), ())

    def touch(self) -> None:
        """Something else than a channel may have changed: look at all of it in the next turn."""
        self._is_stale = True

    def raise_number(self, turn: "Turn", number: int) -> None:
        """A backup of ours has this number although our database does not know of it."""
        self._put(turn, _with(self.latest, number=max(number, self.latest.number)))

    def read(self) -> Backup | None:
        """What the file says, or None if there is none.

        Raises:
            BadBackup: it is no backup of ours.
        """
        return unseal(self.path.read_bytes(), self._key) if self.path.exists() else None

    def sealed(self) -> bytes:
        """What the file holds now."""
        return seal(self.latest, self._key, secrets.token_bytes(NONCE_BYTES))

    def sealed_for_peers(self) -> bytes:
        """The same for somebody else to keep."""
        return seal_for_peers(self.latest, self._key, secrets.token_bytes(NONCE_BYTES))

    # --- in a turn

    def _look(self, turn: "Turn") -> None:
        has_moved = any(self._has_moved(channel) for channel in turn.staged.values())
        # a peer may have announced another address meanwhile
        is_later = self._height != self._switch.height
        if not (has_moved or is_later or self._is_stale):
            return
        self._is_stale, self._height = False, self._switch.height
        entries = self._entries(turn)
        self._ids = {entry.channel_id for entry in entries}
        is_missing = bool(entries) and not self.path.exists()
        if entries == self.latest.entries and not is_missing and not self._lags():
            return
        self._put(turn, _with(self.latest, number=self.latest.number + 1, entries=entries))

    def _has_moved(self, channel: Channel) -> bool:
        return (channel.phase is not Phase.CLOSED) is not (channel.id in self._ids)

    def _lags(self) -> bool:
        """Whether so many addresses were handed out that who restores the wallet might miss some."""
        now, then = self._switch.wallet.key_indexes, self.latest.wallet_indexes
        return bool(self.latest.entries) and any(
            a - b >= LOOKAHEAD // 2 for a, b in zip(now, then, strict=True)
        )

    def _entries(self, turn: "Turn") -> tuple[Entry, ...]:
        channels = [channel for channel in turn.all_channels() if channel.phase is not Phase.CLOSED]
        entries = [entry_of(c, *(self._where(c.charter.peer_id) or ("", 0))) for c in channels]
        known = {channel.id for channel in turn.all_channels()}
        entries += [entry for entry in self.pending.values() if entry.channel_id not in known]
        return tuple(sorted(entries, key=lambda entry: entry.channel_id))

    def _put(self, turn: "Turn", latest: Backup) -> None:
        store = self._switch.store
        self.latest = _with(
            latest,
            birthday=_number_in(store.meta(BIRTHDAY)),
            next_key_index=self._switch.establishment.next_key_index,
            wallet_indexes=self._switch.wallet.key_indexes,
        )
        turn.writes_once[b"backup"] = lambda: store.put_meta(NUMBER, self.latest.number.to_bytes(8, "big"))
        self._is_due = True
        turn.then(self._write)

    # --- after its commit

    def _write(self) -> None:
        """Replace the file if it is out of date. What fails here ends the node before it says a word."""
        if not self._is_due:
            return
        replace_file(self.path, self.sealed())
        self._is_due = False
        for callback in self.on_written:
            callback()


def _number_in(raw: bytes | None) -> int:
    return int.from_bytes(raw or b"", "big")
