"""The curve: keys, ECDSA and ECDH over libsecp256k1.

The only module that touches the C bindings. It calls coincurve's cffi `lib` directly: the
classes around it cost up to 240 times more for a tweak (DESIGN §6). A secret is 32 bytes, a
point 33 bytes compressed, a signature 64 bytes compact with a low S, a digest 32 bytes. Lengths
are checked before each call, because the library reads as many bytes as it expects.

Secrets are never copied into exceptions, so a traceback can be shown to a stranger.
"""

from functools import lru_cache
from typing import Any, TypeAlias

from coincurve._libsecp256k1 import ffi as _ffi
from coincurve._libsecp256k1 import lib as _lib
from coincurve.context import GLOBAL_CONTEXT

Secret: TypeAlias = bytes
Point: TypeAlias = bytes
Signature: TypeAlias = bytes

GROUP_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
GENERATOR: Point = bytes.fromhex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")

_ctx = GLOBAL_CONTEXT.ctx
_new, _buffer, _NULL = _ffi.new, _ffi.buffer, _ffi.NULL
_COMPRESSED = _lib.SECP256K1_EC_COMPRESSED


class InvalidPoint(ValueError):
    """The bytes are no point of the curve, or the result of the operation is infinity."""

    def __init__(self) -> None:
        super().__init__("not a point on secp256k1")


class InvalidSecret(ValueError):
    """The scalar is zero or not below the group order."""

    def __init__(self) -> None:
        super().__init__("not a secret key of secp256k1")


class InvalidSignature(ValueError):
    """The bytes are no well-formed ECDSA signature, or one that no point can have made."""

    def __init__(self) -> None:
        super().__init__("not an ECDSA signature")


def _parsed(point: Point) -> Any:
    parsed = _new("secp256k1_pubkey *")
    if len(point) != 33 or not _lib.secp256k1_ec_pubkey_parse(_ctx, parsed, point, 33):
        raise InvalidPoint
    return parsed


@lru_cache(maxsize=2048)
def _parsed_long_lived(point: Point) -> Any:
    return _parsed(point)


@lru_cache(maxsize=256)
def _parsed_recently(point: Point) -> Any:
    """A point that one onion needs twice, or many onions need: finding its y costs 4 us."""
    return _parsed(point)


def _serialized(parsed: Any) -> Point:
    out, size = _new("unsigned char[33]"), _new("size_t *", 33)
    _lib.secp256k1_ec_pubkey_serialize(_ctx, out, size, parsed, _COMPRESSED)
    return bytes(_buffer(out))


def is_point(point: bytes) -> bool:
    """Whether these are the 33 compressed bytes of a point on the curve."""
    return len(point) == 33 and bool(
        _lib.secp256k1_ec_pubkey_parse(_ctx, _new("secp256k1_pubkey *"), point, 33)
    )


def is_secret(secret: bytes) -> bool:
    """Whether these are 32 bytes of a scalar between 1 and the group order."""
    return len(secret) == 32 and bool(_lib.secp256k1_ec_seckey_verify(_ctx, secret))


def point_of(secret: Secret) -> Point:
    """The public point of a secret.

    Raises:
        InvalidSecret: the secret is zero, too large, or not 32 bytes.
    """
    parsed = _new("secp256k1_pubkey *")
    if len(secret) != 32 or not _lib.secp256k1_ec_pubkey_create(_ctx, parsed, secret):
        raise InvalidSecret
    return _serialized(parsed)


def add_points(*points: Point) -> Point:
    """The sum of points.

    Raises:
        InvalidPoint: one is not on the curve, or the sum is infinity.
    """
    parsed = [_parsed(point) for point in points]
    total = _new("secp256k1_pubkey *")
    if not _lib.secp256k1_ec_pubkey_combine(_ctx, total, parsed, len(parsed)):
        raise InvalidPoint
    return _serialized(total)


def add_to_point(point: Point, scalar: Secret) -> Point:
    """point + scalar x G. The parsed point is remembered: a channel's basepoints come again and again.

    Raises:
        InvalidPoint: the point is not on the curve, the scalar is zero or too large, or the sum is infinity.
    """
    # two thirds of the time of tweak_add, which knows no table for the generator
    added, total = _new("secp256k1_pubkey *"), _new("secp256k1_pubkey *")
    if len(scalar) != 32 or not _lib.secp256k1_ec_pubkey_create(_ctx, added, scalar):
        raise InvalidPoint
    if not _lib.secp256k1_ec_pubkey_combine(_ctx, total, (_parsed_long_lived(point), added), 2):
        raise InvalidPoint
    return _serialized(total)


