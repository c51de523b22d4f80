"""Blinded paths: a recipient's way to be reached without saying who it is (BOLT 4, route blinding).

The recipient writes one `RecipientData` for each node of a path to itself, encrypts each to its
node, and hides the nodes' ids behind the secrets it shares with them. Whoever wants to reach it
puts those ciphertexts into an onion for the blinded ids; each node finds inside what the sender
must not know. What that means for a payment is in `onion.blinded_payment`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from onion.sphinx import key_of
from wire.blinded_path import BlindedHop, BlindedPath
from wire.codec import DecodeError, Truncated, WrongLength
from wire.crypto import secp256k1
from wire.crypto.aead import Aead, BadTag
from wire.crypto.hashes import sha256
from wire.crypto.secp256k1 import InvalidPoint, Point, Secret, is_point
from wire.tlv import read_known, read_tu32, read_tu64, write_records, write_truncated
from wire.units import Msat


class PaymentRelay(Struct, frozen=True, gc=False):
    """What a node of the path takes for passing a payment on."""

    cltv_expiry_delta: int
    fee_proportional_millionths: int
    fee_base_msat: Msat


class PaymentConstraints(Struct, frozen=True, gc=False):
    """Payments that a node of the path must not pass on: too late or too small."""

    max_cltv_expiry: int
    htlc_minimum_msat: Msat


class RecipientData(Struct, frozen=True, gc=False):
    """What the recipient tells one node of the path: `encrypted_data_tlv`."""

    padding: bytes | None = None
    short_channel_id: int | None = None
    next_node_id: Point | None = None
    path_id: bytes | None = None
    next_path_key_override: Point | None = None
    payment_relay: PaymentRelay | None = None
    payment_constraints: PaymentConstraints | None = None
    allowed_features: bytes | None = None


class Unblinded(Struct, frozen=True, gc=False):
    """What a node of the path finds: its instructions, and the key for the node after it."""

    recipient_data: RecipientData
    next_path_key: Point


class InvalidBlinding(ValueError):
    """A rule of the blinded path is broken; nobody is told which (blinded-paths.6)."""


class Undecryptable(InvalidBlinding):
    """The encrypted data was not made for this node and path key, or was altered."""

    def __init__(self) -> None:
        super().__init__("the encrypted recipient data does not decrypt")


class FeatureNotUnderstood(InvalidBlinding):
    """The path allows a feature that does not exist for us."""

    def __init__(self, allowed_features: bytes) -> None:
        self.allowed_features = allowed_features
        super().__init__(f"unknown features {allowed_features.hex()} on a blinded path")


class MalformedRecipientData(InvalidBlinding):
    """The decrypted data is no valid stream of known records."""

    def __init__(self, why: DecodeError) -> None:
        self.why = why
        super().__init__(f"malformed recipient data: {why}")


def blind(path_secret: Secret, hops: Sequence[tuple[Point, bytes]]) -> BlindedPath:
    """A path through these nodes, the last of which is its creator.

    Args:
        path_secret: 32 fresh random bytes; its point is the first path key.
        hops: each node's id and its encoded `RecipientData`; of equal length, or the lengths tell.

    Raises:
        InvalidPoint, InvalidSecret: a node id or the secret is not usable.
    """
    blinded: list[BlindedHop] = []
    ephemeral = path_secret
    for node_id, recipient_data in hops:
        secret = secp256k1.ecdh(ephemeral, node_id)
        blinded_id = secp256k1.multiply_point(node_id, key_of(b"blinded_node_id", secret))
        # the key is used once, so the nonce may be zero
        blinded.append(BlindedHop(blinded_id, Aead(key_of(b"rho", secret)).seal(0, recipient_data)))
        ephemeral = secp256k1.multiply_secrets(ephemeral, sha256(secp256k1.point_of(ephemeral), secret))
    return BlindedPath(hops[0][0], secp256k1.point_of(path_secret), tuple(blinded))


def prepend(path_secret: Secret, nodes: Sequence[Point], path: BlindedPath) -> BlindedPath:
    """A longer path for an onion message, through these nodes to the first node of this one.

    Args:
        path_secret: 32 fresh random bytes.
        nodes: ours to choose; each is a peer of the next, and the last of the path's first node.
        path: as its creator gave it.
    """
    following = [*nodes[1:], path.first_node_id]
    ours = [RecipientData(next_node_id=node_id) for node_id in following]
    # blinded-paths.4: the last of our nodes hands on the key that the creator chose
    ours[-1] = replace(ours[-1], next_path_key_override=path.first_path_key)
    front = blind(
        path_secret, [(node, encode_recipient_data(each)) for node, each in zip(nodes, ours, strict=True)]
    )
    return BlindedPath(front.first_node_id, front.first_path_key, front.hops + path.hops)


def unblind(node_secret: Secret, path_key: Point, encrypted: bytes) -> Unblinded:
    """What the path's creator tells us, and the path key to send along with the onion.

    Raises:
        Undecryptable: not for us, or not with this key.
        MalformedRecipientData: decrypted, and still not readable.
    """
    try:
        secret = secp256k1.ecdh(node_secret, path_key)
        recipient_data = decode_recipient_data(Aead(key_of(b"rho", secret)).open(0, encrypted))
    except (BadTag, InvalidPoint):
        raise Undecryptable from None
    # blinded-paths.4: two paths in a row are joined by the override
    following = recipient_data.next_path_key_override
    if following is None:
        following = secp256k1.multiply_point(path_key, sha256(path_key, secret))
    return Unblinded(recipient_data, following)


def check_features(recipient_data: RecipientData) -> None:
    """Refuse a path made for nodes that know more than we do (blinded-paths.3).

    Raises:
        FeatureNotUnderstood: any bit is set, for no feature of blinded paths exists yet.
    """
    allowed_features = recipient_data.allowed_features or b""
    if any(allowed_features):
        raise FeatureNotUnderstood(allowed_features)


def encode_recipient_data(recipient_data: RecipientData) -> bytes:
    """The stream, before it is encrypted."""
    values = [
        (type, write(value))
        for type, (name, _, write) in _RECORDS.items()
        if (value := getattr(recipient_data, name)) is not None
    ]
    return write_records(values)


def decode_recipient_data(raw: bytes) -> RecipientData:
    """The decrypted stream; unknown odd records are passed over.

    Raises:
        MalformedRecipientData: no valid stream, or an unknown even record.
    """
    fields: dict[str, Any] = {}
    try:
        for type, value in read_known(raw, 0, _RECORDS).items():
            name, read, _ = _RECORDS[type]
            fields[name] = read(value)
    except DecodeError as why:
        raise MalformedRecipientData(why) from None
    return RecipientData(**fields)


def padded(recipient_data: Sequence[RecipientData]) -> list[bytes]:
    """The encoded streams of a path's nodes, all of one length, so that none tells its place."""
    bare = [encode_recipient_data(replace(each, padding=b"")) for each in recipient_data]
    length = max(map(len, bare))
    # from 253 bytes on, the padding's own length takes two more, so two sums cannot be met
    while any(length - len(each) in (0xFD, 0xFE) for each in bare):
        length += 1
    return [
        encode_recipient_data(replace(each, padding=bytes(_padding_size(length - len(raw)))))
        for each, raw in zip(recipient_data, bare, strict=True)
    ]


