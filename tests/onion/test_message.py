"""BOLT 4: onion messages."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onion.blinded import RecipientData, blind, encode_recipient_data, prepend
from onion.message import (
    ENCRYPTED_RECIPIENT_DATA,
    INVOICE,
    INVOICE_REQUEST,
    REPLY_PATH,
    Arrived,
    Dropped,
    PassOn,
    build_message,
    open_message,
)
from onion.sphinx import OnionTooLong, build
from tests.bolt import bolt
from tests.onion.routes import NODE_SECRETS, NODES, VECTORS, b
from wire.blinded_path import BlindedHop, BlindedPath, decode_path, encode_path
from wire.codec import DecodeError
from wire.messages.catalogue import decode
from wire.messages.onion import OnionMessage
from wire.tlv import write_records

FIGURE: dict[str, Any] = VECTORS["blinded_onion_message"]
SESSION_KEY = bytes([3]) * 32
PATH_SECRET = bytes([2]) * 32
PATH_ID = bytes([8]) * 32


def the_path() -> BlindedPath:
    """The figure's path."""
    route = FIGURE["route"]
    hops = [
        BlindedHop(b(hop["blinded_node_id"]), b(hop["encrypted_recipient_data"])) for hop in route["hops"]
    ]
    return BlindedPath(b(route["first_node_id"]), b(route["first_path_key"]), tuple(hops))


def a_path(hops: int = 3, last: RecipientData = RecipientData(path_id=PATH_ID)) -> BlindedPath:  # noqa: B008
    """A path over our first nodes."""
    onward = [RecipientData(next_node_id=NODES[place + 1]) for place in range(hops - 1)]
    return blind(
        PATH_SECRET, [(NODES[at], encode_recipient_data(each)) for at, each in enumerate([*onward, last])]
    )


def a_packet(payloads: list[dict[int, bytes]], path: BlindedPath) -> bytes:
    """A message with any records for each node of the path."""
    hops = [
        (
            hop.blinded_node_id,
            write_records(({ENCRYPTED_RECIPIENT_DATA: hop.encrypted_recipient_data} | payload).items()),
        )
        for hop, payload in zip(path.hops, payloads, strict=True)
    ]
    return build(SESSION_KEY, hops, b"").packet


@bolt("onion-messages.1", "blinded-paths.4")
def test_the_figures_path_is_two_paths_joined_by_an_override() -> None:
    alice, *others = FIGURE["generate"]["hops"]
    inner = blind(
        b(others[0]["path_key_secret"]),
        [
            (point, b(hop["encrypted_data_tlv"]))
            for point, hop in zip(
                [b(hop["tlvs"]["next_node_id"]) for hop in FIGURE["generate"]["hops"][:-1]],
                others,
                strict=True,
            )
        ],
    )
    node = b(FIGURE["route"]["first_node_id"])
    assert prepend(b(alice["path_key_secret"]), [node], inner) == the_path()


@bolt("onion-messages.1")
def test_the_figures_packet() -> None:
    message = FIGURE["onionmessage"]
    packet = build_message(SESSION_KEY, the_path(), {1: b(message["unknown_tag_1"])})
    assert packet == b(message["onion_message_packet"])


@bolt("onion-messages.1", "onion-messages.3")
def test_the_figures_message_from_node_to_node() -> None:
    *hops, last = FIGURE["decrypt"]["hops"]
    for hop, following in zip(hops, [*hops[1:], last], strict=True):
        message, onward = decode(b(hop["onion_message"])), decode(b(following["onion_message"]))
        assert isinstance(message, OnionMessage)
        assert isinstance(onward, OnionMessage)
        outcome = open_message(b(hop["privkey"]), message.path_key, message.onion_message_packet)
        assert outcome == PassOn(b(hop["next_node_id"]), None, onward.path_key, onward.onion_message_packet)
    message = decode(b(last["onion_message"]))
    assert isinstance(message, OnionMessage)
    outcome = open_message(b(last["privkey"]), message.path_key, message.onion_message_packet)
    path_id = FIGURE["generate"]["hops"][-1]["tlvs"]["path_id"]
    assert outcome == Arrived({1: b"hello"}, b(path_id), None)


@bolt("onion-messages.3")
def test_a_question_and_its_answer() -> None:
    packet = build_message(SESSION_KEY, a_path(), {INVOICE_REQUEST: b"?"}, reply_path=a_path(1))
    path_key = a_path().first_path_key
    for place in range(2):
        outcome = open_message(NODE_SECRETS[place], path_key, packet)
        assert isinstance(outcome, PassOn)
        assert outcome.next_node_id == NODES[place + 1]
        packet, path_key = outcome.packet, outcome.path_key
    assert open_message(NODE_SECRETS[2], path_key, packet) == Arrived(
        {INVOICE_REQUEST: b"?"}, PATH_ID, a_path(1)
    )


