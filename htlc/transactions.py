"""Commitment, second-stage and closing transactions, and what they cost (BOLT 3).

A commitment is packed as bytes, not built as a `Transaction`: a busy channel only needs the
digests that are signed, again for every HTLC with every commitment, so the objects are made when
something goes to the chain. Designs that were slower: one `Transaction` per second stage (four
times), and one call per digest (see `one_to_one_sighashes`).

"Owner" is whose commitment it is, "other" the side that signs it for the owner to keep.
"""

import struct
from collections.abc import Iterable, Sequence
from enum import Enum
from functools import cached_property, lru_cache
from hashlib import sha256 as _sha256

import msgspec

from htlc.keys import CommitmentKeys
from htlc.scripts import anchor, htlc_scripts, ripemd160_of_hash, to_local, to_remote_anchors
from wire.bitcoin.script import OP_RETURN, P2A, P2WSH_PREFIX, p2wpkh, p2wsh, push_number, witness_program
from wire.bitcoin.sighash import (
    SIGHASH_ALL,
    SIGHASH_SINGLE_ANYONECANPAY,
    one_input_sighash,
    one_to_one_sighashes,
    segwit_v0_sighash,
    witness_signature,
)
from wire.bitcoin.tx import (
    FINAL_SEQUENCE,
    OutPoint,
    Transaction,
    TxIn,
    TxOut,
    compact_size,
    parse_transaction,
    sized,
)
from wire.crypto.hashes import sha256, sha256d
from wire.crypto.secp256k1 import Point, Signature
from wire.units import Msat, Sat

# b3-transactions.6
COMMITMENT_WEIGHT = 724
COMMITMENT_WEIGHT_ANCHORS = 1124
HTLC_OUTPUT_WEIGHT = 172
HTLC_TIMEOUT_WEIGHT = 663
HTLC_TIMEOUT_WEIGHT_ANCHORS = 666
HTLC_SUCCESS_WEIGHT = 703
HTLC_SUCCESS_WEIGHT_ANCHORS = 706
ANCHOR_SAT = Sat(330)

_LOWER_24_BITS = 0xFFFFFF
_u32, _u64 = struct.Struct("<I").pack, struct.Struct("<Q").pack


class ChannelFormat(Enum):
    """What a channel type means for its transactions."""

    STATIC_REMOTEKEY = "static_remotekey"
    ANCHORS = "anchors"


class HtlcOut(msgspec.Struct, frozen=True, gc=False):
    """An HTLC as one commitment shows it. `is_offered` is seen from the commitment's owner."""

    is_offered: bool
    amount_msat: Msat
    payment_hash: bytes
    cltv_expiry: int
    id: int


class CommitmentSpec(msgspec.Struct, frozen=True, gc=False):
    """What a commitment of some number contains. Balances are before fee and anchors, after HTLCs."""

    number: int
    feerate_per_kw: int
    to_owner_msat: Msat
    to_other_msat: Msat
    htlcs: tuple[HtlcOut, ...] = ()


class CommitmentParams(msgspec.Struct, frozen=True, gc=False):
    """What all commitments of one owner share. `funding_script` is the 2-of-2 witness script."""

    format: ChannelFormat
    funding_outpoint: OutPoint
    funding_sat: Sat
    funding_script: bytes
    obscuring_factor: int
    dust_limit_sat: Sat
    to_self_delay: int
    is_owner_opener: bool
    owner_funding_pubkey: Point
    other_funding_pubkey: Point

    @property
    def is_anchors(self) -> bool:
        return self.format is ChannelFormat.ANCHORS


def obscuring_factor(opener_payment_basepoint: Point, accepter_payment_basepoint: Point) -> int:
    """The 48 bits that hide a commitment's number on chain (BOLT 3, commitment transaction)."""
    # b3-transactions.2: the opener's basepoint comes first, whoever owns the commitment
    return int.from_bytes(sha256(opener_payment_basepoint, accepter_payment_basepoint)[-6:], "big")


