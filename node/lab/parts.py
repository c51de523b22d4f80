"""What splitting and learning are worth: payments over a network whose balances nobody knows.

Every channel is divided by chance, as its two ends know and nobody else does. The same payers pay
the same payees the same amounts by four strategies; each payment finds the balances as they were
drawn. A payment arrives as a whole or not at all: parts that have arrived wait for the others, and
what they take of a channel is taken.

* `cheapest`: the way of least fees, tried once, as the first wallets did.
* `single`: the best way by price and doubt, tried once.
* `single, learning`: the same up to `ROUNDS` times, each failure a lesson.
* `split`: parts by minimum-cost flow, tried once.
* `split, learning`: what did not arrive is split anew, up to `ROUNDS` times.

And how much of what payers have can be brought to payees at all, in how many rounds: the experiment
of Pickhardt and Richter (arXiv 2107.05322), who find that rounds of a single digit are enough for
amounts close to the payer's whole local balance.
"""

from collections.abc import Callable, Iterator, Sequence
from statistics import median

import msgspec
import numpy as np

from gossip.beliefs import Beliefs
from gossip.compact import CompactGraph
from gossip.liquidity import Liquidity, believed
from gossip.search import Search, Way
from gossip.splitting import DEFAULT_TERMS, Terms, single, split

ROUNDS = 10
LEAST_CAPACITY_SAT = 50_000_000  # of payers and payees: five times the largest amount
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
MOST_ROUNDS = 20
MANY_PARTS = 100
AMOUNTS_SAT = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
TRIAL_SEED, TRIAL_PAYMENTS, TRIAL_SAT = 1, 300, (10_000, 100_000, 1_000_000)
TRIAL_WORDS = {"cheapest": "cheapest", "single": "likeliest"}


class Tried(msgspec.Struct, frozen=True):
    """How one payment went."""

    is_paid: bool
    fee_msat: int
    parts: int
    rounds: int
    attempts: int


class Row(msgspec.Struct, frozen=True):
    """How the payments of one amount went by one strategy; costs are medians of those that arrived."""

    strategy: str
    amount_sat: int
    payments: int
    paid: int
    paid_share: float
    fee_ppm: float
    parts: float
    rounds: float
    attempts: float


class ShareRow(msgspec.Struct, frozen=True):
    """How payments went whose amount was a share of the most that payer and payee have room for."""

    share: float
    payments: int
    paid: int
    amount_sat: float
    rounds: float
    most_rounds: int
    parts: float


class Town:
    """A network whose balances are drawn: what each edge can send."""

    def __init__(self, graph: CompactGraph, seed: int) -> None:
        chance = np.random.default_rng([seed, 1])
        self.graph = graph
        self.balances_msat = np.zeros(len(graph), np.int64)
        share = chance.random(len(graph))
        for_one = (graph.twin < 0) | (np.arange(len(graph)) < graph.twin)
        self.balances_msat[for_one] = (graph.capacity_msat * share)[for_one].astype(np.int64)
        others = graph.twin[for_one & (graph.twin >= 0)]
        self.balances_msat[others] = graph.capacity_msat[others] - self.balances_msat[graph.twin[others]]

    def pairs(self, seed: int, count: int) -> list[tuple[int, int]]:
        """Payers and payees with channels enough for the largest amount."""
        graph, chance = self.graph, np.random.default_rng([seed, 2])
        is_open = graph.is_enabled & (graph.twin >= 0) & graph.is_enabled[graph.twin]
        holds = np.bincount(graph.source[is_open], graph.capacity_msat[is_open], graph.nodes)
        able = np.flatnonzero(holds >= LEAST_CAPACITY_SAT * 1000)
        if len(able) < 2:
            return []
        drawn = [chance.choice(able, 2, replace=False).tolist() for _ in range(count)]
        return [(source, target) for source, target in drawn]

    def room_msat(self, source: int, target: int) -> int:
        """The most that one can send and the other receive over their own enabled channels."""
        graph, usable = self.graph, np.where(self.graph.is_enabled, self.balances_msat, 0)
        return int(min(usable[graph.source == source].sum(), usable[graph.target == target].sum()))


class Attempt:
    """One payment on its way: what it has taken of the channels, and what it has learned."""

    def __init__(self, town: Town, source: int, target: int, amount_msat: int) -> None:
        self.graph, self.source, self.target, self.amount_msat = town.graph, source, target, amount_msat
        self.left_msat = town.balances_msat.copy()
        self.beliefs = Beliefs()
        self.arrived: list[Way] = []
        self.attempts = 0

    def believed(self) -> Liquidity:
        """What the payer knows: his own balances, and what was learned of others'."""
        liquidity = believed(self.beliefs, self.graph, 0.0)
        own = self.graph.out_of(self.source)
        liquidity.least_msat[own] = liquidity.most_msat[own] = self.left_msat[own]
        return liquidity

    def send(self, way: Way) -> bool:
        """Send one part, and learn from how far it comes."""
        self.attempts += 1
        hops = list(zip(way.edges, way.amounts_msat, strict=True))
        for at, (edge, amount) in enumerate(hops):
            if self.left_msat[edge] < amount:
                self._learn(self.beliefs.refused, edge, amount)
                for before, carried in hops[:at]:
                    self._learn(self.beliefs.carried, before, carried)
                return False
        for edge, amount in hops:
            self.left_msat[edge] -= amount
            self._learn(self.beliefs.settled, edge, amount)
        self.arrived.append(way)
        return True

    def _learn(self, lesson: Callable[[int, int, int, float], None], edge: int, amount_msat: int) -> None:
        lesson(self.graph.number(edge), int(self.graph.capacity_msat[edge]), amount_msat, 0.0)

    @property
    def missing_msat(self) -> int:
        """What has not arrived yet."""
        return self.amount_msat - sum(way.amounts_msat[-1] for way in self.arrived)

    def tried(self, rounds: int) -> Tried:
        """How it went."""
        fee = sum(way.fee_msat for way in self.arrived)
        return Tried(self.missing_msat == 0, fee, len(self.arrived), rounds, self.attempts)


