"""Blinded paths as bytes: what offers, invoices and onion messages carry of one (BOLT 4, route blinding).

How one is made and what its nodes find inside is in `onion.blinded`.
"""

from msgspec import Struct

from wire.codec import Truncated, WrongLength
from wire.crypto.secp256k1 import Point, is_point


class BlindedHop(Struct, frozen=True, gc=False):
    """One node of the path as the sender sees it."""

    blinded_node_id: Point
    encrypted_recipient_data: bytes


class BlindedPath(Struct, frozen=True, gc=False):
    """What the sender gets: where to enter, with which key, and what to hand each node.

    Read from the wire, `first_node_id` may instead be 9 bytes: a direction and a short_channel_id.
    """

    first_node_id: Point
    first_path_key: Point
    hops: tuple[BlindedHop, ...]


def encode_path(path: BlindedPath) -> bytes:
    """The path as invoices and onion messages carry it: `blinded_path`."""
    parts = [path.first_node_id, path.first_path_key, len(path.hops).to_bytes(1, "big")]
    for hop in path.hops:
        size = len(hop.encrypted_recipient_data).to_bytes(2, "big")
        parts += [hop.blinded_node_id, size, hop.encrypted_recipient_data]
    return b"".join(parts)


def decode_path(raw: bytes, at: int = 0) -> tuple[BlindedPath, int]:
    """The path at an offset, and the offset after it.

    Raises:
        DecodeError: cut off, no hops, or a key that is no point.
    """
    # a channel's direction and number may stand for the first node, to save bytes
    size = 9 if raw[at : at + 1] in (b"\x00", b"\x01") else 33
    first_node_id, at = _cut(raw, at, size)
    first_path_key, at = _cut(raw, at, 33)
    count, at = _cut(raw, at, 1)
    if count == b"\x00":
        raise WrongLength("a blinded path", 0)
    hops: list[BlindedHop] = []
    for _ in range(count[0]):
        blinded_node_id, at = _cut(raw, at, 33)
        size_of_data, at = _cut(raw, at, 2)
        encrypted, at = _cut(raw, at, int.from_bytes(size_of_data, "big"))
        hops.append(BlindedHop(_point(blinded_node_id), encrypted))
    if size == 33:
        _point(first_node_id)
    return BlindedPath(first_node_id, _point(first_path_key), tuple(hops)), at


def _cut(raw: bytes, at: int, size: int) -> tuple[bytes, int]:
    if at + size > len(raw):
        raise Truncated("a blinded path")
    return raw[at : at + size], at + size


def _point(value: bytes) -> Point:
    if not is_point(value):
        raise WrongLength("a point", len(value))
    return value
