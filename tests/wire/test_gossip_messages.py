"""BOLT 7: the messages about the network, against the figures of extended queries."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bolt import bolt
from tests.wire.samples import POINTS, vectors
from wire.codec import Truncated, WrongLength
from wire.crypto.hashes import sha256d
from wire.messages.catalogue import decode, encode
from wire.messages.gossip import (
    ChannelAnnouncement,
    ChannelUpdate,
    ChannelUpdateChecksums,
    EncodedFlags,
    EncodedTimestamps,
    NodeAnnouncement,
    QueryChannelRange,
    QueryShortChannelIds,
    ReplyChannelRange,
    UnknownArrayEncoding,
    read_query_flags,
    read_short_ids,
    read_timestamps,
    signed_digest,
    write_query_flags,
    write_short_ids,
    write_timestamps,
)
from wire.scid import parse
from wire.units import Msat

FIGURES = vectors("bolt7")
QUERIES = [
    pytest.param(case, id=f"{case['message']}-{number}")
    for number, case in enumerate(FIGURES["extended_queries"])
]

SIGNATURES = [bytes([number]) * 64 for number in range(1, 5)]
ANNOUNCEMENT = ChannelAnnouncement(
    node_signature_1=SIGNATURES[0],
    node_signature_2=SIGNATURES[1],
    bitcoin_signature_1=SIGNATURES[2],
    bitcoin_signature_2=SIGNATURES[3],
    features=b"\x08",
    chain_hash=bytes(32),
    short_channel_id=parse("539268x845x1"),
    node_id_1=POINTS[0],
    node_id_2=POINTS[1],
    bitcoin_key_1=POINTS[2],
    bitcoin_key_2=POINTS[3],
    extension=b"\x01\x00",
)
NODE = NodeAnnouncement(SIGNATURES[0], b"", 1, POINTS[0], b"rgb", b"rill".ljust(32, b"\0"), b"")
UPDATE = ChannelUpdate(SIGNATURES[0], bytes(32), parse("1x2x3"), 1, 1, 0, 34, Msat(1), 1000, 10, Msat(99))


@pytest.mark.parametrize("case", QUERIES)
def test_a_query_has_the_values_of_the_figures(case: dict[str, Any]) -> None:
    raw = bytes.fromhex(case["hex"])
    message: Any = decode(raw)
    assert encode(message) == raw
    assert message.chain_hash.hex() == case["chain_hash"]
    for field in {"first_blocknum", "number_of_blocks", "sync_complete"} & case.keys():
        assert getattr(message, field) == case[field]
    if isinstance(message, QueryChannelRange):
        assert message.query_option == case.get("query_option_flags")
    if isinstance(message, ReplyChannelRange):
        checksums = case.get("checksums")
        assert message.checksums_tlv == (
            None if checksums is None else tuple(ChannelUpdateChecksums(*pair) for pair in checksums)
        )


@bolt("queries.3")
@pytest.mark.parametrize("case", QUERIES)
def test_only_plain_arrays_are_read(case: dict[str, Any]) -> None:
    message: Any = decode(bytes.fromhex(case["hex"]))
    if "short_channel_ids" not in case:
        assert isinstance(message, QueryChannelRange)
    elif case["short_channel_ids"]["encoding"]:
        with pytest.raises(UnknownArrayEncoding):
            read_short_ids(message.encoded_short_ids)
    else:
        ids = tuple(map(parse, case["short_channel_ids"]["ids"]))
        assert read_short_ids(message.encoded_short_ids) == ids
        assert write_short_ids(ids) == message.encoded_short_ids


@bolt("queries.3")
@pytest.mark.parametrize("case", QUERIES)
def test_only_plain_timestamps_and_flags_are_read(case: dict[str, Any]) -> None:
    message: Any = decode(bytes.fromhex(case["hex"]))
    if isinstance(message, ReplyChannelRange) and message.timestamps_tlv:
        if case["timestamps"]["encoding"]:
            with pytest.raises(UnknownArrayEncoding):
                read_timestamps(message.timestamps_tlv)
        else:
            pairs = tuple(map(tuple, case["timestamps"]["pairs"]))
            assert read_timestamps(message.timestamps_tlv) == pairs
            assert write_timestamps(pairs) == message.timestamps_tlv
    if isinstance(message, QueryShortChannelIds) and message.query_flags:
        with pytest.raises(UnknownArrayEncoding):
            read_query_flags(message.query_flags)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_arrays_come_back(numbers: list[int]) -> None:
    assert read_short_ids(write_short_ids(numbers)) == tuple(numbers)
    assert read_query_flags(write_query_flags(numbers)) == tuple(numbers)


def test_an_array_is_whole() -> None:
    with pytest.raises(Truncated):
        read_short_ids(b"")
    with pytest.raises(WrongLength):
        read_short_ids(bytes(8))
    with pytest.raises(WrongLength):
        read_timestamps(EncodedTimestamps(0, bytes(7)))
    with pytest.raises(Truncated):
        read_query_flags(EncodedFlags(0, b"\xfd\x01"))


@bolt("own-announcements.2")
def test_a_channel_announcement_is_signed_from_byte_258() -> None:
    raw = encode(ANNOUNCEMENT)
    assert signed_digest(raw) == sha256d(raw[258:])
    assert raw[258:].startswith(b"\x00\x01\x08")
    assert raw.endswith(b"\x01\x00")


@pytest.mark.parametrize("message", [NODE, UPDATE], ids=["node_announcement", "channel_update"])
def test_the_others_are_signed_behind_their_signature(message: NodeAnnouncement | ChannelUpdate) -> None:
    raw = encode(message)
    assert signed_digest(raw) == sha256d(raw[66:])
    assert signed_digest(raw + b"added later") != signed_digest(raw)
