"""The simulator: payments as HTLCs that move hop by hop on a heap of virtual time.

Each hop locks the sender's balance and a slot, each node on the way judges by `htlc.relay.refusal`,
the payee may hold, and the outcome travels back hop by hop and unlocks. A payment that fails avoids
what failed and tries again, as the real payer does. Nothing here reads a clock or chance: the same
network and the same wishes give the same trace, whose hash says so. Times are whole microseconds.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from heapq import heappop, heappush
from struct import Struct
from typing import Any, NamedTuple, Protocol

import msgspec

from htlc.relay import Passing, refusal
from node.lab.flow.network import FlowNetwork
from node.lab.flow.routing import FINAL_DELTA_BLOCKS, Router
from wire.discount import NO_DISCOUNT
from wire.units import Msat

SECOND_US = 1_000_000
MOST_ATTEMPTS = 20
UNDER_WAY, LOOKING, HAPPENING, BEGINNING = (rank << 56 for rank in range(4))
"""Of what is due at one time, what is on its way goes first, and payments that begin last."""

START_HEIGHT = 100
_TRACED = Struct("<QIiQ")


class Wish(NamedTuple):
    """Somebody wants to pay."""

    at_us: int
    payer: int
    payee: int
    amount_msat: int
    hold_us: int = 0
    most_fee_msat: int | None = None  # above it the payer would rather not
    is_refused: bool = False  # whether the payee gives it back after that time


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of a payment."""

    number: int
    at_us: int
    done_us: int
    payer: int
    payee: int
    amount_msat: int
    fee_msat: int
    hops: int
    attempts: int
    is_paid: bool
    why: str = ""


class Payment:
    """A payment under way."""

    def __init__(self, number: int, wish: Wish) -> None:
        self.number, self.wish = number, wish
        self.attempts = 0
        self.avoided: set[int] = set()
        self.path: list[int] = []
        self.amounts_msat: list[int] = []
        self.expiries: list[int] = []
        self.hold_us = wish.hold_us
        self.is_griefing = False
        self.stopped_at = 0  # the place on its path that did not take it; behind the last, the payee
        self.is_forgotten = False  # its payer went away
        self.why_last = ""  # why it is not tried again


class Pace(msgspec.Struct, frozen=True, gc=False):
    """How long things take."""

    hop_us: int = 100_000
    most_attempts: int = MOST_ATTEMPTS


USUAL_PACE = Pace()
AT_ONCE = Pace(hop_us=0)
"""As real nodes are under virtual time."""


class Memory(Protocol):
    """Where payers keep what their attempts have taught them."""

    def sent(self, path: Sequence[int], amounts_msat: Sequence[int]) -> None:
        """An HTLC is on its way."""

    def ended(
        self, path: Sequence[int], amounts_msat: Sequence[int], stopped_at: int, *, is_paid: bool
    ) -> None:
        """Its outcome is back with the payer; the direction of that place did not take it."""

    def forget(self, payer: int) -> None:
        """A payer goes away."""


