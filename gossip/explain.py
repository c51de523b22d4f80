"""Why this route and no other, and why there is none (BOLT 7).

The next best way is the best of those that avoid one edge of the best: whatever differs from it
avoids some edge. Where there is no way, the largest amount that passes is found by asking for
amounts, since fees and limits on the way decide it; what blocks more is the smaller of two cuts,
around the payer and around the payee, as nothing larger crosses either.
"""

import msgspec
import numpy as np

from gossip.compact import Bools, CompactGraph
from gossip.graph import MILLION
from gossip.routes import HOP_PRICE_MSAT
from gossip.search import NO_LIMITS, RISK_MILLIONTHS, Limits, Search, Way, potentials
from wire.units import Msat

_FAR = 1 << 60


class Question(msgspec.Struct, frozen=True, gc=False):
    """What was asked of the search."""

    graph: CompactGraph
    source: int
    target: int
    amount_msat: int
    is_cheapest: bool = False
    limits: Limits = NO_LIMITS

    def answer(self, excluded: tuple[int, ...] = ()) -> Way | None:
        """The best way, or None."""
        search = Search(
            self.graph, self.source, self.amount_msat, is_cheapest=self.is_cheapest, excluded=excluded
        )
        return search.find(self.target, self.amount_msat, self.limits)


class HopCost(msgspec.Struct, frozen=True, gc=False):
    """What one hop adds to the price, in msat; the payer's own adds nothing."""

    fee_msat: Msat
    time_lock_msat: Msat
    hop_msat: Msat
    best_without: Way | None  # the best way that does not use this hop


class Obstacle(msgspec.Struct, frozen=True, gc=False):
    """An edge that more would have to cross, and why it cannot."""

    edge: int
    why: str


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Why there is no way; `largest_msat` passes, and no more does."""

    why: str
    largest_msat: Msat
    obstacles: tuple[Obstacle, ...]


def hop_costs(question: Question, way: Way) -> tuple[HopCost, ...]:
    """What each hop of the best way costs, and what would be taken in its place."""
    graph, costs = question.graph, []
    risk = question.amount_msat * RISK_MILLIONTHS // MILLION
    for at, edge in enumerate(way.edges):
        fee = way.amounts_msat[at - 1] - way.amounts_msat[at] if at else 0
        is_priced = at > 0 and not question.is_cheapest
        lock = int(graph.cltv_delta[edge]) * risk // 1000 if is_priced else 0
        hop = HOP_PRICE_MSAT if is_priced else 0
        costs.append(HopCost(Msat(fee), Msat(lock), Msat(hop), question.answer((edge,))))
    return tuple(costs)


def next_best(costs: tuple[HopCost, ...]) -> Way | None:
    """The best way but one."""
    ways = [cost.best_without for cost in costs if cost.best_without is not None]
    return min(ways, key=lambda way: (way.price_msat, len(way.edges)), default=None)


def why_not(question: Question) -> Refusal:
    """What stands in the way of an amount for which the search found nothing."""
    largest = _largest(question)
    unlimited = Limits(max_cltv_blocks=1 << 40, max_hops=31)
    way = msgspec.structs.replace(question, limits=unlimited).answer()
    if way is not None:
        return Refusal(_broken_limit(question.limits, way), largest, ())
    more = question if not largest else msgspec.structs.replace(question, amount_msat=largest + 1)
    cut = _smaller_cut(more)
    if cut is None:
        why = "with the fees on top, the amount does not fit where it alone would"
        return Refusal(why, largest, _narrow(question, largest))
    side, edges = cut
    if not edges:
        return Refusal(f"the {side} has no channel with a policy that leads there", largest, ())
    obstacles = tuple(Obstacle(edge, _why(more, edge)) for edge in edges)
    leads = "away from the payer" if side == "payer" else "to the payee"
    return Refusal(f"nothing else leads {leads}", largest, obstacles)


def _broken_limit(limits: Limits, way: Way) -> str:
    blocks, most_blocks = way.cltv_blocks[0], limits.max_cltv_blocks
    if blocks > most_blocks:
        return f"the way there locks the money for {blocks} blocks, the limit is {most_blocks}"
    if limits.max_fee_msat is not None and way.fee_msat > limits.max_fee_msat:
        return f"the way there costs {way.fee_msat} msat in fees, the budget is {limits.max_fee_msat} msat"
    return f"the way there has {len(way.edges)} hops, the limit is {limits.max_hops}"


def _largest(question: Question) -> Msat:
    """The most that passes: found by halving, up to what the widest way carries without its fees."""
    low, high = 0, question.amount_msat
    while high - low > 1:
        middle = (low + high) // 2
        if msgspec.structs.replace(question, amount_msat=middle).answer() is None:
            high = middle
        else:
            low = middle
    return Msat(low)


def _carries(question: Question) -> Bools:
    graph, amount = question.graph, question.amount_msat
    return graph.is_enabled & (graph.most_msat >= amount) & (graph.least_msat <= amount)


def _smaller_cut(question: Question) -> tuple[str, list[int]] | None:
    """The edges around what the payer reaches, or around what reaches the payee, whichever are fewer."""
    graph, carries = question.graph, _carries(question)
    reached = potentials(graph, question.source, np.where(carries, 1, _FAR)) < _FAR
    if reached[question.target]:
        return None
    reaching = _reaching(graph, question.target, carries)
    away = np.flatnonzero(reached[graph.source] & ~reached[graph.target])
    into = np.flatnonzero(~reaching[graph.source] & reaching[graph.target])
    side, edges = ("payer", away) if len(away) < len(into) else ("payee", into)
    widest_first = edges[np.argsort(-graph.most_msat[edges], kind="stable")]
    return side, widest_first.tolist()


def _reaching(graph: CompactGraph, target: int, carries: Bools) -> Bools:
    """Which nodes have a way to the target over edges that carry the amount."""
    reaching = np.zeros(graph.nodes, np.bool_)
    reaching[target] = True
    start, end = graph.source[carries], graph.target[carries]
    known = 0
    while known < (now := int(np.count_nonzero(reaching))):
        known = now
        reaching[start[reaching[end]]] = True
    return reaching


def _narrow(question: Question, largest: Msat) -> tuple[Obstacle, ...]:
    """On the way that the largest amount takes, the edge that it fills."""
    way = msgspec.structs.replace(question, amount_msat=largest).answer() if largest else None
    if way is None:
        return ()
    most = question.graph.most_msat
    rooms = zip(way.edges, way.amounts_msat, strict=True)
    _, edge = min((int(most[edge]) - amount, edge) for edge, amount in rooms)
    return (Obstacle(edge, f"carries at most {int(most[edge])} msat, fees included"),)


def _why(question: Question, edge: int) -> str:
    graph, amount = question.graph, question.amount_msat
    if not graph.is_enabled[edge]:
        return "is disabled"
    if graph.most_msat[edge] < amount:
        limit = "holds" if graph.most_msat[edge] == graph.capacity_msat[edge] else "carries at most"
        return f"{limit} {int(graph.most_msat[edge])} msat"
    return f"carries no less than {int(graph.least_msat[edge])} msat"
