"""Our own gossip: what we sign, and how a channel's two halves become one announcement (BOLT 7).

`Sign` is a function from a digest to a signature: the keys stay with the signer. Everything made
here is given back as wire bytes, because those are what is signed, stored and relayed.
"""

from collections.abc import Callable, Iterable
from typing import TypeAlias

import msgspec

from gossip.errors import BadSignature, ImpossibleLimits, WrongShortChannelId
from gossip.graph import Policy
from gossip.validation import DISABLE, DONT_FORWARD, MUST_BE_ONE
from wire.crypto.secp256k1 import Point, Signature, is_signed
from wire.discount import discount_record
from wire.features import NODE_ANNOUNCEMENT, Features
from wire.messages.catalogue import encode
from wire.messages.gossip import (
    AnnouncementSignatures,
    ChannelAnnouncement,
    ChannelUpdate,
    NodeAnnouncement,
    signed_digest,
)
from wire.node_address import Address, announceable, write_addresses
from wire.units import Msat, msat

Sign: TypeAlias = Callable[[bytes], Signature]

ALIAS_BYTES = 32
NO_FEATURES = Features()
_UNSIGNED = bytes(64)


class End(msgspec.Struct, frozen=True, gc=False):
    """One side of a channel as the announcement shows it."""

    node_id: Point
    funding_pubkey: Point


def unsigned_announcement(
    chain_hash: bytes, short_channel_id: int, one: End, other: End, features: Features = NO_FEATURES
) -> ChannelAnnouncement:
    """The announcement of a channel, the same from both sides, signatures still zero."""
    # own-announcements.2: nodes ascending, each bitcoin key beside its node
    first, second = sorted((one, other), key=lambda end: end.node_id)
    return ChannelAnnouncement(
        node_signature_1=_UNSIGNED,
        node_signature_2=_UNSIGNED,
        bitcoin_signature_1=_UNSIGNED,
        bitcoin_signature_2=_UNSIGNED,
        features=features.to_bytes(),
        chain_hash=chain_hash,
        short_channel_id=short_channel_id,
        node_id_1=first.node_id,
        node_id_2=second.node_id,
        bitcoin_key_1=first.funding_pubkey,
        bitcoin_key_2=second.funding_pubkey,
    )


def announcement_digest(unsigned: ChannelAnnouncement) -> bytes:
    """What both nodes and both funding keys sign."""
    return signed_digest(encode(unsigned))


def our_signatures(
    channel_id: bytes, unsigned: ChannelAnnouncement, sign_node: Sign, sign_funding: Sign
) -> AnnouncementSignatures:
    """Our half of an announcement, for the peer."""
    digest = announcement_digest(unsigned)
    return AnnouncementSignatures(
        channel_id=channel_id,
        short_channel_id=unsigned.short_channel_id,
        node_signature=sign_node(digest),
        bitcoin_signature=sign_funding(digest),
    )


def check_their_signatures(
    theirs: AnnouncementSignatures, unsigned: ChannelAnnouncement, their_node_id: Point
) -> None:
    """Whether the peer's half completes this announcement.

    Raises:
        WrongShortChannelId: it is about another output.
        BadSignature: one of the two does not fit.
    """
    if theirs.short_channel_id != unsigned.short_channel_id:
        raise WrongShortChannelId(theirs.short_channel_id, unsigned.short_channel_id)
    is_first = their_node_id == unsigned.node_id_1
    funding_pubkey = unsigned.bitcoin_key_1 if is_first else unsigned.bitcoin_key_2
    digest = announcement_digest(unsigned)
    if not is_signed(their_node_id, digest, theirs.node_signature):
        raise BadSignature("node_signature", their_node_id)
    if not is_signed(funding_pubkey, digest, theirs.bitcoin_signature):
        raise BadSignature("bitcoin_signature", funding_pubkey)


