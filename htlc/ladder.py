"""The one ladder that every update climbs (BOLT 2, normal operation).

An add, a removal or a fee change is proposed by one side and becomes irrevocable in five
rungs, seen from its proposer. Four signals move the ladder: either side's commitment_signed
and either side's revoke_and_ack. Which commitment contains an update follows from its rung
alone, so a commitment is always recomputed from the updates and never kept as a balance that
messages patch. Rejected: a status per direction as lightningd's `htlc_state` has it (twenty
states that say the same as five rungs and a proposer), and per-commitment lists of changes
(four lists that must be moved in step at each signal).
"""

from enum import IntEnum
from typing import Generic, TypeAlias, TypeVar

import msgspec

from wire.units import Msat


class Side(IntEnum):
    """Whose: us or the peer."""

    LOCAL = 0
    REMOTE = 1

    @property
    def other(self) -> "Side":
        return Side.REMOTE if self is Side.LOCAL else Side.LOCAL


LOCAL, REMOTE = Side.LOCAL, Side.REMOTE

T = TypeVar("T")


class Dual(msgspec.Struct, Generic[T], frozen=True, gc=False, array_like=True):
    """One value for each side."""

    local: T
    remote: T

    def __getitem__(self, side: Side) -> T:
        return self.local if side is LOCAL else self.remote

    def swapped(self) -> "Dual[T]":
        """The same pair as the peer sees it."""
        return Dual(self.remote, self.local)

    def with_side(self, side: Side, value: T) -> "Dual[T]":
        """The pair with one side's value exchanged."""
        return Dual(value, self.remote) if side is LOCAL else Dual(self.local, value)


class Rung(IntEnum):
    """How far an update has climbed, seen from its proposer."""

    PROPOSED = 0  # the proposer sent update_*
    SIGNED = 1  # the proposer's commitment_signed covers it
    ACKED = 2  # the other side revoked the commitment without it
    ACK_SIGNED = 3  # the other side's commitment_signed covers it
    LOCKED_IN = 4  # the proposer revoked too: irrevocably committed


class Signal(IntEnum):
    """What moves the ladder."""

    WE_SIGN = 0
    THEY_SIGN = 1
    WE_REVOKE = 2
    THEY_REVOKE = 3


# The signal that lifts an update from each rung, by proposer.
_LIFTED_BY: Dual[tuple[Signal | None, ...]] = Dual(
    local=(Signal.WE_SIGN, Signal.THEY_REVOKE, Signal.THEY_SIGN, Signal.WE_REVOKE, None),
    remote=(Signal.THEY_SIGN, Signal.WE_REVOKE, Signal.WE_SIGN, Signal.THEY_REVOKE, None),
)
# From which rung each signal lifts the updates of each proposer.
_LIFTS_FROM: dict[Signal, Dual[Rung]] = {
    signal: Dual(Rung(_LIFTED_BY.local.index(signal)), Rung(_LIFTED_BY.remote.index(signal)))
    for signal in Signal
}


def climb(rung: Rung, proposer: Side, signal: Signal) -> Rung:
    """The rung after the signal: one higher, or the same."""
    return Rung(rung + 1) if _LIFTS_FROM[signal][proposer] is rung else rung


class Floor(msgspec.Struct, frozen=True, gc=False):
    """The lowest rung at which an update counts in a commitment."""

    of_other: Rung  # for updates whose proposer does not own the commitment
    of_owner: Rung  # for updates whose proposer owns it

    def rung(self, proposer: Side, owner: Side) -> Rung:
        return self.of_owner if proposer is owner else self.of_other


SIGNED_NOW = Floor(Rung.SIGNED, Rung.ACK_SIGNED)  # the newest commitment that was signed
SIGNED_NEXT = Floor(Rung.PROPOSED, Rung.ACKED)  # the one that a signature now would make
ALL_PROPOSED = Floor(Rung.PROPOSED, Rung.PROPOSED)  # one that holds all that is under way


