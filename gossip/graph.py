"""The graph of channels and what each end asks for forwarding over them (BOLT 7).

It holds what was announced and found good, and our own channels before (or without) their
announcement. Route finding walks it backwards, from the payee, so the one shape that has to be
fast is "all usable edges into this node": a dict per node from the directed channel's number to
a tuple of plain integers. Everything else is kept once, by short_channel_id.

A directed channel is one integer, `short_channel_id << 1 | direction`; a node is its place in a
list. An object per node and per edge was tried first on paper and rejected: at mainnet's size
(17,000 nodes, 102,000 directed edges) it costs three times the memory, and an attribute access
for each field that the search reads.

The class is mutable: one `channel_update` changes one tuple of a hundred thousand. `version`
grows with every change, for those who keep something computed from the graph. Who can bring that up
to date channel by channel puts a set into `changed`, and finds there which have changed.
"""

from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from wire.crypto.secp256k1 import Point
from wire.discount import NO_DISCOUNT, Discount
from wire.units import Msat, Sat, msat

MILLION = 1_000_000

# from node, fee_base_msat, fee_proportional_millionths, cltv_expiry_delta, least msat, most msat, number
Edge: TypeAlias = tuple[int, int, int, int, int, int, int]


class Policy(msgspec.Struct, frozen=True, gc=False):
    """What the owner of one direction of a channel asks for (BOLT 7, channel_update)."""

    timestamp: int
    cltv_expiry_delta: int
    htlc_minimum_msat: Msat
    htlc_maximum_msat: Msat
    fee_base_msat: Msat
    fee_proportional_millionths: int
    is_disabled: bool = False
    inbound: Discount = NO_DISCOUNT  # for what comes in over this channel

    def fee_msat(self, amount_msat: int) -> Msat:
        """The fee for forwarding this amount, rounded down (BOLT 7, HTLC fees)."""
        return Msat(self.fee_base_msat + amount_msat * self.fee_proportional_millionths // MILLION)


class Channel(msgspec.Struct, frozen=True, gc=False):
    """The two ends and the size of a channel; `node_id_1` is the lesser of the two ids."""

    short_channel_id: int
    node_id_1: Point
    node_id_2: Point
    capacity_sat: Sat
    is_announced: bool = True
    is_understood: bool = True

    def direction_from(self, node_id: Point) -> int:
        """The direction bit of what this end sends: 0 for `node_id_1`, 1 for the other."""
        return 0 if node_id == self.node_id_1 else 1

    def end(self, direction: int) -> Point:
        """The node whose updates carry this direction bit."""
        return self.node_id_2 if direction else self.node_id_1

    def other_end(self, node_id: Point) -> Point:
        """The channel's node that is not this one."""
        return self.node_id_2 if node_id == self.node_id_1 else self.node_id_1


class Node(msgspec.Struct, frozen=True, gc=False):
    """What a node says of itself (BOLT 7, node_announcement)."""

    timestamp: int
    features: bytes = b""
    alias: bytes = bytes(32)
    rgb_color: bytes = bytes(3)
    addresses: bytes = b""
    is_understood: bool = True


def directed(short_channel_id: int, direction: int) -> int:
    """The number of one direction of a channel."""
    return short_channel_id << 1 | direction


def directed_parts(number: int) -> tuple[int, int]:
    """(short_channel_id, direction) of a directed channel's number."""
    return number >> 1, number & 1


class Graph:
    """Channels, their directed policies and their nodes, ready to be searched backwards."""

    def __init__(self) -> None:
        self.channels: dict[int, Channel] = {}
        self.policies: dict[int, Policy] = {}
        self.nodes: dict[Point, Node] = {}
        self.index: dict[Point, int] = {}
        self.node_ids: list[Point] = []
        self.incoming: list[dict[int, Edge]] = []
        self.shunned: set[int] = set()
        self.version = 0
        self.changed: set[int] | None = None
        self._at: list[dict[int, None]] = []
        self._vacant: list[int] = []

    def __contains__(self, short_channel_id: int) -> bool:
        return short_channel_id in self.channels

    def __len__(self) -> int:
        return len(self.channels)

    def channels_of(self, node_id: Point) -> Iterator[Channel]:
        """The channels of a node, none if it is unknown."""
        place = self.index.get(node_id)
        return iter(()) if place is None else (self.channels[scid] for scid in self._at[place])

    def policy(self, short_channel_id: int, direction: int) -> Policy | None:
        """The last policy told for this direction."""
        return self.policies.get(directed(short_channel_id, direction))

    def add_channel(self, channel: Channel) -> None:
        """Put a channel in. Put in again (now announced, or spliced), it keeps its policies."""
        scid = channel.short_channel_id
        self.channels[scid] = channel
        for node_id in (channel.node_id_1, channel.node_id_2):
            self._at[self._place(node_id)][scid] = None
        for direction in (0, 1):
            self._lay(channel, direction)

    def apply_policy(self, short_channel_id: int, direction: int, policy: Policy) -> None:
        """Replace one direction's policy; the channel must be known."""
        self.policies[directed(short_channel_id, direction)] = policy
        self._lay(self.channels[short_channel_id], direction)

    def remove_channel(self, short_channel_id: int) -> None:
        """Forget a channel, and those of its nodes that have no other."""
        channel = self.channels.pop(short_channel_id, None)
        if channel is None:
            return
        for direction in (0, 1):
            self.policies.pop(directed(short_channel_id, direction), None)
            self._lay(channel, direction)
        for node_id in (channel.node_id_1, channel.node_id_2):
            place = self.index[node_id]
            del self._at[place][short_channel_id]
            if not self._at[place]:
                self._forget(node_id)

    def set_node(self, node_id: Point, node: Node) -> None:
        """Replace what is known of a node; it must have a channel."""
        place = self.index[node_id]
        self.nodes[node_id] = node
        # validation.2: nothing goes through or to a node with requirements we do not know
        (self.shunned.discard if node.is_understood else self.shunned.add)(place)
        self.version += 1

    def _place(self, node_id: Point) -> int:
        place = self.index.get(node_id)
        if place is None:
            if self._vacant:
                place = self._vacant.pop()
                self.node_ids[place] = node_id
            else:
                place = len(self.node_ids)
                self.node_ids.append(node_id)
                self.incoming.append({})
                self._at.append({})
            self.index[node_id] = place
        return place

    def _forget(self, node_id: Point) -> None:
        place = self.index.pop(node_id)
        self.nodes.pop(node_id, None)
        self.shunned.discard(place)
        self.node_ids[place] = b""
        self._vacant.append(place)

    def _lay(self, channel: Channel, direction: int) -> None:
        """Make the edge of one direction agree with channel and policy."""
        self.version += 1
        if self.changed is not None:
            self.changed.add(channel.short_channel_id)
        number = directed(channel.short_channel_id, direction)
        start, end = channel.end(direction), channel.end(1 - direction)
        edge = self._edge(channel, self.index[start], number)
        if edge is None:
            self.incoming[self.index[end]].pop(number, None)
        else:
            self.incoming[self.index[end]][number] = edge

    def _edge(self, channel: Channel, start: int, number: int) -> Edge | None:
        policy = self.policies.get(number)
        # validation.2: a channel with unknown even features carries nothing of ours
        if policy is None or policy.is_disabled or not channel.is_understood:
            return None
        most_msat = policy.htlc_maximum_msat
        if policy.htlc_minimum_msat > most_msat or most_msat > msat(channel.capacity_sat):
            return None
        return (
            start,
            policy.fee_base_msat,
            policy.fee_proportional_millionths,
            policy.cltv_expiry_delta,
            policy.htlc_minimum_msat,
            most_msat,
            number,
        )
