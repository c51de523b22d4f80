"""The handshake and the transport (BOLT 8), against its published figures and any cut of the stream."""

import json
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bolt import bolt
from wire.crypto.hashes import hkdf_two
from wire.crypto.secp256k1 import InvalidPoint, InvalidSecret, ecdh, point_of
from wire.noise import (
    ACT_ONE_BYTES,
    ACT_THREE_BYTES,
    ACT_TWO_BYTES,
    PROLOGUE,
    PROTOCOL_NAME,
    BadFrame,
    Flaw,
    HandshakeFailed,
    Initiator,
    OversizedMessage,
    Responder,
    SymmetricState,
    Transport,
)

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors/bolt8.json").read_text())
INITIATOR_OK, RESPONDER_OK = VECTORS["initiator"][0], VECTORS["responder"][0]
FLAWS = {
    "read_failed": Flaw.LENGTH,
    "bad_version": Flaw.VERSION,
    "bad_pubkey": Flaw.POINT,
    "bad_tag": Flaw.TAG,
    "bad_ciphertext": Flaw.TAG,
}
ALICE, BOB = b"\x11" * 32, b"\x21" * 32
SENDING, RECEIVING, CHAIN = (bytes.fromhex(VECTORS["messages"][name]) for name in ("sk", "rk", "ck"))


def label(case: dict[str, Any]) -> str:
    return str(case["label"])


def hexed(case: dict[str, Any], name: str) -> bytes:
    return bytes.fromhex(case[name])


def acts(case: dict[str, Any]) -> Iterator[bytes]:
    return (bytes.fromhex(step["bytes"]) for step in case["steps"])


def an_initiator(case: dict[str, Any]) -> Initiator:
    return Initiator(hexed(case, "ls_priv"), hexed(case, "rs_pub"), hexed(case, "e_priv"))


def a_responder(case: dict[str, Any]) -> Responder:
    return Responder(hexed(case, "ls_priv"), hexed(case, "e_priv"))


def connect() -> tuple[Transport, Transport]:
    """Two ends that have shaken hands."""
    alice = Initiator(ALICE, point_of(BOB), b"\x12" * 32)
    bob = Responder(BOB, b"\x22" * 32)
    act_three, alices = alice.receive_act_two(bob.receive_act_one(alice.act_one()))
    who, bobs = bob.receive_act_three(act_three)
    assert who == point_of(ALICE)
    return alices, bobs


