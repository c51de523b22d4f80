"""BOLT 4: payments over blinded paths."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onion.blinded import (
    FeatureNotUnderstood,
    InvalidBlinding,
    PaymentConstraints,
    PaymentRelay,
    RecipientData,
    Unblinded,
    Undecryptable,
    blind,
    encode_recipient_data,
)
from onion.blinded_payment import (
    ConstraintBroken,
    InstructionsIncomplete,
    PathKeyMisplaced,
    aggregate,
    amount_to_forward,
    hops_of,
    open_blinded,
    path_key_of,
)
from onion.payload import HopPayload, decode_payload, encode_payload
from onion.sphinx import build, peel
from tests.bolt import bolt
from tests.onion.routes import NODE_SECRETS, NODES, VECTORS, b, unframed
from tests.onion.test_blinded import recipient_data_of
from wire.blinded_path import BlindedHop, BlindedPath
from wire.crypto.secp256k1 import Point
from wire.units import Msat

FIGURE: dict[str, Any] = VECTORS["blinded_payment"]
GENERATE: dict[str, Any] = FIGURE["generate"]
HOPS: list[dict[str, Any]] = GENERATE["full_route"]["hops"]
PAYMENT_HASH = b(GENERATE["associated_data"])
PATH_SECRET = bytes([2]) * 32
RELAY = PaymentRelay(40, 1000, Msat(500))
ONWARD = RecipientData(short_channel_id=7, payment_relay=RELAY)


def the_path() -> BlindedPath:
    """The figure's blinded path."""
    route = GENERATE["blinded_route"]
    hops = [BlindedHop(b(hop["blinded_node_id"]), b(hop["encrypted_data"])) for hop in route["hops"]]
    return BlindedPath(b(route["first_node_id"]), b(route["first_path_key"]), tuple(hops))


def opened(
    recipient_data: RecipientData,
    amount_msat: int = 1_000_000,
    cltv_expiry: int = 800_000,
    is_final: bool = False,
) -> tuple[HopPayload, Unblinded]:
    """What a node makes of such data when such an HTLC comes in."""
    path = blind(PATH_SECRET, [(NODES[0], encode_recipient_data(recipient_data))])
    payload = HopPayload(encrypted_recipient_data=path.hops[0].encrypted_recipient_data)
    return open_blinded(
        payload,
        node_secret=NODE_SECRETS[0],
        path_key=path.first_path_key,
        amount_msat=Msat(amount_msat),
        cltv_expiry=cltv_expiry,
        is_final=is_final,
    )


@bolt("blinded-paths.1")
def test_the_figures_payloads_and_onion() -> None:
    payloads = hops_of(the_path(), Msat(100_000), 749_000, Msat(150_000))
    alice = HopPayload(Msat(110_125), 749_150, 10)
    route = [(b(HOPS[0]["pubkey"]), alice), *payloads]
    hops = [(point, encode_payload(payload)) for point, payload in route]
    assert hops == [(b(hop["pubkey"]), unframed(hop["payload"])) for hop in HOPS]
    assert build(b(GENERATE["session_key"]), hops, PAYMENT_HASH).packet == b(GENERATE["onion"])


@bolt("blinded-paths.2", "blinded-paths.3", "blinded-paths.4")
def test_the_figures_payment_from_hop_to_hop() -> None:
    path_key: Point | None = None
    amount_msat, cltv_expiry = Msat(110_125), 749_150
    for hop, node in zip(HOPS, FIGURE["decrypt"]["hops"], strict=True):
        is_last = hop is HOPS[-1]
        secret = b(node["node_privkey"])
        peeled = peel(secret, b(node["onion"]), PAYMENT_HASH, path_key)
        assert peeled.payload == unframed(hop["payload"])
        payload = decode_payload(peeled.payload, peeled.is_final)
        key = path_key_of(payload, path_key)
        if key is not None:
            payload, unblinded = open_blinded(
                payload,
                node_secret=secret,
                path_key=key,
                amount_msat=amount_msat,
                cltv_expiry=cltv_expiry,
                is_final=is_last,
            )
            assert unblinded.recipient_data == recipient_data_of(hop["tlvs"]["encrypted_recipient_data"])
            assert unblinded.next_path_key == b(node["next_path_key"])
            path_key = unblinded.next_path_key
        amount_msat, cltv_expiry = payload.amt_to_forward, payload.outgoing_cltv_value
        assert peeled.is_final == is_last
    assert (amount_msat, cltv_expiry) == (GENERATE["final_amount_msat"], GENERATE["final_cltv"])


@bolt("blinded-paths.5")
def test_the_figures_price() -> None:
    relays = [
        relay
        for hop in HOPS[1:]
        if (relay := recipient_data_of(hop["tlvs"]["encrypted_recipient_data"]).payment_relay)
    ]
    price, expected = aggregate(relays, 0), GENERATE["blinded_payinfo"]
    assert price.fee_base_msat == expected["fee_base_msat"]
    assert price.fee_proportional_millionths == expected["fee_proportional_millionths"]
    assert price.cltv_expiry_delta == expected["cltv_expiry_delta"]
    assert price.fee_msat(Msat(100_000)) == 10_125


