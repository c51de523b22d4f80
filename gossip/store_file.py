"""A node's gossip as it lies on disk: the `gossip_store` of Core Lightning, which Rill writes, too.

A version octet, then records: flags, length, checksum and time, and a message behind them. Signatures
were checked by the node that wrote it. Checksums are not looked at: at mainnet's size that takes
longer than all the rest, and a damaged message hardly decodes.
"""

import struct
from collections.abc import Iterator

from gossip.compact import CompactGraph, compact
from gossip.graph import Channel, Graph, Node
from gossip.imports import Malformed
from gossip.validation import DIRECTION, policy_of
from wire.codec import DecodeError
from wire.messages.catalogue import decode_as
from wire.messages.gossip import ChannelAnnouncement, ChannelUpdate, NodeAnnouncement
from wire.units import Sat

_DELETED = 0x8000
_AMOUNT, _DELETE_CHANNEL = 4101, 4103
_HEAD = struct.Struct(">HHII")
_NUMBER = struct.Struct(">HQ")


def is_gossip_store(octets: bytes) -> bool:
    """Whether a file begins as one (major version 0): other formats begin with what can be printed."""
    return octets[:1] > b"\0" and octets[0] < ord(" ") and not octets[:1].isspace()


def from_gossip_store(octets: bytes) -> CompactGraph:
    """The network that a node knew when it wrote the file; one that is being written ends where it ends.

    Raises:
        Malformed: it is damaged; says at which octet.
    """
    graph, announced = Graph(), None
    for at, raw in _records(octets):
        try:
            announced = _enter(graph, raw, announced)
        except (DecodeError, struct.error) as wrong:
            raise Malformed(f"octet {at}", str(wrong)) from None
    return compact(graph)


def _records(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Where each record that was not deleted begins, and its message."""
    at = 1
    while at + _HEAD.size <= len(octets):
        flags, length, _, _ = _HEAD.unpack_from(octets, at)
        raw = octets[at + _HEAD.size : at + _HEAD.size + length]
        if len(raw) < length:
            return
        if not flags & _DELETED:
            yield at, raw
        at += _HEAD.size + length


def _enter(graph: Graph, raw: bytes, announced: ChannelAnnouncement | None) -> ChannelAnnouncement | None:
    """Enter one message; an announcement is given back, and waits for the amount that follows it."""
    kind = int.from_bytes(raw[:2], "big")
    if kind == ChannelAnnouncement.TYPE:
        return decode_as(ChannelAnnouncement, raw)
    if kind == _AMOUNT and announced is not None:
        ends = announced.node_id_1, announced.node_id_2
        graph.add_channel(Channel(announced.short_channel_id, *ends, Sat(_NUMBER.unpack(raw)[1])))
    elif kind == ChannelUpdate.TYPE:
        update = decode_as(ChannelUpdate, raw)
        if update.short_channel_id in graph:
            graph.apply_policy(update.short_channel_id, update.channel_flags & DIRECTION, policy_of(update))
    elif kind == NodeAnnouncement.TYPE:
        node = decode_as(NodeAnnouncement, raw)
        if node.node_id in graph.index:
            graph.set_node(node.node_id, Node(node.timestamp, alias=node.alias, rgb_color=node.rgb_color))
    elif kind == _DELETE_CHANNEL:
        graph.remove_channel(_NUMBER.unpack(raw)[1])
    return None
