"""Finding a route: exact amounts and time locks, backwards from the payee (BOLT 7, BOLT 4).

A hop's fee depends on what it forwards, so amounts are only known when one starts at the end.
The search is Dijkstra's, from the target, over the *price* of bringing the payment to a node:
the amount that must arrive there, with risk priced as if it were paid. Each block that an edge
may lock the money, and each hop, adds a little, and the nodes before it take their share of that
too. So one edge maps price to price by a growing function, and the first label that settles a
node is the cheapest one exactly; with fees and risk kept apart neither would be true.

Amount and time lock travel beside the price and are checked against every limit on the way. A
limit (fee budget, time lock, number of hops, what an edge may carry) can refuse a node's cheapest
label where a dearer one would pass. Then, and only then, a second search keeps all labels that
are not worse in everything. It finds a route whenever there is one, unless some
`htlc_minimum_msat` lies above the amount: paying more on purpose to reach a minimum is not tried.

A payer who believes something of channels' balances pays for doubt too: each foreign channel adds
what `gossip.beliefs.Doubts` says. The doubt is that of the payment's own amount, so it is as fixed for
the search as a base fee.
"""

from collections.abc import Collection, Iterator, Mapping
from heapq import heappop, heappush
from itertools import pairwise
from typing import TypeAlias

import msgspec

from gossip.beliefs import Doubts
from gossip.graph import MILLION, Channel, Edge, Graph, Policy, directed, directed_parts
from gossip.no_route import (
    AmountTooLarge,
    CltvTooFar,
    FeeTooHigh,
    GivenUp,
    IncompatibleTarget,
    NoOutgoingCapacity,
    NoRoute,
    TargetIsSource,
    UnknownTarget,
    Unreachable,
)
from wire.crypto.secp256k1 import Point
from wire.units import Msat, msat

MAX_HOPS = 20
MAX_CLTV_BLOCKS = 2016

# one percent a year on what is locked, in billionths of the amount per block
RISK_BILLIONTHS = 190
HOP_PRICE_MSAT = 100

_BILLION = 1_000_000_000
_UNREACHED = 1 << 80
_PATIENCE = 20_000

# most msat, least msat, directed number: one of our own channels
_FirstHop: TypeAlias = tuple[int, int, int]
# node, msat that must arrive, blocks above height, hops behind, directed number taken, label it leads to
_Label: TypeAlias = tuple[int, int, int, int, int, "_Label | None"]


class Hop(msgspec.Struct, frozen=True, gc=False):
    """One HTLC of the route: `node_id` receives it over `short_channel_id`.

    `cltv_blocks` is how far above the payer's height its `cltv_expiry` lies.
    """

    node_id: Point
    short_channel_id: int
    direction: int
    amount_msat: Msat
    cltv_blocks: int


class OnionHop(msgspec.Struct, frozen=True, gc=False):
    """What the onion tells one node: the next HTLC, or the payment itself if it is the last."""

    node_id: Point
    amt_to_forward: Msat
    outgoing_cltv_value: int
    short_channel_id: int | None


class Route(msgspec.Struct, frozen=True, gc=False):
    """HTLCs from the payer's own channel to the payee, in the order they are offered."""

    hops: tuple[Hop, ...]

    @property
    def amount_msat(self) -> Msat:
        """What the payee gets."""
        return self.hops[-1].amount_msat

    @property
    def fee_msat(self) -> Msat:
        """What all forwarding nodes get together."""
        return Msat(self.hops[0].amount_msat - self.hops[-1].amount_msat)

    @property
    def cltv_blocks(self) -> int:
        """How far above the payer's height the first HTLC expires."""
        return self.hops[0].cltv_blocks

    def for_onion(self, height: int) -> tuple[OnionHop, ...]:
        """What each node is told, first to last (BOLT 4): the values of the HTLC after it."""
        hops = self.hops
        told = [
            OnionHop(hop.node_id, after.amount_msat, height + after.cltv_blocks, after.short_channel_id)
            for hop, after in pairwise(hops)
        ]
        last = hops[-1]
        return (*told, OnionHop(last.node_id, last.amount_msat, height + last.cltv_blocks, None))


class _Quest(msgspec.Struct, gc=False):
    """One search: what is asked, in the graph's numbers."""

    incoming: list[dict[int, Edge]]
    target: int
    amount_msat: int
    final_cltv_blocks: int
    most_msat: int
    max_cltv_blocks: int
    excluded: Collection[int]
    closed: frozenset[int]
    first_hops: Mapping[int, list[_FirstHop]]
    doubts: Doubts | None
    patience: int


