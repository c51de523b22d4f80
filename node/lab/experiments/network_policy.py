"""(c) How often payments arrive and what they cost, if the whole network follows one fee policy."""

from statistics import median
from typing import Annotated, Any, ClassVar

from node.lab.experiments.ground import MAINNET, ground
from node.lab.experiments.model import (
    HOUR_SECONDS,
    AtLeastOne,
    Cell,
    Experiment,
    Figure,
    Findings,
    Positive,
    Several,
    Table,
    share,
    started,
    steps,
    until,
)
from node.lab.fees.model import FeePolicy
from node.lab.flow.engine import SECOND_US, Engine, Outcome
from node.lab.flow.governors import Governor
from node.lab.flow.runs import chance, feed
from node.lab.plugins import FEES, TRAFFIC, plugin
from node.lab.traffic.model import Town, TrafficModel

AS_IT_IS = "as it is"
OPTIONS: dict[str, dict[str, Any]] = {
    "static": {"base_msat": 1000, "millionths": 100},
    "base-only": {"base_msat": 3000},
    "proportional": {"millionths": 150},
    "liquidity": {"low": 20, "high": 600},
    "inbound": {"millionths": 200, "discount": 180},
    "undercut": {"least": 20, "most": 400},
    "learner": {"start": 150},
}
ROOM = 3  # who takes part can send and get so many times the usual amount at first


class NetworkPolicy(Experiment, frozen=True, kw_only=True):
    """The same people and the same payments under each policy in turn.

    Some people, nodes of few channels, pay each other; all others only pass payments on. Every node with
    more than one channel follows the policy. `as it is` leaves everybody the fees that they have.
    """

    question: ClassVar[str] = (
        "How often do payments arrive and what do they cost, by the fee policy of the whole network?"
    )
    takes_seconds: ClassVar[int] = 60

    graph: str = MAINNET
    people: Several = 40
    policies: Annotated[tuple[str, ...], AtLeastOne] = (AS_IT_IS, *OPTIONS)
    every_seconds: Positive = 600.0  # how often fees are thought over, and told
    traffic: str = "uniform"
    amount_msat: int = 80_000_000
    spread: float = 1.0
    per_second: Positive = 1.0
    hours: Positive = 0.75

    def run(self, seed: int) -> Findings:
        rows: list[tuple[str, float, float, float, float, float]] = []
        summary = dict[str, float]()
        for policy in steps(self.policies):
            row = _measured(self._play(seed, policy))
            rows.append((policy, *row))
            key = policy.replace(" ", "_")
            summary |= {f"success_{key}": row[0], f"median_millionths_{key}": row[1]}
        columns = ("policy", "success", "median_fee_millionths", "attempts_per_payment", "earned_sat", "hops")
        surest = max(rows, key=lambda row: row[1])
        cheapest = min(rows, key=lambda row: row[2])
        quickest = min(rows, key=lambda row: row[3])
        dearest = max(rows, key=lambda row: row[4])
        answers = (
            f"Most payments arrive under {surest[0]}: {surest[1]:.1%}; "
            f"the fewest under {min(rows, key=lambda row: row[1])[0]}: {min(row[1] for row in rows):.1%}.",
            f"The cheapest is {cheapest[0]}, at a median fee of {cheapest[2]:,.0f} ppm.",
            f"The fewest attempts are needed under {quickest[0]}: {quickest[3]:.2f} a payment.",
            f"All nodes together earn most under {dearest[0]}: {dearest[4]:,.0f} sat.",
        )
        return Findings(answers, summary, (Table("policies", columns, _cells(rows)),), _figures(rows))

    def _play(self, seed: int, policy: str) -> Engine:
        land = ground(self.graph, seed)
        engine = started(land.network())
        network = engine.network
        if policy != AS_IT_IS:
            options = {"every_seconds": self.every_seconds, **OPTIONS.get(policy, {})}
            made = plugin(FEES, policy, options, FeePolicy)
            for place, out in enumerate(network.out):
                if len(out) > 1:
                    Governor(engine, place, made, chance(seed, "fees", place))
        town, random = Town(network), chance(seed, "people")
        able = land.able(ROOM * self.amount_msat)
        town.people = random.sample(able, min(self.people, len(able)))
        options = {"amount_msat": self.amount_msat, "spread": self.spread, "per_second": self.per_second}
        model = plugin(TRAFFIC, self.traffic, options, TrafficModel)
        end_us = round(self.hours * HOUR_SECONDS * SECOND_US)
        feed(engine, until(model.wishes(town, chance(seed, "traffic")), end_us))
        engine.run(end_us)
        network.check_conserved()
        return engine


def _measured(engine: Engine) -> tuple[float, float, float, float, float]:
    """Success, median fee, attempts for each payment, what all nodes earned, and hops."""
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


def _cells(rows: list[tuple[str, float, float, float, float, float]]) -> tuple[tuple[Cell, ...], ...]:
    return tuple(rows)


def _figures(rows: list[tuple[str, float, float, float, float, float]]) -> tuple[Figure, ...]:
    arrived = tuple([(policy, 100 * success) for policy, success, *_ in rows])
    cost = tuple([(policy, millionths) for policy, _, millionths, *_ in rows])
    tried = tuple([(policy, attempts) for policy, _, _, attempts, *_ in rows])
    return (
        Figure("success", "Payments that arrive", "policy", "%", bars=arrived),
        Figure("cost", "What a payment costs", "policy", "median fee, millionths", bars=cost),
        Figure("attempts", "How often a payment is tried", "policy", "attempts", bars=tried),
    )
