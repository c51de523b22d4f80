"""The curve, the ciphers and the hashes, against published figures and another library."""

import hashlib
import json
from pathlib import Path
from typing import Any

import nacl.bindings
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from wire.crypto import hashes
from wire.crypto.aead import (
    Aead,
    BadTag,
    chacha20_stream,
    chacha20_xor,
    xchacha_open,
    xchacha_seal,
)
from wire.crypto.hashes import (
    hash160,
    hkdf_two,
    hmac_sha256,
    is_equal_constant_time,
    ripemd160,
    sha256,
    sha256d,
    slow_ripemd160,
    tagged_hash,
)
from wire.crypto.secp256k1 import (
    GENERATOR,
    GROUP_ORDER,
    InvalidPoint,
    InvalidSecret,
    InvalidSignature,
    add_multiples,
    add_points,
    add_secrets,
    add_to_point,
    compact_of,
    der_of,
    ecdh,
    has_low_s,
    is_point,
    is_secret,
    is_signed,
    is_signed_schnorr,
    multiply_point,
    multiply_secrets,
    point_of,
    recover,
    sign,
    sign_recoverable,
    sign_schnorr,
    xonly_of,
)

BIP340 = json.loads((Path(__file__).parents[1] / "vectors/bip340.json").read_text())["cases"]
ONE = (1).to_bytes(32, "big")
NO_SECRETS = [bytes(32), b"\xff" * 32, GROUP_ORDER.to_bytes(32, "big"), b"", bytes(31), b"\x01" * 33]
NO_POINTS = [
    b"",
    bytes(33),
    b"\x04" + GENERATOR[1:],
    GENERATOR[:-1],
    GENERATOR + b"\x00",
    b"\x02" + b"\xff" * 32,
]
# A secret of one, and the signatures that RFC 6979 makes of these messages on this curve
DETERMINISTIC = {
    "Satoshi Nakamoto": (
        "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8"
        "2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5"
    ),
    "All those moments will be lost in time, like tears in rain. Time to die...": (
        "8600dbd41e348fe5c9465ab92d23e3db8b98b873beecd930736488696438cb6b"
        "547fe64427496db33bf66019dacbf0039c04199abb0122918601db38a72cfc21"
    ),
}

scalars = st.integers(1, GROUP_ORDER - 1)
secrets = scalars.map(lambda scalar: scalar.to_bytes(32, "big"))
digests = st.binary(min_size=32, max_size=32)


def scalar_bytes(scalar: int) -> bytes:
    return (scalar % GROUP_ORDER).to_bytes(32, "big")


def other_point(scalar: int) -> bytes:
    """The point of a scalar, by another library."""
    private = ec.derive_private_key(scalar % GROUP_ORDER, ec.SECP256K1())
    return private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)


def negated_s(signature: bytes) -> bytes:
    return signature[:32] + scalar_bytes(-int.from_bytes(signature[32:64], "big"))


# ── points and secrets ───────────────────────────────────────────────────────────────────────


def test_the_point_of_one_is_the_generator() -> None:
    assert point_of(ONE) == GENERATOR
    assert xonly_of(GENERATOR) == GENERATOR[1:]


@given(scalars, scalars)
def test_points_and_secrets_calculate_like_another_library(left: int, right: int) -> None:
    a, b = scalar_bytes(left), scalar_bytes(right)
    point_a, point_b = point_of(a), point_of(b)
    assert point_a == other_point(left)
    assert multiply_point(point_a, b) == other_point(left * right)
    assert multiply_secrets(a, b) == scalar_bytes(left * right)
    if (left * right + left) % GROUP_ORDER:
        assert add_multiples(point_a, b, GENERATOR, a) == other_point(left * right + left)
    if (left + right) % GROUP_ORDER:
        assert add_secrets(a, b) == scalar_bytes(left + right)
        assert add_points(point_a, point_b) == add_to_point(point_a, b) == other_point(left + right)


@given(secrets, secrets)
def test_both_sides_reach_the_same_shared_secret(ours: bytes, theirs: bytes) -> None:
    shared = ecdh(ours, point_of(theirs))
    assert shared == ecdh(theirs, point_of(ours))
    assert shared == hashlib.sha256(multiply_point(point_of(theirs), ours)).digest()


