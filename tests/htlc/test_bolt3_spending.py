"""BOLT 3 and 5: whoever may spend an output can, and Bitcoin Core's own code agrees; others cannot."""

import pytest

from htlc.keys import derive_privkey, revocation_privkey
from htlc.scripts import (
    anchor,
    claim_witness,
    delayed_witness,
    expired_witness,
    offered_htlc,
    one_key_witness,
    received_htlc,
    revoked_htlc_witness,
    revoked_witness,
    to_local,
    to_remote_anchors,
)
from htlc.transactions import (
    ANCHOR_SAT,
    ChannelFormat,
    ClosingOutput,
    Commitment,
    SecondStage,
    build_closing_tx,
    build_commitment,
    funding_witness,
    htlc_success_witness,
    htlc_timeout_witness,
)
from tests.bolt import bolt
from tests.htlc.bolt3_stage import (
    DELAY_BLOCKS,
    FUNDING_SAT,
    FUNDING_SCRIPT,
    OTHER,
    OTHER_POINTS,
    OWNER,
    OWNER_POINTS,
    a_spec,
    an_htlc,
    is_valid_spend,
    keys_of,
    params_of,
    preimage_of,
)
from wire.bitcoin.script import p2wpkh, p2wsh
from wire.bitcoin.sighash import p2wpkh_script_code, segwit_v0_sighash, witness_signature
from wire.bitcoin.tx import OutPoint, Transaction, TxIn, TxOut
from wire.crypto.hashes import hash160
from wire.crypto.secp256k1 import Secret, Signature, sign
from wire.units import Sat

NUMBER = 5
KEYS = keys_of(NUMBER)
POINT = KEYS.per_commitment_point
OWNER_HTLC, OTHER_HTLC = derive_privkey(OWNER.htlc, POINT), derive_privkey(OTHER.htlc, POINT)
DELAYED = derive_privkey(OWNER.delayed_payment, POINT)
REVOCATION = revocation_privkey(OTHER.revocation, OWNER.per_commitment_secret(NUMBER))
TO_LOCAL = to_local(KEYS.revocation, DELAY_BLOCKS, KEYS.local_delayed)
OFFERED, RECEIVED = an_htlc(0, is_offered=True), an_htlc(1, is_offered=False)
EXPIRY = RECEIVED.cltv_expiry
NO_DELAY = 0xFFFFFFFD
VALUE_SAT = Sat(10_000)

both_formats = pytest.mark.parametrize("channel_format", list(ChannelFormat), ids=lambda kind: kind.value)
of_either_kind = pytest.mark.parametrize("is_offered", [True, False], ids=["offered", "received"])


def a_commitment(channel_format: ChannelFormat) -> Commitment:
    return build_commitment(params_of(channel_format), KEYS, a_spec(OFFERED, RECEIVED, number=NUMBER))


def second_stage(channel_format: ChannelFormat, *, is_offered: bool) -> SecondStage:
    return next(
        second for second in a_commitment(channel_format).htlcs if second.htlc.is_offered is is_offered
    )


def a_sweep(sequence: int, locktime: int = 0) -> Transaction:
    txin = TxIn(OutPoint(bytes(32), 0), sequence)
    return Transaction(2, (txin,), (TxOut(Sat(1000), p2wpkh(OWNER_POINTS.funding_pubkey)),), locktime)


def signed_by(secret: Secret, sweep: Transaction, script: bytes, value_sat: Sat = VALUE_SAT) -> Signature:
    return sign(secret, segwit_v0_sighash(sweep, 0, script, value_sat))


def is_spent(sweep: Transaction, witness: tuple[bytes, ...], value_sat: Sat = VALUE_SAT) -> bool:
    return is_valid_spend(sweep.with_witness(0, witness), value_sat, p2wsh(witness[-1]))


@both_formats
@bolt("b3-transactions.2")
def test_both_signatures_publish_a_commitment(channel_format: ChannelFormat) -> None:
    commitment = a_commitment(channel_format)
    ours, theirs = (sign(side.funding, commitment.sighash) for side in (OWNER, OTHER))
    keys = OWNER_POINTS.funding_pubkey, OTHER_POINTS.funding_pubkey
    witness = funding_witness(FUNDING_SCRIPT, keys[0], ours, keys[1], theirs)
    assert witness == funding_witness(FUNDING_SCRIPT, keys[1], theirs, keys[0], ours)
    assert is_spent(commitment.tx, witness, FUNDING_SAT)
    swapped = funding_witness(FUNDING_SCRIPT, keys[0], theirs, keys[1], ours)
    assert not is_spent(commitment.tx, swapped, FUNDING_SAT)


