"""Blocks for the embedded chain: a coinbase, what waits, and enough work (BIP 34, BIP 141)."""

from collections.abc import Iterable, Sequence

from node.chain.mempool import Entry
from wire.bitcoin.block import Block, BlockHeader, merkle_root
from wire.bitcoin.script import op_return, push, push_number
from wire.bitcoin.tx import FINAL_SEQUENCE, OutPoint, Transaction, TxIn, TxOut
from wire.crypto.hashes import sha256d
from wire.units import Sat

BLOCK_VERSION = 0x20000000
REGTEST_BITS = 0x207FFFFF
REGTEST_TARGET = 0x7FFFFF << 8 * (0x20 - 3)
HALVING_BLOCKS = 150
FIRST_SUBSIDY_SAT = 50 * 100_000_000
MAX_TRANSACTIONS_WEIGHT = 3_990_000

_COMMITMENT_TAG = bytes.fromhex("aa21a9ed")
_WITNESS_NONCE = bytes(32)
_NO_OUTPOINT = OutPoint(bytes(32), 0xFFFFFFFF)


def subsidy_sat(height: int) -> Sat:
    """What a block at this height may create out of nothing."""
    return Sat(FIRST_SUBSIDY_SAT >> height // HALVING_BLOCKS)


def fill(waiting: Iterable[Entry]) -> list[Entry]:
    """As many of the waiting entries as fit into one block, each after its parents."""
    chosen: list[Entry] = []
    left_out: set[bytes] = set()
    room = MAX_TRANSACTIONS_WEIGHT
    for entry in waiting:
        parents = {txin.outpoint.txid for txin in entry.transaction.inputs}
        if 4 * entry.vsize > room or parents & left_out:
            left_out.add(entry.txid)
            continue
        chosen.append(entry)
        room -= 4 * entry.vsize
    return chosen


def assemble(
    height: int, previous_hash: bytes, time: int, entries: Sequence[Entry], script: bytes, mark: bytes = b""
) -> Block:
    """A block with valid work whose coinbase pays `script`.

    `mark` tells apart two blocks that are otherwise the same.
    """
    reward_sat = Sat(subsidy_sat(height) + sum(entry.fee_sat for entry in entries))
    bodies = [entry.transaction for entry in entries]
    transactions = (_coinbase(height, reward_sat, script, bodies, mark), *bodies)
    root = merkle_root([transaction.txid for transaction in transactions])
    return Block(_worked(previous_hash, root, time), transactions)


def _coinbase(
    height: int, reward_sat: Sat, script: bytes, bodies: Sequence[Transaction], mark: bytes
) -> Transaction:
    witness_root = merkle_root([bytes(32), *(body.wtxid for body in bodies)])
    commitment = op_return(_COMMITMENT_TAG + sha256d(witness_root, _WITNESS_NONCE))
    # a second push, if only an empty one: consensus wants at least two bytes (BIP 34 gives one below 17)
    script_sig = push_number(height) + push(mark)
    reward = TxIn(_NO_OUTPOINT, FINAL_SEQUENCE, (_WITNESS_NONCE,), script_sig)
    return Transaction(2, (reward,), (TxOut(reward_sat, script), TxOut(Sat(0), commitment)))


def _worked(previous_hash: bytes, root: bytes, time: int) -> BlockHeader:
    for nonce in range(1 << 32):
        header = BlockHeader(BLOCK_VERSION, previous_hash, root, time, REGTEST_BITS, nonce)
        if int.from_bytes(header.block_hash, "little") <= REGTEST_TARGET:
            return header
    raise AssertionError("half of all nonces work on regtest")