def find_route(
    graph: Graph,
    source: Point,
    target: Point,
    amount_msat: int,
    final_cltv_delta: int,
    *,
    max_fee_msat: int | None = None,
    max_cltv: int = MAX_CLTV_BLOCKS,
    excluded: Collection[tuple[int, int]] = frozenset(),
    excluded_nodes: Collection[Point] = frozenset(),
    local_limits: Mapping[int, int] | None = None,
    is_invoiced: bool = True,
    doubts: Doubts | None = None,
    patience: int | None = None,
) -> Route:
    """The cheapest route by fee, time lock, length, and doubt if there is any (BOLT 7).

    `excluded` holds (short_channel_id, direction). `local_limits` says what each of the source's
    own channels can send now; channels not named there are not used. Without it their policies
    count. `is_invoiced`: the payee asked for this with an invoice whose features we understand.
    With `patience` the search gives up after so many channels, and does not look for a reason.

    Raises:
        NoRoute: with the wish that stands in the way.
    """
    assert amount_msat > 0, "a route carries something"
    start, end = graph.index.get(source), graph.index.get(target)
    if source == target:
        raise TargetIsSource
    if end is None:
        raise UnknownTarget(target)
    if end in graph.shunned and not is_invoiced:
        raise IncompatibleTarget(target)
    closed = {graph.index[node] for node in excluded_nodes if node in graph.index} | graph.shunned - {end}
    quest = _Quest(
        graph.incoming,
        end,
        amount_msat,
        final_cltv_delta,
        amount_msat + (_UNREACHED if max_fee_msat is None else max_fee_msat),
        max_cltv,
        {directed(*pair) for pair in excluded},
        frozenset(closed if start is None else closed | {start}),
        _first_hops(graph, source, local_limits),
        doubts,
        _UNREACHED if patience is None else patience,
    )
    label = _search(quest)
    if label is None:
        raise _reason(quest, target) if patience is None else GivenUp
    return Route(tuple(_walk(graph, label)))


def _first_hops(graph: Graph, source: Point, limits: Mapping[int, int] | None) -> dict[int, list[_FirstHop]]:
    """Our own channels by the peer's place, the one that can send most first."""
    found: dict[int, list[_FirstHop]] = {}
    for channel in graph.channels_of(source):
        scid = channel.short_channel_id
        number = directed(scid, channel.direction_from(source))
        policy = graph.policies.get(number)
        most_msat = _offered(channel, policy) if limits is None else limits.get(scid, 0)
        if most_msat > 0 and channel.is_understood:
            least_msat = policy.htlc_minimum_msat if policy else 0
            found.setdefault(graph.index[channel.other_end(source)], []).append(
                (most_msat, least_msat, number)
            )
    for hops in found.values():
        hops.sort(reverse=True)
    return found


def _offered(channel: Channel, policy: Policy | None) -> int:
    """The most that our own policy sends through this channel."""
    if policy is None or policy.is_disabled:
        return 0
    return min(policy.htlc_maximum_msat, msat(channel.capacity_sat))


def _search(quest: _Quest) -> _Label | None:
    if quest.final_cltv_blocks > quest.max_cltv_blocks or not quest.first_hops:
        return None
    label, is_limited = _cheapest(quest)
    may_ask_again = label is None and is_limited and quest.patience == _UNREACHED
    return _patient(quest) if may_ask_again else label


def _with_own_hop(quest: _Quest, label: _Label) -> _Label | None:
    node, amount_msat, cltv_blocks, hops, _, _ = label
    for most_msat, least_msat, number in quest.first_hops.get(node, ()):
        if least_msat <= amount_msat <= most_msat and number not in quest.excluded:
            return (-1, amount_msat, cltv_blocks, hops + 1, number, label)
    return None


def _cheapest(quest: _Quest) -> tuple[_Label | None, bool]:
    """Dijkstra from the target by price; and whether some limit refused a label on the way.

    The first label that one of our channels can pay for bounds the rest: a label as dear as the
    cheapest of those is not even put on the heap.
    """
    risk, first_hops, incoming = quest.amount_msat * RISK_BILLIONTHS, quest.first_hops, quest.incoming
    most_needed, max_cltv, excluded = quest.most_msat, quest.max_cltv_blocks, quest.excluded
    doubts, patience = quest.doubts, quest.patience
    best = dict.fromkeys(quest.closed, -1)
    best[quest.target] = quest.amount_msat
    heap: list[tuple[int, _Label]] = [(quest.amount_msat, _end_of(quest))]
    paid = _with_own_hop(quest, _end_of(quest))
    bound, is_limited = quest.amount_msat if paid else _UNREACHED, quest.target in first_hops
    while heap:
        price, label = heappop(heap)
        node, amount, cltv, hops, _, _ = label
        if price >= bound:
            break
        if price > best[node]:
            continue
        patience -= len(incoming[node])
        if patience < 0:
            return None, False
        if hops >= MAX_HOPS - 1:
            is_limited = True
            continue
        for before, base, millionths, delta, least, most, number in incoming[node].values():
            ahead = price + base + price * millionths // MILLION + delta * risk // _BILLION + HOP_PRICE_MSAT
            if ahead >= bound or ahead >= best.get(before, _UNREACHED):
                continue
            needed = amount + base + amount * millionths // MILLION
            if not least <= amount <= most or needed > most_needed or cltv + delta > max_cltv:
                is_limited = True
            elif number not in excluded:
                if doubts is not None:
                    doubt = doubts.price_msat(number, amount)
                    if doubt is None:
                        is_limited = True
                        continue
                    ahead += doubt
                    if ahead >= bound or ahead >= best.get(before, _UNREACHED):
                        continue
                best[before] = ahead
                step = (before, needed, cltv + delta, hops + 1, number, label)
                if before in first_hops:
                    if own := _with_own_hop(quest, step):
                        paid, bound = own, ahead
                        continue
                    is_limited = True
                heappush(heap, (ahead, step))
    return paid, is_limited


