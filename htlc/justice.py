"""What takes a revoked commitment from a cheat, signed long before it cheats (BOLT 5, BOLT 3).

A `Justice` is made when a revocation comes: our signatures for every output of the commitment
that the peer has just given up, so that somebody else can publish them while we are away. It is
signatures and no key. The revocation key of one commitment, together with the secret that the
peer holds, gives away our revocation secret, so a watchtower that had it could serve the peer.

Each output goes alone, in a transaction of its own at each of a few feerates, each replacing the
one before: whoever publishes them cannot sign and needs no money. One transaction that takes all
was rejected: it saves 6% of the fees, and the peer breaks it by spending any one HTLC.

Of the peer's HTLC transactions made from a revoked commitment, those without anchors are known in
advance, since both have signed them whole; their outputs are signed for here too. With anchors
the peer adds inputs at will, nobody knows their txid, and what they pay can be taken only by us,
within the delay. So with anchors a peer that is faster than the penalty defers it.
"""

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Annotated

import msgspec

from htlc.channel import Channel, commitment_params
from htlc.keys import ChannelSecrets, CommitmentKeys, commitment_keys, revocation_privkey
from htlc.ladder import REMOTE, Htlc
from htlc.market import LOWEST_FEERATE_PER_KW
from htlc.resolution_claims import fee_for
from htlc.resolution_identify import htlcs_in
from htlc.scripts import htlc_scripts, revoked_htlc_witness, revoked_witness, to_local
from htlc.transactions import (
    ChannelFormat,
    Commitment,
    CommitmentSpec,
    HtlcOut,
    SecondStage,
    build_commitment,
    dust_limit_for,
)
from wire.bitcoin.script import p2wsh
from wire.bitcoin.sighash import segwit_v0_sighash
from wire.bitcoin.tx import REPLACEABLE_SEQUENCE, OutPoint, Transaction, TxIn, TxOut, compact_size
from wire.crypto import secp256k1
from wire.crypto.secp256k1 import Point, Secret, Signature, point_of
from wire.units import Msat, Sat

FEERATES_PER_KW = (2_500, 12_500, 50_000)
"""10, 50 and 200 sat a virtual byte: nobody knows today what the day of the breach asks for."""
MOST_VERSIONS = 8

_SIGNATURE_BYTES = 72  # in a witness, at most
_BASE_WEIGHT = 4 * (4 + 1 + 41 + 1 + 9 + 4) + 2  # one input, one output of an empty script

_Point = Annotated[bytes, msgspec.Meta(min_length=33, max_length=33)]
_Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
_Signatures = Annotated[tuple[_Signature, ...], msgspec.Meta(max_length=MOST_VERSIONS)]
_Index = Annotated[int, msgspec.Meta(ge=0, lt=2**16)]
_U32 = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
_Feerates = Annotated[tuple[_U32, ...], msgspec.Meta(min_length=1, max_length=MOST_VERSIONS)]
_Hash = Annotated[bytes, msgspec.Meta(max_length=32)]
_Script = Annotated[bytes, msgspec.Meta(min_length=1, max_length=80)]


class Balances(msgspec.Struct, frozen=True, gc=False):
    """What a commitment of the peer held beside its HTLCs; with those it can be built again."""

    number: int
    feerate_per_kw: int
    to_owner_msat: int
    to_other_msat: int


class Role(IntEnum):
    """What a forfeited output was, seen from the cheat."""

    TO_LOCAL = 0
    OFFERED = 1
    RECEIVED = 2


