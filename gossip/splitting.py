"""A payment in parts: minimum-cost flow while nobody tells how channels are divided.

Every edge costs its fees, its time lock, and the doubt that it can carry what is put on it:
-ln(chance), worth `doubt_msat` each. The chance shrinks with the amount, so the cost is convex,
and several ways beat one as soon as the amount is no longer small beside the channels (Pickhardt
and Richter, arXiv 2107.05322). The flow is laid in units of equal size, each over the cheapest way
that is left; that way may take back units laid before. Each edge's cost so becomes linear in pieces
of a unit, and the flow is the cheapest there is of such units (the successive shortest path argument).
What finds no room any more is laid in smaller units on top, so that channels can be filled to the brim.

A fee's fixed part is no convex cost. It is charged by the unit at a share, as if a part had
`_UNITS_A_PART` of them; after that every part gets its exact fees, from the payee backwards, and
is held against every limit, together with the parts that share its channels. A part that does not
fit is found anew by the search for single ways, on what the other parts have left.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TypeAlias

import msgspec
import numpy as np

from gossip.asked import MOST_PARTS
from gossip.beliefs import SURE_ENOUGH, worth_of_doubt_msat
from gossip.compact import Bools, CompactGraph, Ints
from gossip.graph import MILLION
from gossip.liquidity import Liquidity
from gossip.routes import HOP_PRICE_MSAT
from gossip.search import NO_LIMITS, RISK_MILLIONTHS, Limits, Search, Way, exact, potentials

# how many units an amount is laid in, and how much of a channel is left for the fees of the hops
# behind it: the finer ones where the others find no room
_GRAINS = ((20, 0.01), (80, 0.001))
_REFINEMENTS = 3
_UNITS_A_PART = 5
_LEAST_UNIT_MSAT = 10_000
_RANKS = 32
_FAR = 1 << 60
_MOST_COST = 1 << 45


class Terms(msgspec.Struct, frozen=True, gc=False):
    """What a payer thinks of doubt, and how far a payment may be cut up.

    `doubt_msat` is what -ln(chance) = 1 is worth; without it, `worth_of_doubt_msat`.
    """

    doubt_msat: int | None = None
    most_parts: int = MOST_PARTS
    limits: Limits = NO_LIMITS

    def doubt_of(self, amount_msat: int) -> int:
        """The worth of doubt in a payment of this size."""
        return worth_of_doubt_msat(amount_msat) if self.doubt_msat is None else self.doubt_msat


DEFAULT_TERMS = Terms()


def single(
    graph: CompactGraph,
    liquidity: Liquidity,
    source: int,
    target: int,
    amount_msat: int,
    terms: Terms = DEFAULT_TERMS,
) -> Way | None:
    """The way that is best by price and doubt together, or None.

    What `liquidity` says of the payer's own edges is taken as known.
    """
    doubts = np.minimum(liquidity.doubts(amount_msat), 1e6)
    penalties = (doubts * terms.doubt_of(amount_msat)).astype(np.int64)
    search = Search(graph, source, amount_msat, penalties_msat=penalties, ceilings_msat=liquidity.most_msat)
    return search.find(target, amount_msat, terms.limits)


def chance(liquidity: Liquidity, way: Way) -> float:
    """How likely every channel of a way carries its part; the payer's own is known."""
    found = 1.0
    for edge, amount in zip(way.edges[1:], way.amounts_msat[1:], strict=True):
        found *= liquidity.chance(edge, amount)
    return found


def split(
    graph: CompactGraph,
    liquidity: Liquidity,
    source: int,
    target: int,
    amount_msat: int,
    terms: Terms = DEFAULT_TERMS,
) -> tuple[Way, ...]:
    """The parts of a payment, largest first; none if the amount cannot be brought there.

    They add up to the amount exactly, keep every limit of every edge together, and each keeps
    `terms.limits`, whose fee budget is for all of them.
    """
    whole = single(graph, liquidity, source, target, amount_msat, terms)
    if terms.most_parts <= 1 or (whole is not None and chance(liquidity, whole) >= SURE_ENOUGH):
        return () if whole is None else (whole,)
    for grain in _GRAINS:
        flow = Flow(graph, liquidity, source, target, amount_msat, terms, *grain)
        paths = _filled(flow, grain)
        parts = None if paths is None else _fitted(flow, paths)
        if parts is not None:
            return parts
    return () if whole is None else (whole,)


_Path: TypeAlias = tuple[tuple[int, ...], int]
"""Edges, and the msat that go over them."""


