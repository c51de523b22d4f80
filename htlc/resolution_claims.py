"""The transactions that take what is ours from a closed channel, and their fees (BOLT 5).

Most pay their fee from what they take. HTLC transactions of our own commitment cannot: without
anchors the fee is fixed by both signatures, with anchors the wallet adds inputs. A fee never
reaches the value that it saves; what is not worth its fee at the lowest feerate is left.
"""

from collections.abc import Sequence

import msgspec

from htlc.channel import Channel, commitment_params
from htlc.effects import Fund, FundInput
from htlc.keys import ChannelSecrets, derive_privkey, revocation_privkey
from htlc.ladder import LOCAL, Fulfilled
from htlc.market import LOWEST_FEERATE_PER_KW
from htlc.resolution_identify import Kind, Output, Spent, keys_of
from htlc.scripts import (
    anchor,
    claim_witness,
    delayed_witness,
    expired_witness,
    one_key_witness,
    revoked_htlc_witness,
    revoked_witness,
)
from htlc.transactions import (
    ChannelFormat,
    SecondStage,
    anchor_output,
    dust_limit_for,
    funding_witness,
    htlc_success_witness,
    htlc_timeout_witness,
)
from wire.bitcoin.script import p2wsh
from wire.bitcoin.sighash import p2wpkh_script_code, segwit_v0_sighash, witness_signature
from wire.bitcoin.tx import REPLACEABLE_SEQUENCE, OutPoint, Transaction, TxIn, TxOut
from wire.crypto import secp256k1
from wire.crypto.hashes import hash160
from wire.crypto.secp256k1 import Secret, Signature
from wire.units import Sat

RELAY_SAT_PER_KVB = 1000  # what a replacement must pay on top, for its own size
MOST_INPUTS = 100

_SIGNATURE = b"\x7f" * 64  # makes a DER signature of 70 bytes; one of ours has at most 71
_LONGER_SIGNATURE = 2
_SWEEP_WEIGHT = 4 * 82 + 2 + 156  # of a to_local alone, to a P2WPKH
_WALLET_WEIGHT = 4 * 41 + 108 + 4 * 31 + 2  # one P2WPKH input, and change


class Claim(msgspec.Struct, frozen=True):
    """A transaction of ours that spends some of the outputs."""

    outpoints: tuple[OutPoint, ...]
    transaction: Transaction
    fee_sat: Sat
    feerate_per_kw: int
    since: int  # the height at which we first claimed these outputs
    height: int  # the height at which we made this version
    is_fixed: bool = False  # both sides signed its fee
    is_funded: bool = False  # the wallet pays its fee


class Scene(msgspec.Struct, frozen=True):
    """What every claim on one commitment needs to be signed. `script` is where they pay."""

    channel: Channel
    secrets: ChannelSecrets
    spent: Spent
    script: bytes
    height: int

    @property
    def is_anchors(self) -> bool:
        return self.channel.charter.format is ChannelFormat.ANCHORS


_SWEPT = (Kind.TO_LOCAL, Kind.TO_REMOTE)
RECEIVED = (Kind.RECEIVED, Kind.RECEIVED_IN_THEIRS)


def is_contested(output: Output) -> bool:
    """Whether somebody else may come to spend it too."""
    return output.kind not in _SWEPT


def locktime_of(output: Output) -> int:
    """The block up to which an HTLC that we offered is not ours to take back."""
    return output.cltv_expiry if output.kind in (Kind.OFFERED, Kind.OFFERED_IN_THEIRS) else 0


def preimage_for(channel: Channel, output: Output) -> bytes | None:
    """The preimage of an HTLC that we received, if it is ours to reveal."""
    # b5-on-chain.3: only one that we have decided to fulfil, which we do for irrevocable HTLCs alone
    htlc = channel.htlcs.remote.get(output.htlc_id) if output.kind in RECEIVED else None
    return htlc.outcome.payment_preimage if htlc and isinstance(htlc.outcome, Fulfilled) else None


def is_ripe(scene: Scene, output: Output) -> bool:
    """Whether a transaction that spends the output may be in the next block."""
    match output.kind:
        case Kind.TO_LOCAL:
            return scene.height + 1 >= output.height + _to_self_delay(scene.channel)
        case Kind.OFFERED | Kind.OFFERED_IN_THEIRS:
            return scene.height >= output.cltv_expiry
        case Kind.RECEIVED | Kind.RECEIVED_IN_THEIRS:
            return preimage_for(scene.channel, output) is not None
        case Kind.OPAQUE:
            return False
    return True


def _to_self_delay(channel: Channel) -> int:
    return commitment_params(channel.charter, LOCAL).to_self_delay


# Claims that pay their own fee