def pieces(stream: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    """The stream, cut at these offsets."""
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return (stream[start:end] for start, end in pairwise(edges))


def feed_all(transport: Transport, parts: Iterable[bytes]) -> tuple[list[bytes], bool]:
    """All messages of the parts, and whether the stream was found broken."""
    messages: list[bytes] = []
    for part in parts:
        try:
            messages += transport.feed(part)
        except BadFrame as bad:
            return messages + list(bad.messages), True
    return messages, False


# ── the handshake ────────────────────────────────────────────────────────────────────────────


@bolt("b8-transport.1")
def test_the_names_and_the_lengths_of_the_acts_are_those_of_the_protocol() -> None:
    assert VECTORS["protocol_name"].encode() == PROTOCOL_NAME
    assert VECTORS["prologue"].encode() == PROLOGUE
    assert [len(act) for act in acts(INITIATOR_OK)] == [ACT_ONE_BYTES, ACT_TWO_BYTES, ACT_THREE_BYTES]


@bolt("b8-transport.1")
def test_the_initiator_says_what_the_specification_says() -> None:
    one, two, three = acts(INITIATOR_OK)
    alice = an_initiator(INITIATOR_OK)
    assert alice.act_one() == one
    said, transport = alice.receive_act_two(two)
    assert said == three
    sending, receiving = (hexed(INITIATOR_OK["keys"], name) for name in ("sk", "rk"))
    same = Transport(sending, receiving, alice.state.chaining_key)
    assert transport.seal(b"hello") == same.seal(b"hello")


@bolt("b8-transport.1")
def test_the_responder_says_what_the_specification_says() -> None:
    one, two, three = acts(RESPONDER_OK)
    bob = a_responder(RESPONDER_OK)
    assert bob.receive_act_one(one) == two
    who, transport = bob.receive_act_three(three)
    assert who == hexed(RESPONDER_OK["trace"]["act3"], "rs") == hexed(INITIATOR_OK, "ls_pub")
    sending, receiving = (hexed(RESPONDER_OK["keys"], name) for name in ("sk", "rk"))
    same = Transport(sending, receiving, bob.state.chaining_key)
    assert transport.seal(b"hello") == same.seal(b"hello")


@bolt("b8-transport.2")
@pytest.mark.parametrize("case", VECTORS["initiator"][1:], ids=label)
def test_the_initiator_refuses_a_wrong_act_two(case: dict[str, Any]) -> None:
    one, two = acts(case)
    alice = an_initiator(case)
    assert alice.act_one() == one
    with pytest.raises(HandshakeFailed) as failed:
        alice.receive_act_two(two)
    assert (f"act{failed.value.act}", failed.value.why) == expected(case)


@bolt("b8-transport.2")
@pytest.mark.parametrize("case", VECTORS["responder"][1:], ids=label)
def test_the_responder_refuses_a_wrong_act(case: dict[str, Any]) -> None:
    one, *later = acts(case)
    bob = a_responder(case)
    with pytest.raises(HandshakeFailed) as failed:
        answer_all(bob, one, later)
    assert (f"act{failed.value.act}", failed.value.why) == expected(case)


def answer_all(bob: Responder, one: bytes, later: list[bytes]) -> None:
    answer = bob.receive_act_one(one)
    if later:
        two, three = later
        assert answer == two
        bob.receive_act_three(three)


def expected(case: dict[str, Any]) -> tuple[str, Flaw]:
    act, _, flaw = case["error"].partition("_")
    return act, FLAWS[flaw]


@bolt("b8-transport.1")
def test_every_step_of_the_initiator_leaves_the_published_trace() -> None:
    """The acts by hand on the symmetric state, compared after each step."""
    trace = INITIATOR_OK["trace"]
    ephemeral, theirs = hexed(INITIATOR_OK, "e_priv"), hexed(INITIATOR_OK, "rs_pub")
    state = SymmetricState(theirs)
    state.mix_hash(point_of(ephemeral))
    assert state.digest.hex() == trace["act1"]["h"][0]
    check_mix(state, trace["act1"], ecdh(ephemeral, theirs))
    assert state.seal(0, b"").hex() == trace["act1"]["c"]
    assert state.digest.hex() == trace["act1"]["h"][1]

    act_two = list(acts(INITIATOR_OK))[1]
    their_ephemeral = hexed(trace["act2"], "re")
    state.mix_hash(their_ephemeral)
    assert state.digest.hex() == trace["act2"]["h"][0]
    check_mix(state, trace["act2"], ecdh(ephemeral, their_ephemeral))
    assert state.open(0, act_two[34:]) == b""
    assert state.digest.hex() == trace["act2"]["h"][1]

    assert state.seal(1, hexed(INITIATOR_OK, "ls_pub")).hex() == trace["act3"]["c"]
    assert state.digest.hex() == trace["act3"]["h"][0]
    check_mix(state, trace["act3"], ecdh(hexed(INITIATOR_OK, "ls_priv"), their_ephemeral))
    assert state.seal(0, b"").hex() == trace["act3"]["t"]


def check_mix(state: SymmetricState, trace: dict[str, Any], shared_secret: bytes) -> None:
    assert shared_secret.hex() == trace["ss"]
    state.mix_key(shared_secret)
    assert (state.chaining_key.hex(), state.temporary_key.hex()) == (trace["ck"], trace["temp_k"])


@bolt("b8-transport.1")
def test_the_responder_leaves_the_published_trace_after_each_act() -> None:
    trace = RESPONDER_OK["trace"]
    one, _, three = acts(RESPONDER_OK)
    bob = a_responder(RESPONDER_OK)
    bob.receive_act_one(one)
    assert bob.state.digest.hex() == trace["act2"]["h"][-1]
    assert (bob.state.chaining_key.hex(), bob.state.temporary_key.hex()) == (
        trace["act2"]["ck"],
        trace["act2"]["temp_k"],
    )
    bob.receive_act_three(three)
    assert (bob.state.chaining_key.hex(), bob.state.temporary_key.hex()) == (
        trace["act3"]["ck"],
        trace["act3"]["temp_k"],
    )


@bolt("b8-transport.2")
@pytest.mark.parametrize("act", [1, 3])
@given(position=st.integers(0, 65), flip=st.integers(1, 255))
def test_no_altered_byte_of_an_act_passes(act: int, position: int, flip: int) -> None:
    one, _, three = acts(RESPONDER_OK)
    bob = a_responder(RESPONDER_OK)
    said = bytearray(one if act == 1 else three)
    said[position % len(said)] ^= flip
    if act == 3:
        bob.receive_act_one(one)
    receive = bob.receive_act_one if act == 1 else bob.receive_act_three
    with pytest.raises(HandshakeFailed) as failed:
        receive(bytes(said))
    assert failed.value.act == act


@bolt("b8-transport.2")
@given(act=st.binary(max_size=80))
def test_random_bytes_are_never_an_act(act: bytes) -> None:
    with pytest.raises(HandshakeFailed):
        a_responder(RESPONDER_OK).receive_act_one(act)
    alice = an_initiator(INITIATOR_OK)
    alice.act_one()
    with pytest.raises(HandshakeFailed):
        alice.receive_act_two(act)


@bolt("b8-transport.2")
def test_a_handshake_meant_for_another_node_is_refused() -> None:
    alice = Initiator(ALICE, point_of(b"\x33" * 32), b"\x12" * 32)
    with pytest.raises(HandshakeFailed) as failed:
        Responder(BOB, b"\x22" * 32).receive_act_one(alice.act_one())
    assert (failed.value.act, failed.value.why) == (1, Flaw.TAG)
    assert str(failed.value) == "act 1 does not authenticate"


def test_our_own_broken_keys_are_named() -> None:
    with pytest.raises(InvalidSecret):
        Initiator(bytes(32), point_of(BOB), b"\x12" * 32)
    with pytest.raises(InvalidSecret):
        Responder(BOB, b"\xff" * 32)
    with pytest.raises(InvalidPoint):
        Initiator(ALICE, b"\x04" + bytes(32), b"\x12" * 32).act_one()


# ── the transport ────────────────────────────────────────────────────────────────────────────


@bolt("b8-transport.4", "b8-transport.5")
def test_the_messages_before_and_after_each_rotation_are_the_published_ones() -> None:
    plaintext = hexed(VECTORS["messages"], "plaintext")
    published = {case["n"]: case["ciphertext"] for case in VECTORS["messages"]["outputs"]}
    transport = Transport(SENDING, RECEIVING, CHAIN)
    sealed = [transport.seal(plaintext).hex() for _ in range(1002)]
    assert {number: sealed[number] for number in published} == published


@bolt("b8-transport.5")
@pytest.mark.parametrize(
    "rotation", VECTORS["messages"]["rotations"], ids=lambda case: case["after_messages"]
)
def test_each_rotation_leads_to_the_published_key(rotation: dict[str, Any]) -> None:
    chain, key = hexed(rotation, "new_ck"), hexed(rotation, "new_key")
    assert hkdf_two(hexed(rotation, "old_ck"), hexed(rotation, "old_key")) == (chain, key)
    transport = Transport(SENDING, RECEIVING, CHAIN)
    for _ in range(rotation["after_messages"]):
        transport.seal(b"")
    assert transport.seal(b"hello") == Transport(key, RECEIVING, chain).seal(b"hello")


@bolt("b8-transport.5")
def test_each_direction_rotates_by_its_own_count() -> None:
    alice, bob = connect()
    for number in range(1203):
        message = b"%d" % number
        assert bob.feed(alice.seal(message)) == [message]
        if number % 7 == 0:
            assert alice.feed(bob.seal(message)) == [message]


@bolt("b8-transport.5")
def test_one_read_may_span_rotations() -> None:
    alice, bob = connect()
    messages = [b"%d" % number for number in range(1501)]
    assert bob.feed(b"".join(alice.seal(message) for message in messages)) == messages


@pytest.mark.parametrize("length", [0, 1, 2, 1366, 65534, 65535])
def test_a_message_of_any_length_a_frame_can_say_comes_through(length: int) -> None:
    alice, bob = connect()
    frame = alice.seal(bytes(length))
    assert len(frame) == 18 + length + 16
    assert bob.feed(frame) == [bytes(length)]


def test_a_message_that_is_too_long_is_refused_and_changes_nothing() -> None:
    alice, bob = connect()
    with pytest.raises(OversizedMessage) as refused:
        alice.seal(bytes(65536))
    assert refused.value.length == 65536
    assert bob.feed(alice.seal(b"still in step")) == [b"still in step"]


@bolt("b8-transport.4")
@given(
    messages=st.lists(st.binary(max_size=300) | st.integers(2, 65535).map(bytes), max_size=8),
    cuts=st.lists(st.integers(0, 2**32), max_size=30),
)
def test_any_cut_of_the_stream_gives_the_same_messages(messages: list[bytes], cuts: list[int]) -> None:
    alice, bob = connect()
    stream = b"".join(alice.seal(message) for message in messages)
    assert feed_all(bob, pieces(stream, cuts)) == (messages, False)


def test_byte_by_byte_gives_the_same_messages() -> None:
    alice, bob = connect()
    messages = [b"", b"a", b"b" * 70, b""]
    stream = b"".join(alice.seal(message) for message in messages)
    assert feed_all(bob, (stream[at : at + 1] for at in range(len(stream)))) == (messages, False)
    assert bob.feed(b"") == []
    assert bob.feed(bytearray(alice.seal(b"after"))) == [b"after"]


@bolt("b8-transport.4")
@given(
    position=st.integers(0, 2**32),
    flip=st.integers(1, 255),
    cuts=st.lists(st.integers(0, 2**32), max_size=10),
)
def test_an_altered_byte_is_found_wherever_the_stream_is_cut(
    position: int, flip: int, cuts: list[int]
) -> None:
    """The messages before it come out, it and those after it never do."""
    alice, bob = connect()
    messages = [b"%d" % number * number for number in range(6)]
    frames = [alice.seal(message) for message in messages]
    stream = bytearray(b"".join(frames))
    position %= len(stream)
    stream[position] ^= flip
    ends = [sum(map(len, frames[: number + 1])) for number in range(6)]
    intact = [message for message, end in zip(messages, ends, strict=True) if end <= position]
    assert feed_all(bob, pieces(bytes(stream), cuts)) == (intact, True)


def test_a_broken_stream_stays_broken() -> None:
    alice, bob = connect()
    good, bad = alice.seal(b"good"), bytearray(alice.seal(b"bad"))
    bad[20] ^= 1
    with pytest.raises(BadFrame) as broken:
        bob.feed(good + bytes(bad))
    assert broken.value.messages == (b"good",)
    for later in (b"", good, alice.seal(b"next")):
        with pytest.raises(BadFrame):
            bob.feed(later)


def test_frames_out_of_order_or_replayed_do_not_authenticate() -> None:
    alice, bob = connect()
    first, second = alice.seal(b"first"), alice.seal(b"second")
    assert bob.feed(first) == [b"first"]
    with pytest.raises(BadFrame):
        bob.feed(first)
    _, other = connect()
    with pytest.raises(BadFrame):
        other.feed(second)


def test_a_frame_is_not_accepted_in_the_direction_it_came_from() -> None:
    alice, _ = connect()
    with pytest.raises(BadFrame):
        alice.feed(alice.seal(b"mine"))
