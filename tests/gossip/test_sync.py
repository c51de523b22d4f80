"""The router: what it believes, what it waits for, and what it tells whom (BOLT 7)."""

import msgspec
import pytest

from gossip.effects import GraphChanged, LookUp, Send, Watch
from gossip.errors import BadSignature
from gossip.queries import WANTS_TIMESTAMPS
from gossip.sync import Gossip
from tests.bolt import bolt
from tests.gossip.lines import a_policy
from tests.gossip.routers import (
    ALICE,
    BOB,
    CAPACITY_SAT,
    CAROL,
    DIANA,
    ERIC,
    FUNDED_AT,
    HEIGHT,
    NOW_SECONDS,
    REGTEST,
    Party,
    a_router,
    a_scid,
    announced,
    confirm,
    named,
    output_of,
    own_channel,
    sent,
    tell,
    updated,
    warnings,
)
from wire.features import GOSSIP_QUERIES_EX, OUR_INIT, Features
from wire.messages.catalogue import decode, encode
from wire.messages.gossip import (
    ChannelAnnouncement,
    GossipTimestampFilter,
    NodeAnnouncement,
    QueryChannelRange,
    QueryShortChannelIds,
    signed_digest,
)
from wire.node_address import Dns, write_addresses

SCID = a_scid(1)
ANNOUNCEMENT = announced(ALICE, BOB, SCID)
FROM_ALICE = updated(ALICE, BOB, SCID)
FROM_BOB = updated(BOB, ALICE, SCID)
EVERYTHING = encode(GossipTimestampFilter(REGTEST, 0, 0xFFFFFFFF))


@pytest.fixture
def carol() -> Gossip:
    """Carol's router, with Alice and Diana connected; Diana wants everything."""
    router = a_router(CAROL)
    for peer in (ALICE, DIANA):
        router.connected(peer.node_id, OUR_INIT, NOW_SECONDS)
    tell(router, DIANA, EVERYTHING)
    router.flush()
    return router


def learn(router: Gossip, peer: Party, *messages: bytes) -> None:
    """The router hears this from the peer, and the chain confirms what is announced."""
    for raw in messages:
        tell(router, peer, raw)
        if isinstance(decode(raw), ChannelAnnouncement):
            confirm(router, raw)


# believing


@bolt("validation.1")
def test_an_announcement_is_believed_when_its_output_was_seen(carol: Gossip) -> None:
    assert tell(carol, ALICE, ANNOUNCEMENT) == [LookUp(SCID)]
    assert SCID not in carol.graph
    assert confirm(carol, ANNOUNCEMENT) == [Watch(SCID), GraphChanged()]
    assert carol.graph.channels[SCID].capacity_sat == CAPACITY_SAT


@bolt("validation.1")
def test_a_spent_or_foreign_output_is_ignored(carol: Gossip) -> None:
    for script in (None, output_of(announced(ALICE, BOB, SCID + 1))):
        tell(carol, ALICE, ANNOUNCEMENT)
        assert carol.found_output(SCID, script, CAPACITY_SAT, 6, NOW_SECONDS) == []
        assert SCID not in carol.graph


@bolt("validation.1")
def test_a_false_signature_costs_a_warning(carol: Gossip) -> None:
    message = decode(ANNOUNCEMENT)
    forged = encode(msgspec.structs.replace(message, node_signature_1=bytes(64)))
    assert warnings(tell(carol, ALICE, forged)) == [BadSignature]


@bolt("validation.1")
def test_an_output_is_looked_up_when_it_is_six_deep(carol: Gossip) -> None:
    assert tell(carol, ALICE, ANNOUNCEMENT, height=FUNDED_AT + 4) == []
    assert carol.new_block(FUNDED_AT + 4) == []
    assert carol.new_block(FUNDED_AT + 5) == [LookUp(SCID)]
    assert confirm(carol, ANNOUNCEMENT, depth_blocks=5) == []
    assert carol.new_block(FUNDED_AT + 6) == [LookUp(SCID)]
    assert Watch(SCID) in confirm(carol, ANNOUNCEMENT)


