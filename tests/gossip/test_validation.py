"""Which messages are believed: signatures, outputs, timestamps, features (BOLT 7)."""

import msgspec
import pytest

from gossip.errors import (
    AddressesCutOff,
    AlreadyKnown,
    BadSignature,
    ConflictingUpdate,
    FromTheFuture,
    Ignore,
    NodesNotAscending,
    NotTheFundingOutput,
    TooOld,
    UnknownChain,
    Warn,
)
from gossip.graph import Policy
from gossip.validation import (
    channel_of,
    check_channel_announcement,
    check_channel_update,
    check_funding_output,
    check_node_announcement,
    check_not_ahead,
    check_not_stale,
    is_understood,
    may_forward,
    node_of,
    policy_of,
)
from tests.bolt import bolt
from tests.gossip.lines import a_policy
from tests.gossip.routers import (
    ALICE,
    BOB,
    CAPACITY_SAT,
    CAROL,
    NOW_SECONDS,
    REGTEST,
    a_scid,
    announced,
    named,
    output_of,
    own_channel,
    updated,
)
from wire.bitcoin.script import funding_script, p2wsh
from wire.crypto.secp256k1 import GROUP_ORDER
from wire.features import Features
from wire.messages.catalogue import decode, encode
from wire.messages.gossip import ChannelAnnouncement, ChannelUpdate, NodeAnnouncement, signed_digest

SCID = a_scid(1)
CHANNEL = own_channel(ALICE, BOB, SCID)


def announcement(**changes: object) -> tuple[ChannelAnnouncement, bytes]:
    message = decode(announced(ALICE, BOB, SCID))
    assert isinstance(message, ChannelAnnouncement)
    message = msgspec.structs.replace(message, **changes)
    return message, encode(message)


def update(policy: Policy | None = None) -> tuple[ChannelUpdate, bytes]:
    raw = updated(ALICE, BOB, SCID, policy)
    message = decode(raw)
    assert isinstance(message, ChannelUpdate)
    return message, raw


def node(**changes: object) -> tuple[NodeAnnouncement, bytes]:
    message = decode(named(ALICE))
    assert isinstance(message, NodeAnnouncement)
    unsigned = msgspec.structs.replace(message, **changes)
    signed = msgspec.structs.replace(unsigned, signature=ALICE.sign(signed_digest(encode(unsigned))))
    return signed, encode(signed)


@bolt("validation.1", "own-announcements.2")
def test_an_announcement_with_its_four_signatures_is_good() -> None:
    check_channel_announcement(*announcement(), REGTEST)


@bolt("validation.1")
@pytest.mark.parametrize(
    "field", ["node_signature_1", "node_signature_2", "bitcoin_signature_1", "bitcoin_signature_2"]
)
def test_each_of_the_four_signatures_counts(field: str) -> None:
    other = getattr(announcement()[0], "bitcoin_signature_1" if field[0] == "n" else "node_signature_1")
    with pytest.raises(BadSignature) as caught:
        check_channel_announcement(*announcement(**{field: other}), REGTEST)
    assert caught.value.field == field
    assert isinstance(caught.value, Warn)


@bolt("validation.1")
def test_a_signature_covers_what_we_cannot_read() -> None:
    with pytest.raises(BadSignature):
        check_channel_announcement(*announcement(extension=b"\x01\x00"), REGTEST)


@bolt("validation.1")
def test_a_mirrored_signature_is_not_accepted() -> None:
    """A signature with a high S is the same statement, but would let anyone change our bytes."""
    good = announcement()[0].node_signature_1
    mirrored = good[:32] + (GROUP_ORDER - int.from_bytes(good[32:], "big")).to_bytes(32, "big")
    with pytest.raises(BadSignature):
        check_channel_announcement(*announcement(node_signature_1=mirrored), REGTEST)


@bolt("validation.1")
def test_nodes_out_of_order_cost_a_warning() -> None:
    message = announcement()[0]
    swapped = announcement(node_id_1=message.node_id_2, node_id_2=message.node_id_1)
    with pytest.raises(NodesNotAscending):
        check_channel_announcement(*swapped, REGTEST)


@bolt("validation.1")
def test_another_chain_is_none_of_our_business() -> None:
    with pytest.raises(UnknownChain) as caught:
        check_channel_announcement(*announcement(), bytes(32))
    assert isinstance(caught.value, Ignore)
    assert REGTEST.hex() in str(caught.value)


@bolt("validation.1")
def test_the_output_must_be_the_p2wsh_of_both_keys() -> None:
    message, raw = announcement()
    check_funding_output(message, output_of(raw))
    stranger = p2wsh(funding_script(message.bitcoin_key_1, CAROL.end(SCID).funding_pubkey))
    for script in (stranger, None, b""):
        with pytest.raises(NotTheFundingOutput, match="103x1x0"):
            check_funding_output(message, script)


