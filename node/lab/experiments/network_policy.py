"""(c) How often payments arrive and what they cost, if the whole network follows one fee policy."""

from statistics import median
from typing import Any, ClassVar

from node.lab.experiments.model import (
    HOUR_SECONDS,
    Experiment,
    Figure,
    Findings,
    Table,
    share,
    started,
    town,
    until,
)
from node.lab.fees.model import FeePolicy
from node.lab.flow.engine import SECOND_US, Engine, Outcome
from node.lab.flow.governors import Governor
from node.lab.flow.runs import chance, feed
from node.lab.plugins import FEES, TRAFFIC, plugin
from node.lab.traffic.model import Town, TrafficModel

OPTIONS: dict[str, dict[str, Any]] = {
    "static": {"base_msat": 1000, "millionths": 100},
    "base-only": {"base_msat": 3000},
    "proportional": {"millionths": 150},
    "liquidity": {"low": 20, "high": 600},
    "inbound": {"millionths": 200, "discount": 180},
    "undercut": {"least": 20, "most": 400},
    "learner": {"start": 150},
}


class NetworkPolicy(Experiment, frozen=True, kw_only=True):
    """The same town and the same payments under each policy in turn."""

    question: ClassVar[str] = (
        "How often do payments arrive and what do they cost, by the fee policy of the whole network?"
    )

    graph: str = ""  # mainnet, or a graph's file; without, so many nodes are drawn
    nodes: int = 60
    channels_each: int = 2
    policies: tuple[str, ...] = tuple(OPTIONS)
    traffic: str = "uniform"
    amount_msat: int = 80_000_000
    spread: float = 1.0
    per_second: float = 1.0
    hours: float = 1.0

    def run(self, seed: int) -> Findings:
        rows, summary = [], dict[str, float]()
        for policy in self.policies:
            row = self._measure(self._play(seed, policy))
            rows.append((policy, *row))
            summary |= {f"success_{policy}": row[0], f"median_millionths_{policy}": row[1]}
        columns = ("policy", "success", "median_fee_millionths", "attempts_per_payment", "earned_sat", "hops")
        surest = max(rows, key=lambda row: row[1])
        cheapest = min(rows, key=lambda row: row[2])
        quickest = min(rows, key=lambda row: row[3])
        answers = (
            f"Most payments arrive under {surest[0]}: {surest[1]:.1%}.",
            f"The cheapest is {cheapest[0]}, at a median fee of {cheapest[2]:,.0f} ppm.",
            f"The fewest attempts are needed under {quickest[0]}: {quickest[3]:.2f} a payment.",
        )
        arrived = tuple([(policy, success) for policy, success, *_ in rows])
        cost = tuple([(policy, millionths) for policy, _, millionths, *_ in rows])
        tried = tuple([(policy, attempts) for policy, _, _, attempts, *_ in rows])
        figures = (
            Figure("success", "Payments that arrive", "policy", "share", bars=arrived),
            Figure("cost", "What a payment costs", "policy", "median fee, millionths", bars=cost),
            Figure("attempts", "How often a payment is tried", "policy", "attempts", bars=tried),
        )
        return Findings(answers, summary, (Table("policies", columns, tuple(rows)),), figures)

    def _play(self, seed: int, policy: str) -> Engine:
        network = town(self.graph, self.nodes, self.channels_each, seed)
        engine = started(network)
        made = plugin(FEES, policy, OPTIONS.get(policy, {}), FeePolicy)
        for place in range(len(network.names)):
            Governor(engine, place, made, chance(seed, "fees", place))
        options = {"amount_msat": self.amount_msat, "spread": self.spread, "per_second": self.per_second}
        model = plugin(TRAFFIC, self.traffic, options, TrafficModel)
        end_us = round(self.hours * HOUR_SECONDS * SECOND_US)
        feed(engine, until(model.wishes(Town(network), chance(seed, "traffic")), end_us))
        engine.run(end_us)
        network.check_conserved()
        return engine

    def _measure(self, engine: Engine) -> tuple[float, float, float, float, float]:
        outcomes: list[Outcome] = engine.outcomes
        paid = [outcome for outcome in outcomes if outcome.is_paid]
        millionths = [1e6 * outcome.fee_msat / outcome.amount_msat for outcome in paid]
        return (
            share(len(paid), len(outcomes)),
            median(millionths) if millionths else 0.0,
            share(sum(outcome.attempts for outcome in outcomes), len(outcomes)),
            sum(engine.network.earned_msat) / 1000,
            share(sum(outcome.hops for outcome in paid), len(paid)),
        )
