"""BOLT 3: who pays what, which outputs exist, their order and their weight; closings; dust."""

import json
from pathlib import Path
from random import Random

import embit.script
import embit.transaction
import pytest
from hypothesis import given
from hypothesis import strategies as st

from htlc.scripts import anchor, received_htlc, revoked_htlc_witness, revoked_witness, to_local
from htlc.transactions import (
    ANCHOR_SAT,
    ChannelFormat,
    ClosingOutput,
    Commitment,
    CommitmentSpec,
    HtlcOut,
    anchors_sat,
    build_closing_tx,
    build_commitment,
    commitment_fee_sat,
    count_untrimmed,
    dust_limit_for,
    is_trimmed,
    number_of_commitment,
    second_stage_fee_sat,
)
from tests.bolt import bolt
from tests.htlc.bolt3_stage import (
    DUST_LIMIT_SAT,
    FUNDING_SAT,
    FUNDING_SCRIPT,
    OTHER_POINTS,
    OWNER_POINTS,
    a_spec,
    an_htlc,
    keys_of,
    params_of,
    specs,
)
from wire.bitcoin.script import P2A, funding_script, op_return, p2pkh, p2sh, p2tr, p2wpkh, p2wsh
from wire.bitcoin.sighash import segwit_v0_sighash
from wire.bitcoin.tx import OutPoint, Transaction, TxIn, TxOut, txid_of_hex
from wire.crypto.hashes import hash160
from wire.crypto.secp256k1 import der_of, point_of, sign
from wire.units import Msat, Sat

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "bolt3.json").read_text())
WEIGHTS = VECTORS["weights"]
KEYS = keys_of(5)
LONGEST_SIGNATURE = bytes(73)
formats = st.sampled_from(ChannelFormat)
both_formats = pytest.mark.parametrize("channel_format", list(ChannelFormat), ids=lambda kind: kind.value)
OWNER_ANCHOR = TxOut(ANCHOR_SAT, p2wsh(anchor(OWNER_POINTS.funding_pubkey)))
OTHER_ANCHOR = TxOut(ANCHOR_SAT, p2wsh(anchor(OTHER_POINTS.funding_pubkey)))


def built(channel_format: ChannelFormat, spec: CommitmentSpec, *, is_owner_opener: bool = True) -> Commitment:
    return build_commitment(params_of(channel_format, is_owner_opener=is_owner_opener), KEYS, spec)


# Laws of every commitment


@given(formats, st.booleans(), specs())
@bolt("b3-transactions.5", "b3-transactions.6")
def test_every_satoshi_is_an_output_or_fee(
    channel_format: ChannelFormat, is_owner_opener: bool, spec: CommitmentSpec
) -> None:
    commitment = built(channel_format, spec, is_owner_opener=is_owner_opener)
    paid_sat = sum(txout.value_sat for txout in commitment.tx.outputs)
    assert paid_sat + commitment.fee_sat == FUNDING_SAT
    if is_owner_opener:
        untrimmed = len(commitment.htlcs)
        assert commitment.fee_sat >= commitment_fee_sat(channel_format, spec.feerate_per_kw, untrimmed)
    assert all(txout.value_sat >= min(DUST_LIMIT_SAT, ANCHOR_SAT) for txout in commitment.tx.outputs)


@given(formats, specs(), st.randoms(use_true_random=False))
@bolt("b3-transactions.1")
def test_the_order_of_the_htlcs_given_does_not_matter(
    channel_format: ChannelFormat, spec: CommitmentSpec, random: Random
) -> None:
    shuffled = list(spec.htlcs)
    random.shuffle(shuffled)
    mixed = CommitmentSpec(
        spec.number, spec.feerate_per_kw, spec.to_owner_msat, spec.to_other_msat, tuple(shuffled)
    )
    assert built(channel_format, mixed) == built(channel_format, spec)


@given(formats, specs())
@bolt("b3-transactions.1", "b3-transactions.2", "b3-transactions.5")
def test_the_packed_bytes_say_what_the_objects_say(
    channel_format: ChannelFormat, spec: CommitmentSpec
) -> None:
    commitment, params = built(channel_format, spec), params_of(channel_format)
    tx = commitment.tx
    assert (tx.txid, tx.serialize()) == (commitment.txid, commitment.unsigned)
    assert segwit_v0_sighash(tx, 0, FUNDING_SCRIPT, FUNDING_SAT) == commitment.sighash
    assert number_of_commitment(tx, params.obscuring_factor) == spec.number
    keys = [(txout.value_sat, txout.script) for txout in tx.outputs]
    assert keys == sorted(keys)
    limits = channel_format, DUST_LIMIT_SAT, spec.feerate_per_kw
    untrimmed = {htlc.id for htlc in spec.htlcs if not is_trimmed(*limits, htlc)}
    assert {second.htlc.id for second in commitment.htlcs} == untrimmed
    assert count_untrimmed(*limits, spec.htlcs) == len(untrimmed)


