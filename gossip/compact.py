"""The graph as columns: one array per field, for networks of mainnet's size.

`gossip.graph.Graph` changes with every message and is read edge by edge; this one is made once,
does not change, and is read a hundred thousand edges at a time. The route search over large
graphs, the split of a payment into parts and the flow simulator all stand on it.

An edge is one direction of a channel that has a policy; a node is its place in `names`. Edges lie
in order of their target, so that the edges into node v are `first[v] .. first[v + 1]`: the search
goes backwards from the payee. A direction without a policy is not an edge, and carries nothing.
`twin` leads from an edge to the other direction of its channel, or is -1.

A channel that was not announced may be called by an alias of any 64 bits. Those of 2^63 and more
stand in the column as negative numbers, as two's complement has it; `channel_of` says which it is.

This is the only place that says which columns there are. It needs numpy, and nothing that a small
network uses imports it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from gossip.graph import Channel, Graph, Policy, directed
from wire.crypto.secp256k1 import Point
from wire.scid import text_of
from wire.units import msat

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


_64_BITS = (1 << 64) - 1

Row: TypeAlias = tuple[int, int, int, int, int, int, int, int, int, int, bool]
"""The fields of `Columns` for one edge."""


class BadGraph(Exception):
    """What was given is no graph; `str()` says why, and where."""


class SameDirectionTwice(BadGraph):
    """Two policies for one direction of one channel."""

    def __init__(self, short_channel_id: int, source: str) -> None:
        super().__init__(short_channel_id, source)
        self.short_channel_id, self.source = short_channel_id, source

    def __str__(self) -> str:
        return f"channel {text_of(self.short_channel_id)} from node {self.source} is told twice"


class UnknownNode(BadGraph):
    """No node of the graph has this id, index or alias, or several have the alias."""

    def __init__(self, name: str, namesakes: int = 0) -> None:
        super().__init__(name, namesakes)
        self.name, self.namesakes = name, namesakes

    def __str__(self) -> str:
        if self.namesakes:
            return f"{self.namesakes} nodes call themselves {self.name!r}: name one by its id"
        return f"no node of this graph is {self.name!r}"


class Columns(msgspec.Struct, gc=False, kw_only=True):
    """Edges in any order, as an importer reads them; one element per direction with a policy."""

    short_channel_id: Ints
    direction: Ints
    source: Ints
    target: Ints
    capacity_sat: Ints
    fee_base_msat: Ints
    fee_millionths: Ints
    cltv_delta: Ints
    least_msat: Ints
    most_msat: Ints
    is_enabled: Bools


class CompactGraph:
    """Nodes and directed edges in columns; see the module for their order.

    `most_msat` is what one HTLC may carry: the policy's maximum, never more than the capacity.
    `one_sided` counts the channels of which only one direction has a policy.
    """

    def __init__(
        self,
        names: Sequence[str],
        columns: Columns,
        aliases: Mapping[int, str] | None = None,
        shunned: Collection[int] = (),
    ) -> None:
        order = np.lexsort((columns.source, columns.target))
        self.names = names
        self.aliases = dict(aliases or {})
        self.shunned = frozenset(shunned)
        self.short_channel_id = columns.short_channel_id[order]
        self.direction = columns.direction[order].astype(np.int8)
        self.source = columns.source[order]
        self.target = columns.target[order]
        self.capacity_msat = columns.capacity_sat[order] * msat(1)
        self.fee_base_msat = columns.fee_base_msat[order]
        self.fee_millionths = columns.fee_millionths[order]
        self.cltv_delta = columns.cltv_delta[order]
        self.least_msat = columns.least_msat[order]
        self.most_msat = np.minimum(columns.most_msat[order], self.capacity_msat)
        self.is_enabled = columns.is_enabled[order]
        self.first = np.searchsorted(self.target, np.arange(len(names) + 1))
        self._by_channel = np.lexsort((self.direction, self.short_channel_id))
        self._channels = self.short_channel_id[self._by_channel]
        self._directions = self.direction[self._by_channel]
        self.twin = self._twins()
        self._places: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self.source)

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return len(self.names)

    @property
    def one_sided(self) -> int:
        """How many channels have a policy for one direction only."""
        return int(np.count_nonzero(self.twin < 0))

    @property
    def channels(self) -> int:
        """How many channels there are."""
        return (len(self) + self.one_sided) // 2

    def amended(self, names: Sequence[str], channels: Collection[int], rows: Sequence[Row]) -> "CompactGraph":
        """The graph with other edges for these channels, which are those in `rows`.

        Nodes keep their places. It takes a tenth of what `compact` does, mostly for putting in order.
        """
        stays = ~np.isin(self.short_channel_id, np.array([_signed(scid) for scid in channels], np.int64))
        kept, new = self._columns(), columns_of(table_of(rows))
        columns = {
            name: np.concatenate((getattr(kept, name)[stays], getattr(new, name)))
            for name in Columns.__struct_fields__
        }
        return CompactGraph(names, Columns(**columns), self.aliases, self.shunned)

    def _columns(self) -> Columns:
        told = {name: getattr(self, name) for name in Columns.__struct_fields__ if name != "capacity_sat"}
        return Columns(**told, capacity_sat=self.capacity_msat // msat(1))

    def shunning(self, places: Collection[int]) -> "CompactGraph":
        """The same graph, in which these nodes forward nothing."""
        other = copy(self)
        other.shunned = frozenset(places)
        return other

    def direction_name(self, edge: int) -> str:
        """An edge for people: its channel's id and direction, as Core Lightning writes them."""
        return f"{text_of(self.channel_of(edge))}/{int(self.direction[edge])}"

    def out_of(self, place: int) -> Ints:
        """The edges that a node sends over."""
        return np.flatnonzero(self.source == place)

    def edges(self, numbers: Sequence[int]) -> list[int]:
        """The edges with these directed numbers (`gossip.graph.directed`); -1 where there is no policy."""
        if not len(self):
            return [-1] * len(numbers)
        last, wanted = len(self) - 1, np.array([_signed(number >> 1) for number in numbers], np.int64)
        direction = np.array([number & 1 for number in numbers], np.int8)
        at = np.minimum(np.searchsorted(self._channels, wanted), last)
        # the other direction of the same channel comes next
        at = np.minimum(at + (self._directions[at] < direction), last)
        is_it = (self._channels[at] == wanted) & (self._directions[at] == direction)
        found: list[int] = np.where(is_it, self._by_channel[at], -1).tolist()
        return found

    def channel_of(self, edge: int) -> int:
        """The short_channel_id of an edge."""
        return int(self.short_channel_id[edge]) & _64_BITS

    def number(self, edge: int) -> int:
        """The directed number of an edge."""
        return directed(self.channel_of(edge), int(self.direction[edge]))

    def place(self, name: str) -> int:
        """The node with this id (or index, if that is what the graph was made with) or alias.

        Raises:
            UnknownNode: none, or several by that alias.
        """
        if self._places is None:
            self._places = {known: place for place, known in enumerate(self.names)}
        found = self._places.get(name, self._places.get(name.lower()))
        if found is not None:
            return found
        namesakes = [place for place, alias in self.aliases.items() if alias == name]
        if len(namesakes) != 1:
            raise UnknownNode(name, len(namesakes))
        return namesakes[0]

    def called(self, place: int) -> str:
        """A node for people: its alias, else the beginning of its id, or its index."""
        return self.aliases.get(place) or self.names[place][:16]

    def _twins(self) -> Ints:
        order, is_same = self._by_channel, self._channels[1:] == self._channels[:-1]
        again = np.flatnonzero(is_same & (self._directions[1:] == self._directions[:-1]))
        if len(again):
            edge = int(order[again[0]])
            raise SameDirectionTwice(self.channel_of(edge), self.names[self.source[edge]])
        twin = np.full(len(order), -1, np.int64)
        lower = np.flatnonzero(is_same)
        twin[order[lower]], twin[order[lower + 1]] = order[lower + 1], order[lower]
        return twin