def multiply_point(point: Point, scalar: Secret) -> Point:
    """scalar x point.

    Raises:
        InvalidPoint: the point is not on the curve, or the scalar is zero or too large.
    """
    parsed = _new("secp256k1_pubkey *", _parsed_recently(point)[0])
    if len(scalar) != 32 or not _lib.secp256k1_ec_pubkey_tweak_mul(_ctx, parsed, scalar):
        raise InvalidPoint
    return _serialized(parsed)


def add_multiples(point: Point, scalar: Secret, other_point: Point, other_scalar: Secret) -> Point:
    """scalar x point + other_scalar x other_point. The parsed first point is remembered.

    Raises:
        InvalidPoint: a point is not on the curve, a scalar is zero or too large, or the sum is infinity.
    """
    left, right = _new("secp256k1_pubkey *", _parsed_long_lived(point)[0]), _parsed(other_point)
    if len(scalar) != 32 or not _lib.secp256k1_ec_pubkey_tweak_mul(_ctx, left, scalar):
        raise InvalidPoint
    if len(other_scalar) != 32 or not _lib.secp256k1_ec_pubkey_tweak_mul(_ctx, right, other_scalar):
        raise InvalidPoint
    total = _new("secp256k1_pubkey *")
    if not _lib.secp256k1_ec_pubkey_combine(_ctx, total, (left, right), 2):
        raise InvalidPoint
    return _serialized(total)


def add_secrets(secret: Secret, tweak: Secret) -> Secret:
    """The sum of two scalars, modulo the group order.

    Raises:
        InvalidSecret: an argument is out of range, or the sum is zero.
    """
    if len(secret) != 32 or len(tweak) != 32:
        raise InvalidSecret
    out = _new("unsigned char[32]", secret)
    if not _lib.secp256k1_ec_seckey_tweak_add(_ctx, out, tweak):
        raise InvalidSecret
    return bytes(_buffer(out))


def multiply_secrets(secret: Secret, factor: Secret) -> Secret:
    """The product of two scalars, modulo the group order.

    Raises:
        InvalidSecret: an argument is zero or out of range.
    """
    if len(secret) != 32 or len(factor) != 32:
        raise InvalidSecret
    out = _new("unsigned char[32]", secret)
    if not _lib.secp256k1_ec_seckey_tweak_mul(_ctx, out, factor):
        raise InvalidSecret
    return bytes(_buffer(out))


def ecdh(secret: Secret, point: Point) -> bytes:
    """SHA-256 of the compressed shared point (BOLT 4 and BOLT 8).

    Raises:
        InvalidPoint: the point is not on the curve.
        InvalidSecret: the secret is out of range.
    """
    parsed, out = _parsed_recently(point), _new("unsigned char[32]")
    if len(secret) != 32 or not _lib.secp256k1_ecdh(_ctx, out, parsed, secret, _NULL, _NULL):
        raise InvalidSecret
    return bytes(_buffer(out))


def sign(secret: Secret, digest: bytes) -> Signature:
    """ECDSA with RFC 6979 nonces and a low S, so equal inputs give equal bytes.

    Raises:
        InvalidSecret: the secret is out of range.
    """
    raw, out = _new("secp256k1_ecdsa_signature *"), _new("unsigned char[64]")
    assert len(digest) == 32
    if len(secret) != 32 or not _lib.secp256k1_ecdsa_sign(_ctx, raw, digest, secret, _NULL, _NULL):
        raise InvalidSecret
    _lib.secp256k1_ecdsa_signature_serialize_compact(_ctx, out, raw)
    return bytes(_buffer(out))


def is_signed(point: Point, digest: bytes, signature: Signature) -> bool:
    """Whether the signature holds. A high S, a broken signature or a broken point is a no."""
    raw = _new("secp256k1_ecdsa_signature *")
    if len(digest) != 32 or len(signature) != 64:
        return False
    if not _lib.secp256k1_ecdsa_signature_parse_compact(_ctx, raw, signature):
        return False
    try:
        parsed = _parsed_long_lived(point)
    except InvalidPoint:
        return False
    return bool(_lib.secp256k1_ecdsa_verify(_ctx, raw, digest, parsed))


