"""(e) Slots filled by slow HTLCs, and what upfront fees or reputation would change.

The victim is the router that people's payments use most, as a day without an attack shows. The attacker
opens channels with it and with the peers behind its busiest channels, and sends slow HTLCs over those.
Each holds a slot at every hop until its payee fails it, and costs nothing. With upfront fees each attempt
pays every hop a little, whatever becomes of it. With reputation the first router endorses what comes from a
neighbour whose HTLCs have earned more than the time of their slots is worth; what is not endorsed shares
half of the slots, there and further on.
"""

from collections import Counter
from random import Random
from typing import Annotated, ClassVar, NamedTuple

import msgspec

from htlc.relay import Toll
from node.lab.experiments.ground import MAINNET, Ground, ground
from node.lab.experiments.model import (
    AtLeastOne,
    Experiment,
    Figure,
    Findings,
    Line,
    Many,
    Positive,
    Several,
    Table,
    share,
    started,
    steps,
)
from node.lab.flow.engine import SECOND_US, Engine, Payment, Wish
from node.lab.flow.network import FlowChannel, FlowNetwork
from node.lab.flow.runs import chance
from node.lab.plugins import BadPlugin
from wire.units import Msat, Sat

DEFENCES = ("nothing", "upfront fees", "reputation")
CAPACITY_SAT, JAM_MSAT, ROOM = Sat(50_000_000), 1_000_000, 3
GENERAL_SHARE = 0.5
SLOT_SECOND_MSAT = 100
COLUMNS = (
    "defence",
    "jams_per_second",
    "success",
    "attempts_per_payment",
    "victim_earned_sat",
    "upfront_sat",
    "attacker_paid_sat",
)

Rates = Annotated[tuple[Annotated[float, msgspec.Meta(ge=0)], ...], AtLeastOne]


class Jamming(Experiment, frozen=True, kw_only=True):
    """People who pay each other, and one who fills the slots of the router that they use most."""

    question: ClassVar[str] = "What does slot jamming do, and what would upfront fees or reputation change?"
    takes_seconds: ClassVar[int] = 40

    graph: str = MAINNET
    people: Several = 40
    channels: Many = 10  # of the victim's, the busiest, are jammed
    slots: Many = 483
    rates: Rates = (0.0, 4.0, 8.0, 16.0)  # of the attacker's HTLCs, a second
    hold_seconds: Positive = 600.0
    upfront_millionths: int = 10_000  # of the usual fee's size: one percent of it, paid at once
    amount_msat: Many = 50_000_000
    per_second: Positive = 0.75
    seconds: Positive = 1800.0

    def run(self, seed: int) -> Findings:
        rows, arrive, earned, answers, summary = [], [], [], [], dict[str, float]()
        target = _found(self, seed)
        runs = [(defence, rate) for defence in DEFENCES[1:] for rate in self.rates]
        found = {run: _Siege(self, seed, target, *run).measured() for run in steps(runs)}
        # to be charged upfront changes what nobody does here, so that the same run tells what is without
        for rate in self.rates:
            free = found[DEFENCES[1], rate]._replace(upfront_sat=0.0, attacker_sat=0.0)
            found[DEFENCES[0], rate] = free
        for defence in DEFENCES:
            books = [found[defence, rate] for rate in self.rates]
            rows += [(defence, rate, *each) for rate, each in zip(self.rates, books, strict=True)]
            arrive.append(Line(defence, self.rates, tuple([100 * each.success for each in books])))
            earned.append(Line(defence, self.rates, tuple([each.earned_sat for each in books])))
            answers.append(_told(defence, self.rates[-1], books[0], books[-1]))
            key = defence.replace(" ", "_")
            summary[f"success_{key}"] = books[-1].success
            summary[f"attacker_paid_sat_{key}"] = books[-1].attacker_sat
            summary[f"victim_earned_sat_{key}"] = books[-1].earned_sat
        x_label = "slow HTLCs a second"
        figures = (
            Figure("success", "Honest payments that arrive", x_label, "%", tuple(arrive)),
            Figure("earned", "What the victim earns", x_label, "sat", tuple(earned)),
        )
        return Findings(tuple(answers), summary, (Table("jamming", COLUMNS, tuple(rows)),), figures)


class Books(NamedTuple):
    """What came of a run."""

    success: float
    attempts: float
    earned_sat: float
    upfront_sat: float
    attacker_sat: float


def _told(defence: str, rate: float, calm: Books, worst: Books) -> str:
    """What the attack did."""
    return (
        f"Under {rate:g} slow HTLCs a second with {defence}: {worst.success:.1%} of honest payments arrive "
        f"(without attack {calm.success:.1%}), in {worst.attempts:.2f} attempts ({calm.attempts:.2f}); the "
        f"victim earns {worst.earned_sat:,.0f} sat ({calm.earned_sat:,.0f}), and the attacker pays "
        f"{worst.attacker_sat:,.1f} sat upfront."
    )


class _Target(NamedTuple):
    """A router, and those of its directions that are to be jammed."""

    router: int
    directions: list[int]


def _found(plan: Jamming, seed: int) -> _Target:
    """Whom to attack: a quiet day tells.

    Raises:
        BadPlugin: there is nobody.
    """
    siege = _Siege(plan, seed, None, DEFENCES[0], 0.0)
    siege.measured()
    network = siege.engine.network
    carried = [sum(network.forwarded[at] for at in out) for out in network.out]
    router = max(range(len(carried)), key=lambda place: carried[place])
    out = sorted(network.out[router], key=lambda at: -network.forwarded[at])
    directions = [at for at in out[: plan.channels] if network.forwarded[at]]
    if not directions:
        raise BadPlugin("nobody passes anything on in this network, so that there is nothing to jam")
    return _Target(router, directions)


