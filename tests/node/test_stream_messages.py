"""The messages between viewer and provider: round trips, fragments, and hostile bytes."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.stream import messages, numbers
from node.stream.messages import (
    MAX_FRAGMENT_BYTES,
    Fragment,
    GetManifest,
    ManifestReply,
    OfferReply,
    Reason,
    Refusal,
    RequestChunk,
    UnknownReason,
)
from node.stream.offer import MAX_OFFER_BYTES
from wire.codec import DecodeError, Truncated, WrongLength

READERS: list[Callable[[bytes], object]] = [
    messages.read_get_manifest,
    messages.read_manifest_reply,
    messages.read_request_chunk,
    messages.read_offer_reply,
    messages.read_fragment,
    messages.read_refusal,
]


def test_the_numbers_are_odd_and_left_to_applications() -> None:
    every = [number for number in vars(numbers).values() if isinstance(number, int)]
    assert len(set(every)) == len(every) == 13
    assert all(32768 <= number <= 65535 and number & 1 for number in every)
    assert set(numbers.REQUESTS) < set(every)


def test_what_is_written_is_read() -> None:
    get, request = GetManifest(7, b"r" * 32), RequestChunk(8, b"r" * 32, 3)
    assert messages.read_get_manifest(messages.write_get_manifest(get)) == get
    assert messages.read_request_chunk(messages.write_request_chunk(request)) == request
    manifest, offer = ManifestReply(9, b"manifest"), OfferReply(10, b"offer")
    assert messages.read_manifest_reply(messages.write_manifest(manifest)) == manifest
    assert messages.read_offer_reply(messages.write_offer(offer)) == offer
    refusal = Refusal(2**64 - 1, Reason.UNPAID)
    assert messages.read_refusal(messages.write_refusal(refusal)) == refusal


@pytest.mark.parametrize(
    ("length", "count"), [(1, 1), (MAX_FRAGMENT_BYTES, 1), (65552, 2), (262160, 5), ((1 << 20) + 16, 17)]
)
def test_a_ciphertext_comes_in_as_many_fragments_as_frames_need(length: int, count: int) -> None:
    ciphertext = bytes(range(256)) * (length // 256) + bytes(length % 256)
    payloads = messages.write_fragments(5, ciphertext)
    assert len(payloads) == count
    assert all(len(payload) + 2 <= 65535 for payload in payloads)
    fragments = [messages.read_fragment(payload) for payload in payloads]
    assert all(fragment.request_id == 5 for fragment in fragments)
    assert b"".join(fragment.ciphertext for fragment in fragments) == ciphertext


def test_lengths_are_bounded() -> None:
    with pytest.raises(WrongLength):
        messages.read_offer_reply(bytes(8 + MAX_OFFER_BYTES + 1))
    with pytest.raises(WrongLength):
        messages.read_request_chunk(bytes(45))
    with pytest.raises(Truncated):
        messages.read_fragment(bytes(8))
    assert messages.read_fragment(bytes(9)) == Fragment(0, b"\0")


def test_a_refusal_has_a_known_reason() -> None:
    with pytest.raises(UnknownReason):
        messages.read_refusal(bytes(8) + b"\x03\xe7")


@given(st.binary(max_size=60), st.sampled_from(READERS))
def test_any_bytes_are_a_message_or_an_error(payload: bytes, read: Callable[[bytes], object]) -> None:
    with suppress(DecodeError):
        read(payload)
