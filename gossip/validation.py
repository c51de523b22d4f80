"""Whether a message about the network may be believed (BOLT 7); nothing here remembers anything.

Each check takes the decoded message and, where a signature covers it, the bytes as they came: a
signature also covers what future versions append. The cheap questions come first, because
anybody can make us ask the dear ones. What a check needs to know beyond the message (the output
on chain, the channel, the update before this one) is an argument.
"""

from gossip.errors import (
    AddressesCutOff,
    AlreadyKnown,
    BadSignature,
    ConflictingUpdate,
    FromTheFuture,
    NodesNotAscending,
    NotTheFundingOutput,
    TooOld,
    UnknownChain,
)
from gossip.graph import Channel, Node, Policy
from wire.bitcoin.script import funding_script, p2wsh
from wire.codec import DecodeError
from wire.crypto.secp256k1 import is_signed
from wire.discount import discount_in
from wire.features import Features
from wire.messages.gossip import ChannelAnnouncement, ChannelUpdate, NodeAnnouncement, signed_digest
from wire.node_address import Dns, read_addresses
from wire.units import Msat, Sat

FORGET_AFTER_BLOCKS = 72
STALE_SECONDS = 1_209_600
AHEAD_SECONDS = 86_400

MUST_BE_ONE = 1
DONT_FORWARD = 2
DIRECTION = 1
DISABLE = 2

# In channel_update, the fields from message_flags on; what stands before is who, which and when.
_TERMS_FROM = 2 + 64 + 32 + 8 + 4


def check_channel_announcement(message: ChannelAnnouncement, raw: bytes, chain_hash: bytes) -> None:
    """What the message itself shows: our chain, nodes in order, four signatures.

    Raises:
        UnknownChain: ignore it.
        NodesNotAscending, BadSignature: warn the peer.
    """
    if message.chain_hash != chain_hash:
        raise UnknownChain(message.chain_hash)
    if message.node_id_1 >= message.node_id_2:
        raise NodesNotAscending(message.short_channel_id)
    digest = signed_digest(raw)
    # validation.1: both nodes and both owners of the output signed the same bytes
    for field, key in (
        ("node_signature_1", message.node_id_1),
        ("node_signature_2", message.node_id_2),
        ("bitcoin_signature_1", message.bitcoin_key_1),
        ("bitcoin_signature_2", message.bitcoin_key_2),
    ):
        if not is_signed(key, digest, getattr(message, field)):
            raise BadSignature(field, key)


def check_funding_output(message: ChannelAnnouncement, script: bytes | None) -> None:
    """Whether the output that the chain shows there pays to the two keys.

    `script` is None if there is no such output, or it is spent.

    Raises:
        NotTheFundingOutput: ignore the announcement.
    """
    # validation.1: the output must be the P2WSH of the two keys that signed, and unspent
    if script != p2wsh(funding_script(message.bitcoin_key_1, message.bitcoin_key_2)):
        raise NotTheFundingOutput(message.short_channel_id)


def channel_of(message: ChannelAnnouncement, value_sat: int) -> Channel:
    """What the graph keeps of an announcement."""
    return Channel(
        message.short_channel_id,
        message.node_id_1,
        message.node_id_2,
        Sat(value_sat),
        is_understood=is_understood(message.features),
    )


def check_channel_update(
    message: ChannelUpdate,
    raw: bytes,
    channel: Channel,
    previous: bytes | None,
    now_seconds: int,
    *,
    is_ours: bool = False,
) -> None:
    """Whether an update of this channel is newer than the previous one, and its owner's.

    Of a channel of ours it may be of any age: it comes from the other end, which knows best. Some
    implementations count such updates from 1 until the channel has seen a block.

    Raises:
        AlreadyKnown, ConflictingUpdate, FromTheFuture, TooOld: ignore it.
        BadSignature: warn the peer.
    """
    if previous is not None:
        check_newer_update(message, raw, previous)
    check_not_ahead(message.timestamp, now_seconds)
    if not is_ours:
        check_not_stale(message.timestamp, now_seconds)
    owner = channel.end(message.channel_flags & DIRECTION)
    # validation.3: the node at the update's end of the channel, and no other, signs it
    if not is_signed(owner, signed_digest(raw), message.signature):
        raise BadSignature("signature", owner)


def check_newer_update(message: ChannelUpdate, raw: bytes, previous: bytes) -> None:
    """Compare with the update known for this direction, as it came.

    Raises:
        AlreadyKnown: it is not newer.
        ConflictingUpdate: it has the same timestamp and says something else.
    """
    known_timestamp = int.from_bytes(previous[_TERMS_FROM - 4 : _TERMS_FROM], "big")
    # validation.3: a signature may differ by its nonce or sign, so only what is signed is compared
    if message.timestamp == known_timestamp and raw[_TERMS_FROM:] != previous[_TERMS_FROM:]:
        raise ConflictingUpdate(message.short_channel_id)
    if message.timestamp <= known_timestamp:
        raise AlreadyKnown


def check_not_ahead(timestamp: int, now_seconds: int) -> None:
    """Whether a time is one that an honest clock may have shown.

    Raises:
        FromTheFuture: more than a day ahead.
    """
    if timestamp > now_seconds + AHEAD_SECONDS:
        raise FromTheFuture(timestamp, now_seconds)


def check_not_stale(timestamp: int, now_seconds: int) -> None:
    """Whether what was said at that time still counts.

    Raises:
        TooOld: so old that we would prune it (validation.4).
    """
    if timestamp < now_seconds - STALE_SECONDS:
        raise TooOld(timestamp, now_seconds)


def policy_of(message: ChannelUpdate) -> Policy:
    """What the graph keeps of an update."""
    return Policy(
        timestamp=message.timestamp,
        cltv_expiry_delta=message.cltv_expiry_delta,
        htlc_minimum_msat=message.htlc_minimum_msat,
        htlc_maximum_msat=message.htlc_maximum_msat,
        fee_base_msat=Msat(message.fee_base_msat),
        fee_proportional_millionths=message.fee_proportional_millionths,
        is_disabled=bool(message.channel_flags & DISABLE),
        inbound=discount_in(message.extension),
    )


def check_node_announcement(message: NodeAnnouncement, raw: bytes) -> None:
    """What the message itself shows: its node signed it, and its addresses can be read.

    Raises:
        BadSignature, AddressesCutOff: warn the peer.
    """
    if not is_signed(message.node_id, signed_digest(raw), message.signature):
        raise BadSignature("signature", message.node_id)
    try:
        read_addresses(message.addresses)
    except DecodeError as why:
        raise AddressesCutOff(message.node_id) from why


def may_forward(message: NodeAnnouncement) -> bool:
    """Whether others may get it from us; the addresses must be readable."""
    # validation.4: a node has one host name at most
    return sum(isinstance(address, Dns) for address in read_addresses(message.addresses)) <= 1


def node_of(message: NodeAnnouncement) -> Node:
    """What the graph keeps of a node's announcement."""
    return Node(
        timestamp=message.timestamp,
        features=message.features,
        alias=message.alias,
        rgb_color=message.rgb_color,
        addresses=message.addresses,
        is_understood=is_understood(message.features),
    )


def is_understood(features: bytes) -> bool:
    """Whether we know everything that these features require (validation.2)."""
    return Features.from_bytes(features).unknown_even() is None