def test_a_false_candidate_does_not_crowd_out_the_true_announcement(carol: Gossip) -> None:
    false = announced(CAROL, DIANA, SCID)
    assert tell(carol, DIANA, false) == [LookUp(SCID)]
    assert tell(carol, ALICE, ANNOUNCEMENT) == []
    confirm(carol, ANNOUNCEMENT)
    assert {carol.graph.channels[SCID].node_id_1, carol.graph.channels[SCID].node_id_2} == {
        ALICE.node_id,
        BOB.node_id,
    }


def test_a_peer_has_one_candidate_for_each_output(carol: Gossip) -> None:
    tell(carol, DIANA, announced(CAROL, DIANA, SCID))
    assert tell(carol, DIANA, ANNOUNCEMENT) == []
    confirm(carol, ANNOUNCEMENT)
    assert SCID not in carol.graph


@bolt("validation.3")
def test_an_update_waits_for_its_announcement_and_asks_for_it(carol: Gossip) -> None:
    (asked,) = sent(tell(carol, ALICE, FROM_ALICE), to=ALICE)
    query = decode(asked)
    assert isinstance(query, QueryShortChannelIds)
    assert tell(carol, ALICE, FROM_BOB) == []
    learn(carol, ALICE, ANNOUNCEMENT)
    assert len(carol.graph.policies) == 2


@bolt("validation.3")
def test_a_false_update_does_not_crowd_out_the_true_one(carol: Gossip) -> None:
    later = a_policy(timestamp=NOW_SECONDS + 5)
    false = updated(ALICE, BOB, SCID, later)
    tell(carol, DIANA, false[:2] + bytes(64) + false[66:])
    tell(carol, ALICE, FROM_ALICE)
    tell(carol, ALICE, ANNOUNCEMENT)
    assert warnings(confirm(carol, ANNOUNCEMENT)) == [BadSignature]
    assert [policy.timestamp for policy in carol.graph.policies.values()] == [NOW_SECONDS]


@bolt("validation.3")
def test_updates_come_in_with_their_latest_word(carol: Gossip) -> None:
    learn(carol, ALICE, ANNOUNCEMENT)
    for timestamp, fee in ((NOW_SECONDS + 1, 7), (NOW_SECONDS, 8), (NOW_SECONDS + 2, 9)):
        tell(carol, ALICE, updated(ALICE, BOB, SCID, a_policy(timestamp=timestamp, fee_base_msat=fee)))
    assert [policy.fee_base_msat for policy in carol.graph.policies.values()] == [9]


@bolt("validation.3")
def test_an_update_for_two_pairs_of_eyes_means_nothing_to_a_third(carol: Gossip) -> None:
    private = updated(ALICE, BOB, SCID, is_announced=False)
    assert tell(carol, ALICE, private) == []
    learn(carol, ALICE, ANNOUNCEMENT)
    assert tell(carol, ALICE, private) == []
    assert not carol.graph.policies


def test_a_node_announcement_waits_for_a_channel(carol: Gossip) -> None:
    tell(carol, ALICE, named(ALICE))
    assert not carol.graph.nodes
    learn(carol, ALICE, ANNOUNCEMENT)
    assert carol.graph.nodes[ALICE.node_id].alias.startswith(b"alice\0")


def test_an_older_node_announcement_changes_nothing(carol: Gossip) -> None:
    learn(carol, ALICE, ANNOUNCEMENT, named(ALICE))
    assert tell(carol, ALICE, named(ALICE, NOW_SECONDS - 1)) == []
    assert tell(carol, ALICE, named(ALICE, NOW_SECONDS + 1)) == [GraphChanged()]


@bolt("validation.2")
def test_a_channel_with_unknown_even_features_is_relayed_but_not_walked(carol: Gossip) -> None:
    odd = announced(ALICE, BOB, SCID, Features(1 << 200))
    learn(carol, ALICE, odd, FROM_ALICE)
    assert not any(carol.graph.incoming)
    assert sent(carol.flush(), to=DIANA) == [odd, FROM_ALICE]


