"""BOLT 2, adding HTLCs and changing the fee: what the channel has room for, and who pays."""

import pytest
from msgspec.structs import replace

from htlc.errors import (
    BelowReserve,
    CannotAffordFee,
    CannotOffer,
    CltvExpiryOutOfRange,
    FeeRefused,
    HtlcBelowMinimum,
    NotTheOpener,
    NotUsable,
    TooManyHtlcs,
    TooMuchInFlight,
    UnexpectedMessage,
    UnreasonableFeerate,
    WrongHtlcId,
)
from htlc.ladder import LOCAL, REMOTE, Dual, Failed, Fulfilled, Htlc, Rung, Side
from htlc.limits import opener_cost_msat, spendable_msat, tally
from htlc.transactions import ChannelFormat, trim_limit_msat
from tests.bolt import bolt
from tests.htlc.parties import (
    ANCHORS,
    HEIGHT,
    HOUSE,
    ONION,
    STATIC,
    Party,
    drain,
    hash_of,
    opened_channel,
    play,
    preimage_of,
    replaced_house,
)
from tests.htlc.spoiled import both_types
from wire.messages.channel import (
    UpdateAddHtlc,
    UpdateFee,
)
from wire.units import MAX_MSAT, Msat, Sat, msat

DANCE = "add sig> <rev <sig rev>"


def an_add(
    party: Party, amount_msat: int = 1_000_000, htlc_id: int = 0, cltv_expiry: int = HEIGHT + 40
) -> UpdateAddHtlc:
    """An add that reaches the party whether or not its sender may send it."""
    return UpdateAddHtlc(party.channel.id, htlc_id, Msat(amount_msat), hash_of(0), cltv_expiry, ONION)


def refused_add(party: Party, amount_msat: int, cltv_expiry: int = HEIGHT + 40) -> object:
    """Why the party may not offer this."""
    with pytest.raises(CannotOffer) as refusal:
        party.offer(amount_msat, cltv_expiry=cltv_expiry)
    return refusal.value.cause


# --- update_add_htlc


@bolt("update_add_htlc.1")
def test_an_offer_becomes_the_message_that_names_it() -> None:
    alice, bob = opened_channel()
    alice.offer(1_234_567, number=3, cltv_expiry=500)
    assert alice.deliver_one_to(bob) == UpdateAddHtlc(
        channel_id=alice.channel.id,
        id=0,
        amount_msat=Msat(1_234_567),
        payment_hash=hash_of(3),
        cltv_expiry=500,
        onion_routing_packet=ONION,
    )
    assert alice.rungs() == bob.rungs() == [Rung.PROPOSED]
    assert bob.channel.htlcs.remote[0].onion == ONION


@bolt("update_add_htlc.1")
def test_a_zero_amount_costs_the_peer_its_connection() -> None:
    alice, bob = opened_channel(house_of_bob=replaced_house(htlc_minimum_msat=Msat(0)))
    with pytest.raises(HtlcBelowMinimum):
        bob.receive(an_add(bob, amount_msat=0))
    assert isinstance(refused_add(alice, 0), HtlcBelowMinimum)
    bob.receive(an_add(bob, amount_msat=1))


@bolt("update_add_htlc.1")
def test_the_receiver_decides_the_smallest_amount() -> None:
    alice, bob = opened_channel(house_of_bob=replaced_house(htlc_minimum_msat=Msat(1000)))
    with pytest.raises(HtlcBelowMinimum):
        bob.receive(an_add(bob, amount_msat=999))
    assert isinstance(refused_add(alice, 999), HtlcBelowMinimum)
    alice.offer(1000).deliver_one_to(bob)
    bob.offer(1).deliver_one_to(alice)


@bolt("update_add_htlc.1")
def test_an_expiry_that_would_be_a_time_costs_the_peer_its_connection() -> None:
    alice, bob = opened_channel()
    with pytest.raises(CltvExpiryOutOfRange):
        bob.receive(an_add(bob, cltv_expiry=500_000_000))
    assert isinstance(refused_add(alice, 1000, cltv_expiry=500_000_000), CltvExpiryOutOfRange)
    alice.offer(1000, cltv_expiry=499_999_999).deliver_one_to(bob)


