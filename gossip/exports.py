"""A graph as a table of edges, as `gossip.imports.from_table` reads it."""

from gossip.compact import CompactGraph
from gossip.imports import EDGE_COLUMNS
from wire.scid import text_of


def to_table(graph: CompactGraph) -> bytes:
    """One line per direction of a channel, in the order of channels; nodes by their places."""
    columns = (
        graph.short_channel_id,
        graph.source,
        graph.target,
        graph.capacity_msat // 1000,
        graph.is_enabled.astype(int),
        graph.fee_base_msat,
        graph.fee_millionths,
        graph.cltv_delta,
        graph.least_msat,
        graph.most_msat,
    )
    lines = [",".join(EDGE_COLUMNS)]
    rows = sorted(zip(*(column.tolist() for column in columns), strict=True))
    lines += [",".join([text_of(scid), *map(str, told)]) for scid, *told in rows]
    return ("\n".join(lines) + "\n").encode()
