"""(b) What a provider earns and what viewers pay while the provider's channels run dry."""

from collections.abc import Iterator
from itertools import product
from random import Random
from typing import Annotated, Any, ClassVar, NamedTuple

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
    Many,
    Positive,
    Table,
    router_for,
    share,
    steps,
    until,
)
from node.lab.fees.model import FeePolicy
from node.lab.flow.engine import SECOND_US, Engine, Pace, Wish
from node.lab.flow.governors import Governor
from node.lab.flow.network import FlowChannel
from node.lab.flow.runs import chance, feed
from node.lab.plugins import FEES, plugin
from node.lab.traffic.model import Town
from node.lab.traffic.streaming import Streaming
from wire.units import Msat, Sat

POLICIES: dict[str, dict[str, Any]] = {
    "static": {"base_msat": 0, "millionths": 200},
    "liquidity": {"low": 20, "high": 1200, "every_seconds": 30},
}
PEER_TOLL = Toll(Msat(0), 1)
THERE = 0.8  # of the channels with providers is on the routers' side at first
SPENT_MSAT, ROOM = 100_000_000, 20
COLUMNS = (
    "tries",
    "routers",
    "load",
    "policy",
    "providers_earned_sat",
    "success",
    "viewers_fees_sat",
    "fee_millionths",
    "attempts_per_chunk",
    "routers_earned_sat",
)


Room = Annotated[int, msgspec.Meta(ge=1_000_000)]
Part = Annotated[float, msgspec.Meta(ge=0)]


