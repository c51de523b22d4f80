"""L402: the header that asks an HTTP client for a Lightning payment, and its macaroon.

A client that knows L402 pays the invoice and comes back with the macaroon and the preimage. The
macaroon is a real one (version 2, binary), because such clients look into it: its identifier holds
a version, the payment hash and a token id, which here is the chunk's place. Nothing is kept: the
signature shows that it is ours, and the preimage that it was paid.
"""

import hmac
import struct
from base64 import b64decode, b64encode
from binascii import Error as NotBase64

from wire.crypto.hashes import sha256

_KEY_GENERATOR = b"macaroons-key-generator"
_VERSION, _IDENTIFIER, _END, _SIGNATURE = 2, 2, 0, 6
_identifier = struct.Struct(">H32s32s")
SIGNATURE_BYTES = 32


def challenge(key: bytes, payment_hash: bytes, token_id: bytes, invoice: str) -> str:
    """The value of `WWW-Authenticate`."""
    return f'L402 macaroon="{macaroon(key, payment_hash, token_id)}", invoice="{invoice}"'


def macaroon(key: bytes, payment_hash: bytes, token_id: bytes) -> str:
    """A macaroon without caveats, in base64."""
    identifier = _identifier.pack(0, payment_hash, token_id)
    derived = hmac.digest(_KEY_GENERATOR.ljust(32, b"\0"), key, "sha256")
    signature = hmac.digest(derived, identifier, "sha256")
    packets = bytes([_VERSION, _IDENTIFIER, len(identifier)]) + identifier + bytes([_END, _END, _SIGNATURE])
    return b64encode(packets + bytes([SIGNATURE_BYTES]) + signature + bytes([_END])).decode()


def is_paid(key: bytes, token_id: bytes, authorization: str) -> bool:
    """Whether the value of `Authorization` shows that this token was paid."""
    kind, _, rest = authorization.partition(" ")
    token, _, preimage_hex = rest.partition(":")
    try:
        raw, preimage = b64decode(token, validate=True), bytes.fromhex(preimage_hex)
        _, payment_hash, _ = _identifier.unpack_from(raw, 3)
    except (NotBase64, ValueError, struct.error):
        return False
    expected = macaroon(key, payment_hash, token_id)
    is_ours = kind.upper() in ("L402", "LSAT") and hmac.compare_digest(expected, token)
    return is_ours and sha256(preimage) == payment_hash
