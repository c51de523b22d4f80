"""BOLT 2, channel establishment v1: what is proposed, what is answered, and what is refused."""

from typing import Any

import pytest
from msgspec.structs import replace

from htlc import opening
from htlc.channel import Terms
from htlc.errors import UnacceptableOpening, UnexpectedMessage
from htlc.ladder import Dual, Side
from htlc.opening import AwaitingAccept, House, Negotiated, Wish
from htlc.transactions import ChannelFormat, commitment_fee_sat
from tests.bolt import bolt
from tests.htlc.parties import (
    ALICE_ID,
    ALL_FEATURES,
    ANCHORS,
    BOB_ID,
    FUNDING_OUTPOINT,
    HOUSE,
    STATIC,
    opened_channel,
    replaced_house,
    secrets_of,
)
from tests.htlc.spoiled import both_types
from wire.bitcoin.script import p2wpkh
from wire.codec import DecodeError
from wire.features import Features
from wire.messages.catalogue import decode, encode
from wire.messages.channel import AcceptChannel, OpenChannel
from wire.units import Msat, Sat, msat

ALICE, BOB = secrets_of("alice"), secrets_of("bob")
TEMPORARY_ID = b"\x01" * 32
A_WISH = Wish(Sat(1_000_000), Msat(0), 253, ANCHORS, True)


def a_proposal(
    house: House = HOUSE, negotiated: Negotiated = ALL_FEATURES, **changes: Any
) -> tuple[AwaitingAccept, OpenChannel]:
    return opening.propose(house, negotiated, replace(A_WISH, **changes), BOB_ID, 0, ALICE, TEMPORARY_ID)


def accepted(
    proposal: OpenChannel, house: House = HOUSE, negotiated: Negotiated = ALL_FEATURES
) -> AcceptChannel:
    return opening.accept(house, negotiated, proposal, ALICE_ID, 0, BOB)[1]


def refused_field(proposal: OpenChannel, house: House = HOUSE, negotiated: Negotiated = ALL_FEATURES) -> str:
    """The field for which Bob refuses."""
    with pytest.raises(UnacceptableOpening) as refusal:
        accepted(proposal, house, negotiated)
    return refusal.value.field


# --- open_channel


@bolt("open_channel.1", "open_channel.6")
def test_a_proposal_says_what_the_opener_wants_and_who_it_is() -> None:
    _, proposal = a_proposal(push_msat=Msat(7))
    points = ALICE.basepoints()
    assert proposal == OpenChannel(
        chain_hash=HOUSE.chain_hash,
        temporary_channel_id=TEMPORARY_ID,
        funding_satoshis=Sat(1_000_000),
        push_msat=Msat(7),
        dust_limit_satoshis=Sat(354),
        max_htlc_value_in_flight_msat=Msat(1_000_000_000),
        channel_reserve_satoshis=Sat(10_000),
        htlc_minimum_msat=Msat(1),
        feerate_per_kw=253,
        to_self_delay=144,
        max_accepted_htlcs=483,
        funding_pubkey=points.funding_pubkey,
        revocation_basepoint=points.revocation_basepoint,
        payment_basepoint=points.payment_basepoint,
        delayed_payment_basepoint=points.delayed_payment_basepoint,
        htlc_basepoint=points.htlc_basepoint,
        first_per_commitment_point=ALICE.per_commitment_point(0),
        channel_flags=1,
        upfront_shutdown_script=b"",
        channel_type=bytes.fromhex("401000"),
    )


@bolt("open_channel.1")
def test_flags_that_nobody_has_defined_are_zero_and_ignored() -> None:
    _, proposal = a_proposal(is_announced=False)
    assert proposal.channel_flags == 0
    awaiting, _ = opening.accept(
        HOUSE, ALL_FEATURES, replace(proposal, channel_flags=0b1111_1110), ALICE_ID, 0, BOB
    )
    assert not opening._charter(awaiting, awaiting.answer, FUNDING_OUTPOINT).is_announced


@bolt("open_channel.1")
def test_a_channel_on_another_chain_is_refused() -> None:
    _, proposal = a_proposal()
    assert refused_field(replace(proposal, chain_hash=b"\xff" * 32)) == "chain_hash"


