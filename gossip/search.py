"""Finding routes in a graph of mainnet's size: A* from the payee, drawn towards the payer (BOLT 7, BOLT 4).

Amounts are only known from the payee's end, so the search must start there; a plain Dijkstra then
settles half the network before it meets the payer. Here the payer's side is measured first: the
least that it could cost to bring this amount from the payer to every node, all at once, by
relaxing all edges of the graph as arrays until nothing changes (Bellman and Ford's; a dozen passes).
No real way is cheaper, since upstream amounts only grow. These potentials (a) give a first route,
whose exact price bounds the rest, and (b) tell the backward search which edges can still be part
of anything cheaper: mostly a dozen. They serve every further payee and part of at least that amount.

The price of a way is its fees, with time lock and length priced as in `gossip.routes`, or its fees
alone. An edge maps price to price by a growing function, so the first label to settle a node is
the cheapest exactly. Where a limit (time lock, hops, fee budget, an edge's minimum or maximum)
refused a label that could have led to something cheaper than what was found, a second search keeps
every label that is not worse in everything, so that the answer is the optimum under all limits. (It
gives up after thirty thousand labels, where no limit can be met at a price anybody would pay.)

scipy's Dijkstra was measured for the potentials: 1.2 ms against 1.4 ms for the passes in numpy on
mainnet's graph, but its import costs a fifth of a second and 40 MB, and it is no faster for
anything else here.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from typing import TypeAlias

import msgspec
import numpy as np

from gossip.compact import Bools, CompactGraph, Ints
from gossip.graph import MILLION
from gossip.routes import HOP_PRICE_MSAT, MAX_CLTV_BLOCKS, MAX_HOPS
from wire.units import Msat

FINAL_CLTV_BLOCKS = 18

# One percent a year on what is locked: millionths of the amount per thousand blocks, as in gossip.routes.
RISK_MILLIONTHS = 190
# A rank is a price with the hops behind it in its lowest digits, so that of two ways at one price
# the shorter wins. In whole numbers: 2^43 msat are 88 BTC, more than any channel holds.
_RANKS = 32
_FAR = 1 << 60
_MOST_PRICED_MSAT = 1 << 43
_MOST_PRICED_MILLIONTHS = 1 << 20
_MOST_PENALTY_MSAT = 1 << 48
_PATIENCE = 30_000

# rank, node, price, msat that must arrive, blocks above height, hops behind, edge taken, label it leads to
_Label: TypeAlias = tuple[int, int, int, int, int, int, int, "_Label | None"]


class Way(msgspec.Struct, frozen=True, gc=False):
    """A route by edges of the graph, the payer's own channel first.

    `amounts_msat[i]` is what the HTLC over `edges[i]` carries: it arrives at the edge's target, as
    in Core Lightning's getroute. `cltv_blocks[i]` is how far above the payer's height it expires.
    """

    edges: tuple[int, ...]
    amounts_msat: tuple[Msat, ...]
    cltv_blocks: tuple[int, ...]
    price_msat: int

    @property
    def fee_msat(self) -> Msat:
        """What all forwarding nodes get together."""
        return Msat(self.amounts_msat[0] - self.amounts_msat[-1])


class Limits(msgspec.Struct, frozen=True, gc=False):
    """What a route may cost and how long it may be; `hops` counts every channel, the payer's too."""

    max_fee_msat: int | None = None
    max_cltv_blocks: int = MAX_CLTV_BLOCKS
    max_hops: int = MAX_HOPS
    final_cltv_blocks: int = FINAL_CLTV_BLOCKS


NO_LIMITS = Limits()


