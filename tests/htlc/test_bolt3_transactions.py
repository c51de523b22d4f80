"""BOLT 3: every transaction of the specification's vectors, byte for byte."""

import json
from pathlib import Path
from typing import Any

import pytest

from htlc.keys import Basepoints, CommitmentKeys, commitment_keys
from htlc.transactions import (
    ChannelFormat,
    Commitment,
    CommitmentParams,
    CommitmentSpec,
    HtlcOut,
    SecondStage,
    build_commitment,
    commitment_fee_sat,
    funding_witness,
    htlc_success_witness,
    htlc_timeout_witness,
    is_trimmed,
    number_of_commitment,
    obscuring_factor,
    second_stage_fee_sat,
)
from tests.bolt import bolt
from wire.bitcoin.script import funding_script
from wire.bitcoin.tx import OutPoint, parse_transaction, txid_of_hex
from wire.crypto.hashes import sha256
from wire.crypto.secp256k1 import compact_of, is_signed, sign
from wire.units import Msat, Sat

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "bolt3.json").read_text())
COMMITMENT = VECTORS["commitment"]
PARAMS, KEYS = COMMITMENT["params"], COMMITMENT["keys"]
CASES = [(ChannelFormat.STATIC_REMOTEKEY, case) for case in COMMITMENT["static_remotekey"]] + [
    (ChannelFormat.ANCHORS, case) for case in COMMITMENT["anchors_zero_fee_htlc"]
]
every_case = pytest.mark.parametrize(
    ("channel_format", "case"), CASES, ids=[f"{kind.value}-{case['label']}" for kind, case in CASES]
)


def key(name: str) -> bytes:
    return bytes.fromhex(KEYS[name])


LOCAL = Basepoints(
    funding_pubkey=key("local_funding_pubkey"),
    revocation_basepoint=key("local_payment_basepoint"),  # not used by the local commitment
    payment_basepoint=key("local_payment_basepoint"),
    delayed_payment_basepoint=key("local_delayed_payment_basepoint"),
    htlc_basepoint=key("local_htlc_basepoint"),
)
REMOTE = Basepoints(
    funding_pubkey=key("remote_funding_pubkey"),
    revocation_basepoint=key("remote_revocation_basepoint"),
    payment_basepoint=key("remote_payment_basepoint"),
    delayed_payment_basepoint=key("remote_payment_basepoint"),  # not used by the local commitment
    htlc_basepoint=key("remote_htlc_basepoint"),
)
FACTOR = obscuring_factor(LOCAL.payment_basepoint, REMOTE.payment_basepoint)
SCRIPT = funding_script(LOCAL.funding_pubkey, REMOTE.funding_pubkey)


def the_keys() -> CommitmentKeys:
    return commitment_keys(LOCAL, REMOTE, key("local_per_commitment_point"))


def params_of(channel_format: ChannelFormat, case: dict[str, Any]) -> CommitmentParams:
    return CommitmentParams(
        format=channel_format,
        funding_outpoint=OutPoint(txid_of_hex(PARAMS["funding_txid"]), PARAMS["funding_output_index"]),
        funding_sat=Sat(PARAMS["funding_satoshi"]),
        funding_script=SCRIPT,
        obscuring_factor=FACTOR,
        dust_limit_sat=Sat(case["dust_limit_satoshi"]),
        to_self_delay=PARAMS["to_self_delay"],
        is_owner_opener=PARAMS["opener"] == "local",
        owner_funding_pubkey=LOCAL.funding_pubkey,
        other_funding_pubkey=REMOTE.funding_pubkey,
    )


def preimage_of(htlc_id: int) -> bytes:
    return bytes.fromhex(COMMITMENT["htlcs"][htlc_id]["preimage"])


def htlc_of(htlc_id: int) -> HtlcOut:
    stated = COMMITMENT["htlcs"][htlc_id]
    assert stated["id"] == htlc_id
    return HtlcOut(
        is_offered=stated["direction"] == "offered",
        amount_msat=Msat(stated["amount_msat"]),
        payment_hash=sha256(preimage_of(htlc_id)),
        cltv_expiry=stated["cltv_expiry"],
        id=htlc_id,
    )


def spec_of(case: dict[str, Any]) -> CommitmentSpec:
    return CommitmentSpec(
        number=PARAMS["commitment_number"],
        feerate_per_kw=case["feerate_per_kw"],
        to_owner_msat=Msat(case["to_local_msat"]),
        to_other_msat=Msat(case["to_remote_msat"]),
        htlcs=tuple(htlc_of(htlc_id) for htlc_id in case["htlcs"]),
    )


def commitment_of(channel_format: ChannelFormat, case: dict[str, Any]) -> Commitment:
    return build_commitment(params_of(channel_format, case), the_keys(), spec_of(case))


def signature(der_hex: str) -> bytes:
    return compact_of(bytes.fromhex(der_hex))


def witness_of(second: SecondStage, of_other: bytes, of_owner: bytes) -> tuple[bytes, ...]:
    if second.htlc.is_offered:
        return htlc_timeout_witness(second, of_other, of_owner)
    return htlc_success_witness(second, of_other, of_owner, preimage_of(second.htlc.id))


