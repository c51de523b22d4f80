"""BOLT 2, commitment_signed and revoke_and_ack: the dance by which both sides come to agree."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from htlc.errors import (
    FailChannel,
    NothingToSign,
    NotUsable,
    UnexpectedMessage,
    WrongSecret,
    WrongSignature,
    WrongSignatureCount,
)
from htlc.keys import derive_privkey
from htlc.ladder import LOCAL, REMOTE, Dual, Fulfilled, Rung
from htlc.steps import has_to_sign
from htlc.transactions import ChannelFormat, funding_witness, htlc_success_witness, htlc_timeout_witness
from node.chain.kernel import first_unsigned_input
from tests.bolt import bolt
from tests.htlc.parties import (
    FUNDING_OUTPOINT,
    Party,
    drain,
    opened_channel,
    play,
    preimage_of,
)
from tests.htlc.spoiled import GROUP_ORDER, both_types, each_spoiling
from wire.bitcoin.script import p2wsh
from wire.bitcoin.tx import TxOut
from wire.crypto.secp256k1 import point_of, sign
from wire.messages.channel import CommitmentSigned, RevokeAndAck

P, S, A, AS, L = Rung


def numbers(*parties: Party) -> list[Dual[int]]:
    return [party.channel.number for party in parties]


# --- the ladder


def test_an_htlc_is_locked_in_after_both_have_revoked() -> None:
    alice, bob = play("add sig> <rev <sig rev>", *opened_channel())
    assert alice.rungs() == bob.rungs() == [Rung.LOCKED_IN]


def test_each_message_lifts_the_update_by_one_rung() -> None:
    alice, bob = opened_channel()
    seen = []
    for moment in ("add>", "sig>", "<rev", "<sig", "rev>"):
        play(moment, alice, bob)
        seen.append((alice.rungs()[0], bob.rungs()[0]))
    # who revokes at once is one rung further than who has not heard of it yet
    assert seen == [(P, P), (S, A), (A, A), (L, AS), (L, L)]


def test_a_removal_climbs_the_same_ladder_the_other_way() -> None:
    alice, bob = play("add sig> <rev <sig rev>", *opened_channel())
    seen = []
    for moment in ("<ful", "<sig", "rev>", "sig>"):
        play(moment, alice, bob)
        seen.append((alice.rungs(), bob.rungs()))
    assert seen == [([P], [P]), ([A], [S]), ([A], [A]), ([AS], [])]
    play("<rev", alice, bob)
    assert alice.rungs() == bob.rungs() == []
    assert alice.balances_msat == bob.balances_msat[::-1] == (4_999_000_000, 5_001_000_000)


@pytest.mark.parametrize(
    "story",
    [
        "add sig> <rev <sig rev>",
        "add add sig> <rev <sig rev>",
        "add sig> add> <rev <sig rev> sig> <rev <sig rev>",
        "add> <add sig> <rev <sig rev> sig> <rev",
        "add> <add <sig rev> sig> <rev <sig rev>",
        "add> <add fee sig> <rev <sig rev> sig> <rev",
        "add sig> <rev <add <sig rev> sig> <rev",
        "fee sig> <rev <sig rev>",
    ],
)
def test_whatever_the_order_both_end_with_the_same_two_transactions(story: str) -> None:
    alice, bob = play(story, *opened_channel())
    assert set(alice.rungs()) <= {Rung.LOCKED_IN}
    assert not has_to_sign(alice.channel)
    assert not has_to_sign(bob.channel)
    assert alice.their_commitment().unsigned == bob.our_commitment().unsigned
    assert bob.their_commitment().unsigned == alice.our_commitment().unsigned


def test_signatures_that_cross_are_both_answered() -> None:
    alice, bob = opened_channel()
    alice.offer(1_000_000).sign()
    bob.offer(2_000_000).sign()
    play("add> <add sig> <sig rev> <rev", alice, bob)
    assert alice.rungs() == bob.rungs()[::-1] == [Rung.ACKED, Rung.ACKED]
    play("sig> <rev <sig rev>", alice, bob)
    assert alice.rungs() == bob.rungs() == [Rung.LOCKED_IN, Rung.LOCKED_IN]
    assert numbers(alice, bob) == [Dual(2, 2), Dual(2, 2)]


# --- commitment_signed


@bolt("commitment_signed-revoke_and_ack.1")
def test_nothing_is_signed_without_an_update() -> None:
    alice, bob = opened_channel()
    with pytest.raises(NotUsable):
        alice.sign()
    play("add sig> <rev <sig rev>", alice, bob)
    for party in (alice, bob):
        with pytest.raises(NotUsable):
            party.sign()


@bolt("commitment_signed-revoke_and_ack.1")
def test_a_signature_over_nothing_costs_the_peer_its_connection() -> None:
    alice, bob = opened_channel()
    alice.offer(1_000_000).sign()
    with pytest.raises(NothingToSign):
        bob.receive(CommitmentSigned(bob.channel.id, bytes(64)))
    play("add sig>", alice, bob)
    with pytest.raises(NothingToSign):
        bob.receive(CommitmentSigned(bob.channel.id, bytes(64)))


@bolt("commitment_signed-revoke_and_ack.1")
def test_one_signature_is_under_way_at_a_time() -> None:
    alice, bob = opened_channel()
    play("add sig> add>", alice, bob)
    with pytest.raises(NotUsable):
        alice.sign()
    play("<rev sig>", alice, bob)
    assert alice.channel.number == Dual(0, 2)


@both_types
@bolt("commitment_signed-revoke_and_ack.1")
def test_one_signature_for_each_htlc_with_an_output_in_their_order(channel_type: bytes) -> None:
    alice, bob = opened_channel(channel_type=channel_type, feerate_per_kw=1000)
    amounts = (3_000_000, 353_999, 9_000_000, 1, 6_000_000)
    for number, amount_msat in enumerate(amounts):
        alice.offer(amount_msat, number)
    drain(alice, bob, is_signing=False)
    alice.sign()
    message = alice.deliver_one_to(bob)
    assert isinstance(message, CommitmentSigned)
    second_stages = bob.our_commitment().htlcs
    assert [second.htlc.amount_msat for second in second_stages] == [3_000_000, 6_000_000, 9_000_000]
    htlc_key = derive_privkey(alice.secrets.htlc, bob.secrets.per_commitment_point(1))
    assert message.htlc_signature == tuple(sign(htlc_key, each.sighash_for_other) for each in second_stages)


@bolt("commitment_signed-revoke_and_ack.3")
def test_a_signature_names_the_funding_that_it_spends() -> None:
    alice, bob = opened_channel()
    alice.offer(1_000_000).sign()
    alice.deliver_one_to(bob)
    message = alice.deliver_one_to(bob)
    assert isinstance(message, CommitmentSigned)
    assert message.funding_txid == FUNDING_OUTPOINT.txid


@bolt("commitment_signed-revoke_and_ack.3")
def test_old_peers_need_not_name_it() -> None:
    alice, bob = opened_channel()
    alice.offer(1_000_000).sign().deliver_one_to(bob)
    message = alice.next_message()
    assert isinstance(message, CommitmentSigned)
    bob.receive(replace(message, funding_txid=None))
    assert bob.rungs() == [Rung.ACKED]


def a_signature(htlcs: int) -> tuple[Party, CommitmentSigned]:
    """Bob, and the signature with so many HTLCs that he is about to get."""
    alice, bob = opened_channel()
    for number in range(htlcs):
        alice.offer(1_000_000 * (number + 1), number)
    alice.sign()
    for _ in range(htlcs):
        alice.deliver_one_to(bob)
    message = alice.next_message()
    assert isinstance(message, CommitmentSigned)
    return bob, message


@each_spoiling
@bolt("commitment_signed-revoke_and_ack.1")
def test_a_signature_that_does_not_hold_costs_the_peer_its_connection(
    spoil: Callable[[bytes], bytes],
) -> None:
    bob, message = a_signature(htlcs=1)
    before = bob.channel
    with pytest.raises(WrongSignature):
        bob.receive(replace(message, signature=spoil(message.signature)))
    assert bob.channel is before
    assert not bob.outbox
    bob.receive(message)


@each_spoiling
@bolt("commitment_signed-revoke_and_ack.1", "commitment_signed-revoke_and_ack.2")
def test_so_does_one_bad_htlc_signature_among_good_ones(spoil: Callable[[bytes], bytes]) -> None:
    bob, message = a_signature(htlcs=3)
    good = message.htlc_signature
    for place in range(3):
        spoiled = (*good[:place], spoil(good[place]), *good[place + 1 :])
        with pytest.raises(WrongSignature):
            bob.receive(replace(message, htlc_signature=spoiled))
    with pytest.raises(WrongSignature):
        bob.receive(replace(message, htlc_signature=good[::-1]))
    bob.receive(message)


@bolt("commitment_signed-revoke_and_ack.1")
def test_the_count_of_htlc_signatures_must_match() -> None:
    bob, message = a_signature(htlcs=2)
    good = message.htlc_signature
    for wrong in ((), good[:1], (*good, good[0])):
        with pytest.raises(WrongSignatureCount) as refusal:
            bob.receive(replace(message, htlc_signature=wrong))
        assert (refusal.value.count, refusal.value.expected) == (len(wrong), 2)


@both_types
@bolt("commitment_signed-revoke_and_ack.2", "commitment_signed-revoke_and_ack.4")
def test_what_we_hold_after_each_dance_can_go_to_chain(channel_type: bytes) -> None:
    """Commitment and both kinds of second stage, with the peer's signatures as they came."""
    alice, bob = opened_channel(channel_type=channel_type)
    play("add> <add sig> <rev <sig rev> sig> <rev", alice, bob)
    for party in (alice, bob):
        assert party.channel.charter.format in ChannelFormat
        publish(party)


