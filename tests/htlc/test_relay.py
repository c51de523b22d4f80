"""BOLT 4, forwarding and receiving: what becomes of an HTLC, and what its sender is told."""

from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from htlc.ladder import REMOTE, Failed, FailedMalformed, Fulfilled, Htlc, Rung
from htlc.relay import (
    FAR_BLOCKS,
    SOON_BLOCKS,
    Decision,
    Exit,
    Fail,
    Forward,
    Owed,
    Receive,
    Take,
    Toll,
    Wait,
    accept,
    blinded,
    decide,
    failed,
)
from onion.blinded import (
    PaymentConstraints,
    PaymentRelay,
    RecipientData,
    blind,
    encode_recipient_data,
    unblind,
)
from onion.blinded_payment import amount_to_forward
from onion.failures import Failure, FailureCode, attribute
from onion.payload import HopPayload, decode_payload, encode_payload
from onion.sphinx import Onion, build, peel
from tests.bolt import bolt
from wire.crypto.hashes import sha256
from wire.crypto.secp256k1 import point_of
from wire.discount import Discount
from wire.units import Msat

HEIGHT = 800_000
BOB, CAROL = b"\x0b" * 32, b"\x0c" * 32  # node secrets
SCID = 700_000 << 40 | 1
UPDATE = b"\x01\x02 our channel_update"
PREIMAGE = b"\x77" * 32
HASH = sha256(PREIMAGE)
SECRET = b"\x55" * 32
TOLL = Toll(
    fee_base_msat=Msat(1000),
    fee_proportional_millionths=100,
    cltv_expiry_delta=34,
    htlc_minimum_msat=Msat(5_000),
    htlc_maximum_msat=Msat(90_000_000),
)
EXIT = Exit(b"\xcc" * 32, TOLL, is_usable=True, channel_update=UPDATE)
ON_THE_WAY = HopPayload(
    amt_to_forward=Msat(10_000_000), outgoing_cltv_value=HEIGHT + 40, short_channel_id=SCID
)
AT_THE_END = HopPayload(
    amt_to_forward=Msat(10_000_000),
    outgoing_cltv_value=HEIGHT + 18,
    payment_secret=SECRET,
    total_msat=Msat(10_000_000),
)
OWED = Owed(PREIMAGE, SECRET, Msat(10_000_000), 18, is_open=True)


def an_onion(*payloads: HopPayload) -> Onion:
    """For Bob, and behind him Carol."""
    nodes = [point_of(BOB), point_of(CAROL)]
    hops = [(node, encode_payload(payload)) for node, payload in zip(nodes, payloads, strict=False)]
    return build(b"\x41" * 32, hops, HASH)


def an_htlc(packet: bytes, amount_msat: int = 10_002_000, cltv_expiry: int = HEIGHT + 74) -> Htlc:
    """As Bob got it: what arrives is fee and delta more than what leaves."""
    return Htlc(REMOTE, 0, Msat(amount_msat), HASH, cltv_expiry, Rung.LOCKED_IN, onion=packet)


class OneExit(NamedTuple):
    """One channel, to Carol, or none."""

    exit: Exit | None

    def exit_of(self, short_channel_id: int) -> Exit | None:
        return self.exit if short_channel_id == SCID else None

    def exit_to(self, node_id: bytes) -> Exit | None:
        return self.exit if node_id == point_of(CAROL) else None


def decided(htlc: Htlc, exit: Exit | None = EXIT) -> Decision:
    return decide(htlc, BOB, HEIGHT, OneExit(exit))


def forwarded(exit: Exit | None = EXIT, htlc: dict[str, Any] | None = None, **changes: Any) -> Decision:
    """Bob's decision on a route to Carol, with the hop's payload, the HTLC or the exit changed."""
    onion = an_onion(replace(ON_THE_WAY, **changes), AT_THE_END)
    return decided(an_htlc(onion.packet, **(htlc or {})), exit)


def told(decision: Decision | Take | Wait, onion: Onion | None = None) -> Failure | None:
    """What the sender reads when the failure has come back to it."""
    assert isinstance(decision, Fail)
    assert isinstance(decision.outcome, Failed)
    found = attribute((onion or an_onion(ON_THE_WAY, AT_THE_END)).shared_secrets, decision.outcome.reason)
    assert found is not None
    assert found.hop_index == 0
    assert found.failure == decision.failure
    return found.failure


# --- forwarding


