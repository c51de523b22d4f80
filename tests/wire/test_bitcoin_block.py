"""Blocks: the vectors' two, read and written, and their names."""

import pbk
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.bitcoin_values import BOLT3, hashes
from wire.bitcoin.block import CHAIN_HASH, merkle_root, parse_block
from wire.bitcoin.tx import MalformedTransaction
from wire.crypto.hashes import sha256d

GENESIS, FIRST = (bytes.fromhex(BOLT3["funding"][name]) for name in ("block0", "block1"))


@pytest.mark.parametrize("raw", [GENESIS, FIRST], ids=["genesis", "first"])
def test_a_block_reads_and_writes_back_and_has_the_kernels_name(raw: bytes) -> None:
    block = parse_block(raw)
    assert block.serialize() == raw
    assert block.header.block_hash == bytes(pbk.Block(raw).block_hash)
    assert merkle_root([tx.txid for tx in block.transactions]) == block.header.merkle_root


def test_the_genesis_block_names_the_network() -> None:
    assert parse_block(GENESIS).header.block_hash == CHAIN_HASH["regtest"]
    assert parse_block(FIRST).header.previous_hash == CHAIN_HASH["regtest"]


@given(st.binary(max_size=300) | st.binary(max_size=120).map(lambda tail: GENESIS[:80] + tail))
def test_any_bytes_are_refused_or_read_back_the_same(raw: bytes) -> None:
    try:
        block = parse_block(raw)
    except MalformedTransaction:
        return
    assert block.serialize() == raw


@given(hashes, hashes, hashes)
def test_an_odd_row_repeats_its_last_hash(one: bytes, two: bytes, three: bytes) -> None:
    assert merkle_root([one]) == one
    assert merkle_root([one, two]) == sha256d(one, two)
    assert merkle_root([one, two, three]) == sha256d(sha256d(one, two), sha256d(three, three))