@bolt("update_add_htlc.1")
def test_ids_count_from_zero_on_each_side_and_never_start_again() -> None:
    alice, bob = opened_channel()
    for _ in range(3):
        play(DANCE, alice, bob)
        play("<ful <sig rev> sig> <rev", alice, bob)
    play("<add", alice, bob)
    assert alice.channel.next_htlc_id == bob.channel.next_htlc_id.swapped() == Dual(3, 1)
    for wrong in (0, 2, 4, 2**64 - 1):
        with pytest.raises(WrongHtlcId):
            bob.receive(an_add(bob, htlc_id=wrong))
    bob.receive(an_add(bob, htlc_id=3))


@bolt("update_add_htlc.2")
def test_slots_are_counted_by_who_accepts() -> None:
    alice, bob = opened_channel(house_of_bob=replaced_house(max_accepted_htlcs=2))
    play("add add>", alice, bob)
    assert isinstance(refused_add(alice, 1000), TooManyHtlcs)
    with pytest.raises(TooManyHtlcs):
        bob.receive(an_add(bob, htlc_id=2))
    play("<add <add <add", alice, bob)


@bolt("update_add_htlc.2")
def test_a_slot_is_free_again_when_we_have_revoked_what_held_it() -> None:
    """The receiver's commitment loses the HTLC only after we acknowledged that it may."""
    alice, bob = opened_channel(house_of_bob=replaced_house(max_accepted_htlcs=1))
    play(DANCE, alice, bob)
    play("<fail", alice, bob)
    assert isinstance(refused_add(alice, 1000), TooManyHtlcs)
    play("<sig rev>", alice, bob)
    play("add sig> <rev <sig rev>", alice, bob)
    assert list(alice.channel.htlcs.local) == [1]


@bolt("update_add_htlc.2")
def test_the_value_in_flight_is_capped_by_who_accepts() -> None:
    alice, bob = opened_channel()
    cap = replace(bob.channel.charter.terms.local, max_htlc_value_in_flight_msat=Msat(5_000))
    for party, terms in ((alice, Dual(cap, cap)), (bob, Dual(cap, cap))):
        party.channel = replace(party.channel, charter=replace(party.channel.charter, terms=terms))
    alice.offer(3_000).offer(2_000)
    assert isinstance(refused_add(alice, 1), TooMuchInFlight)
    drain(alice, bob)
    with pytest.raises(TooMuchInFlight):
        bob.receive(an_add(bob, htlc_id=2, amount_msat=1))
    bob.offer(5_000).deliver_one_to(alice)


@bolt("update_add_htlc.2")
@both_types
def test_the_opener_keeps_reserve_fee_and_buffer(channel_type: bytes) -> None:
    """Twice the feerate, and room for one HTLC more than the one it offers."""
    alice, bob = opened_channel(channel_type=channel_type, feerate_per_kw=1000)
    format = alice.channel.charter.format
    needed_msat = 100_000_000 + opener_cost_msat(format, 2000, 2)
    most_msat = 5_000_000_000 - needed_msat
    assert spendable_msat(alice.channel) == most_msat
    assert isinstance(refused_add(alice, most_msat + 1), BelowReserve)
    alice.offer(most_msat)
    drain(alice, bob)
    assert spendable_msat(alice.channel) == 0


@bolt("update_add_htlc.2")
@both_types
def test_the_opener_may_fall_to_reserve_and_plain_fee_but_no_further(channel_type: bytes) -> None:
    """The buffer is the sender's own care: the receiver asks for reserve, fee and anchors alone."""
    alice, bob = opened_channel(channel_type=channel_type, feerate_per_kw=1000)
    needed_msat = 100_000_000 + opener_cost_msat(alice.channel.charter.format, 1000, 1)
    most_msat = 5_000_000_000 - needed_msat
    with pytest.raises(BelowReserve):
        bob.receive(an_add(bob, amount_msat=most_msat + 1))
    bob.receive(an_add(bob, amount_msat=most_msat))


@bolt("update_add_htlc.2")
def test_the_side_that_did_not_open_keeps_its_reserve_alone() -> None:
    alice, bob = opened_channel()
    assert spendable_msat(bob.channel) == 4_900_000_000
    assert isinstance(refused_add(bob, 4_900_000_001), BelowReserve)
    with pytest.raises(BelowReserve):
        alice.receive(an_add(alice, amount_msat=4_900_000_001))
    bob.offer(4_900_000_000).deliver_one_to(alice)


@bolt("update_add_htlc.2")
def test_no_htlc_of_ours_costs_the_opener_its_reserve() -> None:
    """A peer that opened the channel would fail it, so we do not even try."""
    cost_msat = opener_cost_msat(ChannelFormat.ANCHORS, 1000, 1)
    alice, bob = opened_channel(push_msat=10_000_000_000 - 100_000_000 - cost_msat, feerate_per_kw=1000)
    bob.offer(1_000_000)
    assert isinstance(refused_add(bob, 1_000_000), BelowReserve)
    assert spendable_msat(bob.channel) == 0
    drain(alice, bob)
    assert spendable_msat(bob.channel) == 0


