"""Our own announcements: what is signed and how two halves make one (BOLT 7)."""

import pytest

from gossip.announcing import (
    alias_bytes,
    announcement_digest,
    bounded,
    check_their_signatures,
    next_timestamp,
    node_announcement,
    our_signatures,
    unsigned_announcement,
)
from gossip.errors import BadSignature, ImpossibleLimits, WrongShortChannelId
from gossip.validation import check_node_announcement
from tests.bolt import bolt
from tests.gossip.lines import a_policy
from tests.gossip.routers import ALICE, BOB, NOW_SECONDS, REGTEST, Party, a_scid, announced, updated
from wire.crypto.hashes import sha256d
from wire.crypto.secp256k1 import sign
from wire.features import NODE_ANNOUNCEMENT
from wire.messages.catalogue import decode, encode
from wire.messages.gossip import AnnouncementSignatures, ChannelAnnouncement, ChannelUpdate, NodeAnnouncement
from wire.node_address import Dns, Ipv4, Ipv6, read_addresses

SCID = a_scid(1)
UNSIGNED = unsigned_announcement(REGTEST, SCID, ALICE.end(SCID), BOB.end(SCID))


def half(party: Party, unsigned: ChannelAnnouncement = UNSIGNED) -> AnnouncementSignatures:
    return our_signatures(
        bytes(32), unsigned, party.sign, lambda digest: sign(party.funding_secret(SCID), digest)
    )


@bolt("own-announcements.2")
def test_both_sides_build_the_same_announcement() -> None:
    assert announced(ALICE, BOB, SCID) == announced(BOB, ALICE, SCID)
    assert unsigned_announcement(REGTEST, SCID, BOB.end(SCID), ALICE.end(SCID)) == UNSIGNED


@bolt("own-announcements.2")
def test_nodes_ascend_and_each_has_its_bitcoin_key_beside_it() -> None:
    assert UNSIGNED.node_id_1 < UNSIGNED.node_id_2
    first = ALICE if UNSIGNED.node_id_1 == ALICE.node_id else BOB
    assert UNSIGNED.bitcoin_key_1 == first.end(SCID).funding_pubkey
    assert UNSIGNED.features == b""


@bolt("own-announcements.2")
def test_what_is_signed_begins_at_byte_258() -> None:
    assert announcement_digest(UNSIGNED) == sha256d(announced(ALICE, BOB, SCID)[258:])


@bolt("own-announcements.1")
def test_the_peers_half_is_checked_before_it_is_used() -> None:
    check_their_signatures(half(BOB), UNSIGNED, BOB.node_id)
    with pytest.raises(BadSignature) as caught:
        check_their_signatures(half(BOB), UNSIGNED, ALICE.node_id)
    assert caught.value.field == "node_signature"
    crossed = AnnouncementSignatures(bytes(32), SCID, half(BOB).node_signature, half(ALICE).bitcoin_signature)
    with pytest.raises(BadSignature) as caught:
        check_their_signatures(crossed, UNSIGNED, BOB.node_id)
    assert caught.value.field == "bitcoin_signature"


@bolt("own-announcements.1")
def test_a_half_for_another_output_is_told_apart() -> None:
    elsewhere = unsigned_announcement(REGTEST, SCID + 1, ALICE.end(SCID), BOB.end(SCID))
    with pytest.raises(WrongShortChannelId, match="103x1x1"):
        check_their_signatures(half(BOB, elsewhere), UNSIGNED, BOB.node_id)


@bolt("own-announcements.4")
@pytest.mark.parametrize(("owner", "other"), [(ALICE, BOB), (BOB, ALICE)])
def test_the_direction_bit_is_the_nodes_place(owner: Party, other: Party) -> None:
    message = decode(updated(owner, other, SCID))
    assert isinstance(message, ChannelUpdate)
    assert message.channel_flags == int(owner.node_id > other.node_id)
    assert message.message_flags == 1


@bolt("own-announcements.4")
def test_before_the_announcement_an_update_says_that_it_is_not_for_others() -> None:
    message = decode(updated(ALICE, BOB, SCID, is_announced=False))
    assert isinstance(message, ChannelUpdate)
    assert message.message_flags == 3


@bolt("own-announcements.4")
def test_a_disabled_direction_says_so() -> None:
    message = decode(updated(ALICE, BOB, SCID, a_policy(is_disabled=True)))
    assert isinstance(message, ChannelUpdate)
    assert message.channel_flags & 2


@bolt("own-announcements.4")
def test_the_largest_htlc_is_within_capacity_and_the_peers_cap() -> None:
    asked = a_policy(htlc_maximum_msat=10**12, htlc_minimum_msat=1000)
    assert bounded(asked, 5, 10**9).htlc_maximum_msat == 5000
    assert bounded(asked, 10**6, 4000).htlc_maximum_msat == 4000
    with pytest.raises(ImpossibleLimits, match="at least 1000 msat"):
        bounded(asked, 10**6, 999)


@bolt("own-announcements.3", "own-announcements.4")
def test_each_timestamp_is_later_than_the_last() -> None:
    assert next_timestamp(NOW_SECONDS) == NOW_SECONDS
    assert next_timestamp(NOW_SECONDS, previous=NOW_SECONDS) == NOW_SECONDS + 1
    assert next_timestamp(NOW_SECONDS, previous=NOW_SECONDS + 9) == NOW_SECONDS + 10


@bolt("own-announcements.3")
@pytest.mark.parametrize(
    ("alias", "octets"),
    [("", bytes(32)), ("café", b"caf\xc3\xa9" + bytes(27)), ("x" * 31 + "é", b"x" * 31 + b"\0")],
)
def test_an_alias_is_32_bytes_of_whole_characters(alias: str, octets: bytes) -> None:
    assert alias_bytes(alias) == octets


@bolt("own-announcements.3")
def test_a_node_announces_ascending_addresses_with_one_host_name_and_no_port_0() -> None:
    addresses = (
        Dns("a.example", 1),
        Dns("b.example", 1),
        Ipv6("::1", 2),
        Ipv4("127.0.0.1", 0),
        Ipv4("127.0.0.1", 3),
    )
    raw = node_announcement(ALICE.node_id, NOW_SECONDS, ALICE.sign, alias="alice", addresses=addresses)
    message = decode(raw)
    assert isinstance(message, NodeAnnouncement)
    check_node_announcement(message, raw)
    assert read_addresses(message.addresses) == (Ipv4("127.0.0.1", 3), Ipv6("::1", 2), Dns("a.example", 1))
    assert message.features == NODE_ANNOUNCEMENT.to_bytes()
    assert encode(message) == raw
