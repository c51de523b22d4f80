"""The messages about the network (BOLT 7): announcements, updates and the queries for them.

Announcements and updates are signed, and must be relayed as they came: what follows the fields
we know stays in `extension`, unread (framing-tlv.4 allows that), so encoding gives back the
very bytes that were signed.
"""

import struct
from collections.abc import Sequence
from typing import Annotated

import msgspec

from wire.codec import (
    U8,
    U16,
    U32,
    BigSize,
    ChainHash,
    ChannelId,
    CountedBytes,
    DecodeError,
    Extension,
    Fixed,
    Group,
    Message,
    MsatLimit,
    Record,
    Rest,
    ShortChannelId,
    Signature,
    SignedPoint,
    Truncated,
    WrongLength,
)
from wire.crypto.hashes import sha256d
from wire.tlv import read_bigsize, write_bigsize

Extra = Annotated[bytes, Extension()]


class ChannelAnnouncement(Message, frozen=True):
    """`channel_announcement`: two nodes share an output; all four keys signed it."""

    TYPE = 256
    node_signature_1: Signature
    node_signature_2: Signature
    bitcoin_signature_1: Signature
    bitcoin_signature_2: Signature
    features: CountedBytes
    chain_hash: ChainHash
    short_channel_id: ShortChannelId
    node_id_1: SignedPoint
    node_id_2: SignedPoint
    bitcoin_key_1: SignedPoint
    bitcoin_key_2: SignedPoint
    extension: Extra = b""


class NodeAnnouncement(Message, frozen=True):
    """`node_announcement`: a node's name, colour and address descriptors (`wire.node_address`)."""

    TYPE = 257
    signature: Signature
    features: CountedBytes
    timestamp: U32
    node_id: SignedPoint
    rgb_color: Annotated[bytes, Fixed("3s")]
    alias: Annotated[bytes, Fixed("32s")]
    addresses: CountedBytes
    extension: Extra = b""


class ChannelUpdate(Message, frozen=True):
    """`channel_update`: what one side asks for forwarding over the channel."""

    TYPE = 258
    signature: Signature
    chain_hash: ChainHash
    short_channel_id: ShortChannelId
    timestamp: U32
    message_flags: U8
    channel_flags: U8
    cltv_expiry_delta: U16
    htlc_minimum_msat: MsatLimit
    fee_base_msat: U32
    fee_proportional_millionths: U32
    htlc_maximum_msat: MsatLimit
    extension: Extra = b""


class AnnouncementSignatures(Message, frozen=True):
    """`announcement_signatures`: the sender's half of a channel_announcement."""

    TYPE = 259
    channel_id: ChannelId
    short_channel_id: ShortChannelId
    node_signature: Signature
    bitcoin_signature: Signature


class EncodedFlags(msgspec.Struct, frozen=True, gc=False):
    """One BigSize of wishes per channel asked for, encoded as the type says."""

    encoding_type: U8
    encoded_query_flags: Annotated[bytes, Rest()]


class EncodedTimestamps(msgspec.Struct, frozen=True, gc=False):
    """Two u32 per channel answered, encoded as the type says."""

    encoding_type: U8
    encoded_timestamps: Annotated[bytes, Rest()]


class ChannelUpdateChecksums(msgspec.Struct, frozen=True, gc=False):
    """CRC32C of the two updates of a channel, zero for one that is missing."""

    checksum_node_id_1: U32
    checksum_node_id_2: U32


class QueryShortChannelIds(Message, frozen=True):
    """`query_short_channel_ids`: send me what you know of these channels."""

    TYPE = 261
    chain_hash: ChainHash
    encoded_short_ids: CountedBytes
    query_flags: Annotated[EncodedFlags | None, Record(1, Group(EncodedFlags))] = None


class ReplyShortChannelIdsEnd(Message, frozen=True):
    """`reply_short_channel_ids_end`: the answer is complete."""

    TYPE = 262
    chain_hash: ChainHash
    full_information: U8


class QueryChannelRange(Message, frozen=True):
    """`query_channel_range`: which channels were funded in these blocks?"""

    TYPE = 263
    chain_hash: ChainHash
    first_blocknum: U32
    number_of_blocks: U32
    query_option: Annotated[int | None, Record(1, BigSize())] = None