@bolt("update_add_htlc.2")
def test_an_opener_with_just_enough_lets_us_add() -> None:
    cost_msat = opener_cost_msat(ChannelFormat.ANCHORS, 1000, 1)
    for short_msat, spendable in ((0, 9_900_000_000 - cost_msat - 100_000_000), (1, 0)):
        push_msat = 10_000_000_000 - 100_000_000 - cost_msat + short_msat
        _, bob = opened_channel(push_msat=push_msat, feerate_per_kw=1000)
        assert spendable_msat(bob.channel) == spendable


@bolt("update_add_htlc.2")
@both_types
def test_an_htlc_on_the_border_of_dust_costs_a_fee(channel_type: bytes) -> None:
    alice, _ = opened_channel(channel_type=channel_type, feerate_per_kw=1000)
    border_msat = trim_limit_msat(alice.channel.charter.format, 354, 1000, False)
    for amount_msat, untrimmed in ((border_msat - 1, 0), (border_msat, 1)):
        htlc = Htlc(LOCAL, 0, Msat(amount_msat), hash_of(0), HEIGHT + 40)
        assert tally(alice.channel, REMOTE, htlc).untrimmed == untrimmed


@bolt("update_add_htlc.2")
def test_our_own_commitment_counts_all_that_is_under_way() -> None:
    """With the lower dust limit on our side only our commitment has outputs, and a fee, for small HTLCs."""
    alice, bob = opened_channel(
        capacity_sat=200_000,
        push_msat=0,
        channel_type=STATIC,
        feerate_per_kw=2_000,
        house_of_alice=replaced_house(dust_limit_sat=Sat(354)),
        house_of_bob=replaced_house(dust_limit_sat=Sat(1000)),
    )
    # 1,700 sat: above 354 + 1,326 for our HTLC-timeout, below 1,000 + 1,406 for their HTLC-success
    count = 0
    while spendable_msat(alice.channel) >= 1_700_000:
        alice.offer(1_700_000)
        count += 1
    drain(alice, bob)
    assert len(alice.our_commitment().htlcs) == count > 50
    assert len(alice.their_commitment().htlcs) == 0
    spec = alice.channel.spec(LOCAL, alice.channel.number.local)
    cost_msat = opener_cost_msat(ChannelFormat.STATIC_REMOTEKEY, 2_000, count)
    assert spec.to_owner_msat >= msat(Sat(2_000)) + cost_msat


@bolt("update_add_htlc.2")
@both_types
def test_what_is_spendable_can_be_spent(channel_type: bytes) -> None:
    alice, bob = opened_channel(channel_type=channel_type, feerate_per_kw=5000)
    for party in (alice, bob, alice, bob):
        amount_msat = spendable_msat(party.channel) // 3
        party.offer(amount_msat)
        drain(alice, bob)
    bob.offer(spendable_msat(bob.channel))
    drain(alice, bob)
    assert spendable_msat(bob.channel) == 0


@bolt("update_add_htlc.2")
def test_nothing_is_spendable_without_a_slot_or_below_the_minimum() -> None:
    house = replaced_house(max_accepted_htlcs=1, htlc_minimum_msat=Msat(1_000_000))
    alice, bob = opened_channel(house_of_alice=house, push_msat=100_999_999)
    assert spendable_msat(bob.channel) == 0
    assert spendable_msat(alice.channel) > 0
    alice, bob = opened_channel(house_of_alice=house, push_msat=101_000_000)
    assert spendable_msat(bob.channel) == 1_000_000
    play("<add", alice, bob)
    assert spendable_msat(bob.channel) == 0


@bolt("update_add_htlc.2")
def test_amounts_beyond_any_channel_are_no_matter() -> None:
    alice, bob = opened_channel(house_of_bob=HOUSE)
    terms = replace(bob.channel.charter.terms.local, max_htlc_value_in_flight_msat=Msat(2**64 - 1))
    bob.channel = replace(bob.channel, charter=replace(bob.channel.charter, terms=Dual(terms, terms)))
    with pytest.raises(BelowReserve):
        bob.receive(an_add(bob, amount_msat=MAX_MSAT))
    assert isinstance(refused_add(alice, MAX_MSAT), TooMuchInFlight)


