"""The graph as one payment sees it: with what its invoice hints at and what its failures told.

Neither was announced, so neither may come into the graph that everybody else hears of (BOLT 4,
failures; BOLT 11, route hints). The view shares all that it does not change.
"""

from collections import ChainMap
from collections.abc import Iterable, Mapping

import msgspec

from gossip.graph import Channel, Graph, Policy, directed_parts
from wire.crypto.secp256k1 import Point
from wire.units import MAX_MSAT, Msat, Sat


class Hint(msgspec.Struct, frozen=True, gc=False):
    """One direction of a channel that was not announced (BOLT 11, `r`), or what stands as one."""

    start: Point
    end: Point
    short_channel_id: int
    fee_base_msat: Msat
    fee_proportional_millionths: int
    cltv_expiry_delta: int
    htlc_minimum_msat: Msat = Msat(0)
    htlc_maximum_msat: Msat = Msat(MAX_MSAT)

    @property
    def direction(self) -> int:
        return int(self.start > self.end)


class PrivateView(Graph):
    """A graph beside the graph; whatever it changes it copies first."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.channels = ChainMap({}, graph.channels)  # type: ignore[assignment]
        self.policies = ChainMap({}, graph.policies)  # type: ignore[assignment]
        self.nodes = graph.nodes
        self.index, self.node_ids = dict(graph.index), list(graph.node_ids)
        self.incoming, self._at = list(graph.incoming), list(graph._at)
        self.shunned, self._vacant = set(graph.shunned), list(graph._vacant)
        self.version = graph.version

    def add_hint(self, hint: Hint) -> None:
        """A channel from a hint; what the graph knows better stays as it is."""
        if hint.short_channel_id in self.channels or hint.start == hint.end:
            return
        low, high = sorted((hint.start, hint.end))
        channel = Channel(hint.short_channel_id, low, high, Sat(MAX_MSAT // 1000), is_announced=False)
        for node_id in (low, high):
            self._own(self._place(node_id))
        self.add_channel(channel)
        policy = Policy(
            timestamp=0,
            cltv_expiry_delta=hint.cltv_expiry_delta,
            htlc_minimum_msat=hint.htlc_minimum_msat,
            htlc_maximum_msat=hint.htlc_maximum_msat,
            fee_base_msat=hint.fee_base_msat,
            fee_proportional_millionths=hint.fee_proportional_millionths,
        )
        self.apply_policy(hint.short_channel_id, hint.direction, policy)

    def correct(self, number: int, policy: Policy) -> None:
        """Another policy for a directed channel, if the channel is still there."""
        short_channel_id, direction = directed_parts(number)
        channel = self.channels.get(short_channel_id)
        if channel is not None:
            for node_id in (channel.node_id_1, channel.node_id_2):
                self._own(self.index[node_id])
            self.apply_policy(short_channel_id, direction, policy)

    def _own(self, place: int) -> None:
        self.incoming[place], self._at[place] = dict(self.incoming[place]), dict(self._at[place])


def private_view(graph: Graph, hints: Iterable[Hint], policies: Mapping[int, Policy]) -> Graph:
    """The graph with these hints and corrected policies; itself if there are none.

    Args:
        policies: by the number of the directed channel.
    """
    hints = tuple(hints)
    if not hints and not policies:
        return graph
    view = PrivateView(graph)
    for hint in hints:
        view.add_hint(hint)
    for number, policy in policies.items():
        view.correct(number, policy)
    return view
