"""BOLT 4: packet construction, onion decryption, filler generation."""

from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from onion.failures import FailureCode
from onion.payload import InvalidPayload, decode_payload
from onion.sphinx import (
    MAX_MESSAGE_PAYLOADS_SIZE,
    PACKET_SIZE,
    PAYLOADS_SIZE,
    BadOnion,
    InvalidOnionHmac,
    InvalidOnionKey,
    InvalidOnionVersion,
    OnionTooLong,
    build,
    hmac_of,
    key_of,
    peel,
    room_of,
    shared_secrets_of,
)
from tests.bolt import bolt
from tests.onion.routes import (
    NODE_SECRETS,
    NODES,
    PAYMENT_HASH,
    SESSION_KEY,
    SMALLEST_PAYLOAD,
    VECTORS,
    an_onion,
    b,
    unframed,
)
from wire.crypto.aead import chacha20_xor
from wire.crypto.hashes import hmac_sha256, sha256
from wire.crypto.secp256k1 import InvalidPoint, ecdh, is_point, multiply_point, point_of

FIGURE: dict[str, Any] = VECTORS["onion_packet"]

payloads = st.lists(st.binary(min_size=2, max_size=400), min_size=1, max_size=20)


def peel_all(packet: bytes, associated: bytes = PAYMENT_HASH) -> list[tuple[bytes, bytes]]:
    """What each node in turn received and read."""
    received = []
    for secret in NODE_SECRETS:
        peeled = peel(secret, packet, associated)
        received.append((packet, peeled.payload))
        if peeled.next_packet is None:
            return received
        packet = peeled.next_packet
    raise AssertionError("no hop was the last")


def repacked(packet: bytes, first_bytes: bytes, secret: bytes = NODE_SECRETS[0]) -> bytes:
    """A packet that authenticates, whose first hop reads these bytes first."""
    shared = ecdh(secret, packet[1:34])
    plain = chacha20_xor(key_of(b"rho", shared), packet[34:-32])
    wrapped = chacha20_xor(key_of(b"rho", shared), first_bytes + plain[len(first_bytes) :])
    return packet[:34] + wrapped + hmac_sha256(key_of(b"mu", shared), wrapped + PAYMENT_HASH)


@bolt("processing.1")
def test_the_figures_packet_is_built_byte_for_byte() -> None:
    hops = [(b(hop["pubkey"]), unframed(hop["payload"])) for hop in FIGURE["hops"]]
    onion = build(b(FIGURE["session_key"]), hops, b(FIGURE["associated_data"]))
    assert onion.packet == b(FIGURE["onion"])


@bolt("processing.1", "processing.3")
def test_each_hop_of_the_figure_reads_its_payload() -> None:
    packet: bytes | None = b(FIGURE["onion"])
    for hop in FIGURE["hops"]:
        assert packet is not None
        peeled = peel(b(hop["privkey"]), packet, b(FIGURE["associated_data"]))
        assert peeled.payload == unframed(hop["payload"])
        assert peeled.is_final == (hop is FIGURE["hops"][-1])
        packet = peeled.next_packet
    assert packet is None


def test_the_figures_shared_secrets() -> None:
    figure = VECTORS["error_obfuscation"]
    nodes = [b(hop["pubkey"]) for hop in figure["hops"]]
    expected = tuple(b(hop["hop_shared_secret"]) for hop in figure["hops"])
    assert shared_secrets_of(b(figure["session_key"]), nodes) == expected


@pytest.mark.parametrize("hops", range(1, 28))
def test_a_route_of_any_length_fits_and_stays_1366_bytes_long(hops: int) -> None:
    received = peel_all(an_onion([SMALLEST_PAYLOAD] * hops).packet)
    assert len(received) == hops
    assert {len(packet) for packet, _ in received} == {PACKET_SIZE}


@given(payloads, st.binary(min_size=32, max_size=32))
def test_every_hop_reads_what_was_meant_for_it(payloads: list[bytes], session_key: bytes) -> None:
    assume(sum(map(room_of, payloads)) <= PAYLOADS_SIZE)
    assume(0 < int.from_bytes(session_key, "big") < 2**255)
    onion = an_onion(payloads, session_key)
    assert [payload for _, payload in peel_all(onion.packet)] == payloads
    assert len(onion.shared_secrets) == len(payloads)


