"""What passing payments on has earned us, by the pair of channels it went through."""

from typing import TYPE_CHECKING

import msgspec

from htlc.ladder import Forwarded, Htlc
from wire.units import Msat

if TYPE_CHECKING:
    from node.daemon.store import Store
    from node.daemon.turn import Turn


class Earned(msgspec.Struct, frozen=True, gc=False):
    """The sum of all HTLCs that were fulfilled from one channel to another."""

    channel_in: bytes
    count: int = 0
    forwarded_msat: Msat = Msat(0)
    fees_msat: Msat = Msat(0)


class Ledger:
    """Sums per incoming channel: a router's books stay as small as its list of channels."""

    def __init__(self, store: "Store") -> None:
        rows = (msgspec.msgpack.decode(raw, type=Earned) for raw in store.values("forwards"))
        self._store = store
        self.earned = {row.channel_in: row for row in rows}

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
