"""Transactions: read and written as two other implementations do it, and nothing but canonical bytes."""

import embit.transaction
import pbk
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.bitcoin_values import BOLT3, real_transactions, transactions
from wire.bitcoin.tx import (
    MalformedTransaction,
    OutPoint,
    Transaction,
    TxIn,
    TxOut,
    compact_size,
    parse_transaction,
    sized,
    txid_hex,
    txid_of_hex,
)
from wire.units import Sat

ONE_IN = TxIn(OutPoint(bytes(32), 0), witness=(b"\x01",))
SIMPLE = Transaction(2, (ONE_IN,), (TxOut(Sat(7), b"\x51"),))


@given(transactions)
def test_what_was_written_reads_back(tx: Transaction) -> None:
    assert parse_transaction(tx.serialize()) == tx


@given(transactions)
def test_bytes_and_names_are_those_of_embit(tx: Transaction) -> None:
    theirs = embit.transaction.Transaction.parse(tx.serialize())
    assert theirs.serialize() == tx.serialize()
    assert theirs.txid() == tx.txid[::-1]


@given(transactions)
def test_bytes_and_names_are_those_of_the_kernel(tx: Transaction) -> None:
    theirs = pbk.Transaction(tx.serialize())
    assert bytes(theirs) == tx.serialize()
    assert bytes(theirs.txid) == tx.txid
    assert (theirs.locktime, len(theirs.inputs), len(theirs.outputs)) == (
        tx.locktime,
        len(tx.inputs),
        len(tx.outputs),
    )


@pytest.mark.parametrize("raw", real_transactions())
def test_real_transactions_read_and_write_back(raw: str) -> None:
    tx = parse_transaction(bytes.fromhex(raw))
    assert tx.serialize().hex() == raw
    assert tx.weight == 3 * len(tx.serialize_stripped()) + len(tx.serialize())
    assert 4 * tx.vsize - 3 <= tx.weight <= 4 * tx.vsize


def test_a_hash_is_shown_reversed() -> None:
    shown = BOLT3["funding"]["funding_txid"]
    tx = parse_transaction(bytes.fromhex(BOLT3["funding"]["funding_tx"]))
    assert txid_hex(tx.txid) == shown
    assert txid_of_hex(shown) == tx.txid
    assert str(tx.outpoint(1)) == f"{shown}:1"


def test_a_witness_changes_only_the_hash_that_counts_it() -> None:
    signed = SIMPLE.with_witness(0, (b"", b"signature"))
    assert signed.inputs[0].witness == (b"", b"signature")
    assert (signed.txid, signed.wtxid == SIMPLE.wtxid) == (SIMPLE.txid, False)
    bare = SIMPLE.with_witness(0, ())
    assert bare.wtxid == bare.txid == SIMPLE.txid


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_or_read_back_the_same(raw: bytes) -> None:
    try:
        tx = parse_transaction(raw)
    except MalformedTransaction:
        return
    assert tx.serialize() == raw


@given(transactions, st.data())
def test_altered_bytes_are_refused_or_read_back_the_same(tx: Transaction, data: st.DataObject) -> None:
    raw = bytearray(tx.serialize())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    try:
        read = parse_transaction(bytes(raw))
    except MalformedTransaction:
        return
    assert read.serialize() == raw


@given(transactions, st.data())
def test_a_part_of_a_transaction_is_refused(tx: Transaction, data: st.DataObject) -> None:
    raw = tx.serialize()
    with pytest.raises(MalformedTransaction):
        parse_transaction(raw[: data.draw(st.integers(0, len(raw) - 1))])


EMPTY_BODY = bytes(36) + b"\x00" + bytes(4)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (SIMPLE.serialize() + b"\x00", "left over"),
        (b"\x02\0\0\0" + b"\x00\x00" + bytes(4), "no inputs"),
        (b"\x02\0\0\0" + b"\x00\x02" + b"\x01" + EMPTY_BODY, "unknown flag"),
        (b"\x02\0\0\0" + b"\x00\x01\x00" + b"\x00" + bytes(4), "all are empty"),
        (b"\x02\0\0\0" + b"\x00\x01\x01" + EMPTY_BODY + b"\x00" + b"\x00" + bytes(4), "all are empty"),
        (b"\x02\0\0\0" + b"\xfd\x01\x00" + EMPTY_BODY + b"\x00" + bytes(4), "shortest form"),
        (b"\x02\0\0\0" + b"\xff" + b"\xff" * 8, "too early"),
    ],
)
def test_what_is_not_canonical_is_refused_with_its_reason(raw: bytes, why: str) -> None:
    with pytest.raises(MalformedTransaction, match=why):
        parse_transaction(raw)


@pytest.mark.parametrize("count", [0, 1, 0xFC, 0xFD, 0xFFFF, 0x10000, 0xFFFFFFFF, 0x100000000])
def test_counts_take_their_shortest_form(count: int) -> None:
    encoded = compact_size(count)
    widths = {1: 0xFC, 3: 0xFFFF, 5: 0xFFFFFFFF, 9: 2**64 - 1}
    assert len(encoded) == min(width for width, largest in widths.items() if count <= largest)


def test_many_outputs_need_a_longer_count() -> None:
    tx = Transaction(2, (ONE_IN,), (TxOut(Sat(1), b"\x51" * 300),) * 300)
    assert parse_transaction(tx.serialize()) == tx
    assert sized(b"a" * 300)[:3] == b"\xfd\x2c\x01"