@given(st.integers(1, 20), st.integers(0, 19))
def test_what_a_hop_is_handed_does_not_tell_its_place(hops: int, place: int) -> None:
    """Same size, same version, a fresh key, no zero HMAC and no run of zeros from the filler."""
    assume(place < hops)
    received = peel_all(an_onion([SMALLEST_PAYLOAD] * hops).packet)
    packet, _ = received[place]
    assert len(packet) == PACKET_SIZE
    assert packet[0] == 0
    assert is_point(packet[1:34])
    assert bytes(8) not in packet[1:]
    keys = [packet[1:34] for packet, _ in received]
    assert len(set(keys)) == hops


@given(st.integers(2, 20))
def test_packets_of_one_route_share_no_bytes(hops: int) -> None:
    packets = [packet for packet, _ in peel_all(an_onion([SMALLEST_PAYLOAD] * hops).packet)]
    windows = [{packet[at : at + 8] for at in range(1, PACKET_SIZE - 8)} for packet in packets]
    assert sum(map(len, windows)) == len(set[bytes]().union(*windows))


@given(st.integers(1, 20))
def test_only_the_last_layer_holds_a_zero_hmac(hops: int) -> None:
    onion = an_onion([SMALLEST_PAYLOAD] * hops)
    packet: bytes | None = onion.packet
    for place in range(hops):
        assert packet is not None
        assert hmac_of(packet) != bytes(32)
        peeled = peel(NODE_SECRETS[place], packet, PAYMENT_HASH)
        assert peeled.is_final == (place == hops - 1)
        assert peeled.shared_secret == onion.shared_secrets[place]
        packet = peeled.next_packet


@bolt("processing.3")
def test_the_next_ephemeral_key_is_blinded_by_the_hash_of_key_and_secret() -> None:
    packet = an_onion([SMALLEST_PAYLOAD] * 2).packet
    peeled = peel(NODE_SECRETS[0], packet, PAYMENT_HASH)
    factor = sha256(packet[1:34], peeled.shared_secret)
    assert peeled.next_packet is not None
    assert peeled.next_packet[1:34] == multiply_point(packet[1:34], factor)


def test_the_first_ephemeral_key_is_the_session_keys() -> None:
    assert an_onion([SMALLEST_PAYLOAD]).packet[1:34] == point_of(SESSION_KEY)


def test_the_same_inputs_give_the_same_packet() -> None:
    assert an_onion([SMALLEST_PAYLOAD] * 3) == an_onion([SMALLEST_PAYLOAD] * 3)


@bolt("processing.1")
@given(st.integers(0, PACKET_SIZE - 1), st.integers(1, 255))
@example(0, 1)
@example(1, 2)
@example(PACKET_SIZE - 1, 1)
def test_a_changed_byte_is_found(at: int, flip: int) -> None:
    packet = bytearray(an_onion([SMALLEST_PAYLOAD] * 5).packet)
    packet[at] ^= flip
    with pytest.raises(BadOnion) as raised:
        peel(NODE_SECRETS[0], bytes(packet), PAYMENT_HASH)
    assert raised.value.sha256_of_onion == sha256(bytes(packet))
    if at == 0:
        assert raised.value.code is FailureCode.invalid_onion_version
    elif at < 34 and not is_point(bytes(packet[1:34])):
        assert raised.value.code is FailureCode.invalid_onion_key
    else:
        assert raised.value.code is FailureCode.invalid_onion_hmac


@bolt("processing.1")
def test_a_version_other_than_zero_is_not_understood() -> None:
    with pytest.raises(InvalidOnionVersion):
        peel(NODE_SECRETS[0], b"\x01" + an_onion([SMALLEST_PAYLOAD]).packet[1:], PAYMENT_HASH)


@bolt("processing.1")
@pytest.mark.parametrize("key", [bytes(33), b"\x04" + bytes(32), b"\x02" + b"\xff" * 32])
def test_a_key_that_is_no_point_is_not_understood(key: bytes) -> None:
    packet = an_onion([SMALLEST_PAYLOAD]).packet
    with pytest.raises(InvalidOnionKey):
        peel(NODE_SECRETS[0], packet[:1] + key + packet[34:], PAYMENT_HASH)


