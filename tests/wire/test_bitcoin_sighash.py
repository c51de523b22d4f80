"""The digests of BIP 143: the general way against embit, the fast ways against the general one."""

import embit.script
import embit.transaction
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.bitcoin_values import amounts_sat, hashes, outpoints, outputs, transactions, u32
from wire.bitcoin.sighash import (
    SIGHASH_ALL,
    SIGHASH_ANYONECANPAY,
    SIGHASH_NONE,
    SIGHASH_SINGLE,
    SIGHASH_SINGLE_ANYONECANPAY,
    one_input_sighash,
    one_to_one_sighashes,
    p2wpkh_script_code,
    segwit_v0_sighash,
    witness_signature,
)
from wire.bitcoin.tx import OutPoint, Transaction, TxIn, TxOut, parse_transaction
from wire.crypto.hashes import hash160
from wire.crypto.secp256k1 import compact_of, is_signed
from wire.units import Sat

TYPES = [
    base | flag for base in (SIGHASH_ALL, SIGHASH_NONE, SIGHASH_SINGLE) for flag in (0, SIGHASH_ANYONECANPAY)
]
scripts = st.binary(min_size=1, max_size=252)


@given(transactions, scripts, amounts_sat, st.sampled_from(TYPES), st.data())
def test_the_digest_is_the_one_of_embit(
    tx: Transaction, script_code: bytes, value_sat: Sat, sighash_type: int, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(tx.inputs) - 1))
    theirs = embit.transaction.Transaction.parse(tx.serialize())
    script = embit.script.Script(script_code)
    expected = theirs.sighash_segwit(index, script, value_sat, sighash_type)
    assert segwit_v0_sighash(tx, index, script_code, value_sat, sighash_type) == expected


@given(outpoints, u32, scripts, amounts_sat, st.lists(outputs, min_size=1, max_size=5), u32)
def test_packed_outputs_give_the_digest_of_the_built_transaction(
    outpoint: OutPoint, sequence: int, script: bytes, value_sat: Sat, txouts: list[TxOut], locktime: int
) -> None:
    tx = Transaction(2, (TxIn(outpoint, sequence),), tuple(txouts), locktime)
    packed = b"".join(txout.serialize() for txout in txouts)
    digest = one_input_sighash(outpoint, sequence, script, value_sat, packed, locktime)
    assert digest == segwit_v0_sighash(tx, 0, script, value_sat)


spends = st.tuples(st.integers(0, 1000), scripts, amounts_sat, amounts_sat, u32)


@given(
    hashes,
    st.binary(min_size=34, max_size=34),
    st.sampled_from([0, 1]),
    st.sampled_from([SIGHASH_ALL, SIGHASH_SINGLE_ANYONECANPAY]),
    st.lists(spends, max_size=6),
)
def test_many_spends_give_the_digests_of_the_built_transactions(
    txid: bytes,
    output_script: bytes,
    sequence: int,
    sighash_type: int,
    all_spends: list[tuple[int, bytes, int, int, int]],
) -> None:
    digests = one_to_one_sighashes(txid, output_script, sequence, sighash_type, all_spends)
    for digest, (index, script, value_sat, output_sat, locktime) in zip(digests, all_spends, strict=True):
        txin, txout = TxIn(OutPoint(txid, index), sequence), TxOut(Sat(output_sat), output_script)
        tx = Transaction(2, (txin,), (txout,), locktime)
        assert digest == segwit_v0_sighash(tx, 0, script, Sat(value_sat), sighash_type)


def test_a_single_without_its_output_signs_no_output() -> None:
    outpoint = OutPoint(bytes(32), 0)
    few = Transaction(2, (TxIn(outpoint), TxIn(outpoint)), (TxOut(Sat(1), b"\x51"),))
    other = Transaction(2, few.inputs, (TxOut(Sat(2), b"\x52"),))
    digests = [segwit_v0_sighash(tx, 1, b"\x51", Sat(9), SIGHASH_SINGLE) for tx in (few, other)]
    assert digests[0] == digests[1]


# BIP 143's native P2WPKH example: the unsigned transaction, the key that signs its second input, and
# the signature that the BIP prints.
BIP143_UNSIGNED = (
    "0100000002fff7f7881a8099afa6940d42d1e7f6362bec38171ea3edf433541db4e4ad969f0000000000eeffffff"
    "ef51e1b804cc89d182d279655c3aa89e815b1b309fe287d9b2b55d57b90ec68a0100000000ffffffff02202cb20600000000"
    "1976a9148280b37df378db99f66f85c95a783a76ac7a6d5988ac9093510d000000001976a9143bde42dbee7e4dbe6a21b2d5"
    "0ce2f0167faa815988ac11000000"
)
BIP143_PUBKEY = bytes.fromhex("025476c2e83188368da1ff3e292e7acafcdb3566bb0ad253f62fc70f07aeee6357")
BIP143_SIGNATURE = bytes.fromhex(
    "304402203609e17b84f6a7d30c80bfa610b5b4542f32a8a0d5447a12fb1366d7f01cc44a0220573a954c4518331561406f90"
    "300e8f3358f51928d43c212a8caed02de67eebee"
)


def test_the_example_of_bip_143() -> None:
    tx = parse_transaction(bytes.fromhex(BIP143_UNSIGNED))
    script_code = p2wpkh_script_code(hash160(BIP143_PUBKEY))
    digest = segwit_v0_sighash(tx, 1, script_code, Sat(600_000_000))
    assert digest.hex() == "c37af31116d1b27caf68aae9e3ac82f1477929014d5b917657d0eb49478cb670"
    assert is_signed(BIP143_PUBKEY, digest, compact_of(BIP143_SIGNATURE))
    assert witness_signature(compact_of(BIP143_SIGNATURE)) == BIP143_SIGNATURE + b"\x01"


def test_a_script_code_of_the_fast_way_is_short() -> None:
    with pytest.raises(AssertionError):
        one_to_one_sighashes(bytes(32), bytes(34), 0, SIGHASH_ALL, [(0, bytes(253), 1, 1, 0)])
