"""What a signature signs: the segwit v0 digest (BIP 143); and how a witness carries it.

Two ways to the same bytes. `segwit_v0_sighash` takes any transaction. The two functions below
it never build one: they pack the preimage of the only two shapes that a busy channel signs,
its commitment and the one-input one-output transactions that spend the commitment's HTLCs.
Those must stay loops without calls, since every commitment re-signs all of its HTLCs; this is
also why they use hashlib directly.
"""

import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from hashlib import sha256

from wire.bitcoin.tx import OutPoint, Transaction, sized
from wire.crypto.hashes import sha256d
from wire.crypto.secp256k1 import Signature, der_of
from wire.units import Sat

SIGHASH_ALL = 0x01
SIGHASH_NONE = 0x02
SIGHASH_SINGLE = 0x03
SIGHASH_ANYONECANPAY = 0x80
SIGHASH_SINGLE_ANYONECANPAY = SIGHASH_SINGLE | SIGHASH_ANYONECANPAY

_ZERO_HASH = bytes(32)
_VERSION_2 = b"\x02\x00\x00\x00"
_u32, _u64 = struct.Struct("<I").pack, struct.Struct("<Q").pack
_value_to_type = struct.Struct("<QI32sII").pack

Spend = tuple[int, bytes, int, int, int]


def witness_signature(signature: Signature, sighash_type: int = SIGHASH_ALL) -> bytes:
    """A 64-byte signature as a witness carries it: DER, then the kind of digest."""
    return der_of(signature) + bytes((sighash_type,))


def p2wpkh_script_code(pubkey_hash: bytes) -> bytes:
    """The script code of a P2WPKH input: the P2PKH script of the same hash."""
    return b"\x76\xa9\x14" + pubkey_hash + b"\x88\xac"


def _hash_outputs(tx: Transaction, index: int, base: int) -> bytes:
    if base == SIGHASH_NONE or (base == SIGHASH_SINGLE and index >= len(tx.outputs)):
        return _ZERO_HASH
    signed = tx.outputs[index : index + 1] if base == SIGHASH_SINGLE else tx.outputs
    return sha256d(*[txout.serialize() for txout in signed])


def segwit_v0_sighash(
    tx: Transaction, index: int, script_code: bytes, value_sat: Sat, sighash_type: int = SIGHASH_ALL
) -> bytes:
    """The 32-byte digest that input `index` signs when it spends `value_sat` under `script_code`."""
    base, is_alone = sighash_type & 0x1F, bool(sighash_type & SIGHASH_ANYONECANPAY)
    hash_prevouts = hash_sequence = _ZERO_HASH
    if not is_alone:
        hash_prevouts = sha256d(*[txin.outpoint.serialize() for txin in tx.inputs])
        if base not in (SIGHASH_NONE, SIGHASH_SINGLE):
            hash_sequence = sha256d(*[_u32(txin.sequence) for txin in tx.inputs])
    spent = tx.inputs[index]
    return sha256d(
        _u32(tx.version),
        hash_prevouts,
        hash_sequence,
        spent.outpoint.serialize(),
        sized(script_code),
        _value_to_type(value_sat, spent.sequence, _hash_outputs(tx, index, base), tx.locktime, sighash_type),
    )


def one_input_sighash(
    outpoint: OutPoint, sequence: int, script_code: bytes, value_sat: Sat, outputs: bytes, locktime: int
) -> bytes:
    """The SIGHASH_ALL digest of a version 2 transaction whose one input is this.

    `outputs` are the serialised outputs joined, without their count.
    """
    spent = outpoint.serialize()
    rest = _value_to_type(value_sat, sequence, sha256d(outputs), locktime, SIGHASH_ALL)
    return sha256d(_VERSION_2, sha256d(spent), sha256d(_u32(sequence)), spent, sized(script_code), rest)


@lru_cache(maxsize=256)
def _preimage_packer(script_length: int) -> Callable[..., bytes]:
    """Packs BIP 143's preimage around a script code, whose length must fit into one byte."""
    assert script_length < 0xFD
    return struct.Struct(f"<4s32s64sIB{script_length}sQI32sII").pack


def one_to_one_sighashes(
    txid: bytes, output_script: bytes, sequence: int, sighash_type: int, spends: Iterable[Spend]
) -> list[bytes]:
    """The digests of version 2 transactions that spend outputs of `txid`, each to `output_script`.

    A spend is (output index, script code, its value_sat, value_sat of the one output, locktime).
    `sighash_type` is SIGHASH_ALL or SIGHASH_SINGLE_ANYONECANPAY. The hash of an output is kept
    for the next spend of the same value: equal amounts are the rule when content is paid by chunk.
    """
    is_alone = sighash_type == SIGHASH_SINGLE_ANYONECANPAY
    sequence_hash_and_txid = (_ZERO_HASH if is_alone else sha256d(_u32(sequence))) + txid
    sized_output_script = sized(output_script)
    output_hashes: dict[int, bytes] = {}
    hash_prevouts = _ZERO_HASH
    digests = []
    for index, script_code, value_sat, output_sat, locktime in spends:
        hash_outputs = output_hashes.get(output_sat)
        if hash_outputs is None:
            output = _u64(output_sat) + sized_output_script
            hash_outputs = output_hashes[output_sat] = sha256(sha256(output).digest()).digest()
        if not is_alone:
            hash_prevouts = sha256(sha256(txid + _u32(index)).digest()).digest()
        length = len(script_code)
        preimage = _preimage_packer(length)(
            _VERSION_2,
            hash_prevouts,
            sequence_hash_and_txid,
            index,
            length,
            script_code,
            value_sat,
            sequence,
            hash_outputs,
            locktime,
            sighash_type,
        )
        digests.append(sha256(sha256(preimage).digest()).digest())
    return digests