def _filled(flow: "Flow", grain: tuple[int, float]) -> list[_Path] | None:
    """The ways of the whole amount, the widest first; None if there is no room for it.

    After the flow come others of what it left, each of smaller units, over what it left of channels.
    """
    found, left, rest_msat = Counter[tuple[int, ...]](), flow.liquidity, flow.amount_msat
    terms = msgspec.structs.replace(flow.terms, doubt_msat=flow.terms.doubt_of(flow.amount_msat))
    for _ in range(_REFINEMENTS):
        is_full = flow.fill()
        for edges, units in flow.paths():
            found[edges] += units * flow.unit_msat
        if is_full:
            cut = (piece for edges, msat in found.items() for piece in flow.cut(edges, msat))
            return sorted(islice(cut, flow.terms.most_parts + 1), key=lambda path: -path[1])
        rest_msat -= flow.filled * flow.unit_msat
        left = flow.left()
        flow = Flow(flow.graph, left, flow.source, flow.target, rest_msat, terms, *grain)
    return None


class Flow:
    """A payment as units on edges; `laid` counts those of each edge that has any."""

    def __init__(
        self,
        graph: CompactGraph,
        liquidity: Liquidity,
        source: int,
        target: int,
        amount_msat: int,
        terms: Terms,
        units: int = _GRAINS[0][0],
        fees_at_most: float = _GRAINS[0][1],
    ) -> None:
        self.graph, self.liquidity, self.terms = graph, liquidity, terms
        self.source, self.target, self.amount_msat = source, target, amount_msat
        self.unit_msat = max(-(-amount_msat // units), min(_LEAST_UNIT_MSAT, amount_msat))
        self.units = -(-amount_msat // self.unit_msat)
        self.laid: dict[int, int] = {}
        self.filled = 0
        self._usable = 1 - fees_at_most
        self._doubt = terms.doubt_of(amount_msat)
        self._fixed = self._fixed_costs()
        self._costs = self._first_costs()

    def fill(self) -> bool:
        """Lay every unit where it is cheapest; whether there was room for all."""
        while self.filled < self.units and self._lay():
            self.filled += 1
        return self.filled == self.units

    def left(self) -> Liquidity:
        """What the flow leaves of channels, for another of the same grain."""
        least, most = self.liquidity.least_msat.copy(), self.liquidity.most_msat.copy()
        for edge, units in self.laid.items():
            taken = int(units * self.unit_msat / self._usable)
            most[edge] = max(0, most[edge] - taken)
            least[edge] = min(max(0, least[edge] - taken), most[edge])
        return Liquidity(least, most)

    def paths(self) -> list[_Path]:
        """The flow as ways with their units."""
        found, laid = [], dict(self.laid)
        while laid:
            edges = self._walk(laid)
            units = min(laid[edge] for edge in edges)
            for edge in edges:
                laid[edge] -= units
                if not laid[edge]:
                    del laid[edge]
            found.append((tuple(edges), units))
        return found

    def cut(self, edges: tuple[int, ...], carried_msat: int) -> Iterator[_Path]:
        """What is more than one HTLC may carry over an edge goes over the same way in several."""
        at_once = max(1, int(min(self.graph.most_msat[edge] for edge in edges) * self._usable))
        while carried_msat > 0:
            yield edges, min(at_once, carried_msat)
            carried_msat -= at_once

    def _walk(self, laid: dict[int, int]) -> list[int]:
        """From the payer along the most units to the payee; a loop costs something, so there is none."""
        edges, node = [], self.source
        while node != self.target:
            edge = max((e for e in laid if self.graph.source[e] == node), key=lambda e: laid[e])
            edges.append(edge)
            node = int(self.graph.target[edge])
        return edges

    def _fixed_costs(self) -> Ints:
        """What a unit costs on each edge, its doubt aside; nothing on the payer's own."""
        graph, unit = self.graph, self.unit_msat
        costs = graph.fee_base_msat // _UNITS_A_PART
        costs += np.minimum(graph.fee_millionths, MILLION) * unit // MILLION
        costs += graph.cltv_delta * (unit * RISK_MILLIONTHS // MILLION) // 1000
        costs += HOP_PRICE_MSAT // _UNITS_A_PART
        costs[graph.out_of(self.source)] = 0
        return costs

    def _first_costs(self) -> Ints:
        """The cost of a first unit on every edge, in ranks as in `gossip.search`; 2^60 where none fits."""
        graph, unit = self.graph, self.unit_msat
        doubts = np.minimum(self.liquidity.doubts(unit), 1e6) * self._doubt
        doubts[graph.out_of(self.source)] = 0
        costs = np.minimum(self._fixed + doubts.astype(np.int64), _MOST_COST) * _RANKS + 1
        return np.where(self._is_open() & (self._room() >= 1), costs, _FAR)

    def _is_open(self) -> Bools:
        graph = self.graph
        is_open = (
            graph.is_enabled & (graph.least_msat <= self.unit_msat) & (graph.most_msat >= self.unit_msat)
        )
        for node in graph.shunned - {self.source, self.target}:
            is_open &= graph.source != node
        return is_open

    def _room(self) -> Ints:
        return (self.liquidity.most_msat * self._usable).astype(np.int64) // self.unit_msat

    def _lay(self) -> bool:
        """Lay one unit along the cheapest way that is left."""
        back = np.array(list(self.laid), np.int64)
        # a unit taken back saves its cost, but for its place among ways of equal cost
        refunds = np.array([1 - self.cost(edge, self.laid[edge] - 1) for edge in self.laid], np.int64)
        least = potentials(self.graph, self.source, self._costs, (back, refunds))
        if least[self.target] >= _FAR:
            return False
        node = self.target
        while node != self.source:
            node = self._step(node, least, back, refunds)
        return True

    def _step(self, node: int, least: Ints, back: Ints, refunds: Ints) -> int:
        """Put the unit on the last edge of the cheapest way to a node; return where it came from."""
        graph = self.graph
        low, high = int(graph.first[node]), int(graph.first[node + 1])
        arriving = least[graph.source[low:high]] + self._costs[low:high]
        taken_back = np.where(graph.source[back] == node, least[graph.target[back]] + refunds, _FAR)
        if len(back) and (low == high or taken_back.min() < arriving.min()):
            edge = int(back[np.argmin(taken_back)])
            self._put(edge, -1)
            return int(graph.target[edge])
        edge = low + int(np.argmin(arriving))
        self._put(edge, 1)
        return int(graph.source[edge])

    def _put(self, edge: int, units: int) -> None:
        now = self.laid.get(edge, 0) + units
        self.laid[edge] = now
        if not now:
            del self.laid[edge]
        self._costs[edge] = self.cost(edge, now)

    def cost(self, edge: int, laid: int) -> int:
        """The cost of one more unit on an edge that has some."""
        before, after = laid * self.unit_msat, (laid + 1) * self.unit_msat
        if after > int(self.liquidity.most_msat[edge]) * self._usable:
            return _FAR
        doubt = 0.0
        if self.graph.source[edge] != self.source:
            had, has = self.liquidity.chance(edge, before), self.liquidity.chance(edge, after)
            doubt = min(float(np.log(had / has)), 1e6) if has > 0 else 1e6
        return min(int(self._fixed[edge]) + int(doubt * self._doubt), _MOST_COST) * _RANKS + 1


def _fitted(flow: Flow, paths: list[_Path]) -> tuple[Way, ...] | None:
    """The paths as parts with exact amounts, within all limits; None if they cannot be made to fit."""
    if len(paths) > flow.terms.most_parts:
        return None
    left, parts = flow.liquidity.most_msat.copy(), list[Way]()
    to_pay = flow.amount_msat
    for at, (edges, carried_msat) in enumerate(paths):
        amount = to_pay if at == len(paths) - 1 else min(carried_msat, to_pay)
        if amount <= 0:
            break
        limits = _less_fees(flow.terms.limits, parts)
        way = exact(flow.graph, edges, amount, limits)
        if way is None or any(left[e] < a for e, a in zip(way.edges, way.amounts_msat, strict=True)):
            rest = Liquidity(np.minimum(flow.liquidity.least_msat, left), left)
            terms = msgspec.structs.replace(flow.terms, limits=limits)
            way = single(flow.graph, rest, flow.source, flow.target, amount, terms)
        if way is None:
            return None
        left[list(way.edges)] -= np.array(way.amounts_msat, np.int64)
        parts.append(way)
        to_pay -= amount
    return tuple(parts)


def _less_fees(limits: Limits, parts: Sequence[Way]) -> Limits:
    """What the limits leave when the fees of these parts are paid."""
    if limits.max_fee_msat is None:
        return limits
    return msgspec.structs.replace(
        limits, max_fee_msat=limits.max_fee_msat - sum(part.fee_msat for part in parts)
    )