@bolt("open_channel.1")
@pytest.mark.parametrize(
    "field",
    [
        "funding_pubkey",
        "revocation_basepoint",
        "payment_basepoint",
        "delayed_payment_basepoint",
        "htlc_basepoint",
        "first_per_commitment_point",
    ],
)
def test_what_is_no_point_never_gets_past_the_codec(field: str) -> None:
    _, proposal = a_proposal()
    with pytest.raises(DecodeError):
        decode(encode(replace(proposal, **{field: b"\x02" + b"\xff" * 32})))


@bolt("open_channel.2")
def test_a_large_channel_needs_both_to_want_large_channels() -> None:
    modest = replace(ALL_FEATURES, large_channels=False)
    _, proposal = a_proposal(funding_sat=Sat(1 << 24))
    accepted(proposal)
    assert refused_field(proposal, negotiated=modest) == "funding_satoshis"
    with pytest.raises(UnacceptableOpening):
        a_proposal(negotiated=modest, funding_sat=Sat(1 << 24))
    a_proposal(negotiated=modest, funding_sat=Sat((1 << 24) - 1))


@bolt("open_channel.2")
def test_more_than_the_channel_holds_cannot_be_pushed() -> None:
    _, proposal = a_proposal()
    assert refused_field(replace(proposal, push_msat=Msat(1_000_000_001))) == "push_msat"
    with pytest.raises(UnacceptableOpening):
        a_proposal(push_msat=Msat(1_000_000_001))


@bolt("open_channel.3")
@pytest.mark.parametrize(
    ("field", "value", "blamed"),
    [
        ("channel_reserve_satoshis", 353, "dust_limit_satoshis"),
        ("dust_limit_satoshis", 353, "dust_limit_satoshis"),
        ("dust_limit_satoshis", 1001, "dust_limit_satoshis"),
        ("max_accepted_htlcs", 484, "max_accepted_htlcs"),
        ("max_accepted_htlcs", 0, "max_accepted_htlcs"),
    ],
)
def test_terms_outside_the_rules_are_refused(field: str, value: int, blamed: str) -> None:
    _, proposal = a_proposal()
    assert refused_field(replace(proposal, **{field: value})) == blamed


@bolt("open_channel.3")
def test_terms_on_the_border_are_taken() -> None:
    _, proposal = a_proposal()
    on_the_border = replace(
        proposal,
        dust_limit_satoshis=Sat(354),
        channel_reserve_satoshis=Sat(354),
        max_accepted_htlcs=483,
        htlc_minimum_msat=Msat(0),
        max_htlc_value_in_flight_msat=Msat(2**64 - 1),
        to_self_delay=2016,
    )
    accepted(on_the_border)


@bolt("open_channel.4")
@pytest.mark.parametrize(
    "channel_type",
    [
        None,
        b"",
        Features.of("option_anchors").to_bytes(),
        Features.of(optional=("option_static_remotekey",)).to_bytes(),
        b"\x00" + STATIC,
    ],
    ids=["none", "empty", "anchors alone", "an odd bit", "not minimal"],
)
def test_a_type_that_is_missing_or_not_defined_is_refused(channel_type: bytes | None) -> None:
    _, proposal = a_proposal()
    assert refused_field(replace(proposal, channel_type=channel_type)) == "channel_type"


@bolt("open_channel.4")
def test_anchors_need_both_to_want_anchors() -> None:
    _, proposal = a_proposal()
    old = replace(ALL_FEATURES, anchors=False)
    assert refused_field(proposal, negotiated=old) == "channel_type"
    with pytest.raises(UnacceptableOpening):
        a_proposal(negotiated=old)
    accepted(a_proposal(negotiated=old, channel_type=STATIC)[1], negotiated=old)


@bolt("open_channel.5")
@pytest.mark.parametrize("variation", ["option_scid_alias", "option_zeroconf"])
def test_types_that_we_did_not_negotiate_are_refused(variation: str) -> None:
    _, proposal = a_proposal()
    varied = Features.from_bytes(ANCHORS).with_required(variation).to_bytes()
    assert refused_field(replace(proposal, channel_type=varied)) == "channel_type"


