"""Opening a channel, version 1 (BOLT 2, channel establishment).

Before the funding outpoint is known there is no channel, only one of the stages below. Each
is a value; each function takes a stage and a message and gives the next stage and our answer.

    opener:    propose → AwaitingAccept → Agreed → fund → AwaitingSigned → Channel
    accepter:  accept → AwaitingCreated → Channel
"""

from typing import Any

import msgspec

from htlc.channel import Channel, Charter, Phase, Terms
from htlc.closing import is_shutdown_script
from htlc.dust import MOST_DUST_EXPOSURE_MSAT
from htlc.errors import UnacceptableOpening, UnexpectedMessage
from htlc.keys import Basepoints, ChannelSecrets
from htlc.ladder import LOCAL, REMOTE, Dual, Side
from htlc.limits import opener_cost_msat
from htlc.steps import check_signatures, signatures_for
from htlc.transactions import ChannelFormat
from wire.bitcoin.script import p2wsh
from wire.bitcoin.tx import OutPoint
from wire.crypto.secp256k1 import Point
from wire.features import ANCHORS, SCID_ALIAS, STATIC_REMOTEKEY, ZEROCONF, Features
from wire.messages.channel import AcceptChannel, FundingCreated, FundingSigned, OpenChannel
from wire.units import Msat, Sat, msat

ANNOUNCE_CHANNEL = 1
LOWEST_DUST_LIMIT_SAT = 354
HIGHEST_DUST_LIMIT_SAT = 1000  # an HTLC below it is lost when the peer goes to chain
MOST_HTLCS = 483
LARGE_CHANNEL_SAT = 1 << 24
LONGEST_DELAY_BLOCKS = 2016

STATIC_REMOTEKEY_TYPE = Features.of(STATIC_REMOTEKEY).to_bytes()
ANCHORS_TYPE = Features.of(STATIC_REMOTEKEY, ANCHORS).to_bytes()
_FORMATS = {STATIC_REMOTEKEY_TYPE: ChannelFormat.STATIC_REMOTEKEY, ANCHORS_TYPE: ChannelFormat.ANCHORS}


def format_of(channel_type: bytes | None) -> ChannelFormat | None:
    """How the commitments of a channel type look, or None if we know no such type.

    To either format it may add that its place stays secret, and that it is used unconfirmed.
    """
    features = Features.from_bytes(channel_type or b"")
    # open_channel.4: even bits alone, in the fewest bytes
    bare = Features(features.bits & ~Features.of(SCID_ALIAS, ZEROCONF).bits)
    return _FORMATS.get(bare.to_bytes()) if features.to_bytes() == channel_type else None


