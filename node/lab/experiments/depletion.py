"""(d) How fast channels run dry, and what it costs to right them."""

from random import Random
from statistics import median
from typing import Annotated, ClassVar, NamedTuple

import msgspec
import numpy as np

from node.lab.experiments.ground import MAINNET, Ground, ground
from node.lab.experiments.model import (
    HOUR_SECONDS,
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
from node.lab.flow.engine import SECOND_US, Engine, Wish
from node.lab.flow.runs import chance

DRY_SHARE = 0.1
LOOK_SECONDS = 60
SPREAD = 0.8
ROOM = 3  # who takes part can send and get so many times the usual amount at first
FEWEST_CHANNELS, MERCHANT_CHANNELS = 5, 30  # of a merchant
COLUMNS = (
    "drift",
    "routers_rebalance",
    "dry_share",
    "success",
    "median_minutes_to_dry",
    "rebalancing_millionths",
    "rebalanced_sat",
    "routers_spent_sat",
    "routers_earned_sat",
)

Parts = Annotated[tuple[Annotated[float, msgspec.Meta(ge=0, le=1)], ...], AtLeastOne]


class Depletion(Experiment, frozen=True, kw_only=True):
    """People pay each other; a part of all payments goes to a few merchants instead, and does not come back.

    The routers that carried most of it then have the same day again, and right what has run dry: once a
    minute each sends a fifth of its driest channel's size round a circle, over whatever others ask. Dry is
    what had a tenth of its channel's size left or more, and has less now.
    """

    question: ClassVar[str] = "How fast do channels deplete, and what does rebalancing cost?"
    takes_seconds: ClassVar[int] = 50

    graph: str = MAINNET
    people: Several = 40
    merchants: Many = 6
    routers: Many = 20  # of those that carry most, so many rebalance
    drifts: Parts = (0.0, 0.25, 0.5, 0.75, 1.0)  # parts that go to merchants
    amount_msat: Many = 200_000_000
    per_second: Positive = 0.2
    hours: Positive = 1.0

    def run(self, seed: int) -> Findings:
        found = {drift: _both(self, seed, drift) for drift in steps(self.drifts)}
        rows, lines, answers, summary = [], [], [], dict[str, float]()
        for is_righted, label in enumerate(("nobody rebalances", "routers rebalance")):
            rows += [(drift, is_righted, *found[drift][is_righted]) for drift in self.drifts]
            ratios = tuple(100 * found[drift][is_righted].success for drift in self.drifts)
            lines.append(Line(label, self.drifts, ratios))
        for drift in (self.drifts[0], self.drifts[-1]):
            answers.append(_told(drift, self.hours, *found[drift]))
            for name, row in zip(("left", "rebalanced"), found[drift], strict=True):
                summary |= {f"dry_{drift:g}_{name}": row.dry_share, f"success_{drift:g}_{name}": row.success}
        figure = Figure(
            "success",
            "Payments that arrive as more of them go one way",
            "part of payments that goes to merchants",
            "%",
            tuple(lines),
        )
        return Findings(tuple(answers), summary, (Table("depletion", COLUMNS, tuple(rows)),), (figure,))


class Books(NamedTuple):
    """What came of a run."""

    dry_share: float
    success: float
    minutes: float  # until half of the dry directions were dry
    millionths: float  # what moving cost
    moved_sat: float
    spent_sat: float
    earned_sat: float


def _told(drift: float, hours: float, left: Books, righted: Books) -> str:
    """What rebalancing changed."""
    return (
        f"With {drift:.0%} drift: {left.dry_share:.1%} of the directions that were used are dry "
        f"after {hours:g} h, half of those within {left.minutes:.0f} min, and {left.success:.1%} of payments "
        f"arrive; with routers rebalancing {righted.dry_share:.1%} are dry and {righted.success:.1%} arrive, "
        f"and moving {righted.moved_sat:,.0f} sat cost {righted.millionths:,.0f} ppm: the routers spent "
        f"{righted.spent_sat:,.0f} sat on it and earned {righted.earned_sat:,.0f}."
    )


def _both(plan: Depletion, seed: int, drift: float) -> tuple[Books, Books]:
    """The same payments, left alone; and again, with those who carried most of them rebalancing."""
    land = ground(plan.graph, seed)
    left = _Day(plan, land, seed, drift, [])
    first = left.lived()
    network = left.engine.network
    carried = [sum(network.forwarded_msat[at] for at in out) for out in network.out]
    busiest = sorted(range(len(carried)), key=lambda place: -carried[place])[: plan.routers]
    return first, _Day(plan, land, seed, drift, busiest).lived()


class _Day:
    """One run: payments, a look at the channels each minute, and what routers do about them."""

    def __init__(self, plan: Depletion, land: Ground, seed: int, drift: float, routers: list[int]) -> None:
        self._plan, self._drift, self._routers = plan, drift, routers
        self._network = land.network()
        self.engine: Engine = started(self._network)
        self._end_us = round(plan.hours * HOUR_SECONDS * SECOND_US)
        self._capacity_msat = np.repeat(np.array(self._network.capacity_msat, np.int64), 2)
        self._first_msat = np.array(self._network.balance_msat, np.int64)
        self._dry_at: dict[int, int] = {}
        self._moved_msat = self._spent_msat = 0
        self._given(land, chance(seed, "traffic"))

    def lived(self) -> Books:
        """Let it happen, and close the books."""
        engine, network = self.engine, self._network
        for at_us in range(0, self._end_us, LOOK_SECONDS * SECOND_US):
            engine.run(at_us)
            self._look()
        engine.run(self._end_us + HOUR_SECONDS * SECOND_US)
        network.check_conserved()
        asked = [outcome for outcome in engine.outcomes if outcome.payer != outcome.payee]
        minutes = [at_us / SECOND_US / 60 for at_us in self._dry_at.values()]
        used = np.array(network.balance_msat, np.int64) != self._first_msat
        was_wet = self._first_msat >= DRY_SHARE * self._capacity_msat
        return Books(
            share(len(self._dry_at), int((used & was_wet).sum())),
            share(sum(outcome.is_paid for outcome in asked), len(asked)),
            median(minutes) if minutes else 0.0,
            1e6 * share(self._spent_msat, self._moved_msat),
            self._moved_msat / 1000,
            self._spent_msat / 1000,
            sum(network.earned_msat[place] for place in self._routers) / 1000,
        )

    def _look(self) -> None:
        floor_msat = DRY_SHARE * self._capacity_msat
        is_dry = np.array(self._network.balance_msat, np.int64) < floor_msat
        for direction in np.flatnonzero(is_dry & (self._first_msat >= floor_msat)).tolist():
            self._dry_at.setdefault(direction, self.engine.now_us)
        for router in self._routers:
            self._right(router)

    def _share(self, direction: int) -> float:
        return self._network.balance_msat[direction] / self._network.capacity_msat[direction >> 1]

    def _right(self, router: int) -> None:
        """Round a circle: out where most is, in over the driest of what has run dry."""
        network, engine = self._network, self.engine
        out = network.out[router]
        dry = [at for at in out if at in self._dry_at and self._share(at) < DRY_SHARE]
        if not dry:
            return
        driest, fullest = min(dry, key=self._share), max(out, key=self._share)
        amount_msat = min(network.capacity_msat[driest >> 1] // 5, network.room_msat(fullest) // 2)
        first, last = network.target[fullest], network.target[driest]
        if amount_msat <= 0 or first == last:
            return
        home = {at ^ 1 for at in out} | set(out)
        between = engine.router.path(first, last, amount_msat, home)
        if between is None:
            return
        before = len(engine.outcomes)
        engine.send([fullest, *between, driest ^ 1], amount_msat)
        engine.run(engine.now_us + 10 * SECOND_US)
        for outcome in engine.outcomes[before:]:
            if outcome.payer == outcome.payee == router and outcome.is_paid:
                self._moved_msat += outcome.amount_msat
                self._spent_msat += outcome.fee_msat

    def _given(self, land: Ground, random: Random) -> None:
        plan, now = self._plan, 0.0
        merchants, people, consumers = _town_folk(plan, land, random)
        while (now := now + random.expovariate(plan.per_second)) * SECOND_US < self._end_us:
            if random.random() < self._drift:
                payer, payee = random.choice(consumers), random.choice(merchants)
            else:
                payer, payee = random.sample(people, 2)
            amount_msat = round(plan.amount_msat * random.lognormvariate(0, SPREAD))
            self.engine.wish(Wish(round(now * SECOND_US), payer, payee, amount_msat))


def _town_folk(plan: Depletion, land: Ground, random: Random) -> tuple[list[int], list[int], list[int]]:
    """Merchants, who have some channels and much in them; people, who have few; and all who are like them.

    Merchants' customers are so many that no payer's own purse is what runs dry.
    """
    able = land.able(ROOM * plan.amount_msat, most_channels=MERCHANT_CHANNELS)
    shops = [place for place in able if land.degrees[place] >= FEWEST_CHANNELS] or able
    merchants = random.sample(shops, min(plan.merchants, len(shops)))
    consumers = land.able(ROOM * plan.amount_msat, merchants)
    return merchants, random.sample(consumers, min(plan.people, len(consumers))), consumers
