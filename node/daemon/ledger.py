"""What passing payments on has earned us, by the pair of channels it went through."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from htlc.channel import Channel
from htlc.ladder import Forwarded, Htlc
from htlc.relay import Forward
from node.daemon.indexes import CREATED, DELETED, FORWARDS, UPDATED
from wire.units import Msat

MOST_PASSAGES = 10_000

if TYPE_CHECKING:
    from node.daemon.indexes import Indexes
    from node.daemon.store import Store
    from node.daemon.turn import Turn


class Earned(msgspec.Struct, frozen=True, gc=False):
    """The sum of all HTLCs that were fulfilled from one channel to another."""

    channel_in: bytes
    count: int = 0
    forwarded_msat: Msat = Msat(0)
    fees_msat: Msat = Msat(0)


class Passage(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One HTLC that came in to be passed on, and what became of it."""

    created_index: int
    in_channel: int  # short_channel_ids; 0 if it has none any more
    in_htlc_id: int
    in_msat: Msat
    out_channel: int
    out_htlc_id: int  # -1: it was never offered
    out_msat: Msat
    status: str  # as Core Lightning's `listforwards` calls it
    received_at: float
    resolved_at: float = 0.0
    updated_index: int = 0  # counts those that have ended; 0: it has not, or not by its own HTLC


class Ledger:
    """Sums per incoming channel, which stay small for ever, and the last passages one by one."""

    def __init__(self, store: "Store", indexes: "Indexes") -> None:
        rows = (msgspec.msgpack.decode(raw, type=Earned) for raw in store.values("forwards"))
        self._store, self._indexes = store, indexes
        self.earned = {row.channel_in: row for row in rows}
        indexes.begin_after(FORWARDS, CREATED, store.last_passage())
        self._new: list[Passage] = []

    @property
    def fees_msat(self) -> Msat:
        """All fees earned so far."""
        return Msat(sum(row.fees_msat for row in self.earned.values()))

    def earn(self, turn: "Turn", origin: Forwarded, htlc: Htlc) -> None:
        """Book one forwarded HTLC whose preimage we now hold."""
        before = self.earned.get(origin.channel_id) or Earned(origin.channel_id)
        row = Earned(
            origin.channel_id,
            before.count + 1,
            Msat(before.forwarded_msat + htlc.amount_msat),
            Msat(before.fees_msat + origin.fee_msat),
        )
        self.earned[origin.channel_id] = row
        turn.writes_once[origin.channel_id] = lambda: self._store.put_value(
            "forwards", origin.channel_id, self.earned[origin.channel_id]
        )

    def begin(self, turn: "Turn") -> int:
        """The number of an HTLC that is passed on now."""
        return self._indexes.next(turn, FORWARDS, CREATED)

    def note(self, turn: "Turn", channel_id: bytes, htlc: Htlc, status: str) -> None:
        """Keep how an HTLC of ours that was passed on has ended; the oldest gives way to it."""
        passage = passage_of(turn.channel, channel_id, htlc, status)
        if passage is not None:
            number = self._indexes.next(turn, FORWARDS, UPDATED)
            ended = msgspec.structs.replace(passage, updated_index=number, resolved_at=turn.switch.now())
            self._keep(turn, ended)
            self._indexes.tell(turn, FORWARDS, UPDATED, ended)

    def note_offer(self, turn: "Turn", channel_id: bytes) -> None:
        """Tell of the newest HTLC of ours on a channel, which passes another on."""
        channel = turn.channel(channel_id)
        if channel is not None and self._indexes.on_counted:
            htlc = channel.htlcs.local[channel.next_htlc_id.local - 1]
            passage = passage_of(turn.channel, channel_id, htlc, "offered")
            self._indexes.tell(turn, FORWARDS, CREATED, passage)

    def note_refusal(
        self, turn: "Turn", channel_id: bytes, htlc: Htlc, forward: Forward, number: int
    ) -> None:
        """Keep that an HTLC of a peer did not fit into the channel that it was to be passed on in."""
        source, exit = turn.channel(channel_id), turn.channel(forward.exit.channel_id)
        if source is None or exit is None:
            return
        passage = Passage(
            number,
            _name(source),
            htlc.id,
            htlc.amount_msat,
            _name(exit),
            -1,
            forward.amount_msat,
            "local_failed",
            turn.switch.now(),
            turn.switch.now(),
        )
        self._keep(turn, passage)
        self._indexes.tell(turn, FORWARDS, CREATED, passage)

    def _keep(self, turn: "Turn", passage: Passage) -> None:
        self._new.append(passage)
        turn.writes_once[b"passages"] = self._write

    def _write(self) -> None:
        new, self._new = self._new, []
        newest = self._indexes.value(FORWARDS, CREATED)
        rows = [(each.created_index, each) for each in new]
        self._store.put_passages(rows, newest - MOST_PASSAGES)

    def forget(self, turn: "Turn", passages: Sequence[Passage]) -> None:
        """Drop passages that have ended; the sums stay."""
        numbers = [passage.created_index for passage in passages]
        turn.write(lambda: self._store.forget_passages(numbers))
        for passage in passages:
            self._indexes.next(turn, FORWARDS, DELETED)
            self._indexes.tell(turn, FORWARDS, DELETED, passage)

    def passages(self) -> list[Passage]:
        """The last passages that have ended, in the order in which they began."""
        return [msgspec.msgpack.decode(raw, type=Passage) for raw in self._store.values("passages")]


def passage_of(
    channel_of: Callable[[bytes], Channel | None], channel_id: bytes, htlc: Htlc, status: str
) -> Passage | None:
    """An HTLC of ours beside the one that it came from, while that is there."""
    origin, outgoing = htlc.origin, channel_of(channel_id)
    if not isinstance(origin, Forwarded) or outgoing is None:
        return None
    source = channel_of(origin.channel_id)
    incoming = source.htlcs.remote.get(origin.htlc_id) if source is not None else None
    if source is None or incoming is None:
        return None
    return Passage(
        origin.passage,
        _name(source),
        incoming.id,
        incoming.amount_msat,
        _name(outgoing),
        htlc.id,
        htlc.amount_msat,
        status,
        incoming.decided_at,
    )


def _name(channel: Channel) -> int:
    return channel.short_channel_id or channel.aliases.local or 0