@both_formats
@of_either_kind
@bolt("b3-transactions.6")
def test_the_owner_resolves_an_htlc_with_the_other_sides_signature(
    channel_format: ChannelFormat, is_offered: bool
) -> None:
    second = second_stage(channel_format, is_offered=is_offered)
    theirs = sign(OTHER_HTLC, second.sighash_for_other)
    ours = sign(OWNER_HTLC, second.sighash_for_owner)
    witness = (
        htlc_timeout_witness(second, theirs, ours)
        if is_offered
        else htlc_success_witness(second, theirs, ours, preimage_of(second.htlc.id))
    )
    assert is_spent(second.tx, witness, second.value_sat)
    wrong_preimage = (*witness[:3], bytes(32), witness[4])
    assert not is_spent(second.tx, wrong_preimage, second.value_sat)
    assert not is_spent(second.tx, (b"", witness[1], witness[1], *witness[3:]), second.value_sat)


@of_either_kind
@bolt("b3-transactions.6")
def test_under_anchors_the_owner_adds_an_input_that_pays_the_fee(is_offered: bool) -> None:
    second = second_stage(ChannelFormat.ANCHORS, is_offered=is_offered)
    theirs = sign(OTHER_HTLC, second.sighash_for_other)
    more_in = (*second.tx.inputs, TxIn(OutPoint(bytes(32), 7)))
    more_out = (*second.tx.outputs, TxOut(Sat(777), p2wpkh(OWNER_POINTS.funding_pubkey)))
    bumped = Transaction(2, more_in, more_out, second.tx.locktime)
    ours = sign(OWNER_HTLC, segwit_v0_sighash(bumped, 0, second.witness_script, second.value_sat))
    preimage = b"" if is_offered else preimage_of(second.htlc.id)
    witness = htlc_success_witness(second, theirs, ours, preimage)
    assert is_spent(bumped, witness, second.value_sat)
    assert second.tx.outputs[0].value_sat == second.value_sat


@both_formats
@bolt("b3-transactions.3")
def test_the_owner_waits_for_its_balance(channel_format: ChannelFormat) -> None:
    assert any(txout.script == p2wsh(TO_LOCAL) for txout in a_commitment(channel_format).tx.outputs)
    assert second_stage(channel_format, is_offered=True).tx.outputs[0].script == p2wsh(TO_LOCAL)
    for sequence, is_allowed in ((DELAY_BLOCKS, True), (DELAY_BLOCKS - 1, False), (NO_DELAY, False)):
        sweep = a_sweep(sequence)
        witness = delayed_witness(TO_LOCAL, signed_by(DELAYED, sweep, TO_LOCAL))
        assert is_spent(sweep, witness) is is_allowed


@bolt("b3-transactions.3")
def test_a_revoked_balance_is_taken_at_once() -> None:
    sweep = a_sweep(NO_DELAY)
    assert is_spent(sweep, revoked_witness(TO_LOCAL, signed_by(REVOCATION, sweep, TO_LOCAL)))
    assert not is_spent(sweep, revoked_witness(TO_LOCAL, signed_by(DELAYED, sweep, TO_LOCAL)))


@both_formats
@of_either_kind
def test_a_revoked_htlc_is_taken_at_once(channel_format: ChannelFormat, is_offered: bool) -> None:
    script = second_stage(channel_format, is_offered=is_offered).witness_script
    sweep = a_sweep(NO_DELAY)
    signature = signed_by(REVOCATION, sweep, script)
    assert is_spent(sweep, revoked_htlc_witness(script, signature, KEYS.revocation))
    assert not is_spent(sweep, revoked_htlc_witness(script, signature, KEYS.owner_htlc))