def sweep(scene: Scene, outputs: Sequence[Output], feerate_per_kw: int) -> Claim | None:
    """Take the outputs to our wallet; None if they are not worth the lowest fee."""
    value_sat = sum(output.value_sat for output in outputs)
    weight = _swept(scene, outputs, value_sat).weight + _LONGER_SIGNATURE * len(outputs)
    most_sat = value_sat - dust_limit_for(scene.script)
    if not is_contested(outputs[0]):
        # nobody else can take it, so there is no hurry
        most_sat = min(most_sat, value_sat // 2)
    if most_sat < fee_for(weight, LOWEST_FEERATE_PER_KW):
        return None
    fee_sat = min(fee_for(weight, feerate_per_kw), most_sat)
    return Claim(
        tuple([output.outpoint for output in outputs]),
        _swept(scene, outputs, value_sat - fee_sat),
        Sat(fee_sat),
        fee_sat * 1000 // weight,
        scene.height,
        scene.height,
    )


def fee_for(weight: int, feerate_per_kw: int) -> int:
    """The fee in satoshi, rounded up."""
    return -(-weight * feerate_per_kw // 1000)


def _swept(scene: Scene, outputs: Sequence[Output], value_sat: int) -> Transaction:
    inputs = tuple([TxIn(output.outpoint, _sequence(scene, output)) for output in outputs])
    unsigned = Transaction(2, inputs, (TxOut(Sat(value_sat), scene.script),), locktime_of(outputs[0]))
    signed = [
        TxIn(txin.outpoint, txin.sequence, _witness(scene, unsigned, index, output))
        for index, (txin, output) in enumerate(zip(inputs, outputs, strict=True))
    ]
    return Transaction(2, tuple(signed), unsigned.outputs, unsigned.locktime)


def _sequence(scene: Scene, output: Output) -> int:
    match output.kind:
        case Kind.TO_LOCAL:
            return _to_self_delay(scene.channel)
        case Kind.TO_REMOTE | Kind.OFFERED_IN_THEIRS | Kind.RECEIVED_IN_THEIRS:
            # b5-on-chain.4: under anchors every path of the other side waits for one block
            return 1 if scene.is_anchors else REPLACEABLE_SEQUENCE
    return REPLACEABLE_SEQUENCE


def _witness(scene: Scene, tx: Transaction, index: int, output: Output) -> tuple[bytes, ...]:
    secret, script = _secret(scene, output), output.witness_script
    if not script:
        pubkey = secp256k1.point_of(secret)
        digest = segwit_v0_sighash(tx, index, p2wpkh_script_code(hash160(pubkey)), output.value_sat)
        return witness_signature(secp256k1.sign(secret, digest)), pubkey
    signature = secp256k1.sign(secret, segwit_v0_sighash(tx, index, script, output.value_sat))
    match output.kind:
        case Kind.TO_LOCAL:
            return delayed_witness(script, signature)
        case Kind.OFFERED_IN_THEIRS:
            return expired_witness(script, signature)
        case Kind.RECEIVED_IN_THEIRS:
            return claim_witness(script, signature, preimage_for(scene.channel, output) or b"")
        case Kind.REVOKED_TO_LOCAL:
            return revoked_witness(script, signature)
        case Kind.REVOKED_HTLC:
            return revoked_htlc_witness(script, signature, keys_of(scene.channel, scene.spent).revocation)
    return one_key_witness(script, signature)


def _secret(scene: Scene, output: Output) -> Secret:
    secrets, point = scene.secrets, scene.spent.point
    match output.kind:
        case Kind.TO_LOCAL:
            return derive_privkey(secrets.delayed_payment, point)
        case Kind.TO_REMOTE:
            return secrets.payment
        case Kind.REVOKED_TO_LOCAL | Kind.REVOKED_HTLC:
            revealed = scene.channel.shachain.secret_of_commitment(scene.spent.number)
            assert revealed is not None, "revoked means that we know its secret"
            return revocation_privkey(secrets.revocation, revealed)
    return derive_privkey(secrets.htlc, point)


# HTLC transactions of our own commitment


def _stages(scene: Scene) -> dict[int, tuple[SecondStage, Signature]]:
    """The HTLC transactions of our commitment, with the peer's signatures, by output index."""
    commitment = scene.channel.commitment(LOCAL, scene.spent.point)
    signatures = scene.channel.remote_htlc_signatures
    return {
        second.output_index: (second, signature)
        for second, signature in zip(commitment.htlcs, signatures, strict=True)
    }


def fixed_stage(scene: Scene, output: Output) -> Claim:
    """The HTLC transaction of a channel without anchors: both have signed its fee already."""
    second, signature = _stages(scene)[output.outpoint.index]
    witness = _stage_witness(scene, second, signature, second.sighash_for_owner, output)
    tx = second.tx.with_witness(0, witness)
    fee_sat = second.value_sat - tx.outputs[0].value_sat
    rate = fee_sat * 1000 // tx.weight
    return Claim((output.outpoint,), tx, Sat(fee_sat), rate, scene.height, scene.height, is_fixed=True)


def _stage_witness(
    scene: Scene, second: SecondStage, signature: Signature, digest: bytes, output: Output
) -> tuple[bytes, ...]:
    # b5-on-chain.7: our own signature covers everything, or others could add to the transaction
    ours = secp256k1.sign(derive_privkey(scene.secrets.htlc, scene.spent.point), digest)
    if second.htlc.is_offered:
        return htlc_timeout_witness(second, signature, ours)
    return htlc_success_witness(second, signature, ours, preimage_for(scene.channel, output) or b"")


def funded_stage(scene: Scene, outputs: Sequence[Output], feerate_per_kw: int) -> Fund | None:
    """Ask the wallet to pay for HTLC transactions under anchors; None if they are not worth it."""
    stages, inputs, paid = _stages(scene), [], []
    for output in outputs:
        second, signature = stages[output.outpoint.index]
        witness = _stage_witness(scene, second, signature, second.sighash_for_owner, output)
        txin = TxIn(output.outpoint, 1, witness)
        weight = len(txin.serialize_witness()) + _LONGER_SIGNATURE
        spent = TxOut(output.value_sat, p2wsh(second.witness_script))
        inputs.append(FundInput(TxIn(output.outpoint, 1), spent, weight))
        paid.append(second.tx.outputs[0])
    value_sat = sum(output.value_sat for output in outputs)
    unsigned = Transaction(2, tuple([each.txin for each in inputs]), tuple(paid))
    weight = 4 * len(unsigned.serialize_stripped()) + sum(each.witness_weight for each in inputs)
    weight += _WALLET_WEIGHT
    # what they pay must still be swept
    most_sat = value_sat - len(outputs) * fee_for(_SWEEP_WEIGHT, LOWEST_FEERATE_PER_KW)
    rate = min(feerate_per_kw, most_sat * 1000 // weight)
    if rate < LOWEST_FEERATE_PER_KW:
        return None
    return Fund(tuple(inputs), tuple(paid), locktime_of(outputs[0]), rate, 0, value_sat)


def signed_stage(scene: Scene, outputs: Sequence[Output], tx: Transaction) -> Transaction:
    """The HTLC transactions that the wallet has funded, with our signatures."""
    stages = _stages(scene)
    for index, output in enumerate(outputs):
        second, signature = stages[output.outpoint.index]
        digest = segwit_v0_sighash(tx, index, second.witness_script, second.value_sat)
        tx = tx.with_witness(index, _stage_witness(scene, second, signature, digest, output))
    return tx


# Our commitment, and the child that pulls it into a block


def our_commitment(channel: Channel, secrets: ChannelSecrets) -> Transaction:
    """Our newest commitment, signed by both: what a unilateral close publishes."""
    commitment = channel.commitment(LOCAL, secrets.per_commitment_point(channel.number.local))
    basepoints = channel.charter.basepoints
    witness = funding_witness(
        channel.charter.funding_script,
        basepoints.local.funding_pubkey,
        secp256k1.sign(secrets.funding, commitment.sighash),
        basepoints.remote.funding_pubkey,
        channel.remote_signature,
    )
    return commitment.tx.with_witness(0, witness)


def anchor_of(channel: Channel, commitment: Transaction) -> OutPoint | None:
    """Our anchor on our commitment, if it has one."""
    script = anchor_output(channel.charter.basepoints.local.funding_pubkey)
    for index, output in enumerate(commitment.outputs):
        if output.script == script:
            return commitment.outpoint(index)
    return None


def child_of(
    channel: Channel, commitment: Transaction, feerate_per_kw: int, most_fee_sat: int
) -> Fund | None:
    """Ask the wallet for a child that pays for our commitment through our anchor.

    None if there is no anchor, the commitment pays enough itself, or nothing is worth the fee.
    """
    outpoint = anchor_of(channel, commitment)
    paid_sat = channel.charter.funding_sat - sum(output.value_sat for output in commitment.outputs)
    if outpoint is None:
        return None
    script = anchor(channel.charter.basepoints.local.funding_pubkey)
    witness = one_key_witness(script, _SIGNATURE)
    witness_weight = len(TxIn(outpoint, 0, witness).serialize_witness()) + _LONGER_SIGNATURE
    weight = 4 * (10 + 41) + witness_weight + _WALLET_WEIGHT
    rate = min(feerate_per_kw, (most_fee_sat + paid_sat) * 1000 // (commitment.weight + weight))
    also_pay_sat = fee_for(commitment.weight, rate) - paid_sat
    if also_pay_sat <= 0:
        return None
    child_input = FundInput(TxIn(outpoint), commitment.outputs[outpoint.index], witness_weight)
    return Fund((child_input,), (), 0, rate, also_pay_sat, most_fee_sat)


def signed_child(channel: Channel, secrets: ChannelSecrets, value_sat: Sat, tx: Transaction) -> Transaction:
    """The child that the wallet has funded, with our signature for the anchor."""
    script = anchor(channel.charter.basepoints.local.funding_pubkey)
    signature = secp256k1.sign(secrets.funding, segwit_v0_sighash(tx, 0, script, value_sat))
    return tx.with_witness(0, one_key_witness(script, signature))