@bolt("update_add_htlc.3")
def test_one_payment_hash_may_come_many_times() -> None:
    alice, bob = opened_channel()
    for _ in range(3):
        alice.offer(1_000_000, number=7)
    bob.offer(1_000_000, number=7)
    drain(alice, bob)
    assert [offer.htlc.payment_hash for offer in bob.offers] == [hash_of(7)] * 3
    assert alice.our_commitment().unsigned == bob.their_commitment().unsigned
    for htlc_id in range(3):
        bob.remove(htlc_id, Fulfilled(preimage_of(7)))
    drain(alice, bob)
    assert alice.balances_msat == (4_997_000_000, 5_003_000_000)


@bolt("update_add_htlc.1")
def test_an_add_needs_a_channel_that_the_sender_called_ready() -> None:
    alice, bob = opened_channel(is_ready=False)
    with pytest.raises(UnexpectedMessage):
        bob.receive(an_add(bob))
    play("<ready", alice, bob)
    with pytest.raises(UnexpectedMessage):
        bob.receive(an_add(bob))
    play("ready> add>", alice, bob)


# --- update_fee


@bolt("update_fee.1")
def test_the_opener_alone_changes_the_fee() -> None:
    alice, bob = opened_channel()
    with pytest.raises(FeeRefused):
        bob.change_fee(300)
    with pytest.raises(NotTheOpener):
        alice.receive(UpdateFee(alice.channel.id, 300))
    play("fee sig> <rev <sig rev>", alice, bob)
    assert alice.channel.feerate_per_kw == bob.channel.feerate_per_kw == 353
    assert alice.rungs() == bob.rungs() == []


@bolt("update_fee.1")
@pytest.mark.parametrize("feerate_per_kw", [0, 252, 100_001, 2**32 - 1])
def test_an_unreasonable_fee_fails_the_channel(feerate_per_kw: int) -> None:
    _, bob = opened_channel()
    with pytest.raises(UnreasonableFeerate):
        bob.receive(UpdateFee(bob.channel.id, feerate_per_kw))


@bolt("update_fee.1")
@both_types
def test_the_opener_cannot_promise_a_fee_that_it_cannot_pay(channel_type: bytes) -> None:
    alice, bob = opened_channel(capacity_sat=100_000, push_msat=80_000_000, channel_type=channel_type)
    left_sat = 20_000 - 1_000 - (660 if channel_type == ANCHORS else 0)
    weight = 1124 if channel_type == ANCHORS else 724
    most = ((left_sat + 1) * 1000 - 1) // weight
    with pytest.raises(FeeRefused):
        alice.change_fee(most + 1)
    with pytest.raises(CannotAffordFee):
        bob.receive(UpdateFee(bob.channel.id, most + 1))
    alice.change_fee(most)
    drain(alice, bob)
    assert bob.channel.feerate_per_kw == most


@bolt("update_fee.1")
def test_our_own_commitment_must_bear_a_fee_too() -> None:
    """HTLCs of 1,702 sat cost a fee on our side only, where the dust limit is lower."""
    alice, bob = opened_channel(
        capacity_sat=400_000,
        push_msat=0,
        channel_type=STATIC,
        feerate_per_kw=1000,
        house_of_bob=replaced_house(dust_limit_sat=Sat(1000)),
    )
    while spendable_msat(alice.channel) >= 1_702_000:
        alice.offer(1_702_000)
    alice.offer(spendable_msat(alice.channel))
    drain(alice, bob)
    assert [len(party.our_commitment().htlcs) for party in (alice, bob)] == [193, 0]
    with pytest.raises(FeeRefused):
        alice.change_fee(2030)
    bob.receive(UpdateFee(bob.channel.id, 2030))


@bolt("update_fee.1")
def test_the_borders_of_reason_are_reasonable() -> None:
    _, bob = opened_channel()
    for feerate_per_kw in (253, 100_000):
        bob.receive(UpdateFee(bob.channel.id, feerate_per_kw))


@bolt("update_fee.1")
def test_a_fee_counts_in_their_commitment_first() -> None:
    alice, bob = opened_channel()

    def feerates() -> tuple[int, int]:
        return alice.channel.feerate_in(LOCAL), alice.channel.feerate_in(REMOTE)

    seen = [feerates()]
    for moment in ("fee>", "sig>", "<rev", "<sig", "rev>"):
        play(moment, alice, bob)
        seen.append(feerates())
        assert bob.channel.feerate_in(LOCAL) in seen[-1]
    assert seen == [(253, 253), (253, 253), (253, 353), (253, 353), (353, 353), (353, 353)]