@bolt("b3-transactions.7")
def test_the_keys_of_a_commitment_come_from_the_basepoints_and_its_point() -> None:
    keys = the_keys()
    assert keys.local_delayed == key("local_delayedpubkey")
    assert keys.revocation == key("local_revocation_pubkey")
    assert keys.owner_htlc == key("local_htlcpubkey")
    assert keys.other_htlc == key("remote_htlcpubkey")
    assert keys.other_payment == REMOTE.payment_basepoint


@bolt("b3-transactions.2")
def test_the_commitment_number_hides_behind_both_payment_basepoints() -> None:
    stated = VECTORS["commitment_number_obscuring"]
    points = [bytes.fromhex(stated[f"{who}_payment_basepoint"]) for who in ("opener", "accepter")]
    assert obscuring_factor(points[0], points[1]) == int(stated["factor"], 16)
    assert stated["commitment_number"] ^ FACTOR == int(stated["obscured"], 16)


@every_case
@bolt("b3-transactions.1", "b3-transactions.2", "b3-transactions.3", "b3-transactions.4", "b3-transactions.8")
def test_a_commitment_with_both_signatures(channel_format: ChannelFormat, case: dict[str, Any]) -> None:
    commitment = commitment_of(channel_format, case)
    ours = sign(key("local_funding_privkey"), commitment.sighash)
    theirs = sign(key("remote_funding_privkey"), commitment.sighash)
    assert theirs == signature(case["remote_sig_der"])
    if "local_sig_der" in case:
        assert ours == signature(case["local_sig_der"])
    witness = funding_witness(SCRIPT, REMOTE.funding_pubkey, theirs, LOCAL.funding_pubkey, ours)
    assert commitment.tx.with_witness(0, witness).serialize().hex() == case["commit_tx"]
    assert commitment.txid == commitment.tx.txid
    assert number_of_commitment(commitment.tx, FACTOR) == PARAMS["commitment_number"]


@every_case
@bolt("b3-transactions.1", "b3-transactions.6", "b3-transactions.8")
def test_its_second_stages_with_both_signatures(channel_format: ChannelFormat, case: dict[str, Any]) -> None:
    commitment = commitment_of(channel_format, case)
    our_key = key("local_htlc_privkey")
    assert len(commitment.htlcs) == len(case["htlc_txs"])
    for second, stated in zip(commitment.htlcs, case["htlc_txs"], strict=True):
        ours = sign(our_key, second.sighash_for_owner)
        theirs = signature(stated["remote_sig_der"])
        assert is_signed(key("remote_htlcpubkey"), second.sighash_for_other, theirs)
        if "local_sig_der" in stated:
            assert ours == signature(stated["local_sig_der"])
            assert (second.htlc.id, second.output_index) == (stated["htlc"], stated["output_index"])
        signed = second.tx.with_witness(0, witness_of(second, theirs, ours))
        assert signed.serialize().hex() == stated["tx"]


PRICED = [case for case in COMMITMENT["static_remotekey"] if "base_fee_satoshi" in case]


@pytest.mark.parametrize("case", PRICED, ids=lambda case: str(case["label"]))
@bolt("b3-transactions.5", "b3-transactions.6")
def test_what_the_opener_pays_and_what_miners_get(case: dict[str, Any]) -> None:
    commitment = commitment_of(ChannelFormat.STATIC_REMOTEKEY, case)
    untrimmed = len(commitment.htlcs)
    base_fee_sat = commitment_fee_sat(ChannelFormat.STATIC_REMOTEKEY, case["feerate_per_kw"], untrimmed)
    assert base_fee_sat == case["base_fee_satoshi"]
    assert commitment.fee_sat == case["actual_fee_satoshi"]
    spent = [(second.value_sat, second.witness_script.hex()) for second in commitment.htlcs]
    stated = [(out["satoshi"], out["wscript"]) for out in case["outputs"] if "htlc" in out["kind"]]
    assert sorted(spent) == sorted(stated)


@bolt("b3-transactions.5", "b3-transactions.6")
def test_the_fee_example_of_the_text() -> None:
    stated = VECTORS["fee_example"]
    feerate, dust_limit = stated["feerate_per_kw"], stated["dust_limit_satoshi"]
    kind = ChannelFormat.STATIC_REMOTEKEY
    assert second_stage_fee_sat(kind, feerate, True) == stated["htlc_timeout_fee"]
    assert second_stage_fee_sat(kind, feerate, False) == stated["htlc_success_fee"]
    htlcs = [HtlcOut(True, amount, bytes(32), 500, 0) for amount in stated["offered_msat"]]
    htlcs += [HtlcOut(False, amount, bytes(32), 500, 0) for amount in stated["received_msat"]]
    trimmed = [htlc for htlc in htlcs if is_trimmed(kind, dust_limit, feerate, htlc)]
    base_fee_sat = commitment_fee_sat(kind, feerate, len(htlcs) - len(trimmed))
    assert base_fee_sat == stated["base_fee"]
    assert (
        base_fee_sat + sum(htlc.amount_msat // 1000 for htlc in trimmed) == stated["fee_with_trimmed_htlcs"]
    )


def test_the_funding_transaction_pays_the_sorted_keys() -> None:
    stated = VECTORS["funding"]
    tx = parse_transaction(bytes.fromhex(stated["funding_tx"]))
    assert tx.txid == txid_of_hex(stated["funding_txid"])
    assert SCRIPT.hex() == stated["witness_script"]