def publish(party: Party) -> None:
    """Spend the funding output with our commitment, and its HTLCs with their second stages."""
    charter, commitment = party.channel.charter, party.our_commitment()
    keys = charter.basepoints.local.funding_pubkey, charter.basepoints.remote.funding_pubkey
    ours = sign(party.secrets.funding, commitment.sighash)
    witness = funding_witness(charter.funding_script, keys[0], ours, keys[1], party.channel.remote_signature)
    funding = TxOut(charter.funding_sat, p2wsh(charter.funding_script))
    assert first_unsigned_input(commitment.tx.with_witness(0, witness), [funding]) is None
    point = party.secrets.per_commitment_point(party.channel.number.local)
    htlc_key = derive_privkey(party.secrets.htlc, point)
    assert len(commitment.htlcs) == 2
    for second, theirs in zip(commitment.htlcs, party.channel.remote_htlc_signatures, strict=True):
        mine = sign(htlc_key, second.sighash_for_owner)
        stack = (
            htlc_timeout_witness(second, theirs, mine)
            if second.htlc.is_offered
            else htlc_success_witness(second, theirs, mine, preimage_of(0))
        )
        spent = commitment.tx.outputs[second.output_index]
        assert first_unsigned_input(second.tx.with_witness(0, stack), [spent]) is None


