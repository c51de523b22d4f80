"""The law of the codec: any bytes are refused as `DecodeError`, or are a value that comes back."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.wire.samples import messages
from wire.codec import DecodeError, Message
from wire.messages.catalogue import MESSAGES, decode, encode
from wire.messages.gossip import ChannelAnnouncement, ChannelUpdate, NodeAnnouncement
from wire.tlv import write_record

every_message = pytest.mark.parametrize("cls", MESSAGES.values(), ids=lambda cls: cls.__name__)
any_message = messages(*MESSAGES.values())
numbers = st.sampled_from([*MESSAGES, 3, 98, 40001]).map(lambda number: number.to_bytes(2, "big"))


def assert_refused_or_comes_back(raw: bytes) -> None:
    try:
        message = decode(raw)
    except DecodeError:
        return
    assert decode(encode(message)) == message


@every_message
def test_a_message_comes_back(cls: type[Message]) -> None:
    @settings(max_examples=20)
    @given(messages(cls))
    def comes_back(message: Message) -> None:
        raw = encode(message)
        assert raw[:2] == cls.TYPE.to_bytes(2, "big")
        assert decode(raw) == message

    comes_back()


@settings(max_examples=500)
@given(numbers, st.binary(max_size=600))
@example(b"\x00\x10", bytes(4) + b"\x01\x00\x03\x00")
@example(b"\x00\x47", b"\xff" * 70)
def test_any_bytes_are_refused_or_come_back(number: bytes, payload: bytes) -> None:
    assert_refused_or_comes_back(number + payload)


@settings(max_examples=500)
@given(any_message, st.data())
def test_a_damaged_message_is_refused_or_comes_back(message: Message, data: st.DataObject) -> None:
    raw = bytearray(encode(message))
    at = data.draw(st.integers(2, len(raw)))
    cut, inserted = data.draw(st.integers(0, 3)), data.draw(st.binary(max_size=3))
    raw[at : at + cut] = inserted
    assert_refused_or_comes_back(bytes(raw))


@settings(max_examples=300)
@given(any_message, st.integers(0, 300), st.binary(max_size=70))
def test_a_message_with_one_more_record_is_refused_or_comes_back(
    message: Message, type: int, value: bytes
) -> None:
    assert_refused_or_comes_back(encode(message) + write_record(type, value))


@settings(max_examples=200)
@given(messages(ChannelAnnouncement, NodeAnnouncement, ChannelUpdate), st.binary(max_size=40))
def test_signed_gossip_comes_back_byte_for_byte(message: Message, extension: bytes) -> None:
    raw = encode(message) + extension
    assert encode(decode(raw)) == raw