def number_of_commitment(tx: Transaction, factor: int) -> int | None:
    """The number that a commitment hides, or None when the transaction is no commitment."""
    sequence, locktime = tx.inputs[0].sequence, tx.locktime
    if len(tx.inputs) != 1 or sequence >> 24 != 0x80 or locktime >> 24 != 0x20:
        return None
    return ((sequence & _LOWER_24_BITS) << 24 | locktime & _LOWER_24_BITS) ^ factor


# Fees and dust


def commitment_fee_sat(channel_format: ChannelFormat, feerate_per_kw: int, untrimmed: int) -> Sat:
    """The base fee of a commitment with that many untrimmed HTLCs. The opener pays it."""
    base = COMMITMENT_WEIGHT_ANCHORS if channel_format is ChannelFormat.ANCHORS else COMMITMENT_WEIGHT
    return Sat(feerate_per_kw * (base + HTLC_OUTPUT_WEIGHT * untrimmed) // 1000)


def anchors_sat(channel_format: ChannelFormat) -> Sat:
    """What the opener sets aside for anchors, even when one of them is left out."""
    # b3-transactions.4
    return Sat(2 * ANCHOR_SAT if channel_format is ChannelFormat.ANCHORS else 0)


def second_stage_fee_sat(channel_format: ChannelFormat, feerate_per_kw: int, is_offered: bool) -> Sat:
    """The fee of an HTLC-timeout (offered) or HTLC-success transaction; nothing under anchors."""
    if channel_format is ChannelFormat.ANCHORS:
        return Sat(0)
    return Sat(feerate_per_kw * (HTLC_TIMEOUT_WEIGHT if is_offered else HTLC_SUCCESS_WEIGHT) // 1000)


def trim_limit_msat(
    channel_format: ChannelFormat, dust_limit_sat: int, feerate_per_kw: int, is_offered: bool
) -> Msat:
    """The smallest HTLC that gets an output."""
    # b3-transactions.5: the owner's dust limit, on top of what the second stage costs
    return Msat(1000 * (dust_limit_sat + second_stage_fee_sat(channel_format, feerate_per_kw, is_offered)))


def is_trimmed(
    channel_format: ChannelFormat, dust_limit_sat: int, feerate_per_kw: int, htlc: HtlcOut
) -> bool:
    """Whether the HTLC has no output in a commitment whose owner has this dust limit."""
    return htlc.amount_msat < trim_limit_msat(channel_format, dust_limit_sat, feerate_per_kw, htlc.is_offered)


def count_untrimmed(
    channel_format: ChannelFormat, dust_limit_sat: int, feerate_per_kw: int, htlcs: Iterable[HtlcOut]
) -> int:
    """How many of the HTLCs have an output."""
    offered = trim_limit_msat(channel_format, dust_limit_sat, feerate_per_kw, True)
    received = trim_limit_msat(channel_format, dust_limit_sat, feerate_per_kw, False)
    return sum([htlc.amount_msat >= (offered if htlc.is_offered else received) for htlc in htlcs])


def dust_limit_for(output_script: bytes) -> Sat:
    """Below this value the network does not relay such an output (BOLT 3, dust limits)."""
    if output_script[:1] == bytes((OP_RETURN,)):
        return Sat(0)
    program = witness_program(output_script)
    if program is None:
        # an input of 148 bytes must be worth spending at 3 sat per byte
        return Sat(3 * (8 + len(sized(output_script)) + 148))
    version, content = program
    if version == 0:
        return Sat(294 if len(content) == 20 else 330)
    return Sat(240 if output_script == P2A else 354)


# Commitments


class _Siblings(msgspec.Struct, frozen=True, gc=False):
    """What the second stages of one commitment share."""

    txid: bytes
    delayed_script: bytes
    format: ChannelFormat
    feerate_per_kw: int


class SecondStage(msgspec.Struct, frozen=True, gc=False):
    """An untrimmed HTLC of a commitment, and the transaction by which its owner resolves it."""

    htlc: HtlcOut
    output_index: int
    witness_script: bytes
    sighash_for_other: bytes
    siblings: _Siblings

    @property
    def value_sat(self) -> Sat:
        """The value of the commitment's output."""
        return Sat(self.htlc.amount_msat // 1000)

    @property
    def sighash_type(self) -> int:
        """How the other side signs: under anchors the owner may add inputs to pay a fee."""
        return _sighash_type_of_other(self.siblings.format)

    @property
    def tx(self) -> Transaction:
        """The HTLC-timeout or HTLC-success transaction, without its witness."""
        htlc, siblings = self.htlc, self.siblings
        fee_sat = second_stage_fee_sat(siblings.format, siblings.feerate_per_kw, htlc.is_offered)
        txin = TxIn(OutPoint(siblings.txid, self.output_index), _second_stage_sequence(siblings.format))
        txout = TxOut(Sat(self.value_sat - fee_sat), siblings.delayed_script)
        return Transaction(2, (txin,), (txout,), htlc.cltv_expiry if htlc.is_offered else 0)

    @property
    def sighash_for_owner(self) -> bytes:
        """The digest that the owner signs before it publishes."""
        return segwit_v0_sighash(self.tx, 0, self.witness_script, self.value_sat)


class Commitment(msgspec.Struct, frozen=True, dict=True):
    """A commitment transaction, the digest both sides sign, and its HTLCs in output order.

    `fee_sat` is what miners get, so trimmed outputs count. It falls below `commitment_fee_sat`
    only if the opener cannot pay.
    """

    unsigned: bytes
    sighash: bytes
    htlcs: tuple[SecondStage, ...]
    fee_sat: Sat

    @cached_property
    def tx(self) -> Transaction:
        """The transaction, without its witness."""
        return parse_transaction(self.unsigned)

    @cached_property
    def txid(self) -> bytes:
        return sha256d(self.unsigned)


# An output in the order of the spec: value_sat, script, cltv_expiry, id; then what belongs to it.
# Values and scripts of HTLCs tie only between HTLCs of one side, whose ids differ.
_Output = tuple[int, bytes, int, int, HtlcOut | None, bytes]


def _sighash_type_of_other(channel_format: ChannelFormat) -> int:
    return SIGHASH_SINGLE_ANYONECANPAY if channel_format is ChannelFormat.ANCHORS else SIGHASH_ALL


def _second_stage_sequence(channel_format: ChannelFormat) -> int:
    return 1 if channel_format is ChannelFormat.ANCHORS else 0


def _htlc_outputs(params: CommitmentParams, keys: CommitmentKeys, spec: CommitmentSpec) -> list[_Output]:
    if not spec.htlcs:
        return []
    scripts = htlc_scripts(keys.revocation, keys.owner_htlc, keys.other_htlc, is_anchors=params.is_anchors)
    offered_head, offered_tail = scripts.offered_head, scripts.offered_tail
    received_head, received_middle = scripts.received_head, scripts.received_middle
    limits = params.format, params.dust_limit_sat, spec.feerate_per_kw
    offered_limit_msat, received_limit_msat = trim_limit_msat(*limits, True), trim_limit_msat(*limits, False)
    outputs: list[_Output] = []
    for htlc in spec.htlcs:
        amount_msat, cltv_expiry = htlc.amount_msat, htlc.cltv_expiry
        if htlc.is_offered:
            if amount_msat < offered_limit_msat:
                continue
            script = offered_head + ripemd160_of_hash(htlc.payment_hash) + offered_tail
        else:
            if amount_msat < received_limit_msat:
                continue
            script = b"%b%b%b%b%b" % (
                received_head,
                ripemd160_of_hash(htlc.payment_hash),
                received_middle,
                push_number(cltv_expiry),
                scripts.received_tail,
            )
        output_script = P2WSH_PREFIX + _sha256(script).digest()
        outputs.append((amount_msat // 1000, output_script, cltv_expiry, htlc.id, htlc, script))
    return outputs


def _balances_sat(params: CommitmentParams, spec: CommitmentSpec, untrimmed: int) -> tuple[int, int]:
    """To the owner and to the other side, once the opener has paid what it can."""
    cost_sat = commitment_fee_sat(params.format, spec.feerate_per_kw, untrimmed) + anchors_sat(params.format)
    to_owner_sat, to_other_sat = spec.to_owner_msat // 1000, spec.to_other_msat // 1000
    if params.is_owner_opener:
        return max(0, to_owner_sat - cost_sat), to_other_sat
    return to_owner_sat, max(0, to_other_sat - cost_sat)


@lru_cache(maxsize=4096)
def to_remote_output(channel_format: ChannelFormat, payment: Point) -> bytes:
    """The output script of the other side's balance: always the same in one channel."""
    # b3-transactions.3
    return p2wsh(to_remote_anchors(payment)) if channel_format is ChannelFormat.ANCHORS else p2wpkh(payment)


@lru_cache(maxsize=4096)
def anchor_output(funding_pubkey: Point) -> bytes:
    """The output script of a side's anchor: always the same in one channel."""
    return p2wsh(anchor(funding_pubkey))


def _balance_outputs(
    params: CommitmentParams,
    keys: CommitmentKeys,
    spec: CommitmentSpec,
    untrimmed: int,
    delayed_script: bytes,
) -> list[_Output]:
    """The owner's balance, the other side's, and the anchors: whichever of them exist."""
    to_owner_sat, to_other_sat = _balances_sat(params, spec, untrimmed)
    scripts = []
    if is_owner_paid := to_owner_sat >= params.dust_limit_sat:
        scripts.append((to_owner_sat, delayed_script))
    if is_other_paid := to_other_sat >= params.dust_limit_sat:
        scripts.append((to_other_sat, to_remote_output(params.format, keys.other_payment)))
    if params.is_anchors:
        # b3-transactions.4: a side with nothing in the commitment needs no anchor
        if is_owner_paid or untrimmed:
            scripts.append((ANCHOR_SAT, anchor_output(params.owner_funding_pubkey)))
        if is_other_paid or untrimmed:
            scripts.append((ANCHOR_SAT, anchor_output(params.other_funding_pubkey)))
    return [(value_sat, script, 0, 0, None, b"") for value_sat, script in scripts]


def _second_stages(outputs: list[_Output], siblings: _Siblings) -> tuple[SecondStage, ...]:
    channel_format, feerate_per_kw = siblings.format, siblings.feerate_per_kw
    timeout_fee_sat = second_stage_fee_sat(channel_format, feerate_per_kw, True)
    success_fee_sat = second_stage_fee_sat(channel_format, feerate_per_kw, False)
    found, spends = [], []
    for index, (value_sat, _, cltv_expiry, _, htlc, script) in enumerate(outputs):
        if htlc is None:
            continue
        found.append((htlc, index, script))
        if htlc.is_offered:
            spends.append((index, script, value_sat, value_sat - timeout_fee_sat, cltv_expiry))
        else:
            spends.append((index, script, value_sat, value_sat - success_fee_sat, 0))
    if not found:
        return ()
    digests = one_to_one_sighashes(
        siblings.txid,
        siblings.delayed_script,
        _second_stage_sequence(channel_format),
        _sighash_type_of_other(channel_format),
        spends,
    )
    return tuple(
        [
            SecondStage(htlc, index, script, digest, siblings)
            for (htlc, index, script), digest in zip(found, digests, strict=True)
        ]
    )


def build_commitment(params: CommitmentParams, keys: CommitmentKeys, spec: CommitmentSpec) -> Commitment:
    """The owner's commitment transaction of this content, with all that has to be signed."""
    delayed_script = p2wsh(to_local(keys.revocation, params.to_self_delay, keys.local_delayed))
    outputs = _htlc_outputs(params, keys, spec)
    outputs += _balance_outputs(params, keys, spec, len(outputs), delayed_script)
    # b3-transactions.1
    outputs.sort()
    packed = b"".join([b"%b%c%b" % (_u64(output[0]), len(output[1]), output[1]) for output in outputs])
    # b3-transactions.2: the number hides in sequence (upper half) and locktime (lower half)
    obscured = spec.number ^ params.obscuring_factor
    sequence, locktime = 0x80 << 24 | obscured >> 24, 0x20 << 24 | obscured & _LOWER_24_BITS
    head = b"\x02\x00\x00\x00\x01" + params.funding_outpoint.serialize() + b"\x00" + _u32(sequence)
    unsigned = head + compact_size(len(outputs)) + packed + _u32(locktime)
    siblings = _Siblings(sha256d(unsigned), delayed_script, params.format, spec.feerate_per_kw)
    sighash = one_input_sighash(
        params.funding_outpoint, sequence, params.funding_script, params.funding_sat, packed, locktime
    )
    paid_sat = sum([output[0] for output in outputs])
    return Commitment(
        unsigned, sighash, _second_stages(outputs, siblings), Sat(params.funding_sat - paid_sat)
    )


# Witnesses


def funding_witness(
    funding_script: bytes, pubkey_a: Point, signature_a: Signature, pubkey_b: Point, signature_b: Signature
) -> tuple[bytes, ...]:
    """What spends the funding output: both signatures, in the order of the sorted keys."""
    (_, low), (_, high) = sorted(((pubkey_a, signature_a), (pubkey_b, signature_b)))
    return b"", witness_signature(low), witness_signature(high), funding_script


def htlc_timeout_witness(
    second: SecondStage, signature_of_other: Signature, signature_of_owner: Signature
) -> tuple[bytes, ...]:
    """What lets the owner take back an offered HTLC after its expiry."""
    return htlc_success_witness(second, signature_of_other, signature_of_owner, b"")


def htlc_success_witness(
    second: SecondStage, signature_of_other: Signature, signature_of_owner: Signature, preimage: bytes
) -> tuple[bytes, ...]:
    """What lets the owner claim a received HTLC with its preimage."""
    of_other = witness_signature(signature_of_other, second.sighash_type)
    return b"", of_other, witness_signature(signature_of_owner), preimage, second.witness_script


# Closing


class ClosingOutput(msgspec.Struct, frozen=True, gc=False):
    """What one side gets at closing, its fee already taken off; left out below `dust_limit_sat`."""

    value_sat: Sat
    script: bytes
    dust_limit_sat: Sat = Sat(0)


class ClosingTx(msgspec.Struct, frozen=True, gc=False):
    """A mutual close: the transaction without its witness, the digest to sign, and its fee."""

    tx: Transaction
    sighash: bytes
    fee_sat: Sat


def build_closing_tx(
    funding_outpoint: OutPoint,
    funding_sat: Sat,
    funding_script: bytes,
    outputs: Sequence[ClosingOutput],
    *,
    sequence: int = FINAL_SEQUENCE,
    locktime: int = 0,
) -> ClosingTx:
    """The transaction that both sides close the channel with (BOLT 3, legacy closing).

    The defaults are those of `closing_signed`. For `closing_complete` give its locktime and
    the sequence 0xFFFFFFFD.
    """
    kept = [
        (output.value_sat, output.script) for output in outputs if output.value_sat >= output.dust_limit_sat
    ]
    txouts = tuple([TxOut(value_sat, script) for value_sat, script in sorted(kept)])
    tx = Transaction(2, (TxIn(funding_outpoint, sequence),), txouts, locktime)
    sighash = segwit_v0_sighash(tx, 0, funding_script, funding_sat)
    return ClosingTx(tx, sighash, Sat(funding_sat - sum([value_sat for value_sat, _ in kept])))