@bolt("validation.2")
def test_unknown_even_features_are_not_understood_unknown_odd_ones_are_no_matter() -> None:
    assert is_understood(Features(1 << 201).to_bytes())
    assert not is_understood(Features(1 << 200).to_bytes())
    raw = announced(ALICE, BOB, SCID, Features(1 << 200))
    message = decode(raw)
    assert isinstance(message, ChannelAnnouncement)
    check_channel_announcement(message, raw, REGTEST)
    assert not channel_of(message, CAPACITY_SAT).is_understood
    assert not node_of(node(features=Features(1 << 200).to_bytes())[0]).is_understood


@bolt("validation.3")
def test_an_update_is_its_owners_word() -> None:
    check_channel_update(*update(), CHANNEL, None, NOW_SECONDS)
    message, _ = update()
    forged = msgspec.structs.replace(message, signature=BOB.sign(signed_digest(encode(message))))
    with pytest.raises(BadSignature) as caught:
        check_channel_update(forged, encode(forged), CHANNEL, None, NOW_SECONDS)
    assert caught.value.key == ALICE.node_id


@bolt("validation.3")
def test_an_update_that_is_not_newer_is_ignored() -> None:
    old, new = (updated(ALICE, BOB, SCID, a_policy(timestamp=NOW_SECONDS + i)) for i in (0, 1))
    for raw, previous in ((old, new), (new, new)):
        message = decode(raw)
        assert isinstance(message, ChannelUpdate)
        with pytest.raises(AlreadyKnown):
            check_channel_update(message, raw, CHANNEL, previous, NOW_SECONDS)


@bolt("validation.3")
def test_two_different_updates_of_one_second_contradict_each_other() -> None:
    message, raw = update()
    previous = updated(ALICE, BOB, SCID, a_policy(timestamp=NOW_SECONDS, fee_base_msat=7))
    with pytest.raises(ConflictingUpdate):
        check_channel_update(message, raw, CHANNEL, previous, NOW_SECONDS)


def test_the_same_update_under_another_signature_is_no_contradiction() -> None:
    message, raw = update()
    with pytest.raises(AlreadyKnown):
        check_channel_update(message, raw, CHANNEL, raw[:2] + bytes(64) + raw[66:], NOW_SECONDS)


def test_of_our_own_channel_its_other_end_may_say_what_is_old() -> None:
    """LDK dates updates of a channel that has seen no block with 1, 2, 3."""
    old, raw = update(a_policy(timestamp=2))
    with pytest.raises(TooOld):
        check_channel_update(old, raw, CHANNEL, None, NOW_SECONDS)
    check_channel_update(old, raw, CHANNEL, None, NOW_SECONDS, is_ours=True)


@bolt("validation.4")
def test_times_must_be_of_the_last_two_weeks_and_at_most_a_day_ahead() -> None:
    check_not_stale(NOW_SECONDS - 1_209_600, NOW_SECONDS)
    check_not_ahead(NOW_SECONDS + 86_400, NOW_SECONDS)
    with pytest.raises(TooOld):
        check_not_stale(NOW_SECONDS - 1_209_601, NOW_SECONDS)
    with pytest.raises(FromTheFuture):
        check_not_ahead(NOW_SECONDS + 86_401, NOW_SECONDS)


def test_a_policy_is_what_the_update_says() -> None:
    asked = a_policy(timestamp=NOW_SECONDS, fee_base_msat=7, cltv_expiry_delta=9, is_disabled=True)
    assert policy_of(update(asked)[0]) == asked


@bolt("validation.1")
def test_a_node_announcement_is_signed_by_its_node() -> None:
    message, raw = node()
    check_node_announcement(message, raw)
    with pytest.raises(BadSignature):
        check_node_announcement(message, raw + b"\0")
    other = msgspec.structs.replace(message, node_id=BOB.node_id)
    with pytest.raises(BadSignature):
        check_node_announcement(other, encode(other))


def test_addresses_cut_off_cost_a_warning() -> None:
    with pytest.raises(AddressesCutOff):
        check_node_announcement(*node(addresses=b"\x01\x7f\x00\x00\x01\x26"))


def test_an_unknown_kind_of_address_is_no_matter() -> None:
    check_node_announcement(*node(addresses=b"\xfe\x01"))


@bolt("validation.4")
def test_two_host_names_are_not_forwarded() -> None:
    name = b"\x05\x01a\x26\x07"
    assert may_forward(node(addresses=name)[0])
    assert not may_forward(node(addresses=name + name)[0])