class StreamingMarket(Experiment, frozen=True, kw_only=True):
    """Viewers anywhere in the network pay two providers a little every few seconds; these spend some of it.

    The way to a provider is over one router, or over several side by side, which together have the same
    room for it. The routers ask the same always, or more as what they have left towards a provider runs
    out. A chunk that fails is tried again, or is late and given up. What is bought grows with the load:
    at 1 it is a bit less in an hour than there is room for.
    """

    question: ClassVar[str] = (
        "What does a provider earn and what do viewers pay as streaming empties channels, "
        "with fees that follow liquidity and without?"
    )
    takes_seconds: ClassVar[int] = 50

    graph: str = MAINNET
    viewers: Many = 24
    providers: Many = 2
    routers: Annotated[tuple[Many, ...], AtLeastOne] = (1, 4)
    tries: Annotated[tuple[Many, ...], AtLeastOne] = (1, 20)  # then a chunk is given up
    loads: Annotated[tuple[Positive, ...], AtLeastOne] = (0.5, 1.0, 2.0, 4.0)
    chunk_msat: Many = 2_500_000  # at load 1
    chunk_seconds: Positive = 10.0
    spent_share: Part = 0.5  # of what is bought, providers pay so much back to people
    room_sat: Room = 12_000_000  # in channels with each provider, over all routers
    peers: Many = 6  # of each router, the largest nodes
    hours: Positive = 1.0

    def run(self, seed: int) -> Findings:
        runs = [
            _Run(tries, routers, load, policy)
            for tries in self.tries
            for routers in self.routers
            for load in self.loads
            for policy in POLICIES
        ]
        found = {run: self._measured(seed, run) for run in steps(runs)}
        summary = dict[str, float]()
        for run, books in found.items():
            key = f"{run.policy}_{run.routers}_{run.load:g}_{run.tries}"
            summary |= {f"earned_sat_{key}": books.earned_sat, f"success_{key}": books.success}
            summary[f"millionths_{key}"] = books.millionths
        ends = self.loads[0], self.loads[-1]
        answers = tuple(
            [
                _compared(*case, *(found[_Run(*case, policy)] for policy in POLICIES))
                for case in product(self.tries, self.routers, ends)
            ]
        )
        rows = tuple([(*run, *books) for run, books in found.items()])
        return Findings(answers, summary, (Table("market", COLUMNS, rows),), self._figures(found))

    def _figures(self, found: "dict[_Run, _Books]") -> tuple[Figure, ...]:
        def figure(name: str, title: str, y_label: str, tries: int, of: str) -> Figure:
            lines = [
                Line(
                    f"{policy}, {_several(routers)}",
                    self.loads,
                    tuple([getattr(found[_Run(tries, routers, load, policy)], of) for load in self.loads]),
                )
                for routers in self.routers
                for policy in POLICIES
            ]
            return Figure(name, title, "load", y_label, tuple(lines))

        few, many = min(self.tries), max(self.tries)
        return (
            figure("earned", f"What the providers earn, {_tried(few)}", "sat", few, "earned_sat"),
            figure("fees", f"What viewers pay for it, {_tried(many)}", "ppm", many, "millionths"),
            figure("attempts", f"How often a chunk is tried, {_tried(many)}", "attempts", many, "attempts"),
        )

    def _measured(self, seed: int, run: "_Run") -> "_Books":
        land = ground(self.graph, seed)
        network = land.network(*self._added(land, run.routers))
        engine = Engine(network, router_for(network), Pace(most_attempts=run.tries))
        first = len(land.names)
        providers = range(first, first + self.providers)
        for router in range(providers.stop, providers.stop + run.routers):
            made = plugin(FEES, run.policy, POLICIES[run.policy], FeePolicy)
            Governor(engine, router, made, chance(seed, "fees", router))
        self._feed(engine, land, seed, run.load)
        engine.run(round(self.hours * HOUR_SECONDS * SECOND_US))
        engine.network.check_conserved()
        chunks = [o for o in engine.outcomes if o.payee in providers]
        paid = [o for o in chunks if o.is_paid]
        fees_msat, earned_sat = sum(o.fee_msat for o in paid), sum(o.amount_msat for o in paid) / 1000
        return _Books(
            earned_sat,
            share(len(paid), len(chunks)),
            fees_msat / 1000,
            1e6 * share(fees_msat, 1000 * earned_sat),
            share(sum(o.attempts for o in chunks), len(chunks)),
            sum(engine.network.earned_msat[providers.stop :]) / 1000,
        )

    def _added(self, land: Ground, routers: int) -> tuple[list[str], list[FlowChannel]]:
        """Providers, then the routers that lead to them, each with a channel to every provider and peer."""
        first, channels = len(land.names), []
        toll = Toll(Msat(0), POLICIES["static"]["millionths"])
        room_sat = Sat(self.room_sat // routers)
        there_msat, half_msat = Msat(round(room_sat * 1000 * THERE)), Msat(room_sat * 500)
        for router in range(first + self.providers, first + self.providers + routers):
            channels += [
                FlowChannel((router, provider), room_sat, there_msat, (toll, toll))
                for provider in range(first, first + self.providers)
            ]
            channels += [
                FlowChannel((router, peer), room_sat, half_msat, (toll, PEER_TOLL))
                for peer in land.largest(self.peers)
            ]
        names = [f"provider{at}" for at in range(self.providers)] + [f"router{at}" for at in range(routers)]
        return names, channels

    def _feed(self, engine: Engine, land: Ground, seed: int, load: float) -> None:
        network, random = engine.network, chance(seed, "viewers")
        end_us, chunk_msat = round(self.hours * HOUR_SECONDS * SECOND_US), round(self.chunk_msat * load)
        able = land.able(ROOM * self.chunk_msat)
        people = random.sample(able, min(self.viewers, len(able)))
        streaming = Streaming(
            amount_msat=chunk_msat,
            chunk_seconds=self.chunk_seconds,
            providers=[f"provider{at}" for at in range(self.providers)],
            viewers=[network.names[place] for place in people],
        )
        feed(engine, until(streaming.wishes(Town(network), random), end_us))
        per_second = len(people) / self.chunk_seconds * chunk_msat * self.spent_share / SPENT_MSAT
        spending = self._spending(chance(seed, "spending"), len(land.names), people, per_second)
        feed(engine, until(spending, end_us))

    def _spending(self, random: Random, first: int, people: list[int], per_second: float) -> Iterator[Wish]:
        """Providers pay people now and then."""
        now = 0.0
        while per_second > 0:
            now += random.expovariate(per_second)
            provider, person = first + random.randrange(self.providers), random.choice(people)
            yield Wish(round(now * SECOND_US), provider, person, SPENT_MSAT)


class _Run(NamedTuple):
    """What is varied."""

    tries: int
    routers: int
    load: float
    policy: str


class _Books(NamedTuple):
    """What came of a run."""

    earned_sat: float
    success: float
    fees_sat: float
    millionths: float
    attempts: float
    routers_sat: float


def _several(routers: int) -> str:
    return f"{routers} router{'s' if routers > 1 else ''}"


def _tried(tries: int) -> str:
    return "every chunk tried once" if tries == 1 else f"every chunk tried up to {tries} times"


def _compared(tries: int, routers: int, load: float, plain: _Books, follows: _Books) -> str:
    """What fees that follow liquidity change."""
    percent = 100 * (share(follows.earned_sat, plain.earned_sat) - 1)
    change = f"{abs(percent):.1f} % {'more' if percent > 0 else 'less'}" if abs(percent) >= 0.1 else "as much"
    return (
        f"{_several(routers)}, load {load:g}, {_tried(tries)}: with fees that follow liquidity providers "
        f"earn {change} ({follows.earned_sat:,.0f} sat, not {plain.earned_sat:,.0f}), {follows.success:.1%} "
        f"of chunks arrive (not {plain.success:.1%}) in {follows.attempts:.2f} attempts "
        f"({plain.attempts:.2f}), and viewers pay {follows.millionths:,.0f} ppm ({plain.millionths:,.0f})."
    )
