"""BOLT 2, removing HTLCs: who may, when, with what, and when that goes upstream."""

import pytest
from msgspec.structs import replace

from htlc import steps
from htlc.errors import (
    NotBadOnion,
    NotOurPreimage,
    NotRemovable,
    UnknownHtlc,
    WrongPreimage,
)
from htlc.ladder import Failed, FailedMalformed, Fulfilled, Outcome, Rung
from onion.failures import FailureCode
from tests.bolt import bolt
from tests.htlc.parties import (
    ONION,
    Party,
    drain,
    opened_channel,
    play,
    preimage_of,
)
from wire.codec import Message
from wire.messages.channel import (
    UpdateFailHtlc,
    UpdateFailMalformedHtlc,
    UpdateFulfillHtlc,
)

DANCE = "add sig> <rev <sig rev>"

REMOVALS: list[Outcome] = [
    Fulfilled(preimage_of(0)),
    Failed(b"reason"),
    FailedMalformed(bytes(32), FailureCode.invalid_onion_hmac),
]
each_removal = pytest.mark.parametrize("outcome", REMOVALS, ids=["fulfill", "fail", "malformed"])


def the_removal(party: Party, outcome: Outcome, htlc_id: int = 0) -> Message:
    match outcome:
        case Fulfilled(payment_preimage=preimage):
            return UpdateFulfillHtlc(party.channel.id, htlc_id, preimage)
        case Failed(reason=reason):
            return UpdateFailHtlc(party.channel.id, htlc_id, reason)
        case FailedMalformed(sha256_of_onion=digest, failure_code=code):
            return UpdateFailMalformedHtlc(party.channel.id, htlc_id, digest, code)


@each_removal
@bolt("removing.1")
def test_a_removal_becomes_the_message_that_names_it(outcome: Outcome) -> None:
    alice, bob = play(DANCE, *opened_channel())
    bob.remove(0, outcome)
    assert bob.deliver_one_to(alice) == the_removal(alice, outcome)
    assert alice.channel.htlcs.local[0].outcome == bob.channel.htlcs.remote[0].outcome == outcome
    assert alice.rungs() == bob.rungs() == [Rung.PROPOSED]


@each_removal
@bolt("removing.1")
def test_nothing_is_removed_before_it_is_irrevocable(outcome: Outcome) -> None:
    alice, bob = opened_channel()
    for moment in ("add>", "sig>", "<rev", "<sig"):
        with pytest.raises(NotRemovable):
            bob.remove(0, outcome)
        play(moment, alice, bob)
    with pytest.raises(NotRemovable):
        bob.remove(0, outcome)
    play("rev>", alice, bob)
    bob.remove(0, outcome)


@each_removal
@bolt("removing.1", "removing.2")
def test_a_peer_that_removes_too_early_loses_its_connection(outcome: Outcome) -> None:
    alice, bob = opened_channel()
    for moment in ("add>", "sig>", "<rev"):
        play(moment, alice, bob)
        with pytest.raises(UnknownHtlc):
            alice.receive(the_removal(alice, outcome))
    # the offerer has revoked when it answers, so from then on the peer may
    play("<sig", alice, bob)
    alice.receive(the_removal(alice, outcome))


@each_removal
@bolt("removing.1")
def test_nothing_is_removed_twice(outcome: Outcome) -> None:
    alice, bob = play(DANCE, *opened_channel())
    bob.remove(0, outcome)
    for again in REMOVALS:
        with pytest.raises(NotRemovable):
            bob.remove(0, again)
    drain(alice, bob, is_signing=False)
    for again in REMOVALS:
        with pytest.raises(UnknownHtlc):
            alice.receive(the_removal(alice, again))
    drain(alice, bob)
    with pytest.raises(NotRemovable):
        bob.remove(0, outcome)


@each_removal
@bolt("removing.1", "removing.2")
def test_only_what_the_other_side_offered_can_be_removed(outcome: Outcome) -> None:
    alice, bob = play(DANCE, *opened_channel())
    with pytest.raises(NotRemovable):
        alice.remove(0, outcome)
    for wrong in (1, 2**64 - 1):
        with pytest.raises(UnknownHtlc):
            alice.receive(the_removal(alice, outcome, wrong))
    with pytest.raises(UnknownHtlc):
        bob.receive(the_removal(bob, outcome))


@bolt("removing.2")
def test_a_wrong_preimage_costs_the_peer_its_connection() -> None:
    alice, bob = play(DANCE, *opened_channel())
    with pytest.raises(WrongPreimage):
        alice.receive(UpdateFulfillHtlc(alice.channel.id, 0, preimage_of(1)))
    with pytest.raises(NotOurPreimage):
        bob.remove(0, Fulfilled(preimage_of(1)))
    assert not alice.settled


@bolt("removing.2")
def test_a_malformed_onion_must_be_called_bad() -> None:
    alice, _ = play(DANCE, *opened_channel())
    with pytest.raises(NotBadOnion):
        alice.receive(UpdateFailMalformedHtlc(alice.channel.id, 0, bytes(32), FailureCode.expiry_too_far))


@bolt("forwarding-safety.2")
def test_a_preimage_is_worth_carrying_on_at_once() -> None:
    alice, bob = play(DANCE, *opened_channel())
    play("<ful", alice, bob)
    (settled,) = alice.settled
    assert (settled.htlc.id, settled.htlc.outcome) == (0, Fulfilled(preimage_of(0)))


@pytest.mark.parametrize("outcome", REMOVALS[1:], ids=["fail", "malformed"])
@bolt("forwarding-safety.1")
def test_a_failure_is_carried_on_when_its_removal_is_irrevocable(outcome: Outcome) -> None:
    alice, bob = play(DANCE, *opened_channel())
    bob.remove(0, outcome)
    bob.deliver_one_to(alice)
    for moment in ("<sig", "rev>", "sig>"):
        play(moment, alice, bob)
        assert not alice.settled
    play("<rev", alice, bob)
    (settled,) = alice.settled
    assert (settled.htlc.id, settled.htlc.outcome) == (0, outcome)
    assert not alice.channel.htlcs.local


@bolt("forwarding-safety.1")
def test_an_htlc_is_offered_on_when_it_is_irrevocable() -> None:
    alice, bob = opened_channel()
    for moment in ("add>", "sig>", "<rev", "<sig"):
        play(moment, alice, bob)
        assert not bob.offers
    play("rev>", alice, bob)
    (offer,) = bob.offers
    assert (offer.htlc.id, offer.htlc.amount_msat, offer.htlc.onion) == (0, 1_000_000, ONION)


@bolt("removing.1")
def test_what_is_decided_keeps_the_secret_and_forgets_the_onion() -> None:
    _, bob = play(DANCE, *opened_channel())
    decided = steps.decided(bob.channel, 0, b"s" * 32, 0.0).htlcs.remote[0]
    assert decided == replace(bob.channel.htlcs.remote[0], onion=None, shared_secret=b"s" * 32)