class _Siege:
    """One run."""

    def __init__(self, plan: Jamming, seed: int, target: _Target | None, defence: str, rate: float) -> None:
        self._plan, self._defence, self._target = plan, defence, target
        land = ground(plan.graph, seed)
        self.engine: Engine = started(self._network(land))
        self.engine.may_pass = self._may_pass
        self.engine.on_passed = self._passed
        self._gained_msat: dict[int, float] = {}  # by the channel that it came in over
        self._endorsed: set[int] = set()
        self._general: Counter[int] = Counter()  # slots that those who are not endorsed hold
        self._upfront_msat = self._attacker_paid_msat = 0.0
        self._attack(chance(seed, "attack"), len(land.channels), rate)
        self._live(chance(seed, "people"), land)

    def measured(self) -> Books:
        """Success of the honest and what it took; the victim's fees, upfront fees, the attacker's part."""
        engine = self.engine
        engine.run()
        engine.network.check_conserved()
        outcomes = engine.outcomes
        return Books(
            share(sum(outcome.is_paid for outcome in outcomes), len(outcomes)),
            share(sum(outcome.attempts for outcome in outcomes), len(outcomes)),
            engine.network.earned_msat[self._target.router] / 1000 if self._target else 0.0,
            self._upfront_msat / 1000,
            self._attacker_paid_msat / 1000,
        )

    def _network(self, land: Ground) -> FlowNetwork:
        """The attacker's two nodes: for each direction to be jammed a channel before it and one behind it."""
        if self._target is None:
            return land.network(slots=self._plan.slots)
        mallory, channels, toll = len(land.names), [], Toll(Msat(1000), 100)
        all_there, victim = Msat(CAPACITY_SAT * 1000), self._target.router
        for direction in self._target.directions:
            peer = self._peer(land, direction)
            channels.append(FlowChannel((mallory, victim), CAPACITY_SAT, all_there, (toll, toll)))
            channels.append(FlowChannel((peer, mallory + 1), CAPACITY_SAT, all_there, (toll, None)))
        return land.network(["mallory", "mallet"], channels, self._plan.slots)

    @staticmethod
    def _peer(land: Ground, direction: int) -> int:
        return land.channels[direction >> 1].ends[1 - (direction & 1)]

    def _attack(self, random: Random, first: int, rate: float) -> None:
        """Attempts of a small amount over each direction in turn."""
        if self._target is None or not rate:
            return
        ways = [
            [2 * (first + 2 * number), direction, 2 * (first + 2 * number + 1)]
            for number, direction in enumerate(self._target.directions)
        ]
        now, hold_us = 0.0, round(self._plan.hold_seconds * SECOND_US)
        while (now := now + random.expovariate(rate)) < self._plan.seconds:
            self.engine.at(round(now * SECOND_US), self._jam, random.choice(ways), hold_us)

    def _jam(self, way: list[int], hold_us: int) -> None:
        self.engine.send(way, JAM_MSAT, hold_us, is_griefing=True)

    def _live(self, random: Random, land: Ground) -> None:
        """Honest payments among the people, both ways."""
        plan, now = self._plan, 0.0
        able = land.able(ROOM * plan.amount_msat)
        people = random.sample(able, min(plan.people, len(able)))
        while (now := now + random.expovariate(plan.per_second)) < plan.seconds:
            payer, payee = random.sample(people, 2)
            self.engine.wish(Wish(round(now * SECOND_US), payer, payee, plan.amount_msat))

    # --- what a router does beside the usual

    def _may_pass(self, payment: Payment, at: int) -> bool:
        incoming, outgoing = payment.path[at - 1], payment.path[at]
        if self._defence == "upfront fees":
            fee_msat = payment.amounts_msat[at - 1] - payment.amounts_msat[at]
            upfront_msat = fee_msat * self._plan.upfront_millionths / 1_000_000
            self._upfront_msat += upfront_msat
            self._attacker_paid_msat += upfront_msat * payment.is_griefing
        return self._defence != "reputation" or self._has_slot(payment, incoming, outgoing, is_first=at == 1)

    def _has_slot(self, payment: Payment, incoming: int, outgoing: int, *, is_first: bool) -> bool:
        """Whoever is endorsed may have any slot; all others share a part of them."""
        if is_first and self._gained_msat.get(incoming, 0.0) > 0:
            self._endorsed.add(payment.number)
        if payment.number in self._endorsed:
            return True
        if self._general[outgoing] >= self._plan.slots * GENERAL_SHARE:
            return False
        self._general[outgoing] += 1
        return True

    def _passed(self, payment: Payment, at: int, is_paid: bool) -> None:
        """An HTLC that we passed on has ended: what it earned, less what its time was worth."""
        incoming, outgoing = payment.path[at - 1], payment.path[at]
        if self._defence == "reputation" and payment.number not in self._endorsed:
            self._general[outgoing] -= 1
        if at == 1:
            fee_msat = payment.amounts_msat[at - 1] - payment.amounts_msat[at]
            seconds = (self.engine.now_us - payment.wish.at_us) / SECOND_US
            gained_msat = fee_msat * is_paid - seconds * SLOT_SECOND_MSAT
            self._gained_msat[incoming] = self._gained_msat.get(incoming, 0.0) + gained_msat
