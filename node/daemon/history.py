"""What has happened on each channel: how it went from state to state, and what was paid over it.

A channel's value knows only what still matters. What our user may ask about its past is kept beside
it, in a row that is written in the commit of the turn in which it changed.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from htlc.channel import Channel, Phase
from htlc.ladder import LOCAL, REMOTE, Dual, Fulfilled, Htlc, Side
from wire.units import Msat

if TYPE_CHECKING:
    from node.daemon.switch import Switch
    from node.daemon.turn import Turn

TABLE = "histories"
MOST_CHANGES = 50
ONCHAIN = "ONCHAIN"
_STATES = {
    Phase.AWAITING_FUNDING: "CHANNELD_AWAITING_LOCKIN",
    Phase.NORMAL: "CHANNELD_NORMAL",
    Phase.SHUTTING_DOWN: "CHANNELD_SHUTTING_DOWN",
    Phase.NEGOTIATING: "CLOSINGD_SIGEXCHANGE",
    Phase.CLOSING: "CLOSINGD_COMPLETE",
    Phase.BEHIND: "AWAITING_UNILATERAL",
    Phase.FAILED: "AWAITING_UNILATERAL",
    Phase.CLOSED: ONCHAIN,
}
_MESSAGES = {
    "CHANNELD_NORMAL": "the funding transaction is deep enough for both sides",
    "CHANNELD_AWAITING_LOCKIN": "it is not usable yet",
    "CHANNELD_SHUTTING_DOWN": "shutdown is sent or received",
    "CLOSINGD_SIGEXCHANGE": "nothing is on its way any more",
    "CLOSINGD_COMPLETE": "both sides have signed its closing transaction",
    "AWAITING_UNILATERAL": "it goes to the chain by a commitment transaction",
    ONCHAIN: "its funding output is spent",
}


class Sum(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """So many HTLCs, and what they carried together."""

    count: int = 0
    msat: int = 0

    def __add__(self, htlc: Htlc) -> "Sum":
        return Sum(self.count + 1, self.msat + htlc.amount_msat)


class Change(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """From one state to another, in Core Lightning's words."""

    at_seconds: float
    old: str
    new: str
    cause: str

    @property
    def message(self) -> str:
        return _MESSAGES[self.new]


NOTHING = Dual(Sum(), Sum())


class History(msgspec.Struct, frozen=True, gc=False):
    """The past of one channel."""

    state: str
    pushed_msat: Msat | None  # by the opener to the other side; None: it is older than its history
    least_msat: Msat  # that ever was ours, as far as it is settled
    most_msat: Msat
    ended: Dual[Sum] = NOTHING  # HTLCs by who offered them, whatever became of them
    fulfilled: Dual[Sum] = NOTHING
    changes: tuple[Change, ...] = ()

    def offered(self, channel: Channel, side: Side) -> Sum:
        """All HTLCs that a side ever offered, those of now too."""
        total = self.ended[side]
        for htlc in channel.htlcs[side].values():
            total += htlc
        return total


class Histories:
    """Of all channels, in memory and on disk."""

    def __init__(self, switch: "Switch") -> None:
        self._switch = switch
        rows = switch.store.items(TABLE)
        self._rows = {key: msgspec.msgpack.decode(raw, type=History) for key, raw in rows}
        switch.on_turn.append(self._note)

    def of(self, channel: Channel) -> History:
        """What is known of its past."""
        return self._rows.get(channel.id) or _begun(state_of(self._switch, channel), None, channel)

    def _note(self, turn: "Turn") -> None:
        # what is found on the chain changes a channel's state, not the channel
        for channel_id in {*turn.staged, *self._switch.resolver.resolutions}:
            channel = turn.channel(channel_id)
            if channel is not None:
                self._note_channel(turn, self._switch.channels.get(channel_id), channel)

    def _note_channel(self, turn: "Turn", before: Channel | None, channel: Channel) -> None:
        known = self._rows.get(channel.id)
        state = state_of(self._switch, channel)
        if known is None:
            pushed = channel.settled_msat[channel.charter.opener.other] if before is None else None
            known = _begun(state, pushed, channel)
        row = self._moved(known, state, channel)
        for side, htlc in _gone(before, channel):
            row = _counted(row, side, htlc)
        ours = channel.settled_msat.local
        if not row.least_msat <= ours <= row.most_msat:
            least, most = min(ours, row.least_msat), max(ours, row.most_msat)
            row = msgspec.structs.replace(row, least_msat=least, most_msat=most)
        if row is not self._rows.get(channel.id):
            self._rows[channel.id] = row
            turn.writes_once[b"history" + channel.id] = lambda: self._write(channel.id)

    def _write(self, channel_id: bytes) -> None:
        self._switch.store.put_value(TABLE, channel_id, self._rows[channel_id])

    def _moved(self, row: History, state: str, channel: Channel) -> History:
        if state == row.state:
            return row
        change = Change(self._switch.now(), row.state, state, self._cause(state, channel))
        changes = (*row.changes, change)[-MOST_CHANGES:]
        return msgspec.structs.replace(row, state=state, changes=changes)

    def _cause(self, state: str, channel: Channel) -> str:
        if state == ONCHAIN:
            return "onchain"
        if state in ("CHANNELD_NORMAL", "CHANNELD_AWAITING_LOCKIN"):
            return "protocol"
        if channel.id in self._switch.closings.wishes:
            return "user"
        return "local" if channel.phase is Phase.FAILED else "remote"


def _begun(state: str, pushed_msat: Msat | None, channel: Channel) -> History:
    ours = channel.settled_msat.local
    return History(state, pushed_msat, ours, ours)


def _gone(before: Channel | None, after: Channel) -> Iterator[tuple[Side, Htlc]]:
    """The HTLCs that have left the ladder."""
    if before is None:
        return
    for side in (LOCAL, REMOTE):
        old, new = before.htlcs[side], after.htlcs[side]
        if old is not new:
            yield from ((side, htlc) for number, htlc in old.items() if number not in new)


def _counted(row: History, side: Side, htlc: Htlc) -> History:
    row = msgspec.structs.replace(row, ended=_with(row.ended, side, htlc))
    if isinstance(htlc.outcome, Fulfilled):
        row = msgspec.structs.replace(row, fulfilled=_with(row.fulfilled, side, htlc))
    return row


def _with(sums: Dual[Sum], side: Side, htlc: Htlc) -> Dual[Sum]:
    ours, theirs = sums.local, sums.remote
    return Dual(ours + htlc, theirs) if side is LOCAL else Dual(ours, theirs + htlc)


def state_of(switch: "Switch", channel: Channel) -> str:
    """The state, in Core Lightning's words."""
    resolution = switch.resolver.resolutions.get(channel.id)
    if resolution is not None and resolution.spent is not None:
        return ONCHAIN
    if channel.phase is Phase.NORMAL and not channel.is_usable:
        return "CHANNELD_AWAITING_LOCKIN"
    return _STATES[channel.phase]


def closer_of(switch: "Switch", channel: Channel) -> Side | None:
    """Who has begun to close it, if somebody has."""
    if channel.phase in (Phase.AWAITING_FUNDING, Phase.NORMAL):
        return None
    is_ours = channel.id in switch.closings.wishes or channel.phase is Phase.FAILED
    return LOCAL if is_ours else REMOTE
