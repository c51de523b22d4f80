"""Blocks and transactions as bitcoind's JSON shows them: hashes reversed, amounts in bitcoin.

An amount is written digit by digit with eight decimals, never as a float.
"""

from typing import Any

import msgspec

from node.chain.mempool import Entry
from node.chain.policy import script_type
from node.chain.regtest import Regtest
from wire.bitcoin import script as opcodes
from wire.bitcoin.address import NoAddressForm, address_of
from wire.bitcoin.block import Block, BlockHeader
from wire.bitcoin.tx import Transaction, TxIn, TxOut, txid_hex

SAT_PER_BITCOIN = 100_000_000
WORK_OF_A_BLOCK = 2
TARGET = "7fffff" + 58 * "0"
DIFFICULTY = 4.656542373906925e-10

_TYPES = {
    "p2pkh": "pubkeyhash",
    "p2sh": "scripthash",
    "p2wpkh": "witness_v0_keyhash",
    "p2wsh": "witness_v0_scripthash",
    "p2tr": "witness_v1_taproot",
}
_NAMES = {value: name for name, value in vars(opcodes).items() if name.startswith("OP_")}
_PUSH_WIDTHS = {0x4C: 1, 0x4D: 2, 0x4E: 4}


def bitcoin(amount_sat: int) -> msgspec.Raw:
    """An amount as a JSON number of bitcoin, to the last satoshi."""
    whole, rest = divmod(amount_sat, SAT_PER_BITCOIN)
    return msgspec.Raw(b"%d.%08d" % (whole, rest))


def header_view(chain: Regtest, header: BlockHeader, transactions: int) -> dict[str, Any]:
    """What `getblockheader` tells of a block, whose place in the chain decides its confirmations."""
    found = chain.find(header.block_hash)
    assert found is not None, "only blocks of this chain are shown"
    height = found[0]
    view = {
        "hash": txid_hex(header.block_hash),
        "confirmations": chain.height - height + 1 if is_active(chain, height, header.block_hash) else -1,
        "height": height,
        "version": header.version,
        "versionHex": f"{header.version:08x}",
        "merkleroot": txid_hex(header.merkle_root),
        "time": header.time,
        "mediantime": median_time(chain, header, height),
        "nonce": header.nonce,
        "bits": f"{header.bits:08x}",
        "target": TARGET,
        "difficulty": DIFFICULTY,
        "chainwork": chainwork(height),
        "nTx": transactions,
    }
    if height:
        view["previousblockhash"] = txid_hex(header.previous_hash)
    following = chain.block_hash(height + 1)
    if following is not None and view["confirmations"] != -1:
        view["nextblockhash"] = txid_hex(following)
    return view


def is_active(chain: Regtest, height: int, block_hash: bytes) -> bool:
    """Whether a block is on the best chain."""
    return chain.block_hash(height) == block_hash


def chainwork(height: int) -> str:
    """The work of a chain of this height: every regtest block takes two tries."""
    return f"{WORK_OF_A_BLOCK * (height + 1):064x}"


def median_time(chain: Regtest, header: BlockHeader, height: int) -> int:
    """The median time past of a block on any branch, the blocks being evenly spaced."""
    if is_active(chain, height, header.block_hash):
        return chain.median_time_past(height)
    return header.time


def block_view(chain: Regtest, block: Block, verbosity: int, network: str) -> dict[str, Any]:
    """What `getblock` tells: the transactions by their ids, or shown as well."""
    raw_size = len(block.serialize())
    stripped = raw_size - sum(len(tx.serialize()) - len(tx.serialize_stripped()) for tx in block.transactions)
    if verbosity == 1:
        shown: list[Any] = [txid_hex(transaction.txid) for transaction in block.transactions]
    else:
        shown = [
            {**transaction_view(transaction, network), "hex": transaction.serialize().hex()}
            for transaction in block.transactions
        ]
    sizes = {"strippedsize": stripped, "size": raw_size, "weight": 3 * stripped + raw_size}
    return {**header_view(chain, block.header, len(block.transactions)), **sizes, "tx": shown}


