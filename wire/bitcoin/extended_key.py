"""Extended keys: a secret and what makes its children (BIP 32).

Written here, because a wallet needs no more than this of it at every start, and the library that
knows the rest of it would be half a megabyte in every node.
"""

import hmac

import msgspec

from wire.bitcoin.address import base58_check
from wire.crypto import secp256k1
from wire.crypto.hashes import hash160
from wire.crypto.secp256k1 import Point, Secret

HARDENED = 1 << 31
_FINGERPRINT_BYTES = 4


class ExtendedKey(msgspec.Struct, frozen=True, gc=False):
    """A secret with its chain code, and where it comes from."""

    secret: Secret
    point: Point
    chain_code: bytes
    depth: int = 0
    parent_fingerprint: bytes = bytes(_FINGERPRINT_BYTES)
    index: int = 0

    def __repr__(self) -> str:
        return "ExtendedKey(...)"

    @property
    def fingerprint(self) -> bytes:
        """Four bytes by which others find the key."""
        return hash160(self.point)[:_FINGERPRINT_BYTES]

    def tweak(self, index: int) -> Secret:
        """What is added to the key for the child of a number, which is not hardened."""
        return self._digest(self.point, index)[:32]

    def child(self, index: int) -> "ExtendedKey":
        """The child of a number.

        Raises:
            InvalidSecret: there is none, as happens once in 2^127.
        """
        digest = self._digest(b"\0" + self.secret if index >= HARDENED else self.point, index)
        secret = secp256k1.add_secrets(self.secret, digest[:32])
        point = secp256k1.point_of(secret)
        return ExtendedKey(secret, point, digest[32:], self.depth + 1, self.fingerprint, index)

    def derive(self, path: str) -> "ExtendedKey":
        """The descendant at a path like m/84h/0h/0h."""
        key = self
        for step in path.split("/")[1:]:
            key = key.child(int(step.rstrip("h")) + (HARDENED if step.endswith("h") else 0))
        return key

    def public_text(self, version: bytes) -> str:
        """The public half in base58; its four first bytes say for which networks."""
        origin = bytes([self.depth]) + self.parent_fingerprint + self.index.to_bytes(4, "big")
        return base58_check(version + origin + self.chain_code + self.point)

    def _digest(self, key: bytes, index: int) -> bytes:
        return hmac.digest(self.chain_code, key + index.to_bytes(4, "big"), "sha512")


def master_key(seed: bytes) -> ExtendedKey:
    """The root of all keys of a seed.

    Raises:
        InvalidSecret: it has none, as happens once in 2^127.
    """
    digest = hmac.digest(b"Bitcoin seed", seed, "sha512")
    return ExtendedKey(digest[:32], secp256k1.point_of(digest[:32]), digest[32:])
