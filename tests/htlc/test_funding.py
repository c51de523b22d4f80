"""BOLT 2, channel establishment v1: the first commitments, and when the channel is ready."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from htlc import opening, steps
from htlc.channel import Phase
from htlc.errors import NotUsable, UnexpectedMessage, WrongSignature
from htlc.ladder import LOCAL, REMOTE, Dual
from htlc.opening import Wish
from htlc.transactions import funding_witness
from node.chain.kernel import first_unsigned_input
from tests.bolt import bolt
from tests.htlc.parties import (
    ALICE_ID,
    ALL_FEATURES,
    ANCHORS,
    BOB_ID,
    FUNDING_OUTPOINT,
    HOUSE,
    Party,
    drain,
    opened_channel,
    play,
    secrets_of,
)
from tests.htlc.spoiled import both_types, each_spoiling
from wire.bitcoin.script import p2wsh
from wire.bitcoin.tx import OutPoint, TxOut
from wire.crypto import secp256k1
from wire.messages.channel import ChannelReady, FundingSigned
from wire.units import Msat, Sat

ALICE, BOB = secrets_of("alice"), secrets_of("bob")
TEMPORARY_ID = b"\x01" * 32
A_WISH = Wish(Sat(1_000_000), Msat(0), 253, ANCHORS, True)


# --- funding_created and funding_signed


@both_types
@bolt("funding_created-funding_signed.2", "funding_created-funding_signed.3", "open_channel.4")
def test_both_end_up_with_one_channel_seen_from_two_sides(channel_type: bytes) -> None:
    alice, bob = opened_channel(push_msat=3_000, channel_type=channel_type, is_ready=False)
    ours, theirs = alice.channel, bob.channel
    assert ours.phase is theirs.phase is Phase.AWAITING_FUNDING
    assert ours.settled_msat == theirs.settled_msat.swapped() == Dual(9_999_997_000, 3_000)
    assert ours.charter.terms == theirs.charter.terms.swapped()
    assert ours.charter.basepoints == theirs.charter.basepoints.swapped() == Dual(*BASEPOINTS)
    assert (ours.charter.opener, theirs.charter.opener) == (LOCAL, REMOTE)
    assert ours.charter.channel_type == theirs.charter.channel_type == channel_type
    assert ours.charter.format is opening.format_of(channel_type)
    assert ours.id == theirs.id == b"\x02" * 31 + b"\x03"
    assert alice.their_commitment().unsigned == bob.our_commitment().unsigned
    assert bob.their_commitment().unsigned == alice.our_commitment().unsigned


BASEPOINTS = ALICE.basepoints(), BOB.basepoints()


@both_types
@bolt("funding_created-funding_signed.1", "funding_created-funding_signed.2")
def test_both_hold_a_first_commitment_that_the_chain_would_take(channel_type: bytes) -> None:
    alice, bob = opened_channel(channel_type=channel_type, is_ready=False)
    assert [is_publishable(party) for party in (alice, bob)] == [True, True]


def is_publishable(party: Party) -> bool:
    """Whether our newest commitment spends the funding output with both signatures."""
    charter, commitment = party.channel.charter, party.our_commitment()
    witness = funding_witness(
        charter.funding_script,
        charter.basepoints.local.funding_pubkey,
        secp256k1.sign(party.secrets.funding, commitment.sighash),
        charter.basepoints.remote.funding_pubkey,
        party.channel.remote_signature,
    )
    funding = TxOut(charter.funding_sat, p2wsh(charter.funding_script))
    return first_unsigned_input(commitment.tx.with_witness(0, witness), [funding]) is None


@bolt("funding_created-funding_signed.3")
def test_the_channels_id_mixes_the_outputs_index_into_the_txid() -> None:
    assert opening.channel_id_of(OutPoint(b"\xaa" * 32, 0x0102)) == b"\xaa" * 30 + b"\xab\xa8"
    assert opening.channel_id_of(OutPoint(b"\xaa" * 32, 0)) == b"\xaa" * 32
    assert opening.channel_id_of(OutPoint(b"\xaa" * 32, 0xFFFF)) == b"\xaa" * 30 + b"\x55\x55"


def an_agreement() -> tuple[opening.AwaitingCreated, opening.Agreed]:
    stage, proposal = opening.propose(HOUSE, ALL_FEATURES, A_WISH, BOB_ID, 0, ALICE, TEMPORARY_ID)
    awaiting, answer = opening.accept(HOUSE, ALL_FEATURES, proposal, ALICE_ID, 0, BOB)
    return awaiting, opening.receive_accept(stage, answer)


@bolt("funding_created-funding_signed.2")
@each_spoiling
def test_the_accepter_takes_no_other_signature(spoil: Callable[[bytes], bytes]) -> None:
    awaiting, agreed = an_agreement()
    _, created = opening.fund(agreed, FUNDING_OUTPOINT, ALICE)
    with pytest.raises(WrongSignature):
        opening.receive_created(awaiting, replace(created, signature=spoil(created.signature)), BOB)


@bolt("funding_created-funding_signed.1", "funding_created-funding_signed.2")
@each_spoiling
def test_the_opener_takes_no_other_signature_before_it_pays(spoil: Callable[[bytes], bytes]) -> None:
    awaiting, agreed = an_agreement()
    signing, created = opening.fund(agreed, FUNDING_OUTPOINT, ALICE)
    _, signed = opening.receive_created(awaiting, created, BOB)
    with pytest.raises(WrongSignature):
        opening.receive_signed(signing, replace(signed, signature=spoil(signed.signature)), ALICE)


@bolt("funding_created-funding_signed.2")
def test_a_signature_on_another_outpoint_is_none_on_this_one() -> None:
    awaiting, agreed = an_agreement()
    _, created = opening.fund(agreed, FUNDING_OUTPOINT, ALICE)
    with pytest.raises(WrongSignature):
        opening.receive_created(awaiting, replace(created, funding_output_index=2), BOB)


@bolt("funding_created-funding_signed.3")
def test_a_funding_message_for_another_channel_is_none_for_this_one() -> None:
    awaiting, agreed = an_agreement()
    signing, created = opening.fund(agreed, FUNDING_OUTPOINT, ALICE)
    with pytest.raises(UnexpectedMessage):
        opening.receive_created(awaiting, replace(created, temporary_channel_id=bytes(32)), BOB)
    _, signed = opening.receive_created(awaiting, created, BOB)
    with pytest.raises(UnexpectedMessage):
        opening.receive_signed(signing, FundingSigned(bytes(32), signed.signature), ALICE)


@bolt("funding_created-funding_signed.1")
def test_the_funding_output_is_the_2_of_2_of_both_funding_keys() -> None:
    _, agreed = an_agreement()
    alice, _ = opened_channel(is_ready=False)
    assert agreed.funding_output_script == p2wsh(alice.channel.charter.funding_script)


# --- channel_ready


@bolt("open_channel.10", "channel_ready.1")
def test_what_was_pushed_is_worth_nothing_before_the_channel_is_ready() -> None:
    alice, bob = opened_channel(is_ready=False)
    for party in (alice, bob):
        with pytest.raises(NotUsable):
            party.offer(1_000)
    play("ready>", alice, bob)
    for party in (alice, bob):
        with pytest.raises(NotUsable):
            party.offer(1_000)
    play("<ready", alice, bob)
    play("<add <sig rev> sig> <rev", alice, bob)
    assert len(alice.offers) == 1


@bolt("channel_ready.2")
def test_channel_ready_carries_the_point_of_commitment_1() -> None:
    alice, bob = opened_channel(is_ready=False)
    alice.confirm()
    message = alice.deliver_one_to(bob)
    assert message == steps.ready_message(alice.channel, ALICE)
    assert bob.channel.remote_next_point == ALICE.per_commitment_point(1)
    assert bob.channel.is_ready == alice.channel.is_ready.swapped() == Dual(False, True)
    assert [party.channel.phase for party in (alice, bob)] == [Phase.AWAITING_FUNDING] * 2
    play("<ready", alice, bob)
    assert [party.channel.phase for party in (alice, bob)] == [Phase.NORMAL] * 2


@bolt("channel_ready.2")
def test_a_channel_is_ready_once() -> None:
    alice, bob = opened_channel()
    ready = ChannelReady(bob.channel.id, BOB.per_commitment_point(1))
    play("add sig> <rev <sig rev>", alice, bob)
    before = alice.channel
    alice.receive(replace(ready, second_per_commitment_point=ALICE_ID)).confirm()
    assert alice.channel is before
    assert not alice.outbox


@bolt("shutdown.1", "channel_ready.2")
@pytest.mark.parametrize("order", ["shut> ready> <ready", "<shut ready> <ready", "ready> shut> <ready"])
def test_a_channel_that_is_closing_already_never_opens(order: str) -> None:
    alice, bob = play(order, *opened_channel(is_ready=False))
    drain(alice, bob)
    for party in (alice, bob):
        assert party.channel.phase is Phase.SHUTTING_DOWN
        with pytest.raises(NotUsable):
            party.offer(1_000)


@bolt("channel_ready.1")
def test_the_place_of_the_funding_transaction_comes_and_goes_with_its_block() -> None:
    alice, _ = opened_channel(is_ready=False)
    mined = steps.mined(alice.channel, 1 << 40).channel
    assert mined.short_channel_id == 1 << 40
    assert steps.mined(mined, None).channel == alice.channel