class Engine:
    """One run: what is scheduled, what has happened, and when it is."""

    def __init__(self, network: FlowNetwork, router: Router, pace: Pace = USUAL_PACE) -> None:
        self.network, self.router, self.pace = network, router, pace
        self.now_us = 0
        self.attempts = 0
        self.outcomes: list[Outcome] = []
        self.on_outcome: list[Callable[[Outcome], None]] = []
        self.memory: Memory | None = None
        self.may_pass: Callable[[Payment, int], bool] | None = None  # what else must agree to a forward
        self.on_passed: Callable[[Payment, int, bool], None] | None = None  # and hears how it ended
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._scheduled = 0
        self._started = 0
        self._under_way: dict[int, Payment] = {}
        self._stranded: list[tuple[Payment, int, bool]] = []  # outcomes that wait for somebody to be there
        self._trace = sha256()

    # --- time

    def at(self, time_us: int, act: Callable[..., None], *arguments: Any, rank: int = UNDER_WAY) -> None:
        """Do something then; of two things of one rank and time what was asked for first is done first."""
        heappush(self._heap, (time_us, rank | self._scheduled, act, arguments))
        self._scheduled += 1

    def run(self, until_us: int | None = None) -> None:
        """Until nothing is left to do, or the time is reached."""
        heap = self._heap
        while heap and (until_us is None or heap[0][0] <= until_us):
            self.now_us, _, act, arguments = heappop(heap)
            act(*arguments)
        if until_us is not None:
            self.now_us = max(self.now_us, until_us)

    def run_out(self, last_us: int, end_us: int) -> None:
        """Until the time is reached and no payment is under way, or there is no more patience."""
        self.run(last_us)
        while self._under_way and self._heap and self._heap[0][0] <= end_us:
            self.run(self._heap[0][0])
        for payment in list(self._under_way.values()):
            self._end(payment, is_paid=False, why="still under way")

    @property
    def trace_hash(self) -> str:
        """A hash of everything that has happened so far, in order."""
        return self._trace.hexdigest()

    def _note(self, kind: int, number: int, direction: int, amount_msat: int) -> None:
        self._trace.update(_TRACED.pack(self.now_us << 3 | kind, number, direction, amount_msat))

    # --- payments

    def wish(self, wish: Wish) -> None:
        """Schedule a payment."""
        self.at(wish.at_us, self.pay, wish)

    def pay(self, wish: Wish) -> None:
        """Begin a payment now."""
        self._try(self._begun(wish))

    def _begun(self, wish: Wish) -> Payment:
        payment = self._under_way[self._started] = Payment(self._started, wish)
        self._started += 1
        return payment

    def send(self, path: list[int], amount_msat: int, hold_us: int = 0, *, is_griefing: bool = False) -> None:
        """Send one HTLC over a given path, whatever there is beside it; it is not tried again."""
        payer, payee = self.network.source[path[0]], self.network.target[path[-1]]
        payment = self._begun(Wish(self.now_us, payer, payee, amount_msat, hold_us))
        payment.is_griefing = is_griefing
        payment.attempts = self.pace.most_attempts
        self._start(payment, path)

    def _try(self, payment: Payment) -> None:
        wish = payment.wish
        if payment.attempts >= self.pace.most_attempts or payment.why_last:
            self._end(payment, is_paid=False, why=payment.why_last or "too many attempts")
            return
        if not payment.attempts and not self.network.is_online[wish.payee]:
            # who is away makes no invoice
            self._end(payment, is_paid=False, why="no route")
            return
        path = self.router.path(wish.payer, wish.payee, wish.amount_msat, payment.avoided)
        if path is None:
            self._end(payment, is_paid=False, why="no route")
            return
        payment.attempts += 1
        self._start(payment, path)

    def _start(self, payment: Payment, path: list[int]) -> None:
        self.attempts += 1
        payment.path = path
        self._price(payment)
        budget_msat = payment.wish.most_fee_msat
        if budget_msat is not None and payment.amounts_msat[0] - payment.wish.amount_msat > budget_msat:
            self._end(payment, is_paid=False, why="too dear")
            return
        self._offer(payment, 0)

    def _price(self, payment: Payment) -> None:
        """What each HTLC carries and when it expires, from the payee back (BOLT 4)."""
        network, path = self.network, payment.path
        amount_msat, expiry = payment.wish.amount_msat, START_HEIGHT + FINAL_DELTA_BLOCKS
        amounts, expiries = [amount_msat], [expiry]
        for at in range(len(path) - 1, 0, -1):
            amount_msat += network.fee_msat(path[at - 1], path[at], amount_msat)
            expiry += network.tolls[path[at]].cltv_expiry_delta
            amounts.append(amount_msat)
            expiries.append(expiry)
        payment.amounts_msat, payment.expiries = amounts[::-1], expiries[::-1]

    def _offer(self, payment: Payment, at: int) -> None:
        """The HTLC of this place on the path is offered, or fails there."""
        network, direction, amount_msat = self.network, payment.path[at], payment.amounts_msat[at]
        if not network.takes(direction, amount_msat) or (at and self._refuses(payment, at)):
            self._fail(payment, at)
            return
        network.lock(direction, amount_msat)
        if at == 0 and self.memory is not None:
            self.memory.sent(payment.path, payment.amounts_msat)
        self._note(0, payment.number, direction, amount_msat)
        if at + 1 < len(payment.path):
            self.at(self.now_us + self.pace.hop_us, self._offer, payment, at + 1)
        else:
            self.at(self.now_us + self.pace.hop_us + payment.hold_us, self._arrive, payment)

    def _refuses(self, payment: Payment, at: int) -> bool:
        network, path = self.network, payment.path
        amount_msat, incoming_msat = payment.amounts_msat[at], payment.amounts_msat[at - 1]
        discount = network.inbound.get(path[at - 1], NO_DISCOUNT)
        expiries = payment.expiries
        passing = Passing(incoming_msat, expiries[at - 1], Msat(amount_msat), expiries[at], discount)
        if refusal(network.exit(path[at]), passing, START_HEIGHT) is not None:
            return True
        return self.may_pass is not None and not self.may_pass(payment, at)

    def _arrive(self, payment: Payment) -> None:
        """The payee settles; one that means harm, or does not want it, gives it back at the last moment."""
        if payment.wish.is_refused:
            payment.why_last = "the payee gave it back"
        payment.stopped_at = len(payment.path)
        is_paid = not (payment.is_griefing or payment.wish.is_refused)
        self._back(payment, len(payment.path) - 1, is_paid)

    def _fail(self, payment: Payment, at: int) -> None:
        """The HTLC of this place could not be offered."""
        payment.avoided.add(payment.path[at])
        payment.stopped_at = at
        self._note(1, payment.number, payment.path[at], payment.amounts_msat[at])
        if at == 0:
            self._try(payment)
        else:
            self.at(self.now_us + self.pace.hop_us, self._back, payment, at - 1, False)

    def _back(self, payment: Payment, at: int, is_paid: bool) -> None:
        """The outcome reaches this place, and travels on towards the payer."""
        network, direction, amount_msat = self.network, payment.path[at], payment.amounts_msat[at]
        if not network.is_connected(direction):
            self._stranded.append((payment, at, is_paid))
            return
        if is_paid:
            network.settle(direction, amount_msat)
            if at:
                network.earn(direction, amount_msat, payment.amounts_msat[at - 1] - amount_msat)
        else:
            network.release(direction, amount_msat)
        self._note(2 + is_paid, payment.number, direction, amount_msat)
        if at and self.on_passed is not None:
            self.on_passed(payment, at, is_paid)
        if at:
            self.at(self.now_us + self.pace.hop_us, self._back, payment, at - 1, is_paid)
            return
        if self.memory is not None and not payment.is_forgotten:
            self.memory.ended(payment.path, payment.amounts_msat, payment.stopped_at, is_paid=is_paid)
        if is_paid:
            self._end(payment, is_paid=True)
        else:
            self._try(payment)

    def _end(self, payment: Payment, *, is_paid: bool, why: str = "") -> None:
        wish = payment.wish
        del self._under_way[payment.number]
        fee_msat = payment.amounts_msat[0] - wish.amount_msat if is_paid else 0
        outcome = Outcome(
            number=payment.number,
            at_us=wish.at_us,
            done_us=self.now_us,
            payer=wish.payer,
            payee=wish.payee,
            amount_msat=wish.amount_msat,
            fee_msat=fee_msat,
            hops=len(payment.path) if is_paid else 0,
            attempts=payment.attempts,
            is_paid=is_paid,
            why=why,
        )
        self._note(4 + is_paid, payment.number, payment.attempts, fee_msat)
        if payment.is_griefing:
            return
        self.outcomes.append(outcome)
        for tell in self.on_outcome:
            tell(outcome)

    # --- what changes beside payments

    def changed(self, direction: int) -> None:
        """A toll, or whether somebody is there, has changed: who searches for routes learns of it."""
        self.router.refresh(direction)

    def set_online(self, place: int, is_online: bool) -> None:
        """A node comes or goes. One that has gone does not try its payments again when it is back."""
        network = self.network
        network.is_online[place] = is_online
        for direction in network.out[place]:
            self.changed(direction)
            self.changed(direction ^ 1)
        if not is_online:
            self._forget(place)
            return
        stranded, self._stranded = self._stranded, []
        for each in stranded:
            self.at(self.now_us, self._back, *each)

    def _forget(self, payer: int) -> None:
        if self.memory is not None:
            self.memory.forget(payer)
        for payment in self._under_way.values():
            if payment.wish.payer == payer:
                payment.is_forgotten, payment.why_last = True, "its payer went away"

    def close(self, channel: int) -> None:
        """A channel takes nothing new any more; what is on its way ends as it would."""
        self.network.is_closed[channel] = True
        for direction in (2 * channel, 2 * channel + 1):
            self.changed(direction)