def channel_announcement(
    unsigned: ChannelAnnouncement,
    ours: AnnouncementSignatures,
    theirs: AnnouncementSignatures,
    our_node_id: Point,
) -> bytes:
    """The complete announcement from both halves."""
    first, second = (ours, theirs) if our_node_id == unsigned.node_id_1 else (theirs, ours)
    signed = msgspec.structs.replace(
        unsigned,
        node_signature_1=first.node_signature,
        node_signature_2=second.node_signature,
        bitcoin_signature_1=first.bitcoin_signature,
        bitcoin_signature_2=second.bitcoin_signature,
    )
    return encode(signed)


def bounded(policy: Policy, capacity_sat: int, max_htlc_value_in_flight_msat: int) -> Policy:
    """The policy with its largest HTLC lowered to what the channel and the peer take.

    Raises:
        ImpossibleLimits: then nothing is left.
    """
    # own-announcements.4: no more than the capacity or the peer's cap, no less than the minimum
    most_msat = min(policy.htlc_maximum_msat, msat(capacity_sat), max_htlc_value_in_flight_msat)
    if most_msat < policy.htlc_minimum_msat:
        raise ImpossibleLimits(policy.htlc_minimum_msat, most_msat)
    return msgspec.structs.replace(policy, htlc_maximum_msat=Msat(most_msat))


def next_timestamp(now_seconds: int, previous: int = 0) -> int:
    """The time for our next message about the same thing: always later than the last."""
    return max(now_seconds, previous + 1)


def channel_update(
    policy: Policy,
    chain_hash: bytes,
    short_channel_id: int,
    direction: int,
    sign: Sign,
    *,
    is_announced: bool,
) -> bytes:
    """Our update of our direction; before the announcement it is for the peer alone.

    The direction bit is 0 if we are the lesser node id. An unannounced channel is named by an
    alias that the peer gave us, or by its place in the chain.
    """
    unsigned = ChannelUpdate(
        signature=_UNSIGNED,
        chain_hash=chain_hash,
        short_channel_id=short_channel_id,
        timestamp=policy.timestamp,
        # own-announcements.4: the first bit is a constant; the second keeps it between the two of us
        message_flags=MUST_BE_ONE if is_announced else MUST_BE_ONE | DONT_FORWARD,
        channel_flags=direction | (DISABLE if policy.is_disabled else 0),
        cltv_expiry_delta=policy.cltv_expiry_delta,
        htlc_minimum_msat=policy.htlc_minimum_msat,
        fee_base_msat=policy.fee_base_msat,
        fee_proportional_millionths=policy.fee_proportional_millionths,
        htlc_maximum_msat=policy.htlc_maximum_msat,
        extension=discount_record(policy.inbound),
    )
    return _signed(unsigned, sign)


def node_announcement(
    node_id: Point,
    timestamp: int,
    sign: Sign,
    *,
    alias: str = "",
    rgb_color: bytes = bytes(3),
    addresses: Iterable[Address] = (),
    features: Features = NODE_ANNOUNCEMENT,
) -> bytes:
    """What we say of ourselves; the timestamp must be later than that of the last one."""
    unsigned = NodeAnnouncement(
        signature=_UNSIGNED,
        features=features.to_bytes(),
        timestamp=timestamp,
        node_id=node_id,
        rgb_color=rgb_color,
        alias=alias_bytes(alias),
        # own-announcements.3: ascending by type, one host name, no port 0
        addresses=write_addresses(announceable(addresses)),
    )
    return _signed(unsigned, sign)


def alias_bytes(alias: str) -> bytes:
    """The alias as UTF-8 in 32 bytes, cut between characters and padded with zeros."""
    cut = alias.encode()[:ALIAS_BYTES].decode(errors="ignore")
    return cut.encode().ljust(ALIAS_BYTES, b"\0")


def _signed(unsigned: ChannelUpdate | NodeAnnouncement, sign: Sign) -> bytes:
    signature = sign(signed_digest(encode(unsigned)))
    return encode(msgspec.structs.replace(unsigned, signature=signature))
