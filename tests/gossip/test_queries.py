"""Queries: what is answered, in which order, and what we ask ourselves (BOLT 7)."""

from typing import Any

import pytest

from gossip.archive import crc32c
from gossip.errors import RaggedArrays, UnaskedReply, UnreadableArray
from gossip.graph import Channel
from gossip.queries import CHANNELS_PER_QUERY
from gossip.sync import Gossip
from tests.bolt import bolt
from tests.gossip.lines import a_policy
from tests.gossip.routers import (
    ALICE,
    BOB,
    CAROL,
    DIANA,
    NOW_SECONDS,
    REGTEST,
    a_router,
    a_scid,
    announced,
    confirm,
    named,
    sent,
    tell,
    updated,
    warnings,
)
from tests.wire.samples import vectors
from wire.features import GOSSIP_QUERIES_EX, OUR_INIT
from wire.messages.catalogue import decode, encode
from wire.messages.gossip import (
    EncodedFlags,
    EncodedTimestamps,
    QueryChannelRange,
    QueryShortChannelIds,
    ReplyChannelRange,
    ReplyShortChannelIdsEnd,
    read_query_flags,
    read_short_ids,
    read_timestamps,
    write_query_flags,
    write_short_ids,
    write_timestamps,
)
from wire.scid import parts

ALL = 0xFFFFFFFF
SCIDS = [a_scid(1, 103), a_scid(2, 103), a_scid(1, 110)]
PAIRS = [(ALICE, BOB), (BOB, CAROL), (ALICE, CAROL)]
ANNOUNCED = [
    announced(one, other, short_channel_id)
    for (one, other), short_channel_id in zip(PAIRS, SCIDS, strict=True)
]
END = encode(ReplyShortChannelIdsEnd(REGTEST, 1))
EXTENDED = OUR_INIT.with_optional(GOSSIP_QUERIES_EX)


def first_update(place: int) -> bytes:
    """The update of node_id_1 of a channel."""
    one, other = sorted(PAIRS[place], key=lambda party: party.node_id)
    return updated(one, other, SCIDS[place])


@pytest.fixture
def diana() -> Gossip:
    """Diana's router: it knows three channels, each with one update, and Alice and Bob by name."""
    router = a_router(DIANA)
    router.connected(ALICE.node_id, EXTENDED, NOW_SECONDS)
    for place in range(3):
        tell(router, ALICE, ANNOUNCED[place])
        confirm(router, ANNOUNCED[place])
        tell(router, ALICE, first_update(place))
    for party in (ALICE, BOB):
        tell(router, ALICE, named(party))
    return router


def ask_channels(*scids: int, flags: tuple[int, ...] | None = None) -> bytes:
    wishes = None if flags is None else write_query_flags(flags)
    return encode(QueryShortChannelIds(REGTEST, write_short_ids(scids), wishes))


def ranges(effects: Any) -> list[ReplyChannelRange]:
    return [reply for raw in sent(effects) if isinstance(reply := decode(raw), ReplyChannelRange)]


@bolt("queries.1")
def test_a_query_is_answered_with_channels_then_nodes_then_the_end(diana: Gossip) -> None:
    answer = sent(tell(diana, ALICE, ask_channels(SCIDS[0], SCIDS[1])))
    assert answer[:4] == [ANNOUNCED[0], first_update(0), ANNOUNCED[1], first_update(1)]
    assert sorted(answer[4:6]) == sorted([named(ALICE), named(BOB)])
    assert answer[6:] == [END]


@bolt("queries.1")
def test_unknown_channels_are_passed_over(diana: Gossip) -> None:
    assert sent(tell(diana, ALICE, ask_channels(1, 2, 3))) == [END]
    assert sent(tell(diana, ALICE, ask_channels())) == [END]


@bolt("queries.1")
@pytest.mark.parametrize("flag", range(32))
def test_flags_say_what_is_wanted(diana: Gossip, flag: int) -> None:
    *answer, end = sent(tell(diana, ALICE, ask_channels(SCIDS[0], flags=(flag,))))
    first, second = sorted(PAIRS[0], key=lambda party: party.node_id)
    on_offer = {1: ANNOUNCED[0], 2: first_update(0), 8: named(first), 16: named(second)}
    assert answer == [raw for bit, raw in on_offer.items() if flag & bit]
    assert end == END


@bolt("queries.1")
def test_another_chain_is_answered_with_nothing_and_says_so(diana: Gossip) -> None:
    query = encode(QueryShortChannelIds(bytes(32), write_short_ids(SCIDS)))
    assert sent(tell(diana, ALICE, query)) == [encode(ReplyShortChannelIdsEnd(bytes(32), 0))]
    (reply,) = ranges(tell(diana, ALICE, encode(QueryChannelRange(bytes(32), 5, 10))))
    assert (reply.first_blocknum, reply.number_of_blocks, reply.sync_complete) == (5, 10, 1)
    assert read_short_ids(reply.encoded_short_ids) == ()