@given(formats, specs())
@bolt("b3-transactions.1", "b3-transactions.6")
def test_each_second_stage_spends_its_output_and_has_the_digest_of_its_transaction(
    channel_format: ChannelFormat, spec: CommitmentSpec
) -> None:
    commitment = built(channel_format, spec)
    indexes = [second.output_index for second in commitment.htlcs]
    assert indexes == sorted(set(indexes))
    for second in commitment.htlcs:
        txout, tx = commitment.tx.outputs[second.output_index], second.tx
        assert (txout.value_sat, txout.script) == (second.value_sat, p2wsh(second.witness_script))
        assert tx.inputs[0].outpoint == OutPoint(commitment.txid, second.output_index)
        digest = segwit_v0_sighash(tx, 0, second.witness_script, second.value_sat, second.sighash_type)
        assert digest == second.sighash_for_other
        fee_sat = second_stage_fee_sat(channel_format, spec.feerate_per_kw, second.htlc.is_offered)
        assert tx.outputs[0].value_sat == second.value_sat - fee_sat >= DUST_LIMIT_SAT


@given(specs())
@bolt("b3-transactions.4")
def test_a_side_has_an_anchor_unless_nothing_concerns_it(spec: CommitmentSpec) -> None:
    commitment = built(ChannelFormat.ANCHORS, spec)
    scripts = {txout.script for txout in commitment.tx.outputs}
    is_other_paid = spec.to_other_msat // 1000 >= DUST_LIMIT_SAT
    has_owner_output = p2wsh(to_local(KEYS.revocation, 144, KEYS.local_delayed)) in scripts
    assert (OTHER_ANCHOR in commitment.tx.outputs) is (is_other_paid or bool(commitment.htlcs))
    assert (OWNER_ANCHOR in commitment.tx.outputs) is (has_owner_output or bool(commitment.htlcs))


# Order


@bolt("b3-transactions.1")
def test_equal_htlcs_are_ordered_by_their_expiry() -> None:
    late, early = (
        HtlcOut(True, Msat(10_000_000), bytes(32), cltv_expiry, htlc_id)
        for cltv_expiry, htlc_id in ((900, 0), (700, 1))
    )
    for htlcs in ((late, early), (early, late)):
        commitment = built(ChannelFormat.ANCHORS, a_spec(*htlcs))
        assert [second.htlc for second in commitment.htlcs] == [early, late]
        assert [second.tx.locktime for second in commitment.htlcs] == [700, 900]


@bolt("b3-transactions.1")
def test_only_whole_satoshis_count_for_the_order() -> None:
    larger, smaller = (
        an_htlc(htlc_id, is_offered=True, amount_msat=amount)
        for htlc_id, amount in ((0, 5_000_999), (1, 5_000_001))
    )
    commitment = built(ChannelFormat.ANCHORS, a_spec(larger, smaller))
    scripts = [p2wsh(second.witness_script) for second in commitment.htlcs]
    assert scripts == sorted(scripts)


# Trimming and fees


@both_formats
@pytest.mark.parametrize("is_offered", [True, False])
@bolt("b3-transactions.5")
def test_an_htlc_is_trimmed_just_below_dust_and_its_second_stage(
    channel_format: ChannelFormat, is_offered: bool
) -> None:
    limit_sat = DUST_LIMIT_SAT + second_stage_fee_sat(channel_format, 2500, is_offered)
    kept = an_htlc(0, is_offered=is_offered, amount_msat=1000 * limit_sat)
    trimmed = an_htlc(1, is_offered=is_offered, amount_msat=1000 * limit_sat - 1)
    commitment = built(channel_format, a_spec(kept, trimmed))
    assert [second.htlc for second in commitment.htlcs] == [kept]
    assert commitment.htlcs[0].tx.outputs[0].value_sat == DUST_LIMIT_SAT


@both_formats
@pytest.mark.parametrize("is_owner_opener", [True, False])
@bolt("b3-transactions.4", "b3-transactions.6")
def test_the_opener_pays_fee_and_anchors(channel_format: ChannelFormat, is_owner_opener: bool) -> None:
    spec = a_spec(an_htlc(0, is_offered=True))
    cost_sat = commitment_fee_sat(channel_format, 2500, 1) + anchors_sat(channel_format)
    expected = {
        spec.to_owner_msat // 1000 - (cost_sat if is_owner_opener else 0),
        spec.to_other_msat // 1000 - (0 if is_owner_opener else cost_sat),
    }
    commitment = built(channel_format, spec, is_owner_opener=is_owner_opener)
    assert expected <= {txout.value_sat for txout in commitment.tx.outputs}