def test_a_message_has_one_of_two_sizes() -> None:
    assert len(build_message(SESSION_KEY, a_path(), {INVOICE: bytes(900)})) == 1366
    assert len(build_message(SESSION_KEY, a_path(), {INVOICE: bytes(1100)})) == 32834
    with pytest.raises(OnionTooLong):
        build_message(SESSION_KEY, a_path(), {INVOICE: bytes(32768)})


@bolt("onion-messages.2")
@pytest.mark.parametrize(
    "records",
    [
        {INVOICE_REQUEST: b"", INVOICE: b""},
        {70: b""},
        {6: b""},
        {REPLY_PATH: b""},
        {REPLY_PATH: encode_path(a_path()) + b"\x00"},
        {ENCRYPTED_RECIPIENT_DATA: b"other"},
    ],
)
def test_what_the_last_node_drops(records: dict[int, bytes]) -> None:
    path = a_path(1)
    outcome = open_message(NODE_SECRETS[0], path.first_path_key, a_packet([records], path))
    assert isinstance(outcome, Dropped)
    assert outcome.why


@bolt("onion-messages.2")
@pytest.mark.parametrize("records", [{1: b""}, {REPLY_PATH: b""}, {INVOICE: b""}, {70: b""}])
def test_a_node_on_the_way_drops_what_is_not_for_it(records: dict[int, bytes]) -> None:
    path = a_path(2)
    packet = a_packet([records, {}], path)
    assert isinstance(open_message(NODE_SECRETS[0], path.first_path_key, packet), Dropped)


@bolt("onion-messages.2")
@pytest.mark.parametrize(
    "first",
    [
        RecipientData(),
        RecipientData(next_node_id=NODES[1], path_id=b"mine"),
        RecipientData(next_node_id=NODES[1], allowed_features=b"\x02"),
    ],
)
def test_a_node_on_the_way_drops_what_it_cannot_pass_on(first: RecipientData) -> None:
    path = blind(PATH_SECRET, [(NODES[0], encode_recipient_data(first)), (NODES[1], b"")])
    assert isinstance(open_message(NODE_SECRETS[0], path.first_path_key, a_packet([{}, {}], path)), Dropped)


def test_the_next_node_may_be_named_by_a_channel() -> None:
    path = blind(
        PATH_SECRET, [(NODES[0], encode_recipient_data(RecipientData(short_channel_id=9))), (NODES[1], b"")]
    )
    outcome = open_message(NODE_SECRETS[0], path.first_path_key, a_packet([{}, {}], path))
    assert isinstance(outcome, PassOn)
    assert (outcome.next_node_id, outcome.short_channel_id) == (None, 9)


@bolt("onion-messages.2")
@given(st.binary(max_size=200), st.sampled_from(NODES) | st.binary(max_size=40))
def test_any_other_bytes_are_dropped(packet: bytes, path_key: bytes) -> None:
    assert isinstance(open_message(NODE_SECRETS[0], path_key, packet), Dropped)


@given(st.binary(max_size=100))
def test_any_payload_is_dropped_or_read(payload: bytes) -> None:
    path = a_path(1)
    packet = build(SESSION_KEY, [(path.hops[0].blinded_node_id, payload + b"\x00\x00")], b"").packet
    open_message(NODE_SECRETS[0], path.first_path_key, packet)


@given(
    st.lists(st.builds(BlindedHop, st.sampled_from(NODES), st.binary(max_size=300)), min_size=1, max_size=4),
    st.sampled_from(NODES) | st.binary(min_size=8, max_size=8).map(lambda scid: b"\x01" + scid),
)
def test_a_path_survives_the_wire(hops: list[BlindedHop], first_node_id: bytes) -> None:
    path = BlindedPath(first_node_id, NODES[0], tuple(hops))
    raw = encode_path(path)
    assert decode_path(raw) == (path, len(raw))
    assert decode_path(b"??" + raw, 2) == (path, len(raw) + 2)
    with pytest.raises(DecodeError):
        decode_path(raw[:-1])


@pytest.mark.parametrize("start", [0, 33])
def test_a_path_with_a_key_that_is_no_point_is_refused(start: int) -> None:
    raw = encode_path(a_path())
    with pytest.raises(DecodeError):
        decode_path(raw[:start] + b"\x05" + raw[start + 1 :])
    with pytest.raises(DecodeError):
        decode_path(raw[:66] + b"\x00")
