"""Static channel backups: what is sealed comes back as it was, or not at all."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from htlc.backup import (
    PEER_STORAGE_BYTES,
    Backup,
    BadBackup,
    Entry,
    decode_entry,
    encode_entry,
    entry_of,
    restored,
    seal,
    seal_for_peers,
    unseal,
)
from htlc.channel import Phase
from htlc.keys import ChannelSecrets
from htlc.ladder import REMOTE
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE
from htlc.reestablish import reestablish
from tests.bolt import bolt
from wire.crypto import secp256k1
from wire.crypto.hashes import sha256
from wire.units import Sat

KEY, OTHER_KEY, NONCE = sha256(b"key"), sha256(b"other"), bytes(24)
SECRETS = ChannelSecrets(*(sha256(b"ours", bytes([number])) for number in range(6)))
POINTS = tuple(secp256k1.point_of(sha256(b"theirs", bytes([number]))) for number in range(6))
TERMS = (354, 10**10, 100_000, 1, 144, 483)


def an_entry(number: int = 0, funding_sat: int = 1_000_000, host: str = "127.0.0.1") -> Entry:
    return Entry(
        POINTS[5], host, 9735, number, REMOTE, ANCHORS_TYPE, True, sha256(b"txid", number.to_bytes(4, "big")),
        number % 3, Sat(funding_sat), 100, TERMS, TERMS, POINTS[:5],
    )  # fmt: skip


def a_backup(*entries: Entry) -> Backup:
    return Backup(7, bytes(32), 90, 12, (3, 4), entries)


hosts = st.text(max_size=60)
backups = st.lists(
    st.builds(an_entry, st.integers(0, 10_000), st.integers(1, 1 << 40), hosts), max_size=8
).map(lambda entries: a_backup(*entries))


@bolt("peer-storage.3")
@given(backups)
def test_a_backup_comes_back_as_it_was(backup: Backup) -> None:
    assert unseal(seal(backup, KEY, NONCE), KEY) == backup
    assert unseal(seal_for_peers(backup, KEY, NONCE), KEY) == backup


@bolt("peer-storage.3")
@given(backups, st.data())
def test_a_backup_of_which_one_bit_is_wrong_is_refused(backup: Backup, data: st.DataObject) -> None:
    raw = bytearray(seal(backup, KEY, NONCE))
    at = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[at // 8] ^= 1 << at % 8
    with pytest.raises(BadBackup):
        unseal(bytes(raw), KEY)


@given(st.integers(0, 500))
def test_a_backup_that_was_cut_off_is_refused(size: int) -> None:
    raw = seal(a_backup(an_entry()), KEY, NONCE)
    with pytest.raises(BadBackup):
        unseal(raw[: min(size, len(raw) - 1)], KEY)


@given(st.binary(max_size=200))
def test_what_is_no_backup_is_refused(raw: bytes) -> None:
    with pytest.raises(BadBackup):
        unseal(raw, KEY)
    with pytest.raises(BadBackup):
        decode_entry(raw)


def test_every_refusal_says_what_is_wrong() -> None:
    raw = seal(a_backup(an_entry()), KEY, NONCE)
    for bad, why in (
        (raw[:-1], "is cut off or damaged"),
        (b"x" + raw, "is no backup of a node's channels"),
        (raw[:7] + b"\x02" + raw[8:], "was written by another version"),
    ):
        with pytest.raises(BadBackup) as refused:
            unseal(bad, KEY)
        assert refused.value.why == why
    with pytest.raises(BadBackup) as refused:
        unseal(raw, OTHER_KEY)
    assert refused.value.why == "is of a node with another seed, or damaged"


@bolt("peer-storage.1")
@pytest.mark.parametrize("count", [0, 1, 100, 1000])
def test_what_peers_keep_has_one_size_and_holds_the_largest_channels(count: int) -> None:
    entries = [an_entry(number, 1000 + number * 7919 % 1009) for number in range(count)]
    raw = seal_for_peers(a_backup(*entries), KEY, NONCE)
    assert len(raw) == PEER_STORAGE_BYTES
    kept = unseal(raw, KEY).entries
    assert len(kept) == count if count <= 100 else len(kept) > 170
    left = set(entries) - set(kept)
    assert not left or max(e.funding_sat for e in left) <= min(e.funding_sat for e in kept)


@pytest.mark.parametrize("channel_type", [ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE])
def test_a_restored_channel_is_kept_by_the_same_entry(channel_type: bytes) -> None:
    entry = msgspec.structs.replace(an_entry(1), channel_type=channel_type)
    channel = restored(entry, SECRETS)
    assert channel.phase is Phase.BEHIND
    assert channel.charter.basepoints.local == SECRETS.basepoints()
    assert entry_of(channel, entry.host, entry.port) == entry
    assert decode_entry(encode_entry(entry)) == entry


@bolt("reestablish.3", "reestablish.4", "reestablish.7")
def test_a_restored_channel_says_that_it_has_lost_everything() -> None:
    message = reestablish(restored(an_entry(), SECRETS), SECRETS)
    assert (message.next_commitment_number, message.next_revocation_number) == (0, 0)
    assert message.your_last_per_commitment_secret == bytes(32)
    assert secp256k1.is_point(message.my_current_per_commitment_point)


@pytest.mark.parametrize(
    "changes",
    [
        {"their_points": POINTS[:4]},
        {"their_points": (bytes(33), *POINTS[:4])},
        {"their_terms": (1, 2, 3)},
        {"funding_txid": bytes(31)},
        {"funding_index": 1 << 16},
        {"channel_type": b"\x01"},
        {"peer_id": b"nobody"},
    ],
)
def test_a_channel_with_a_part_missing_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(BadBackup):
        decode_entry(encode_entry(msgspec.structs.replace(an_entry(), **changes)))
