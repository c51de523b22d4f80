"""A router among liars: no bytes make it fail, and none that differ from what was signed are believed."""

from hypothesis import given
from hypothesis import strategies as st

from gossip.sync import Gossip
from tests.bolt import bolt
from tests.gossip.routers import (
    ALICE,
    BOB,
    CAROL,
    HEIGHT,
    NOW_SECONDS,
    REGTEST,
    a_router,
    a_scid,
    announced,
    confirm,
    named,
    output_of,
    tell,
    updated,
)
from wire.codec import DecodeError
from wire.features import OUR_INIT
from wire.messages.catalogue import decode, encode
from wire.messages.gossip import (
    GossipTimestampFilter,
    QueryChannelRange,
    QueryShortChannelIds,
    ReplyChannelRange,
    ReplyShortChannelIdsEnd,
    write_query_flags,
    write_short_ids,
    write_timestamps,
)

SCID = a_scid(1)
ANNOUNCEMENT = announced(ALICE, BOB, SCID)
GOSSIP = [ANNOUNCEMENT, updated(ALICE, BOB, SCID), updated(BOB, ALICE, SCID), named(ALICE)]
QUERIES = [
    encode(message)
    for message in (
        QueryShortChannelIds(REGTEST, write_short_ids([SCID]), write_query_flags([31])),
        QueryChannelRange(REGTEST, 0, 1000, 3),
        ReplyChannelRange(REGTEST, 0, 1000, 1, write_short_ids([SCID]), write_timestamps([(1, 2)])),
        ReplyShortChannelIdsEnd(REGTEST, 1),
        GossipTimestampFilter(REGTEST, 0, 0xFFFFFFFF),
    )
]


def a_listener() -> Gossip:
    """Carol, connected to Alice."""
    router = a_router(CAROL)
    router.connected(ALICE.node_id, OUR_INIT, NOW_SECONDS)
    return router


@st.composite
def forgeries(draw: st.DrawFn) -> bytes:
    """A message with some bytes changed, cut off or appended; its type stays."""
    raw = bytearray(draw(st.sampled_from(GOSSIP + QUERIES)))
    for _ in range(draw(st.integers(0, 3))):
        raw[draw(st.integers(2, len(raw) - 1))] ^= draw(st.integers(1, 255))
    raw = raw[: draw(st.sampled_from([len(raw), draw(st.integers(2, len(raw)))]))]
    return bytes(raw) + draw(st.sampled_from([b"", b"\x00", b"\x01\x00"]))


@bolt("validation.1", "validation.3")
@given(st.lists(forgeries(), min_size=1, max_size=6))
def test_what_differs_from_what_was_signed_is_never_believed(messages: list[bytes]) -> None:
    router = a_listener()
    for raw in messages:
        try:
            decode(raw)
        except DecodeError:
            continue
        tell(router, ALICE, raw)
        router.found_output(SCID, output_of(ANNOUNCEMENT), 10_000_000, 6, NOW_SECONDS)
        router.new_block(HEIGHT)
        router.flush()
    heard = set(messages)
    assert (SCID in router.graph) == (ANNOUNCEMENT in heard)
    assert set(router.archive.announcements.values()) <= heard & set(GOSSIP)
    assert set(router.archive.updates.values()) <= heard & set(GOSSIP)
    assert set(router.archive.nodes.values()) <= heard & set(GOSSIP)


def test_a_flood_of_what_nobody_announced_is_bounded() -> None:
    router, raw = a_listener(), bytearray(updated(ALICE, BOB, SCID))
    for number in range(6000):
        raw[98:106] = number.to_bytes(8, "big")
        tell(router, ALICE, bytes(raw))
    assert len(router._updates) <= 5000
    assert len(router.peers[ALICE.node_id].asking.wanted) <= 6000
    confirm(router, ANNOUNCEMENT)
    assert len(router.graph) == 0
