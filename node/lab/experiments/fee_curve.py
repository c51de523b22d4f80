"""(a) What a router earns against what it asks, alone and with rivals."""

from random import Random
from typing import Annotated, ClassVar

import msgspec

from htlc.relay import Toll
from node.lab.experiments.ground import MAINNET, Ground, ground
from node.lab.experiments.model import (
    HOUR_SECONDS,
    AtLeastOne,
    Experiment,
    Figure,
    Findings,
    Line,
    Positive,
    Table,
    best,
    share,
    started,
    steps,
)
from node.lab.flow.engine import SECOND_US, Engine, Wish
from node.lab.flow.network import FlowChannel
from node.lab.flow.runs import chance
from wire.units import Msat, Sat

FEES = (10, 30, 60, 100, 130, 160, 200, 250, 320, 450, 700, 1200, 2500)
PEER_TOLL = Toll(Msat(0), 1)  # what peers ask for passing on to the router: as good as nothing
AMOUNT_MSAT, SPREAD = 50_000_000, 0.8
PATIENCE_SPREAD = 0.7

Few = Annotated[int, msgspec.Meta(ge=1, le=200)]
Rivals = Annotated[int, msgspec.Meta(ge=0, le=20)]


class FeeCurve(Experiment, frozen=True, kw_only=True):
    """A newcomer opens channels with the largest nodes and with some shops; people and shops pay each other.

    The rest of the network competes with it all the time; a rival has the very same channels.
    """

    question: ClassVar[str] = "What does a router earn against the fee it asks, alone and with competitors?"
    takes_seconds: ClassVar[int] = 60

    graph: str = MAINNET
    rivals: Annotated[tuple[Rivals, ...], AtLeastOne] = (0, 1, 3)
    rival_millionths: int = 150
    rival_step: int = 100  # each further rival asks so much more
    patience_millionths: Positive = 1000  # the median of what a payer is ready to spend on fees
    peers: Few = 8
    shops: Few = 15
    people: Few = 30
    capacity_sat: Annotated[int, msgspec.Meta(ge=20_000)] = 2_000_000
    per_second: Positive = 1.0
    hours: Positive = 0.4

    def run(self, seed: int) -> Findings:
        rows, lines, answers, summary = [], [], [], dict[str, float]()
        market = _Market(self, seed)
        runs = [(rivals, fee) for rivals in self.rivals for fee in FEES]
        found = {run: market.measured(*run) for run in steps(runs)}
        for rivals in self.rivals:
            earned = [found[rivals, fee][0] for fee in FEES]
            rows += [(rivals, fee, *found[rivals, fee]) for fee in FEES]
            at, most = best(FEES, earned)
            label = {0: "the network alone", 1: "and 1 rival"}.get(rivals, f"and {rivals} rivals")
            lines.append(Line(label, tuple(map(float, FEES)), tuple(earned)))
            others = ", ".join(str(self.asked_by(rival)) for rival in range(1, 1 + rivals))
            who = f"With rivals at {others} ppm" if rivals else "With no rival but the rest of the network"
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

    def asked_by(self, rival: int) -> int:
        """The fee of one of the rivals, from 1."""
        return self.rival_millionths + (rival - 1) * self.rival_step


class _Market:
    """The same shops, people and payments, whatever the router asks."""

    def __init__(self, plan: FeeCurve, seed: int) -> None:
        self._plan = plan
        self._ground: Ground = ground(plan.graph, seed)
        random = chance(seed, "fee-curve")
        peers = self._ground.largest(plan.peers)
        able = self._ground.able(3 * AMOUNT_MSAT, peers)
        random.shuffle(able)
        # of a few, some are shops and the others people
        self._shops = able[: min(plan.shops, len(able) // 2)]
        self._people = able[len(self._shops) :][: plan.people]
        self._doors = [*peers, *self._shops]
        self._wishes = self._payments(random)

    def measured(self, rivals: int, fee: int) -> tuple[float, int, float]:
        """Earned in an hour, payments passed on, and the share of all payments that arrived."""
        engine = self._engine(rivals, fee)
        router, network = len(self._ground.names), engine.network
        for wish in self._wishes:
            engine.wish(wish)
        engine.run()
        passed = sum(network.forwarded[at] for at in network.out[router])
        paid = sum(outcome.is_paid for outcome in engine.outcomes)
        earned_sat = network.earned_msat[router] / 1000
        return earned_sat / self._plan.hours, passed, share(paid, len(engine.outcomes))

    def _engine(self, rivals: int, fee: int) -> Engine:
        plan, first = self._plan, len(self._ground.names)
        capacity_sat, channels = Sat(plan.capacity_sat), []
        for router in range(1 + rivals):
            toll = Toll(Msat(0), plan.asked_by(router) if router else fee)
            for door in self._doors:
                half = Msat(capacity_sat * 500)
                channels.append(FlowChannel((first + router, door), capacity_sat, half, (toll, PEER_TOLL)))
        return started(self._ground.network([f"router{at}" for at in range(1 + rivals)], channels))

    def _payments(self, random: Random) -> list[Wish]:
        """People pay shops and shops pay people; payers differ in what they are ready to spend."""
        now, found, plan = 0.0, [], self._plan
        while (now := now + random.expovariate(plan.per_second)) < plan.hours * HOUR_SECONDS:
            payer, payee = random.choice(self._people), random.choice(self._shops)
            if random.random() < 0.5:
                payer, payee = payee, payer
            amount_msat = round(AMOUNT_MSAT * random.lognormvariate(0, SPREAD))
            ready = plan.patience_millionths * random.lognormvariate(0, PATIENCE_SPREAD)
            most_msat = round(amount_msat * ready / 1_000_000)
            found.append(Wish(round(now * SECOND_US), payer, payee, amount_msat, most_fee_msat=most_msat))
        return found