class House(msgspec.Struct, frozen=True, gc=False):
    """What this node asks of any peer, and what it puts up with."""

    chain_hash: bytes
    lowest_feerate_per_kw: int = 253
    highest_feerate_per_kw: int = 100_000
    smallest_channel_sat: Sat = Sat(10_000)
    minimum_depth_blocks: int = 3
    to_self_delay_blocks: int = 144
    htlc_minimum_msat: Msat = Msat(1)
    max_accepted_htlcs: int = MOST_HTLCS
    dust_limit_sat: Sat = Sat(LOWEST_DUST_LIMIT_SAT)
    most_dust_exposure_msat: Msat = MOST_DUST_EXPOSURE_MSAT
    upfront_shutdown_script: bytes = b""  # where we promise to close to; empty: no promise
    zeroconf_peers: frozenset[Point] = frozenset()  # whose funding we trust before it is in a block

    def depth_blocks(self, peer_id: Point) -> int:
        """How deep a funding transaction of that peer must be."""
        # open_channel.5: who funds a channel can take the money back until it confirms
        return 0 if peer_id in self.zeroconf_peers else max(1, self.minimum_depth_blocks)

    def terms(self, funding_sat: Sat) -> Terms:
        """Our terms for a channel of this size: a reserve of one percent, all of it in flight."""
        return Terms(
            dust_limit_sat=self.dust_limit_sat,
            max_htlc_value_in_flight_msat=msat(funding_sat),
            channel_reserve_sat=Sat(max(funding_sat // 100, self.dust_limit_sat)),
            htlc_minimum_msat=self.htlc_minimum_msat,
            to_self_delay_blocks=self.to_self_delay_blocks,
            max_accepted_htlcs=self.max_accepted_htlcs,
        )


class Negotiated(msgspec.Struct, frozen=True, gc=False):
    """Which optional parts both sides' `init` allow."""

    large_channels: bool = False
    anchors: bool = False
    upfront_shutdown: bool = False
    shutdown_anysegwit: bool = False
    simple_close: bool = False
    scid_alias: bool = False
    zeroconf: bool = False


class Wish(msgspec.Struct, frozen=True, gc=False):
    """The channel that our user wants."""

    funding_sat: Sat
    push_msat: Msat
    feerate_per_kw: int
    channel_type: bytes
    is_announced: bool
    upfront_shutdown_script: bytes = b""  # instead of the house's
    minimum_depth_blocks: int | None = None  # how deep we want it, instead of what the peer says
    channel_reserve_sat: Sat | None = None  # what the peer shall keep, instead of the house's


class AwaitingAccept(msgspec.Struct, frozen=True, gc=False):
    peer_id: Point
    key_index: int
    house: House
    negotiated: Negotiated
    proposal: OpenChannel
    minimum_depth_blocks: int | None = None


class Agreed(msgspec.Struct, frozen=True, gc=False):
    """Both have agreed; the opener may now make the funding transaction."""

    stage: AwaitingAccept
    answer: AcceptChannel

    @property
    def funding_output_script(self) -> bytes:
        """The P2WSH script that the funding transaction must pay."""
        return p2wsh(_charter(self.stage, self.answer, OutPoint(bytes(32), 0)).funding_script)


class AwaitingCreated(msgspec.Struct, frozen=True, gc=False):
    peer_id: Point
    key_index: int
    negotiated: Negotiated
    proposal: OpenChannel
    answer: AcceptChannel


class AwaitingSigned(msgspec.Struct, frozen=True, gc=False):
    channel: Channel


def propose(
    house: House,
    negotiated: Negotiated,
    wish: Wish,
    peer_id: Point,
    key_index: int,
    secrets: ChannelSecrets,
    temporary_channel_id: bytes,
) -> tuple[AwaitingAccept, OpenChannel]:
    """Our open_channel.

    Raises:
        UnacceptableOpening: our user wished for what the peer must refuse.
    """
    terms, basepoints = house.terms(wish.funding_sat), secrets.basepoints()
    if wish.channel_reserve_sat is not None:
        # open_channel.3
        reserve_sat = Sat(max(wish.channel_reserve_sat, terms.dust_limit_sat))
        terms = msgspec.structs.replace(terms, channel_reserve_sat=reserve_sat)
    proposal = OpenChannel(
        chain_hash=house.chain_hash,
        temporary_channel_id=temporary_channel_id,
        funding_satoshis=wish.funding_sat,
        push_msat=wish.push_msat,
        feerate_per_kw=wish.feerate_per_kw,
        **_terms_fields(terms),
        **_basepoint_fields(basepoints),
        first_per_commitment_point=secrets.per_commitment_point(0),
        channel_flags=ANNOUNCE_CHANNEL if wish.is_announced else 0,
        # open_channel.6: the record is there whenever the others are, empty if we promise nothing
        upfront_shutdown_script=_promise(
            wish.upfront_shutdown_script or house.upfront_shutdown_script, negotiated
        ),
        channel_type=wish.channel_type,
    )
    if wish.upfront_shutdown_script and not proposal.upfront_shutdown_script:
        raise UnacceptableOpening(
            "upfront_shutdown_script", wish.upfront_shutdown_script.hex(), "is none that this peer honours"
        )
    _check_money(proposal, negotiated)
    _check_type(proposal, negotiated)
    stage = AwaitingAccept(peer_id, key_index, house, negotiated, proposal, wish.minimum_depth_blocks)
    return stage, proposal


def accept(
    house: House,
    negotiated: Negotiated,
    proposal: OpenChannel,
    peer_id: Point,
    key_index: int,
    secrets: ChannelSecrets,
) -> tuple[AwaitingCreated, AcceptChannel]:
    """Our accept_channel to a proposal that we can live with.

    Raises:
        UnacceptableOpening: we cannot.
    """
    _check_proposal(house, negotiated, proposal)
    is_zeroconf = Features.from_bytes(proposal.channel_type or b"").has(ZEROCONF)
    if is_zeroconf and peer_id not in house.zeroconf_peers:
        # open_channel.5
        raise UnacceptableOpening("channel_type", proposal.channel_type, "is only for peers that we chose")
    terms, basepoints = house.terms(proposal.funding_satoshis), secrets.basepoints()
    # accept_channel.2: their reserve covers our dust limit, and ours covers theirs
    if proposal.channel_reserve_satoshis < terms.dust_limit_sat:
        raise UnacceptableOpening(
            "channel_reserve_satoshis", proposal.channel_reserve_satoshis, "is below our dust limit"
        )
    reserve_sat = max(terms.channel_reserve_sat, proposal.dust_limit_satoshis)
    terms = msgspec.structs.replace(terms, channel_reserve_sat=reserve_sat)
    answer = AcceptChannel(
        temporary_channel_id=proposal.temporary_channel_id,
        **_terms_fields(terms),
        minimum_depth=house.depth_blocks(peer_id),
        **_basepoint_fields(basepoints),
        first_per_commitment_point=secrets.per_commitment_point(0),
        upfront_shutdown_script=_promise(house.upfront_shutdown_script, negotiated),
        # accept_channel.1: exactly the type that was proposed
        channel_type=proposal.channel_type,
    )
    return AwaitingCreated(peer_id, key_index, negotiated, proposal, answer), answer


def receive_accept(stage: AwaitingAccept, answer: AcceptChannel) -> Agreed:
    """The peer's accept_channel.

    Raises:
        UnacceptableOpening: it asks for what we cannot live with.
        UnexpectedMessage: it answers another proposal.
    """
    proposal = stage.proposal
    # accept_channel.1
    if answer.temporary_channel_id != proposal.temporary_channel_id:
        raise UnexpectedMessage("accept_channel", "being opened under another temporary id")
    # accept_channel.1
    if answer.channel_type != proposal.channel_type:
        raise UnacceptableOpening("channel_type", answer.channel_type, "is not the one we proposed")
    _check_terms(answer, proposal.funding_satoshis)
    _check_upfront(answer.upfront_shutdown_script, stage.negotiated)
    # accept_channel.2
    if answer.minimum_depth and Features.from_bytes(answer.channel_type or b"").has(ZEROCONF):
        raise UnacceptableOpening("minimum_depth", answer.minimum_depth, "is not the 0 of option_zeroconf")
    # accept_channel.2: each side's dust limit lies below the reserve that the other demands
    if answer.channel_reserve_satoshis < proposal.dust_limit_satoshis:
        raise UnacceptableOpening(
            "channel_reserve_satoshis", answer.channel_reserve_satoshis, "is below our dust limit"
        )
    if answer.dust_limit_satoshis > proposal.channel_reserve_satoshis:
        raise UnacceptableOpening(
            "dust_limit_satoshis", answer.dust_limit_satoshis, "is above the reserve we demand"
        )
    if answer.minimum_depth > 144:
        raise UnacceptableOpening("minimum_depth", answer.minimum_depth, "is more than a day")
    return Agreed(stage, answer)


def fund(
    agreed: Agreed, funding_outpoint: OutPoint, secrets: ChannelSecrets
) -> tuple[AwaitingSigned, FundingCreated]:
    """Name the funding output and sign the peer's first commitment."""
    stage, answer = agreed.stage, agreed.answer
    channel = _channel(
        _charter(stage, answer, funding_outpoint), stage.proposal, answer.first_per_commitment_point
    )
    signature, _ = signatures_for(channel, secrets)
    message = FundingCreated(
        stage.proposal.temporary_channel_id, funding_outpoint.txid, funding_outpoint.index, signature
    )
    return AwaitingSigned(channel), message


def receive_created(
    stage: AwaitingCreated, message: FundingCreated, secrets: ChannelSecrets
) -> tuple[Channel, FundingSigned]:
    """The opener's funding_created: check its signature, give ours.

    Raises:
        WrongSignature: it does not hold on our first commitment.
        UnexpectedMessage: it follows another proposal.
    """
    if message.temporary_channel_id != stage.proposal.temporary_channel_id:
        raise UnexpectedMessage("funding_created", "being opened under another temporary id")
    outpoint = OutPoint(message.funding_txid, message.funding_output_index)
    charter = _charter(stage, stage.answer, outpoint)
    channel = _channel(charter, stage.proposal, stage.proposal.first_per_commitment_point)
    channel = _checked(msgspec.structs.replace(channel, remote_signature=message.signature), secrets)
    signature, _ = signatures_for(channel, secrets)
    return channel, FundingSigned(channel.id, signature)


def receive_signed(stage: AwaitingSigned, message: FundingSigned, secrets: ChannelSecrets) -> Channel:
    """The accepter's funding_signed. Only after it may the funding transaction be broadcast.

    Raises:
        WrongSignature: it does not hold on our first commitment.
        UnexpectedMessage: it is for another channel.
    """
    # funding_created-funding_signed.3
    if message.channel_id != stage.channel.id:
        raise UnexpectedMessage("funding_signed", "being opened under another id")
    # funding_created-funding_signed.1: no broadcast before our way out is signed
    return _checked(msgspec.structs.replace(stage.channel, remote_signature=message.signature), secrets)


def channel_id_of(outpoint: OutPoint) -> bytes:
    """The funding txid with the output's index XORed into its last two bytes (BOLT 2)."""
    # funding_created-funding_signed.3
    low = int.from_bytes(outpoint.txid[30:], "big") ^ outpoint.index
    return outpoint.txid[:30] + low.to_bytes(2, "big")


# What we cannot live with


def _check_proposal(house: House, negotiated: Negotiated, proposal: OpenChannel) -> None:
    if proposal.chain_hash != house.chain_hash:
        raise UnacceptableOpening("chain_hash", proposal.chain_hash.hex(), "is another chain")
    if proposal.funding_satoshis < house.smallest_channel_sat:
        raise UnacceptableOpening("funding_satoshis", proposal.funding_satoshis, "is too small")
    # open_channel.7
    if not house.lowest_feerate_per_kw <= proposal.feerate_per_kw <= house.highest_feerate_per_kw:
        raise UnacceptableOpening("feerate_per_kw", proposal.feerate_per_kw, "is not reasonable")
    _check_terms(proposal, proposal.funding_satoshis)
    _check_type(proposal, negotiated)
    _check_upfront(proposal.upfront_shutdown_script, negotiated)
    _check_money(proposal, negotiated)


def _check_terms(message: OpenChannel | AcceptChannel, funding_sat: Sat) -> None:
    # open_channel.3
    if message.dust_limit_satoshis < LOWEST_DUST_LIMIT_SAT:
        raise UnacceptableOpening("dust_limit_satoshis", message.dust_limit_satoshis, "is below 354")
    if message.dust_limit_satoshis > HIGHEST_DUST_LIMIT_SAT:
        raise UnacceptableOpening("dust_limit_satoshis", message.dust_limit_satoshis, "is too large")
    if isinstance(message, OpenChannel) and message.dust_limit_satoshis > message.channel_reserve_satoshis:
        raise UnacceptableOpening("dust_limit_satoshis", message.dust_limit_satoshis, "is above the reserve")
    if not 0 < message.max_accepted_htlcs <= MOST_HTLCS:
        raise UnacceptableOpening("max_accepted_htlcs", message.max_accepted_htlcs, "is not 1 to 483")
    # open_channel.7
    if message.to_self_delay > LONGEST_DELAY_BLOCKS:
        raise UnacceptableOpening("to_self_delay", message.to_self_delay, "is more than two weeks")
    if message.channel_reserve_satoshis > funding_sat // 5:
        raise UnacceptableOpening(
            "channel_reserve_satoshis", message.channel_reserve_satoshis, "is above a fifth of the channel"
        )
    if message.htlc_minimum_msat > msat(funding_sat) // 10:
        raise UnacceptableOpening("htlc_minimum_msat", message.htlc_minimum_msat, "is too large")
    if message.max_htlc_value_in_flight_msat < max(1, message.htlc_minimum_msat):
        raise UnacceptableOpening(
            "max_htlc_value_in_flight_msat", message.max_htlc_value_in_flight_msat, "lets no HTLC in"
        )


def _check_type(proposal: OpenChannel, negotiated: Negotiated) -> None:
    # open_channel.4: there must be a type, and one that we know
    if format_of(proposal.channel_type) is None:
        raise UnacceptableOpening("channel_type", proposal.channel_type, "is missing or unknown")
    features = Features.from_bytes(proposal.channel_type or b"")
    for name, is_agreed in (
        (ANCHORS, negotiated.anchors),
        (SCID_ALIAS, negotiated.scid_alias),
        (ZEROCONF, negotiated.zeroconf),
    ):
        if features.has(name) and not is_agreed:
            raise UnacceptableOpening("channel_type", proposal.channel_type, f"needs {name}")
    # open_channel.5
    if features.has(SCID_ALIAS) and proposal.channel_flags & ANNOUNCE_CHANNEL:
        raise UnacceptableOpening("channel_type", proposal.channel_type, "keeps secret what is announced")


def _check_upfront(script: bytes | None, negotiated: Negotiated) -> None:
    # open_channel.6: empty, or of a form that shutdown allows
    if script and not _is_good_script(script, negotiated):
        raise UnacceptableOpening("upfront_shutdown_script", script.hex(), "is of no form that we pay to")


def _is_good_script(script: bytes, negotiated: Negotiated) -> bool:
    return is_shutdown_script(script, negotiated.shutdown_anysegwit, negotiated.simple_close)


def _promise(script: bytes, negotiated: Negotiated) -> bytes:
    """The script as far as this peer can be held to it; empty if not at all."""
    # shutdown.3
    return script if negotiated.upfront_shutdown and _is_good_script(script, negotiated) else b""


def _check_money(proposal: OpenChannel, negotiated: Negotiated) -> None:
    funding_sat, push_msat = proposal.funding_satoshis, proposal.push_msat
    # open_channel.2
    if funding_sat >= LARGE_CHANNEL_SAT and not negotiated.large_channels:
        raise UnacceptableOpening("funding_satoshis", funding_sat, "needs option_support_large_channel")
    if push_msat > msat(funding_sat):
        raise UnacceptableOpening("push_msat", push_msat, "is more than the channel holds")
    format = format_of(proposal.channel_type) or ChannelFormat.ANCHORS
    cost_msat = opener_cost_msat(format, proposal.feerate_per_kw, 0)
    opener_msat = msat(funding_sat) - push_msat
    # open_channel.7: the opener pays the fee, and somebody has more than the reserve
    if opener_msat < cost_msat:
        raise UnacceptableOpening("push_msat", push_msat, "leaves the opener too little for the fee")
    if max(opener_msat - cost_msat, push_msat) <= msat(proposal.channel_reserve_satoshis):
        raise UnacceptableOpening("funding_satoshis", funding_sat, "leaves nobody more than the reserve")


# How the parts become a channel


def _terms_fields(terms: Terms) -> dict[str, Any]:
    return {
        "dust_limit_satoshis": terms.dust_limit_sat,
        "max_htlc_value_in_flight_msat": terms.max_htlc_value_in_flight_msat,
        "channel_reserve_satoshis": terms.channel_reserve_sat,
        "htlc_minimum_msat": terms.htlc_minimum_msat,
        "to_self_delay": terms.to_self_delay_blocks,
        "max_accepted_htlcs": terms.max_accepted_htlcs,
    }


def _terms_of(message: OpenChannel | AcceptChannel) -> Terms:
    return Terms(
        dust_limit_sat=message.dust_limit_satoshis,
        max_htlc_value_in_flight_msat=message.max_htlc_value_in_flight_msat,
        channel_reserve_sat=message.channel_reserve_satoshis,
        htlc_minimum_msat=message.htlc_minimum_msat,
        to_self_delay_blocks=message.to_self_delay,
        max_accepted_htlcs=message.max_accepted_htlcs,
    )


def _basepoint_fields(basepoints: Basepoints) -> dict[str, Any]:
    return msgspec.structs.asdict(basepoints)


def _basepoints_of(message: OpenChannel | AcceptChannel) -> Basepoints:
    return Basepoints(
        message.funding_pubkey,
        message.revocation_basepoint,
        message.payment_basepoint,
        message.delayed_payment_basepoint,
        message.htlc_basepoint,
    )


def _charter(stage: AwaitingAccept | AwaitingCreated, answer: AcceptChannel, outpoint: OutPoint) -> Charter:
    proposal = stage.proposal
    opener = LOCAL if isinstance(stage, AwaitingAccept) else REMOTE
    ours, theirs = (proposal, answer) if opener is LOCAL else (answer, proposal)
    channel_type, format = proposal.channel_type or b"", format_of(proposal.channel_type)
    assert format is not None, "the type was checked"
    return Charter(
        channel_id=channel_id_of(outpoint),
        peer_id=stage.peer_id,
        key_index=stage.key_index,
        format=format,
        channel_type=channel_type,
        opener=opener,
        is_announced=bool(proposal.channel_flags & ANNOUNCE_CHANNEL),
        funding_outpoint=outpoint,
        funding_sat=proposal.funding_satoshis,
        minimum_depth_blocks=_depth_blocks(stage, answer),
        terms=Dual(_terms_of(ours), _terms_of(theirs)),
        basepoints=Dual(_basepoints_of(ours), _basepoints_of(theirs)),
        upfront_shutdown_scripts=Dual(
            _promise(ours.upfront_shutdown_script or b"", stage.negotiated),
            _promise(theirs.upfront_shutdown_script or b"", stage.negotiated),
        ),
    )


def _depth_blocks(stage: AwaitingAccept | AwaitingCreated, answer: AcceptChannel) -> int:
    """How deep the funding must be before we say that the channel is ready."""
    ours = stage.minimum_depth_blocks if isinstance(stage, AwaitingAccept) else None
    is_trusted = answer.minimum_depth == 0
    # accept_channel.2: unconfirmed only if the peer said so
    return answer.minimum_depth if ours is None or is_trusted else max(1, ours)


def _channel(charter: Charter, proposal: OpenChannel, remote_point: Point) -> Channel:
    opener_msat = Msat(msat(proposal.funding_satoshis) - proposal.push_msat)
    of_opener: Side = charter.opener
    balances = Dual(opener_msat, proposal.push_msat)
    return Channel(
        charter=charter,
        phase=Phase.AWAITING_FUNDING,
        settled_msat=balances if of_opener is LOCAL else balances.swapped(),
        feerate_per_kw=proposal.feerate_per_kw,
        number=Dual(0, 0),
        remote_point=remote_point,
        remote_next_point=None,
    )


def _checked(channel: Channel, secrets: ChannelSecrets) -> Channel:
    point = secrets.per_commitment_point(0)
    check_signatures(channel, channel.commitment(LOCAL, point), point)
    return channel