@bolt("update_add_htlc.4", "payload.1")
def test_an_htlc_is_passed_on_as_its_sender_wants() -> None:
    onion = an_onion(ON_THE_WAY, AT_THE_END)
    decision = decided(an_htlc(onion.packet))
    inner = peel(BOB, onion.packet, HASH)
    assert inner.next_packet is not None
    assert decision == Forward(
        EXIT, Msat(10_000_000), HEIGHT + 40, inner.next_packet, onion.shared_secrets[0], Msat(2_000)
    )
    last = peel(CAROL, inner.next_packet, HASH)
    assert decode_payload(last.payload, last.is_final) == AT_THE_END


@bolt("failures.4")
def test_an_unknown_channel_is_an_unknown_next_peer() -> None:
    assert told(forwarded(exit=None)) == Failure(FailureCode.unknown_next_peer)
    assert told(forwarded(short_channel_id=SCID + 1)) == Failure(FailureCode.unknown_next_peer)


@bolt("failures.4")
def test_a_channel_that_cannot_carry_it_now_is_a_passing_failure() -> None:
    failure = Failure(FailureCode.temporary_channel_failure, channel_update=UPDATE)
    assert told(forwarded(exit=replace(EXIT, is_usable=False))) == failure
    above = {"amount_msat": 100_000_000}
    assert told(forwarded(htlc=above, amt_to_forward=Msat(90_000_001))) == failure
    assert isinstance(forwarded(htlc=above, amt_to_forward=Msat(90_000_000)), Forward)


@bolt("failures.4")
def test_too_small_an_amount_is_reported_as_it_would_have_left() -> None:
    failure = Failure(FailureCode.amount_below_minimum, htlc_msat=Msat(4_999), channel_update=UPDATE)
    assert told(forwarded(amt_to_forward=Msat(4_999))) == failure
    assert isinstance(forwarded(amt_to_forward=Msat(5_000)), Forward)


@bolt("failures.4", "payload.1")
def test_too_small_a_fee_is_reported_with_what_came_in() -> None:
    assert TOLL.fee_msat(Msat(10_000_000)) == 2_000
    failure = Failure(FailureCode.fee_insufficient, htlc_msat=Msat(10_001_999), channel_update=UPDATE)
    assert told(forwarded(htlc={"amount_msat": 10_001_999})) == failure
    assert isinstance(forwarded(htlc={"amount_msat": 10_002_000}), Forward)


def test_who_comes_in_where_we_give_back_may_pay_so_much_less_and_no_less() -> None:
    onion = an_onion(ON_THE_WAY, AT_THE_END)

    def decision(amount_msat: int, discount: Discount) -> Decision:
        return decide(an_htlc(onion.packet, amount_msat), BOB, HEIGHT, OneExit(EXIT), discount)

    # of 2,000 for 10,000,000: 300, and 50 millionths of all that comes in without a discount
    discount = Discount(300, 50)
    assert isinstance(decision(10_002_000 - 800, discount), Forward)
    assert told(decision(10_002_000 - 801, discount)) == Failure(
        FailureCode.fee_insufficient, htlc_msat=Msat(10_001_199), channel_update=UPDATE
    )
    # it is never worth more than the fee
    assert isinstance(decision(10_000_000, Discount(10**9, 10**6)), Forward)
    assert isinstance(decision(9_999_999, Discount(10**9, 10**6)), Fail)


@bolt("failures.4", "payload.1")
@pytest.mark.parametrize("amount_msat", [10_002_001, 2**64 - 1])
def test_more_than_came_in_is_never_passed_on(amount_msat: int) -> None:
    free = Toll(Msat(0), 0, 0, Msat(0), Msat(0))
    failure = told(forwarded(exit=replace(EXIT, toll=free), amt_to_forward=Msat(amount_msat)))
    assert failure is not None
    assert failure.code == FailureCode.fee_insufficient


@bolt("payload.1")
@pytest.mark.parametrize(
    ("amount_msat", "fee_msat"), [(0, 1000), (9_999, 1000), (10_000, 1001), (10**12, 100_001_000)]
)
def test_a_fee_is_rounded_down(amount_msat: int, fee_msat: int) -> None:
    assert TOLL.fee_msat(Msat(amount_msat)) == fee_msat


