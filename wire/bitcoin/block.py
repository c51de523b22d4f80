"""Blocks as Bitcoin serialises them, and the names of the networks.

Hashes are in the order SHA-256 produces them, like a `chain_hash` of BOLT 7. Nothing here judges
a block: the chain's backend has done that before a block reaches the node.
"""

import struct
from collections.abc import Sequence
from functools import cached_property

import msgspec

from wire.bitcoin.tx import Reader, Transaction, compact_size, read_transaction
from wire.crypto.hashes import sha256d

CHAIN_HASH = {
    "bitcoin": bytes.fromhex("6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000"),
    "testnet": bytes.fromhex("43497fd7f826957108f4a30fd9cec3aeba79972084e90ead01ea330900000000"),
    "testnet4": bytes.fromhex("43f08bdab050e35b567c864b91f47f50ae725ae2de53bcfbbaf284da00000000"),
    "signet": bytes.fromhex("f61eee3b63a380a477a063af32b2bbc97c9ff9f01f2c4225e973988108000000"),
    "regtest": bytes.fromhex("06226e46111a0b59caaf126043eb5bbf28c34f3a5e332a1fc7b2b73cf188910f"),
}
"""The hash of each network's first block, which names the network in messages (BOLT 0)."""

HEADER_LENGTH = 80

_header = struct.Struct("<I32s32sIII")


class BlockHeader(msgspec.Struct, frozen=True, dict=True):
    """The 80 bytes that proof of work is done over."""

    version: int
    previous_hash: bytes
    merkle_root: bytes
    time: int
    bits: int
    nonce: int

    def serialize(self) -> bytes:
        return _header.pack(*msgspec.structs.astuple(self))

    @cached_property
    def block_hash(self) -> bytes:
        return sha256d(self.serialize())


class Block(msgspec.Struct, frozen=True):
    """A header and the transactions that it commits to, the coinbase first."""

    header: BlockHeader
    transactions: tuple[Transaction, ...]

    def serialize(self) -> bytes:
        bodies = [transaction.serialize() for transaction in self.transactions]
        return b"".join((self.header.serialize(), compact_size(len(bodies)), *bodies))


def parse_header(raw: bytes) -> BlockHeader:
    """The header that these 80 bytes are."""
    return BlockHeader(*_header.unpack(raw))


def parse_block(raw: bytes) -> Block:
    """The block that these bytes are, all of them.

    Raises:
        MalformedTransaction: they are something else.
    """
    reader = Reader(raw)
    header = parse_header(reader.take(HEADER_LENGTH))
    count = reader.compact_size()
    transactions = tuple([read_transaction(reader) for _ in range(count)])
    reader.finish()
    return Block(header, transactions)


def merkle_root(hashes: Sequence[bytes]) -> bytes:
    """The root of Bitcoin's tree over at least one hash: an odd row repeats its last entry."""
    row = list(hashes)
    while len(row) > 1:
        if len(row) % 2:
            row.append(row[-1])
        row = [sha256d(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]
