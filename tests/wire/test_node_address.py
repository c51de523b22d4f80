"""BOLT 7: address descriptors; BOLT 1: the one in an init."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bolt import bolt
from tests.wire.samples import vectors
from wire.codec import DecodeError, Truncated
from wire.node_address import (
    Address,
    BadHostname,
    Dns,
    Ipv4,
    Ipv6,
    NotOneAddress,
    TorV2,
    TorV3,
    Unread,
    announceable,
    parse,
    read_address,
    read_addresses,
    write_addresses,
)

TABLE = {row["name"]: row for row in vectors("messages")["address_descriptors"]}

ONION = base64.b32encode(bytes(range(35))).decode().lower() + ".onion"
EXAMPLES: dict[str, Address] = {
    "ipv4": Ipv4("127.0.0.1", 9735),
    "ipv6": Ipv6("2001:db8::1", 9736),
    "tor_v2_deprecated": TorV2(bytes(12)),
    "tor_v3": TorV3(ONION, 9735),
    "dns": Dns("rill.example", 9735),
}

ports = st.integers(0, 65535)
addresses = st.one_of(
    st.builds(Ipv4, st.ip_addresses(v=4).map(str), ports),
    st.builds(Ipv6, st.ip_addresses(v=6).map(str), ports),
    st.builds(TorV2, st.binary(min_size=12, max_size=12)),
    st.builds(Dns, st.text(st.characters(max_codepoint=127), min_size=1, max_size=255), ports),
)


@pytest.mark.parametrize("name", TABLE)
def test_a_descriptor_has_the_type_and_the_length_of_the_table(name: str) -> None:
    row, raw = TABLE[name], write_addresses([EXAMPLES[name]])
    assert raw[0] == row["type"]
    if row["bytes"]:
        assert len(raw) == 1 + row["bytes"]
    assert read_addresses(raw) == (EXAMPLES[name],)


@given(st.lists(addresses, max_size=4))
def test_addresses_come_back(some: list[Address]) -> None:
    assert read_addresses(write_addresses(some)) == tuple(some)


@given(st.lists(addresses, max_size=2).map(write_addresses), st.binary(max_size=50))
def test_any_descriptors_that_are_read_are_written_the_same(before: bytes, raw: bytes) -> None:
    try:
        found = read_addresses(before + raw)
    except DecodeError:
        return
    assert write_addresses(found) == before + raw


def test_what_follows_an_unknown_type_cannot_be_read() -> None:
    raw = write_addresses([EXAMPLES["ipv4"]]) + b"\x09 of the future"
    assert read_addresses(raw) == (EXAMPLES["ipv4"], Unread(b"\x09 of the future"))


@pytest.mark.parametrize("raw", ["01", "0500", "05", "0502aa"])
def test_a_descriptor_that_is_cut_off_is_refused(raw: str) -> None:
    with pytest.raises((Truncated, BadHostname)):
        read_addresses(bytes.fromhex(raw))


@pytest.mark.parametrize("raw", ["05000001", "0501ff0001"], ids=["empty", "not ASCII"])
def test_a_host_name_is_ascii(raw: str) -> None:
    with pytest.raises(BadHostname):
        read_addresses(bytes.fromhex(raw))


@bolt("init.4")
def test_an_init_holds_one_descriptor() -> None:
    one = EXAMPLES["ipv4"]
    assert read_address(write_addresses([one])) == one
    for count in (0, 2):
        with pytest.raises(NotOneAddress):
            read_address(write_addresses([one] * count))


@bolt("own-announcements.3")
def test_what_we_announce_is_sorted_and_can_be_connected_to() -> None:
    some: list[Address] = [
        Dns("a.example", 1),
        Ipv6("::1", 1),
        Ipv4("1.1.1.1", 0),
        Dns("b.example", 1),
        TorV2(bytes(12)),
        Ipv4("1.1.1.2", 1),
        Ipv4("1.1.1.2", 1),
        Unread(b"\0"),
    ]
    assert announceable(some) == (Ipv4("1.1.1.2", 1), Ipv6("::1", 1), Dns("a.example", 1))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1", Ipv4("127.0.0.1", 9735)),
        ("127.0.0.1:1", Ipv4("127.0.0.1", 1)),
        ("::1", Ipv6("::1", 9735)),
        ("[::1]", Ipv6("::1", 9735)),
        ("[::1]:80", Ipv6("::1", 80)),
        ("rill.example:65535", Dns("rill.example", 65535)),
        (f"{ONION}:9735", TorV3(ONION, 9735)),
    ],
)
def test_an_address_as_people_write_it(text: str, address: Address) -> None:
    assert parse(text) == address
    assert parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "a:",
        "a:65536",
        "a:b",
        "a:1:",
        "[::1",
        "[::1]80",
        "a b",
        "é",
        "x.onion",
        "::1%eth0",
        "a" * 256,
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(BadHostname):
        parse(text)
