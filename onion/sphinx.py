"""Sphinx packets: one message that each hop can open only as far as its own layer (BOLT 4).

`build` is the origin's part, `peel` that of every hop. Both work for payments (1366 bytes) and
for onion messages, whose packets may have another size; what a packet's payloads mean is the
business of `onion.payload`. Nothing here remembers: that an onion came before (processing.2)
is for its caller to know, who can keep `hmac_of(packet)`, or better the shared secret, with
the HTLC that brought it.

Every XOR is either one pass of the cipher over the text itself or one operation on two large
integers: a loop over bytes costs a hundred times as much.
"""

from collections.abc import Sequence
from typing import ClassVar

from msgspec import Struct

from onion.failures import FailureCode
from wire.crypto import secp256k1
from wire.crypto.aead import chacha20_stream, chacha20_xor
from wire.crypto.hashes import hmac_sha256, is_equal_constant_time, sha256
from wire.crypto.secp256k1 import InvalidPoint, Point, Secret

PAYLOADS_SIZE = 1300
PACKET_SIZE = 1366
MAX_MESSAGE_PAYLOADS_SIZE = 32768
"""What an onion message's payloads have when 1300 bytes are not enough (BOLT 4, onion messages)."""

_VERSION = b"\x00"
_HEAD_SIZE = 34
_HMAC_SIZE = 32
_FINAL = bytes(_HMAC_SIZE)


class Onion(Struct, frozen=True, gc=False):
    """A packet for the first hop, and per hop the secret that opens the failures coming back."""

    packet: bytes
    shared_secrets: tuple[bytes, ...]


class Peeled(Struct, frozen=True, gc=False):
    """One layer off: our payload, and the packet for the next hop or None if we are the last.

    The payload is empty when the packet is authentic but the length in front of our payload is
    not usable. No valid payload is empty, so decoding it gives the right failure.
    """

    payload: bytes
    next_packet: bytes | None
    shared_secret: bytes

    @property
    def is_final(self) -> bool:
        """Whether the sender meant this node to be the last one."""
        return self.next_packet is None


class BadOnion(ValueError):
    """The packet cannot be opened, so no failure can be encrypted for its sender.

    The peer gets an `update_fail_malformed_htlc` with these two fields instead.
    """

    code: ClassVar[FailureCode]

    def __init__(self, packet: bytes) -> None:
        self.sha256_of_onion = sha256(packet)
        super().__init__(f"{self.code.name}: onion {self.sha256_of_onion.hex()}")


class InvalidOnionVersion(BadOnion):
    """The version byte is not 0."""

    code = FailureCode.invalid_onion_version


class InvalidOnionHmac(BadOnion):
    """The packet was altered, belongs to another payment, was not made for us, or is too short."""

    code = FailureCode.invalid_onion_hmac


class InvalidOnionKey(BadOnion):
    """The ephemeral key is no point."""

    code = FailureCode.invalid_onion_key


class OnionTooLong(ValueError):
    """The payloads do not fit: our own caller asked for too many hops or too much in them."""

    def __init__(self, needed: int, available: int) -> None:
        self.needed, self.available = needed, available
        super().__init__(f"the payloads need {needed} bytes of {available}")


def key_of(key_type: bytes, shared_secret: bytes) -> bytes:
    """The key of one purpose: `rho`, `mu`, `um`, `pad`, `ammag`... (BOLT 4, key generation)."""
    return hmac_sha256(key_type, shared_secret)


def room_of(payload: bytes) -> int:
    """How many of a packet's bytes one hop's payload takes, with its length and its HMAC."""
    return len(payload) + (1 if len(payload) < 0xFD else 3) + _HMAC_SIZE


def shared_secrets_of(session_key: Secret, hops: Sequence[Point]) -> tuple[bytes, ...]:
    """The secret shared with each hop (BOLT 4, shared secret).

    Raises:
        InvalidPoint: a hop is no point.
        InvalidSecret: the session key is out of range.
    """
    secrets, ephemeral = [], session_key
    for hop in hops:
        secret = secp256k1.ecdh(ephemeral, hop)
        secrets.append(secret)
        if len(secrets) < len(hops):
            # processing.3: the factor is known to both sides, so the origin multiplies scalars only
            blinding = sha256(secp256k1.point_of(ephemeral), secret)
            ephemeral = secp256k1.multiply_secrets(ephemeral, blinding)
    return tuple(secrets)


