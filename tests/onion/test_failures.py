"""BOLT 4: returning errors, failure messages."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onion.failures import (
    BADONION,
    MAX_ROUTE_HOPS,
    NODE,
    PERM,
    UPDATE,
    Attributed,
    Failure,
    FailureCode,
    attribute,
    decode_failure,
    encode_failure,
    fail_packet,
    wrap_failure,
)
from onion.sphinx import key_of, shared_secrets_of
from tests.bolt import bolt
from tests.onion.routes import NODES, SESSION_KEY, VECTORS, b
from wire.codec import DecodeError
from wire.crypto.aead import chacha20_xor
from wire.crypto.hashes import hmac_sha256
from wire.units import Msat

FIGURE: dict[str, Any] = VECTORS["error_obfuscation"]
CODES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "messages.json").read_text()
)["failure_codes"]
FLAGS = {"badonion": BADONION, "perm": PERM, "node": NODE, "update": UPDATE}
SECRETS = shared_secrets_of(SESSION_KEY, NODES[:MAX_ROUTE_HOPS])
UNKNOWN_DETAILS = Failure(
    FailureCode.incorrect_or_unknown_payment_details, htlc_msat=Msat(100), height=800_000
)


def returned(hops: int, erring: int, packet: bytes) -> bytes:
    """The erring hop's packet as it reaches the origin of a route of so many hops."""
    assert erring < hops
    for secret in reversed(SECRETS[:erring]):
        packet = wrap_failure(secret, packet)
    return packet


@bolt("failures.1")
def test_the_figures_packet_on_its_way_back() -> None:
    secrets = [b(hop["hop_shared_secret"]) for hop in FIGURE["hops"]]
    packet = fail_packet(secrets[-1], b(FIGURE["failure_message"]))
    for secret in reversed(secrets[:-1]):
        packet = wrap_failure(secret, packet)
    assert packet == b(FIGURE["error_packet_at_origin"])
    assert attribute(secrets, packet) == Attributed(4, Failure(FailureCode.temporary_node_failure))


@bolt("failures.1")
def test_the_figures_keys() -> None:
    for hop in FIGURE["hops"]:
        assert key_of(b"ammag", b(hop["hop_shared_secret"])) == b(hop["ammag_key"])


@bolt("failures.1")
def test_the_figures_packet_with_a_long_message() -> None:
    figure = VECTORS["attributable_errors"]
    erring, *others = figure["forward"]
    packet = fail_packet(b(erring["shared_secret"]), b(figure["failure_message"]), padded_size=1024)
    assert packet == b(erring["error_packet"])
    for hop in others:
        packet = wrap_failure(b(hop["shared_secret"]), packet)
        assert packet == b(hop["error_packet"])
    secrets = [b(hop["shared_secret"]) for hop in reversed(figure["forward"])]
    assert attribute(secrets, packet) == Attributed(4, UNKNOWN_DETAILS)


@bolt("failures.2")
@pytest.mark.parametrize("hops", [*range(1, 21), 27])
def test_every_hop_of_every_route_is_named_when_it_fails(hops: int) -> None:
    for erring in range(hops):
        failure = Failure(FailureCode.temporary_channel_failure, channel_update=bytes([erring]) * 130)
        packet = returned(hops, erring, fail_packet(SECRETS[erring], encode_failure(failure)))
        assert attribute(SECRETS[:hops], packet) == Attributed(erring, failure)


@bolt("failures.1")
@given(st.binary(max_size=300))
def test_messages_look_equally_long(message: bytes) -> None:
    packet = fail_packet(SECRETS[0], message)
    assert len(packet) == 32 + 2 + 2 + max(256, len(message))


@bolt("failures.2")
@given(st.binary(max_size=700), st.integers(1, 27))
def test_bytes_that_no_hop_authenticated_are_unreadable(packet: bytes, hops: int) -> None:
    assert attribute(SECRETS[:hops], packet) is None


@bolt("failures.2")
@given(st.integers(0, 291), st.integers(1, 255), st.integers(0, 4))
def test_a_packet_changed_on_the_way_names_nobody(at: int, flip: int, erring: int) -> None:
    packet = bytearray(returned(5, erring, fail_packet(SECRETS[erring], encode_failure(UNKNOWN_DETAILS))))
    packet[at] ^= flip
    assert attribute(SECRETS[:5], bytes(packet)) is None