@both_formats
def test_an_opener_that_cannot_pay_gives_all_it_has(channel_format: ChannelFormat) -> None:
    spec = a_spec(to_other_sat=FUNDING_SAT - 100)
    commitment = built(channel_format, spec)
    assert max(txout.value_sat for txout in commitment.tx.outputs) == FUNDING_SAT - 100
    assert commitment.fee_sat < commitment_fee_sat(channel_format, 2500, 0)


# Weights


def weight_with(tx: Transaction, witness: tuple[bytes, ...]) -> int:
    return tx.with_witness(0, witness).weight


@pytest.mark.parametrize("count", [0, 1, 7, 260])
@bolt("b3-transactions.6")
def test_a_commitment_weighs_what_its_fee_assumes(count: int) -> None:
    witness = (b"", LONGEST_SIGNATURE, LONGEST_SIGNATURE, FUNDING_SCRIPT)
    spec = a_spec(*(an_htlc(htlc_id, is_offered=True) for htlc_id in range(count)))
    for channel_format in ChannelFormat:
        stated = WEIGHTS["commitment"][channel_format.value]
        weight = weight_with(built(channel_format, spec).tx, witness)
        assert commitment_fee_sat(channel_format, 1000, count) == stated["base"] + stated["per_htlc"] * count
        # static_remotekey assumes one byte to count outputs, anchors three
        count_bytes = (
            (1 if channel_format is ChannelFormat.STATIC_REMOTEKEY else 3),
            (1 if count < 200 else 3),
        )
        assert weight == stated["base"] + stated["per_htlc"] * count + 4 * (count_bytes[1] - count_bytes[0])


@both_formats
@bolt("b3-transactions.6")
def test_a_second_stage_weighs_what_its_fee_assumes(channel_format: ChannelFormat) -> None:
    a_time = 0x7FFFFFFF  # the weights assume an expiry of four bytes
    spec = a_spec(an_htlc(0, is_offered=True), an_htlc(1, is_offered=False, cltv_expiry=a_time))
    for second in built(channel_format, spec).htlcs:
        preimage = b"" if second.htlc.is_offered else bytes(32)
        witness = (b"", LONGEST_SIGNATURE, LONGEST_SIGNATURE, preimage, second.witness_script)
        weight = weight_with(second.tx, witness)
        if second.htlc.is_offered:
            assert weight == WEIGHTS["htlc_timeout"][channel_format.value]
        else:
            # the stated weight is one too many, and everybody keeps it
            assert weight == WEIGHTS["htlc_success"][channel_format.value] - 1


def test_a_penalty_weighs_no_more_than_expected() -> None:
    signature = sign(bytes(31) + b"\x01", bytes(32))
    stated = WEIGHTS["penalty_witness_bytes"]
    local = to_local(KEYS.revocation, 0xFFFF, KEYS.local_delayed)
    received = received_htlc(KEYS, bytes(32), 0x7FFFFFFF, is_anchors=True)
    for witness, limit in (
        (revoked_witness(local, signature), stated["to_local_penalty"]),
        (revoked_htlc_witness(received, signature, KEYS.revocation), stated["accepted_htlc_penalty"] + 3),
    ):
        assert len(TxIn(OutPoint(bytes(32), 0), witness=witness).serialize_witness()) <= limit


# Funding


@bolt("b3-transactions.2")
def test_the_funding_transaction_of_the_vectors() -> None:
    stated = VECTORS["funding"]
    secret = bytes.fromhex(stated["coinbase_privkey"])
    our_script = p2pkh(hash160(point_of(secret)))
    script = funding_script(*(bytes.fromhex(stated[f"{who}_funding_pubkey"]) for who in ("remote", "local")))
    assert script.hex() == stated["witness_script"]
    outpoint = OutPoint(txid_of_hex(stated["input_txid"]), stated["input_index"])
    change = TxOut(Sat(stated["change_satoshi"]), p2wpkh(point_of(secret)))
    funding = TxOut(Sat(stated["funding_satoshi"]), p2wsh(script))
    unsigned = Transaction(2, (TxIn(outpoint, 0xFFFFFFFF),), (funding, change))
    digest = embit.transaction.Transaction.parse(unsigned.serialize()).sighash_legacy(
        0, embit.script.Script(our_script)
    )
    signature = der_of(sign(secret, digest)) + b"\x01"
    script_sig = bytes((len(signature),)) + signature + b"\x21" + point_of(secret)
    signed = Transaction(2, (TxIn(outpoint, 0xFFFFFFFF, (), script_sig),), unsigned.outputs)
    assert signed.serialize().hex() == stated["funding_tx"]
    assert signed.txid == txid_of_hex(stated["funding_txid"])


