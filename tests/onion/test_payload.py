"""BOLT 4: payload format."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onion.failures import FailureCode
from onion.payload import (
    AMT_TO_FORWARD,
    CURRENT_PATH_KEY,
    ENCRYPTED_RECIPIENT_DATA,
    FIRST_CUSTOM_TYPE,
    KEYSEND_PREIMAGE,
    OUTGOING_CLTV_VALUE,
    PAYMENT_DATA,
    PAYMENT_METADATA,
    SHORT_CHANNEL_ID,
    TOTAL_AMOUNT_MSAT,
    HopPayload,
    InvalidPayload,
    decode_payload,
    encode_payload,
)
from tests.bolt import bolt
from tests.onion.routes import NODES, VECTORS, b, unframed
from wire.tlv import write_records, write_truncated
from wire.units import Msat

HOP: dict[int, bytes] = {
    AMT_TO_FORWARD: b("03e8"),
    OUTGOING_CLTV_VALUE: b("90"),
    SHORT_CHANNEL_ID: bytes(7) + b"\x05",
}
LAST: dict[int, bytes] = {
    AMT_TO_FORWARD: b("03e8"),
    OUTGOING_CLTV_VALUE: b("90"),
    PAYMENT_DATA: bytes([7]) * 32 + b("07d0"),
}
BLINDED_LAST: dict[int, bytes] = {
    AMT_TO_FORWARD: b("03e8"),
    OUTGOING_CLTV_VALUE: b("90"),
    ENCRYPTED_RECIPIENT_DATA: b"sealed",
    TOTAL_AMOUNT_MSAT: b("07d0"),
}
BLINDED_HOP: dict[int, bytes] = {ENCRYPTED_RECIPIENT_DATA: b"sealed", CURRENT_PATH_KEY: NODES[0]}


def stream(records: dict[int, bytes]) -> bytes:
    """The payload with these records."""
    return write_records(records.items())


def without(records: dict[int, bytes], record: int) -> bytes:
    """The payload with one record fewer."""
    return stream({type: value for type, value in records.items() if type != record})


def the_fault(raw: bytes, is_final: bool) -> tuple[int, int]:
    """What a reader says is wrong with this payload."""
    with pytest.raises(InvalidPayload) as raised:
        decode_payload(raw, is_final)
    return raised.value.type, raised.value.offset


def test_the_figures_payloads() -> None:
    *hops, last = [unframed(hop["payload"]) for hop in VECTORS["onion_packet"]["hops"]]
    assert [decode_payload(hop, is_final=False) for hop in hops] == [
        HopPayload(Msat(15000), 1500, 1),
        HopPayload(Msat(14000), 1400, 2),
        HopPayload(Msat(12500), 1250, 3),
        HopPayload(Msat(10000), 1000, 4),
    ]
    received = decode_payload(last, is_final=True)
    assert (received.amt_to_forward, received.outgoing_cltv_value, received.total_msat) == (
        10000,
        1000,
        10000,
    )
    assert received.payment_secret == b("24a33562c54507a9334e79f0dc4f17d407e6d7c61f0e2f3d0d38599502f61704")


@bolt("payload.1")
def test_a_hop_learns_amount_expiry_and_channel() -> None:
    assert decode_payload(stream(HOP), is_final=False) == HopPayload(Msat(1000), 0x90, 5)


@bolt("payload.2")
def test_the_last_node_learns_the_secret_and_the_total() -> None:
    payload = decode_payload(stream(LAST), is_final=True)
    assert payload == HopPayload(Msat(1000), 0x90, payment_secret=bytes([7]) * 32, total_msat=Msat(2000))


@bolt("payload.2")
def test_without_a_total_the_part_is_the_whole() -> None:
    assert decode_payload(without(LAST, PAYMENT_DATA), is_final=True).total_msat == 1000


@bolt("payload.2")
def test_a_total_of_zero_is_a_total() -> None:
    assert decode_payload(stream(LAST | {PAYMENT_DATA: bytes(32)}), is_final=True).total_msat == 0


@bolt("payload.1", "payload.2")
@pytest.mark.parametrize(
    ("records", "missing", "is_final"),
    [
        (HOP, AMT_TO_FORWARD, False),
        (HOP, OUTGOING_CLTV_VALUE, False),
        (HOP, SHORT_CHANNEL_ID, False),
        (LAST, AMT_TO_FORWARD, True),
        (LAST, OUTGOING_CLTV_VALUE, True),
        (BLINDED_LAST, AMT_TO_FORWARD, True),
        (BLINDED_LAST, OUTGOING_CLTV_VALUE, True),
        (BLINDED_LAST, TOTAL_AMOUNT_MSAT, True),
    ],
)
def test_a_missing_record_is_named(records: dict[int, bytes], missing: int, is_final: bool) -> None:
    assert the_fault(without(records, missing), is_final) == (missing, 0)


@bolt("payload.1")
def test_an_empty_payload_lacks_the_amount() -> None:
    assert the_fault(b"", is_final=False) == the_fault(b"", is_final=True) == (AMT_TO_FORWARD, 0)


@bolt("payload.1")
@pytest.mark.parametrize("foreign", [PAYMENT_DATA, PAYMENT_METADATA, TOTAL_AMOUNT_MSAT, KEYSEND_PREIMAGE])
def test_a_hop_refuses_what_only_the_last_node_may_get(foreign: int) -> None:
    assert the_fault(stream(HOP | {foreign: bytes(32)}), is_final=False) == (foreign, len(stream(HOP)))


@pytest.mark.parametrize("unknown", [14, 300, 65536, 2**32, 2**64 - 2])
@pytest.mark.parametrize(("records", "is_final"), [(HOP, False), (LAST, True)])
def test_an_unknown_even_record_is_named(records: dict[int, bytes], is_final: bool, unknown: int) -> None:
    raw = stream(records | {unknown: b"?"})
    type, offset = the_fault(raw, is_final)
    assert type == unknown
    assert write_records([(unknown, b"?")]) == raw[offset:][: len(write_records([(unknown, b"?")]))]


@pytest.mark.parametrize("unknown", [1, 3, 13, 513, 65535])
def test_an_unknown_odd_record_is_passed_over(unknown: int) -> None:
    assert decode_payload(stream(HOP | {unknown: b"?"}), is_final=False) == decode_payload(
        stream(HOP), is_final=False
    )


def test_custom_records_reach_the_application() -> None:
    custom = {65537: b"one", 7629169: b"", 2**64 - 1: b"last"}
    payload = decode_payload(stream(LAST | custom), is_final=True)
    assert payload.custom_records == custom
    assert decode_payload(encode_payload(payload), is_final=True) == payload


def test_an_even_custom_record_needs_an_application_that_knows_it() -> None:
    raw = stream(LAST | {65536: b"for the shop", 65540: b"more"})
    with pytest.raises(InvalidPayload):
        decode_payload(raw, is_final=True, understood={65536})
    payload = decode_payload(raw, is_final=True, understood={65536, 65540})
    assert payload.custom_records == {65536: b"for the shop", 65540: b"more"}
    with pytest.raises(InvalidPayload):
        decode_payload(stream(HOP | {65536: b"for the shop"}), is_final=False, understood={65536})


def test_a_spontaneous_payment_brings_its_preimage() -> None:
    sent = HopPayload(Msat(1000), 0x90, keysend_preimage=bytes([9]) * 32)
    received = decode_payload(encode_payload(sent), is_final=True)
    assert received.keysend_preimage == bytes([9]) * 32
    assert received.total_msat == 1000


def test_payment_metadata_has_no_limit_of_its_own() -> None:
    sent = HopPayload(Msat(1), 1, payment_secret=bytes(32), total_msat=Msat(1), payment_metadata=bytes(1000))
    assert decode_payload(encode_payload(sent), is_final=True) == sent


@bolt("framing-tlv.6")
@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        ("0201010401", (4, 3)),
        ("02", (2, 0)),
        ("0201", (2, 0)),
        ("02fd00", (2, 0)),
        ("02010104010106", (6, 6)),
        ("040101020101", (2, 3)),
        ("020101020101", (2, 3)),
        ("fd0002010104010106080000000000000000", (0, 0)),
        ("02fd000101040101", (2, 0)),
        ("0201010401010600", (6, 6)),
        ("02010104010106090000000000000000ff", (6, 6)),
        ("02020001040101", (2, 0)),
        ("0209ffffffffffffffffff040101", (2, 0)),
        ("0201010405ffffffffff", (4, 3)),
        ("020101040200ff", (4, 3)),
        ("020101040101081f" + "00" * 31, (8, 6)),
        ("0201010401010822" + "00" * 34, (8, 6)),
        ("0201010401010829" + "ff" * 41, (8, 6)),
        ("020101040101120200ff", (18, 6)),
        ("020101040101" + "ff0000000146c6616c" + "01" + "00", (KEYSEND_PREIMAGE, 6)),
    ],
)
def test_a_broken_record_is_named_with_its_place(raw: str, fault: tuple[int, int]) -> None:
    assert the_fault(b(raw), is_final=True) == fault


@bolt("blinded-paths.3")
def test_a_blinded_hop_gets_neither_amount_nor_expiry() -> None:
    payload = decode_payload(stream(BLINDED_HOP), is_final=False)
    assert payload == HopPayload(encrypted_recipient_data=b"sealed", current_path_key=NODES[0])


@bolt("blinded-paths.3")
def test_the_last_blinded_node_gets_amount_expiry_and_total() -> None:
    payload = decode_payload(stream(BLINDED_LAST), is_final=True)
    assert payload == HopPayload(Msat(1000), 0x90, total_msat=Msat(2000), encrypted_recipient_data=b"sealed")


@bolt("blinded-paths.3")
@pytest.mark.parametrize("extra", [1, 6, 8, 13, 16, 513, 65537, KEYSEND_PREIMAGE])
@pytest.mark.parametrize(("records", "is_final"), [(BLINDED_HOP, False), (BLINDED_LAST, True)])
def test_inside_a_blinded_path_nothing_else_is_allowed(
    records: dict[int, bytes], is_final: bool, extra: int
) -> None:
    assert the_fault(stream(records | {extra: bytes(8)}), is_final)[0] == extra


@bolt("blinded-paths.2")
@pytest.mark.parametrize(("records", "is_final"), [(HOP, False), (LAST, True)])
def test_a_path_key_without_encrypted_data_is_refused(records: dict[int, bytes], is_final: bool) -> None:
    assert the_fault(stream(records | {CURRENT_PATH_KEY: NODES[0]}), is_final)[0] == CURRENT_PATH_KEY


@pytest.mark.parametrize("key", [bytes(33), NODES[0][:-1], NODES[0] + b"\x00", b""])
def test_a_path_key_must_be_a_point(key: bytes) -> None:
    assert the_fault(stream(BLINDED_HOP | {CURRENT_PATH_KEY: key}), is_final=False)[0] == CURRENT_PATH_KEY


def test_the_fault_is_what_the_sender_is_told() -> None:
    failure = InvalidPayload(4, 17).failure
    assert (failure.code, failure.type, failure.offset) == (FailureCode.invalid_onion_payload, 4, 17)


amounts = st.integers(0, 2**64 - 1).map(Msat)
optional_bytes = st.none() | st.binary(max_size=80)
custom = st.dictionaries(
    st.integers(FIRST_CUSTOM_TYPE // 2, 2**62).map(lambda half: 2 * half + 1),
    st.binary(max_size=20),
    max_size=3,
)
hop_payloads = st.builds(
    HopPayload, amounts, st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), custom_records=custom
)
blinded_hop_payloads = st.builds(
    HopPayload,
    encrypted_recipient_data=st.binary(max_size=80),
    current_path_key=st.none() | st.sampled_from(NODES),
)
last_payloads = st.builds(
    HopPayload,
    amounts,
    st.integers(0, 2**32 - 1),
    payment_secret=st.none() | st.binary(min_size=32, max_size=32),
    total_msat=amounts,
    payment_metadata=optional_bytes,
    keysend_preimage=st.none() | st.binary(min_size=32, max_size=32),
    custom_records=custom,
)
blinded_last_payloads = st.builds(
    HopPayload,
    amounts,
    st.integers(0, 2**32 - 1),
    total_msat=amounts,
    encrypted_recipient_data=st.binary(max_size=80),
    current_path_key=st.none() | st.sampled_from(NODES),
)


@given(
    st.tuples(hop_payloads | blinded_hop_payloads, st.just(False))
    | st.tuples(last_payloads | blinded_last_payloads, st.just(True))
)
def test_a_payload_survives_the_wire(payload_and_place: tuple[HopPayload, bool]) -> None:
    payload, is_final = payload_and_place
    assert decode_payload(encode_payload(payload), is_final) == payload


@given(st.binary(max_size=120), st.booleans())
def test_any_bytes_are_an_invalid_payload_or_one_that_survives(raw: bytes, is_final: bool) -> None:
    check_any(raw, is_final)


@given(
    st.dictionaries(
        st.sampled_from([1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 65537, KEYSEND_PREIMAGE]),
        st.binary(max_size=9)
        | st.integers(0, 2**64).map(write_truncated)
        | st.binary(min_size=32, max_size=40),
        max_size=6,
    ),
    st.booleans(),
)
def test_any_records_are_an_invalid_payload_or_one_that_survives(records: Any, is_final: bool) -> None:
    check_any(stream(records), is_final)


def check_any(raw: bytes, is_final: bool) -> None:
    """Bytes are refused with a place inside them, or decode to a value that encodes to the same value."""
    payload, fault = decoded(raw, is_final)
    if fault is not None:
        assert 0 <= fault.offset <= len(raw)
        assert 0 <= fault.type < 2**64
    if payload is not None:
        assert decode_payload(encode_payload(payload), is_final) == payload


def decoded(raw: bytes, is_final: bool) -> tuple[HopPayload | None, InvalidPayload | None]:
    """The payload or what is wrong with it."""
    try:
        return decode_payload(raw, is_final), None
    except InvalidPayload as fault:
        return None, fault