class Prize(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An output that the cheat forfeits, and our signatures for it, one for each feerate."""

    index: _Index
    role: Role
    signatures: _Signatures
    staged_signatures: _Signatures = ()  # for what its HTLC transaction pays, where that is known
    payment_hash: _Hash = b""
    cltv_expiry: _U32 = 0


class Justice(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """All that it takes to punish one revoked commitment, besides that commitment itself."""

    format: ChannelFormat
    revocation: _Point
    delayed: _Point
    owner_htlc: _Point
    other_htlc: _Point
    to_self_delay: _U32
    script: _Script  # where it all goes
    feerates_per_kw: _Feerates
    prizes: tuple[Prize, ...]

    @property
    def delayed_script(self) -> bytes:
        """The witness script of to_local, and of what HTLC transactions pay."""
        return to_local(self.revocation, self.to_self_delay, self.delayed)

    def witness_script(self, prize: Prize) -> bytes:
        """The witness script of an output of the commitment."""
        if prize.role is Role.TO_LOCAL:
            return self.delayed_script
        is_anchors = self.format is ChannelFormat.ANCHORS
        scripts = htlc_scripts(self.revocation, self.owner_htlc, self.other_htlc, is_anchors=is_anchors)
        if prize.role is Role.OFFERED:
            return scripts.offered(prize.payment_hash)
        return scripts.received(prize.payment_hash, prize.cltv_expiry)


# The commitment that was revoked


def balances_now(channel: Channel) -> Balances:
    """What the peer's newest commitment holds beside its HTLCs."""
    spec = channel.spec(REMOTE, channel.number.remote)
    return Balances(spec.number, spec.feerate_per_kw, spec.to_owner_msat, spec.to_other_msat)


def commitment_again(
    channel: Channel, keys: CommitmentKeys, balances: Balances, past: Sequence[Htlc]
) -> Commitment:
    """A commitment of the peer as it once was. `past` are its HTLCs that are settled now."""
    htlcs = [
        HtlcOut(htlc.proposer is REMOTE, htlc.amount_msat, htlc.payment_hash, htlc.cltv_expiry, htlc.id)
        for htlc in htlcs_in(channel, balances.number, past)
    ]
    spec = CommitmentSpec(
        balances.number,
        balances.feerate_per_kw,
        Msat(balances.to_owner_msat),
        Msat(balances.to_other_msat),
        tuple(htlcs),
    )
    return build_commitment(commitment_params(channel.charter, REMOTE), keys, spec)


# Making justice


def justice_for(
    channel: Channel,
    secrets: ChannelSecrets,
    balances: Balances,
    past: Sequence[Htlc],
    script: bytes,
    feerates_per_kw: tuple[int, ...] = FEERATES_PER_KW,
) -> tuple[bytes, Justice | None]:
    """The txid of a commitment that the peer has revoked, and what takes all of it to `script`.

    No justice if none of its outputs is worth the lowest fee.
    """
    # b5-on-chain.6
    revealed = channel.shachain.secret_of_commitment(balances.number)
    assert revealed is not None, "justice is for what was revoked"
    basepoints = channel.charter.basepoints
    keys = commitment_keys(basepoints.remote, basepoints.local, point_of(revealed))
    commitment = commitment_again(channel, keys, balances, past)
    empty = Justice(
        channel.charter.format,
        keys.revocation,
        keys.local_delayed,
        keys.owner_htlc,
        keys.other_htlc,
        commitment_params(channel.charter, REMOTE).to_self_delay,
        script,
        feerates_per_kw,
        (),
    )
    pen = _Pen(empty, commitment, revocation_privkey(secrets.revocation, revealed))
    prizes = tuple(pen.prizes())
    return commitment.txid, msgspec.structs.replace(empty, prizes=prizes) if prizes else None


class _Pen:
    """Signs for the outputs of one commitment."""

    def __init__(self, justice: Justice, commitment: Commitment, key: Secret) -> None:
        self.justice, self.commitment, self.key = justice, commitment, key

    def prizes(self) -> Iterator[Prize]:
        """Every output that is worth its fee."""
        commitment, delayed = self.commitment, p2wsh(self.justice.delayed_script)
        for index, output in enumerate(commitment.tx.outputs):
            if output.script == delayed:
                outpoint = OutPoint(commitment.txid, index)
                signatures = self._sign(outpoint, output.value_sat, self.justice.delayed_script)
                if signatures:
                    yield Prize(index, Role.TO_LOCAL, signatures)
        for second in commitment.htlcs:
            outpoint = OutPoint(commitment.txid, second.output_index)
            signatures = self._sign(outpoint, second.value_sat, second.witness_script, is_htlc=True)
            if signatures:
                yield self._prize(second, signatures)

    def _prize(self, second: SecondStage, signatures: tuple[Signature, ...]) -> Prize:
        htlc = second.htlc
        role = Role.OFFERED if htlc.is_offered else Role.RECEIVED
        staged: tuple[Signature, ...] = ()
        if self.justice.format is ChannelFormat.STATIC_REMOTEKEY:
            made = second.tx
            staged = self._sign(made.outpoint(0), made.outputs[0].value_sat, self.justice.delayed_script)
        return Prize(second.output_index, role, signatures, staged, htlc.payment_hash, htlc.cltv_expiry)

    def _sign(
        self, outpoint: OutPoint, value_sat: Sat, witness_script: bytes, *, is_htlc: bool = False
    ) -> tuple[Signature, ...]:
        unsigned = _unsigned(self.justice, outpoint, value_sat, witness_script, is_htlc)
        digests = [segwit_v0_sighash(tx, 0, witness_script, value_sat) for tx in unsigned]
        return tuple([secp256k1.sign(self.key, digest) for digest in digests])


# Penalty transactions, for who signs them and for who publishes them


def penalty_weight(script: bytes, witness_script: bytes, *, is_htlc: bool) -> int:
    """The weight of a penalty transaction that pays to `script`, at most."""
    witness = 1 + 1 + _SIGNATURE_BYTES + 1 + (33 if is_htlc else 1)
    witness += len(compact_size(len(witness_script))) + len(witness_script)
    return _BASE_WEIGHT + 4 * len(script) + witness


def _unsigned(
    justice: Justice, outpoint: OutPoint, value_sat: Sat, witness_script: bytes, is_htlc: bool
) -> list[Transaction]:
    """The penalty for one output at each feerate; none if it is not worth the lowest fee."""
    weight = penalty_weight(justice.script, witness_script, is_htlc=is_htlc)
    # an output that somebody contests is rather left to the miners than to the cheat
    most_sat = value_sat - dust_limit_for(justice.script)
    if most_sat < fee_for(weight, LOWEST_FEERATE_PER_KW):
        return []
    fees_sat = [min(fee_for(weight, rate), most_sat) for rate in justice.feerates_per_kw]
    txin = TxIn(outpoint, REPLACEABLE_SEQUENCE)
    return [Transaction(2, (txin,), (TxOut(Sat(value_sat - fee), justice.script),)) for fee in fees_sat]


def penalties(justice: Justice, commitment: Transaction, prize: Prize) -> tuple[Transaction, ...]:
    """What takes this output of the published commitment, the cheapest first; none if it does not hold."""
    if prize.index >= len(commitment.outputs):
        return ()
    output, witness_script = commitment.outputs[prize.index], justice.witness_script(prize)
    if output.script != p2wsh(witness_script):
        return ()
    outpoint, is_htlc = commitment.outpoint(prize.index), prize.role is not Role.TO_LOCAL
    return _signed(justice, outpoint, output, witness_script, prize.signatures, is_htlc=is_htlc)


def staged_penalties(
    justice: Justice, made: Transaction, signatures: Sequence[Signature]
) -> tuple[Transaction, ...]:
    """What takes the output of an HTLC transaction that the cheat has made; none if it cannot be taken."""
    witness_script, output = justice.delayed_script, made.outputs[0]
    if output.script != p2wsh(witness_script):
        return ()
    return _signed(justice, made.outpoint(0), output, witness_script, signatures, is_htlc=False)


def _signed(
    justice: Justice,
    outpoint: OutPoint,
    output: TxOut,
    witness_script: bytes,
    signatures: Sequence[Signature],
    *,
    is_htlc: bool,
) -> tuple[Transaction, ...]:
    unsigned = _unsigned(justice, outpoint, output.value_sat, witness_script, is_htlc)
    if len(signatures) != len(unsigned):
        return ()
    signed = []
    for tx, signature in zip(unsigned, signatures, strict=True):
        digest = segwit_v0_sighash(tx, 0, witness_script, output.value_sat)
        if not secp256k1.is_signed(justice.revocation, digest, signature):
            return ()
        signed.append(tx.with_witness(0, _witness(witness_script, signature, justice.revocation, is_htlc)))
    return tuple(signed)


def _witness(
    witness_script: bytes, signature: Signature, revocation: Point, is_htlc: bool
) -> tuple[bytes, ...]:
    if is_htlc:
        return revoked_htlc_witness(witness_script, signature, revocation)
    return revoked_witness(witness_script, signature)
