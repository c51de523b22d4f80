"""A large graph in columns that follows the graph: what payments are planned on (BOLT 7).

Putting mainnet's graph in columns takes a quarter of a second, and on a live node some channel changes
every second. So the columns are made once, channel by channel, with pauses for whoever else wants
to go on; and before each plan the channels that have changed since get their edges anew. Columns
are never written to: a search in another thread goes on with those that it began with.
"""

from collections.abc import Iterator

import msgspec

from gossip.asked import Asked
from gossip.compact import CompactGraph, Row, columns_of, rows_of, table_of
from gossip.graph import Graph, directed_parts
from gossip.parts import Ground
from wire.crypto.secp256k1 import Point

_CHANNELS_AT_ONCE = 400


class Chart:
    """The columns of one node's graph; over its own channels it may send whatever their policies say."""

    def __init__(self, graph: Graph, payer: Point) -> None:
        self._graph, self._payer = graph, payer
        self._columns = CompactGraph((), columns_of(table_of(())))
        self._read: dict[int, list[Row]] = {}
        graph.changed = set(graph.channels)

    def read(self) -> Iterator[None]:
        """Read what has changed, with a pause after every few milliseconds; none after the last.

        So the end of it is a moment at which nothing is unread. Whatever was read stays, if
        nobody goes on after some pause.
        """
        changed, read = self._graph.changed, 0
        assert changed is not None, "the chart follows its graph"
        while changed:
            scid = changed.pop()
            channel = self._graph.channels.get(scid)
            self._read[scid] = [] if channel is None else list(rows_of(self._graph, channel, self._payer))
            read += 1
            if read % _CHANNELS_AT_ONCE == 0:
                yield

    def plot(self, view: Graph, asked: Asked) -> "Plot":
        """All that a plan needs, as of now; `view` is the graph with what its payment knows beside."""
        read, self._read = self._read, {}
        beside = {hint.short_channel_id for hint in asked.hints}
        beside |= {directed_parts(number)[0] for number in asked.policies}
        channels = [view.channels[scid] for scid in beside if scid in view.channels]
        closed = {view.index[node] for node in asked.excluded_nodes if node in view.index}
        return Plot(
            self,
            list(view.node_ids),
            read,
            {channel.short_channel_id: list(rows_of(view, channel, self._payer)) for channel in channels},
            frozenset(view.shunned | closed),
            (view.index[asked.source], view.index[asked.target]),
        )

    def redraw(self, names: list[str], read: dict[int, list[Row]]) -> CompactGraph:
        """The columns with what was read."""
        if read:
            self._columns = _amended(self._columns, names, read)
        return self._columns


class Plot(msgspec.Struct, frozen=True, gc=False):
    """What one plan takes from a chart; the rest may be done in another thread."""

    chart: Chart
    node_ids: list[Point]
    read: dict[int, list[Row]]
    beside: dict[int, list[Row]]
    closed: frozenset[int]
    ends: tuple[int, int]

    def ground(self) -> Ground:
        """Where the plan is made. The next plot must wait for it."""
        names = [node_id.hex() for node_id in self.node_ids]
        columns = self.chart.redraw(names, self.read)
        if self.beside:
            columns = _amended(columns, names, self.beside)
        return Ground(columns.shunning(self.closed), *self.ends)


def _amended(columns: CompactGraph, names: list[str], read: dict[int, list[Row]]) -> CompactGraph:
    return columns.amended(names, read, [row for rows in read.values() for row in rows])