@bolt("failures.4", "payload.1", "forwarding-safety.3")
def test_too_small_a_delta_is_reported_with_the_expiry_that_would_have_left() -> None:
    failure = Failure(FailureCode.incorrect_cltv_expiry, cltv_expiry=HEIGHT + 40, channel_update=UPDATE)
    assert told(forwarded(htlc={"cltv_expiry": HEIGHT + 73})) == failure
    assert isinstance(forwarded(htlc={"cltv_expiry": HEIGHT + 74}), Forward)


@bolt("failures.4", "forwarding-safety.3")
def test_an_expiry_that_is_near_or_past_is_too_soon() -> None:
    failure = Failure(FailureCode.expiry_too_soon, channel_update=UPDATE)
    for outgoing in (0, HEIGHT - 1, HEIGHT, HEIGHT + SOON_BLOCKS):
        assert told(forwarded(outgoing_cltv_value=outgoing)) == failure
    assert isinstance(forwarded(outgoing_cltv_value=HEIGHT + SOON_BLOCKS + 1), Forward)


@bolt("failures.4", "forwarding-safety.3")
def test_an_expiry_out_of_sight_is_too_far() -> None:
    """However early it would leave: it is our incoming HTLC that would be stuck."""
    failure = Failure(FailureCode.expiry_too_far)
    assert told(forwarded(htlc={"cltv_expiry": HEIGHT + FAR_BLOCKS + 1})) == failure
    assert isinstance(forwarded(htlc={"cltv_expiry": HEIGHT + FAR_BLOCKS}), Forward)


@bolt("failures.4")
def test_of_many_faults_the_first_of_the_list_is_told() -> None:
    """Four faults at once, mended one after the other."""
    payload: dict[str, Any] = {"amt_to_forward": Msat(4_999), "outgoing_cltv_value": HEIGHT}
    htlc = {"amount_msat": 5_000, "cltv_expiry": HEIGHT + 1}
    codes = []
    for mended_payload, mended_htlc in (
        ({}, {}),
        ({"amt_to_forward": Msat(5_000)}, {}),
        ({}, {"amount_msat": 6_000}),
        ({}, {"cltv_expiry": HEIGHT + 34}),
    ):
        payload, htlc = payload | mended_payload, htlc | mended_htlc
        failure = told(forwarded(htlc=htlc, **payload))
        assert failure is not None
        codes.append(FailureCode(failure.code))
    assert codes == [
        FailureCode.amount_below_minimum,
        FailureCode.fee_insufficient,
        FailureCode.incorrect_cltv_expiry,
        FailureCode.expiry_too_soon,
    ]


# --- onions that cannot be read


@bolt("update_add_htlc.4", "removing.3")
@pytest.mark.parametrize(
    ("place", "byte", "code"),
    [
        (0, 0x01, FailureCode.invalid_onion_version),
        (1, 0x05, FailureCode.invalid_onion_key),
        (100, 0x00, FailureCode.invalid_onion_hmac),
        (1365, 0x00, FailureCode.invalid_onion_hmac),
    ],
    ids=["version", "key", "payloads", "hmac"],
)
def test_an_unreadable_onion_is_malformed(place: int, byte: int, code: FailureCode) -> None:
    packet = bytearray(an_onion(ON_THE_WAY, AT_THE_END).packet)
    packet[place] = byte
    digest = sha256(bytes(packet))
    assert decided(an_htlc(bytes(packet))) == Fail(FailedMalformed(digest, code), None, None)


@bolt("update_add_htlc.4")
def test_an_onion_belongs_to_its_payment() -> None:
    packet = an_onion(ON_THE_WAY, AT_THE_END).packet
    decision = decided(replace(an_htlc(packet), payment_hash=sha256(b"another")))
    assert decision == Fail(FailedMalformed(sha256(packet), FailureCode.invalid_onion_hmac), None, None)


@bolt("update_add_htlc.4", "payload.1")
@pytest.mark.parametrize(
    ("payload", "type"),
    [
        (bytes.fromhex("0400060800000000000000aa"), 2),
        (bytes.fromhex("0200060800000000000000aa"), 4),
        (bytes.fromhex("02000400"), 6),
        (bytes.fromhex("0200040006080000000000aabbcc0c00"), 12),
        (bytes.fromhex("02000400060800000000000000aa2000"), 32),
    ],
    ids=["no amount", "no expiry", "no channel", "a blinding", "an unknown even record"],
)
def test_a_payload_against_the_rules_is_told_with_its_record(payload: bytes, type: int) -> None:
    hops = [(point_of(BOB), payload), (point_of(CAROL), encode_payload(AT_THE_END))]
    onion = build(b"\x41" * 32, hops, HASH)
    failure = told(decided(an_htlc(onion.packet)), onion)
    assert failure is not None
    assert (failure.code, failure.type) == (FailureCode.invalid_onion_payload, type)