# closing


@bolt("validation.3")
def test_a_spent_channel_can_only_be_switched_off(carol: Gossip) -> None:
    learn(carol, ALICE, ANNOUNCEMENT, FROM_ALICE)
    carol.flush()
    carol.closed(SCID, HEIGHT)
    tell(carol, ALICE, updated(ALICE, BOB, SCID, a_policy(timestamp=NOW_SECONDS + 1)))
    assert not carol.flush()
    off = updated(ALICE, BOB, SCID, a_policy(timestamp=NOW_SECONDS + 2, is_disabled=True))
    tell(carol, ALICE, off)
    assert sent(carol.flush(), to=DIANA) == [off]


@bolt("validation.4")
def test_a_channel_is_forgotten_72_blocks_after_its_output_was_spent(carol: Gossip) -> None:
    learn(carol, ALICE, ANNOUNCEMENT, FROM_ALICE, named(ALICE))
    carol.closed(SCID, HEIGHT)
    assert carol.new_block(HEIGHT + 71) == []
    assert SCID in carol.graph
    assert carol.new_block(HEIGHT + 72) == [GraphChanged()]
    assert SCID not in carol.graph
    assert not carol.graph.nodes
    assert not carol.archive.nodes


def test_a_spending_transaction_that_is_reorganised_away_changes_nothing(carol: Gossip) -> None:
    learn(carol, ALICE, ANNOUNCEMENT)
    carol.closed(SCID, HEIGHT)
    carol.reopened(SCID)
    assert carol.new_block(HEIGHT + 72) == []


@bolt("validation.1")
def test_a_spent_channels_announcement_is_not_relayed(carol: Gossip) -> None:
    learn(carol, ALICE, ANNOUNCEMENT, FROM_ALICE)
    carol.closed(SCID, HEIGHT)
    assert ANNOUNCEMENT not in sent(carol.flush())


@bolt("validation.4")
def test_a_channel_not_heard_of_for_two_weeks_is_pruned(carol: Gossip) -> None:
    learn(carol, ALICE, ANNOUNCEMENT, FROM_ALICE, FROM_BOB)
    newer = NOW_SECONDS + 1_209_600
    assert carol.prune(newer) == []
    tell(carol, ALICE, updated(ALICE, BOB, SCID, a_policy(timestamp=newer)), now_seconds=newer)
    assert carol.prune(newer + 1) == [GraphChanged()]
    assert SCID not in carol.graph


def test_nodes_that_contradict_themselves_are_not_believed_any_more(carol: Gossip) -> None:
    """The same output and the same bitcoin keys, announced by other nodes: keys have leaked."""
    learn(carol, ALICE, ANNOUNCEMENT)
    learn(carol, ALICE, announced(ALICE, ERIC, SCID + 1))
    thief = Thief("eric")
    stolen = announced(thief, BOB, SCID)
    assert tell(carol, ALICE, stolen) == [GraphChanged()]
    assert len(carol.graph) == 0
    assert tell(carol, ALICE, ANNOUNCEMENT) == []


class Thief(Party, frozen=True):
    """A node that has Alice's funding keys."""

    def funding_secret(self, short_channel_id: int) -> bytes:
        return ALICE.funding_secret(short_channel_id)


# telling


@bolt("queries.4")
def test_nothing_is_relayed_before_the_filter_comes(carol: Gossip) -> None:
    learn(carol, DIANA, ANNOUNCEMENT, FROM_ALICE)
    assert sent(carol.flush(), to=ALICE) == []
    tell(carol, ALICE, EVERYTHING)
    assert sent(carol.flush(), to=ALICE) == [ANNOUNCEMENT, FROM_ALICE]