# --- revoke_and_ack


@bolt("commitment_signed-revoke_and_ack.4")
def test_a_signature_is_answered_once_with_the_secret_and_the_point_after_the_next() -> None:
    alice, bob = opened_channel()
    for number in range(3):
        alice.offer(1_000_000, number)
        drain(alice, bob, is_signing=False)
        alice.sign().deliver_one_to(bob)
        (revocation,) = bob.outbox
        message = bob.deliver_one_to(alice)
        assert revocation[:2] == b"\x00\x85"
        assert message == RevokeAndAck(
            bob.channel.id,
            per_commitment_secret=bob.secrets.per_commitment_secret(number),
            next_per_commitment_point=bob.secrets.per_commitment_point(number + 2),
        )
        assert not bob.outbox


@bolt("commitment_signed-revoke_and_ack.5")
def test_every_revoked_secret_is_kept() -> None:
    alice, bob = opened_channel()
    for _ in range(20):
        play("add sig> <rev <sig rev> <ful <sig rev> sig> <rev", alice, bob)
    for party, other in ((alice, bob), (bob, alice)):
        assert party.channel.number == Dual(40, 40)
        assert party.channel.shachain.revealed == 40
        secrets = [party.channel.shachain.secret_of_commitment(number) for number in range(40)]
        assert secrets == [other.secrets.per_commitment_secret(number) for number in range(40)]
        assert len(party.channel.shachain.known) <= 6


