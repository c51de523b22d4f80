"""The network that an experiment is made on: one like mainnet, a small town, or that of a file.

The same ground is walked many times: every run begins with the same balances. What an experiment
adds, a router or a shop with channels of its own, comes after all that there is.
"""

from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path

from node.lab.flow.network import FlowChannel, FlowNetwork
from node.lab.flow.runs import chance
from node.lab.flow.towns import channels_of, drawn_channels, open_part
from node.lab.graphs import BadGraphFile
from node.lab.plugins import BadPlugin

MAINNET, TOWN = "mainnet", "town"
FEWEST = 4  # people, for any payments to be made
TOWN_NODES, TOWN_CHANNELS_EACH = 60, 2


class Ground:
    """Names and channels, as they are before anything has happened."""

    def __init__(self, names: Sequence[str], channels: Sequence[FlowChannel]) -> None:
        self.names, self.channels = tuple(names), tuple(channels)
        self.degrees = [0] * len(self.names)
        self.holds_sat = [0] * len(self.names)
        for channel in self.channels:
            for end in channel.ends:
                self.degrees[end] += 1
                self.holds_sat[end] += channel.capacity_sat

    def network(
        self, more: Sequence[str] = (), channels: Sequence[FlowChannel] = (), slots: int = 483
    ) -> FlowNetwork:
        """A fresh network, with these nodes and channels besides."""
        return FlowNetwork((*self.names, *more), (*self.channels, *channels), slots)

    def largest(self, count: int) -> list[int]:
        """The nodes with the most channels, the largest first."""
        return sorted(range(len(self.names)), key=lambda place: -self.degrees[place])[:count]

    def able(self, amount_msat: int, without: Collection[int] = (), most_channels: int = 8) -> list[int]:
        """People and shops: nodes of few channels, over which this amount can be sent and be had.

        Raises:
            TooSmall: there are hardly any.
        """
        network = self.network()

        def carries(direction: int) -> bool:
            return network.has_policy[direction] and network.room_msat(direction) >= amount_msat

        found = [
            place
            for place, out in enumerate(network.out)
            if 1 < len(out) <= most_channels and place not in without
            if any(map(carries, out)) and any(carries(at ^ 1) for at in out)
        ]
        if len(found) < FEWEST:
            raise TooSmall(len(found), most_channels, amount_msat)
        return found


class TooSmall(BadPlugin):
    """The network is none that the experiment can be made on."""

    def __init__(self, few: int, most_channels: int, amount_msat: int) -> None:
        super().__init__(
            f"this network has {few} nodes of 2 to {most_channels} channels over which "
            f"{amount_msat // 1000:,} sat can be sent and be had, which is too few"
        )


@lru_cache(2)
def ground(graph: str, seed: int) -> Ground:
    """The ground that an experiment's option names.

    Of a large network only what is open: nothing passes the rest, and nobody there can be paid.

    Raises:
        BadGraphFile: it is the name of neither a file that can be read, nor mainnet or town.
    """
    random = chance(seed, "town")
    if graph == TOWN:
        names = [f"n{place}" for place in range(TOWN_NODES)]
        return Ground(names, drawn_channels(TOWN_NODES, TOWN_CHANNELS_EACH, random))
    if graph == MAINNET:
        from node.lab.generator import generate

        columns = generate(seed)
    else:
        from node.lab.graphs import read_graph

        if not Path(graph).exists():
            why = f"graph is {MAINNET}, {TOWN}, or a file, and there is no such file"
            raise BadGraphFile(Path(graph), why)
        columns = read_graph([Path(graph)])
    part = open_part(columns)
    return Ground(part.names, channels_of(part, random))
