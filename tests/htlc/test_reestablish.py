"""BOLT 2, message retransmission: what outlives a connection, and what is said again."""

import msgspec
import pytest

from htlc.closing import may_negotiate
from htlc.errors import UnexpectedMessage
from htlc.ladder import Paid, Rung
from htlc.limits import spendable_msat
from htlc.reestablish import disconnected, reestablish
from htlc.relay import SOON_BLOCKS
from htlc.steps import ready_message
from tests.bolt import bolt
from tests.htlc.parties import ONION, Party, close, drain, hash_of, opened_channel, play
from wire.messages.catalogue import decode
from wire.messages.channel import (
    CommitmentSigned,
    MyCurrentFundingLocked,
    NextFunding,
    StartBatch,
    UpdateAddHtlc,
)
from wire.messages.interactive import TxAbort
from wire.units import Msat


def reconnect(alice: Party, bob: Party) -> None:
    """Lose all that is under way, and take the channel up again; nothing is delivered after that."""
    for party in (alice, bob):
        party.outbox.clear()
        party.channel = disconnected(party.channel)
    greetings = [reestablish(party.channel, party.secrets) for party in (alice, bob)]
    alice.receive(greetings[1])
    bob.receive(greetings[0])


def said(party: Party) -> list[str]:
    """The names of what the party has to say."""
    return [type(decode(raw)).__name__ for raw in party.outbox]


@bolt("reestablish.4")
def test_a_channel_on_which_nothing_was_signed_says_again_that_it_is_ready() -> None:
    alice, bob = opened_channel()
    reconnect(alice, bob)
    assert [decode(raw) for raw in bob.outbox] == [ready_message(bob.channel, bob.secrets)]
    drain(alice, bob)
    play("add sig> <rev <sig rev>", alice, bob)


@bolt("reestablish.9")
def test_a_transaction_that_we_know_nothing_of_is_given_up() -> None:
    """We build none together with anybody, so we ask for none, and a peer that asks for one is told so."""
    alice, bob = play("add sig> <rev <sig rev>", *opened_channel())
    for party in (alice, bob):
        party.channel = disconnected(party.channel)
    greetings = [reestablish(party.channel, party.secrets) for party in (alice, bob)]
    assert [greeting.next_funding for greeting in greetings] == [None, None]
    bob.receive(msgspec.structs.replace(greetings[0], next_funding=NextFunding(hash_of(7), 1)))
    answer = decode(bob.outbox[-1])
    assert isinstance(answer, TxAbort)
    assert answer.channel_id == bob.channel.id
    # it comes back once, and the channel goes on
    before = bob.channel
    assert bob.receive(TxAbort(bob.channel.id)).channel == before
    bob.outbox.clear()
    alice.receive(greetings[1])
    play("add sig> <rev <sig rev>", alice, bob)


@bolt("reestablish.10")
def test_without_a_splice_nobody_speaks_of_the_funding_that_is_locked() -> None:
    """The record is for who agreed to splice; to us it changes nothing of what is said again."""
    alice, bob = opened_channel()
    alice.offer(1_000_000).sign()
    play("add sig>", alice, bob)
    for party in (alice, bob):
        party.channel = disconnected(party.channel)
        party.outbox.clear()
    greeting = reestablish(alice.channel, alice.secrets)
    assert greeting.my_current_funding_locked is None
    locked = MyCurrentFundingLocked(bob.channel.charter.funding_outpoint.txid, 1)
    before = bob.channel
    plain = list(bob.receive(greeting).outbox)
    bob.channel = before
    bob.outbox.clear()
    bob.receive(msgspec.structs.replace(greeting, my_current_funding_locked=locked))
    assert list(bob.outbox) == plain
    assert "RevokeAndAck" in said(bob)


@bolt("commitment_signed-revoke_and_ack.6")
def test_without_a_splice_no_batch_is_begun_and_one_that_is_changes_nothing() -> None:
    alice, bob = opened_channel()
    alice.offer(1_000_000).sign()
    assert said(alice) == ["UpdateAddHtlc", "CommitmentSigned"]
    before = bob.channel
    assert bob.receive(StartBatch(bob.channel.id, 2, CommitmentSigned.TYPE)).channel == before
    play("add sig> <rev <sig rev>", alice, bob)
    assert alice.rungs() == bob.rungs() == [Rung.LOCKED_IN]


@bolt("reestablish.2")
def test_what_the_peer_did_not_sign_is_forgotten_and_may_come_again() -> None:
    alice, bob = play("add> <add", *opened_channel())
    reconnect(alice, bob)
    assert alice.rungs() == bob.rungs() == [Rung.PROPOSED]
    assert (alice.channel.next_htlc_id.remote, bob.channel.next_htlc_id.remote) == (0, 0)
    drain(alice, bob)
    assert alice.rungs() == bob.rungs() == [Rung.LOCKED_IN] * 2


@bolt("reestablish.5", "reestablish.6")
def test_a_lost_revocation_and_a_lost_signature_keep_their_order() -> None:
    alice, bob = opened_channel()
    alice.offer(1_000_000).sign()
    bob.offer(1_000_000).sign()
    play("add> <add sig>", alice, bob)
    # Bob signed before he answered: his revocation came last
    assert said(bob) == ["CommitmentSigned", "RevokeAndAck"]
    reconnect(alice, bob)
    assert said(bob) == ["UpdateAddHtlc", "CommitmentSigned", "RevokeAndAck"]
    drain(alice, bob)
    assert alice.rungs() == bob.rungs() == [Rung.LOCKED_IN] * 2