def build(
    session_key: Secret,
    hops: Sequence[tuple[Point, bytes]],
    associated: bytes,
    payloads_size: int = PAYLOADS_SIZE,
) -> Onion:
    """The packet for a route (BOLT 4, packet construction).

    Args:
        session_key: 32 fresh random bytes; using one twice links the two payments.
        hops: each hop's key and its payload without the length, first hop first.
        associated: what each HMAC covers beside the packet: the payment hash, or nothing.
        payloads_size: 1300 for a payment.

    Raises:
        OnionTooLong: the payloads need more than `payloads_size` bytes.
        InvalidPoint, InvalidSecret: as for `shared_secrets_of`.
    """
    needed = sum(room_of(payload) for _, payload in hops)
    if needed > payloads_size:
        raise OnionTooLong(needed, payloads_size)
    secrets = shared_secrets_of(session_key, [point for point, _ in hops])
    streams = [
        chacha20_stream(key_of(b"rho", secret), payloads_size + room_of(payload))
        for secret, (_, payload) in zip(secrets, hops, strict=True)
    ]
    filler = _filler([room_of(payload) for _, payload in hops[:-1]], streams, payloads_size)
    wrapped, hmac = chacha20_stream(key_of(b"pad", session_key), payloads_size - len(filler)), _FINAL
    for secret, stream, (_, payload) in zip(
        reversed(secrets), reversed(streams), reversed(hops), strict=True
    ):
        wrapped = _xor((_framed(payload) + hmac + wrapped)[: payloads_size - len(filler)], stream) + filler
        filler = b""
        hmac = hmac_sha256(key_of(b"mu", secret), wrapped + associated)
    return Onion(_VERSION + secp256k1.point_of(session_key) + wrapped + hmac, secrets)


def _filler(rooms: Sequence[int], streams: Sequence[bytes], payloads_size: int) -> bytes:
    """What the hops before the last will have shifted in at the end (BOLT 4, filler generation)."""
    filler = b""
    for room, stream in zip(rooms, streams, strict=False):
        filler = _xor(filler + bytes(room), stream[payloads_size - len(filler) :])
    return filler


def _xor(text: bytes, stream: bytes) -> bytes:
    """The text XORed with as much of the stream as it needs."""
    size = len(text)
    mixed = int.from_bytes(text, "little") ^ int.from_bytes(stream[:size], "little")
    return mixed.to_bytes(size, "little")


def _framed(payload: bytes) -> bytes:
    """The payload behind its length (BOLT 4, packet structure)."""
    size = len(payload)
    return (bytes([size]) if size < 0xFD else b"\xfd" + size.to_bytes(2, "big")) + payload


def peel(node_secret: Secret, packet: bytes, associated: bytes, path_key: Point | None = None) -> Peeled:
    """Open our layer and prepare the packet of the next hop (BOLT 4, onion decryption).

    Args:
        node_secret: our node's secret key.
        packet: as received; its size decides the size of the next one.
        associated: the payment hash, or nothing for an onion message.
        path_key: the one beside the packet, when it was made for our blinded node id.

    Raises:
        InvalidOnionVersion, InvalidOnionKey, InvalidOnionHmac: see there.
    """
    # processing.1: an empty packet has no version either, and one without payloads no HMAC
    if packet[:1] != _VERSION:
        raise InvalidOnionVersion(packet)
    ephemeral, hop_payloads, hmac = packet[1:34], packet[34:-32], packet[-32:]
    try:
        our_secret = node_secret if path_key is None else blinded_secret(node_secret, path_key)
        secret = secp256k1.ecdh(our_secret, ephemeral)
    except InvalidPoint:
        raise InvalidOnionKey(packet) from None
    expected = hmac_sha256(key_of(b"mu", secret), hop_payloads + associated)
    if not is_equal_constant_time(expected, hmac):
        raise InvalidOnionHmac(packet)
    size = len(hop_payloads)
    unwrapped = chacha20_xor(key_of(b"rho", secret), hop_payloads + bytes(size))
    start, end = _payload_bounds(unwrapped)
    shift = end + _HMAC_SIZE
    if start == end or shift > size:
        return Peeled(b"", None, secret)
    next_hmac = unwrapped[end:shift]
    if next_hmac == _FINAL:
        return Peeled(unwrapped[start:end], None, secret)
    # processing.3: the next hop shall not recognise the ephemeral key that we saw
    next_key = secp256k1.multiply_point(ephemeral, sha256(ephemeral, secret))
    next_packet = _VERSION + next_key + unwrapped[shift : shift + size] + next_hmac
    return Peeled(unwrapped[start:end], next_packet, secret)


def _payload_bounds(unwrapped: bytes) -> tuple[int, int]:
    """Where our payload starts and ends; both the same when the length in front is not usable."""
    size = unwrapped[0] if unwrapped else 0
    if size < 0xFD:
        # processing.1: 0 and 1 are reserved, no TLV record is that short
        return 1, 1 + size if size >= 2 else 1
    size = int.from_bytes(unwrapped[1:3], "big")
    return 3, 3 + size if unwrapped[0] == 0xFD and size >= 0xFD else 3


def blinded_secret(node_secret: Secret, path_key: Point) -> Secret:
    """The secret of our blinded node id (BOLT 4, route blinding).

    Raises:
        InvalidPoint: the path key is no point.
    """
    blinding = key_of(b"blinded_node_id", secp256k1.ecdh(node_secret, path_key))
    return secp256k1.multiply_secrets(node_secret, blinding)


def hmac_of(packet: bytes) -> bytes:
    """The packet's authenticator, by which a replay is known (processing.2)."""
    return packet[-_HMAC_SIZE:]
