"""What a manifest promises, and what is refused of one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.stream.manifest import (
    MAX_MANIFEST_BYTES,
    BadManifestRecord,
    InvalidManifest,
    Manifest,
    ManifestIncomplete,
    ManifestNotSigned,
    UnknownManifestRecord,
    digest_of,
    read_manifest,
    signed,
    unsigned,
)
from node.stream.merkle import EmptyContent, Layout
from wire.codec import DecodeError
from wire.crypto import secp256k1
from wire.tlv import read_records, write_records
from wire.units import Msat

SECRET = b"\x0e" * 32
ERIC = secp256k1.point_of(SECRET)
LAYOUT = Layout(1_000_000, 65536)
RECORDS = unsigned(ERIC, b"r" * 32, LAYOUT, Msat(100_000), "A film")


def sealed(records: bytes, secret: bytes = SECRET) -> bytes:
    return signed(records, secp256k1.sign(secret, digest_of(records)))


def changed(type: int, value: bytes | None) -> bytes:
    """The records with one of them replaced, added or taken away."""
    records = dict(read_records(RECORDS))
    if value is None:
        del records[type]
    else:
        records[type] = value
    return sealed(write_records(records.items()))


def test_what_is_signed_is_what_is_read() -> None:
    raw = sealed(RECORDS)
    assert read_manifest(raw) == Manifest(ERIC, b"r" * 32, LAYOUT, Msat(100_000), "A film", raw)
    assert read_manifest(raw).total_msat == 16 * 100_000


def test_another_node_cannot_sign_it() -> None:
    with pytest.raises(ManifestNotSigned):
        read_manifest(sealed(RECORDS, secret=b"\x0a" * 32))


def test_an_unknown_odd_record_is_signed_too() -> None:
    raw = changed(241, b"new")
    assert read_manifest(raw).title == "A film"
    with pytest.raises(ManifestNotSigned):
        read_manifest(raw.replace(b"new", b"old"))


def test_an_unknown_even_record_must_be_understood() -> None:
    with pytest.raises(UnknownManifestRecord):
        read_manifest(changed(12, b""))


@pytest.mark.parametrize("type", [0, 2, 4, 6, 8, 10])
def test_no_record_may_be_missing(type: int) -> None:
    with pytest.raises(ManifestIncomplete):
        read_manifest(changed(type, None))


@pytest.mark.parametrize(
    ("type", "value"),
    [
        (0, b"r" * 31),
        (2, b""),
        (4, b"\x40\x01"),
        (6, b""),
        (6, b"\xff" * 8),
        (8, b"\xff"),
        (8, b"t" * 257),
        (8, b"\x1b[2J"),
        (10, ERIC[1:]),
    ],
)
def test_values_out_of_range_are_refused(type: int, value: bytes) -> None:
    with pytest.raises(BadManifestRecord):
        read_manifest(changed(type, value))


def test_our_own_mistakes_are_refused_before_signing() -> None:
    with pytest.raises(BadManifestRecord):
        unsigned(ERIC, b"r" * 32, LAYOUT, Msat(0), "A film")
    with pytest.raises(BadManifestRecord):
        unsigned(ERIC, b"r" * 32, LAYOUT, Msat(1), "é" * 129)
    with pytest.raises(EmptyContent):
        unsigned(ERIC, b"r" * 32, Layout(0, 65536), Msat(1), "A film")


def test_too_many_bytes_are_not_even_read() -> None:
    with pytest.raises(DecodeError):
        read_manifest(changed(241, bytes(MAX_MANIFEST_BYTES)))


@given(st.binary(max_size=200) | st.integers(0, len(sealed(RECORDS)) - 1).map(lambda n: sealed(RECORDS)[:n]))
def test_any_bytes_are_a_manifest_or_an_error(raw: bytes) -> None:
    with pytest.raises((DecodeError, InvalidManifest)):
        read_manifest(raw)