class Search:
    """The ways out of one node, for any payee and any amount from `amount_msat` up.

    `is_cheapest` prices fees alone. `own_msat` is what each of the payer's own edges can send now;
    without it their policies count. `penalties_msat` is added to each edge's price, for whatever
    the caller thinks of it, and none carries more than `ceilings_msat`. Nothing goes over
    `excluded` edges or through `closed` nodes.
    """

    def __init__(
        self,
        graph: CompactGraph,
        source: int,
        amount_msat: int,
        *,
        is_cheapest: bool = False,
        own_msat: Mapping[int, int] | None = None,
        penalties_msat: Ints | None = None,
        ceilings_msat: Ints | None = None,
        excluded: Collection[int] = (),
        closed: Collection[int] = (),
    ) -> None:
        self.graph, self.source, self.amount_msat = graph, source, amount_msat
        self.is_amount_price = is_cheapest and penalties_msat is None
        self._is_cheapest = is_cheapest
        self.most_msat, open_edges = self._bounds(
            own_msat, ceilings_msat, excluded, {*closed, *graph.shunned}
        )
        self._open = open_edges & (self.most_msat >= amount_msat)
        self._extra = self._extras(penalties_msat)
        self._lower = self._lower_bounds()
        # larger parts are asked for too, and the fees on the way lift what edges carry
        self._admit(2 * amount_msat)

    def find(self, target: int, amount_msat: int, limits: Limits = NO_LIMITS) -> Way | None:
        """The cheapest way to bring this amount to a node, or None if no way keeps all limits."""
        assert amount_msat >= self.amount_msat, "the potentials hold from the search's amount up"
        assert target != self.source, "nobody pays himself"
        while True:
            label = _Quest(self, target, amount_msat, limits).run()
            # a way through an edge whose minimum lies above the amount has paid the difference before it
            dearest = _FAR if label is None else label[2]
            if limits.max_fee_msat is not None:
                dearest = min(dearest, amount_msat + limits.max_fee_msat)
            if not self._admit_up_to(dearest):
                return None if label is None else _way(label)

    def _bounds(
        self,
        own_msat: Mapping[int, int] | None,
        ceilings_msat: Ints | None,
        excluded: Collection[int],
        closed: Collection[int],
    ) -> tuple[Ints, Bools]:
        """The most that each edge carries, and whether it is open at all."""
        graph = self.graph
        most, open_edges = graph.most_msat, graph.is_enabled.copy()
        if ceilings_msat is not None:
            most = np.minimum(most, ceilings_msat)
        if own_msat is not None:
            most = most.copy()
            ours = graph.out_of(self.source)
            most[ours] = [own_msat.get(edge, 0) for edge in ours.tolist()]
            open_edges[ours] = most[ours] > 0
        if excluded:
            open_edges[list(excluded)] = False
        for node in closed:
            if node != self.source:
                open_edges[graph.source == node] = False
        return most, open_edges

    def _extras(self, penalties_msat: Ints | None) -> Ints:
        """What an edge adds to the price beside its proportional fee; the payer's own add nothing."""
        graph = self.graph
        if self.is_amount_price:
            return graph.fee_base_msat
        extra = graph.fee_base_msat.copy()
        if not self._is_cheapest:
            risk = min(self.amount_msat, _MOST_PRICED_MSAT) * RISK_MILLIONTHS // MILLION
            extra += graph.cltv_delta * risk // 1000 + HOP_PRICE_MSAT
        if penalties_msat is not None:
            extra += np.minimum(penalties_msat, _MOST_PENALTY_MSAT)
        return extra

    def _lower_bounds(self) -> Ints:
        """The least that each edge adds to a rank: its price at the search's own amount, and one hop."""
        graph = self.graph
        fees = np.minimum(graph.fee_millionths, _MOST_PRICED_MILLIONTHS)
        fees *= min(self.amount_msat, _MOST_PRICED_MSAT)
        fees //= MILLION
        fees += self._extra
        fees *= _RANKS
        fees += 1
        fees[graph.out_of(self.source)] = 1
        return fees

    def _admit_up_to(self, most_msat: int) -> bool:
        """Admit edges with minimums up to what a way may come to; whether there are any new ones."""
        if most_msat <= self.admitted_msat:
            return False
        least = self.graph.least_msat
        waiting = self._open & (least > self.admitted_msat) & (least <= most_msat)
        if not waiting.any():
            return False
        self._admit(int(least[waiting].max()))
        return True

    def _admit(self, least_msat: int) -> None:
        graph = self.graph
        self.admitted_msat = least_msat
        usable = self._open & (graph.least_msat <= least_msat)
        self.weights = np.where(usable, self._lower, _FAR)
        self.potentials = potentials(graph, self.source, self.weights)
        above = usable & (graph.least_msat > self.amount_msat)
        self.minimums = np.unique(graph.least_msat[above]).tolist()


