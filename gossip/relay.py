"""What goes to which peer, and in which order (BOLT 7, gossip_timestamp_filter, rebroadcasting).

Every peer has a tray of its own. A message is put on the trays of those who want it, where it
replaces an older one about the same thing, and leaves with the next flush. A peer that sends us
a message while it lies on its tray gets it taken off again: nothing goes back to where it came
from. One list for all with a mark per peer was rejected: peers flush at different times, and the
list could never be cut.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from typing import TypeAlias

from gossip.archive import Archive, update_timestamp
from gossip.effects import Send
from gossip.graph import Channel
from gossip.queries import Asking, answer_channels, answer_range, empty_range, end_of_channels
from wire.codec import Message
from wire.crypto.secp256k1 import Point
from wire.messages.base import Unknown
from wire.messages.gossip import (
    GossipTimestampFilter,
    QueryChannelRange,
    QueryShortChannelIds,
    ReplyChannelRange,
    ReplyShortChannelIdsEnd,
)

ANNOUNCEMENT, UPDATE, NODE = range(3)
BACKLOG_PER_FLUSH = 5000

# The kind, then a short_channel_id, the number of a directed channel, or a node's id.
About: TypeAlias = tuple[int, int | Point]


class Peer:
    """One connection: the filter it set, what waits to be sent, what we ask it."""

    def __init__(self, asking: Asking) -> None:
        self.asking = asking
        self.first_timestamp = self.end_timestamp = 0
        self.backlog: Iterator[bytes] | None = None
        self.tray: dict[About, bytes] = {}

    def wants(self, timestamp: int) -> bool:
        """Whether the filter lets this time pass; before there is a filter nothing does."""
        # queries.4: relay nothing before the filter has come
        return self.first_timestamp <= timestamp < self.end_timestamp

    def put(self, about: About, raw: bytes) -> None:
        """Put a message where the next flush finds it."""
        self.tray[about] = raw

    def take_off(self, about: About, raw: bytes | None = None) -> None:
        """The peer need not get this any more: it has it (these bytes), or it has become void."""
        if raw is None or self.tray.get(about) == raw:
            self.tray.pop(about, None)

    def flush(self) -> Iterator[bytes]:
        """What to send now: of the backlog as much as is wise, then what came since."""
        if self.backlog is not None:
            part = list(islice(self.backlog, BACKLOG_PER_FLUSH))
            yield from part
            if len(part) == BACKLOG_PER_FLUSH:
                return
            self.backlog = None
        # queries.4: announcements before updates before nodes
        for about in sorted(self.tray, key=_kind):
            yield self.tray[about]
        self.tray.clear()

    def answer(
        self,
        message: Message | Unknown,
        chain_hash: bytes,
        archive: Archive,
        channels: Mapping[int, Channel],
        hidden: Collection[int],
        is_known: Callable[[int], bool],
    ) -> Iterator[bytes]:
        """What this peer's query, answer or filter makes us send it at once.

        Raises:
            UnreadableArray, RaggedArrays, UnaskedReply: warn the peer.
        """
        match message:
            case QueryShortChannelIds(chain_hash=named) if named != chain_hash:
                yield end_of_channels(named, is_full=False)
            case QueryShortChannelIds():
                yield from answer_channels(message, archive, channels, hidden)
            case QueryChannelRange(chain_hash=named) if named != chain_hash:
                yield empty_range(message)
            case QueryChannelRange():
                yield from answer_range(message, archive, hidden)
            case ReplyShortChannelIdsEnd():
                yield from self.asking.take_end()
            case ReplyChannelRange():
                yield from self.asking.take_range(message, archive, is_known)
            case GossipTimestampFilter(chain_hash=named) if named == chain_hash:
                self.first_timestamp = message.first_timestamp
                self.end_timestamp = message.first_timestamp + message.timestamp_range
                self.backlog = backlog(archive, self, hidden) if message.timestamp_range else None

    @property
    def has_more(self) -> bool:
        """Whether another flush would send something."""
        return self.backlog is not None or bool(self.tray)


def relay(
    peers: Mapping[Point, Peer], about: About, raw: bytes, timestamp: int, origin: Collection[Point]
) -> None:
    """Put a message on the trays of those who asked for such, but not of those it came from."""
    for node_id, peer in peers.items():
        if node_id not in origin and peer.wants(timestamp):
            peer.put(about, raw)


def flush(peers: Mapping[Point, Peer]) -> list[Send]:
    """What is to be sent now, of all peers."""
    return [Send(node_id, raw) for node_id, peer in peers.items() if peer.has_more for raw in peer.flush()]


def _kind(about: About) -> int:
    return about[0]


def backlog(archive: Archive, peer: Peer, hidden: Collection[int]) -> Iterator[bytes]:
    """All we have that passes the peer's filter, each channel's announcement before its updates."""
    for short_channel_id in list(archive.ascending()):
        if short_channel_id not in archive.announcements or short_channel_id in hidden:
            continue
        updates = [
            raw for raw in archive.public_updates(short_channel_id) if peer.wants(update_timestamp(raw))
        ]
        # an announcement has no time of its own: it goes with the first update that goes
        if updates:
            yield archive.announcements[short_channel_id]
            yield from updates
    for node_id in list(archive.nodes):
        raw = archive.nodes.get(node_id)
        if raw is not None and peer.wants(node_timestamp(raw)):
            yield raw


def node_timestamp(announcement: bytes) -> int:
    """When this node_announcement was made: it stands behind the features."""
    at = 68 + int.from_bytes(announcement[66:68], "big")
    return int.from_bytes(announcement[at : at + 4], "big")