@bolt("queries.1")
def test_a_spent_channel_is_not_given_out(diana: Gossip) -> None:
    diana.closed(SCIDS[0], 120)
    assert sent(tell(diana, ALICE, ask_channels(SCIDS[0]))) == [END]
    (reply,) = ranges(tell(diana, ALICE, encode(QueryChannelRange(REGTEST, 0, ALL))))
    assert read_short_ids(reply.encoded_short_ids) == (SCIDS[1], SCIDS[2])


@bolt("queries.2")
@pytest.mark.parametrize(
    ("first", "count", "places"),
    [(0, ALL, (0, 1, 2)), (103, 1, (0, 1)), (104, 6, ()), (104, 7, (2,)), (103, 7, (0, 1)), (1 << 30, 1, ())],
)
def test_a_range_is_answered_with_its_channels(
    diana: Gossip, first: int, count: int, places: tuple[int, ...]
) -> None:
    (reply,) = ranges(tell(diana, ALICE, encode(QueryChannelRange(REGTEST, first, count))))
    assert read_short_ids(reply.encoded_short_ids) == tuple(SCIDS[place] for place in places)
    assert (reply.first_blocknum, reply.number_of_blocks) == (first, count)
    assert reply.sync_complete == 1
    assert reply.timestamps_tlv is None
    assert reply.checksums_tlv is None


@bolt("queries.2")
def test_timestamps_and_checksums_come_if_asked_for(diana: Gossip) -> None:
    (reply,) = ranges(tell(diana, ALICE, encode(QueryChannelRange(REGTEST, 103, 1, 3))))
    assert reply.timestamps_tlv is not None
    assert reply.checksums_tlv is not None
    assert read_timestamps(reply.timestamps_tlv) == ((NOW_SECONDS, 0), (NOW_SECONDS, 0))
    raw = first_update(0)
    assert reply.checksums_tlv[0].checksum_node_id_1 == crc32c(raw[66:106] + raw[110:])
    assert reply.checksums_tlv[0].checksum_node_id_2 == 0


def test_an_update_is_summed_once_however_often_it_is_asked_for(
    diana: Gossip, monkeypatch: pytest.MonkeyPatch
) -> None:
    summed: list[bytes] = []

    def counted(octets: bytes) -> int:
        summed.append(octets)
        return crc32c(octets)

    monkeypatch.setattr("gossip.archive.crc32c", counted)
    for _ in range(3):
        tell(diana, ALICE, encode(QueryChannelRange(REGTEST, 0, 200, 3)))
    assert len(summed) == len(set(summed))


def test_the_checksum_is_that_of_rfc_3720() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283