# --- blinded paths

RELAY = PaymentRelay(cltv_expiry_delta=34, fee_proportional_millionths=100, fee_base_msat=Msat(1000))
TO_CAROL = RecipientData(short_channel_id=SCID, payment_relay=RELAY)
PATH_ID = b"\x99" * 32
AS_LAST = replace(AT_THE_END, payment_secret=None)
HIDDEN = FailureCode.invalid_onion_blinding


def on_a_path(
    of_bob: RecipientData, payload: HopPayload | None = None, *, is_first: bool
) -> tuple[Htlc, Onion]:
    """An HTLC on a path through Bob to Carol, or without a payload for Carol, to Bob."""
    path = blind(b"\x61" * 32, [(point_of(BOB), encode_recipient_data(of_bob))])
    key, [hop] = path.first_path_key, path.hops
    told = replace(payload or HopPayload(), encrypted_recipient_data=hop.encrypted_recipient_data)
    node = point_of(BOB) if is_first else hop.blinded_node_id
    told = replace(told, current_path_key=key) if is_first else told
    hops = [(node, encode_payload(told))]
    if payload is None:
        hops.append((point_of(CAROL), encode_payload(AT_THE_END)))
    onion = build(b"\x41" * 32, hops, HASH)
    return replace(an_htlc(onion.packet), path_key=None if is_first else key), onion


@bolt("blinded-paths.2", "blinded-paths.3", "blinded-paths.4")
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(
    "of_bob", [TO_CAROL, replace(TO_CAROL, short_channel_id=None, next_node_id=point_of(CAROL))]
)
def test_on_a_blinded_path_it_goes_where_the_recipient_says(is_first: bool, of_bob: RecipientData) -> None:
    incoming, _ = on_a_path(of_bob, is_first=is_first)
    decision = decided(incoming)
    assert isinstance(decision, Forward)
    assert decision.amount_msat == amount_to_forward(RELAY, incoming.amount_msat)
    assert decision.cltv_expiry == incoming.cltv_expiry - RELAY.cltv_expiry_delta
    secret = blind(b"\x61" * 32, [(point_of(BOB), b"")]).first_path_key
    assert decision.path_key == unblind(BOB, secret, _encrypted(of_bob)).next_path_key


def _encrypted(of_bob: RecipientData) -> bytes:
    path = blind(b"\x61" * 32, [(point_of(BOB), encode_recipient_data(of_bob))])
    return path.hops[0].encrypted_recipient_data


def seen(incoming: Htlc, decision: Decision, *, is_introduction: bool = False) -> Any:
    """What the previous hop sees of a decision to fail."""
    assert isinstance(decision, Fail)
    read = replace(incoming, shared_secret=decision.shared_secret, is_introduction=is_introduction)
    return blinded(read, decision.outcome)


BAD_PATHS = {
    "no relay": replace(TO_CAROL, payment_relay=None),
    "no next": replace(TO_CAROL, short_channel_id=None),
    "another next": replace(TO_CAROL, short_channel_id=SCID + 1),
    "a feature": replace(TO_CAROL, allowed_features=b"\x02"),
    "too late": replace(TO_CAROL, payment_constraints=PaymentConstraints(HEIGHT, Msat(0))),
    "too small": replace(TO_CAROL, payment_constraints=PaymentConstraints(1 << 31, Msat(10**9))),
    "too cheap": replace(TO_CAROL, payment_relay=replace(RELAY, fee_base_msat=Msat(0))),
}


@bolt("removing.4", "blinded-paths.3", "blinded-paths.6")
@pytest.mark.parametrize("of_bob", BAD_PATHS.values(), ids=BAD_PATHS)
def test_whatever_is_wrong_on_a_blinded_path_looks_the_same(of_bob: RecipientData) -> None:
    incoming, _ = on_a_path(of_bob, is_first=False)
    assert seen(incoming, decided(incoming)) == FailedMalformed(bytes(32), HIDDEN)
    first, onion = on_a_path(of_bob, is_first=True)
    assert told(decided(first), onion) == Failure(HIDDEN)