class Fulfilled(msgspec.Struct, frozen=True, gc=False, tag="fulfilled"):
    """Removed against its preimage."""

    payment_preimage: bytes
    attribution_data: bytes | None = None


class Failed(msgspec.Struct, frozen=True, gc=False, tag="failed"):
    """Removed with an obfuscated failure packet (BOLT 4)."""

    reason: bytes
    attribution_data: bytes | None = None


class FailedMalformed(msgspec.Struct, frozen=True, gc=False, tag="malformed"):
    """Removed because the onion itself could not be read."""

    sha256_of_onion: bytes
    failure_code: int


Outcome: TypeAlias = Fulfilled | Failed | FailedMalformed


class Forwarded(msgspec.Struct, frozen=True, gc=False, tag="forwarded"):
    """Why we offered an HTLC: to pass on one that came in on another channel."""

    channel_id: bytes
    htlc_id: int
    shared_secret: bytes
    fee_msat: Msat
    passage: int = 0  # its number among all that were ever passed on


class Paid(msgspec.Struct, frozen=True, gc=False, tag="paid"):
    """Why we offered an HTLC: we pay, as one attempt of a payment of our own."""

    attempt_id: int


Origin: TypeAlias = Forwarded | Paid


class Htlc(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One HTLC with both its updates: the add, and the removal once there is one."""

    proposer: Side
    id: int
    amount_msat: Msat
    payment_hash: bytes
    cltv_expiry: int
    rung: Rung = Rung.PROPOSED
    outcome: Outcome | None = None
    outcome_rung: Rung = Rung.PROPOSED  # meaningless without an outcome
    origin: Origin | None = None  # of HTLCs that we offer
    # of those we received until they are passed on or removed, of ours until they are acknowledged
    onion: bytes | None = None
    shared_secret: bytes | None = None  # of HTLCs that we received and could peel
    path_key: bytes | None = None
    entered: int = 0  # the first commitment of theirs that we signed with it
    left: int = 0  # the first one that we signed without it again
    decided_at: float = 0.0  # seconds; of HTLCs that we received, when their onion was read
    is_introduction: bool = False  # whether with us begins a blinded path that it goes on along

    def after(self, signal: Signal, remote_number: int = 0) -> "Htlc":
        """This HTLC once the signal has lifted whichever of its updates it lifts.

        `remote_number` is that of the commitment of theirs which our signature makes.
        """
        lifts_from = _LIFTS_FROM[signal]
        if self.outcome is None:
            if self.rung is not lifts_from[self.proposer]:
                return self
            if signal is Signal.WE_SIGN:
                return msgspec.structs.replace(self, rung=_UP[self.rung], entered=remote_number)
            if self.proposer is LOCAL and signal is Signal.THEY_REVOKE:
                # never to be sent again
                return msgspec.structs.replace(self, rung=_UP[self.rung], onion=None)
            return msgspec.structs.replace(self, rung=_UP[self.rung])
        if self.outcome_rung is not lifts_from[self.proposer.other]:
            return self
        if signal is Signal.WE_SIGN:
            return msgspec.structs.replace(self, outcome_rung=_UP[self.outcome_rung], left=remote_number)
        return msgspec.structs.replace(self, outcome_rung=_UP[self.outcome_rung])

    @property
    def is_locked_in(self) -> bool:
        """Irrevocably committed on both sides."""
        return self.rung is Rung.LOCKED_IN

    @property
    def is_gone(self) -> bool:
        """Its removal is irrevocable too."""
        return self.outcome is not None and self.outcome_rung is Rung.LOCKED_IN


_UP = {rung: Rung(min(rung + 1, Rung.LOCKED_IN)) for rung in Rung}


class FeeChange(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An update_fee on its way up. Only the opener proposes one."""

    feerate_per_kw: int
    rung: Rung = Rung.PROPOSED

    def after(self, signal: Signal, opener: Side) -> "FeeChange":
        """This change once the signal has passed."""
        rung = climb(self.rung, opener, signal)
        return self if rung is self.rung else FeeChange(self.feerate_per_kw, rung)