@bolt("queries.2")
@pytest.mark.parametrize("per_block", [1, 700, 20_000])
def test_a_long_answer_comes_in_ordered_parts_that_cover_the_range(per_block: int) -> None:
    router = a_router(DIANA)
    router.connected(ALICE.node_id, OUR_INIT, NOW_SECONDS)
    known = [a_scid(number, 500 + number // per_block) for number in range(20_000)]
    update = first_update(0)
    for short_channel_id in known:
        renamed = update[:98] + short_channel_id.to_bytes(8, "big") + update[106:]
        router.archive.keep_announcement(short_channel_id, ANNOUNCED[0])
        router.archive.updates[short_channel_id << 1] = renamed
    replies = ranges(tell(router, ALICE, encode(QueryChannelRange(REGTEST, 100, 10**6, 1))))
    assert len(replies) > 2
    assert [reply.sync_complete for reply in replies] == [0] * (len(replies) - 1) + [1]
    assert replies[0].first_blocknum == 100
    assert replies[-1].first_blocknum + replies[-1].number_of_blocks == 100 + 10**6
    at = 100
    listed: list[int] = []
    for reply in replies:
        end = reply.first_blocknum + reply.number_of_blocks
        part = read_short_ids(reply.encoded_short_ids)
        assert at - 1 <= reply.first_blocknum <= at
        assert all(reply.first_blocknum <= parts(short_channel_id)[0] < end for short_channel_id in part)
        listed += part
        at = end
    assert listed == known


# what is refused


@bolt("queries.3")
@pytest.mark.parametrize(
    ("query", "why"),
    [
        (QueryShortChannelIds(REGTEST, b"\x01" + bytes(8)), UnreadableArray),
        (QueryShortChannelIds(REGTEST, b"\x02"), UnreadableArray),
        (QueryShortChannelIds(REGTEST, bytes(8)), UnreadableArray),
        (QueryShortChannelIds(REGTEST, bytes(9), EncodedFlags(1, b"\0")), UnreadableArray),
        (QueryShortChannelIds(REGTEST, bytes(9), EncodedFlags(0, b"\0\0")), RaggedArrays),
        (QueryShortChannelIds(REGTEST, bytes(9), EncodedFlags(0, b"\xfd\0\1")), UnreadableArray),
        (ReplyChannelRange(REGTEST, 0, ALL, 1, b"\x01" + bytes(8)), UnreadableArray),
        (ReplyChannelRange(REGTEST, 0, ALL, 1, bytes(9), EncodedTimestamps(0, b"")), RaggedArrays),
        (ReplyChannelRange(REGTEST, 0, ALL, 1, bytes(9), EncodedTimestamps(1, bytes(8))), UnreadableArray),
        (ReplyShortChannelIdsEnd(REGTEST, 1), UnaskedReply),
    ],
)
def test_arrays_must_be_plain_and_whole_and_answers_asked_for(diana: Gossip, query: Any, why: type) -> None:
    assert warnings(tell(diana, ALICE, encode(query))) == [why]


@bolt("queries.3")
@pytest.mark.parametrize("case", vectors("bolt7")["extended_queries"], ids=lambda case: case["message"])
def test_the_specifications_queries_are_answered_but_for_compressed_ones(case: dict[str, Any]) -> None:
    router = Gossip(DIANA.node_id, bytes.fromhex(case["chain_hash"]))
    router.connected(ALICE.node_id, EXTENDED, NOW_SECONDS)
    effects = tell(router, ALICE, bytes.fromhex(case["hex"]))
    if case.get("uses_retired_zlib"):
        assert warnings(effects) == [UnreadableArray]
    elif case["message"] == "reply_channel_range":
        (query,) = (decode(raw) for raw in sent(effects))
        assert isinstance(query, QueryShortChannelIds)
        assert len(read_short_ids(query.encoded_short_ids)) == len(case["short_channel_ids"]["ids"])
    else:
        assert warnings(effects) == []
        assert len(sent(effects)) == 1


# what we ask


@bolt("queries.3")
def test_one_query_of_each_kind_is_under_way_per_peer() -> None:
    router = a_router(DIANA)
    router.connected(ALICE.node_id, EXTENDED, NOW_SECONDS)
    asking = router.peers[ALICE.node_id].asking
    assert asking.range() == []
    listed = [a_scid(number, 200) for number in range(3 * CHANNELS_PER_QUERY // 2)]
    half = len(listed) // 2
    asked = []
    for first, part in ((0, listed[:half]), (200, listed[half:])):
        reply = ReplyChannelRange(
            REGTEST, first, ALL - first if first else 201, int(bool(first)), write_short_ids(part)
        )
        asked += sent(tell(router, ALICE, encode(reply)))
    assert len(asked) == 1
    while more := sent(tell(router, ALICE, END)):
        asked += more
    queries = [decode(raw) for raw in asked]
    assert [
        short_channel_id
        for query in queries
        if isinstance(query, QueryShortChannelIds)
        for short_channel_id in read_short_ids(query.encoded_short_ids)
    ] == listed
    assert len(asking.range()) == 1
    assert warnings(tell(router, ALICE, END)) == [UnaskedReply]


@bolt("queries.3")
def test_only_what_is_lacking_is_asked_for(diana: Gossip) -> None:
    times = [(NOW_SECONDS, 0), (NOW_SECONDS + 1, 7), (0, 0), (5, 5)]
    unknown = a_scid(9, 111)
    reply = ReplyChannelRange(REGTEST, 0, ALL, 1, write_short_ids([*SCIDS, unknown]), write_timestamps(times))
    (raw,) = sent(tell(diana, ALICE, encode(reply)))
    query = decode(raw)
    assert isinstance(query, QueryShortChannelIds)
    assert query.query_flags is not None
    assert read_short_ids(query.encoded_short_ids) == (SCIDS[1], unknown)
    assert read_query_flags(query.query_flags) == (6, 31)


@bolt("queries.3")
def test_what_is_being_looked_up_is_not_asked_for_again() -> None:
    router = a_router(DIANA)
    router.connected(ALICE.node_id, OUR_INIT, NOW_SECONDS)
    tell(router, ALICE, ANNOUNCED[0])
    reply = ReplyChannelRange(REGTEST, 0, ALL, 1, write_short_ids([SCIDS[0]]))
    assert sent(tell(router, ALICE, encode(reply))) == []


@bolt("queries.1", "queries.2", "queries.3")
def test_two_routers_level_their_knowledge_by_queries_alone(diana: Gossip) -> None:
    """No filter: all that Carol learns she has asked for."""
    carol = a_router(CAROL)
    waiting = sent(carol.connected(DIANA.node_id, EXTENDED, NOW_SECONDS))[1:]
    diana.connected(CAROL.node_id, EXTENDED, NOW_SECONDS)
    newer = updated(ALICE, BOB, SCIDS[0], a_policy(timestamp=NOW_SECONDS + 9))
    tell(diana, ALICE, newer)
    while waiting:
        for raw in sent(tell(diana, CAROL, waiting.pop())):
            waiting += sent(tell(carol, DIANA, raw))
            if raw in ANNOUNCED:
                confirm(carol, raw)
    known: dict[int, Channel] = diana.graph.channels
    assert carol.graph.channels == known
    assert carol.graph.policies == diana.graph.policies
    assert carol.graph.nodes == diana.graph.nodes