@bolt("open_channel.6")
def test_an_upfront_script_is_of_a_form_that_a_shutdown_may_name() -> None:
    _, proposal = a_proposal()
    p2pkh = bytes.fromhex("76a914") + bytes(20) + bytes.fromhex("88ac")
    assert refused_field(replace(proposal, upfront_shutdown_script=p2pkh)) == "upfront_shutdown_script"
    for script in (None, b"", p2wpkh(ALICE_ID)):
        assert accepted(replace(proposal, upfront_shutdown_script=script)).upfront_shutdown_script == b""


@bolt("open_channel.7")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("to_self_delay", 2017),
        ("feerate_per_kw", 252),
        ("feerate_per_kw", 100_001),
        ("funding_satoshis", 9_999),
        ("channel_reserve_satoshis", 200_001),
        ("htlc_minimum_msat", 100_000_001),
    ],
)
def test_unreasonable_terms_are_refused(field: str, value: int) -> None:
    _, proposal = a_proposal()
    assert refused_field(replace(proposal, **{field: value})) == field


@bolt("open_channel.7")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("feerate_per_kw", 253),
        ("feerate_per_kw", 100_000),
        ("channel_reserve_satoshis", 200_000),
        ("htlc_minimum_msat", 100_000_000),
        ("max_htlc_value_in_flight_msat", 1),
    ],
)
def test_the_borders_of_reason_are_reasonable(field: str, value: int) -> None:
    _, proposal = a_proposal()
    accepted(replace(proposal, **{field: value}))


@bolt("open_channel.7")
def test_a_cap_that_no_htlc_fits_under_is_refused() -> None:
    _, proposal = a_proposal()
    for minimum_msat, cap_msat in ((0, 0), (1000, 999)):
        proposal = replace(
            proposal,
            htlc_minimum_msat=Msat(minimum_msat),
            max_htlc_value_in_flight_msat=Msat(cap_msat),
        )
        assert refused_field(proposal) == "max_htlc_value_in_flight_msat"


@both_types
@bolt("open_channel.7")
def test_the_opener_must_afford_the_first_commitment(channel_type: bytes) -> None:
    """Anchors count: both of them are the opener's to pay."""
    format = opening.format_of(channel_type)
    assert format is not None
    cost_sat = commitment_fee_sat(format, 253, 0) + (660 if format is ChannelFormat.ANCHORS else 0)
    push_msat = Msat(msat(A_WISH.funding_sat) - msat(Sat(cost_sat)))
    _, proposal = a_proposal(push_msat=push_msat, channel_type=channel_type)
    accepted(proposal)
    assert refused_field(replace(proposal, push_msat=Msat(push_msat + 1))) == "push_msat"


@bolt("open_channel.7")
def test_somebody_must_have_more_than_the_reserve() -> None:
    _, proposal = a_proposal(funding_sat=Sat(10_000), push_msat=Msat(5_000_000))
    cost_sat = commitment_fee_sat(ChannelFormat.ANCHORS, 253, 0) + 660
    # a reserve of half the channel is too large for another reason, so only its owner's check sees it
    poor = replace(proposal, channel_reserve_satoshis=Sat(5_000))
    with pytest.raises(UnacceptableOpening) as refusal:
        opening._check_money(poor, ALL_FEATURES)
    assert refusal.value.field == "funding_satoshis"
    opening._check_money(replace(poor, channel_reserve_satoshis=Sat(4_999)), ALL_FEATURES)
    assert cost_sat < 5_000


# --- accept_channel


@bolt("accept_channel.1", "accept_channel.2")
def test_an_answer_names_the_proposal_and_its_type() -> None:
    _, proposal = a_proposal()
    points = BOB.basepoints()
    assert accepted(proposal) == AcceptChannel(
        temporary_channel_id=TEMPORARY_ID,
        dust_limit_satoshis=Sat(354),
        max_htlc_value_in_flight_msat=Msat(1_000_000_000),
        channel_reserve_satoshis=Sat(10_000),
        htlc_minimum_msat=Msat(1),
        minimum_depth=3,
        to_self_delay=144,
        max_accepted_htlcs=483,
        funding_pubkey=points.funding_pubkey,
        revocation_basepoint=points.revocation_basepoint,
        payment_basepoint=points.payment_basepoint,
        delayed_payment_basepoint=points.delayed_payment_basepoint,
        htlc_basepoint=points.htlc_basepoint,
        first_per_commitment_point=BOB.per_commitment_point(0),
        upfront_shutdown_script=b"",
        channel_type=ANCHORS,
    )


