"""Routes in networks of mainnet's size: one tree for each payee, shared by all who pay it.

A tree holds the least that it costs to bring an amount from any node to the payee, for all nodes at
once, found by relaxing whole columns of edges. Most payments follow it as it is. One that must avoid
something searches forward from its payer, and the tree tells the rest of the way exactly, so that it
looks at little more than the nodes that it passes.

Amounts from one power of four to the next share a tree: its fees are those of the amount in their
middle, so of two ways that cost nearly the same the dearer may be taken. What is paid is reckoned
exactly afterwards, by the engine, from the payee back. Prices are `gossip.routes`'s: fees, and a
little for time locks and for length.
"""

from array import array
from collections import OrderedDict
from collections.abc import Collection, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gossip.graph import MILLION
from gossip.routes import HOP_PRICE_MSAT, MAX_HOPS, RISK_BILLIONTHS
from node.lab.flow.network import FlowNetwork

Ints: TypeAlias = NDArray[np.int64]

FAR = 1 << 60
MOST_TREES = 250
PATIENCE = 3000
MOST_TRIES = 8
_BILLION = 1_000_000_000

_Packed: TypeAlias = "array[int]"
# of the edge that led here: the edge, and the link before it
_Link: TypeAlias = "tuple[int, _Link | None] | None"
# what all of a way costs, a number, what it costs so far, a node's edges with the cost ahead, which, the way
_Look: TypeAlias = "tuple[int, int, int, _Packed, _Packed, int, _Link]"


class Tree:
    """The least cost to one payee from everywhere, and every node's next edge on the way."""

    def __init__(
        self, router: "TreeRouter", payee: int, shared: tuple[Ints, list[int]], without: Sequence[int] = ()
    ) -> None:
        # the weights are one column for all trees of an amount: what this one is without is set apart
        self._router, (self._weights, self.weights), self._without = router, shared, without
        weights = self._weights.copy() if without else self._weights
        weights[list(without)] = FAR
        self.costs = _costs_to(router, payee, weights)
        onward = weights + self.costs[router.targets]
        best = np.flatnonzero((onward == self.costs[router.sources]) & (onward < FAR))
        self.following = np.full(len(self.costs), -1, np.int32)
        # written backwards, so that of equals the first remains
        self.following[router.sources[best[::-1]]] = best[::-1]
        self._sorted: dict[tuple[int, bool], tuple[_Packed, _Packed]] = {}

    def onward(self, place: int, *, is_own: bool) -> tuple[_Packed, _Packed]:
        """A node's edges with what the way to the payee costs over each, the cheapest first.

        Nobody pays a fee for what leaves over a channel of one's own.
        """
        key = place, is_own
        if key not in self._sorted:
            low, high = self._router.first[place], self._router.first[place + 1]
            weights = self._weights[low:high].copy()
            weights[[edge - low for edge in self._without if low <= edge < high]] = FAR
            paid = np.where(weights >= FAR, FAR, 0 if is_own else weights)
            ahead = self.costs[self._router.targets[low:high]] + paid
            order = np.argsort(ahead, kind="stable")
            order = order[ahead[order] < FAR]
            # arrays, not lists: a search may look at every node, and an int of its own has 32 octets
            self._sorted[key] = _packed(ahead[order]), _packed(order + low)
        return self._sorted[key]