def entry_view(chain: Regtest, entry: Entry) -> dict[str, Any]:
    """What `getmempoolentry` tells: a waiting transaction, with its fees and its kin."""
    mempool = chain.mempool
    above = [mempool[txid] for txid in mempool.ancestors(entry.transaction)]
    below = [mempool[txid] for txid in mempool.descendants(entry.txid)]
    parents = {txin.outpoint.txid for txin in entry.transaction.inputs}
    children = [
        mempool.spender(entry.transaction.outpoint(at)) for at in range(len(entry.transaction.outputs))
    ]
    fee = bitcoin(entry.fee_sat)
    return {
        "vsize": entry.vsize,
        "weight": entry.transaction.weight,
        "time": chain.median_time_past(chain.height),
        "height": chain.height,
        "descendantcount": len(below) + 1,
        "descendantsize": entry.vsize + sum(kin.vsize for kin in below),
        "ancestorcount": len(above) + 1,
        "ancestorsize": entry.vsize + sum(kin.vsize for kin in above),
        "wtxid": txid_hex(entry.transaction.wtxid),
        "fees": {
            "base": fee,
            "modified": fee,
            "ancestor": bitcoin(entry.fee_sat + sum(kin.fee_sat for kin in above)),
            "descendant": bitcoin(entry.fee_sat + sum(kin.fee_sat for kin in below)),
        },
        "depends": [txid_hex(kin.txid) for kin in above if kin.txid in parents],
        "spentby": [txid_hex(txid) for txid in children if txid is not None],
        "bip125-replaceable": True,
        "unbroadcast": False,
    }


def transaction_view(transaction: Transaction, network: str) -> dict[str, Any]:
    """What bitcoind tells of a transaction itself."""
    return {
        "txid": txid_hex(transaction.txid),
        "hash": txid_hex(transaction.wtxid),
        "version": transaction.version,
        "size": len(transaction.serialize()),
        "vsize": transaction.vsize,
        "weight": transaction.weight,
        "locktime": transaction.locktime,
        "vin": [input_view(txin) for txin in transaction.inputs],
        "vout": [
            {**output_view(output, network), "n": index} for index, output in enumerate(transaction.outputs)
        ],
    }


def input_view(txin: TxIn) -> dict[str, Any]:
    """An input, whose witness is left out when it is empty."""
    view: dict[str, Any] = {}
    if txin.outpoint.txid == bytes(32):
        view["coinbase"] = txin.script_sig.hex()
    else:
        view["txid"], view["vout"] = txid_hex(txin.outpoint.txid), txin.outpoint.index
        view["scriptSig"] = {"asm": disassembled(txin.script_sig), "hex": txin.script_sig.hex()}
    if txin.witness:
        view["txinwitness"] = [item.hex() for item in txin.witness]
    return {**view, "sequence": txin.sequence}


def output_view(output: TxOut, network: str) -> dict[str, Any]:
    """An output: its amount and its script."""
    return {"value": bitcoin(output.value_sat), "scriptPubKey": script_view(output.script, network)}


def script_view(script: bytes, network: str) -> dict[str, Any]:
    """An output script, with its address if it has one."""
    kind = script_type(script)
    view = {"asm": disassembled(script), "hex": script.hex(), "type": _TYPES.get(kind, kind)}
    try:
        return {**view, "address": address_of(script, network)}
    except NoAddressForm:
        return view


def disassembled(script: bytes) -> str:
    """A script in words: pushes in hex, the rest by name."""
    words: list[str] = []
    position = 0
    while position < len(script):
        opcode = script[position]
        width = _PUSH_WIDTHS.get(opcode, 0)
        position += 1
        length = int.from_bytes(script[position : position + width], "little") if width else opcode
        position += width
        if 0 < opcode <= 0x4E:
            content = script[position : position + length]
            words.append(_shown_push(content) if len(content) == length else "[error]")
            position += length
        else:
            words.append(_word(opcode))
    return " ".join(words)


def _word(opcode: int) -> str:
    if opcode == 0:
        return "0"
    if opcodes.OP_1 <= opcode <= opcodes.OP_16:
        return str(opcode - opcodes.OP_1 + 1)
    return _NAMES.get(opcode, "OP_UNKNOWN")


def _shown_push(content: bytes) -> str:
    """A push of up to four bytes is shown as the number it stands for."""
    if len(content) > 4:
        return content.hex()
    magnitude = int.from_bytes(content[:-1] + bytes((content[-1] & 0x7F,)), "little")
    return str(-magnitude if content[-1] & 0x80 else magnitude)
