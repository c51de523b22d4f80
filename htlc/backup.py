"""Static channel backups: what brings a channel's money back when all of its state is lost.

A backup knows which channels there are and with whom, never how their balances stand: so it is
rewritten when a channel opens or ends, not at every payment. Whoever has it, and the seed, asks
each peer to close, and finds in the peer's commitment the output that the seed alone can spend
(option_static_remotekey). What it is made of is authentic or refused as a whole. Rejected: the
secrets that punish a revoked commitment, which would have to be rewritten at every payment; and
the peer that is asked to close does not know what we have lost.
"""

import struct
from collections.abc import Sequence

import msgspec

from htlc.channel import Channel, Charter, Phase, Terms
from htlc.keys import Basepoints, ChannelSecrets
from htlc.ladder import Dual, Side
from htlc.opening import channel_id_of, format_of
from wire.bitcoin.tx import OutPoint
from wire.crypto.aead import BadTag, xchacha_open, xchacha_seal
from wire.crypto.hashes import tagged_hash
from wire.crypto.secp256k1 import is_point
from wire.units import Msat, Sat, msat

NONCE_BYTES = 24
PEER_STORAGE_BYTES = 65531

_MAGIC = b"rillscb\x01"  # the last byte counts the formats
_FINGERPRINT_BYTES = 8
_HEADER_BYTES = len(_MAGIC) + _FINGERPRINT_BYTES
_OVERHEAD_BYTES = _HEADER_BYTES + NONCE_BYTES + 4 + 16  # the length inside, the tag behind
_length = struct.Struct(">I")


class BadBackup(Exception):
    """What should be a backup of ours is none. `why` completes a sentence that begins with its name."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"the backup {why}")


class Entry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a backup keeps of one channel: everything in its charter that the seed does not give."""

    peer_id: bytes
    host: str  # where the peer was reached last; empty: nobody knows
    port: int
    key_index: int
    opener: Side
    channel_type: bytes
    is_announced: bool
    funding_txid: bytes
    funding_index: int
    funding_sat: Sat
    known_since: int  # no block before this height has its funding transaction
    our_terms: tuple[int, ...]
    their_terms: tuple[int, ...]
    their_points: tuple[bytes, ...]

    @property
    def channel_id(self) -> bytes:
        return channel_id_of(OutPoint(self.funding_txid, self.funding_index))


class Backup(msgspec.Struct, frozen=True, array_like=True):
    """Everything that a node needs beside its seed to have its money back."""

    number: int  # grows with each one that is written
    chain_hash: bytes
    birthday: int  # no block below this height concerns the node
    next_key_index: int
    wallet_indexes: tuple[int, int]  # how many addresses were handed out, to receive and for change
    entries: tuple[Entry, ...]


def entry_of(channel: Channel, host: str, port: int) -> Entry:
    """What to keep of a channel; the peer was reached at that address."""
    charter = channel.charter
    return Entry(
        charter.peer_id,
        host,
        port,
        charter.key_index,
        charter.opener,
        charter.channel_type,
        charter.is_announced,
        charter.funding_outpoint.txid,
        charter.funding_outpoint.index,
        charter.funding_sat,
        channel.known_since,
        msgspec.structs.astuple(charter.terms.local),
        msgspec.structs.astuple(charter.terms.remote),
        msgspec.structs.astuple(charter.basepoints.remote),
    )


def restored(entry: Entry, secrets: ChannelSecrets) -> Channel:
    """The channel, without anything that ever happened on it: only its peer can close it."""
    format = format_of(entry.channel_type)
    assert format is not None, "an entry is checked when it is read"
    charter = Charter(
        channel_id=entry.channel_id,
        peer_id=entry.peer_id,
        key_index=entry.key_index,
        format=format,
        channel_type=entry.channel_type,
        opener=entry.opener,
        is_announced=entry.is_announced,
        funding_outpoint=OutPoint(entry.funding_txid, entry.funding_index),
        funding_sat=entry.funding_sat,
        minimum_depth_blocks=1,
        terms=Dual(_terms(entry.our_terms), _terms(entry.their_terms)),
        basepoints=Dual(secrets.basepoints(), Basepoints(*entry.their_points)),
    )
    return Channel(
        charter=charter,
        # reestablish.7: our commitment may be revoked, and we have lost it anyway
        phase=Phase.BEHIND,
        # what is ours will be seen when the peer has closed
        settled_msat=Dual(Msat(0), msat(entry.funding_sat)),
        feerate_per_kw=0,
        number=Dual(0, 0),
        remote_point=b"",
        remote_next_point=None,
        is_ready=Dual(True, True),
        known_since=entry.known_since,
        is_restored=True,
    )