def _padding_size(missing: int) -> int:
    return missing if missing < 0xFD else missing - 2


def _read_point(value: bytes) -> Point:
    if not is_point(value):
        raise WrongLength("a point", len(value))
    return value


def _read_scid(value: bytes) -> int:
    if len(value) != 8:
        raise WrongLength("short_channel_id", len(value))
    return int.from_bytes(value, "big")


def _read_relay(value: bytes) -> PaymentRelay:
    if len(value) < 6:
        raise Truncated("payment_relay")
    fee_base_msat = Msat(read_tu32(value[6:]))
    return PaymentRelay(int.from_bytes(value[:2], "big"), int.from_bytes(value[2:6], "big"), fee_base_msat)


def _write_relay(relay: PaymentRelay) -> bytes:
    fixed = relay.cltv_expiry_delta.to_bytes(2, "big") + relay.fee_proportional_millionths.to_bytes(4, "big")
    return fixed + write_truncated(relay.fee_base_msat)


def _read_constraints(value: bytes) -> PaymentConstraints:
    if len(value) < 4:
        raise Truncated("payment_constraints")
    return PaymentConstraints(int.from_bytes(value[:4], "big"), Msat(read_tu64(value[4:])))


def _write_constraints(constraints: PaymentConstraints) -> bytes:
    return constraints.max_cltv_expiry.to_bytes(4, "big") + write_truncated(constraints.htlc_minimum_msat)


_RECORDS: dict[int, tuple[str, Callable[[bytes], Any], Callable[[Any], bytes]]] = {
    1: ("padding", bytes, bytes),
    2: ("short_channel_id", _read_scid, lambda scid: scid.to_bytes(8, "big")),
    4: ("next_node_id", _read_point, bytes),
    6: ("path_id", bytes, bytes),
    8: ("next_path_key_override", _read_point, bytes),
    10: ("payment_relay", _read_relay, _write_relay),
    12: ("payment_constraints", _read_constraints, _write_constraints),
    14: ("allowed_features", bytes, bytes),
}