def compact(graph: Graph, payer: Point | None = None, closed: Collection[int] = ()) -> CompactGraph:
    """The same network in columns; nodes keep their places.

    `payer` may send over his own channels whatever their policies say, or if they have none yet.
    Nothing is forwarded by nodes whose places are `closed`, as by those that the graph shuns.
    """
    rows = [row for channel in graph.channels.values() for row in rows_of(graph, channel, payer)]
    names = [node_id.hex() for node_id in graph.node_ids]
    return CompactGraph(names, columns_of(table_of(rows)), _aliases(graph), {*graph.shunned, *closed})


def rows_of(graph: Graph, channel: Channel, payer: Point | None = None) -> Iterator[Row]:
    """The edges of a channel; `payer` as in `compact`."""
    for direction in (0, 1):
        policy = graph.policies.get(directed(channel.short_channel_id, direction))
        told = _own_terms(channel, policy) if channel.end(direction) == payer else _terms(channel, policy)
        if told is not None:
            start, end = graph.index[channel.end(direction)], graph.index[channel.end(1 - direction)]
            yield (_signed(channel.short_channel_id), direction, start, end, channel.capacity_sat, *told)


def table_of(rows: Sequence[Row]) -> Ints:
    """Edges as a table for `columns_of`."""
    return np.array(rows, np.int64).reshape(-1, len(Columns.__struct_fields__))


def _signed(short_channel_id: int) -> int:
    return short_channel_id - (1 << 64) if short_channel_id >> 63 else short_channel_id


# fee_base_msat, fee_millionths, cltv_delta, least_msat, most_msat, is_enabled
_Terms: TypeAlias = tuple[int, int, int, int, int, bool]


def _terms(channel: Channel, policy: Policy | None) -> _Terms | None:
    if policy is None:
        return None
    capacity_msat = msat(channel.capacity_sat)
    # as in Graph: a maximum above the capacity discredits the direction
    is_usable = not policy.is_disabled and channel.is_understood and policy.htlc_maximum_msat <= capacity_msat
    fees = (policy.fee_base_msat, policy.fee_proportional_millionths, policy.cltv_expiry_delta)
    least, most = (
        min(told, capacity_msat + 1) for told in (policy.htlc_minimum_msat, policy.htlc_maximum_msat)
    )
    return (*fees, least, most, is_usable)


def _own_terms(channel: Channel, policy: Policy | None) -> _Terms:
    capacity_msat = msat(channel.capacity_sat)
    least = min(policy.htlc_minimum_msat, capacity_msat + 1) if policy else 0
    return (0, 0, 0, least, capacity_msat, channel.is_understood)


def columns_of(table: Ints) -> Columns:
    """Rows of integers, a field of `Columns` in each place, as columns."""
    *numbers, is_enabled = table.T
    fields = Columns.__struct_fields__
    return Columns(**dict(zip(fields, numbers, strict=False)), is_enabled=is_enabled.astype(np.bool_))


def _aliases(graph: Graph) -> dict[int, str]:
    named = {graph.index[node_id]: node.alias for node_id, node in graph.nodes.items()}
    return {place: readable(alias) for place, alias in named.items() if alias.strip(b"\0")}


def readable(alias: bytes) -> str:
    """An alias as text; what is not UTF-8, or not printable, is shown as such (BOLT 7)."""
    text = alias.rstrip(b"\0").decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