@bolt("processing.1")
def test_a_packet_for_another_payment_does_not_authenticate() -> None:
    with pytest.raises(InvalidOnionHmac):
        peel(NODE_SECRETS[0], an_onion([SMALLEST_PAYLOAD]).packet, sha256(PAYMENT_HASH))


def test_a_packet_for_another_node_does_not_authenticate() -> None:
    with pytest.raises(InvalidOnionHmac):
        peel(NODE_SECRETS[1], an_onion([SMALLEST_PAYLOAD]).packet, PAYMENT_HASH)


def test_a_packet_cut_at_any_byte_is_a_bad_onion() -> None:
    packet = an_onion([SMALLEST_PAYLOAD]).packet
    for size in range(PACKET_SIZE):
        with pytest.raises(BadOnion):
            peel(NODE_SECRETS[0], packet[:size], PAYMENT_HASH)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_bad_onion(packet: bytes) -> None:
    with pytest.raises(BadOnion):
        peel(NODE_SECRETS[0], packet, PAYMENT_HASH)


@bolt("processing.1")
@pytest.mark.parametrize(
    "length",
    ["00", "01", "fd00fc", "fd0000", "fd0514", "fd04f2", "fdffff", "fe00000013", "ff0000000000000013"],
    ids=[
        "reserved 0",
        "reserved 1",
        "not minimal",
        "long zero",
        "all",
        "no room for the HMAC",
        "past the end",
        "u32",
        "u64",
    ],
)
def test_an_authentic_packet_with_a_broken_length_is_an_invalid_payload(length: str) -> None:
    peeled = peel(NODE_SECRETS[0], repacked(an_onion([SMALLEST_PAYLOAD] * 2).packet, b(length)), PAYMENT_HASH)
    assert peeled.payload == b""
    assert peeled.is_final
    with pytest.raises(InvalidPayload):
        decode_payload(peeled.payload, peeled.is_final)


@bolt("processing.1")
def test_the_longest_payload_that_a_packet_can_hold() -> None:
    longest = bytes(PAYLOADS_SIZE - 3 - 32)
    assert peel(NODE_SECRETS[0], an_onion([longest]).packet, PAYMENT_HASH).payload == longest


@given(st.integers(0, 66))
def test_an_authentic_packet_without_room_is_an_invalid_payload(size: int) -> None:
    """A peer may send an onion message of any size with a valid HMAC."""
    head = b"\x00" + point_of(SESSION_KEY)
    wrapped, shared = bytes(size), ecdh(SESSION_KEY, NODES[0])
    hmac = hmac_sha256(key_of(b"mu", shared), wrapped + PAYMENT_HASH)
    peeled = peel(NODE_SECRETS[0], head + wrapped + hmac, PAYMENT_HASH)
    assert len(peeled.payload) + 33 <= size or peeled.payload == b""


def test_payloads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(OnionTooLong) as raised:
        an_onion([bytes(600)] * 3)
    assert (raised.value.needed, raised.value.available) == (3 * 635, 1300)


def test_a_hop_that_is_no_point_is_refused() -> None:
    with pytest.raises(InvalidPoint):
        build(SESSION_KEY, [(bytes(33), SMALLEST_PAYLOAD)], PAYMENT_HASH)


@bolt("onion-messages.1")
@pytest.mark.parametrize("size", [PAYLOADS_SIZE, MAX_MESSAGE_PAYLOADS_SIZE, 500])
def test_an_onion_message_keeps_the_size_it_started_with(size: int) -> None:
    payloads = [SMALLEST_PAYLOAD, bytes(200), bytes(size - 400)]
    packet: bytes | None = build(SESSION_KEY, list(zip(NODES, payloads, strict=False)), b"", size).packet
    for secret, payload in zip(NODE_SECRETS, payloads, strict=False):
        assert packet is not None
        assert len(packet) == size + 66
        peeled = peel(secret, packet, b"")
        assert peeled.payload == payload
        packet = peeled.next_packet


def test_a_replay_has_the_same_hmac_and_another_payment_has_not() -> None:
    first, again = an_onion([SMALLEST_PAYLOAD]), an_onion([SMALLEST_PAYLOAD])
    other = an_onion([SMALLEST_PAYLOAD], session_key=bytes([0x43]) * 32)
    assert hmac_of(first.packet) == hmac_of(again.packet)
    assert hmac_of(first.packet) != hmac_of(other.packet)