def _cheapest(attempt: Attempt) -> Tried:
    ceilings_msat = attempt.believed().most_msat
    search = Search(
        attempt.graph, attempt.source, attempt.amount_msat, is_cheapest=True, ceilings_msat=ceilings_msat
    )
    way = search.find(attempt.target, attempt.amount_msat)
    if way is not None:
        attempt.send(way)
    return attempt.tried(1)


def _one_way(attempt: Attempt, rounds: int) -> Tried:
    for number in range(1, rounds + 1):
        way = single(attempt.graph, attempt.believed(), attempt.source, attempt.target, attempt.amount_msat)
        if way is None or attempt.send(way):
            return attempt.tried(number)
    return attempt.tried(rounds)


def _parts(attempt: Attempt, rounds: int, terms: Terms = DEFAULT_TERMS) -> Tried:
    for number in range(1, rounds + 1):
        ends = attempt.source, attempt.target
        parts = split(attempt.graph, attempt.believed(), *ends, attempt.missing_msat, terms)
        for part in parts:
            attempt.send(part)
        if not parts or not attempt.missing_msat:
            return attempt.tried(number)
    return attempt.tried(rounds)


STRATEGIES: dict[str, Callable[[Attempt], Tried]] = {
    "cheapest": _cheapest,
    "single": lambda attempt: _one_way(attempt, 1),
    "single, learning": lambda attempt: _one_way(attempt, ROUNDS),
    "split": lambda attempt: _parts(attempt, 1),
    "split, learning": lambda attempt: _parts(attempt, ROUNDS),
}


def compare(
    graph: CompactGraph,
    seed: int,
    payments: int,
    amounts_sat: Sequence[int] = AMOUNTS_SAT,
    strategies: Sequence[str] = tuple(STRATEGIES),
) -> Iterator[Row]:
    """Make the payments; a row for each amount and strategy, as it is done."""
    town = Town(graph, seed)
    pairs = town.pairs(seed, payments)
    for amount_sat in amounts_sat:
        for name in strategies:
            found = [STRATEGIES[name](Attempt(town, *pair, amount_sat * 1000)) for pair in pairs]
            yield _row(name, amount_sat, found)


def arrivals(graph: CompactGraph) -> dict[str, float]:
    """How usual payments go, by name: what two networks that are alike should agree on."""
    told: dict[str, float] = {}
    for row in compare(graph, TRIAL_SEED, TRIAL_PAYMENTS, TRIAL_SAT, tuple(TRIAL_WORDS)):
        what = f"{row.amount_sat:,} sat, {TRIAL_WORDS[row.strategy]} way"
        told |= {f"{what}: arrive, %": round(100 * row.paid_share, 1), f"{what}: fee, ppm": row.fee_ppm}
    return told


def shares(graph: CompactGraph, seed: int, payments: int) -> Iterator[ShareRow]:
    """Bring growing shares of what there is room for; a row for each share."""
    town = Town(graph, seed)
    pairs = town.pairs(seed, payments)
    terms = Terms(most_parts=MANY_PARTS)
    for share in SHARES:
        amounts = [int(share * town.room_msat(*pair)) for pair in pairs]
        found = [
            _parts(Attempt(town, *pair, amount), MOST_ROUNDS, terms)
            for pair, amount in zip(pairs, amounts, strict=True)
            if amount
        ]
        paid = [tried for tried in found if tried.is_paid]
        yield ShareRow(
            share=share,
            payments=len(found),
            paid=len(paid),
            amount_sat=_typical(amounts) // 1000,
            rounds=_typical([tried.rounds for tried in paid]),
            most_rounds=max((tried.rounds for tried in paid), default=0),
            parts=_typical([tried.parts for tried in paid]),
        )


def _typical(values: Sequence[float]) -> float:
    return float(median(values)) if values else 0.0


def _row(strategy: str, amount_sat: int, found: Sequence[Tried]) -> Row:
    paid = [tried for tried in found if tried.is_paid]
    return Row(
        strategy=strategy,
        amount_sat=amount_sat,
        payments=len(found),
        paid=len(paid),
        paid_share=round(len(paid) / max(1, len(found)), 4),
        fee_ppm=round(_typical([tried.fee_msat * 1000 / amount_sat for tried in paid]), 1),
        parts=_typical([tried.parts for tried in paid]),
        rounds=_typical([tried.rounds for tried in paid]),
        attempts=_typical([tried.attempts for tried in paid]),
    )