def test_a_packet_of_a_hop_that_is_not_on_the_route_is_unreadable() -> None:
    assert attribute(SECRETS[:5], fail_packet(SECRETS[7], encode_failure(UNKNOWN_DETAILS))) is None


def test_nobody_can_speak_in_the_name_of_the_layers_past_the_end() -> None:
    packet = fail_packet(bytes(32), encode_failure(UNKNOWN_DETAILS))
    for secret in reversed(SECRETS[:3]):
        packet = wrap_failure(secret, packet)
    assert attribute(SECRETS[:3], packet) is None


@bolt("failures.2")
@pytest.mark.parametrize("erring", [0, 1, 18, 19])
@pytest.mark.parametrize("hops", [20, 5])
def test_the_origin_always_takes_27_layers_off(
    hops: int, erring: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    packet = fail_packet(SECRETS[erring], encode_failure(UNKNOWN_DETAILS))
    for secret in reversed(SECRETS[:erring]):
        packet = wrap_failure(secret, packet)
    layers: list[int] = []

    def counting(key: bytes, message: bytes) -> bytes:
        layers.append(len(message))
        return chacha20_xor(key, message)

    monkeypatch.setattr("onion.failures.chacha20_xor", counting)
    attribute(SECRETS[:hops], packet)
    assert layers == [len(packet)] * MAX_ROUTE_HOPS


@given(st.binary(max_size=280))
def test_a_hop_that_sends_nonsense_is_still_named(body: bytes) -> None:
    """Authentic, but neither a length that fits nor perhaps a message."""
    packet = wrap_failure(SECRETS[2], hmac_sha256(key_of(b"um", SECRETS[2]), body) + body)
    attributed = attribute(SECRETS[:5], returned(5, 2, packet))
    assert attributed is not None
    assert attributed.hop_index == 2


@bolt("failures.2")
def test_bytes_after_the_message_are_ignored() -> None:
    assert decode_failure(encode_failure(UNKNOWN_DETAILS) + b("fd84d1fd012c" + "80" * 300)) == UNKNOWN_DETAILS


@bolt("failures.3", "failures.4")
@pytest.mark.parametrize("figure", CODES, ids=lambda figure: figure["name"])
def test_each_code_has_its_number_flags_and_fields(figure: dict[str, Any]) -> None:
    code = FailureCode[figure["name"]]
    assert code == figure["code"]
    assert code & 0xF000 == sum(FLAGS[flag] for flag in figure["flags"])
    failure, expected = a_failure(figure)
    assert encode_failure(failure) == expected
    assert decode_failure(expected) == failure
    assert failure.name == figure["name"]
    assert (failure.is_bad_onion, failure.is_permanent, failure.is_node, failure.is_update) == tuple(
        flag in figure["flags"] for flag in FLAGS
    )
    for size in range(len(expected)):
        with pytest.raises(DecodeError):
            decode_failure(expected[:size])


def a_failure(figure: dict[str, Any]) -> tuple[Failure, bytes]:
    """A failure with a value in each field, and the bytes that the figure's description gives."""
    fields: dict[str, Any] = {}
    expected = b(figure["hex"])
    for number, field in enumerate(figure["fields"], start=1):
        if field["name"] == "len":
            expected += b("0005")
            continue
        size = 5 if "count_field" in field else field.get("bytes", 1)
        raw = bytes([0x40 + number]) * size
        is_bytes = field["type"] in ("byte", "sha256")
        fields[field["name"]] = raw if is_bytes else int.from_bytes(raw, "big")
        expected += raw
    return Failure(figure["code"], **fields), expected


def test_the_codes_are_those_of_the_figures() -> None:
    assert {code.name for code in FailureCode} == {figure["name"] for figure in CODES}


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_survive(message: bytes) -> None:
    try:
        failure = decode_failure(message)
    except DecodeError:
        return
    assert decode_failure(encode_failure(failure)) == failure


def test_an_unknown_code_keeps_its_flags() -> None:
    failure = decode_failure(b("6fff0102"))
    assert (failure.code, failure.is_permanent, failure.is_node, failure.is_bad_onion) == (
        0x6FFF,
        True,
        True,
        False,
    )
    assert failure.name == "failure code 0x6fff"