@bolt("update_fee.1")
def test_the_last_of_many_changes_counts_and_the_ladder_stays_short() -> None:
    """A peer cannot make us remember more changes than there are rungs."""
    alice, bob = opened_channel()
    for feerate_per_kw in range(300, 400):
        alice.change_fee(feerate_per_kw)
    drain(alice, bob, is_signing=False)
    assert [change.feerate_per_kw for change in bob.channel.fee_changes] == [399]
    play("sig>", alice, bob)
    alice.change_fee(500).change_fee(501)
    drain(alice, bob, is_signing=False)
    assert [change.feerate_per_kw for change in bob.channel.fee_changes] == [399, 501]
    drain(alice, bob)
    assert alice.channel.feerate_per_kw == bob.channel.feerate_per_kw == 501


@bolt("update_fee.1", "update_add_htlc.2")
def test_adds_that_cross_a_fee_change_may_leave_the_opener_short() -> None:
    """Nobody did wrong: the commitment pays what the opener has, and later adds wait."""
    alice, bob = opened_channel(capacity_sat=100_000, push_msat=80_000_000, feerate_per_kw=253)
    alice.change_fee(15_000)
    for _ in range(10):
        bob.offer(2_000_000)
    drain(alice, bob)
    assert len(alice.our_commitment().htlcs) == 10
    # 20,000 sat less both anchors cannot pay 15 x (1,124 + 10 x 172)
    assert alice.our_commitment().unsigned == bob.their_commitment().unsigned
    assert alice.our_commitment().fee_sat == bob.our_commitment().fee_sat == 20_000 - 660
    assert spendable_msat(alice.channel) == spendable_msat(bob.channel) == 0
    for htlc_id in range(10):
        alice.remove(htlc_id, Failed(b"reason"))
    drain(alice, bob)
    assert alice.balances_msat == (20_000_000, 80_000_000)


@bolt("update_fee.1")
def test_a_lower_fee_gives_an_htlc_its_output_back() -> None:
    """At 5,000 per kw an HTLC of 3,000 sat is trimmed from both; at 253 it has an output on each."""
    alice, bob = opened_channel(channel_type=STATIC, feerate_per_kw=5000)
    alice.offer(3_000_000)
    drain(alice, bob)
    assert [len(p.our_commitment().htlcs) for p in (alice, bob)] == [0, 0]
    alice.change_fee(253)
    drain(alice, bob)
    assert [len(p.our_commitment().htlcs) for p in (alice, bob)] == [1, 1]


@bolt("update_fee.1")
def test_a_lower_fee_is_welcome_even_from_who_cannot_pay_it() -> None:
    """Our adds left the opener short; that it asks for less must not cost it the channel."""
    alice, bob = opened_channel(capacity_sat=100_000, push_msat=80_000_000, feerate_per_kw=253)
    alice.change_fee(15_000)
    for _ in range(10):
        bob.offer(2_000_000)
    drain(alice, bob)
    with pytest.raises(CannotAffordFee):
        bob.receive(UpdateFee(bob.channel.id, 15_001))
    bob.receive(UpdateFee(bob.channel.id, 14_999))
    assert [change.feerate_per_kw for change in bob.channel.fee_changes] == [14_999]


@bolt("update_fee.1")
def test_no_fee_changes_before_the_channel_is_open() -> None:
    alice, bob = opened_channel(is_ready=False)
    with pytest.raises(NotUsable):
        alice.change_fee(300)
    with pytest.raises(UnexpectedMessage):
        bob.receive(UpdateFee(bob.channel.id, 300))


@both_types
@bolt("update_add_htlc.2")
def test_dust_has_no_output_on_the_side_where_it_is_dust(channel_type: bytes) -> None:
    alice, bob = opened_channel(channel_type=channel_type, feerate_per_kw=1000)
    format = alice.channel.charter.format
    borders = {side: trim_limit_msat(format, 354, 1000, side is LOCAL) for side in (Side.LOCAL, Side.REMOTE)}
    amounts = sorted({border + delta for border in borders.values() for delta in (-1, 0, 1)})
    for amount_msat in amounts:
        alice.offer(amount_msat)
    drain(alice, bob)
    for party, is_offerer in ((alice, True), (bob, False)):
        border = borders[Side.LOCAL if is_offerer else Side.REMOTE]
        found = sorted(second.htlc.amount_msat for second in party.our_commitment().htlcs)
        assert found == [amount for amount in amounts if amount >= border]