class TreeRouter:
    """Finds paths in large networks; see the module."""

    def __init__(self, network: FlowNetwork) -> None:
        self._network = network
        source = np.array(network.source, np.int64)
        self._directions = np.argsort(source, kind="stable")
        self._edges = np.argsort(self._directions, kind="stable").tolist()
        self.sources = source[self._directions]
        self.targets = np.array(network.target, np.int64)[self._directions]
        self.first = np.searchsorted(self.sources, np.arange(len(network.names) + 1)).tolist()
        self.groups = np.flatnonzero(np.r_[True, self.sources[1:] != self.sources[:-1]])
        self.heads = self.sources[self.groups]
        size = len(network.source)
        self._base, self._millionths, self._delta = (np.zeros(size, np.int64) for _ in range(3))
        self._least, self._most = np.zeros(size, np.int64), np.zeros(size, np.int64)
        self._target = self.targets.tolist()
        self._limits = [(0, 0)] * size
        self._trees: OrderedDict[tuple[int, int, frozenset[int]], Tree] = OrderedDict()
        self._weights: dict[int, tuple[Ints, list[int]]] = {}
        self._path_of_edges = self._directions.tolist()
        for direction in range(size):
            self._read(direction)

    def refresh(self, direction: int) -> None:
        self._read(direction)
        self._trees.clear()
        self._weights.clear()

    def _read(self, direction: int) -> None:
        network, at = self._network, self._edges[direction]
        toll, capacity_msat = network.tolls[direction], network.capacity_msat[direction >> 1]
        discount = network.inbound.get(direction)
        self._base[at] = toll.fee_base_msat - (discount.base_msat if discount else 0)
        self._millionths[at] = toll.fee_proportional_millionths - (discount.millionths if discount else 0)
        self._delta[at], self._least[at] = toll.cltv_expiry_delta, toll.htlc_minimum_msat
        is_open = network.has_policy[direction] and network.is_usable(direction)
        self._most[at] = min(toll.htlc_maximum_msat or capacity_msat, capacity_msat) if is_open else 0
        self._limits[at] = int(self._least[at]), int(self._most[at])

    def path(self, payer: int, payee: int, amount_msat: int, avoided: Collection[int]) -> list[int] | None:
        # what a tree cannot know is dearest right before the payee: without it, all of the tree would mislead
        last = frozenset(at for at in avoided if self._network.target[at] == payee)
        tree = self._tree(payee, amount_msat, last)
        path = self._along(tree, payer, payee)
        if path is not None and any(at in avoided for at in path):
            path = None
        blocked = set(avoided)
        for _ in range(MOST_TRIES):
            path = path or self._around(tree, payer, payee, amount_msat, blocked)
            stuck = None if path is None else self._stuck(path, amount_msat)
            if stuck is None:
                return path
            blocked.add(stuck)
            path = None
        return None

    def _tree(self, payee: int, amount_msat: int, without: frozenset[int]) -> Tree:
        least_msat = 1 << (amount_msat.bit_length() - 1 & ~1)
        key = payee, least_msat, without
        tree = self._trees.get(key)
        if tree is None:
            if len(self._trees) >= MOST_TREES:
                self._trees.popitem(last=False)
            gone = [self._edges[at] for at in without]
            tree = self._trees[key] = Tree(self, payee, self._weights_at(least_msat), gone)
        else:
            self._trees.move_to_end(key)
        return tree

    def _weights_at(self, amount_msat: int) -> tuple[Ints, list[int]]:
        """What each edge costs for amounts from this one up; FAR where it cannot be had."""
        if amount_msat not in self._weights:
            middle_msat = 2 * amount_msat
            risk = middle_msat * RISK_BILLIONTHS
            fees = np.maximum(0, self._base + self._millionths * middle_msat // MILLION)
            weights = fees + self._delta * risk // _BILLION + HOP_PRICE_MSAT
            weights[(self._most < amount_msat) | (self._least >= 4 * amount_msat)] = FAR
            self._weights[amount_msat] = weights, weights.tolist()
        return self._weights[amount_msat]

    def _along(self, tree: Tree, payer: int, payee: int) -> list[int] | None:
        """The tree's own way."""
        _, own = tree.onward(payer, is_own=True)
        if not own:
            return None
        path, edge = [], own[0]
        while True:
            path.append(self._path_of_edges[edge])
            place = self._target[edge]
            if place == payee:
                return path
            edge = int(tree.following[place])
            if edge < 0 or len(path) >= MAX_HOPS:
                return None

    def _stuck(self, path: list[int], amount_msat: int) -> int | None:
        """The direction on the way whose limits, or the payer's own balance, refuse what it would carry."""
        network = self._network
        for at in range(len(path) - 1, -1, -1):
            least_msat, most_msat = self._limits[self._edges[path[at]]]
            if not least_msat <= amount_msat <= most_msat:
                return path[at]
            if at:
                amount_msat += network.fee_msat(path[at - 1], path[at], amount_msat)
        return None if network.room_msat(path[0]) >= amount_msat else path[0]

    def _around(
        self, tree: Tree, payer: int, payee: int, amount_msat: int, avoided: set[int]
    ) -> list[int] | None:
        """The cheapest way that avoids these: A* from the payer, each node's edges taken one by one."""
        passed, limits = {payer}, self._limits
        targets, directions, room_msat = self._target, self._path_of_edges, self._network.room_msat

        numbers, heap = count(), list[_Look]()

        def look(cost: int, ahead: _Packed, edges: _Packed, at: int, link: _Link) -> None:
            """Put the next open edge of a node on the heap, by what all of the way over it costs."""
            for place in range(at, len(edges)):
                edge = edges[place]
                if targets[edge] in passed or directions[edge] in avoided:
                    continue
                least_msat, most_msat = limits[edge]
                if least_msat <= amount_msat <= most_msat:
                    heappush(heap, (cost + ahead[place], next(numbers), cost, ahead, edges, place, link))
                    return

        look(0, *tree.onward(payer, is_own=True), 0, None)
        for _ in range(PATIENCE):
            if not heap:
                return None
            _, _, cost, ahead, edges, at, link = heappop(heap)
            edge, is_own = edges[at], link is None
            target, direction = targets[edge], directions[edge]
            is_right = target not in passed and (not is_own or room_msat(direction) >= amount_msat)
            if is_right:
                passed.add(target)
            look(cost, ahead, edges, at + 1, link)
            if is_right and target == payee:
                path = _unrolled((direction, link))
                return path if len(path) <= MAX_HOPS else None
            if is_right:
                paid = 0 if is_own else tree.weights[edge]
                look(cost + paid, *tree.onward(target, is_own=False), 0, (direction, link))
        return None


def _costs_to(router: TreeRouter, payee: int, weights: Ints) -> Ints:
    """The least sum of weights from every node to the payee (Bellman and Ford, whole columns at once)."""
    costs = np.full(len(router.first) - 1, FAR, np.int64)
    costs[payee] = 0
    while True:
        onward = np.minimum.reduceat(weights + costs[router.targets], router.groups)
        better = np.minimum(onward, costs[router.heads])
        better[router.heads == payee] = 0
        if np.array_equal(better, costs[router.heads]):
            return costs
        costs[router.heads] = better


def _packed(values: Ints) -> _Packed:
    return array("q", values.astype(np.int64, copy=False).tobytes())


def _unrolled(link: _Link) -> list[int]:
    path = []
    while link is not None:
        path.append(link[0])
        link = link[1]
    return path[::-1]
