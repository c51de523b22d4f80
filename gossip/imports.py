"""Graphs that others wrote down: a table of edges, Core Lightning's and LND's JSON.

Each reader takes the octets of a file and gives the graph in columns. Nothing is guessed: what is
malformed is named with its place, and the caller sees by `one_sided` how many channels came with
one policy only. Numbers beyond what the protocol allows are refused, so that no sum overflows.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from itertools import chain
from typing import TypeVar

import msgspec
import numpy as np

from gossip.compact import BadGraph, Columns, CompactGraph, Ints, columns_of
from wire.scid import NotAShortChannelId, parse, text_of
from wire.units import MAX_MSAT, MAX_SAT

# The columns of a table of edges, in the order of `Columns` after the short channel id.
EDGE_COLUMNS = (
    "scid",
    "src",
    "dst",
    "capacity_sat",
    "enabled",
    "base_fee_msat",
    "fee_ppm",
    "cltv_delta",
    "htlc_min_msat",
    "htlc_max_msat",
)
# BOLT 7 writes fees in 32 bits and time locks in 16
_MOST = {
    "src": (1 << 31) - 1,
    "dst": (1 << 31) - 1,
    "capacity_sat": MAX_SAT,
    "enabled": 1,
    "base_fee_msat": (1 << 32) - 1,
    "fee_ppm": (1 << 32) - 1,
    "cltv_delta": (1 << 16) - 1,
    "htlc_min_msat": MAX_MSAT,
    "htlc_max_msat": (1 << 63) - 1,
}
_NO_MAXIMUM = int(MAX_MSAT)
# the same for a row of `Columns`, from its capacity on
_LIMITS = [
    (name, _MOST[name])
    for name in ("capacity_sat", "base_fee_msat", "fee_ppm", "cltv_delta", "htlc_min_msat", "htlc_max_msat")
]


class Malformed(BadGraph):
    """Something in the file is not as its format has it."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(where, why)
        self.where, self.why = where, why

    def __str__(self) -> str:
        return f"{self.where}: {self.why}" if self.where else self.why


def from_table(octets: bytes) -> CompactGraph:
    """A table of edges: comma-separated, the first line names the columns of `EDGE_COLUMNS`.

    One line per direction of a channel; nodes are whole numbers, a channel is BLOCKxTXxOUTPUT.

    Raises:
        Malformed: with the line.
        SameDirectionTwice: a direction has two lines.
    """
    head, _, body = octets.partition(b"\n")
    heading = [name.strip() for name in head.decode("utf-8", "replace").lstrip("\ufeff").split(",")]
    missing = [name for name in EDGE_COLUMNS if name not in heading]
    if missing:
        raise Malformed("line 1", f"no column {', '.join(missing)}")
    cells = _cells(heading, body)
    low, high = np.minimum(cells["src"], cells["dst"]), np.maximum(cells["src"], cells["dst"])
    indexes = np.unique(np.concatenate([low, high]))
    columns = Columns(
        short_channel_id=cells["scid"],
        direction=(cells["src"] > cells["dst"]).astype(np.int64),
        source=np.searchsorted(indexes, cells["src"]),
        target=np.searchsorted(indexes, cells["dst"]),
        capacity_sat=cells["capacity_sat"],
        fee_base_msat=cells["base_fee_msat"],
        fee_millionths=cells["fee_ppm"],
        cltv_delta=cells["cltv_delta"],
        least_msat=cells["htlc_min_msat"],
        most_msat=cells["htlc_max_msat"],
        is_enabled=cells["enabled"].astype(np.bool_),
    )
    return CompactGraph([str(index) for index in indexes.tolist()], columns)


