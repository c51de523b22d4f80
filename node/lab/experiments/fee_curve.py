"""(a) What a router earns against what it asks, alone and with rivals."""

from random import Random
from typing import Annotated, ClassVar

import msgspec

from htlc.relay import Toll
from node.lab.experiments.model import (
    HOUR_SECONDS,
    Experiment,
    Figure,
    Findings,
    Line,
    Table,
    best,
    share,
    started,
)
from node.lab.flow.engine import SECOND_US, Wish
from node.lab.flow.network import FlowChannel, FlowNetwork
from node.lab.flow.runs import chance
from wire.units import Msat, Sat

FEES = (10, 20, 40, 60, 80, 100, 130, 160, 190, 220, 260, 300, 400, 500, 700, 1000, 1500, 2000, 3000)
AMOUNT_MSAT, SPREAD = 20_000_000, 0.8


class FeeCurve(Experiment, frozen=True, kw_only=True):
    """Two towns of people, joined by a router that is varied and rivals that ask a fixed fee."""

    question: ClassVar[str] = "What does a router earn against the fee it asks, alone and with competitors?"

    people: Annotated[int, msgspec.Meta(ge=2, le=200)] = 12
    rivals: tuple[int, ...] = (0, 1, 3)
    rival_millionths: int = 200
    patience_millionths: int = 600  # the median of what a payer is ready to spend on fees
    rival_step: int = 100  # each further rival asks so much more
    capacity_sat: int = 400_000
    per_second: float = 1.0
    hours: float = 0.5

    def run(self, seed: int) -> Findings:
        rows, lines, answers, summary = [], [], [], dict[str, float]()
        for rivals in self.rivals:
            earned = []
            for fee in FEES:
                row = self._measure(seed, rivals, fee)
                rows.append((rivals, fee, *row))
                earned.append(row[0])
            at, most = best(FEES, earned)
            label = f"{rivals} rivals" if rivals != 1 else "1 rival"
            lines.append(Line(label, tuple(map(float, FEES)), tuple(earned)))
            others = ", ".join(str(self._asked_by(rival)) for rival in range(1, 1 + rivals))
            who = f"With rivals at {others} ppm" if rivals else "Alone"
            answers.append(f"{who} the router earns most at {at:g} ppm: {most:,.0f} sat an hour.")
            summary |= {f"best_millionths_{rivals}": at, f"most_sat_per_hour_{rivals}": most}
        columns = ("rivals", "fee_millionths", "sat_per_hour", "passed", "success")
        figure = Figure(
            "revenue",
            "What a router earns against what it asks",
            "proportional fee, millionths",
            "sat an hour",
            tuple(lines),
            is_log_x=True,
        )
        return Findings(tuple(answers), summary, (Table("revenue", columns, tuple(rows)),), (figure,))

    def _measure(self, seed: int, rivals: int, fee: int) -> tuple[float, int, float]:
        """Earned in an hour, payments passed on, and the share of all payments that arrived."""
        random = chance(seed, "fee-curve")
        engine = started(self._town(rivals, fee))
        for wish in self._wishes(random, 1 + rivals):
            engine.wish(wish)
        engine.run()
        network = engine.network
        passed = sum(network.forwarded[at] for at in network.out[0])
        paid = sum(outcome.is_paid for outcome in engine.outcomes)
        return network.earned_msat[0] / 1000 / self.hours, passed, share(paid, len(engine.outcomes))

    def _asked_by(self, rival: int) -> int:
        return self.rival_millionths + (rival - 1) * self.rival_step

    def _town(self, rivals: int, fee: int) -> FlowNetwork:
        routers = 1 + rivals
        names = [f"router{at}" for at in range(routers)] + [f"p{at}" for at in range(2 * self.people)]
        channels, capacity_sat = [], Sat(self.capacity_sat)
        for router in range(routers):
            toll = Toll(Msat(0), self._asked_by(router) if router else fee)
            for person in range(routers, routers + 2 * self.people):
                half = Msat(capacity_sat * 500)
                channels.append(FlowChannel((router, person), capacity_sat, half, (toll, toll)))
        return FlowNetwork(names, channels)

    def _wishes(self, random: Random, first: int) -> list[Wish]:
        """Payments both ways between the towns; the payers differ in what they are ready to spend."""
        now, found = 0.0, []
        while (now := now + random.expovariate(self.per_second)) < self.hours * HOUR_SECONDS:
            left, right = random.randrange(self.people), self.people + random.randrange(self.people)
            payer, payee = (left, right) if random.random() < 0.5 else (right, left)
            amount_msat = round(AMOUNT_MSAT * random.lognormvariate(0, SPREAD))
            ready = self.patience_millionths * random.lognormvariate(0, 0.7)
            most_msat = round(amount_msat * ready / 1_000_000)
            at_us, ends = round(now * SECOND_US), (first + payer, first + payee)
            found.append(Wish(at_us, *ends, amount_msat, most_fee_msat=most_msat))
        return found
