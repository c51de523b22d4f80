"""BOLT 2 and 3, option_simple_close: two closing transactions, each paid for by who offers it."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from htlc.channel import Phase
from htlc.closing import closing_fee_sat, may_negotiate
from htlc.errors import (
    BadShutdownScript,
    NotUsable,
    UnacceptableClosingFee,
    UnexpectedMessage,
    Warn,
    WrongSignature,
)
from htlc.ladder import LOCAL, Dual
from htlc.simple_close import (
    CannotPayClosingFee,
    Form,
    MissingClosingSignature,
    OutdatedClosingScript,
    WrongClosingSig,
    closing_transaction,
)
from htlc.transactions import dust_limit_for
from tests.bolt import bolt
from tests.htlc.closing_stage import is_valid
from tests.htlc.parties import HEIGHT, Party, opened_channel, play
from tests.htlc.simple_stage import (
    CAPACITY_SAT,
    FEE_SAT,
    OP_RETURN,
    after_shutdown,
    an_offer_of,
    both_negotiate,
    deliver_all,
    forms_in,
    negotiate,
    propose,
    reconnect,
    tell,
)
from tests.htlc.spoiled import each_spoiling
from wire.bitcoin.tx import Transaction, TxOut
from wire.crypto.secp256k1 import sign
from wire.messages.channel import ClosingComplete, ClosingSig, Shutdown
from wire.units import Sat

P2TR, P2WSH = b"\x51\x20" + b"\x07" * 32, b"\x00\x20" + b"\x08" * 32
ONLY_CLOSER, ONLY_CLOSEE, BOTH = (Form.CLOSER_ONLY,), (Form.CLOSEE_ONLY,), (Form.BOTH,)
RICHER = (Form.CLOSER_ONLY, Form.BOTH)


def values_sat(transaction: Transaction) -> dict[bytes, int]:
    return {output.script: int(output.value_sat) for output in transaction.outputs}


def said(party: Party) -> ClosingComplete:
    message = party.next_message()
    assert isinstance(message, ClosingComplete)
    return message


def signed(party: Party) -> ClosingSig:
    message = party.next_message()
    assert isinstance(message, ClosingSig)
    return message


# --- shutdown


@bolt("shutdown.2")
@pytest.mark.parametrize(
    "script",
    [
        b"\x6a\x06" + bytes(6),
        b"\x6a\x4b" + bytes(75),
        b"\x6a\x4c\x4c" + bytes(76),
        b"\x6a\x4c\x50" + bytes(80),
    ],
)
def test_an_output_may_be_burned_if_both_close_simply(script: bytes) -> None:
    alice, bob = opened_channel()
    bob.script = script
    bob.shut_down()
    tell(alice, bob.next_message())
    assert alice.channel.closing.scripts.remote == script


@bolt("shutdown.2")
@pytest.mark.parametrize(
    "script",
    [
        b"\x6a",
        b"\x6a\x05" + bytes(5),
        b"\x6a\x06" + bytes(5),
        b"\x6a\x06" + bytes(7),
        b"\x6a\x4c",
        b"\x6a\x4c\x4b" + bytes(75),
        b"\x6a\x4c\x4c" + bytes(77),
        b"\x6a\x4c\x51" + bytes(81),
        b"\x6a\x4d\x06\x00" + bytes(6),
        b"\x6a\x06" + bytes(6) + b"\x06" + bytes(6),
    ],
)
def test_only_one_push_of_the_agreed_length_may_be_burned_with(script: bytes) -> None:
    _, bob = opened_channel()
    with pytest.raises(BadShutdownScript):
        tell(bob, Shutdown(bob.channel.id, script))


# --- two transactions


@bolt("simple-close.1")
def test_each_side_pays_for_its_own_transaction() -> None:
    alice, bob = after_shutdown(push_msat=4_000_000_000)
    both_negotiate(alice, bob, (1000, 2000))
    assert alice.channel.phase is bob.channel.phase is Phase.CLOSING
    assert {each.txid for each in alice.broadcast} == {each.txid for each in bob.broadcast}
    of_bob, of_alice = alice.broadcast
    assert values_sat(of_alice) == {alice.script: 6_000_000 - FEE_SAT, bob.script: 4_000_000}
    assert values_sat(of_bob) == {alice.script: 6_000_000, bob.script: 4_000_000 - 2 * FEE_SAT}
    assert all(is_valid(transaction, alice) for transaction in (of_alice, of_bob))


@bolt("simple-close.1")
def test_one_side_alone_closes_too() -> None:
    alice, bob = after_shutdown()
    negotiate(bob)
    deliver_all(alice, bob)
    assert bob.channel.phase is Phase.CLOSING
    assert alice.broadcast == bob.broadcast != []
    # Alice has not made her own offer yet, and is still asked for it
    assert may_negotiate(alice.channel)
    negotiate(alice)
    assert alice.channel.phase is Phase.CLOSING


@bolt("simple-close.1")
def test_another_offer_waits_for_the_answer_to_the_last_one() -> None:
    alice, bob = after_shutdown()
    negotiate(alice)
    with pytest.raises(NotUsable):
        propose(alice, 2000)
    deliver_all(alice, bob)
    propose(alice, 2000)
    deliver_all(alice, bob)
    first, second = alice.broadcast
    assert alice.broadcast == bob.broadcast
    assert values_sat(second)[alice.script] == 6_000_000 - 2 * FEE_SAT
    assert first.inputs[0].outpoint == second.inputs[0].outpoint
    assert is_valid(second, alice)


@bolt("simple-close.1")
def test_a_later_offer_pays_for_its_own_relay_whatever_its_feerate() -> None:
    alice, bob = after_shutdown()
    negotiate(alice)
    deliver_all(alice, bob)
    for feerate_per_kw in (1000, 253):
        propose(alice, feerate_per_kw)
        deliver_all(alice, bob)
    fees_sat = [CAPACITY_SAT - sum(values_sat(each).values()) for each in alice.broadcast]
    vsize = alice.broadcast[0].vsize
    assert all(later >= earlier + vsize for earlier, later in pairwise(fees_sat))


def test_nothing_is_offered_before_both_have_said_shutdown() -> None:
    alice, bob = play("shut>", *opened_channel())
    with pytest.raises(NotUsable):
        propose(bob)
    stranger, _ = after_shutdown()
    with pytest.raises(UnexpectedMessage):
        tell(alice, an_offer_of(stranger, RICHER))


def test_nothing_is_signed_while_an_htlc_is_left() -> None:
    alice, bob = play("add sig> <rev <sig rev> shut> <shut", *opened_channel())
    with pytest.raises(UnexpectedMessage):
        tell(bob, an_offer_of(alice, RICHER))


# --- what an offer says


@bolt("simple-close.2")
def test_the_transaction_can_be_replaced_and_has_the_chosen_locktime() -> None:
    alice, bob = after_shutdown()
    both_negotiate(alice, bob)
    for transaction in alice.broadcast:
        assert transaction.locktime == HEIGHT
        assert [txin.sequence for txin in transaction.inputs] == [0xFFFFFFFD]
        assert transaction.version == 2


@bolt("simple-close.2")
def test_any_locktime_is_signed() -> None:
    alice, bob = after_shutdown()
    tell(bob, an_offer_of(alice, RICHER, locktime=700_000))
    assert bob.broadcast[0].locktime == signed(bob).locktime == 700_000


@bolt("simple-close.2")
def test_nobody_pays_more_than_it_has() -> None:
    alice, bob = after_shutdown()
    with pytest.raises(UnacceptableClosingFee):
        tell(bob, an_offer_of(alice, RICHER, fee_sat=6_000_001, script=OP_RETURN))
    tell(alice, an_offer_of(bob, ONLY_CLOSEE, fee_sat=4_000_000))
    assert values_sat(alice.broadcast[0]) == {alice.script: 6_000_000}


@bolt("simple-close.2")
def test_the_fee_is_what_the_feerate_costs() -> None:
    alice, _ = after_shutdown()
    negotiate(alice, 5000)
    offer = said(alice)
    assert offer.fee_satoshis == closing_fee_sat(alice.channel.closing.scripts, 5000)


@bolt("simple-close.2")
def test_who_is_richer_pays_no_fee_that_eats_its_output() -> None:
    alice, bob = after_shutdown(push_msat=0)
    alice.channel = replace(alice.channel, settled_msat=Dual(alice.channel.settled_msat.local, 0))
    negotiate(alice, 100_000_000)
    assert said(alice).fee_satoshis == CAPACITY_SAT - dust_limit_for(alice.script)
    assert not bob.broadcast


@bolt("simple-close.2")
@pytest.mark.parametrize("balance_sat", [0, 100, 170])
def test_who_cannot_pay_a_relayed_fee_waits_for_the_other_offer(balance_sat: int) -> None:
    alice, bob = after_shutdown(push_msat=balance_sat * 1000)
    assert not negotiate(bob).outbox
    with pytest.raises(CannotPayClosingFee):
        propose(bob)
    negotiate(alice)
    deliver_all(alice, bob)
    assert bob.channel.phase is Phase.CLOSING
    assert alice.broadcast == bob.broadcast
    assert values_sat(bob.broadcast[0]) == {alice.script: CAPACITY_SAT - balance_sat - FEE_SAT}


@bolt("simple-close.2")
def test_the_last_named_script_is_paid() -> None:
    alice, bob = after_shutdown()
    both_negotiate(alice, bob)
    propose(alice, 2000, P2TR)
    deliver_all(alice, bob)
    assert P2TR in values_sat(bob.broadcast[-1])
    propose(bob, 3000)
    assert said(bob).closee_scriptpubkey == P2TR


@bolt("simple-close.2")
def test_two_scripts_that_change_at_once_are_sorted_out_by_a_new_connection() -> None:
    alice, bob = after_shutdown()
    both_negotiate(alice, bob)
    propose(alice, 2000, P2TR)
    propose(bob, 2000, P2WSH)
    of_alice, of_bob = said(alice), said(bob)
    with pytest.raises(OutdatedClosingScript):
        tell(bob, of_alice)
    with pytest.raises(OutdatedClosingScript):
        tell(alice, of_bob)
    reconnect(alice, bob)
    both_negotiate(alice, bob, (2000, 2000))
    assert {frozenset(values_sat(each)) for each in alice.broadcast[-2:]} == {frozenset((P2TR, P2WSH))}
    assert alice.broadcast[-1] in bob.broadcast


@bolt("simple-close.2")
def test_burned_outputs_are_worth_nothing_and_never_dust() -> None:
    alice, bob = after_shutdown()
    both_negotiate(alice, bob)
    propose(alice, 1000, OP_RETURN)
    deliver_all(alice, bob)
    burned = alice.broadcast[-1]
    assert values_sat(burned) == {OP_RETURN: 0, bob.script: 4_000_000}
    assert is_valid(burned, alice)
    propose(bob, 2000)
    deliver_all(alice, bob)
    assert values_sat(alice.broadcast[-1])[OP_RETURN] == 0


@bolt("simple-close.2", "shutdown.2")
@pytest.mark.parametrize("script", [b"\x6a\x05" + bytes(5), bytes.fromhex("76a914") + bytes(20), b"\x51"])
def test_a_script_of_another_form_is_refused_here_too(script: bytes) -> None:
    alice, bob = after_shutdown()
    with pytest.raises(BadShutdownScript):
        tell(bob, an_offer_of(alice, RICHER, script=script))
    both_negotiate(alice, bob)
    with pytest.raises(BadShutdownScript):
        propose(alice, 2000, script)


@bolt("shutdown.3")
def test_a_promised_script_cannot_be_changed_by_an_offer() -> None:
    alice, bob = after_shutdown()
    both_negotiate(alice, bob)
    promised = Dual(alice.script, bob.script)
    for party, scripts in ((alice, promised), (bob, promised.swapped())):
        party.channel = replace(
            party.channel, charter=replace(party.channel.charter, upfront_shutdown_scripts=scripts)
        )
    with pytest.raises(BadShutdownScript):
        propose(alice, 2000, P2TR)
    with pytest.raises(BadShutdownScript):
        tell(bob, an_offer_of(alice, RICHER, script=P2TR))
    propose(alice, 2000)
    deliver_all(alice, bob)
    assert alice.broadcast[-1] == bob.broadcast[-1]


# --- which signatures an offer carries


@bolt("simple-close.3")
@pytest.mark.parametrize(
    ("push_sat", "of_alice", "of_bob"),
    [
        pytest.param(4_000_000, RICHER, BOTH, id="both have plenty"),
        pytest.param(5_000_000, RICHER, RICHER, id="nobody is poorer"),
        pytest.param(6_000_000, BOTH, RICHER, id="the accepter is richer"),
        pytest.param(FEE_SAT + 294, RICHER, BOTH, id="the fee leaves just no dust"),
        pytest.param(FEE_SAT + 293, RICHER, ONLY_CLOSEE, id="the fee leaves dust"),
        pytest.param(FEE_SAT, RICHER, ONLY_CLOSEE, id="the fee leaves nothing"),
        pytest.param(294, RICHER, ONLY_CLOSEE, id="too little for that fee"),
        pytest.param(293, ONLY_CLOSER, ONLY_CLOSEE, id="dust from the start"),
    ],
)
def test_the_forms_that_are_signed(
    push_sat: int, of_alice: tuple[Form, ...], of_bob: tuple[Form, ...]
) -> None:
    alice, bob = after_shutdown(push_msat=push_sat * 1000)
    negotiate(alice)
    negotiate(bob)
    offers = said(alice), said(bob)
    assert [forms_in(offer) for offer in offers] == [of_alice, of_bob]
    tell(alice, offers[1])
    tell(bob, offers[0])
    assert all(is_valid(each, alice) for each in alice.broadcast)
    for transaction in alice.broadcast:
        assert all(out.value_sat >= dust_limit_for(out.script) for out in transaction.outputs)


@bolt("simple-close.3")
def test_a_millisatoshi_decides_who_is_poorer() -> None:
    alice, bob = after_shutdown(push_msat=4_999_999_999)
    negotiate(alice)
    negotiate(bob)
    assert forms_in(said(alice)) == RICHER
    assert forms_in(said(bob)) == BOTH


@bolt("simple-close.3")
@given(
    push_msat=st.integers(0, CAPACITY_SAT * 1000 - 500_000_000),
    feerate_per_kw=st.integers(253, 3_000_000),
    scripts=st.tuples(*2 * [st.sampled_from([P2TR, P2WSH, OP_RETURN, b"\x00\x14" + b"\x09" * 20])]),
)
def test_whatever_the_balances_both_sign_what_the_chain_takes(
    push_msat: int, feerate_per_kw: int, scripts: tuple[bytes, bytes]
) -> None:
    alice, bob = opened_channel(push_msat=push_msat)
    alice.script, bob.script = scripts
    for party in (alice, bob):
        party.shut_down()
    deliver_all(alice, bob)
    both_negotiate(alice, bob, (feerate_per_kw, feerate_per_kw))
    assert alice.broadcast
    assert {each.txid for each in alice.broadcast} == {each.txid for each in bob.broadcast}
    for transaction in alice.broadcast:
        assert is_valid(transaction, alice)
        assert all(out.value_sat >= dust_limit_for(out.script) for out in transaction.outputs)


# --- what is signed in answer


@bolt("simple-close.4")
@pytest.mark.parametrize(
    ("push_sat", "offered", "form"),
    [
        (4_000_000, RICHER, Form.BOTH),
        (4_000_000, BOTH, Form.BOTH),
        (4_000_000, (Form.CLOSEE_ONLY, Form.BOTH), Form.BOTH),
        (4_000_000, ONLY_CLOSEE, Form.CLOSEE_ONLY),
        (4_000_000, tuple(Form), Form.BOTH),
        (200, tuple(Form), Form.CLOSER_ONLY),
        (200, ONLY_CLOSER, Form.CLOSER_ONLY),
    ],
)
def test_the_form_that_is_answered(push_sat: int, offered: tuple[Form, ...], form: Form) -> None:
    alice, bob = after_shutdown(push_msat=push_sat * 1000)
    offer = an_offer_of(alice, offered)
    tell(bob, offer)
    answer = signed(bob)
    assert forms_in(answer) == (form,)
    assert (answer.closer_scriptpubkey, answer.closee_scriptpubkey) == (alice.script, bob.script)
    assert (answer.fee_satoshis, answer.locktime) == (offer.fee_satoshis, offer.locktime)
    assert is_valid(bob.broadcast[0], bob)


@bolt("simple-close.4")
@pytest.mark.parametrize(
    ("push_sat", "offered"),
    [(4_000_000, ONLY_CLOSER), (4_000_000, ()), (200, BOTH), (200, ONLY_CLOSEE), (200, ())],
)
def test_nothing_else_is_signed_in_place_of_it(push_sat: int, offered: tuple[Form, ...]) -> None:
    alice, bob = after_shutdown(push_msat=push_sat * 1000)
    with pytest.raises(MissingClosingSignature):
        tell(bob, an_offer_of(alice, offered))
    assert not bob.broadcast


@bolt("simple-close.4")
@each_spoiling
def test_an_offer_needs_a_signature_that_holds(spoil: Callable[[bytes], bytes]) -> None:
    alice, bob = after_shutdown()
    offer = an_offer_of(alice, RICHER)
    assert offer.closer_and_closee_outputs is not None
    spoilt = replace(offer, closer_and_closee_outputs=spoil(offer.closer_and_closee_outputs))
    with pytest.raises(WrongSignature) as refusal:
        tell(bob, spoilt)
    assert isinstance(refusal.value, Warn)
    assert not bob.broadcast


def an_answer() -> tuple[Party, ClosingSig]:
    """Alice, whose offer is out, and the closing_sig that answers it."""
    alice, bob = after_shutdown()
    negotiate(alice)
    tell(bob, said(alice))
    return alice, signed(bob)


@bolt("simple-close.4")
@each_spoiling
def test_an_answer_needs_a_signature_that_holds(spoil: Callable[[bytes], bytes]) -> None:
    alice, answer = an_answer()
    assert answer.closer_and_closee_outputs is not None
    spoilt = replace(answer, closer_and_closee_outputs=spoil(answer.closer_and_closee_outputs))
    with pytest.raises(WrongSignature):
        tell(alice, spoilt)
    assert not alice.broadcast


@bolt("simple-close.4")
@pytest.mark.parametrize(
    "changes",
    [
        {"fee_satoshis": Sat(FEE_SAT + 1)},
        {"locktime": HEIGHT + 1},
        {"closer_scriptpubkey": P2TR},
        {"closee_scriptpubkey": P2TR},
        {"closer_and_closee_outputs": None},
        {"closer_output_only": bytes(64)},
        {"closer_and_closee_outputs": None, "closee_output_only": bytes(64)},
    ],
    ids=["fee", "locktime", "closer script", "closee script", "no signature", "two", "a form not offered"],
)
def test_an_answer_to_something_else_costs_the_connection(changes: dict[str, object]) -> None:
    alice, answer = an_answer()
    with pytest.raises(WrongClosingSig):
        tell(alice, replace(answer, **changes))
    assert alice.channel.closing.offer is not None
    tell(alice, answer)
    assert alice.channel.phase is Phase.CLOSING


@bolt("simple-close.4")
def test_an_offer_is_answered_once() -> None:
    alice, answer = an_answer()
    tell(alice, answer)
    with pytest.raises(UnexpectedMessage):
        tell(alice, answer)


@bolt("simple-close.4")
def test_the_form_without_our_output_may_be_answered_too() -> None:
    alice, bob = after_shutdown(push_msat=4_000_000_000)
    negotiate(alice)
    offer = said(alice)
    awaited = alice.channel.closing.offer
    assert awaited is not None
    sighash = closing_transaction(alice.channel, LOCAL, awaited, Form.CLOSER_ONLY).sighash
    answer = ClosingSig(
        offer.channel_id,
        offer.closer_scriptpubkey,
        offer.closee_scriptpubkey,
        offer.fee_satoshis,
        offer.locktime,
        # who finds its own output not worth spending forgoes it
        closer_output_only=sign(bob.secrets.funding, sighash),
    )
    tell(alice, answer)
    assert alice.broadcast[0].outputs == (TxOut(Sat(6_000_000 - FEE_SAT), alice.script),)
    assert is_valid(alice.broadcast[0], alice)


# --- reconnecting


@bolt("reestablish.8", "simple-close.1")
@pytest.mark.parametrize("delivered", range(7))
def test_a_negotiation_starts_again_wherever_it_was_cut(delivered: int) -> None:
    alice, bob = opened_channel(push_msat=4_000_000_000)
    alice.shut_down()
    bob.shut_down()
    seen = deliver_all(alice, bob, delivered)
    if seen < delivered:
        negotiate(alice)
        negotiate(bob)
        deliver_all(alice, bob, delivered - seen)
    reconnect(alice, bob)
    for party in (alice, bob):
        assert may_negotiate(party.channel)
        assert party.channel.closing.offer is None
    both_negotiate(alice, bob, (2000, 2000))
    assert alice.channel.phase is bob.channel.phase is Phase.CLOSING
    assert {each.txid for each in alice.broadcast[-2:]} == {each.txid for each in bob.broadcast[-2:]}


@bolt("reestablish.8")
def test_an_answer_that_was_lost_with_its_connection_is_not_awaited() -> None:
    alice, bob = after_shutdown()
    negotiate(alice)
    tell(bob, said(alice))
    reconnect(alice, bob)
    assert bob.channel.closing.transaction is not None
    negotiate(bob)
    assert bob.channel.phase is Phase.CLOSING, "it has published a transaction before"
    negotiate(alice)
    deliver_all(alice, bob)
    assert len(alice.broadcast) == 2
