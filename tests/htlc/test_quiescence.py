"""BOLT 2, quiescence: when a side may fall silent, and for how long."""

import pytest

from htlc.errors import UnexpectedMessage
from htlc.quiescence import LONGEST_SECONDS, check_asked, is_silent_for_too_long, may_fall_silent
from tests.bolt import bolt
from tests.htlc.parties import Party, opened_channel, play


def refuses(party: Party) -> bool:
    """Whether it would not be asked by its peer now."""
    try:
        check_asked(party.channel)
    except UnexpectedMessage:
        return True
    return False


@bolt("stfu.1")
def test_an_add_of_ours_is_under_way_until_it_is_irrevocable() -> None:
    alice, bob = opened_channel()
    assert may_fall_silent(alice.channel)
    assert may_fall_silent(bob.channel)
    for word in ("add>", "sig>", "<rev"):
        play(word, alice, bob)
        assert not may_fall_silent(alice.channel)
        # Bob has nothing under way himself
        assert may_fall_silent(bob.channel)
    play("<sig", alice, bob)
    # Alice's last revocation will be there before whatever she says next
    assert may_fall_silent(alice.channel)
    assert refuses(bob)
    play("rev>", alice, bob)
    assert not refuses(bob)


@bolt("stfu.1")
def test_so_is_a_removal_which_is_its_receivers_to_finish() -> None:
    alice, bob = play("add> sig> <rev <sig rev>", *opened_channel())
    play("<ful", alice, bob)
    assert not may_fall_silent(bob.channel)
    assert may_fall_silent(alice.channel)
    assert refuses(alice)
    assert not refuses(bob)
    play("<sig rev> sig> <rev", alice, bob)
    assert may_fall_silent(bob.channel)
    assert not refuses(alice)


@bolt("stfu.1")
def test_and_a_fee_which_only_the_opener_changes() -> None:
    alice, bob = opened_channel()
    alice.change_fee(2_000)
    assert not may_fall_silent(alice.channel)
    play("fee> sig> <rev <sig rev>", alice, bob)
    assert may_fall_silent(alice.channel)


@bolt("stfu.1")
def test_nobody_is_asked_before_the_channel_is_open() -> None:
    for party in opened_channel(is_ready=False):
        assert refuses(party)


@bolt("stfu.2")
@pytest.mark.parametrize("story", ["", "add> sig> <rev <sig rev>"], ids=["no HTLC", "an HTLC"])
def test_htlcs_are_not_kept_waiting_for_ever(story: str) -> None:
    alice, _ = play(story, *opened_channel())
    assert not is_silent_for_too_long(alice.channel, LONGEST_SECONDS)
    assert is_silent_for_too_long(alice.channel, LONGEST_SECONDS + 1) == bool(story)
