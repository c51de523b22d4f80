"""ChaCha20, ChaCha20-Poly1305 and XChaCha20-Poly1305.

The transport keeps one `Aead` per key until rotation, because making the key object costs
more than sealing a length prefix with it (DESIGN §6). XChaCha20 is ChaCha20 under a derived key
(draft-irtf-cfrg-xchacha, 2.2): a second library for it would be half a megabyte in every node.
"""

import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

_ZERO_NONCE_AND_COUNTER = bytes(16)
_counter_nonce = struct.Struct("<4xQ").pack
_CONSTANTS = b"expand 32-byte k"
_four_words = struct.Struct("<4L")


class BadTag(ValueError):
    """The authenticator does not match: wrong key, wrong nonce, or altered bytes."""

    def __init__(self) -> None:
        super().__init__("the ciphertext does not authenticate")


class Aead:
    """ChaCha20-Poly1305 (RFC 8439) under one 32-byte key, with BOLT 8's counter nonces."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)

    def seal(self, counter: int, plaintext: bytes, associated: bytes | None = None) -> bytes:
        """Ciphertext followed by its 16-byte tag."""
        return self._cipher.encrypt(_counter_nonce(counter), plaintext, associated)

    def open(self, counter: int, ciphertext: bytes, associated: bytes | None = None) -> bytes:
        """The plaintext.

        Raises:
            BadTag: the tag does not match.
        """
        try:
            return self._cipher.decrypt(_counter_nonce(counter), ciphertext, associated)
        except InvalidTag:
            raise BadTag from None


def chacha20_stream(key: bytes, length: int) -> bytes:
    """`length` bytes of ChaCha20 keystream under a zero nonce (BOLT 4, pseudo random stream)."""
    return chacha20_xor(key, bytes(length))


def chacha20_xor(key: bytes, message: bytes) -> bytes:
    """The message XORed with the ChaCha20 keystream under a zero nonce (BOLT 4)."""
    return Cipher(ChaCha20(key, _ZERO_NONCE_AND_COUNTER), None).encryptor().update(message)


def xchacha_seal(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes = b"") -> bytes:
    """XChaCha20-Poly1305 under a 32-byte key and a 24-byte nonce; the tag comes last."""
    return _derived(key, nonce).encrypt(_rest(nonce), plaintext, associated)


def xchacha_open(key: bytes, nonce: bytes, ciphertext: bytes, associated: bytes = b"") -> bytes:
    """The plaintext of `xchacha_seal`.

    Raises:
        BadTag: the tag does not match, or there is no room for one.
    """
    if len(ciphertext) < 16:
        raise BadTag
    try:
        return _derived(key, nonce).decrypt(_rest(nonce), ciphertext, associated)
    except InvalidTag:
        raise BadTag from None


def _rest(nonce: bytes) -> bytes:
    assert len(nonce) == 24, "a nonce is 24 bytes"
    return bytes(4) + nonce[16:]


def _derived(key: bytes, nonce: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(hchacha20(key, nonce[:16]))


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """The 32-byte key that XChaCha20 derives from a key and the first 16 bytes of its nonce.

    A ChaCha20 block is its initial state plus what the rounds make of it, so the block less the
    words that are known tells what the rounds made: HChaCha20 is that of the outer two rows.
    """
    block = Cipher(ChaCha20(key, nonce), None).encryptor().update(bytes(64))
    return _difference(block[:16], _CONSTANTS) + _difference(block[48:], nonce)


def _difference(left: bytes, right: bytes) -> bytes:
    """Four little-endian words, each less its counterpart, modulo 2^32."""
    pairs = zip(_four_words.unpack(left), _four_words.unpack(right), strict=True)
    return _four_words.pack(*[(a - b) & 0xFFFFFFFF for a, b in pairs])
