"""The messages of one channel's life (BOLT 2): opening v1, updates, reestablish, closing."""

from typing import Annotated

import msgspec

from wire.codec import (
    BYTES32,
    POINT,
    SIGNATURE,
    U8,
    U16,
    U32,
    U64,
    Bytes32,
    ChainHash,
    ChannelId,
    Counted,
    CountedBytes,
    Fixed,
    Group,
    Message,
    MsatLimit,
    MsatU64,
    Point,
    Record,
    Rest,
    SatU64,
    Sha256,
    Signature,
)


class OpenChannel(Message, frozen=True):
    """`open_channel`: the opener's terms."""

    TYPE = 32
    chain_hash: ChainHash
    temporary_channel_id: Bytes32
    funding_satoshis: SatU64
    push_msat: MsatU64
    dust_limit_satoshis: SatU64
    max_htlc_value_in_flight_msat: MsatLimit
    channel_reserve_satoshis: SatU64
    htlc_minimum_msat: MsatLimit
    feerate_per_kw: U32
    to_self_delay: U16
    max_accepted_htlcs: U16
    funding_pubkey: Point
    revocation_basepoint: Point
    payment_basepoint: Point
    delayed_payment_basepoint: Point
    htlc_basepoint: Point
    first_per_commitment_point: Point
    channel_flags: U8
    upfront_shutdown_script: Annotated[bytes | None, Record(0, Rest())] = None
    channel_type: Annotated[bytes | None, Record(1, Rest())] = None


class AcceptChannel(Message, frozen=True):
    """`accept_channel`: the other side's terms."""

    TYPE = 33
    temporary_channel_id: Bytes32
    dust_limit_satoshis: SatU64
    max_htlc_value_in_flight_msat: MsatLimit
    channel_reserve_satoshis: SatU64
    htlc_minimum_msat: MsatLimit
    minimum_depth: U32
    to_self_delay: U16
    max_accepted_htlcs: U16
    funding_pubkey: Point
    revocation_basepoint: Point
    payment_basepoint: Point
    delayed_payment_basepoint: Point
    htlc_basepoint: Point
    first_per_commitment_point: Point
    upfront_shutdown_script: Annotated[bytes | None, Record(0, Rest())] = None
    channel_type: Annotated[bytes | None, Record(1, Rest())] = None


class FundingCreated(Message, frozen=True):
    """`funding_created`: the funding outpoint, and a signature over the first commitment."""

    TYPE = 34
    temporary_channel_id: Bytes32
    funding_txid: Sha256
    funding_output_index: U16
    signature: Signature


class FundingSigned(Message, frozen=True):
    """`funding_signed`: the opener may now broadcast."""

    TYPE = 35
    channel_id: ChannelId
    signature: Signature


class ChannelReady(Message, frozen=True):
    """`channel_ready`: the funding is deep enough; carries the point of commitment 1."""

    TYPE = 36
    channel_id: ChannelId
    second_per_commitment_point: Point
    short_channel_id: Annotated[int | None, Record(1, Fixed("Q"))] = None


class Stfu(Message, frozen=True):
    """`stfu`: no more updates until the protocol to follow has ended."""

    TYPE = 2
    channel_id: ChannelId
    initiator: U8


class UpdateAddHtlc(Message, frozen=True):
    """`update_add_htlc`: an offer; `blinded_path` is the path key inside a blinded route."""

    TYPE = 128
    channel_id: ChannelId
    id: U64
    amount_msat: MsatU64
    payment_hash: Sha256
    cltv_expiry: U32
    onion_routing_packet: Annotated[bytes, Fixed("1366s")]
    blinded_path: Annotated[bytes | None, Record(0, POINT)] = None


class UpdateFulfillHtlc(Message, frozen=True):
    """`update_fulfill_htlc`: the preimage; 80 bytes of hold times and 840 of HMACs may follow."""

    TYPE = 130
    channel_id: ChannelId
    id: U64
    payment_preimage: Bytes32
    attribution_data: Annotated[bytes | None, Record(1, Fixed("920s"))] = None


class UpdateFailHtlc(Message, frozen=True):
    """`update_fail_htlc`: the encrypted reason; attribution data as for a fulfil."""

    TYPE = 131
    channel_id: ChannelId
    id: U64
    reason: CountedBytes
    attribution_data: Annotated[bytes | None, Record(1, Fixed("920s"))] = None


