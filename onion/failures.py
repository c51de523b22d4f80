"""What went wrong on the way, and the packet that carries it back to the origin (BOLT 4, returning errors).

The erring node authenticates its failure with the secret it shares with the origin and
encrypts it once; every node on the way back encrypts once more; the origin takes the layers
off in order until one authenticates, which names the erring node. A node that gets an
`update_fail_malformed_htlc` makes the failure of its code and sends it back as its own.
"""

from collections.abc import Sequence
from enum import IntEnum

from msgspec import Struct

from wire.codec import DecodeError, Truncated
from wire.crypto.aead import chacha20_xor
from wire.crypto.hashes import hmac_sha256, is_equal_constant_time
from wire.tlv import read_bigsize, write_bigsize
from wire.units import Msat

BADONION = 0x8000
PERM = 0x4000
NODE = 0x2000
UPDATE = 0x1000

MAX_ROUTE_HOPS = 27
"""How many of the smallest payloads fit a packet (BOLT 4, returning errors)."""

PADDED_SIZE = 256
_HMAC_SIZE = 32
_NO_SECRET = bytes(32)


class FailureCode(IntEnum):
    """The failure codes of BOLT 4, with their flags."""

    temporary_node_failure = NODE | 2
    permanent_node_failure = PERM | NODE | 2
    required_node_feature_missing = PERM | NODE | 3
    invalid_onion_version = BADONION | PERM | 4
    invalid_onion_hmac = BADONION | PERM | 5
    invalid_onion_key = BADONION | PERM | 6
    temporary_channel_failure = UPDATE | 7
    permanent_channel_failure = PERM | 8
    required_channel_feature_missing = PERM | 9
    unknown_next_peer = PERM | 10
    amount_below_minimum = UPDATE | 11
    fee_insufficient = UPDATE | 12
    incorrect_cltv_expiry = UPDATE | 13
    expiry_too_soon = UPDATE | 14
    incorrect_or_unknown_payment_details = PERM | 15
    final_incorrect_cltv_expiry = 18
    final_incorrect_htlc_amount = 19
    channel_disabled = UPDATE | 20
    expiry_too_far = 21
    invalid_onion_payload = PERM | 22
    mpp_timeout = 23
    invalid_onion_blinding = BADONION | PERM | 24


class Failure(Struct, frozen=True, gc=False):
    """A failure message; only the fields that its code has travel (BOLT 4, failure messages).

    A code that nobody has told us of keeps its number, since its flags still mean something.
    """

    code: int
    htlc_msat: Msat = Msat(0)
    incoming_htlc_amt: Msat = Msat(0)
    cltv_expiry: int = 0
    height: int = 0
    disabled_flags: int = 0
    type: int = 0
    offset: int = 0
    sha256_of_onion: bytes = bytes(32)
    channel_update: bytes = b""

    @property
    def name(self) -> str:
        """The code's name in BOLT 4, or its number."""
        return FailureCode(self.code).name if self.code in _FIELDS else f"failure code {self.code:#06x}"

    @property
    def is_bad_onion(self) -> bool:
        """Whether the erring node's peer could not open its onion."""
        return bool(self.code & BADONION)

    @property
    def is_permanent(self) -> bool:
        """Whether trying the same again is pointless."""
        return bool(self.code & PERM)

    @property
    def is_node(self) -> bool:
        """Whether it concerns all channels of the erring node."""
        return bool(self.code & NODE)

    @property
    def is_update(self) -> bool:
        """Whether the route broke a parameter of the channel after the erring node."""
        return bool(self.code & UPDATE)


_CHANNEL_UPDATE = "channel_update"
_SIZES = {
    "htlc_msat": 8,
    "incoming_htlc_amt": 8,
    "cltv_expiry": 4,
    "height": 4,
    "disabled_flags": 2,
    "offset": 2,
}
_FIELDS: dict[int, tuple[str, ...]] = {
    **dict.fromkeys(FailureCode, ()),
    FailureCode.invalid_onion_version: ("sha256_of_onion",),
    FailureCode.invalid_onion_hmac: ("sha256_of_onion",),
    FailureCode.invalid_onion_key: ("sha256_of_onion",),
    FailureCode.invalid_onion_blinding: ("sha256_of_onion",),
    FailureCode.temporary_channel_failure: (_CHANNEL_UPDATE,),
    FailureCode.amount_below_minimum: ("htlc_msat", _CHANNEL_UPDATE),
    FailureCode.fee_insufficient: ("htlc_msat", _CHANNEL_UPDATE),
    FailureCode.incorrect_cltv_expiry: ("cltv_expiry", _CHANNEL_UPDATE),
    FailureCode.expiry_too_soon: (_CHANNEL_UPDATE,),
    FailureCode.incorrect_or_unknown_payment_details: ("htlc_msat", "height"),
    FailureCode.final_incorrect_cltv_expiry: ("cltv_expiry",),
    FailureCode.final_incorrect_htlc_amount: ("incoming_htlc_amt",),
    FailureCode.channel_disabled: ("disabled_flags", _CHANNEL_UPDATE),
    FailureCode.invalid_onion_payload: ("type", "offset"),
}