class ReplyChannelRange(Message, frozen=True):
    """`reply_channel_range`: one part of the answer."""

    TYPE = 264
    chain_hash: ChainHash
    first_blocknum: U32
    number_of_blocks: U32
    sync_complete: U8
    encoded_short_ids: CountedBytes
    timestamps_tlv: Annotated[EncodedTimestamps | None, Record(1, Group(EncodedTimestamps))] = None
    checksums_tlv: Annotated[
        tuple[ChannelUpdateChecksums, ...] | None, Record(3, Rest(ChannelUpdateChecksums))
    ] = None


class GossipTimestampFilter(Message, frozen=True):
    """`gossip_timestamp_filter`: relay to me what has a timestamp in this range."""

    TYPE = 265
    chain_hash: ChainHash
    first_timestamp: U32
    timestamp_range: U32


# Where the signed part of the wire message begins: after the type and the signatures.
_SIGNED_FROM = {
    ChannelAnnouncement.TYPE: 2 + 4 * 64,
    NodeAnnouncement.TYPE: 2 + 64,
    ChannelUpdate.TYPE: 2 + 64,
}


def signed_digest(raw: bytes) -> bytes:
    """What the signatures of an announcement or update sign: double SHA-256 of all behind them.

    The argument is the wire message with its type, as it came or as we encode it with any
    signatures filled in.
    """
    # own-announcements.2: from byte 258 of a channel_announcement, 66 of the other two
    return sha256d(raw[_SIGNED_FROM[int.from_bytes(raw[:2], "big")] :])


class UnknownArrayEncoding(DecodeError):
    """An array in a query is encoded in a way that may no longer be sent, or never was."""

    def __init__(self, encoding_type: int) -> None:
        self.encoding_type = encoding_type
        super().__init__(f"array encoding {encoding_type} is not the plain one")


def _plain(encoding_type: int, encoded: bytes, item_bytes: int) -> int:
    """How many items of this size a plain array holds."""
    # queries.3: zlib (1) is retired
    if encoding_type:
        raise UnknownArrayEncoding(encoding_type)
    if len(encoded) % item_bytes:
        raise WrongLength("an array", len(encoded))
    return len(encoded) // item_bytes


def write_short_ids(short_channel_ids: Sequence[int]) -> bytes:
    """What `encoded_short_ids` holds: the plain encoding, then the ids in the order given."""
    return struct.pack(f">B{len(short_channel_ids)}Q", 0, *short_channel_ids)


def read_short_ids(encoded: bytes) -> tuple[int, ...]:
    """The ids in `encoded_short_ids`.

    Raises:
        UnknownArrayEncoding: it is not plain.
        DecodeError: it is cut off.
    """
    if not encoded:
        raise Truncated("encoded_short_ids")
    count = _plain(encoded[0], encoded[1:], 8)
    return struct.unpack_from(f">{count}Q", encoded, 1)


def write_timestamps(pairs: Sequence[tuple[int, int]]) -> EncodedTimestamps:
    """The timestamps of both updates of each channel answered, zero for one that is missing."""
    return EncodedTimestamps(0, b"".join([struct.pack(">II", *pair) for pair in pairs]))


def read_timestamps(timestamps: EncodedTimestamps) -> tuple[tuple[int, int], ...]:
    """The pairs of timestamps.

    Raises:
        UnknownArrayEncoding: they are not plain.
        DecodeError: they are cut off.
    """
    _plain(timestamps.encoding_type, timestamps.encoded_timestamps, 8)
    return tuple(struct.iter_unpack(">II", timestamps.encoded_timestamps))


def write_query_flags(flags: Sequence[int]) -> EncodedFlags:
    """The wishes per channel asked for, one BigSize each."""
    return EncodedFlags(0, b"".join(map(write_bigsize, flags)))


def read_query_flags(flags: EncodedFlags) -> tuple[int, ...]:
    """The wishes per channel.

    Raises:
        UnknownArrayEncoding: they are not plain.
        DecodeError: one is cut off or not minimal.
    """
    _plain(flags.encoding_type, flags.encoded_query_flags, 1)
    wishes, at = [], 0
    while at < len(flags.encoded_query_flags):
        wish, at = read_bigsize(flags.encoded_query_flags, at)
        wishes.append(wish)
    return tuple(wishes)
