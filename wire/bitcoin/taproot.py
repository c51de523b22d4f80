"""Outputs that one key spends: what it signs, and the key that is on the chain (BIP 341, BIP 86).

The output's key is the owner's, tweaked with a hash of itself and of no scripts, so that whoever
sees the output spent knows that there were none.
"""

import struct
from collections.abc import Iterable, Sequence
from hashlib import sha256

from wire.bitcoin.tx import Transaction, TxOut, sized
from wire.crypto.hashes import tagged_hash
from wire.crypto.secp256k1 import (
    GROUP_ORDER,
    Point,
    Secret,
    add_secrets,
    add_to_point,
    multiply_secrets,
    point_of,
    xonly_of,
)

_u32, _u64 = struct.Struct("<I").pack, struct.Struct("<Q").pack
_EVEN = b"\x02"
_MINUS_ONE = (GROUP_ORDER - 1).to_bytes(32, "big")
_EPOCH, _SIGHASH_DEFAULT, _KEY_PATH = b"\0", b"\0", b"\0"


def output_key(internal: Point) -> bytes:
    """The 32 bytes that the output of an owner's key shows."""
    return xonly_of(add_to_point(Point(_EVEN + xonly_of(internal)), _tweak(internal)))


def output_secret(secret: Secret) -> Secret:
    """What signs for the output of this secret's point."""
    point = point_of(secret)
    even = secret if point[:1] == _EVEN else multiply_secrets(secret, _MINUS_ONE)
    return add_secrets(even, _tweak(point))


def _tweak(internal: Point) -> bytes:
    return tagged_hash(b"TapTweak", xonly_of(internal))


def key_path_sighash(tx: Transaction, index: int, spent: Sequence[TxOut]) -> bytes:
    """The 32-byte digest that input `index` signs, for all inputs and outputs.

    `spent` are the outputs that the inputs spend, all of them and in their order.
    """
    message = (
        _EPOCH,
        _SIGHASH_DEFAULT,
        _u32(tx.version),
        _u32(tx.locktime),
        _hash(txin.outpoint.serialize() for txin in tx.inputs),
        _hash(_u64(output.value_sat) for output in spent),
        _hash(sized(output.script) for output in spent),
        _hash(_u32(txin.sequence) for txin in tx.inputs),
        _hash(output.serialize() for output in tx.outputs),
        _KEY_PATH,
        _u32(index),
    )
    return tagged_hash(b"TapSighash", b"".join(message))


def _hash(parts: Iterable[bytes]) -> bytes:
    return sha256(b"".join(parts)).digest()
