"""(b) What a provider earns and what viewers pay while their channels run dry."""

from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any, ClassVar

from htlc.relay import Toll
from node.lab.experiments.model import (
    HOUR_SECONDS,
    Experiment,
    Figure,
    Findings,
    Line,
    Table,
    share,
    started,
    until,
)
from node.lab.fees.model import FeePolicy
from node.lab.flow.engine import SECOND_US, Engine, Wish
from node.lab.flow.governors import Governor
from node.lab.flow.network import FlowChannel, FlowNetwork
from node.lab.flow.runs import chance, feed
from node.lab.plugins import FEES, plugin
from node.lab.traffic.model import Town
from node.lab.traffic.streaming import Streaming
from wire.units import Msat, Sat

POLICIES: dict[str, dict[str, Any]] = {
    "static": {"base_msat": 0, "millionths": 200},
    "liquidity": {"low": 20, "high": 1200, "every_seconds": 30},
}
SAMPLES = 60
Income = list[tuple[float, float, float]]  # minutes; what providers have got by then, what it cost viewers
COLUMNS = (
    "policy",
    "providers_earned_sat",
    "viewers_fees_sat",
    "fee_millionths",
    "success",
    "attempts_per_chunk",
    "routers_earned_sat",
)


class StreamingMarket(Experiment, frozen=True, kw_only=True):
    """Viewers behind three routers pay two providers a little each second; the providers spend some of it."""

    question: ClassVar[str] = (
        "What does a provider earn and what do viewers pay as streaming empties channels, "
        "with fees that follow liquidity and without?"
    )

    viewers: int = 24
    routers: int = 3
    providers: int = 2
    chunk_msat: int = 700_000
    chunk_seconds: float = 2.0
    spent_share: float = 0.6  # of what providers earn, they pay back to people
    capacity_sat: int = 3_000_000
    hours: float = 1.0

    def run(self, seed: int) -> Findings:
        rows, samples, answers = [], [], []
        lines: tuple[list[Line], list[Line]] = ([], [])
        summary: dict[str, float] = {}
        for policy, options in POLICIES.items():
            engine, income = self._play(seed, policy, options)
            chunks = [o for o in engine.outcomes if o.payee < self.providers]
            paid = [o for o in chunks if o.is_paid]
            fees_msat = sum(o.fee_msat for o in paid)
            earned_sat = sum(o.amount_msat for o in paid) / 1000
            ratio = share(len(paid), len(chunks))
            millionths = 1e6 * share(fees_msat, 1000 * earned_sat)
            routers_sat = sum(engine.network.earned_msat[self.providers :]) / 1000
            attempts = share(sum(o.attempts for o in chunks), len(chunks))
            rows.append((policy, earned_sat, fees_msat / 1000, millionths, ratio, attempts, routers_sat))
            samples += [(policy, *moment) for moment in income]
            minutes, got, asked = zip(*income, strict=True)
            lines[0].append(Line(policy, minutes, got))
            lines[1].append(Line(policy, minutes, asked))
            summary |= {f"earned_sat_{policy}": earned_sat, f"success_{policy}": ratio}
            summary[f"millionths_{policy}"] = millionths
            answers.append(
                f"With {policy} fees the providers earned {earned_sat:,.0f} sat, {ratio:.1%} of the chunks "
                f"arrived, {attempts:.2f} attempts were needed for each, and viewers paid {millionths:,.0f} "
                f"ppm; the routers earned {routers_sat:,.0f} sat."
            )
        tables = (
            Table("market", COLUMNS, tuple(rows)),
            Table("income", ("policy", "minute", "providers_earned_sat", "viewers_fees_sat"), tuple(samples)),
        )
        figures = (
            Figure("income", "What the providers have earned", "minutes", "sat", tuple(lines[0])),
            Figure("fees", "What viewers have paid in fees", "minutes", "sat", tuple(lines[1])),
        )
        return Findings(tuple(answers), summary, tables, figures)

    def _play(self, seed: int, policy: str, options: dict[str, Any]) -> tuple[Engine, Income]:
        network = self._town()
        engine = started(network)
        for router in range(self.providers, self.providers + self.routers):
            Governor(engine, router, plugin(FEES, policy, options, FeePolicy), chance(seed, "fees", router))
        end_us = round(self.hours * HOUR_SECONDS * SECOND_US)
        people = [f"v{at}" for at in range(self.viewers)]
        streaming = Streaming(
            amount_msat=self.chunk_msat,
            chunk_seconds=self.chunk_seconds,
            providers=[f"provider{at}" for at in range(self.providers)],
            viewers=people,
        )
        stream = streaming.wishes(Town(network), chance(seed, "viewers"))
        feed(engine, until(stream, end_us))
        feed(engine, until(self._spending(chance(seed, "spending")), end_us))
        income: Income = []
        for sample in range(SAMPLES + 1):
            engine.run(end_us * sample // SAMPLES)
            paid = [o for o in engine.outcomes if o.is_paid and o.payee < self.providers]
            got_msat, fees_msat = sum(o.amount_msat for o in paid), sum(o.fee_msat for o in paid)
            income.append((end_us * sample / SAMPLES / SECOND_US / 60, got_msat / 1000, fees_msat / 1000))
        network.check_conserved()
        return engine, income

    def _town(self) -> FlowNetwork:
        """Everybody's first channel is with one router, the providers have one with each."""
        providers, first_viewer = self.providers, self.providers + self.routers
        routers, capacity_sat = range(providers, first_viewer), Sat(self.capacity_sat)
        toll = Toll(Msat(0), 200)
        joined = [((router, provider), 800) for router in routers for provider in range(providers)]
        joined += [(pair, 500) for pair in pairwise(routers)]
        for viewer in range(self.viewers):
            # the first router is the favourite, so its channels run dry before the others'
            router = routers[0] if viewer % 2 else routers[viewer % self.routers]
            joined.append(((first_viewer + viewer, router), 900))
        names = [f"provider{at}" for at in range(providers)] + [f"router{at}" for at in range(self.routers)]
        names += [f"v{viewer}" for viewer in range(self.viewers)]
        channels = [
            FlowChannel(pair, capacity_sat, Msat(capacity_sat * thousandths), (toll, toll))
            for pair, thousandths in joined
        ]
        return FlowNetwork(names, channels)

    def _spending(self, random: Random) -> Iterator[Wish]:
        """Providers pay people now and then."""
        per_second = self.viewers / self.chunk_seconds * self.chunk_msat * self.spent_share / 100_000_000
        now, first_viewer = 0.0, self.providers + self.routers
        while per_second > 0:
            now += random.expovariate(per_second)
            provider, person = random.randrange(self.providers), first_viewer + random.randrange(self.viewers)
            yield Wish(round(now * SECOND_US), provider, person, 100_000_000)
