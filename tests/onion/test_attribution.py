"""BOLT 4: attribution data of failures and of fulfilled payments."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onion.attribution import ATTRIBUTION_SIZE, update_attribution, verified_hold_times
from onion.failures import (
    Failure,
    FailureCode,
    attribute,
    authenticated_failure,
    encode_failure,
    wrap_failure,
)
from onion.sphinx import shared_secrets_of
from tests.bolt import bolt
from tests.onion.routes import NODES, SESSION_KEY, VECTORS, b

FIGURE: dict[str, Any] = VECTORS["attributable_errors"]
SECRETS = shared_secrets_of(SESSION_KEY, NODES[:20])
HOLD_TIMES = [hop["hold_time"] for hop in FIGURE["hops"]]
MESSAGE = encode_failure(Failure(FailureCode.temporary_node_failure))


def returned(erring: int, silent: int | None = None) -> tuple[bytes, bytes]:
    """A failure of this hop and its attribution as the origin gets them; hop i reports 10 + i."""
    packet, attribution = authenticated_failure(SECRETS[erring], MESSAGE), None
    for hop in range(erring, -1, -1):
        attribution = update_attribution(SECRETS[hop], packet, attribution, 10 + hop)
        packet = wrap_failure(SECRETS[hop], packet)
        if hop == silent:
            attribution = None
    return packet, attribution or bytes(ATTRIBUTION_SIZE)


@bolt("failures.5")
def test_the_figures_attribution_of_a_failure() -> None:
    erring = b(FIGURE["forward"][0]["shared_secret"])
    packet, attribution = authenticated_failure(erring, b(FIGURE["failure_message"]), 1024), None
    assert packet == b(FIGURE["raw_error_packet"])
    for hop in FIGURE["forward"]:
        secret = b(hop["shared_secret"])
        attribution = update_attribution(secret, packet, attribution, HOLD_TIMES[hop["hop"]])
        packet = wrap_failure(secret, packet)
        assert attribution == b(hop["attribution_data"])
    secrets = [b(hop["shared_secret"]) for hop in reversed(FIGURE["forward"])]
    assert attribution is not None
    assert verified_hold_times(secrets, packet, attribution) == tuple(HOLD_TIMES)


@bolt("failures.5")
def test_the_figures_attribution_of_a_success() -> None:
    secrets = {hop["hop"]: b(hop["shared_secret"]) for hop in FIGURE["forward"]}
    attribution = None
    for hop in VECTORS["attributable_errors"]["success_attribution_data"]:
        attribution = update_attribution(secrets[hop["hop"]], b"", attribution, HOLD_TIMES[hop["hop"]])
        assert attribution == b(hop["attribution_data"])
    assert attribution is not None
    assert verified_hold_times([secrets[hop] for hop in range(5)], b"", attribution) == tuple(HOLD_TIMES)


@bolt("failures.5")
@pytest.mark.parametrize("hops", range(1, 21))
def test_every_hop_up_to_the_erring_one_is_heard(hops: int) -> None:
    for erring in range(hops):
        packet, attribution = returned(erring)
        assert len(attribution) == ATTRIBUTION_SIZE
        assert verified_hold_times(SECRETS[:hops], packet, attribution) == tuple(range(10, 11 + erring))
        attributed = attribute(SECRETS[:hops], packet)
        assert attributed is not None
        assert attributed.hop_index == erring


@bolt("failures.5")
@given(st.integers(0, 5), st.integers(0, ATTRIBUTION_SIZE - 1), st.integers(1, 255))
def test_who_garbles_the_failure_is_found(garbler: int, at: int, flip: int) -> None:
    """Hop 7 fails; a hop before it changes one byte of the packet it hands on."""
    packet, attribution = authenticated_failure(SECRETS[7], MESSAGE), None
    for hop in range(7, -1, -1):
        attribution = update_attribution(SECRETS[hop], packet, attribution, 10 + hop)
        packet = wrap_failure(SECRETS[hop], packet)
        if hop == garbler:
            changed = bytearray(packet)
            changed[at % len(changed)] ^= flip
            packet = bytes(changed)
    assert attribution is not None
    assert attribute(SECRETS[:10], packet) is None
    blamed = len(verified_hold_times(SECRETS[:10], packet, attribution))
    assert blamed == garbler


@bolt("failures.5")
def test_what_is_before_a_hop_that_says_nothing_is_still_heard() -> None:
    packet, attribution = returned(7, silent=4)
    assert verified_hold_times(SECRETS[:10], packet, attribution) == (10, 11, 12, 13)


@bolt("failures.5")
@given(st.binary(max_size=1000))
def test_any_other_bytes_attribute_nothing(received: bytes) -> None:
    packet, _ = returned(3)
    assert verified_hold_times(SECRETS[:5], packet, received) == ()


def test_a_route_longer_than_the_triangle_attributes_nothing() -> None:
    packet, attribution = returned(3)
    assert verified_hold_times([*SECRETS, bytes(32)], packet, attribution) == ()
