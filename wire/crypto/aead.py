"""ChaCha20, ChaCha20-Poly1305 and XChaCha20-Poly1305.

The transport keeps one `Aead` per key until rotation, because making the key object costs
more than sealing a length prefix with it (DESIGN §6). XChaCha20 seals what is kept or handed to
others: libsodium's binding is read when there is something to seal.
"""

import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

_ZERO_NONCE_AND_COUNTER = bytes(16)
_counter_nonce = struct.Struct("<4xQ").pack


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
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as encrypt

    return encrypt(plaintext, associated, nonce, key)


def xchacha_open(key: bytes, nonce: bytes, ciphertext: bytes, associated: bytes = b"") -> bytes:
    """The plaintext of `xchacha_seal`.

    Raises:
        BadTag: any of the arguments differs from what was sealed.
    """
    if len(ciphertext) < 16:
        raise BadTag

    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as decrypt
    from nacl.exceptions import CryptoError

    try:
        return decrypt(ciphertext, associated, nonce, key)
    except CryptoError:
        raise BadTag from None