@bolt("commitment_signed-revoke_and_ack.5")
def test_what_a_revoked_commitment_held_is_known_when_the_htlc_is_gone() -> None:
    alice, bob = play("add sig> <rev <sig rev>", *opened_channel())
    play("<ful <sig rev> sig>", alice, bob)
    # Bob signed Alice's commitment 1 with it and her commitment 2 without
    assert [(htlc.id, htlc.proposer, htlc.entered, htlc.left) for htlc in bob.gone] == [(0, REMOTE, 1, 2)]
    assert not alice.gone
    play("<rev", alice, bob)
    assert [(htlc.id, htlc.proposer, htlc.entered, htlc.left) for htlc in alice.gone] == [(0, LOCAL, 1, 2)]


@bolt("commitment_signed-revoke_and_ack.4")
@pytest.mark.parametrize(
    "secret",
    [bytes(32), b"\xff" * 32, GROUP_ORDER.to_bytes(32, "big"), b"\x01" * 32],
    ids=["zero", "ones", "order", "another"],
)
def test_a_wrong_secret_fails_the_channel(secret: bytes) -> None:
    alice, bob = opened_channel()
    play("add sig>", alice, bob)
    message = bob.next_message()
    assert isinstance(message, RevokeAndAck)
    before = alice.channel
    with pytest.raises(WrongSecret):
        alice.receive(replace(message, per_commitment_secret=secret))
    assert alice.channel is before
    assert issubclass(WrongSecret, FailChannel)
    alice.receive(message)


@bolt("commitment_signed-revoke_and_ack.4")
def test_a_secret_that_is_not_of_the_tree_fails_the_channel() -> None:
    """Its point is the one that was announced, but it does not yield the secrets before it."""
    alice, bob = opened_channel()
    play("add sig> <rev <sig rev>", alice, bob)
    rogue = b"\x07" * 32
    alice.channel = replace(alice.channel, remote_point=point_of(rogue))
    alice.offer(1_000_000).sign()
    with pytest.raises(WrongSecret):
        alice.receive(RevokeAndAck(alice.channel.id, rogue, point_of(b"\x08" * 32)))


@bolt("commitment_signed-revoke_and_ack.4")
def test_a_revocation_that_nobody_waits_for_costs_the_peer_its_connection() -> None:
    alice, bob = opened_channel()
    message = RevokeAndAck(alice.channel.id, bob.secrets.per_commitment_secret(0), point_of(b"\x08" * 32))
    with pytest.raises(UnexpectedMessage):
        alice.receive(message)
    play("add sig> <rev", alice, bob)
    with pytest.raises(UnexpectedMessage):
        alice.receive(message)


@bolt("commitment_signed-revoke_and_ack.5")
def test_our_newest_commitment_is_one_that_we_have_not_revoked() -> None:
    alice, bob = opened_channel()
    for story in ("add sig>", "<rev", "<sig", "rev>", "<ful <sig", "rev>", "sig>", "<rev"):
        play(story, alice, bob)
        for party, other in ((alice, bob), (bob, alice)):
            assert party.channel.number.local >= other.channel.shachain.revealed


# --- before, and after


@bolt("commitment_signed-revoke_and_ack.1")
def test_no_dance_begins_before_the_channel_is_ready() -> None:
    alice, bob = opened_channel(is_ready=False)
    with pytest.raises(NotUsable):
        alice.sign()
    for message in (
        CommitmentSigned(bob.channel.id, bytes(64)),
        RevokeAndAck(bob.channel.id, bytes(32), point_of(b"\x08" * 32)),
    ):
        with pytest.raises(UnexpectedMessage):
            bob.receive(message)


def test_a_batch_costs_one_dance() -> None:
    alice, bob = opened_channel()
    for number in range(50):
        alice.offer(1_000_000, number)
    drain(alice, bob)
    assert numbers(alice, bob) == [Dual(1, 1), Dual(1, 1)]
    for htlc_id in range(50):
        bob.remove(htlc_id, Fulfilled(preimage_of(htlc_id)))
    drain(alice, bob)
    assert numbers(alice, bob) == [Dual(2, 2), Dual(2, 2)]
    assert alice.balances_msat == (4_950_000_000, 5_050_000_000)
    assert [settled.htlc.id for settled in alice.settled] == list(range(50))