@bolt("removing.4", "blinded-paths.2")
def test_inside_a_blinded_path_even_a_bad_onion_looks_the_same() -> None:
    packet = an_onion(ON_THE_WAY, AT_THE_END).packet
    for onion in (packet, bytes(1366)):
        incoming = replace(an_htlc(onion), path_key=point_of(CAROL))
        assert seen(incoming, decided(incoming)) == FailedMalformed(bytes(32), HIDDEN)
    # a payload that is not blinded, for our blinded id
    path = blind(b"\x61" * 32, [(point_of(BOB), b"")])
    plain = build(b"\x41" * 32, [(path.hops[0].blinded_node_id, encode_payload(AT_THE_END))], HASH)
    incoming = replace(an_htlc(plain.packet), path_key=path.first_path_key)
    assert seen(incoming, decided(incoming)) == FailedMalformed(bytes(32), HIDDEN)


@bolt("removing.4")
def test_where_a_blinded_path_begins_it_comes_back_as_a_failure() -> None:
    for wrong in (b"\x01\x02", b""):
        bad = HopPayload(encrypted_recipient_data=wrong, current_path_key=point_of(CAROL))
        onion = an_onion(bad, AT_THE_END)
        assert told(decided(an_htlc(onion.packet)), onion) == Failure(HIDDEN)
    # and so does what fails behind us
    incoming, onion = on_a_path(TO_CAROL, is_first=True)
    later = failed(onion.shared_secrets[0], Failure(FailureCode.temporary_channel_failure))
    outcome = seen(incoming, later, is_introduction=True)
    assert told(replace(later, outcome=outcome, failure=Failure(HIDDEN)), onion) == Failure(HIDDEN)
    assert blinded(incoming, Fulfilled(PREIMAGE)) == Fulfilled(PREIMAGE)


@bolt("blinded-paths.5", "payload.3")
@pytest.mark.parametrize("is_first", [True, False])
def test_at_the_end_of_a_blinded_path_our_own_word_is_the_secret(is_first: bool) -> None:
    for path_id, is_taken in ((SECRET, True), (PATH_ID, False), (None, False)):
        incoming, _ = on_a_path(RecipientData(path_id=path_id), AS_LAST, is_first=is_first)
        decision = decided(incoming)
        assert isinstance(decision, Receive)
        answer = accept(incoming, decision, OWED, HEIGHT)
        assert answer == Take(PREIMAGE, is_keysend=False) if is_taken else isinstance(answer, Fail)
    # the secret of the invoice itself has no place on a path
    incoming, _ = on_a_path(RecipientData(), replace(AS_LAST, payment_secret=SECRET), is_first=is_first)
    assert isinstance(decided(incoming), Fail)


# --- receiving


def received(
    htlc: dict[str, Any] | None = None, owed: Owed | None = OWED, **changes: Any
) -> Take | Wait | Fail:
    """Bob's answer to an HTLC for him, with the payload, the HTLC or what he is owed changed."""
    changes = {"total_msat": changes.get("amt_to_forward", AT_THE_END.total_msat)} | changes
    onion = an_onion(replace(AT_THE_END, **changes))
    fields: dict[str, Any] = {"amount_msat": 10_000_000, "cltv_expiry": HEIGHT + 18} | (htlc or {})
    incoming = an_htlc(onion.packet, **fields)
    decision = decided(incoming)
    assert isinstance(decision, Receive)
    assert decision.shared_secret == onion.shared_secrets[0]
    return accept(incoming, decision, owed, HEIGHT)


UNKNOWN = Failure(FailureCode.incorrect_or_unknown_payment_details, htlc_msat=Msat(10_000_000), height=HEIGHT)


@bolt("payload.2")
def test_what_was_asked_for_is_taken() -> None:
    assert received() == Take(PREIMAGE, is_keysend=False)


@bolt("payload.3")
def test_an_amount_below_what_the_sender_meant_is_the_hop_befores_fault() -> None:
    code = FailureCode.final_incorrect_htlc_amount
    expected = Failure(code, incoming_htlc_amt=Msat(9_999_999))
    assert told(received({"amount_msat": 9_999_999}), an_onion(AT_THE_END)) == expected


@bolt("payload.3")
def test_an_expiry_below_what_the_sender_meant_is_the_hop_befores_fault() -> None:
    code = FailureCode.final_incorrect_cltv_expiry
    expected = Failure(code, cltv_expiry=HEIGHT + 17)
    assert told(received({"cltv_expiry": HEIGHT + 17}), an_onion(AT_THE_END)) == expected