def sign_recoverable(secret: Secret, digest: bytes) -> bytes:
    """65 bytes: the compact signature, then the recovery id (BOLT 11).

    Raises:
        InvalidSecret: the secret is out of range.
    """
    raw = _new("secp256k1_ecdsa_recoverable_signature *")
    assert len(digest) == 32
    if len(secret) != 32 or not _lib.secp256k1_ecdsa_sign_recoverable(
        _ctx, raw, digest, secret, _NULL, _NULL
    ):
        raise InvalidSecret
    out, recovery_id = _new("unsigned char[64]"), _new("int *")
    _lib.secp256k1_ecdsa_recoverable_signature_serialize_compact(_ctx, out, recovery_id, raw)
    return bytes(_buffer(out)) + bytes([recovery_id[0]])


def recover(digest: bytes, signature_and_id: bytes) -> Point:
    """The point whose secret made this 65-byte recoverable signature.

    Raises:
        InvalidSignature: malformed, or no such point.
    """
    raw, parsed = _new("secp256k1_ecdsa_recoverable_signature *"), _new("secp256k1_pubkey *")
    recovery_id = signature_and_id[64] if len(signature_and_id) == 65 else 4
    if recovery_id > 3 or not _lib.secp256k1_ecdsa_recoverable_signature_parse_compact(
        _ctx, raw, signature_and_id[:64], recovery_id
    ):
        raise InvalidSignature
    if len(digest) != 32 or not _lib.secp256k1_ecdsa_recover(_ctx, parsed, raw, digest):
        raise InvalidSignature
    return _serialized(parsed)


def has_low_s(signature: Signature) -> bool:
    """Whether S is in the lower half of the group order, as every Lightning signature must be."""
    return int.from_bytes(signature[32:], "big") <= GROUP_ORDER // 2


def der_of(signature: Signature) -> bytes:
    """The strict DER form that witnesses carry, without the sighash byte.

    Raises:
        InvalidSignature: r or s is out of range.
    """
    raw, out, size = _new("secp256k1_ecdsa_signature *"), _new("unsigned char[72]"), _new("size_t *", 72)
    if len(signature) != 64 or not _lib.secp256k1_ecdsa_signature_parse_compact(_ctx, raw, signature):
        raise InvalidSignature
    _lib.secp256k1_ecdsa_signature_serialize_der(_ctx, out, size, raw)
    return bytes(_buffer(out, size[0]))


def compact_of(der: bytes) -> Signature:
    """The 64-byte form of a DER signature (without its sighash byte).

    Raises:
        InvalidSignature: not strict DER.
    """
    raw, out = _new("secp256k1_ecdsa_signature *"), _new("unsigned char[64]")
    if not _lib.secp256k1_ecdsa_signature_parse_der(_ctx, raw, der, len(der)):
        raise InvalidSignature
    _lib.secp256k1_ecdsa_signature_serialize_compact(_ctx, out, raw)
    return bytes(_buffer(out))


def sign_schnorr(secret: Secret, digest: bytes, auxiliary: bytes = bytes(32)) -> Signature:
    """A BIP 340 signature of 32 bytes, for the x coordinate of the secret's point.

    Fresh randomness in `auxiliary` guards the secret against an observed device; without it
    equal inputs give equal bytes, which is as safe against forgery.

    Raises:
        InvalidSecret: the secret is out of range.
    """
    keypair, out = _new("secp256k1_keypair *"), _new("unsigned char[64]")
    if len(secret) != 32 or not _lib.secp256k1_keypair_create(_ctx, keypair, secret):
        raise InvalidSecret
    assert len(digest) == len(auxiliary) == 32
    _lib.secp256k1_schnorrsig_sign32(_ctx, out, digest, keypair, auxiliary)
    return bytes(_buffer(out))


def is_signed_schnorr(xonly: bytes, digest: bytes, signature: Signature) -> bool:
    """Whether a BIP 340 signature holds for a 32-byte x coordinate. Anything malformed is a no."""
    parsed = _new("secp256k1_xonly_pubkey *")
    if len(xonly) != 32 or len(digest) != 32 or len(signature) != 64:
        return False
    if not _lib.secp256k1_xonly_pubkey_parse(_ctx, parsed, xonly):
        return False
    return bool(_lib.secp256k1_schnorrsig_verify(_ctx, signature, digest, 32, parsed))


def xonly_of(point: Point) -> bytes:
    """The 32-byte x coordinate, which stands for whichever of its two points has an even y."""
    return point[1:]
