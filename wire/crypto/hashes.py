"""Hashes and key derivation (BOLT 3, 4, 8; RFC 5869)."""

import hashlib
import hmac
from collections.abc import Iterable
from typing import Any


def sha256(*parts: bytes) -> bytes:
    """SHA-256 of the parts joined, 32 bytes."""
    return hashlib.sha256(b"".join(parts)).digest()


def sha256d(*parts: bytes) -> bytes:
    """SHA-256 twice, as Bitcoin and BOLT 7 sign and name things."""
    return hashlib.sha256(hashlib.sha256(b"".join(parts)).digest()).digest()


def _blank_ripemd160() -> Any:
    try:
        return hashlib.new("ripemd160")
    except ValueError:  # OpenSSL may be built or configured without it
        return None


# Copying one costs half of looking the hash up by name, and each HTLC output needs one.
_BLANK_RIPEMD160 = _blank_ripemd160()


def ripemd160(message: bytes) -> bytes:
    """RIPEMD-160, 20 bytes, as the HTLC scripts of BOLT 3 use it."""
    if _BLANK_RIPEMD160 is None:
        return slow_ripemd160(message)
    digest = _BLANK_RIPEMD160.copy()
    digest.update(message)
    return bytes(digest.digest())


def slow_ripemd160(message: bytes) -> bytes:
    """The same in Python, where OpenSSL has none: right, and two hundred times slower."""
    from embit.util.py_ripemd160 import ripemd160 as in_python

    return bytes(in_python(message))


def hash160(message: bytes) -> bytes:
    """RIPEMD-160 of SHA-256: what a P2WPKH output commits to."""
    return ripemd160(hashlib.sha256(message).digest())


_BLOCK_SIZE = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA-256, 32 bytes (RFC 2104).

    Written out because `hmac.digest` looks its hash up by name each time, which costs as much
    as hashing a short message, and an onion needs several per hop.
    """
    if len(key) > _BLOCK_SIZE:
        key = hashlib.sha256(key).digest()
    padded = key.ljust(_BLOCK_SIZE, b"\0")
    inner = hashlib.sha256(padded.translate(_INNER) + message).digest()
    return hashlib.sha256(padded.translate(_OUTER) + inner).digest()


def hmacs_sha256(key: bytes, messages: Iterable[bytes]) -> list[bytes]:
    """HMAC-SHA-256 of many messages under one key of at most 64 bytes, each for half the price of one."""
    padded = key.ljust(_BLOCK_SIZE, b"\0")
    inner, outer = hashlib.sha256(padded.translate(_INNER)), hashlib.sha256(padded.translate(_OUTER))
    found = []
    for message in messages:
        inside, outside = inner.copy(), outer.copy()
        inside.update(message)
        outside.update(inside.digest())
        found.append(outside.digest())
    return found


def is_equal_constant_time(left: bytes, right: bytes) -> bool:
    """Compare two authenticators without telling by the time where they differ."""
    return hmac.compare_digest(left, right)


def hkdf_two(salt: bytes, key_material: bytes) -> tuple[bytes, bytes]:
    """HKDF-SHA-256 with an empty info, two 32-byte keys (BOLT 8, handshake and rotation)."""
    pseudorandom_key = hmac_sha256(salt, key_material)
    first = hmac_sha256(pseudorandom_key, b"\x01")
    return first, hmac_sha256(pseudorandom_key, first + b"\x02")


def tagged_hash(tag: bytes, message: bytes) -> bytes:
    """The tagged SHA-256 of BIP 340."""
    prefix = hashlib.sha256(tag).digest()
    return hashlib.sha256(prefix + prefix + message).digest()