@pytest.mark.parametrize("secret", NO_SECRETS, ids=range(len(NO_SECRETS)))
def test_what_is_no_secret_is_named(secret: bytes) -> None:
    assert not is_secret(secret)
    calls: list[Any] = [
        lambda: point_of(secret),
        lambda: ecdh(secret, GENERATOR),
        lambda: sign(secret, ONE),
        lambda: sign_recoverable(secret, ONE),
        lambda: sign_schnorr(secret, ONE),
        lambda: add_secrets(secret, ONE),
        lambda: multiply_secrets(secret, ONE),
        lambda: multiply_secrets(ONE, secret),
    ]
    for call in calls:
        with pytest.raises(InvalidSecret) as refused:
            call()
        assert str(refused.value) == "not a secret key of secp256k1"
    with pytest.raises(InvalidPoint):
        multiply_point(GENERATOR, secret)
    with pytest.raises(InvalidPoint):
        add_multiples(GENERATOR, ONE, GENERATOR, secret)


@pytest.mark.parametrize("point", NO_POINTS, ids=range(len(NO_POINTS)))
def test_what_is_no_point_is_named(point: bytes) -> None:
    assert not is_point(point)
    calls: list[Any] = [
        lambda: ecdh(ONE, point),
        lambda: add_points(GENERATOR, point),
        lambda: add_to_point(point, ONE),
        lambda: multiply_point(point, ONE),
        lambda: add_multiples(point, ONE, GENERATOR, ONE),
        lambda: add_multiples(GENERATOR, ONE, point, ONE),
    ]
    for call in calls:
        with pytest.raises(InvalidPoint):
            call()
    assert not is_signed(point, ONE, sign(ONE, ONE))


@given(scalars)
def test_a_sum_that_is_infinity_is_named(scalar: int) -> None:
    secret, negated = scalar_bytes(scalar), scalar_bytes(-scalar)
    with pytest.raises(InvalidSecret):
        add_secrets(secret, negated)
    calls: list[Any] = [
        lambda: add_points(point_of(secret), point_of(negated)),
        lambda: add_to_point(point_of(secret), negated),
        lambda: add_multiples(GENERATOR, secret, GENERATOR, negated),
    ]
    for call in calls:
        with pytest.raises(InvalidPoint):
            call()


@given(st.binary(min_size=30, max_size=36))
def test_a_point_is_what_another_library_takes_for_one(raw: bytes) -> None:
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), raw)
    except ValueError:
        assert not is_point(raw)
    else:
        assert is_point(raw) == (len(raw) == 33)


# ── ECDSA ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("message", "signature"), DETERMINISTIC.items())
def test_the_nonce_is_that_of_rfc_6979(message: str, signature: str) -> None:
    assert sign(ONE, sha256(message.encode())).hex() == signature


@given(secrets, digests)
def test_a_signature_holds_here_and_elsewhere(secret: bytes, digest: bytes) -> None:
    signature = sign(secret, digest)
    assert is_signed(point_of(secret), digest, signature)
    assert has_low_s(signature)
    assert sign(secret, digest) == signature
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), point_of(secret))
    public.verify(der_of(signature), digest, ec.ECDSA(Prehashed(SHA256())))
    assert sign_recoverable(secret, digest)[:64] == signature


@given(secrets, digests)
def test_a_high_s_is_refused_though_it_verifies_elsewhere(secret: bytes, digest: bytes) -> None:
    high = negated_s(sign(secret, digest))
    assert not has_low_s(high)
    assert not is_signed(point_of(secret), digest, high)
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), point_of(secret))
    public.verify(der_of(high), digest, ec.ECDSA(Prehashed(SHA256())))


@given(secrets, digests, st.integers(0, 63), st.integers(1, 255))
def test_an_altered_signature_or_digest_does_not_hold(
    secret: bytes, digest: bytes, at: int, flip: int
) -> None:
    point, signature = point_of(secret), sign(secret, digest)
    altered = bytearray(signature)
    altered[at] ^= flip
    assert not is_signed(point, digest, bytes(altered))
    assert not is_signed(point, sha256(digest), signature)
    assert not is_signed(point_of(sha256(secret)), digest, signature)