@both_formats
def test_the_other_side_claims_an_offered_htlc_with_its_preimage(channel_format: ChannelFormat) -> None:
    is_anchors = channel_format is ChannelFormat.ANCHORS
    script = offered_htlc(KEYS, OFFERED.payment_hash, is_anchors=is_anchors)
    assert script == second_stage(channel_format, is_offered=True).witness_script
    for sequence, is_allowed in ((1, True), (NO_DELAY, not is_anchors)):
        sweep = a_sweep(sequence)
        signature = signed_by(OTHER_HTLC, sweep, script)
        assert is_spent(sweep, claim_witness(script, signature, preimage_of(OFFERED.id))) is is_allowed
        assert not is_spent(sweep, claim_witness(script, signature, preimage_of(RECEIVED.id)))


@both_formats
def test_the_other_side_takes_back_a_received_htlc_after_its_expiry(channel_format: ChannelFormat) -> None:
    is_anchors = channel_format is ChannelFormat.ANCHORS
    script = received_htlc(KEYS, RECEIVED.payment_hash, EXPIRY, is_anchors=is_anchors)
    assert script == second_stage(channel_format, is_offered=False).witness_script
    for sequence, locktime, is_allowed in (
        (1, EXPIRY, True),
        (1, EXPIRY - 1, False),
        (NO_DELAY, EXPIRY, not is_anchors),
    ):
        sweep = a_sweep(sequence, locktime)
        assert is_spent(sweep, expired_witness(script, signed_by(OTHER_HTLC, sweep, script))) is is_allowed


@bolt("b3-transactions.3")
def test_the_other_sides_balance_is_its_own_key() -> None:
    script = to_remote_anchors(KEYS.other_payment)
    assert any(txout.script == p2wsh(script) for txout in a_commitment(ChannelFormat.ANCHORS).tx.outputs)
    for sequence, is_allowed in ((1, True), (NO_DELAY, False)):
        sweep = a_sweep(sequence)
        assert is_spent(sweep, one_key_witness(script, signed_by(OTHER.payment, sweep, script))) is is_allowed


@bolt("b3-transactions.3")
def test_without_anchors_the_other_sides_balance_is_an_ordinary_output() -> None:
    output_script = p2wpkh(KEYS.other_payment)
    outputs = a_commitment(ChannelFormat.STATIC_REMOTEKEY).tx.outputs
    assert any(txout.script == output_script for txout in outputs)
    sweep = a_sweep(NO_DELAY)
    digest = segwit_v0_sighash(sweep, 0, p2wpkh_script_code(hash160(KEYS.other_payment)), VALUE_SAT)
    witness = (witness_signature(sign(OTHER.payment, digest)), KEYS.other_payment)
    assert is_valid_spend(sweep.with_witness(0, witness), VALUE_SAT, output_script)


@bolt("b3-transactions.4")
def test_an_anchor_is_its_sides_and_after_sixteen_blocks_everyones() -> None:
    for side in (OWNER, OTHER):
        script = anchor(side.basepoints().funding_pubkey)
        output = TxOut(ANCHOR_SAT, p2wsh(script))
        assert output in a_commitment(ChannelFormat.ANCHORS).tx.outputs
        sweep = a_sweep(NO_DELAY)
        signature = signed_by(side.funding, sweep, script, ANCHOR_SAT)
        assert is_spent(sweep, one_key_witness(script, signature), ANCHOR_SAT)
        assert is_spent(a_sweep(16), (b"", script), ANCHOR_SAT)
        assert not is_spent(a_sweep(15), (b"", script), ANCHOR_SAT)


def test_both_signatures_close_a_channel() -> None:
    outputs = [
        ClosingOutput(Sat(600_000_000), p2wpkh(OWNER_POINTS.payment_basepoint), Sat(294)),
        ClosingOutput(Sat(399_990_000), p2wpkh(OTHER_POINTS.payment_basepoint), Sat(294)),
    ]
    funding = params_of(ChannelFormat.ANCHORS).funding_outpoint
    closing = build_closing_tx(funding, FUNDING_SAT, FUNDING_SCRIPT, outputs)
    witness = funding_witness(
        FUNDING_SCRIPT,
        OWNER_POINTS.funding_pubkey,
        sign(OWNER.funding, closing.sighash),
        OTHER_POINTS.funding_pubkey,
        sign(OTHER.funding, closing.sighash),
    )
    assert is_spent(closing.tx, witness, FUNDING_SAT)
    assert closing.fee_sat == 10_000
