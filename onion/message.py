"""Onion messages: a few bytes to a node, with neither channel nor payment (BOLT 4, onion messages).

Each travels over a blinded path, so every node reads where to pass it on from what the path's
creator encrypted for it. Whatever is wrong with one, it is dropped and nobody is told; the
reason is a value for our own log.
"""

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct

from onion.blinded import InvalidBlinding, RecipientData, check_features, unblind
from onion.sphinx import MAX_MESSAGE_PAYLOADS_SIZE, PAYLOADS_SIZE, BadOnion, build, peel, room_of
from wire.blinded_path import BlindedPath, decode_path, encode_path
from wire.codec import DecodeError
from wire.crypto.secp256k1 import Point, Secret
from wire.tlv import read_records, write_records

REPLY_PATH = 2
ENCRYPTED_RECIPIENT_DATA = 4
INVOICE_REQUEST = 64
INVOICE = 66
INVOICE_ERROR = 68

_CONTENTS = frozenset({INVOICE_REQUEST, INVOICE, INVOICE_ERROR})
_KNOWN = _CONTENTS | {REPLY_PATH, ENCRYPTED_RECIPIENT_DATA}


class PassOn(Struct, frozen=True, gc=False):
    """Send this packet with this path key to the peer that is named, by its id or by a channel."""

    next_node_id: Point | None
    short_channel_id: int | None
    path_key: Point
    packet: bytes


class Arrived(Struct, frozen=True, gc=False):
    """It is for us: its records, by which of our paths it came, and how to answer."""

    records: dict[int, bytes]
    path_id: bytes | None
    reply_path: BlindedPath | None


class Dropped(Struct, frozen=True, gc=False):
    """Nothing is to be done with it."""

    why: str


Outcome: TypeAlias = PassOn | Arrived | Dropped


def build_message(
    session_key: Secret,
    path: BlindedPath,
    records: Mapping[int, bytes],
    reply_path: BlindedPath | None = None,
) -> bytes:
    """The packet for the path's first node, to be sent along with the path's first key.

    Args:
        session_key: 32 fresh random bytes.
        path: to the recipient; `onion.blinded.prepend` makes it start at a peer of ours.
        records: what the recipient shall read.
        reply_path: a path to us, if it may answer.

    Raises:
        OnionTooLong: it fits not even the larger of the two sizes that messages have.
    """
    hops = [
        (hop.blinded_node_id, write_records([(ENCRYPTED_RECIPIENT_DATA, hop.encrypted_recipient_data)]))
        for hop in path.hops
    ]
    last = {**records, ENCRYPTED_RECIPIENT_DATA: path.hops[-1].encrypted_recipient_data}
    if reply_path is not None:
        last[REPLY_PATH] = encode_path(reply_path)
    hops[-1] = (path.hops[-1].blinded_node_id, write_records(last.items()))
    # two sizes only: any other would tell the message from the rest
    is_small = sum(room_of(payload) for _, payload in hops) <= PAYLOADS_SIZE
    return build(session_key, hops, b"", PAYLOADS_SIZE if is_small else MAX_MESSAGE_PAYLOADS_SIZE).packet


def open_message(node_secret: Secret, path_key: Point, packet: bytes) -> Outcome:
    """What to do with a message that a peer sent (onion-messages.2)."""
    try:
        peeled = peel(node_secret, packet, b"", path_key)
        records = dict(read_records(peeled.payload))
        unblinded = unblind(node_secret, path_key, records.get(ENCRYPTED_RECIPIENT_DATA, b""))
        check_features(unblinded.recipient_data)
        if peeled.next_packet is None:
            return _arrived(records, unblinded.recipient_data)
    except (BadOnion, DecodeError, InvalidBlinding) as fault:
        return Dropped(str(fault))
    return _passed_on(records, unblinded.recipient_data, unblinded.next_path_key, peeled.next_packet)


def _arrived(records: dict[int, bytes], recipient_data: RecipientData) -> Arrived | Dropped:
    if unknown := [type for type in records if not type & 1 and type not in _KNOWN]:
        return Dropped(f"unknown even record {unknown[0]}")
    if len(_CONTENTS & records.keys()) > 1:
        return Dropped("more than one content")
    reply_path = None
    if REPLY_PATH in records:
        reply_path, end = decode_path(records[REPLY_PATH])
        if end != len(records[REPLY_PATH]):
            return Dropped("bytes after the reply path")
    contents = {
        type: value for type, value in records.items() if type not in (REPLY_PATH, ENCRYPTED_RECIPIENT_DATA)
    }
    return Arrived(contents, recipient_data.path_id, reply_path)


def _passed_on(
    records: dict[int, bytes], recipient_data: RecipientData, path_key: Point, packet: bytes
) -> PassOn | Dropped:
    # onion-messages.1: a node on the way gets nothing but its own encrypted data
    if len(records) != 1:
        return Dropped("records that are not for a node on the way")
    if recipient_data.path_id is not None:
        return Dropped("a path id on the way")
    next_node_id, scid = recipient_data.next_node_id, recipient_data.short_channel_id
    if next_node_id is None and scid is None:
        return Dropped("no next node")
    return PassOn(next_node_id, None if next_node_id else scid, path_key, packet)
