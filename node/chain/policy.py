"""What bitcoind relays, beyond consensus: the form of a transaction, its outputs, its witnesses.

The embedded chain enforces these so that a transaction which works on it works on a real
network. Reasons are spelled as bitcoind spells them. Left out is what no Lightning transaction
comes near: signature operation counts, bare multisig of many keys.
"""

from collections.abc import Sequence

from node.chain.coins import Coin
from node.chain.interface import Rejected
from wire.bitcoin.tx import Transaction, TxIn, TxOut
from wire.units import MAX_SAT

MAX_STANDARD_WEIGHT = 400_000
MIN_STRIPPED_BYTES = 65
MAX_SCRIPT_SIG_BYTES = 1650
MAX_WITNESS_SCRIPT_BYTES = 3600
MAX_WITNESS_ITEMS = 100
MAX_WITNESS_ITEM_BYTES = 80
MAX_DATA_CARRIER_BYTES = 83
DUST_FEERATE_PER_KVB = 3000

_PUSH_ONLY_LAST = 0x60
_ANNEX_TAG = 0x50
_PAY_TO_ANCHOR = bytes.fromhex("51024e73")


def script_type(script: bytes) -> str:
    """The name of a standard output script, or "nonstandard"."""
    size, head = len(script), script[:2]
    if head == b"\x00\x14" and size == 22:
        return "p2wpkh"
    if head == b"\x00\x20" and size == 34:
        return "p2wsh"
    if head == b"\x51\x20" and size == 34:
        return "p2tr"
    if script == _PAY_TO_ANCHOR:
        return "anchor"
    if size == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        return "p2pkh"
    if size == 23 and head == b"\xa9\x14" and script[22:] == b"\x87":
        return "p2sh"
    if script[:1] == b"\x6a" and is_push_only(script[1:]):
        return "nulldata"
    return "witness_unknown" if _is_future_witness_program(script) else "nonstandard"


def _is_future_witness_program(script: bytes) -> bool:
    return 4 <= len(script) <= 42 and 0x51 <= script[0] <= 0x60 and script[1] == len(script) - 2


def is_witness_program(script: bytes) -> bool:
    """Whether an output's conditions are met in the witness (BIP 141)."""
    return script_type(script) in ("p2wpkh", "p2wsh", "p2tr", "anchor", "witness_unknown")


def is_push_only(script: bytes) -> bool:
    """Whether a script does nothing but push."""
    position = 0
    while position < len(script):
        opcode = script[position]
        if opcode > _PUSH_ONLY_LAST:
            return False
        width = {0x4C: 1, 0x4D: 2, 0x4E: 4}.get(opcode, 0)
        length = opcode if opcode < 0x4C else 0
        if width:
            length = int.from_bytes(script[position + 1 : position + 1 + width], "little")
        position += 1 + width + length
    return position == len(script)


def dust_limit_sat(script: bytes) -> int:
    """The least amount that bitcoind relays in an output of this script (BOLT 3, dust limits)."""
    if script.startswith(b"\x6a"):
        return 0
    spending_bytes = 67 if is_witness_program(script) else 148
    size = len(TxOut(MAX_SAT, script).serialize()) + spending_bytes
    return size * DUST_FEERATE_PER_KVB // 1000


def check_form(transaction: Transaction) -> None:
    """The rules that need no knowledge of what is spent.

    Raises:
        Rejected: by consensus or as nonstandard.
    """
    reason = _broken_consensus(transaction) or _nonstandard_form(transaction)
    for output in transaction.outputs:
        reason = reason or _nonstandard_output(output)
    if reason:
        raise Rejected(transaction.txid, reason)


def _broken_consensus(transaction: Transaction) -> str | None:
    outpoints = [txin.outpoint for txin in transaction.inputs]
    if not outpoints:
        return "bad-txns-vin-empty"
    if not transaction.outputs:
        return "bad-txns-vout-empty"
    if max(output.value_sat for output in transaction.outputs) > MAX_SAT:
        return "bad-txns-vout-toolarge"
    if sum(output.value_sat for output in transaction.outputs) > MAX_SAT:
        return "bad-txns-txouttotal-toolarge"
    if len(set(outpoints)) < len(outpoints):
        return "bad-txns-inputs-duplicate"
    is_null = any(outpoint.txid == bytes(32) for outpoint in outpoints)
    return "coinbase" if is_null else None


def _nonstandard_form(transaction: Transaction) -> str | None:
    if not 1 <= transaction.version <= 3:
        return "version"
    if transaction.weight > MAX_STANDARD_WEIGHT:
        return "tx-size"
    if len(transaction.serialize_stripped()) < MIN_STRIPPED_BYTES:
        return "tx-size-small"
    for txin in transaction.inputs:
        if len(txin.script_sig) > MAX_SCRIPT_SIG_BYTES:
            return "scriptsig-size"
        if not is_push_only(txin.script_sig):
            return "scriptsig-not-pushonly"
    data_outputs = [output for output in transaction.outputs if output.script.startswith(b"\x6a")]
    return "multi-op-return" if len(data_outputs) > 1 else None


def _nonstandard_output(output: TxOut) -> str | None:
    kind = script_type(output.script)
    if kind == "nonstandard" or (kind == "nulldata" and len(output.script) > MAX_DATA_CARRIER_BYTES):
        return "scriptpubkey"
    return "dust" if output.value_sat < dust_limit_sat(output.script) else None


def check_inputs(transaction: Transaction, spent: Sequence[Coin]) -> None:
    """The rules on how outputs may be spent; `spent` are the coins of the inputs, in order.

    Raises:
        Rejected: the script is of no known type, or the witness is unusual.
    """
    for txin, coin in zip(transaction.inputs, spent, strict=True):
        kind = script_type(coin.script)
        if kind in ("nonstandard", "nulldata", "witness_unknown"):
            raise Rejected(transaction.txid, "bad-txns-nonstandard-inputs")
        if not _is_standard_witness(kind, txin):
            raise Rejected(transaction.txid, "bad-witness-nonstandard")


def _is_standard_witness(kind: str, txin: TxIn) -> bool:
    if not txin.witness:
        return True
    if kind == "p2sh":
        kind = script_type(txin.script_sig[1:])
    if kind == "p2wsh":
        *items, witness_script = txin.witness
        is_small = len(witness_script) <= MAX_WITNESS_SCRIPT_BYTES and len(items) <= MAX_WITNESS_ITEMS
        return is_small and all(len(item) <= MAX_WITNESS_ITEM_BYTES for item in items)
    if kind == "p2tr":
        return _is_standard_taproot_witness(txin.witness)
    return kind == "p2wpkh"


def _is_standard_taproot_witness(witness: tuple[bytes, ...]) -> bool:
    if len(witness) == 1:
        return True
    if witness[-1][:1] == bytes((_ANNEX_TAG,)) or not witness[-1]:
        return False
    is_tapscript = witness[-1][0] & 0xFE == 0xC0
    return not is_tapscript or all(len(item) <= MAX_WITNESS_ITEM_BYTES for item in witness[:-2])