@given(st.binary(max_size=70), st.binary(max_size=40))
def test_any_bytes_are_no_signature(signature: bytes, digest: bytes) -> None:
    assert not is_signed(GENERATOR, digest, signature)
    assert not is_signed_schnorr(xonly_of(GENERATOR), digest, signature)


@given(secrets, digests)
def test_the_signer_is_recovered(secret: bytes, digest: bytes) -> None:
    signature = sign_recoverable(secret, digest)
    assert len(signature) == 65
    assert recover(digest, signature) == point_of(secret)
    high = negated_s(signature) + bytes([signature[64] ^ 1])
    assert recover(digest, high) == point_of(secret)


@pytest.mark.parametrize(
    "signature",
    [b"", bytes(64), bytes(65), b"\x01" * 64 + b"\x04", b"\xff" * 64 + b"\x00", b"\x01" * 66],
    ids=["empty", "no id", "zeros", "id of four", "too large", "too long"],
)
def test_what_nobody_can_have_signed_is_named(signature: bytes) -> None:
    with pytest.raises(InvalidSignature):
        recover(ONE, signature)
    with pytest.raises(InvalidSignature):
        recover(b"short", sign_recoverable(ONE, ONE))


@given(scalars, scalars)
def test_der_is_that_of_another_library(r: int, s: int) -> None:
    compact = scalar_bytes(r) + scalar_bytes(s)
    der = der_of(compact)
    assert der == encode_dss_signature(r, s)
    assert compact_of(der) == compact
    assert decode_dss_signature(der) == (r, s)


@pytest.mark.parametrize("raw", [b"", bytes(63), b"\xff" * 64, bytes(65)])
def test_what_has_no_der_form_is_named(raw: bytes) -> None:
    with pytest.raises(InvalidSignature):
        der_of(raw)


@pytest.mark.parametrize("der", ["", "30", "3006020100020100ff", "300602810100020100", "30060201000201"])
def test_what_is_no_strict_der_is_named(der: str) -> None:
    with pytest.raises(InvalidSignature):
        compact_of(bytes.fromhex(der))


@given(st.binary(max_size=80))
def test_any_bytes_are_der_or_refused(raw: bytes) -> None:
    try:
        compact = compact_of(raw)
    except InvalidSignature:
        return
    assert len(compact) == 64


# ── BIP 340 ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("case", BIP340, ids=lambda case: str(case["label"]))
def test_the_published_schnorr_signatures(case: dict[str, Any]) -> None:
    xonly, digest, signature = (bytes.fromhex(case[name]) for name in ("xonly", "digest", "signature"))
    assert is_signed_schnorr(xonly, digest, signature) == case["valid"]
    if "secret" in case:
        secret = bytes.fromhex(case["secret"])
        assert xonly_of(point_of(secret)) == xonly
        assert sign_schnorr(secret, digest, bytes.fromhex(case["auxiliary"])) == signature


@given(secrets, digests, digests)
def test_a_schnorr_signature_holds_for_its_digest_only(secret: bytes, digest: bytes, other: bytes) -> None:
    xonly, signature = xonly_of(point_of(secret)), sign_schnorr(secret, digest, other)
    assert is_signed_schnorr(xonly, digest, signature)
    assert not is_signed_schnorr(xonly, sha256(digest), signature)
    assert not is_signed_schnorr(xonly, digest, sign(secret, digest))
    assert sign_schnorr(secret, digest) == sign_schnorr(secret, digest)


# ── ciphers ──────────────────────────────────────────────────────────────────────────────────


@given(digests, st.integers(0, 2**64 - 1), st.binary(max_size=200), st.binary(max_size=40))
def test_the_aead_is_that_of_another_library(key: bytes, counter: int, plain: bytes, said: bytes) -> None:
    nonce = bytes(4) + counter.to_bytes(8, "little")
    sealed = Aead(key).seal(counter, plain, said)
    assert sealed == nacl.bindings.crypto_aead_chacha20poly1305_ietf_encrypt(plain, said, nonce, key)
    assert Aead(key).open(counter, sealed, said) == plain
    for counter_then, said_then in ((counter ^ 1, said), (counter, said + b"x")):
        with pytest.raises(BadTag):
            Aead(key).open(counter_then, sealed, said_then)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 40])