def exact(
    graph: CompactGraph, edges: Sequence[int], amount_msat: int, limits: Limits = NO_LIMITS
) -> Way | None:
    """The amounts and time locks along a way that is given, or None if it keeps not every limit."""
    amount, blocks = amount_msat, limits.final_cltv_blocks
    amounts, locks = [Msat(amount)], [blocks]
    for edge in reversed(edges[1:]):
        amount += int(graph.fee_base_msat[edge]) + amount * int(graph.fee_millionths[edge]) // MILLION
        blocks += int(graph.cltv_delta[edge])
        amounts.append(Msat(amount))
        locks.append(blocks)
    amounts.reverse()
    locks.reverse()
    most_fee = amount - amount_msat if limits.max_fee_msat is None else limits.max_fee_msat
    is_within = len(edges) <= limits.max_hops and blocks <= limits.max_cltv_blocks
    is_within &= amount - amount_msat <= most_fee
    is_within &= all(
        graph.is_enabled[edge] and graph.least_msat[edge] <= carried <= graph.most_msat[edge]
        for edge, carried in zip(edges, amounts, strict=True)
    )
    return Way(tuple(edges), tuple(amounts), tuple(locks), amount) if is_within else None


def potentials(
    graph: CompactGraph,
    source: int,
    weights: Ints,
    back: tuple[Ints, Ints] | None = None,
) -> Ints:
    """The least sum of weights from the source to every node; an edge of 2^60 or more is no edge.

    `back` names edges that may also be taken against their direction, at weights of their own,
    which may be below zero as long as no circle is.
    """
    edges = np.flatnonzero(weights < _FAR)
    start, end, weight = graph.source[edges], graph.target[edges], weights[edges]
    least = np.full(graph.nodes, _FAR)
    least[source] = 0
    if not len(edges):
        return least
    groups = np.flatnonzero(np.r_[True, end[1:] != end[:-1]])
    heads = end[groups]
    known, ahead = least[heads], np.empty_like(weight)
    while True:
        # every place is in range: clip only spares numpy its check
        np.take(least, start, out=ahead, mode="clip")
        ahead += weight
        offered = np.minimum.reduceat(ahead, groups)
        np.minimum(offered, known, out=offered)
        is_settled = np.array_equal(offered, known)
        least[heads] = offered
        least[source] = 0
        if back is not None and len(back[0]):
            before = least.copy()
            reached = least[graph.target[back[0]]]
            np.minimum.at(least, graph.source[back[0]], np.where(reached < _FAR, reached + back[1], _FAR))
            is_settled &= np.array_equal(before, least)
        if is_settled:
            return least
        known = least[heads]


