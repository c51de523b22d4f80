"""BOLT 2: channels whose place stays secret, channels that are used unconfirmed, and what they are called."""

from itertools import product

import pytest
from msgspec.structs import replace

from htlc import opening, steps
from htlc.errors import UnacceptableOpening
from htlc.ladder import Dual
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE, Negotiated, Wish, format_of
from htlc.transactions import ChannelFormat
from tests.bolt import bolt
from tests.htlc.parties import ALICE_ID, ALL_FEATURES, BOB_ID, HOUSE, opened_channel, secrets_of
from wire import scid
from wire.features import ANCHORS, SCID_ALIAS, STATIC_REMOTEKEY, ZEROCONF, Features
from wire.messages.channel import AcceptChannel, OpenChannel
from wire.units import Msat, Sat

ALICE, BOB = secrets_of("alice"), secrets_of("bob")
TRUSTING = replace(HOUSE, zeroconf_peers=frozenset([ALICE_ID]))
SECRET = Features.of(STATIC_REMOTEKEY, ANCHORS, SCID_ALIAS).to_bytes()
EARLY = Features.of(STATIC_REMOTEKEY, ANCHORS, ZEROCONF).to_bytes()


def proposed(
    channel_type: bytes, negotiated: Negotiated = ALL_FEATURES, *, is_announced: bool = False
) -> OpenChannel:
    wish = Wish(Sat(1_000_000), Msat(0), 253, channel_type, is_announced)
    return opening.propose(HOUSE, negotiated, wish, BOB_ID, 0, ALICE, bytes(32))[1]


def accepted(
    proposal: OpenChannel, house: opening.House = HOUSE, negotiated: Negotiated = ALL_FEATURES
) -> AcceptChannel:
    return opening.accept(house, negotiated, proposal, ALICE_ID, 0, BOB)[1]


@bolt("open_channel.4")
def test_either_format_may_be_secret_or_early_or_both() -> None:
    for base, format in (
        (STATIC_REMOTEKEY_TYPE, ChannelFormat.STATIC_REMOTEKEY),
        (ANCHORS_TYPE, ChannelFormat.ANCHORS),
    ):
        for secret, early in product((0, 1 << 46), (0, 1 << 50)):
            bits = Features.from_bytes(base).bits | secret | early
            assert format_of(Features(bits).to_bytes()) is format


@bolt("open_channel.4")
@pytest.mark.parametrize(
    "bits", [(), (22,), (46,), (12, 47), (12, 22, 23), (12, 24), (13,), (12, 22, 46, 51)], ids=str
)
def test_no_other_bits_are_a_type(bits: tuple[int, ...]) -> None:
    assert format_of(Features(sum(1 << bit for bit in bits)).to_bytes()) is None


@bolt("open_channel.4")
def test_a_type_is_encoded_in_the_fewest_bytes() -> None:
    assert format_of(b"\0" + ANCHORS_TYPE) is None
    assert format_of(None) is None


@bolt("open_channel.4")
@pytest.mark.parametrize("lacking", ["anchors", "scid_alias", "zeroconf"])
def test_a_type_needs_what_both_have(lacking: str) -> None:
    everything = Features.of(STATIC_REMOTEKEY, ANCHORS, SCID_ALIAS, ZEROCONF).to_bytes()
    less = replace(ALL_FEATURES, **{lacking: False})
    with pytest.raises(UnacceptableOpening):
        proposed(everything, less)
    with pytest.raises(UnacceptableOpening):
        accepted(proposed(everything), TRUSTING, less)
    assert accepted(proposed(everything), TRUSTING).channel_type == everything


@bolt("open_channel.5")
def test_what_is_announced_cannot_be_secret() -> None:
    with pytest.raises(UnacceptableOpening):
        proposed(SECRET, is_announced=True)
    with pytest.raises(UnacceptableOpening):
        accepted(replace(proposed(SECRET), channel_flags=1))


@bolt("open_channel.5", "accept_channel.2")
def test_only_a_chosen_peer_is_trusted_before_a_block_comes() -> None:
    with pytest.raises(UnacceptableOpening):
        accepted(proposed(EARLY))
    assert accepted(proposed(EARLY), TRUSTING).minimum_depth == 0
    assert accepted(proposed(ANCHORS_TYPE), TRUSTING).minimum_depth == 0
    assert accepted(proposed(ANCHORS_TYPE), replace(HOUSE, minimum_depth_blocks=0)).minimum_depth == 1


@bolt("accept_channel.2")
def test_who_accepts_the_type_asks_for_no_depth() -> None:
    wish = Wish(Sat(1_000_000), Msat(0), 253, EARLY, False)
    stage, proposal = opening.propose(HOUSE, ALL_FEATURES, wish, BOB_ID, 0, ALICE, bytes(32))
    answer = accepted(proposal, TRUSTING)
    opening.receive_accept(stage, answer)
    with pytest.raises(UnacceptableOpening):
        opening.receive_accept(stage, replace(answer, minimum_depth=1))


@bolt("channel_ready.3")
def test_each_side_names_the_channel_and_says_so_again() -> None:
    alice, bob = opened_channel()
    ours, theirs = ALICE.alias(alice.channel.id), BOB.alias(alice.channel.id)
    assert alice.channel.aliases == Dual(ours, theirs)
    assert bob.channel.aliases == Dual(theirs, ours)
    # like no place in any chain, and different for every channel
    names = {secrets.alias(bytes([i]) * 32) for secrets in (ALICE, BOB) for i in range(50)}
    assert len(names) == 100
    assert all(scid.parts(name)[0] >= 0xF00000 and name < 1 << 64 for name in names)
    assert steps.ready_message(alice.channel, ALICE).short_channel_id == ours


@bolt("channel_ready.3")
def test_under_which_names_a_channel_is_found() -> None:
    alice, _ = opened_channel()
    channel = steps.mined(alice.channel, 1 << 40).channel
    ours, theirs = channel.aliases.local, channel.aliases.remote
    for is_announced, channel_type, graph_id, exits in (
        (True, ANCHORS_TYPE, 1 << 40, [1 << 40, ours]),
        (False, ANCHORS_TYPE, ours, [1 << 40, ours]),
        (False, SECRET, ours, [ours]),
    ):
        charter = replace(channel.charter, is_announced=is_announced, channel_type=channel_type)
        found = replace(channel, charter=charter)
        assert (found.graph_id, found.exit_ids(), found.hint_id) == (graph_id, exits, theirs)
    # from before aliases were given
    old = replace(channel, aliases=Dual(None, None))
    assert (old.graph_id, old.exit_ids(), old.hint_id) == (1 << 40, [1 << 40], 1 << 40)
    secret = replace(old, charter=replace(old.charter, is_announced=False, channel_type=SECRET))
    assert (secret.exit_ids(), secret.hint_id) == ([], None)
