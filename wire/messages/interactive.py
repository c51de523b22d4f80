"""The messages that build a transaction together (BOLT 2): dual funding, RBF and splicing."""

from typing import Annotated

from wire.codec import (
    BYTES32,
    SIGNATURE,
    U8,
    U16,
    U32,
    U64,
    ChainHash,
    ChannelId,
    Counted,
    CountedBytes,
    Fixed,
    Flag,
    Message,
    MsatLimit,
    Point,
    Record,
    Rest,
    SatS64,
    SatU64,
    Sha256,
)


class OpenChannel2(Message, frozen=True):
    """`open_channel2`: the opener's terms when both may fund."""

    TYPE = 64
    chain_hash: ChainHash
    temporary_channel_id: ChannelId
    funding_feerate_perkw: U32
    commitment_feerate_perkw: U32
    funding_satoshis: SatU64
    dust_limit_satoshis: SatU64
    max_htlc_value_in_flight_msat: MsatLimit
    htlc_minimum_msat: MsatLimit
    to_self_delay: U16
    max_accepted_htlcs: U16
    locktime: U32
    funding_pubkey: Point
    revocation_basepoint: Point
    payment_basepoint: Point
    delayed_payment_basepoint: Point
    htlc_basepoint: Point
    first_per_commitment_point: Point
    second_per_commitment_point: Point
    channel_flags: U8
    upfront_shutdown_script: Annotated[bytes | None, Record(0, Rest())] = None
    channel_type: Annotated[bytes | None, Record(1, Rest())] = None
    require_confirmed_inputs: Annotated[bool, Record(2, Flag())] = False


class AcceptChannel2(Message, frozen=True):
    """`accept_channel2`: the other side's terms, and what it puts in."""

    TYPE = 65
    temporary_channel_id: ChannelId
    funding_satoshis: SatU64
    dust_limit_satoshis: SatU64
    max_htlc_value_in_flight_msat: MsatLimit
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
    second_per_commitment_point: Point
    upfront_shutdown_script: Annotated[bytes | None, Record(0, Rest())] = None
    channel_type: Annotated[bytes | None, Record(1, Rest())] = None
    require_confirmed_inputs: Annotated[bool, Record(2, Flag())] = False


class TxAddInput(Message, frozen=True):
    """`tx_add_input`: an input with the transaction it spends, or the shared funding by its id."""

    TYPE = 66
    channel_id: ChannelId
    serial_id: U64
    prevtx: CountedBytes
    prevtx_vout: U32
    sequence: U32
    shared_input_txid: Annotated[bytes | None, Record(0, BYTES32)] = None


class TxAddOutput(Message, frozen=True):
    """`tx_add_output`: an output."""

    TYPE = 67
    channel_id: ChannelId
    serial_id: U64
    sats: SatU64
    script: CountedBytes


class TxRemoveInput(Message, frozen=True):
    """`tx_remove_input`: takes back an input the sender added."""

    TYPE = 68
    channel_id: ChannelId
    serial_id: U64


class TxRemoveOutput(Message, frozen=True):
    """`tx_remove_output`: takes back an output the sender added."""

    TYPE = 69
    channel_id: ChannelId
    serial_id: U64


class TxComplete(Message, frozen=True):
    """`tx_complete`: nothing to add; two in a row end the negotiation."""

    TYPE = 70
    channel_id: ChannelId


class TxSignatures(Message, frozen=True):
    """`tx_signatures`: the witnesses of the sender's inputs, by serial id."""

    TYPE = 71
    channel_id: ChannelId
    txid: Sha256
    witnesses: Annotated[tuple[bytes, ...], Counted(Counted())] = ()
    shared_input_signature: Annotated[bytes | None, Record(0, SIGNATURE)] = None


class TxInitRbf(Message, frozen=True):
    """`tx_init_rbf`: replaces the unconfirmed transaction by one of a higher feerate."""

    TYPE = 72
    channel_id: ChannelId
    locktime: U32
    feerate: U32
    funding_output_contribution: Annotated[int | None, Record(0, Fixed("q"))] = None
    require_confirmed_inputs: Annotated[bool, Record(2, Flag())] = False


class TxAckRbf(Message, frozen=True):
    """`tx_ack_rbf`: agrees to the replacement."""

    TYPE = 73
    channel_id: ChannelId
    funding_output_contribution: Annotated[int | None, Record(0, Fixed("q"))] = None
    require_confirmed_inputs: Annotated[bool, Record(2, Flag())] = False


class TxAbort(Message, frozen=True):
    """`tx_abort`: gives the negotiation up, the channel stays."""

    TYPE = 74
    channel_id: ChannelId
    data: CountedBytes = b""


class SpliceInit(Message, frozen=True):
    """`splice_init`: proposes a new funding; a negative contribution takes out."""

    TYPE = 80
    channel_id: ChannelId
    funding_contribution_satoshis: SatS64
    funding_feerate_perkw: U32
    locktime: U32
    funding_pubkey: Point
    require_confirmed_inputs: Annotated[bool, Record(2, Flag())] = False


class SpliceAck(Message, frozen=True):
    """`splice_ack`: agrees, and contributes too."""

    TYPE = 81
    channel_id: ChannelId
    funding_contribution_satoshis: SatS64
    funding_pubkey: Point
    require_confirmed_inputs: Annotated[bool, Record(2, Flag())] = False


class SpliceLocked(Message, frozen=True):
    """`splice_locked`: the new funding is deep enough."""

    TYPE = 77
    channel_id: ChannelId
    splice_txid: Sha256
