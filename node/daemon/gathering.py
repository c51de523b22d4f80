"""Payments to us that are not whole yet: all of their parts are taken, or none (BOLT 4, basic_mpp).

A part that waits stays undecided on its channel's ladder, onion and all, so nothing is written
here: a restart reads every waiting HTLC again, and what was there gathers anew. A part counts only
while its channel can still settle it by message. One that has gone to chain may have no output
there, and revealing the preimage for it would give away what the others bring. But once our user
was told that all of it is here, it stays: whatever its payer does, our user may have relied on it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import trio

from htlc.channel import Phase
from htlc.deadlines import CLAIM_BLOCKS
from htlc.ladder import Fulfilled, Htlc
from htlc.relay import Take, Wait, failed
from onion.failures import Failure, FailureCode
from wire.units import Msat

if TYPE_CHECKING:
    from node.daemon.switch import Switch
    from node.daemon.turn import Turn

PATIENCE_SECONDS = 60
_SETTLING = (Phase.NORMAL, Phase.SHUTTING_DOWN)
UNWANTED = FailureCode.incorrect_or_unknown_payment_details


class Part(msgspec.Struct, frozen=True, gc=False):
    """One HTLC of a payment."""

    htlc: Htlc
    shared_secret: bytes
    amount_msat: Msat  # what its payer meant to bring with it


class Gathered(msgspec.Struct, gc=False):
    """What has come of one payment so far, by channel and HTLC."""

    total_msat: Msat
    since_seconds: float
    parts: dict[tuple[bytes, int], Part] = {}

    @property
    def is_whole(self) -> bool:
        return sum(part.amount_msat for part in self.parts.values()) >= self.total_msat

    @property
    def expiry(self) -> int:
        """The height at which the first of its HTLCs expires."""
        return min(part.htlc.cltv_expiry for part in self.parts.values())


class Gathering:
    """All payments to one node that wait for something. Start `run` in a nursery."""

    def __init__(self, switch: "Switch") -> None:
        self._switch = switch
        self.waiting: dict[bytes, Gathered] = {}  # by payment hash
        self.on_changed: list[Callable[[bytes], None]] = []
        self._begun = trio.Event()

    async def run(self) -> None:
        """Give up what does not become whole in time, until cancelled."""
        while True:
            if not self.waiting:
                self._begun = trio.Event()
                await self._begun.wait()
            await trio.sleep(PATIENCE_SECONDS / 10)
            await self._switch.ask(self.expire)

    # --- what comes

    def add(self, turn: "Turn", channel_id: bytes, htlc: Htlc, shared_secret: bytes, wait: Wait) -> None:
        """Another HTLC of a payment that we expect; with the last one all are taken."""
        payment_hash = htlc.payment_hash
        gathered = self.waiting.get(payment_hash)
        if gathered is not None and gathered.is_whole:
            # what is whole waits for our user, and its payer changes nothing any more
            self._fail(turn, (channel_id, htlc.id), htlc, shared_secret, UNWANTED)
            return
        if gathered is None:
            gathered = self.waiting[payment_hash] = Gathered(wait.total_msat, self._switch.now())
            self._begun.set()
        gathered.parts[channel_id, htlc.id] = Part(htlc, shared_secret, wait.amount_msat)
        # payload.4: all parts speak of the same payment
        if gathered.total_msat != wait.total_msat:
            self.refuse(turn, payment_hash, UNWANTED)
        else:
            self._complete(turn, payment_hash, gathered)

    def _complete(self, turn: "Turn", payment_hash: bytes, gathered: Gathered) -> None:
        """Take all of it if it is all there and we have the preimage."""
        owed = self._switch.invoices.owed(payment_hash)
        preimage = owed.payment_preimage if owed is not None else None
        if self._is_still_whole(turn, gathered):
            if preimage is not None:
                self.take(turn, payment_hash, preimage)
            else:
                self._switch.invoices.note_accepted(turn, payment_hash)
                self._tell(turn, payment_hash)

    def _is_still_whole(self, turn: "Turn", gathered: Gathered) -> bool:
        """Whether all is there, without what has gone to chain meanwhile."""
        for key in [key for key in gathered.parts if not self._can_be_settled(turn, *key)]:
            del gathered.parts[key]
        return gathered.is_whole

    @staticmethod
    def _can_be_settled(turn: "Turn", channel_id: bytes, htlc_id: int) -> bool:
        channel = turn.channel(channel_id)
        if channel is None or channel.phase not in _SETTLING:
            return False
        htlc = channel.htlcs.remote.get(htlc_id)
        return htlc is not None and htlc.outcome is None

    def _tell(self, turn: "Turn", payment_hash: bytes) -> None:
        for callback in self.on_changed:
            turn.then(lambda call=callback: call(payment_hash))  # type: ignore[misc]

    # --- how it ends

    def take(self, turn: "Turn", payment_hash: bytes, preimage: bytes) -> bool:
        """Fulfil all parts of a payment, if it is whole; whether it was."""
        gathered, parts = self.waiting.get(payment_hash), dict[tuple[bytes, int], Htlc]()
        if self._switch.invoices.is_accepted(payment_hash):
            parts = _undecided(turn, payment_hash)
        elif gathered is not None and self._is_still_whole(turn, gathered):
            parts = {key: part.htlc for key, part in gathered.parts.items()}
        if not parts:
            return False
        self.waiting.pop(payment_hash, None)
        received_msat = Msat(sum(htlc.amount_msat for htlc in parts.values()))
        self._switch.invoices.settle(turn, payment_hash, Take(preimage, False), received_msat)
        for channel_id, htlc_id in parts:
            turn.remove(channel_id, htlc_id, Fulfilled(preimage))
        return True

    def refuse(self, turn: "Turn", payment_hash: bytes, code: FailureCode = FailureCode.mpp_timeout) -> None:
        """Fail whatever has come of a payment."""
        gathered = self.waiting.pop(payment_hash, None)
        if gathered is None:
            return
        for key, part in gathered.parts.items():
            if self._can_be_settled(turn, *key):
                self._fail(turn, key, part.htlc, part.shared_secret, code)
        self._tell(turn, payment_hash)

    def _fail(
        self, turn: "Turn", key: tuple[bytes, int], htlc: Htlc, shared_secret: bytes, code: FailureCode
    ) -> None:
        failure = Failure(code, htlc_msat=htlc.amount_msat, height=self._switch.height)
        turn.remove(*key, failed(shared_secret, failure).outcome)

    def expire(self, turn: "Turn") -> None:
        """Refuse what has waited long enough for the rest of it (payload.4)."""
        oldest = self._switch.now() - PATIENCE_SECONDS
        for payment_hash, gathered in list(self.waiting.items()):
            is_accepted = self._switch.invoices.is_accepted(payment_hash)
            if gathered.since_seconds <= oldest and not (gathered.is_whole or is_accepted):
                self.refuse(turn, payment_hash)

    def keep_deadlines(self, turn: "Turn", height: int) -> None:
        """Refuse what could hardly be claimed on the chain any more."""
        # forwarding-safety.4: what is fulfilled later than this closes its channel
        for payment_hash, gathered in list(self.waiting.items()):
            if gathered.parts and gathered.expiry - height < CLAIM_BLOCKS:
                self._miss(turn, payment_hash)

    def _miss(self, turn: "Turn", payment_hash: bytes) -> None:
        """Our user, or the rest of a payment, was too late."""
        if self._switch.invoices.is_accepted(payment_hash):
            self._switch.invoices.cancel(turn, payment_hash)
            self.refuse(turn, payment_hash, UNWANTED)
        else:
            self.refuse(turn, payment_hash)


def _undecided(turn: "Turn", payment_hash: bytes) -> dict[tuple[bytes, int], Htlc]:
    """The HTLCs that wait for a preimage of ours, also on channels that have gone to chain meanwhile."""
    return {
        (channel.id, htlc.id): htlc
        for channel in turn.all_channels()
        for htlc in channel.htlcs.remote.values()
        # only what is for us keeps its onion once it was read
        if htlc.payment_hash == payment_hash and htlc.onion is not None and htlc.shared_secret is not None
    }