def _cells(heading: Sequence[str], body: bytes) -> dict[str, Ints]:
    """Every column as integers; read at once, and line by line only to say what is wrong."""
    at = heading.index("scid")
    split = [*heading[:at], "block", "transaction", "output", *heading[at + 1 :]]
    wanted = ["block", "transaction", "output", *EDGE_COLUMNS[1:]]
    if not body.strip():
        raise Malformed("line 2", "no edges")
    try:
        # a scid is the only cell with an x in it: as commas, all the cells are plain numbers
        read = np.loadtxt(
            BytesIO(body.replace(b"x", b",")),
            np.int64,
            comments=None,
            delimiter=",",
            usecols=[split.index(name) for name in wanted],
            ndmin=2,
        )
    except (ValueError, OverflowError):
        raise _first_fault(heading, body) from None
    cells = dict(zip(wanted, np.ascontiguousarray(read.T), strict=True))
    block, transaction, output = (cells.pop(name) for name in wanted[:3])
    most = [block >> 24, transaction >> 24, output >> 16]
    most += [cells[name] > limit for name, limit in _MOST.items()]
    least = [block, transaction, output, *cells.values()]
    is_amiss = any(np.any(column) for column in most) or any(np.any(column < 0) for column in least)
    if is_amiss or np.any(cells["src"] == cells["dst"]):
        raise _first_fault(heading, body)
    cells["scid"] = block << 40 | transaction << 16 | output
    return cells


def _first_fault(heading: Sequence[str], body: bytes) -> Malformed:
    """The first line that is no edge, and why."""
    for number, line in enumerate(body.decode("utf-8", "replace").splitlines(), start=2):
        cells = [cell.strip() for cell in line.split(",")]
        if line.strip() and (why := _fault(dict(zip(heading, cells, strict=False)))):
            return Malformed(f"line {number}", why)
    return Malformed("", "this is no table of edges")


def _fault(cells: Mapping[str, str]) -> str | None:
    for name in EDGE_COLUMNS:
        if name not in cells:
            return f"it ends before {name}"
    try:
        parse(cells["scid"])
    except NotAShortChannelId as wrong:
        return str(wrong)
    for name, most in _MOST.items():
        text = cells[name]
        if not (text.isascii() and text.isdigit() and int(text) <= most):
            return f"{name} is {text!r}, not a whole number from 0 to {most}"
    return "the channel leads from a node to itself" if int(cells["src"]) == int(cells["dst"]) else None


class _ClnChannel(msgspec.Struct, gc=False):
    source: str
    destination: str
    short_channel_id: str
    direction: int
    amount_msat: int | str
    base_fee_millisatoshi: int
    fee_per_millionth: int
    delay: int
    htlc_minimum_msat: int | str = 0
    htlc_maximum_msat: int | str | None = None
    active: bool = True


class _ClnNode(msgspec.Struct, gc=False):
    nodeid: str
    alias: str = ""


class _Cln(msgspec.Struct, gc=False):
    channels: list[_ClnChannel]
    nodes: list[_ClnNode] = []


class _ClnNodes(msgspec.Struct, gc=False):
    nodes: list[_ClnNode]


def from_core_lightning(listchannels: bytes, listnodes: bytes | None = None) -> CompactGraph:
    """What Core Lightning's `listchannels` printed, and its `listnodes` for the aliases.

    The nodes may also stand beside the channels in one object.

    Raises:
        Malformed: with the line, or the path in the object.
        SameDirectionTwice: a direction comes twice.
    """
    read = _decoded(listchannels, _Cln)
    nodes = read.nodes if listnodes is None else _decoded(listnodes, _ClnNodes).nodes
    ends = (end for channel in read.channels for end in (channel.source, channel.destination))
    places = _named(ends, (node.nodeid for node in nodes))
    rows = []
    for at, channel in enumerate(read.channels):
        where = f"channels[{at}]"
        rows.append(
            _row(
                where,
                channel.short_channel_id,
                channel.direction,
                places[channel.source],
                places[channel.destination],
                _msat(where, channel.amount_msat) // 1000,
                channel.base_fee_millisatoshi,
                channel.fee_per_millionth,
                channel.delay,
                _msat(where, channel.htlc_minimum_msat),
                _msat(where, channel.htlc_maximum_msat),
                channel.active,
            )
        )
    return _graph(list(places), rows, {node.nodeid: node.alias for node in nodes})


class _LndPolicy(msgspec.Struct, gc=False):
    time_lock_delta: int = 0
    min_htlc: int = 0
    fee_base_msat: int = 0
    fee_rate_milli_msat: int = 0
    disabled: bool = False
    max_htlc_msat: int = 0


