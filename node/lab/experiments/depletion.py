"""(d) How fast channels run dry, and what it costs to right them."""

from random import Random
from statistics import median
from typing import ClassVar

from node.lab.experiments.model import (
    HOUR_SECONDS,
    Experiment,
    Figure,
    Findings,
    Line,
    Table,
    share,
    started,
    town,
)
from node.lab.flow.engine import SECOND_US, Engine, Wish
from node.lab.flow.runs import chance
from node.lab.traffic.model import Town

DRY_SHARE = 0.1
LOOK_SECONDS = 60
HUBS = 5


class Depletion(Experiment, frozen=True, kw_only=True):
    """Payments between everybody, of which a part goes to a few merchants; hubs rebalance, or not."""

    question: ClassVar[str] = "How fast do channels deplete, and what does rebalancing cost?"

    graph: str = ""  # mainnet, or a graph's file; without, so many nodes are drawn
    nodes: int = 60
    channels_each: int = 2
    drifts: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)  # the part that goes to merchants
    merchants: int = 6
    amount_msat: int = 30_000_000
    per_second: float = 0.7
    hours: float = 1.0

    def run(self, seed: int) -> Findings:
        rows, summary, lines, answers = [], dict[str, float](), [], []
        for is_righted in (False, True):
            ratios = []
            for drift in self.drifts:
                row = _Hour(self, seed, drift, is_righted).measured()
                rows.append((drift, int(is_righted), *row))
                ratios.append(row[1])
            label = "hubs rebalance" if is_righted else "nobody rebalances"
            lines.append(Line(label, self.drifts, tuple(ratios)))
        for drift, rebalances, dry, success, minutes, cost_millionths, moved, *_ in rows:
            if drift in (self.drifts[0], self.drifts[-1]):
                what = f"{drift:.0%} drift, " + ("hubs rebalancing" if rebalances else "nobody rebalancing")
                cost = f"; moving {moved:,.0f} sat cost {cost_millionths:,.0f} ppm" if rebalances else ""
                answers.append(
                    f"With {what}: {dry:.0%} of directions dry after {self.hours:g} h, half of those within "
                    f"{minutes:.0f} min, {success:.1%} of payments arrive{cost}."
                )
                key = f"{drift:g}_" + ("rebalanced" if rebalances else "left")
                summary |= {f"dry_{key}": dry, f"success_{key}": success}
        columns = (
            "drift",
            "hubs_rebalance",
            "dry_share",
            "success",
            "median_minutes_to_dry",
            "rebalancing_millionths",
            "rebalanced_sat",
            "hubs_spent_sat",
            "hubs_earned_sat",
        )
        title = "Payments that arrive as more of them go one way"
        figure = Figure("success", title, "part of payments that goes to merchants", "share", tuple(lines))
        table = Table("depletion", columns, tuple(rows))
        return Findings(tuple(answers), summary, (table,), (figure,))


class _Hour:
    """One run: traffic, a look at every channel each minute, and what the hubs do about it."""

    def __init__(self, plan: Depletion, seed: int, drift: float, is_righted: bool) -> None:
        self._plan, self._drift = plan, drift
        self._network = town(plan.graph, plan.nodes, plan.channels_each, seed)
        self._engine: Engine = started(self._network)
        self._end_us = round(plan.hours * HOUR_SECONDS * SECOND_US)
        self._dry_at: dict[int, int] = {}
        self._was_wet = [self._share(at) >= DRY_SHARE for at in range(len(self._network.source))]
        out = self._network.out
        by_channels = sorted(range(len(out)), key=lambda place: -len(out[place]))
        self._hubs = by_channels[:HUBS] if is_righted else []
        self._moved_msat = self._spent_msat = 0
        self._given(chance(seed, "traffic"))

    def measured(self) -> tuple[float, float, float, float, float, float, float]:
        """Dry share, success, median minutes to dry, rebalancing cost, and the hubs' books."""
        engine, network = self._engine, self._network
        for at_us in range(0, self._end_us, LOOK_SECONDS * SECOND_US):
            engine.run(at_us)
            self._look()
        engine.run(self._end_us + HOUR_SECONDS * SECOND_US)
        network.check_conserved()
        asked = [outcome for outcome in engine.outcomes if outcome.payer != outcome.payee]
        minutes = [at_us / SECOND_US / 60 for at_us in self._dry_at.values()]
        wet = sum(self._was_wet)
        return (
            share(len(self._dry_at), wet),
            share(sum(outcome.is_paid for outcome in asked), len(asked)),
            median(minutes) if minutes else 0.0,
            1e6 * share(self._spent_msat, self._moved_msat),
            self._moved_msat / 1000,
            self._spent_msat / 1000,
            sum(network.earned_msat[place] for place in self._hubs) / 1000,
        )

    def _share(self, direction: int) -> float:
        return self._network.balance_msat[direction] / self._network.capacity_msat[direction >> 1]

    def _look(self) -> None:
        for direction, was_wet in enumerate(self._was_wet):
            if was_wet and direction not in self._dry_at and self._share(direction) < DRY_SHARE:
                self._dry_at[direction] = self._engine.now_us
        for hub in self._hubs:
            self._right(hub)

    def _right(self, hub: int) -> None:
        """Send a fifth of the driest channel's size round a circle: out where most is, in where least is."""
        network = self._network
        out = network.out[hub]
        driest, fullest = min(out, key=self._share), max(out, key=self._share)
        if self._share(driest) >= DRY_SHARE or driest == fullest:
            return
        amount_msat = min(network.capacity_msat[driest >> 1] // 5, network.room_msat(fullest) // 2)
        first, last = network.target[fullest], network.target[driest]
        if amount_msat <= 0 or first == last:
            return
        home = {at ^ 1 for at in out} | set(out)
        between = self._engine.router.path(first, last, amount_msat, home)
        if between is None:
            return
        before_msat = len(self._engine.outcomes)
        self._engine.send([fullest, *between, driest ^ 1], amount_msat)
        self._engine.run(self._engine.now_us + 10 * SECOND_US)
        for outcome in self._engine.outcomes[before_msat:]:
            if outcome.payer == outcome.payee == hub and outcome.is_paid:
                self._moved_msat += outcome.amount_msat
                self._spent_msat += outcome.fee_msat

    def _given(self, random: Random) -> None:
        plan, people, now = self._plan, Town(self._network), 0.0
        merchants = people.some(plan.merchants, random)
        consumers = [place for place in people.people if place not in set(merchants)]
        while (now := now + random.expovariate(plan.per_second)) * SECOND_US < self._end_us:
            if random.random() < self._drift:
                payer, payee = random.choice(consumers), random.choice(merchants)
            else:
                payer, payee = random.sample(people.people, 2)
            amount_msat = round(plan.amount_msat * random.lognormvariate(0, 0.8))
            self._engine.wish(Wish(round(now * SECOND_US), payer, payee, amount_msat))
