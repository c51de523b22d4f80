"""BOLT 2, deadlines: when an HTLC sends its channel to the chain, and when it is failed back."""

import pytest

from htlc import steps
from htlc.deadlines import (
    CLAIM_BLOCKS,
    FAIL_BACK_BLOCKS,
    GRACE_BLOCKS,
    FulfilledHtlcExpires,
    OfferedHtlcExpired,
    expiring,
    overdue,
)
from htlc.ladder import Failed, Fulfilled
from tests.bolt import bolt
from tests.htlc.parties import HEIGHT, Party, drain, opened_channel, play, preimage_of

EXPIRY = HEIGHT + 40


@pytest.fixture
def pair() -> tuple[Party, Party]:
    """An HTLC of Alice's is locked in."""
    alice, bob = opened_channel()
    alice.offer(1_000_000, 0, EXPIRY)
    drain(alice, bob)
    return alice, bob


@bolt("forwarding-safety.4")
def test_an_offered_htlc_has_a_grace_after_its_expiry(pair: tuple[Party, Party]) -> None:
    alice, bob = pair
    assert overdue(alice.channel, EXPIRY + GRACE_BLOCKS - 1) is None
    assert isinstance(overdue(alice.channel, EXPIRY + GRACE_BLOCKS), OfferedHtlcExpired)
    # it is not for Bob to enforce what he does not know the preimage of
    assert overdue(bob.channel, EXPIRY + GRACE_BLOCKS) is None


@bolt("forwarding-safety.4")
def test_a_fulfilled_htlc_goes_to_chain_while_it_can_still_be_claimed(pair: tuple[Party, Party]) -> None:
    alice, bob = pair
    bob.remove(0, Fulfilled(preimage_of(0)))
    assert overdue(bob.channel, EXPIRY - CLAIM_BLOCKS - 1) is None
    assert isinstance(overdue(bob.channel, EXPIRY - CLAIM_BLOCKS), FulfilledHtlcExpires)
    play("<ful <sig rev>", alice, bob)
    assert isinstance(overdue(bob.channel, EXPIRY - CLAIM_BLOCKS), FulfilledHtlcExpires)
    play("sig>", alice, bob)
    # neither commitment holds it any more
    assert overdue(bob.channel, EXPIRY) is None


@bolt("forwarding-safety.3", "forwarding-safety.4")
def test_an_htlc_that_is_being_failed_is_no_claim(pair: tuple[Party, Party]) -> None:
    alice, bob = pair
    bob.remove(0, Failed(b"reason"))
    assert overdue(bob.channel, EXPIRY) is None
    assert not list(expiring(bob.channel, EXPIRY))
    drain(alice, bob)
    assert overdue(alice.channel, EXPIRY + 100) is None


@bolt("forwarding-safety.4")
def test_an_htlc_that_was_never_signed_is_no_reason_to_close() -> None:
    alice, _ = opened_channel()
    alice.offer(1_000_000, 0, EXPIRY)
    assert overdue(alice.channel, EXPIRY + 100) is None


@bolt("forwarding-safety.3")
def test_an_incoming_htlc_is_failed_before_its_peer_must_close(pair: tuple[Party, Party]) -> None:
    _, bob = pair
    bob.channel = steps.decided(bob.channel, 0, bytes(32), 0.0)
    assert not list(expiring(bob.channel, EXPIRY - FAIL_BACK_BLOCKS - 1))
    assert [htlc.id for htlc in expiring(bob.channel, EXPIRY - FAIL_BACK_BLOCKS)] == [0]