class _LndEdge(msgspec.Struct, gc=False):
    channel_id: int
    node1_pub: str
    node2_pub: str
    capacity: int
    node1_policy: _LndPolicy | None = None
    node2_policy: _LndPolicy | None = None


class _LndNode(msgspec.Struct, gc=False):
    pub_key: str
    alias: str = ""


class _Lnd(msgspec.Struct, gc=False):
    edges: list[_LndEdge]
    nodes: list[_LndNode] = []


def from_lnd(describegraph: bytes) -> CompactGraph:
    """What LND's `describegraph` printed; a policy that is null makes no edge.

    Raises:
        Malformed: with the line, or the path in the object.
        SameDirectionTwice: a channel comes twice.
    """
    read = _decoded(describegraph, _Lnd)
    ends = (end for edge in read.edges for end in (edge.node1_pub, edge.node2_pub))
    places = _named(ends, (node.pub_key for node in read.nodes))
    rows = []
    for at, edge in enumerate(read.edges):
        ways = (edge.node1_pub, edge.node2_pub), (edge.node2_pub, edge.node1_pub)
        for direction, policy in enumerate((edge.node1_policy, edge.node2_policy)):
            if policy is None:
                continue
            source, target = ways[direction]
            rows.append(
                _row(
                    f"edges[{at}]",
                    text_of(edge.channel_id),
                    direction,
                    places[source],
                    places[target],
                    edge.capacity,
                    policy.fee_base_msat,
                    policy.fee_rate_milli_msat,
                    policy.time_lock_delta,
                    policy.min_htlc,
                    policy.max_htlc_msat or _NO_MAXIMUM,
                    not policy.disabled,
                )
            )
    return _graph(list(places), rows, {node.pub_key: node.alias for node in read.nodes})


_Decoded = TypeVar("_Decoded")


def _decoded(octets: bytes, kind: type[_Decoded]) -> _Decoded:
    try:
        # LND writes its 64-bit numbers as strings
        return msgspec.json.decode(octets, type=kind, strict=False)
    except msgspec.ValidationError as wrong:
        why, _, path = str(wrong).partition(" - at ")
        raise Malformed(path.strip("`").removeprefix("$."), why) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        byte = re.search(r"byte (\d+)", str(wrong))
        line = octets[: int(byte[1]) if byte else len(octets)].count(b"\n") + 1
        raise Malformed(f"line {line}", str(wrong)) from None


def _msat(where: str, told: int | str | None) -> int:
    """An amount as Core Lightning tells it: an integer, or in older versions a text with its unit."""
    if told is None:
        return _NO_MAXIMUM
    text = str(told).removesuffix("msat")
    if not (text.isascii() and text.isdigit()):
        raise Malformed(where, f"{told!r} is not an amount in msat")
    return int(text)


def _row(where: str, scid: str, direction: int, source: int, target: int, *told: int) -> tuple[int, ...]:
    """A row of `Columns`, every number within what the protocol has for it."""
    try:
        short_channel_id = parse(scid)
    except NotAShortChannelId as wrong:
        raise Malformed(where, str(wrong)) from None
    if source == target or direction not in (0, 1):
        raise Malformed(where, f"channel {scid} does not lead from one node to another")
    for (name, most), number in zip(_LIMITS, told, strict=False):
        if not 0 <= number <= most:
            raise Malformed(where, f"{name} of channel {scid} is {number}, not from 0 to {most}")
    return (short_channel_id, direction, source, target, *told)


def _graph(names: list[str], rows: list[tuple[int, ...]], aliases: Mapping[str, str]) -> CompactGraph:
    if not rows:
        raise Malformed("", "there is no channel with a policy in it")
    table = np.array(rows, np.int64)
    named = {place: aliases[name] for place, name in enumerate(names) if aliases.get(name)}
    return CompactGraph(names, columns_of(table), named)


def _named(ends: Iterable[str], others: Iterable[str]) -> dict[str, int]:
    """The place of each node: those with channels, and those without."""
    return {name: place for place, name in enumerate(dict.fromkeys(chain(ends, others)))}