@bolt("queries.4")
def test_announcements_go_before_updates_before_nodes(carol: Gossip) -> None:
    messages = [named(ALICE), FROM_ALICE, FROM_BOB, named(BOB), ANNOUNCEMENT]
    learn(carol, ALICE, *messages)
    told = sent(carol.flush(), to=DIANA)
    assert sorted(told) == sorted(messages)
    assert [raw[1] for raw in told] == [0, 2, 2, 1, 1]


@bolt("queries.4")
def test_an_announcement_without_an_update_is_kept_back_and_its_nodes_too(carol: Gossip) -> None:
    learn(carol, ALICE, ANNOUNCEMENT, named(ALICE))
    assert carol.flush() == []
    tell(carol, ALICE, FROM_BOB)
    assert sent(carol.flush(), to=DIANA) == [ANNOUNCEMENT, FROM_BOB, named(ALICE)]


@bolt("queries.4")
def test_nothing_goes_back_to_where_it_came_from(carol: Gossip) -> None:
    tell(carol, ALICE, EVERYTHING)
    assert carol.flush() == []
    learn(carol, ALICE, ANNOUNCEMENT, FROM_ALICE)
    tell(carol, DIANA, FROM_ALICE)
    assert carol.flush() == [Send(DIANA.node_id, ANNOUNCEMENT)]


@bolt("queries.4")
def test_the_filter_lets_its_range_of_times_pass(carol: Gossip) -> None:
    tell(carol, ALICE, encode(GossipTimestampFilter(REGTEST, NOW_SECONDS, 2)))
    learn(carol, DIANA, ANNOUNCEMENT)
    for timestamp in range(NOW_SECONDS - 1, NOW_SECONDS + 3):
        tell(carol, DIANA, updated(ALICE, BOB, SCID, a_policy(timestamp=timestamp)))
        told = sent(carol.flush(), to=ALICE)
        assert bool(told) == (timestamp in (NOW_SECONDS, NOW_SECONDS + 1))


@bolt("queries.4")
def test_a_filter_for_another_chain_filters_nothing_of_ours(carol: Gossip) -> None:
    tell(carol, ALICE, encode(GossipTimestampFilter(bytes(32), 0, 0xFFFFFFFF)))
    learn(carol, DIANA, ANNOUNCEMENT, FROM_ALICE)
    assert sent(carol.flush(), to=ALICE) == []


@bolt("queries.4")
def test_a_filter_brings_what_is_known_in_order(carol: Gossip) -> None:
    learn(carol, ALICE, named(BOB), ANNOUNCEMENT, FROM_ALICE, FROM_BOB)
    carol.connected(ERIC.node_id, OUR_INIT, NOW_SECONDS)
    tell(carol, ERIC, EVERYTHING)
    assert sorted(sent(carol.flush(), to=ERIC)[1:3]) == sorted([FROM_ALICE, FROM_BOB])
    tell(carol, ERIC, encode(GossipTimestampFilter(REGTEST, NOW_SECONDS + 1, 9)))
    assert sent(carol.flush(), to=ERIC) == []


@bolt("queries.5")
def test_between_two_flushes_only_the_last_word_counts(carol: Gossip) -> None:
    learn(carol, ALICE, ANNOUNCEMENT, FROM_ALICE)
    newer = updated(ALICE, BOB, SCID, a_policy(timestamp=NOW_SECONDS + 1))
    tell(carol, ALICE, newer)
    assert carol.has_more
    assert sent(carol.flush(), to=DIANA) == [ANNOUNCEMENT, newer]
    assert not carol.has_more


def test_what_is_relayed_is_what_came_byte_for_byte(carol: Gossip) -> None:
    """Fields that come after those we know are signed too."""
    message = decode(named(ALICE))
    assert isinstance(message, NodeAnnouncement)
    longer = msgspec.structs.replace(message, extension=b"\xff\x00")
    signed = encode(msgspec.structs.replace(longer, signature=ALICE.sign(signed_digest(encode(longer)))))
    learn(carol, ALICE, ANNOUNCEMENT, FROM_ALICE, signed)
    assert signed in sent(carol.flush(), to=DIANA)


