"""BOLT 2, bounding exposure to trimmed HTLCs: what may be lost to miners has a limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from htlc import steps
from htlc.dust import (
    FEERATE_MARGIN_PER_KW,
    MOST_DUST_EXPOSURE_MSAT,
    check_dust,
    dust_exposure_msat,
    dust_feerate_per_kw,
)
from htlc.errors import CannotOffer, FeeRefused, TooMuchDust
from htlc.ladder import LOCAL, REMOTE, FeeChange, Fulfilled, Paid, Side
from tests.bolt import bolt
from tests.htlc.parties import (
    ANCHORS,
    HEIGHT,
    ONION,
    STATIC,
    Party,
    drain,
    hash_of,
    opened_channel,
    preimage_of,
    replaced_house,
)
from wire.units import Msat, Sat

DUST = 353_999  # the largest HTLC without an output, where only the dust limit decides


def offer(party: Party, amount_msat: int, most_dust_msat: int, number: int = 0) -> Party:
    most = Msat(most_dust_msat)
    return party.take(
        steps.offer(
            party.channel,
            Msat(amount_msat),
            hash_of(number),
            HEIGHT + 40,
            ONION,
            Paid(number),
            most_dust_msat=most,
        )
    )


def newest(party: Party, side: Side) -> None:
    """Judge the last HTLC of that side as the shell does once it is irrevocable."""
    htlcs = party.channel.htlcs[side]
    check_dust(party.channel, htlcs[max(htlcs)], 1_000_000)


# --- what we offer


@bolt("forwarding-safety.5")
def test_our_offers_stop_at_the_limit() -> None:
    alice, _ = opened_channel()
    offer(alice, DUST, 2 * DUST)
    offer(alice, DUST, 2 * DUST)
    with pytest.raises(CannotOffer) as refusal:
        offer(alice, 1, 2 * DUST)
    assert isinstance(refusal.value.cause, TooMuchDust)
    assert refusal.value.cause.exposure_msat == 2 * DUST + 1


@bolt("forwarding-safety.5")
def test_an_htlc_with_an_output_is_no_matter() -> None:
    alice, _ = opened_channel()
    offer(alice, DUST, DUST)
    offer(alice, DUST + 1, DUST)
    assert dust_exposure_msat(alice.channel, LOCAL) == dust_exposure_msat(alice.channel, REMOTE) == DUST


@bolt("forwarding-safety.5")
def test_what_the_peer_offers_counts_too() -> None:
    alice, bob = opened_channel()
    bob.offer(DUST)
    drain(alice, bob)
    with pytest.raises(CannotOffer):
        offer(alice, DUST, 2 * DUST - 1)
    offer(alice, DUST, 2 * DUST)


@bolt("forwarding-safety.5")
def test_either_commitment_may_be_the_one_that_leaves_it_out() -> None:
    alice, bob = opened_channel(house_of_bob=replaced_house(dust_limit_sat=Sat(500)))
    for party, owner in ((alice, REMOTE), (bob, LOCAL)):
        assert dust_exposure_msat(offer(party, 400_000, 400_000).channel, owner) == 400_000
        assert dust_exposure_msat(party.channel, owner.other) == 0
        with pytest.raises(CannotOffer):
            offer(party, 400_000, 799_999)


@bolt("forwarding-safety.5")
def test_what_has_left_the_channel_counts_no_more() -> None:
    alice, bob = opened_channel()
    offer(alice, DUST, DUST)
    drain(alice, bob)
    bob.remove(0, Fulfilled(preimage_of(0)))
    with pytest.raises(CannotOffer):
        offer(alice, DUST, DUST, 1)
    drain(alice, bob)
    offer(alice, DUST, DUST, 1)


@bolt("forwarding-safety.5")
def test_a_full_channel_of_chunks_at_a_hundred_sat_is_within_the_limit() -> None:
    alice, _ = opened_channel()
    for number in range(483):
        alice.offer(100_000 + 3 * 1001, number)
    assert dust_exposure_msat(alice.channel, REMOTE) <= MOST_DUST_EXPOSURE_MSAT


# --- what the peer offers


@bolt("forwarding-safety.5")
def test_the_peers_htlcs_are_judged_in_their_order() -> None:
    alice, bob = opened_channel()
    for number in range(4):
        bob.offer(300_000, number)
    drain(alice, bob)
    theirs = alice.channel.htlcs.remote
    for number in range(3):
        check_dust(alice.channel, theirs[number], 1_000_000)
    with pytest.raises(TooMuchDust) as refusal:
        newest(alice, REMOTE)
    assert refusal.value.exposure_msat == 1_200_000


@bolt("forwarding-safety.5")
def test_ours_and_theirs_together_are_judged_for_theirs() -> None:
    alice, bob = opened_channel()
    for number in range(3):
        alice.offer(300_000, number)
    bob.offer(300_000, 4)
    drain(alice, bob)
    with pytest.raises(TooMuchDust):
        newest(alice, REMOTE)
    bob.offer(DUST + 1, 5)
    drain(alice, bob)
    newest(alice, REMOTE)


# --- feerates


def test_the_feerate_is_judged_with_a_margin() -> None:
    alice, _ = opened_channel(feerate_per_kw=1000)
    assert dust_feerate_per_kw(alice.channel) == 1000 + FEERATE_MARGIN_PER_KW
    changed = replace(alice.channel, fee_changes=(FeeChange(20_000), FeeChange(500)))
    assert dust_feerate_per_kw(changed) == 25_000


@bolt("forwarding-safety.5")
@pytest.mark.parametrize(("channel_type", "counts"), [(STATIC, True), (ANCHORS, False)])
def test_without_anchors_the_margin_makes_dust_of_more(channel_type: bytes, counts: bool) -> None:
    alice, bob = opened_channel(channel_type=channel_type, feerate_per_kw=253)
    # at 2,783 per kw a timeout costs 1,845 sat and a success 1,956
    alice.offer(2_150_000)
    bob.offer(2_250_000, 1)
    drain(alice, bob)
    for party in (alice, bob):
        both = [dust_exposure_msat(party.channel, owner) for owner in Side]
        assert sorted(both) == ([2_150_000, 4_400_000] if counts else [0, 0])
        assert party.our_commitment().htlcs, "they have outputs now"


@bolt("forwarding-safety.5")
def test_we_raise_no_feerate_that_leaves_out_too_much() -> None:
    alice, bob = opened_channel(channel_type=STATIC, feerate_per_kw=253)
    for number in range(5):
        alice.offer(5_000_000, number)
    drain(alice, bob)
    most = Msat(20_000_000)
    steps.change_fee(alice.channel, 3000, most_dust_msat=most)
    with pytest.raises(FeeRefused):
        steps.change_fee(alice.channel, 10_000, most_dust_msat=most)
    steps.change_fee(alice.channel, 10_000, most_dust_msat=Msat(25_000_000))


@bolt("forwarding-safety.5")
def test_a_peers_feerate_that_leaves_out_much_closes_nothing() -> None:
    alice, bob = opened_channel(channel_type=STATIC, feerate_per_kw=253)
    for number in range(12):
        bob.offer(5_000_000, number)
    drain(alice, bob)
    alice.take(steps.change_fee(alice.channel, 10_000, most_dust_msat=Msat(10**9)))
    drain(alice, bob)
    assert dust_exposure_msat(bob.channel, LOCAL) > MOST_DUST_EXPOSURE_MSAT
    with pytest.raises(CannotOffer):
        offer(bob, 1_000_000, MOST_DUST_EXPOSURE_MSAT, 13)


# --- by the definition


@given(
    amounts=st.lists(st.tuples(st.sampled_from(Side), st.integers(1, 800_000)), max_size=12),
    dust_limit_sat=st.integers(354, 700),
)
def test_the_exposure_is_what_the_commitments_leave_out(
    amounts: list[tuple[Side, int]], dust_limit_sat: int
) -> None:
    alice, bob = opened_channel(house_of_bob=replaced_house(dust_limit_sat=Sat(dust_limit_sat)))
    for number, (side, amount_msat) in enumerate(amounts):
        (alice if side is LOCAL else bob).offer(amount_msat, number)
    drain(alice, bob)
    for owner, commitment in ((LOCAL, alice.our_commitment()), (REMOTE, alice.their_commitment())):
        kept_msat = sum(second.htlc.amount_msat for second in commitment.htlcs)
        total_msat = sum(amount_msat for _, amount_msat in amounts)
        assert dust_exposure_msat(alice.channel, owner) == total_msat - kept_msat