class _Quest:
    """One search for one payee: what bounds it, and what its limits refused."""

    def __init__(self, search: Search, target: int, amount_msat: int, limits: Limits) -> None:
        self.search, self.graph = search, search.graph
        self.target, self.amount_msat, self.limits = target, amount_msat, limits
        budget = limits.max_fee_msat
        self.most_needed = _FAR if budget is None else amount_msat + budget
        self.refused = _FAR
        self.bound = self.refused
        self.found: _Label | None = None
        self.end: _Label = (
            amount_msat * _RANKS,
            target,
            amount_msat,
            amount_msat,
            limits.final_cltv_blocks,
            0,
            -1,
            None,
        )

    def run(self) -> _Label | None:
        """The best label at the payer, or None."""
        if self.search.potentials[self.target] >= _FAR or self.end[4] > self.limits.max_cltv_blocks:
            return None
        self._try_the_least()
        if self.found is None and not self._may_arrive():
            return None
        self._cheapest()
        if self.refused < self.bound:
            self._patient()
        return self.found

    def _may_arrive(self) -> bool:
        """Whether edges that carry this very amount lead there; the search may be for smaller ones."""
        search = self.search
        if self.amount_msat == search.amount_msat:
            return True
        weights = np.where(search.most_msat >= self.amount_msat, search.weights, _FAR)
        return bool(potentials(self.graph, search.source, weights)[self.target] < _FAR)

    def _try_the_least(self) -> None:
        """Follow the potentials from the payee to the payer: often the best way, always a bound."""
        graph, least, weights = self.graph, self.search.potentials, self.search.weights
        label = self.end
        while label[1] != self.search.source:
            node = label[1]
            into = slice(graph.first[node], graph.first[node + 1])
            at = int(np.argmin(least[graph.source[into]] + weights[into]))
            step = self._step(label, int(graph.first[node]) + at)
            if step is None:
                return
            label = step
        self.found, self.bound = label, label[0]

    def _step(self, label: _Label, edge: int) -> _Label | None:
        """The label before an edge, or None if a limit is in the way; which is noted."""
        _, _, price, amount, cltv, hops, _, _ = label
        graph, search = self.graph, self.search
        before, least = int(graph.source[edge]), int(graph.least_msat[edge])
        most = int(search.most_msat[edge])
        if before == search.source:
            ahead, needed, blocks = price, amount, cltv
        else:
            millionths = int(graph.fee_millionths[edge])
            ahead = price + int(search._extra[edge]) + price * millionths // MILLION
            needed = amount + int(graph.fee_base_msat[edge]) + amount * millionths // MILLION
            blocks = cltv + int(graph.cltv_delta[edge])
        rank = ahead * _RANKS + hops + 1
        is_too_much = amount > most or needed > self.most_needed
        is_for_another = (
            amount < least or blocks > self.limits.max_cltv_blocks or hops >= self.limits.max_hops
        )
        if is_too_much or is_for_another:
            # of two labels the cheaper has the smaller amount, if fees are all that it is about
            if is_for_another or (not search.is_amount_price and most >= self.amount_msat):
                # whatever reaches the edge's minimum is at least as dear as that
                reached = max(rank, least * _RANKS)
                self.refused = min(self.refused, reached + int(search.potentials[before]))
            return None
        return (rank, before, ahead, needed, blocks, hops + 1, edge, label)

    def _steps(self, label: _Label) -> Iterator[tuple[int, _Label]]:
        """What may come before a label and still lead to something better than the best found."""
        graph, search, rank = self.graph, self.search, label[0]
        low, high = int(graph.first[label[1]]), int(graph.first[label[1] + 1])
        ahead = search.weights[low:high] + search.potentials[graph.source[low:high]]
        for at in np.flatnonzero(ahead < self.bound - rank).tolist():
            step = self._step(label, low + at)
            if step is not None:
                hopeful = step[0] + int(search.potentials[step[1]])
                if hopeful < self.bound:
                    yield hopeful, step

    def _cheapest(self) -> None:
        """A* with one label a node: the cheapest."""
        best = {self.target: self.end[0]}
        heap = [(self.end[0] + int(self.search.potentials[self.target]), self.end)]
        while heap:
            hopeful, label = heappop(heap)
            if hopeful >= self.bound:
                return
            if label[0] > best[label[1]]:
                continue
            for ahead, step in self._steps(label):
                if step[0] >= best.get(step[1], _FAR):
                    continue
                best[step[1]] = step[0]
                if step[1] == self.search.source:
                    self.found, self.bound = step, step[0]
                else:
                    heappush(heap, (ahead, step))

    def _patient(self) -> None:
        """The same with every label that is not worse in everything, as far as the limits can be kept."""
        fewest, shortest = self._reach(np.ones(len(self.graph), np.int64)), self._reach(self._deltas())
        settled: dict[int, list[_Label]] = {}
        heap = [(self.end[0] + int(self.search.potentials[self.target]), self.end)]
        for _ in range(_PATIENCE):
            if not heap or heap[0][0] >= self.bound:
                return
            _, label = heappop(heap)
            known = settled.setdefault(label[1], [])
            if any(self._is_no_better(label, other) for other in known):
                continue
            known.append(label)
            for ahead, step in self._steps(label):
                node = step[1]
                if node == self.search.source:
                    self.found, self.bound = step, step[0]
                elif (
                    step[5] + fewest[node] <= self.limits.max_hops
                    and step[4] + shortest[node] <= self.limits.max_cltv_blocks
                    and not _passed(label, node)
                ):
                    heappush(heap, (ahead, step))

    def _reach(self, weights: Ints) -> Ints:
        usable = self.search.weights < _FAR
        return potentials(self.graph, self.search.source, np.where(usable, weights, _FAR))

    def _deltas(self) -> Ints:
        deltas = self.graph.cltv_delta.copy()
        deltas[self.graph.out_of(self.search.source)] = 0
        return deltas

    def _is_no_better(self, label: _Label, other: _Label) -> bool:
        """Whether whatever can be done with a label can be done as well with the other."""
        minimums = self.search.minimums
        return (
            other[2] <= label[2]
            and other[3] <= label[3]
            and other[4] <= label[4]
            and other[5] <= label[5]
            and bisect_right(minimums, other[3]) == bisect_right(minimums, label[3])
        )


def _passed(label: _Label | None, node: int) -> bool:
    while label is not None:
        if label[1] == node:
            return True
        label = label[7]
    return False


def _way(label: _Label) -> Way:
    """The edges from the payer on: each carries what the label behind it needs."""
    edges, amounts, blocks, price = [], [], [], label[2]
    while (after := label[7]) is not None:
        edges.append(label[6])
        amounts.append(Msat(after[3]))
        blocks.append(after[4])
        label = after
    return Way(tuple(edges), tuple(amounts), tuple(blocks), price)