def _patient(quest: _Quest) -> _Label | None:
    """The same search keeping every label that is not worse in amount, time lock and length."""
    settled: dict[int, list[_Label]] = {}
    heap: list[tuple[int, _Label]] = [(quest.amount_msat, _end_of(quest))]
    for _ in range(_PATIENCE):
        if not heap:
            return None
        price, label = heappop(heap)
        node, amount, cltv, hops, _, _ = label
        known = settled.setdefault(node, [])
        if any(other[1] <= amount and other[2] <= cltv and other[3] <= hops for other in known):
            continue
        known.append(label)
        if found := _with_own_hop(quest, label):
            return found
        if hops < MAX_HOPS - 1:
            for step in _before(quest, price, label):
                heappush(heap, step)
    return None


def _before(quest: _Quest, price: int, label: _Label) -> Iterator[tuple[int, _Label]]:
    """The labels one hop before this one that break no limit."""
    node, amount, cltv, hops, _, _ = label
    risk = quest.amount_msat * RISK_BILLIONTHS
    for before, base, millionths, delta, least, most, number in quest.incoming[node].values():
        needed, blocks = amount + base + amount * millionths // MILLION, cltv + delta
        if before in quest.closed or number in quest.excluded or not least <= amount <= most:
            continue
        if needed > quest.most_msat or blocks > quest.max_cltv_blocks:
            continue
        doubt = 0 if quest.doubts is None else quest.doubts.price_msat(number, amount)
        if doubt is not None:
            ahead = price + base + price * millionths // MILLION + delta * risk // _BILLION + HOP_PRICE_MSAT
            yield ahead + doubt, (before, needed, blocks, hops + 1, number, label)


def _end_of(quest: _Quest) -> _Label:
    return (quest.target, quest.amount_msat, quest.final_cltv_blocks, 0, -1, None)


def _walk(graph: Graph, label: _Label) -> Iterator[Hop]:
    """The hops from our own channel on: each label's edge carries what the next label needs."""
    step: _Label | None = label
    while step is not None and (after := step[5]) is not None:
        short_channel_id, direction = directed_parts(step[4])
        yield Hop(graph.node_ids[after[0]], short_channel_id, direction, Msat(after[1]), after[2])
        step = after


def _reason(quest: _Quest, target: Point) -> NoRoute:
    """Which wish was in the way: found out by asking again without it."""
    amount_msat = quest.amount_msat
    if quest.final_cltv_blocks > quest.max_cltv_blocks:
        return CltvTooFar(quest.final_cltv_blocks, quest.max_cltv_blocks)
    own_msat = _largest_own(quest)
    if own_msat < amount_msat:
        return NoOutgoingCapacity(amount_msat, own_msat)
    dear = _search(msgspec.structs.replace(quest, most_msat=_UNREACHED, max_cltv_blocks=_UNREACHED))
    if dear is not None and dear[1] > quest.most_msat:
        return FeeTooHigh(dear[1] - amount_msat, quest.most_msat - amount_msat)
    if dear is not None:
        return CltvTooFar(dear[2], quest.max_cltv_blocks)
    widest_msat = _widest(quest)
    return AmountTooLarge(amount_msat, widest_msat) if 0 < widest_msat < amount_msat else Unreachable(target)


def _largest_own(quest: _Quest, place: int | None = None) -> int:
    places = quest.first_hops if place is None else [place]
    hops = (hop for place in places for hop in quest.first_hops.get(place, ()))
    return max((most for most, _, number in hops if number not in quest.excluded), default=0)


def _widest(quest: _Quest) -> int:
    """The most msat that some way to the target carries, whatever it costs: its narrowest edge."""
    widths, heap, found = {quest.target: _UNREACHED}, [(-_UNREACHED, quest.target)], 0
    while heap:
        width, node = heappop(heap)
        if -width <= found:
            break
        found = max(found, min(-width, _largest_own(quest, node)))
        for before, _, _, _, _, most, number in quest.incoming[node].values():
            room = most if quest.doubts is None else quest.doubts.most_msat(number)
            through = min(-width, most, room)
            if before in quest.closed or number in quest.excluded or through <= widths.get(before, 0):
                continue
            widths[before] = through
            heappush(heap, (-through, before))
    return found