def encode_failure(failure: Failure) -> bytes:
    """The failure message, its code first."""
    parts = [failure.code.to_bytes(2, "big")]
    for field in _FIELDS.get(failure.code, ()):
        value = getattr(failure, field)
        if field == _CHANNEL_UPDATE:
            parts.append(len(value).to_bytes(2, "big") + value)
        elif field == "type":
            parts.append(write_bigsize(value))
        else:
            parts.append(value if isinstance(value, bytes) else value.to_bytes(_SIZES[field], "big"))
    return b"".join(parts)


def decode_failure(message: bytes) -> Failure:
    """The failure in a message; what follows its last field is ignored (failures.2).

    Raises:
        DecodeError: the message ends before its last field.
    """
    code, at = _read_int(message, 0, 2)
    fields: dict[str, int | bytes] = {}
    for field in _FIELDS.get(code, ()):
        if field == "type":
            fields[field], at = read_bigsize(message, at)
        elif field in _SIZES:
            fields[field], at = _read_int(message, at, _SIZES[field])
        else:
            size, at = (32, at) if field == "sha256_of_onion" else _read_int(message, at, 2)
            fields[field], at = _read_bytes(message, at, size)
    return Failure(code, **fields)  # type: ignore[arg-type]


def _read_bytes(message: bytes, at: int, size: int) -> tuple[bytes, int]:
    if at + size > len(message):
        raise Truncated("a failure message")
    return message[at : at + size], at + size


def _read_int(message: bytes, at: int, size: int) -> tuple[int, int]:
    value, at = _read_bytes(message, at, size)
    return int.from_bytes(value, "big"), at


def fail_packet(shared_secret: bytes, failure: bytes, padded_size: int = PADDED_SIZE) -> bytes:
    """The erring node's packet for the `reason` of its `update_fail_htlc` (BOLT 4, erring node).

    Args:
        shared_secret: what peeling the onion gave.
        failure: an encoded failure message.
        padded_size: at least 256; another size than most nodes use tells ours from theirs.
    """
    return wrap_failure(shared_secret, authenticated_failure(shared_secret, failure, padded_size))


def authenticated_failure(shared_secret: bytes, failure: bytes, padded_size: int = PADDED_SIZE) -> bytes:
    """The erring node's packet before its first encryption, which is what its attribution covers."""
    # failures.1: all messages look equally long, unless one is longer than that
    padding = bytes(max(0, padded_size - len(failure)))
    body = len(failure).to_bytes(2, "big") + failure + len(padding).to_bytes(2, "big") + padding
    return hmac_sha256(hmac_sha256(b"um", shared_secret), body) + body


def wrap_failure(shared_secret: bytes, packet: bytes) -> bytes:
    """One more layer around a packet on its way back, whatever is in it (BOLT 4, intermediate nodes)."""
    return chacha20_xor(hmac_sha256(b"ammag", shared_secret), packet)


class Attributed(Struct, frozen=True, gc=False):
    """Who failed the payment: 0 is the first hop. No failure if it sent nonsense."""

    hop_index: int
    failure: Failure | None


def attribute(shared_secrets: Sequence[bytes], packet: bytes) -> Attributed | None:
    """Which hop made this packet, and what it says; None if no hop did (BOLT 4, origin node).

    The work does not depend on the hop, nor on the length of the route up to 27 hops, so its
    time tells an erring node that sees our next attempt nothing about where it is.
    """
    found: Attributed | None = None
    for index in range(max(MAX_ROUTE_HOPS, len(shared_secrets))):
        is_hop = index < len(shared_secrets)
        secret = shared_secrets[index] if is_hop else _NO_SECRET
        packet = wrap_failure(secret, packet)
        # failures.2: go on with the layers after the one that fits, and past the end of the route
        is_author = is_equal_constant_time(
            packet[:_HMAC_SIZE], hmac_sha256(hmac_sha256(b"um", secret), packet[_HMAC_SIZE:])
        )
        if is_author and is_hop and found is None:
            found = Attributed(index, _failure_in(packet[_HMAC_SIZE:]))
    return found


def _failure_in(body: bytes) -> Failure | None:
    try:
        size, at = _read_int(body, 0, 2)
        return decode_failure(_read_bytes(body, at, size)[0])
    except DecodeError:
        return None
