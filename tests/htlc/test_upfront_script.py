"""BOLT 2, option_upfront_shutdown_script: where the balance goes at the end, promised at the start."""

import pytest

from htlc import opening
from htlc.channel import Channel
from htlc.errors import UnacceptableOpening
from htlc.ladder import Dual
from htlc.opening import House, Negotiated, Wish
from tests.bolt import bolt
from tests.htlc.parties import (
    ALICE_ID,
    ANCHORS,
    BOB_ID,
    FUNDING_OUTPOINT,
    HOUSE,
    carried,
    replaced_house,
    secrets_of,
)
from wire.messages.channel import OpenChannel
from wire.units import Msat, Sat

P2TR, P2WSH = b"\x51\x20" + b"\x07" * 32, b"\x00\x20" + b"\x08" * 32
OP_RETURN = b"\x6a\x06" + b"burned"
ALICE, BOB = secrets_of("alice"), secrets_of("bob")
ALL = Negotiated(True, True, True, True, True)
PROMISING = replaced_house(upfront_shutdown_script=P2TR)


def proposed(house: House, negotiated: Negotiated, script: bytes = b"") -> OpenChannel:
    wish = Wish(Sat(1_000_000), Msat(0), 253, ANCHORS, True, script)
    return opening.propose(house, negotiated, wish, BOB_ID, 0, ALICE, b"\x01" * 32)[1]


def opened(
    of_alice: House, of_bob: House, negotiated: Negotiated = ALL, as_bob_has_it: Negotiated = ALL
) -> Dual[Channel]:
    """The channel as Alice and as Bob have it."""
    wish = Wish(Sat(1_000_000), Msat(0), 253, ANCHORS, True)
    stage, proposal = opening.propose(of_alice, negotiated, wish, BOB_ID, 0, ALICE, b"\x01" * 32)
    awaiting, answer = opening.accept(of_bob, as_bob_has_it, carried(proposal), ALICE_ID, 0, BOB)
    signing, created = opening.fund(opening.receive_accept(stage, carried(answer)), FUNDING_OUTPOINT, ALICE)
    ours, _ = opening.receive_created(awaiting, created, BOB)
    return Dual(signing.channel, ours)


@bolt("open_channel.6")
def test_the_script_is_the_wishs_or_else_the_houses() -> None:
    assert proposed(HOUSE, ALL).upfront_shutdown_script == b""
    assert proposed(PROMISING, ALL).upfront_shutdown_script == P2TR
    assert proposed(PROMISING, ALL, P2WSH).upfront_shutdown_script == P2WSH
    assert proposed(HOUSE, ALL, P2WSH).upfront_shutdown_script == P2WSH


@bolt("open_channel.6")
@pytest.mark.parametrize(
    ("script", "negotiated"),
    [
        (P2WSH, Negotiated(True, True, False, True, True)),
        (P2TR, Negotiated(True, True, True, False)),
        (OP_RETURN, Negotiated(True, True, True, True, False)),
        (b"\x6a", ALL),
    ],
)
def test_what_the_peer_would_not_honour_is_not_promised(script: bytes, negotiated: Negotiated) -> None:
    house = replaced_house(upfront_shutdown_script=script)
    assert proposed(house, negotiated).upfront_shutdown_script == b""
    # but our user, who asked for it, is told
    with pytest.raises(UnacceptableOpening) as refusal:
        proposed(HOUSE, negotiated, script)
    assert refusal.value.field == "upfront_shutdown_script"


@bolt("open_channel.6")
def test_a_burning_script_may_be_promised_under_simple_close() -> None:
    assert proposed(HOUSE, ALL, OP_RETURN).upfront_shutdown_script == OP_RETURN


@bolt("shutdown.3")
def test_both_remember_both_promises() -> None:
    other = replaced_house(upfront_shutdown_script=P2WSH)
    both = opened(PROMISING, other)
    assert both.local.charter.upfront_shutdown_scripts == Dual(P2TR, P2WSH)
    assert both.remote.charter.upfront_shutdown_scripts == Dual(P2WSH, P2TR)


@bolt("shutdown.3")
def test_a_script_that_comes_unasked_is_no_promise() -> None:
    without = Negotiated(True, True, False, True, True)
    both = opened(PROMISING, PROMISING, ALL, without)
    assert both.local.charter.upfront_shutdown_scripts == Dual(P2TR, b"")
    assert both.remote.charter.upfront_shutdown_scripts == Dual(b"", b"")