@bolt("accept_channel.2")
def test_the_accepters_reserve_covers_the_openers_dust() -> None:
    _, proposal = a_proposal(funding_sat=Sat(20_000))
    large = replace(proposal, dust_limit_satoshis=Sat(900), channel_reserve_satoshis=Sat(900))
    assert accepted(large).channel_reserve_satoshis == 900


@bolt("accept_channel.2")
def test_the_accepter_refuses_a_reserve_below_its_own_dust() -> None:
    _, proposal = a_proposal(funding_sat=Sat(20_000))
    assert proposal.channel_reserve_satoshis == 354
    house = replaced_house(dust_limit_sat=Sat(355))
    assert refused_field(proposal, house) == "channel_reserve_satoshis"


@bolt("accept_channel.1")
@pytest.mark.parametrize("channel_type", [None, STATIC])
def test_an_answer_of_another_type_fails_the_opening(channel_type: bytes | None) -> None:
    stage, proposal = a_proposal()
    with pytest.raises(UnacceptableOpening) as refusal:
        opening.receive_accept(stage, replace(accepted(proposal), channel_type=channel_type))
    assert refusal.value.field == "channel_type"


@bolt("accept_channel.1")
def test_an_answer_to_another_proposal_is_no_answer() -> None:
    stage, proposal = a_proposal()
    with pytest.raises(UnexpectedMessage):
        opening.receive_accept(stage, replace(accepted(proposal), temporary_channel_id=b"\x02" * 32))


@bolt("accept_channel.2")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("channel_reserve_satoshis", 353),
        ("channel_reserve_satoshis", 200_001),
        ("dust_limit_satoshis", 353),
        ("dust_limit_satoshis", 1001),
        ("max_accepted_htlcs", 484),
        ("to_self_delay", 2017),
        ("htlc_minimum_msat", 100_000_001),
        ("minimum_depth", 145),
        ("upfront_shutdown_script", b"\x6a"),
    ],
)
def test_an_answer_that_we_cannot_live_with_fails_the_opening(field: str, value: object) -> None:
    stage, proposal = a_proposal()
    with pytest.raises(UnacceptableOpening) as refusal:
        opening.receive_accept(stage, replace(accepted(proposal), **{field: value}))
    assert refusal.value.field == field


@bolt("accept_channel.2")
@pytest.mark.parametrize("depth_blocks", [0, 144])
def test_a_depth_of_up_to_a_day_is_waited_for(depth_blocks: int) -> None:
    stage, proposal = a_proposal()
    answer = replace(accepted(proposal), minimum_depth=depth_blocks)
    assert opening.receive_accept(stage, answer).answer == answer


@bolt("accept_channel.2")
def test_the_accepters_dust_lies_below_the_reserve_that_the_opener_demands() -> None:
    stage, proposal = a_proposal(funding_sat=Sat(20_000))
    with pytest.raises(UnacceptableOpening) as refusal:
        opening.receive_accept(stage, replace(accepted(proposal), dust_limit_satoshis=Sat(355)))
    assert refusal.value.field == "dust_limit_satoshis"


@bolt("accept_channel.2")
def test_each_side_binds_the_other_with_its_own_terms() -> None:
    house_of_bob = replaced_house(to_self_delay_blocks=7, max_accepted_htlcs=5, htlc_minimum_msat=Msat(9))
    alice, bob = opened_channel(house_of_bob=house_of_bob, is_ready=False)
    common = Terms(Sat(354), Msat(10_000_000_000), Sat(100_000), Msat(1), 144, 483)
    of_bob = replace(common, to_self_delay_blocks=7, max_accepted_htlcs=5, htlc_minimum_msat=Msat(9))
    assert alice.channel.charter.terms == Dual(common, of_bob)
    assert bob.channel.charter.terms == Dual(of_bob, common)
    assert alice.channel.charter.reserve_msat(Side.LOCAL) == 100_000_000