def _terms(values: tuple[int, ...]) -> Terms:
    dust, in_flight, reserve, minimum, delay_blocks, count = values
    return Terms(Sat(dust), Msat(in_flight), Sat(reserve), Msat(minimum), delay_blocks, count)


# One channel alone, in the clear

_encode = msgspec.msgpack.Encoder().encode
_decode_entry = msgspec.msgpack.Decoder(Entry).decode
_decode_backup = msgspec.msgpack.Decoder(Backup).decode


def encode_entry(entry: Entry) -> bytes:
    """The bytes of one channel's backup. They hold no secret, and nothing vouches for them."""
    return _encode(entry)


def decode_entry(raw: bytes) -> Entry:
    """The channel in the bytes.

    Raises:
        BadBackup: there is none.
    """
    try:
        entry = _decode_entry(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadBackup(f"is none of a channel: {error}") from None
    return _checked(entry)


def _checked(entry: Entry) -> Entry:
    points = (entry.peer_id, *entry.their_points)
    has_parts = len(entry.our_terms) == len(entry.their_terms) == 6 and len(points) == 6
    if not has_parts or len(entry.funding_txid) != 32 or not 0 <= entry.funding_index < 1 << 16:
        raise BadBackup("is none of a channel: parts of it are missing")
    if format_of(entry.channel_type) is None:
        raise BadBackup(f"is of a channel of a type that is not known here: {entry.channel_type.hex()}")
    if not all(len(point) == 33 and is_point(point) for point in points):
        raise BadBackup("is none of a channel: its keys are no points of the curve")
    return entry


# All of them, encrypted


def seal(backup: Backup, key: bytes, nonce: bytes) -> bytes:
    """The encrypted backup, under a key of 32 bytes and a nonce of 24 that is never used again."""
    return _sealed(_encode(backup), key, nonce, 0)


def seal_for_peers(backup: Backup, key: bytes, nonce: bytes) -> bytes:
    """The same as one message can carry it: always of one size, so it does not tell how many channels.

    If not all channels fit (about 180 do), those that hold the most are in it.
    """
    # peer-storage.1
    room = PEER_STORAGE_BYTES - _OVERHEAD_BYTES
    raw = _encode(backup)
    if len(raw) > room:
        raw = _encode(msgspec.structs.replace(backup, entries=_largest(backup, room)))
    return _sealed(raw, key, nonce, room - len(raw))


def _largest(backup: Backup, room: int) -> tuple[Entry, ...]:
    room -= len(_encode(msgspec.structs.replace(backup, entries=()))) + 4
    fitting: list[Entry] = []
    for entry in sorted(backup.entries, key=lambda entry: -entry.funding_sat):
        room -= len(_encode(entry))
        if room < 0:
            break
        fitting.append(entry)
    return tuple(fitting)


def _sealed(raw: bytes, key: bytes, nonce: bytes, padding: int) -> bytes:
    header = _MAGIC + _fingerprint(key)
    # peer-storage.3
    plaintext = _length.pack(len(raw)) + raw + bytes(padding)
    return header + nonce + xchacha_seal(key, nonce, plaintext, header)


def _fingerprint(key: bytes) -> bytes:
    """What tells that another seed made a backup, and nothing else."""
    return tagged_hash(b"rill/backup/fingerprint", key)[:_FINGERPRINT_BYTES]


def unseal(raw: bytes, key: bytes) -> Backup:
    """The backup.

    Raises:
        BadBackup: it is cut off, altered, of another seed, or none at all.
    """
    header, nonce = raw[:_HEADER_BYTES], raw[_HEADER_BYTES : _HEADER_BYTES + NONCE_BYTES]
    if header[: len(_MAGIC) - 1] != _MAGIC[:-1]:
        raise BadBackup("is no backup of a node's channels")
    if header[: len(_MAGIC)] != _MAGIC:
        raise BadBackup("was written by another version")
    if header != _MAGIC + _fingerprint(key):
        raise BadBackup("is of a node with another seed, or damaged")
    try:
        plaintext = xchacha_open(key, nonce, raw[_HEADER_BYTES + NONCE_BYTES :], header)
        [size] = _length.unpack_from(plaintext)
        backup = _decode_backup(plaintext[4 : 4 + size])
    except (BadTag, ValueError, struct.error):
        raise BadBackup("is cut off or damaged") from None
    _check_all(backup.entries)
    return backup


def _check_all(entries: Sequence[Entry]) -> None:
    for entry in entries:
        _checked(entry)
