"""BOLT 4: route blinding."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onion.blinded import (
    InvalidBlinding,
    MalformedRecipientData,
    PaymentConstraints,
    PaymentRelay,
    RecipientData,
    Undecryptable,
    blind,
    decode_recipient_data,
    encode_recipient_data,
    padded,
    unblind,
)
from onion.sphinx import blinded_secret, build, peel
from tests.bolt import bolt
from tests.onion.routes import NODE_SECRETS, NODES, VECTORS, b
from wire.blinded_path import BlindedHop, BlindedPath
from wire.crypto.secp256k1 import point_of
from wire.units import Msat

FIGURE: dict[str, Any] = VECTORS["route_blinding"]
PATH_SECRET = bytes([2]) * 32

scids = st.integers(0, 2**64 - 1)
amounts = st.integers(0, 2**64 - 1).map(Msat)
relays = st.builds(
    PaymentRelay, st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1).map(Msat)
)
constraints = st.builds(PaymentConstraints, st.integers(0, 2**32 - 1), amounts)
recipient_datas = st.builds(
    RecipientData,
    padding=st.none() | st.binary(max_size=20),
    short_channel_id=st.none() | scids,
    next_node_id=st.none() | st.sampled_from(NODES),
    path_id=st.none() | st.binary(max_size=300),
    next_path_key_override=st.none() | st.sampled_from(NODES),
    payment_relay=st.none() | relays,
    payment_constraints=st.none() | constraints,
    allowed_features=st.none() | st.binary(max_size=5),
)


def scid_of(text: str) -> int:
    """The number of a short_channel_id written 0x0x1."""
    block, transaction, output = map(int, text.split("x"))
    return block << 40 | transaction << 16 | output


def recipient_data_of(tlvs: dict[str, Any]) -> RecipientData:
    """What a figure's description says, without the records nobody knows."""
    fields: dict[str, Any] = {name: b(tlvs[name]) for name in ("padding", "path_id") if name in tlvs}
    fields |= {name: b(tlvs[name]) for name in ("next_node_id", "next_path_key_override") if name in tlvs}
    if "short_channel_id" in tlvs:
        fields["short_channel_id"] = scid_of(tlvs["short_channel_id"])
    if relay := tlvs.get("payment_relay"):
        fields["payment_relay"] = PaymentRelay(
            relay["cltv_expiry_delta"], relay["fee_proportional_millionths"], relay.get("fee_base_msat", 0)
        )
    if limits := tlvs.get("payment_constraints"):
        fields["payment_constraints"] = PaymentConstraints(**limits)
    if "allowed_features" in tlvs:
        bits = sum(1 << bit for bit in tlvs["allowed_features"]["features"])
        fields["allowed_features"] = bits.to_bytes((bits.bit_length() + 7) // 8, "big")
    return RecipientData(**fields)


@bolt("blinded-paths.1")
@pytest.mark.parametrize("hop", FIGURE["generate"]["hops"], ids=lambda hop: hop["alias"])
def test_the_figures_recipient_data(hop: dict[str, Any]) -> None:
    expected = recipient_data_of(hop["tlvs"])
    assert decode_recipient_data(b(hop["encoded_tlvs"])) == expected
    unknown = [name for name in hop["tlvs"] if name.startswith("unknown")]
    encoded = encode_recipient_data(expected)
    assert b(hop["encoded_tlvs"]).startswith(encoded)
    assert unknown or b(hop["encoded_tlvs"]) == encoded


@bolt("blinded-paths.1", "blinded-paths.4")
def test_the_figures_path_of_two_paths() -> None:
    """Bob and Carol blinded the sender's half, Dave and Eve the recipient's; an override joins them."""
    hops = FIGURE["generate"]["hops"]
    segments = []
    for start in (0, 2):
        part = [(b(hop["node_id"]), b(hop["encoded_tlvs"])) for hop in hops[start : start + 2]]
        segments.append(blind(b(hops[start]["session_key"]), part))
    assert segments[1].first_path_key == b(hops[1]["tlvs"]["next_path_key_override"])
    route = FIGURE["route"]
    assert BlindedPath(
        segments[0].first_node_id, segments[0].first_path_key, segments[0].hops + segments[1].hops
    ) == BlindedPath(
        b(route["first_node_id"]),
        b(route["first_path_key"]),
        tuple(BlindedHop(b(hop["blinded_node_id"]), b(hop["encrypted_data"])) for hop in route["hops"]),
    )


@bolt("blinded-paths.4")
@pytest.mark.parametrize("place", range(4))
def test_each_node_of_the_figure_unblinds(place: int) -> None:
    node, sealed = FIGURE["unblind"]["hops"][place], FIGURE["route"]["hops"][place]["encrypted_data"]
    secret, path_key = b(node["node_privkey"]), b(node["path_key"])
    assert blinded_secret(secret, path_key) == b(node["blinded_privkey"])
    unblinded = unblind(secret, path_key, b(sealed))
    assert unblinded.recipient_data == decode_recipient_data(b(node["decrypted_data"]))
    assert unblinded.next_path_key == b(node.get("next_path_key_override", node["next_path_key"]))


@given(st.lists(recipient_datas, min_size=1, max_size=6))
def test_every_node_of_a_path_finds_what_was_written_for_it(written: list[RecipientData]) -> None:
    path = blind(PATH_SECRET, list(zip(NODES, map(encode_recipient_data, written), strict=False)))
    path_key = path.first_path_key
    for secret, hop, expected in zip(NODE_SECRETS, path.hops, written, strict=False):
        unblinded = unblind(secret, path_key, hop.encrypted_recipient_data)
        assert unblinded.recipient_data == expected
        assert point_of(blinded_secret(secret, path_key)) == hop.blinded_node_id
        if expected.next_path_key_override is not None:
            break
        path_key = unblinded.next_path_key


def test_an_onion_for_a_blinded_id_is_peeled_with_the_path_key() -> None:
    path = blind(PATH_SECRET, [(node, b"") for node in NODES[:3]])
    hops = [(hop.blinded_node_id, bytes([2, 1, place])) for place, hop in enumerate(path.hops)]
    packet: bytes | None = build(bytes([3]) * 32, hops, b"").packet
    path_key = path.first_path_key
    for secret, hop, (_, payload) in zip(NODE_SECRETS, path.hops, hops, strict=False):
        assert packet is not None
        peeled = peel(secret, packet, b"", path_key)
        assert peeled.payload == payload
        packet = peeled.next_packet
        path_key = unblind(secret, path_key, hop.encrypted_recipient_data).next_path_key
    assert packet is None


@bolt("blinded-paths.1")
@given(st.lists(recipient_datas, min_size=1, max_size=6))
def test_padding_makes_all_ciphertexts_equally_long(written: list[RecipientData]) -> None:
    encoded = padded(written)
    assert len(set(map(len, encoded))) == 1
    for raw, expected in zip(encoded, written, strict=True):
        found = decode_recipient_data(raw)
        assert found.padding is not None
        assert not any(found.padding)
        assert (found.path_id, found.short_channel_id) == (expected.path_id, expected.short_channel_id)


@pytest.mark.parametrize("longer", [0, 1, 2, 251, 252, 253, 254, 255, 256, 257, 600])
def test_padding_fits_where_its_own_length_grows(longer: int) -> None:
    encoded = padded([RecipientData(path_id=bytes(300)), RecipientData(path_id=bytes(300 + longer))])
    assert len(encoded[0]) == len(encoded[1])


@bolt("blinded-paths.2")
@given(st.integers(0, 80), st.integers(1, 255))
def test_altered_data_does_not_decrypt(at: int, flip: int) -> None:
    path = blind(PATH_SECRET, [(NODES[0], encode_recipient_data(RecipientData(path_id=bytes(64))))])
    altered = bytearray(path.hops[0].encrypted_recipient_data)
    altered[at] ^= flip
    with pytest.raises(Undecryptable):
        unblind(NODE_SECRETS[0], path.first_path_key, bytes(altered))


@bolt("blinded-paths.2")
def test_another_key_another_node_or_no_data_does_not_decrypt() -> None:
    path = blind(PATH_SECRET, [(NODES[0], b"")])
    sealed = path.hops[0].encrypted_recipient_data
    for secret, path_key, encrypted in [
        (NODE_SECRETS[1], path.first_path_key, sealed),
        (NODE_SECRETS[0], NODES[5], sealed),
        (NODE_SECRETS[0], bytes(33), sealed),
        (NODE_SECRETS[0], path.first_path_key, b""),
    ]:
        with pytest.raises(Undecryptable):
            unblind(secret, path_key, encrypted)


@bolt("blinded-paths.3")
@pytest.mark.parametrize(
    "raw",
    [
        "1000",
        "0a05000000000000",
        "0a070000000000000000",
        "0c0300000",
        "0202",
        "0207" + "00" * 7,
        "0421" + "00" * 33,
    ],
)
def test_malformed_data_is_refused(raw: str) -> None:
    path = blind(PATH_SECRET, [(NODES[0], b(raw + "0" * (len(raw) % 2)))])
    with pytest.raises(MalformedRecipientData):
        unblind(NODE_SECRETS[0], path.first_path_key, path.hops[0].encrypted_recipient_data)


@given(recipient_datas)
def test_recipient_data_survives_the_wire(recipient_data: RecipientData) -> None:
    assert decode_recipient_data(encode_recipient_data(recipient_data)) == recipient_data


@given(st.binary(max_size=80))
def test_any_bytes_are_refused_or_survive(raw: bytes) -> None:
    try:
        recipient_data = decode_recipient_data(raw)
    except InvalidBlinding:
        return
    assert decode_recipient_data(encode_recipient_data(recipient_data)) == recipient_data