@bolt("validation.4")
def test_a_node_with_two_host_names_is_known_but_not_passed_on(carol: Gossip) -> None:
    message = decode(named(ALICE))
    assert isinstance(message, NodeAnnouncement)
    names = write_addresses([Dns("a.example", 1), Dns("b.example", 1)])
    longer = msgspec.structs.replace(message, addresses=names)
    signed = encode(msgspec.structs.replace(longer, signature=ALICE.sign(signed_digest(encode(longer)))))
    learn(carol, ALICE, ANNOUNCEMENT, FROM_ALICE, signed)
    assert ALICE.node_id in carol.graph.nodes
    assert sent(carol.flush(), to=DIANA) == [ANNOUNCEMENT, FROM_ALICE]


# our own


@pytest.fixture
def alice() -> Gossip:
    """Alice's router: an unannounced channel with Bob, connected to Bob and Carol, no filters yet."""
    router = a_router(ALICE)
    router.add_own(own_channel(ALICE, BOB, SCID), NOW_SECONDS)
    for peer in (BOB, CAROL):
        router.connected(peer.node_id, OUR_INIT, NOW_SECONDS)
    return router


@bolt("own-announcements.4")
def test_an_unannounced_channels_update_goes_to_its_other_end_only(alice: Gossip) -> None:
    private = updated(ALICE, BOB, SCID, is_announced=False)
    assert sent(alice.publish(private, NOW_SECONDS)) == [private]
    assert sent(alice.connected(CAROL.node_id, OUR_INIT, NOW_SECONDS))[2:] == []
    assert sent(alice.connected(BOB.node_id, OUR_INIT, NOW_SECONDS))[2:] == [private]
    tell(alice, CAROL, EVERYTHING)
    assert alice.flush() == []


@bolt("own-announcements.4")
def test_the_other_ends_update_is_learned_and_never_relayed(alice: Gossip) -> None:
    tell(alice, CAROL, EVERYTHING)
    private = updated(BOB, ALICE, SCID, is_announced=False)
    assert tell(alice, BOB, private) == [GraphChanged()]
    assert alice.flush() == []
    assert len(alice.graph.policies) == 1


@bolt("own-announcements.4")
def test_an_update_may_name_the_channel_by_an_alias(alice: Gossip) -> None:
    alice.add_own(own_channel(ALICE, BOB, SCID), NOW_SECONDS, (12345,))
    private = updated(BOB, ALICE, 12345, is_announced=False)
    assert tell(alice, BOB, private) == [GraphChanged()]
    assert alice.graph.policy(SCID, int(BOB.node_id > ALICE.node_id)) is not None


@bolt("own-announcements.4")
def test_an_update_that_names_an_alias_stays_with_us_even_if_it_may_be_forwarded(alice: Gossip) -> None:
    alice.add_own(own_channel(ALICE, BOB, SCID), NOW_SECONDS, (12345,))
    tell(alice, CAROL, EVERYTHING)
    alice.publish(ANNOUNCEMENT, NOW_SECONDS)
    assert tell(alice, BOB, updated(BOB, ALICE, 12345)) == [GraphChanged()]
    assert alice.flush() == []


@bolt("own-announcements.4")
def test_the_other_end_may_speak_before_we_know_our_channel() -> None:
    router = a_router(ALICE)
    router.connected(BOB.node_id, OUR_INIT, NOW_SECONDS)
    assert tell(router, BOB, updated(BOB, ALICE, 12345, is_announced=False)) == []
    router.add_own(own_channel(ALICE, BOB, SCID), NOW_SECONDS, (12345,))
    assert len(router.graph.policies) == 1