class UpdateFailMalformedHtlc(Message, frozen=True):
    """`update_fail_malformed_htlc`: the onion could not even be opened."""

    TYPE = 135
    channel_id: ChannelId
    id: U64
    sha256_of_onion: Sha256
    failure_code: U16


class StartBatch(Message, frozen=True):
    """`start_batch`: so many messages of one type belong together."""

    TYPE = 127
    channel_id: ChannelId
    batch_size: U16
    message_type: Annotated[int | None, Record(1, Fixed("H"))] = None


class CommitmentSigned(Message, frozen=True):
    """`commitment_signed`: one HTLC signature per untrimmed HTLC, in output order."""

    TYPE = 132
    channel_id: ChannelId
    signature: Signature
    htlc_signature: Annotated[tuple[bytes, ...], Counted(SIGNATURE)] = ()
    funding_txid: Annotated[bytes | None, Record(1, BYTES32)] = None


class RevokeAndAck(Message, frozen=True):
    """`revoke_and_ack`: the secret of the commitment given up, and the point after the next."""

    TYPE = 133
    channel_id: ChannelId
    per_commitment_secret: Bytes32
    next_per_commitment_point: Point


class UpdateFee(Message, frozen=True):
    """`update_fee`: the opener changes the commitment's feerate."""

    TYPE = 134
    channel_id: ChannelId
    feerate_per_kw: U32


class NextFunding(msgspec.Struct, frozen=True, gc=False):
    """The interactive transaction whose signatures are outstanding."""

    next_funding_txid: Sha256
    retransmit_flags: U8


class MyCurrentFundingLocked(msgspec.Struct, frozen=True, gc=False):
    """The latest splice that the sender has locked."""

    my_current_funding_locked_txid: Sha256
    retransmit_flags: U8


class ChannelReestablish(Message, frozen=True):
    """`channel_reestablish`: what each side has, so that both know what to resend."""

    TYPE = 136
    channel_id: ChannelId
    next_commitment_number: U64
    next_revocation_number: U64
    your_last_per_commitment_secret: Bytes32
    my_current_per_commitment_point: Point
    next_funding: Annotated[NextFunding | None, Record(1, Group(NextFunding))] = None
    my_current_funding_locked: Annotated[
        MyCurrentFundingLocked | None, Record(5, Group(MyCurrentFundingLocked))
    ] = None


class Shutdown(Message, frozen=True):
    """`shutdown`: no more HTLCs; where to pay the sender's balance."""

    TYPE = 38
    channel_id: ChannelId
    scriptpubkey: CountedBytes


class FeeRange(msgspec.Struct, frozen=True, gc=False):
    """The closing fees that the sender would take."""

    min_fee_satoshis: SatU64
    max_fee_satoshis: SatU64


class ClosingSigned(Message, frozen=True):
    """`closing_signed`: a fee and a signature for the closing transaction that pays it."""

    TYPE = 39
    channel_id: ChannelId
    fee_satoshis: SatU64
    signature: Signature
    fee_range: Annotated[FeeRange | None, Record(1, Group(FeeRange))] = None


class ClosingComplete(Message, frozen=True):
    """`closing_complete`: the closer's transaction, signed in each form it would accept."""

    TYPE = 40
    channel_id: ChannelId
    closer_scriptpubkey: CountedBytes
    closee_scriptpubkey: CountedBytes
    fee_satoshis: SatU64
    locktime: U32
    closer_output_only: Annotated[bytes | None, Record(1, SIGNATURE)] = None
    closee_output_only: Annotated[bytes | None, Record(2, SIGNATURE)] = None
    closer_and_closee_outputs: Annotated[bytes | None, Record(3, SIGNATURE)] = None


class ClosingSig(Message, frozen=True):
    """`closing_sig`: the closee's signature for one of the forms offered."""

    TYPE = 41
    channel_id: ChannelId
    closer_scriptpubkey: CountedBytes
    closee_scriptpubkey: CountedBytes
    fee_satoshis: SatU64
    locktime: U32
    closer_output_only: Annotated[bytes | None, Record(1, SIGNATURE)] = None
    closee_output_only: Annotated[bytes | None, Record(2, SIGNATURE)] = None
    closer_and_closee_outputs: Annotated[bytes | None, Record(3, SIGNATURE)] = None