@bolt("blinded-paths.5")
@given(
    st.lists(
        st.builds(
            PaymentRelay, st.integers(0, 500), st.integers(0, 100_000), st.integers(0, 100_000).map(Msat)
        ),
        max_size=6,
    ),
    st.integers(1, 10**12).map(Msat),
)
def test_the_price_of_a_path_covers_its_nodes(relays: list[PaymentRelay], amount_msat: Msat) -> None:
    price = aggregate(relays, 18)
    left = Msat(amount_msat + price.fee_msat(amount_msat))
    for relay in relays:
        left = amount_to_forward(relay, left)
    assert left >= amount_msat
    assert price.cltv_expiry_delta == 18 + sum(relay.cltv_expiry_delta for relay in relays)


@bolt("blinded-paths.3")
@given(
    st.integers(1, 10**12),
    st.builds(PaymentRelay, st.integers(0, 9), st.integers(0, 10**6), st.integers(0, 10**6).map(Msat)),
)
def test_a_node_keeps_its_fee_and_no_more(forwarded_msat: int, relay: PaymentRelay) -> None:
    """The smallest amount in that leaves enough for the fee on what goes out forwards exactly that."""
    rate = relay.fee_proportional_millionths
    incoming_msat = Msat(forwarded_msat + relay.fee_base_msat + forwarded_msat * rate // 1_000_000)
    assert amount_to_forward(relay, incoming_msat) == forwarded_msat


@bolt("blinded-paths.3")
def test_a_hop_gets_an_ordinary_payload() -> None:
    payload, _ = opened(ONWARD, amount_msat=1_001_500, cltv_expiry=800_000)
    assert (payload.amt_to_forward, payload.outgoing_cltv_value) == (1_000_000, 799_960)
    assert payload.short_channel_id == 7


@bolt("blinded-paths.3")
@pytest.mark.parametrize("is_final", [False, True])
def test_an_htlc_too_late_or_too_small_is_refused(is_final: bool) -> None:
    limits = PaymentConstraints(800_000, Msat(1_000_000))
    allowed = RecipientData(short_channel_id=7, payment_relay=RELAY, payment_constraints=limits)
    opened(allowed, is_final=is_final)
    for amount_msat, cltv_expiry in [(999_999, 800_000), (1_000_000, 800_001)]:
        with pytest.raises(ConstraintBroken):
            opened(allowed, amount_msat, cltv_expiry, is_final)


@bolt("blinded-paths.3")
@pytest.mark.parametrize("is_final", [False, True])
@pytest.mark.parametrize("bits", ["01", "02", "8000000000"])
def test_no_feature_is_understood_even_if_odd(bits: str, is_final: bool) -> None:
    with pytest.raises(FeatureNotUnderstood):
        opened(
            RecipientData(short_channel_id=7, payment_relay=RELAY, allowed_features=b(bits)),
            is_final=is_final,
        )
    opened(
        RecipientData(short_channel_id=7, payment_relay=RELAY, allowed_features=bytes(2)), is_final=is_final
    )


@bolt("blinded-paths.3")
@pytest.mark.parametrize(
    "incomplete",
    [
        RecipientData(),
        RecipientData(payment_relay=RELAY),
        RecipientData(short_channel_id=7),
        RecipientData(next_node_id=NODES[3]),
        RecipientData(short_channel_id=7, next_node_id=NODES[3], payment_relay=RELAY),
    ],
)
def test_a_hop_must_be_told_where_to_and_for_how_much(incomplete: RecipientData) -> None:
    with pytest.raises(InstructionsIncomplete):
        opened(incomplete)


@bolt("blinded-paths.3")
def test_the_last_node_too_refuses_two_next_nodes() -> None:
    with pytest.raises(InstructionsIncomplete):
        opened(RecipientData(short_channel_id=7, next_node_id=NODES[3]), is_final=True)


@bolt("blinded-paths.3")
@pytest.mark.parametrize(("amount_msat", "cltv_expiry"), [(500, 800_000), (1, 800_000), (10_000, 39)])
def test_an_htlc_that_leaves_nothing_is_refused(amount_msat: int, cltv_expiry: int) -> None:
    with pytest.raises(ConstraintBroken):
        opened(ONWARD, amount_msat, cltv_expiry)


@bolt("blinded-paths.5")
def test_the_last_node_finds_its_path_id() -> None:
    _, unblinded = opened(RecipientData(path_id=b"mine"), is_final=True)
    assert unblinded.recipient_data.path_id == b"mine"


@bolt("blinded-paths.2")
def test_there_is_exactly_one_path_key() -> None:
    inside = HopPayload(encrypted_recipient_data=b"sealed", current_path_key=NODES[1])
    beside = HopPayload(encrypted_recipient_data=b"sealed")
    assert path_key_of(inside, None) == NODES[1]
    assert path_key_of(beside, NODES[2]) == NODES[2]
    assert path_key_of(HopPayload(Msat(1), 1, 1), None) is None
    for payload, path_key in [(inside, NODES[2]), (beside, None), (HopPayload(Msat(1), 1, 1), NODES[2])]:
        with pytest.raises(PathKeyMisplaced):
            path_key_of(payload, path_key)


@bolt("blinded-paths.6")
def test_every_fault_is_an_invalid_blinding() -> None:
    for fault in (
        ConstraintBroken,
        FeatureNotUnderstood,
        InstructionsIncomplete,
        PathKeyMisplaced,
        Undecryptable,
    ):
        assert issubclass(fault, InvalidBlinding)