def test_bytes_that_nobody_sealed_do_not_open(length: int) -> None:
    with pytest.raises(BadTag):
        Aead(bytes(32)).open(0, bytes(length))
    with pytest.raises(BadTag):
        xchacha_open(bytes(32), bytes(24), bytes(length))


def test_the_key_stream_is_that_of_rfc_8439() -> None:
    """Its first block under a key, nonce and counter of zeros."""
    stream = chacha20_stream(bytes(32), 64)
    assert stream.hex() == (
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
    )


@given(digests, st.binary(max_size=300))
def test_the_key_stream_turns_a_message_there_and_back(key: bytes, message: bytes) -> None:
    stream = chacha20_stream(key, len(message))
    turned = bytes(left ^ right for left, right in zip(message, stream, strict=True))
    assert chacha20_xor(key, message) == turned
    assert chacha20_xor(key, turned) == message


def test_a_long_key_stream_begins_with_a_short_one() -> None:
    long = chacha20_stream(bytes(32), 70_000)
    assert len(long) == 70_000
    assert long.startswith(chacha20_stream(bytes(32), 65_536))


@given(digests, st.binary(min_size=24, max_size=24), st.binary(max_size=200), st.binary(max_size=40))
def test_what_xchacha_seals_opens_with_the_same_words(
    key: bytes, nonce: bytes, plain: bytes, said: bytes
) -> None:
    sealed = xchacha_seal(key, nonce, plain, said)
    assert xchacha_open(key, nonce, sealed, said) == plain
    with pytest.raises(BadTag):
        xchacha_open(key, nonce, sealed, said + b"x")


def test_xchacha_seals_as_its_draft_says() -> None:
    plain = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    key, nonce = bytes(range(0x80, 0xA0)), bytes(range(0x40, 0x58))
    said = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    sealed = xchacha_seal(key, nonce, plain, said)
    assert sealed[-16:].hex() == "c0875924c1c7987947deafd8780acf49"
    assert sealed.hex().startswith("bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb")
    assert xchacha_open(key, nonce, sealed, said) == plain
    with pytest.raises(BadTag):
        xchacha_open(key, nonce, sealed)


# ── hashes ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ripemd", [ripemd160, slow_ripemd160])
@pytest.mark.parametrize(
    ("message", "digest"),
    [
        (b"", "9c1185a5c5e9fc54612808977ee8f548b2258d31"),
        (b"a", "0bdc9d2d256b3ee9daae347be6f4dc835a467ffe"),
        (b"abc", "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc"),
        (b"message digest", "5d0689ef49d2fae572b881b123a85ffa21595f36"),
        (b"1234567890" * 8, "9b752e45573d4b39f4dbd3323cab82bf63326bfb"),
    ],
)
def test_ripemd_gives_its_authors_figures(ripemd: Any, message: bytes, digest: str) -> None:
    assert ripemd(message).hex() == digest


@given(st.binary(max_size=300))
def test_ripemd_is_the_same_with_and_without_openssl(message: bytes) -> None:
    assert slow_ripemd160(message) == ripemd160(message)


def test_ripemd_does_without_an_openssl_that_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = hash160(b"a key")
    monkeypatch.setattr(hashes, "_BLANK_RIPEMD160", None)
    assert hash160(b"a key") == expected


def test_the_other_hashes_give_their_published_figures() -> None:
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(b"a", b"b", b"c").hex() == abc
    assert sha256d(b"ab", b"c") == hashlib.sha256(bytes.fromhex(abc)).digest()
    assert hash160(b"abc") == ripemd160(bytes.fromhex(abc))
    jefe = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert hmac_sha256(b"Jefe", b"what do ya want for nothing?").hex() == jefe
    tag = hashlib.sha256(b"BIP0340/challenge").digest()
    assert tagged_hash(b"BIP0340/challenge", b"m") == hashlib.sha256(tag + tag + b"m").digest()


def test_two_keys_are_derived_as_in_rfc_5869() -> None:
    """Its third case, which has neither salt nor info; our two keys are the first 64 bytes."""
    first, second = hkdf_two(b"", b"\x0b" * 22)
    assert first.hex() == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    assert second.hex().startswith("9d201395faa4b61a96c8")


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_the_comparison_in_constant_time_compares(left: bytes, right: bytes) -> None:
    assert is_equal_constant_time(left, right) == (left == right)
    assert is_equal_constant_time(left, bytes(left))