@bolt("queries.4", "own-announcements.2")
def test_our_own_gossip_goes_to_everybody_at_once(alice: Gossip) -> None:
    assert sent(alice.publish(named(ALICE), NOW_SECONDS)) == []
    assert sent(alice.publish(ANNOUNCEMENT, NOW_SECONDS)) == []
    told = alice.publish(FROM_ALICE, NOW_SECONDS)
    for peer in (BOB, CAROL):
        assert sent(told, to=peer) == [ANNOUNCEMENT, FROM_ALICE, named(ALICE)]
    assert sent(alice.connected(CAROL.node_id, OUR_INIT, NOW_SECONDS))[2:] == [
        ANNOUNCEMENT,
        FROM_ALICE,
        named(ALICE),
    ]


@bolt("own-announcements.2")
def test_what_was_said_before_the_announcement_still_counts_after_it(alice: Gossip) -> None:
    tell(alice, CAROL, EVERYTHING)
    tell(alice, BOB, FROM_BOB)
    assert alice.flush() == []
    assert sent(alice.publish(ANNOUNCEMENT, NOW_SECONDS), to=CAROL) == [ANNOUNCEMENT]
    assert sent(alice.flush(), to=CAROL) == [FROM_BOB]
    assert alice.graph.channels[SCID].is_announced


def test_our_channel_announced_by_the_other_end_first(alice: Gossip) -> None:
    learn(alice, BOB, ANNOUNCEMENT)
    assert alice.publish(ANNOUNCEMENT, NOW_SECONDS) == []
    assert sent(alice.publish(FROM_ALICE, NOW_SECONDS), to=CAROL) == [ANNOUNCEMENT, FROM_ALICE]


def test_our_own_channel_is_never_pruned(alice: Gossip) -> None:
    for raw in (ANNOUNCEMENT, FROM_ALICE):
        alice.publish(raw, NOW_SECONDS)
    assert alice.prune(NOW_SECONDS * 2) == []


def test_a_closed_unannounced_channel_is_gone_at_once(alice: Gossip) -> None:
    assert alice.closed(SCID, HEIGHT) == [GraphChanged()]
    assert len(alice.graph) == 0


# connecting


@bolt("queries.4", "queries.2")
def test_a_new_node_asks_its_first_peers_for_everything() -> None:
    router = a_router(ALICE)
    wants, asks = (decode(raw) for raw in sent(router.connected(BOB.node_id, OUR_INIT, NOW_SECONDS)))
    assert wants == GossipTimestampFilter(REGTEST, 0, 0xFFFFFFFF)
    # with the times of what there is, from a peer that can tell them
    assert asks == QueryChannelRange(REGTEST, 0, 0xFFFFFFFF, WANTS_TIMESTAMPS)
    plain = OUR_INIT.without(GOSSIP_QUERIES_EX)
    _, asks = (decode(raw) for raw in sent(router.connected(CAROL.node_id, plain, NOW_SECONDS)))
    assert asks == QueryChannelRange(REGTEST, 0, 0xFFFFFFFF)
    for peer, count in ((DIANA, 2), (ERIC, 1)):
        assert len(sent(router.connected(peer.node_id, OUR_INIT, NOW_SECONDS))) == count


@bolt("queries.4")
def test_a_node_that_knows_the_network_wants_what_is_new(carol: Gossip) -> None:
    learn(carol, ALICE, ANNOUNCEMENT, FROM_ALICE)
    wants = decode(sent(carol.connected(BOB.node_id, OUR_INIT, NOW_SECONDS))[0])
    assert wants == GossipTimestampFilter(REGTEST, NOW_SECONDS - 3600, 0xFFFFFFFF - NOW_SECONDS + 3600)


@bolt("queries.4")
def test_a_peer_not_worth_asking_is_asked_for_nothing() -> None:
    router = a_router(ALICE)
    assert sent(router.connected(BOB.node_id, Features(), NOW_SECONDS)) == []


def test_what_comes_after_a_peer_left_is_harmless(carol: Gossip) -> None:
    carol.disconnected(ALICE.node_id)
    assert tell(carol, ALICE, EVERYTHING) == []
    assert tell(carol, ALICE, ANNOUNCEMENT) == [LookUp(SCID)]
