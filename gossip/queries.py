"""Asking for channels and answering who asks (BOLT 7, query messages).

Answers are made from the archive alone. Asking keeps one short state per peer: at most one query
of each kind is under way, and what else is wanted waits its turn, which also keeps a peer from
drowning us in answers.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import msgspec

from gossip.archive import Archive, update_checksum, update_timestamp
from gossip.errors import RaggedArrays, UnaskedReply, UnreadableArray
from gossip.graph import Channel
from wire.codec import DecodeError
from wire.crypto.secp256k1 import Point
from wire.messages.catalogue import encode
from wire.messages.gossip import (
    ChannelUpdateChecksums,
    QueryChannelRange,
    QueryShortChannelIds,
    ReplyChannelRange,
    ReplyShortChannelIdsEnd,
    read_query_flags,
    read_short_ids,
    read_timestamps,
    write_query_flags,
    write_short_ids,
    write_timestamps,
)
from wire.scid import parts, scid

WANTS_ANNOUNCEMENT = 1
WANTS_UPDATE = (2, 4)
WANTS_NODE = (8, 16)
WANTS_ALL = 31
WANTS_TIMESTAMPS = 1
WANTS_CHECKSUMS = 2

ALL_BLOCKS = 0xFFFFFFFF
CHANNELS_PER_QUERY = 2000
MOST_WANTED = 200_000
_REPLY_BYTES = 65_000


def _listed(message: QueryShortChannelIds | ReplyChannelRange) -> tuple[int, ...]:
    """The channels that a query or an answer is about.

    Raises:
        UnreadableArray: warn the peer.
    """
    try:
        return read_short_ids(message.encoded_short_ids)
    except DecodeError as why:
        raise UnreadableArray(type(message).__name__, str(why)) from why


def _wishes(query: QueryShortChannelIds, count: int) -> tuple[int, ...]:
    """What is wanted of each channel asked for; without flags, everything.

    Raises:
        UnreadableArray, RaggedArrays: warn the peer.
    """
    if query.query_flags is None:
        return (WANTS_ALL,) * count
    try:
        flags = read_query_flags(query.query_flags)
    except DecodeError as why:
        raise UnreadableArray("QueryShortChannelIds", str(why)) from why
    if len(flags) != count:
        raise RaggedArrays("QueryShortChannelIds")
    return flags


def _times(reply: ReplyChannelRange, count: int) -> tuple[tuple[int, int], ...]:
    """The timestamps of both updates of each channel listed, zero for unknown.

    Raises:
        UnreadableArray, RaggedArrays: warn the peer.
    """
    if reply.timestamps_tlv is None:
        return ((0, 0),) * count
    try:
        times = read_timestamps(reply.timestamps_tlv)
    except DecodeError as why:
        raise UnreadableArray("ReplyChannelRange", str(why)) from why
    if len(times) != count:
        raise RaggedArrays("ReplyChannelRange")
    return times


def answer_channels(
    query: QueryShortChannelIds, archive: Archive, channels: Mapping[int, Channel], hidden: Collection[int]
) -> Iterator[bytes]:
    """Everything asked for that we have, then the end of the answer (queries.1)."""
    asked = _listed(query)
    flags = _wishes(query, len(asked))
    nodes: dict[Point, None] = {}
    for short_channel_id, flag in zip(asked, flags, strict=True):
        if short_channel_id not in archive.announcements or short_channel_id in hidden:
            continue
        if flag & WANTS_ANNOUNCEMENT:
            yield archive.announcements[short_channel_id]
        for direction in (0, 1):
            update = archive.public_update(short_channel_id, direction)
            if flag & WANTS_UPDATE[direction] and update is not None:
                yield update
            if flag & WANTS_NODE[direction]:
                nodes[channels[short_channel_id].end(direction)] = None
    yield from (archive.nodes[node_id] for node_id in nodes if node_id in archive.nodes)
    yield end_of_channels(query.chain_hash, is_full=True)


def end_of_channels(chain_hash: bytes, *, is_full: bool) -> bytes:
    """The end of an answer, and whether we follow that chain at all."""
    return encode(ReplyShortChannelIdsEnd(chain_hash=chain_hash, full_information=int(is_full)))


def answer_range(query: QueryChannelRange, archive: Archive, hidden: Collection[int]) -> Iterator[bytes]:
    """The channels funded in these blocks, in as many replies as it takes (queries.2)."""
    option = query.query_option or 0
    item_bytes = 8 + 8 * bool(option & WANTS_TIMESTAMPS) + 8 * bool(option & WANTS_CHECKSUMS)
    most = _REPLY_BYTES // item_bytes
    end = min(query.first_blocknum + query.number_of_blocks, ALL_BLOCKS)
    found = _between(archive, query.first_blocknum, end, hidden)
    first = query.first_blocknum
    for at in range(0, max(len(found), 1), most):
        part, is_last = found[at : at + most], at + most >= len(found)
        # a reply ends with the block of its last channel, which the next one may go on with
        upto = end if is_last else parts(part[-1])[0] + 1
        yield encode(_reply(query, archive, first, upto - first, part, is_last))
        first = upto if is_last or parts(found[at + most])[0] >= upto else upto - 1


def empty_range(query: QueryChannelRange) -> bytes:
    """The whole answer about a chain that we do not follow."""
    return encode(
        ReplyChannelRange(
            chain_hash=query.chain_hash,
            first_blocknum=query.first_blocknum,
            number_of_blocks=query.number_of_blocks,
            sync_complete=1,
            encoded_short_ids=write_short_ids(()),
        )
    )


def _between(archive: Archive, first: int, end: int, hidden: Collection[int]) -> list[int]:
    ascending = archive.ascending()
    low, high = (bisect_left(ascending, scid(min(block, 1 << 24), 0, 0)) for block in (first, end))
    return [known for known in ascending[low:high] if known not in hidden and archive.is_shown(known)]


def _reply(
    query: QueryChannelRange, archive: Archive, first: int, count: int, part: list[int], is_last: bool
) -> ReplyChannelRange:
    option = query.query_option or 0
    timestamps = checksums = None
    if option & WANTS_TIMESTAMPS:
        times = [_of_both(archive, known, update_timestamp) for known in part]
        timestamps = write_timestamps(times)
    if option & WANTS_CHECKSUMS:
        sums = [_of_both(archive, known, update_checksum) for known in part]
        checksums = tuple(ChannelUpdateChecksums(*pair) for pair in sums)
    return ReplyChannelRange(
        chain_hash=query.chain_hash,
        first_blocknum=first,
        number_of_blocks=count,
        sync_complete=int(is_last),
        encoded_short_ids=write_short_ids(part),
        timestamps_tlv=timestamps,
        checksums_tlv=checksums,
    )


def _of_both(archive: Archive, short_channel_id: int, figure: Callable[[bytes], int]) -> tuple[int, int]:
    first, second = (archive.public_update(short_channel_id, direction) for direction in (0, 1))
    return figure(first) if first else 0, figure(second) if second else 0


class Asking(msgspec.Struct, gc=False):
    """What we have asked one peer for, and what we will."""

    chain_hash: bytes
    is_extended: bool
    wanted: dict[int, int]
    end_block: int = 0
    has_asked: bool = False
    is_range_open: bool = False
    is_channels_open: bool = False

    def range(self, first_block: int = 0, blocks: int = ALL_BLOCKS) -> list[bytes]:
        """The query for all channels in these blocks, unless one is under way (queries.3)."""
        if self.is_range_open:
            return []
        self.is_range_open, self.has_asked, self.end_block = True, True, first_block + blocks
        query = QueryChannelRange(
            chain_hash=self.chain_hash,
            first_blocknum=first_block,
            number_of_blocks=blocks,
            query_option=WANTS_TIMESTAMPS if self.is_extended else None,
        )
        return [encode(query)]

    def want(self, short_channel_id: int, flag: int) -> None:
        """Ask for this channel some time; what exceeds the list is left to the next range."""
        if len(self.wanted) < MOST_WANTED:
            self.wanted[short_channel_id] = self.wanted.get(short_channel_id, 0) | flag

    def channels(self) -> list[bytes]:
        """The query for what is wanted, as much as one may hold, unless one is under way (queries.3)."""
        if self.is_channels_open or not self.wanted:
            return []
        self.is_channels_open = True
        asked = sorted(self.wanted)[:CHANNELS_PER_QUERY]
        flags = write_query_flags([self.wanted.pop(short_channel_id) for short_channel_id in asked])
        query = QueryShortChannelIds(
            chain_hash=self.chain_hash,
            encoded_short_ids=write_short_ids(asked),
            query_flags=flags if self.is_extended else None,
        )
        return [encode(query)]

    def take_end(self) -> list[bytes]:
        """The answer to our query for channels is complete: the next one, if more is wanted.

        Raises:
            UnaskedReply: there was no such query.
        """
        if not self.is_channels_open:
            raise UnaskedReply("reply_short_channel_ids_end")
        self.is_channels_open = False
        return self.channels()

    def take_range(
        self, reply: ReplyChannelRange, archive: Archive, is_known: Callable[[int], bool]
    ) -> list[bytes]:
        """Ask for what a part of the answer shows and we lack.

        Raises:
            UnaskedReply: there was no such query.
            UnreadableArray, RaggedArrays: it cannot be read.
        """
        if not self.is_range_open:
            raise UnaskedReply("reply_channel_range")
        listed = _listed(reply)
        for short_channel_id, times in zip(listed, _times(reply, len(listed)), strict=True):
            flag = _lacking(short_channel_id, times, archive, is_known)
            if flag:
                self.want(short_channel_id, flag)
        # the number of blocks tells the last reply; older nodes set sync_complete in each
        self.is_range_open = reply.first_blocknum + reply.number_of_blocks < self.end_block
        return self.channels()


def _lacking(
    short_channel_id: int, times: Sequence[int], archive: Archive, is_known: Callable[[int], bool]
) -> int:
    """Which wishes would bring us what is newer there than here."""
    if not is_known(short_channel_id):
        return WANTS_ALL
    flag = 0
    for direction in (0, 1):
        known = archive.public_update(short_channel_id, direction)
        if times[direction] > (update_timestamp(known) if known else 0):
            flag |= WANTS_UPDATE[direction]
    return flag