@pytest.mark.parametrize(("count_in", "count_out"), [(1, 0), (2, 3)])
def test_a_funding_transaction_weighs_its_formula(count_in: int, count_out: int) -> None:
    stated, change = WEIGHTS["funding_v2"], p2wpkh(OWNER_POINTS.funding_pubkey)
    inputs = tuple(
        TxIn(OutPoint(bytes(32), index), witness=(bytes(71), bytes(33))) for index in range(count_in)
    )
    outputs = (TxOut(Sat(1), p2wsh(FUNDING_SCRIPT)), *(TxOut(Sat(1), change),) * count_out)
    body = stated["funding_output_bytes"] + stated["tx_fields_bytes"] + stated["input_bytes"] * count_in
    body += (stated["output_bytes_plus_script"] + len(change)) * count_out
    witness = sum(len(txin.serialize_witness()) for txin in inputs)
    assert Transaction(2, inputs, outputs).weight == 4 * body + stated["segwit_fields_wu"] + witness


# Closing and dust


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 1000), st.integers(0, 1000))
def test_a_closing_leaves_out_each_sides_dust(ours: int, theirs: int, our_dust: int, their_dust: int) -> None:
    outputs = [
        ClosingOutput(Sat(ours), p2wpkh(OWNER_POINTS.payment_basepoint), Sat(our_dust)),
        ClosingOutput(Sat(theirs), p2wsh(b"\x51"), Sat(their_dust)),
    ]
    closing = build_closing_tx(OutPoint(bytes(32), 0), Sat(5000), FUNDING_SCRIPT, outputs)
    kept = [TxOut(out.value_sat, out.script) for out in outputs if out.value_sat >= out.dust_limit_sat]
    assert sorted(closing.tx.outputs, key=lambda txout: txout.script) == sorted(
        kept, key=lambda txout: txout.script
    )
    assert closing.fee_sat == 5000 - sum(txout.value_sat for txout in kept)
    order = [(txout.value_sat, txout.script) for txout in closing.tx.outputs]
    assert order == sorted(order)
    assert closing.sighash == segwit_v0_sighash(closing.tx, 0, FUNDING_SCRIPT, Sat(5000))
    assert (closing.tx.locktime, closing.tx.inputs[0].sequence) == (0, 0xFFFFFFFF)


def test_a_simple_close_has_its_own_locktime_and_sequence() -> None:
    output = ClosingOutput(Sat(0), op_return(b"burnt"))
    closing = build_closing_tx(
        OutPoint(bytes(32), 0), Sat(900), FUNDING_SCRIPT, [output], sequence=0xFFFFFFFD, locktime=700_000
    )
    assert closing.tx.outputs == (TxOut(Sat(0), output.script),)
    assert (closing.tx.locktime, closing.tx.inputs[0].sequence) == (700_000, 0xFFFFFFFD)


STATED_DUST = VECTORS["dust_limits"]


@pytest.mark.parametrize(
    ("output_script", "limit_sat"),
    [
        (p2pkh(bytes(20)), STATED_DUST["p2pkh"]),
        (p2sh(bytes(20)), STATED_DUST["p2sh"]),
        (p2wpkh(OWNER_POINTS.funding_pubkey), STATED_DUST["p2wpkh"]),
        (p2wsh(b"\x51"), STATED_DUST["p2wsh"]),
        (P2A, STATED_DUST["p2a"]),
        (p2tr(bytes(32)), STATED_DUST["unknown_segwit"]),
        (bytes((0x60, 40)) + bytes(40), STATED_DUST["unknown_segwit"]),
        (op_return(b"hello"), 0),
    ],
)
def test_the_network_has_a_dust_limit_for_each_kind_of_output(output_script: bytes, limit_sat: int) -> None:
    assert dust_limit_for(output_script) == limit_sat


@both_formats
def test_a_transaction_that_is_no_commitment_has_no_number(channel_format: ChannelFormat) -> None:
    commitment = built(channel_format, a_spec()).tx
    assert number_of_commitment(Transaction(2, commitment.inputs, commitment.outputs, 0), 0) is None
    other_input = (TxIn(commitment.inputs[0].outpoint, 0xFFFFFFFF),)
    assert (
        number_of_commitment(Transaction(2, other_input, commitment.outputs, commitment.locktime), 0) is None
    )