@bolt("failures.3")
@pytest.mark.parametrize(
    ("owed", "changes"),
    [
        (None, {}),
        (replace(OWED, is_open=False), {}),
        (OWED, {"payment_secret": b"\x56" * 32}),
        (OWED, {"payment_secret": None}),
        (OWED, {"amt_to_forward": Msat(9_999_999)}),
        (replace(OWED, amount_msat=Msat(4_999_999)), {}),
        (replace(OWED, min_final_cltv_expiry_delta=19), {}),
    ],
    ids=[
        "unknown",
        "paid or expired",
        "wrong secret",
        "no secret",
        "too little",
        "more than twice",
        "too late",
    ],
)
def test_whatever_is_wrong_a_prober_learns_nothing(owed: Owed | None, changes: dict[str, Any]) -> None:
    onion = an_onion(replace(AT_THE_END, **({"total_msat": changes.get("amt_to_forward")} | changes)))
    assert told(received(owed=owed, **changes), onion) == UNKNOWN


@bolt("payload.4")
def test_a_part_of_a_payment_is_not_taken_for_the_whole() -> None:
    part = received({"amount_msat": 5_000_000}, amt_to_forward=Msat(5_000_000), total_msat=Msat(10_000_000))
    assert part == Wait(Msat(5_000_000), Msat(10_000_000))
    for total_msat in (9_999_999, 20_000_001):
        answer = received(amt_to_forward=Msat(5_000_000), total_msat=Msat(total_msat))
        assert isinstance(answer, Fail)
        assert answer.failure == UNKNOWN


@bolt("payload.4")
def test_what_the_payer_meant_counts_and_not_what_a_hop_added() -> None:
    part = received({"amount_msat": 10_000_000}, amt_to_forward=Msat(9_999_999), total_msat=Msat(10_000_000))
    assert part == Wait(Msat(9_999_999), Msat(10_000_000))


def test_without_the_preimage_the_whole_waits_too() -> None:
    answer = received(owed=replace(OWED, payment_preimage=None))
    assert answer == Wait(Msat(10_000_000), Msat(10_000_000))


@bolt("payload.4")
@pytest.mark.parametrize("paid_msat", [10_000_000, 20_000_000])
def test_up_to_twice_the_amount_is_welcome(paid_msat: int) -> None:
    answer = received({"amount_msat": paid_msat}, amt_to_forward=Msat(paid_msat))
    assert answer == Take(PREIMAGE, is_keysend=False)


@bolt("payload.2")
def test_who_asks_for_no_amount_takes_any() -> None:
    for paid_msat in (1, 10**15):
        answer = received(
            {"amount_msat": paid_msat}, replace(OWED, amount_msat=None), amt_to_forward=Msat(paid_msat)
        )
        assert answer == Take(PREIMAGE, is_keysend=False)


@bolt("payload.3")
def test_time_enough_to_claim_is_part_of_what_was_asked_for() -> None:
    strict = replace(OWED, min_final_cltv_expiry_delta=144)
    assert isinstance(received({"cltv_expiry": HEIGHT + 143}, strict), Fail)
    assert isinstance(received({"cltv_expiry": HEIGHT + 144}, strict), Take)


@bolt("payload.2")
def test_a_payment_that_brings_its_own_preimage_is_taken() -> None:
    spontaneous: dict[str, Any] = {"payment_secret": None, "keysend_preimage": PREIMAGE}
    assert received(owed=None, **spontaneous) == Take(PREIMAGE, is_keysend=True)
    for wrong in ({"keysend_preimage": bytes(32)}, {"outgoing_cltv_value": HEIGHT + 17}):
        htlc = {"cltv_expiry": HEIGHT + 17} if "outgoing_cltv_value" in wrong else {}
        answer = received(htlc, None, **(spontaneous | wrong))
        assert isinstance(answer, Fail)
        assert answer.failure == UNKNOWN


@bolt("failures.3")
def test_an_invoice_is_not_paid_by_its_preimage_alone() -> None:
    """Whoever knows the preimage of an open invoice but not its secret gets nothing for it."""
    answer = received(payment_secret=None, keysend_preimage=PREIMAGE)
    assert isinstance(answer, Fail)
    assert answer.failure == UNKNOWN
