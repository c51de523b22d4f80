"""What is left of a blinded path's price without ourselves, and what an invoice says of itself."""

from hypothesis import given, settings
from hypothesis import strategies as st

from node.daemon.blinded_ways import _price_without
from node.daemon.offer_ticket import NONCE_BYTES, Ticket, read_ticket
from node.daemon.signer import Signer
from onion.blinded import PaymentRelay
from onion.blinded_payment import aggregate, amount_to_forward
from wire.bolt12.kinds import PayInfo
from wire.units import Msat

US, STRANGER = Signer(bytes(32)), Signer(bytes(31) + b"\1")
relays = st.builds(PaymentRelay, st.integers(0, 500), st.integers(0, 50_000), st.integers(0, 5000).map(Msat))
amounts = st.integers(1, 10**11).map(Msat)
tickets = st.builds(
    Ticket,
    st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES),
    st.binary(min_size=32, max_size=32),
    amounts,
    st.integers(0, 2**40),
    st.integers(0, 2016),
    st.booleans(),
)


@settings(max_examples=300)
@given(relays, st.lists(relays, max_size=3), amounts)
def test_who_is_first_on_a_path_pays_what_the_others_take_and_hardly_more(
    ours: PaymentRelay, others: list[PaymentRelay], amount_msat: Msat
) -> None:
    whole, rest = aggregate([ours, *others], 30), aggregate(others, 30)
    base, rate, delta = whole.fee_base_msat, whole.fee_proportional_millionths, whole.cltv_expiry_delta
    left = _price_without(PayInfo(base, rate, delta, Msat(1), Msat(10**12)), ours)
    assert left.cltv_expiry_delta == rest.cltv_expiry_delta
    fee_msat = left.fee_base_msat + amount_msat * left.fee_proportional_millionths // 10**6
    assert fee_msat >= rest.fee_msat(amount_msat)
    # both were rounded up
    assert fee_msat <= rest.fee_msat(amount_msat) + 3 + 3 * amount_msat // 10**6
    # and it is enough for every node on the way
    arriving = Msat(amount_msat + fee_msat)
    for relay in others:
        arriving = amount_to_forward(relay, arriving)
    assert arriving >= amount_msat


@given(tickets)
def test_only_what_we_wrote_ourselves_comes_back(ticket: Ticket) -> None:
    path_id = ticket.path_id(US)
    assert read_ticket(path_id, US) == ticket
    assert read_ticket(path_id, STRANGER) is None
    assert ticket.preimage(US) != ticket.preimage(STRANGER)


@given(st.binary(max_size=120))
def test_what_strangers_write_is_no_ticket(path_id: bytes) -> None:
    assert read_ticket(path_id, US) is None