@bolt("reestablish.5", "update_fee.1")
def test_a_lower_fee_is_said_before_the_adds_that_count_on_it() -> None:
    alice, bob = opened_channel(capacity_sat=100_000, push_msat=60_000_000, feerate_per_kw=10_000)
    alice.change_fee(253).offer(30_000_000).sign()
    alice.outbox.clear()
    reconnect(alice, bob)
    assert said(alice) == ["ChannelReady", "UpdateFee", "UpdateAddHtlc", "CommitmentSigned"]
    drain(alice, bob)
    assert bob.rungs() == [Rung.LOCKED_IN]


@bolt("reestablish.2", "update_fee.1")
def test_a_higher_fee_that_was_not_signed_is_forgotten() -> None:
    """Meanwhile the peer's adds may have become irrevocable, and the opener too poor for it."""
    alice, bob = opened_channel(capacity_sat=100_000, push_msat=80_000_000)
    alice.change_fee(15_000)
    for _ in range(10):
        bob.offer(2_000_000).deliver_one_to(alice)
    play("<sig", alice, bob)
    reconnect(alice, bob)
    assert alice.channel.fee_changes == ()
    drain(alice, bob)
    assert len(alice.offers) == 10


@bolt("reestablish.2", "update_add_htlc.2")
def test_an_add_that_was_not_signed_is_said_again_only_if_there_is_still_room() -> None:
    """Meanwhile the peer's adds may have become irrevocable, and cost their opener a fee."""
    alice, bob = opened_channel(capacity_sat=100_000, push_msat=80_000_000)
    most_msat = spendable_msat(alice.channel)
    alice.offer(most_msat - 500_000, 1).offer(400_000, 2)
    for number in range(10):
        bob.offer(2_000_000, number).deliver_one_to(alice)
    play("<sig", alice, bob)
    reconnect(alice, bob)
    assert said(alice) == ["RevokeAndAck", "UpdateAddHtlc"]
    # the one that stays takes the id of the one that is gone, of which the peer knows nothing
    assert [htlc.amount_msat for htlc in alice.channel.htlcs.local.values()] == [400_000]
    assert (list(alice.channel.htlcs.local), alice.channel.next_htlc_id.local) == ([0], 1)
    assert [(gone.payment_hash, gone.origin) for gone in alice.withdrawn] == [(hash_of(1), Paid(1))]
    drain(alice, bob)
    assert (len(alice.offers), len(bob.offers)) == (10, 1)


@bolt("reestablish.2", "forwarding-safety.3")
def test_an_add_whose_time_is_over_is_not_said_again() -> None:
    """Upstream it has been failed, or soon will be: nobody may be paid for it any more."""
    alice, bob = opened_channel()
    soon = alice.climate.height + SOON_BLOCKS
    alice.offer(1_000_000, 1, soon).offer(1_000_000, 2, soon + 1)
    reconnect(alice, bob)
    assert [htlc.payment_hash for htlc in alice.channel.htlcs.local.values()] == [hash_of(2)]
    assert [gone.payment_hash for gone in alice.withdrawn] == [hash_of(1)]


@bolt("shutdown.1")
def test_an_add_that_was_not_signed_is_not_said_again_once_the_peer_shuts_down() -> None:
    alice, bob = opened_channel()
    alice.offer(1_000_000, 1)
    bob.shut_down().deliver_one_to(alice)
    reconnect(alice, bob)
    assert said(alice) == ["ChannelReady"]
    assert [gone.payment_hash for gone in alice.withdrawn] == [hash_of(1)]


@bolt("shutdown.1", "reestablish.8")
def test_who_has_said_shutdown_adds_nothing_on_the_next_connection_either() -> None:
    """Or it could take what we pass on with the closing transaction that both have signed already."""
    alice, bob = opened_channel()
    close(alice, bob)
    add = UpdateAddHtlc(bob.channel.id, 0, Msat(1_000_000), hash_of(0), 200, bytes(1366))
    for _ in range(2):
        reconnect(alice, bob)
        for party in (alice, bob):
            with pytest.raises(UnexpectedMessage):
                party.receive(add)
    drain(alice, bob)
    assert may_negotiate(alice.channel)
    assert may_negotiate(bob.channel)


@bolt("shutdown.1", "reestablish.8")
def test_what_was_added_before_shutdown_arrived_may_still_come() -> None:
    alice, bob = opened_channel()
    bob.offer(1_000_000).sign()
    alice.shut_down()
    reconnect(alice, bob)
    assert said(alice) == ["ChannelReady", "Shutdown"]
    drain(alice, bob)
    assert len(alice.offers) == 1


@bolt("reestablish.5")
def test_an_onion_is_kept_while_it_may_have_to_be_said_again_or_read() -> None:
    alice, bob = opened_channel()
    onions = []
    for moment in ("add>", "sig>", "<rev", "<sig", "rev>"):
        play(moment, alice, bob)
        onions.append((alice.channel.htlcs.local[0].onion, bob.channel.htlcs.remote[0].onion))
    assert onions == [(ONION, ONION)] * 2 + [(None, ONION)] * 3
