"""Whatever a peer says, and whenever: the rule that it breaks is named, and nothing has changed.

A dance is stopped at any moment, and one side gets something else than what it would have got:
a message of any kind, true or false, early, late, twice or altered in one field. Then it either
is a message that the rules allow, and the channel still adds up; or it raises one of the
errors that name a remedy, and the channel is the one it was.
"""

from random import Random
from typing import Any

import msgspec
from hypothesis import given, note, settings
from hypothesis import strategies as st

from htlc import opening
from htlc.errors import FailChannel, Warn
from tests.bolt import bolt
from tests.htlc.parties import (
    ALICE_ID,
    ALL_FEATURES,
    ANCHORS,
    BOB_ID,
    FUNDING_OUTPOINT,
    HOUSE,
    Party,
    carried,
    hash_of,
    preimage_of,
    secrets_of,
)
from tests.properties.two_parties import Stage
from tests.wire.samples import structures
from wire.codec import DecodeError, EncodeError, Message
from wire.messages.catalogue import decode, encode
from wire.messages.channel import (
    AcceptChannel,
    ChannelReady,
    ChannelReestablish,
    ClosingComplete,
    ClosingSigned,
    CommitmentSigned,
    FundingCreated,
    FundingSigned,
    OpenChannel,
    RevokeAndAck,
    Shutdown,
    StartBatch,
    Stfu,
    UpdateAddHtlc,
    UpdateFailHtlc,
    UpdateFailMalformedHtlc,
    UpdateFee,
    UpdateFulfillHtlc,
)
from wire.units import Msat, Sat

FOR_A_CHANNEL: tuple[type[Message], ...] = (
    ChannelReady,
    UpdateAddHtlc,
    UpdateFulfillHtlc,
    UpdateFailHtlc,
    UpdateFailMalformedHtlc,
    UpdateFee,
    CommitmentSigned,
    RevokeAndAck,
    Shutdown,
    ClosingSigned,
    ChannelReestablish,
    Stfu,
    StartBatch,
    ClosingComplete,
    OpenChannel,
    FundingSigned,
)
ALICE, BOB = secrets_of("alice"), secrets_of("bob")
# numbers at which something may change
EDGES = (
    0,
    1,
    2,
    252,
    253,
    354,
    483,
    1000,
    100_000,
    10**7,
    499_999_999,
    500_000_000,
    2**32 - 1,
    2**63,
    2**64 - 1,
)
ROWDY = settings(max_examples=400)


@st.composite
def moments(draw: st.DrawFn) -> tuple[Stage, Party]:
    """A dance of two honest sides, stopped; and the side that hears something odd next."""
    stage = Stage(Random(draw(st.integers(0, 2**16))))
    stage.walk(draw(st.integers(1, 60)))
    return stage, draw(st.sampled_from(stage.parties))


def altered(draw: st.DrawFn, message: Message) -> Message:
    """The message with one field changed a little or wholly."""
    field = draw(st.sampled_from(msgspec.structs.fields(type(message)))).name
    value = getattr(message, field)
    return msgspec.structs.replace(message, **{field: draw(_instead_of(value))})


def _instead_of(value: Any) -> st.SearchStrategy[Any]:
    match value:
        case int():
            return st.sampled_from((value + 1, max(0, value - 1), *EDGES))
        case bytes() if value:
            flips = st.integers(0, 8 * len(value) - 1)
            return flips.map(lambda at: _flipped(value, at)) | st.just(bytes(len(value)))
        case tuple() if value:
            return st.sampled_from((value[:-1], (*value, value[0]), value[::-1], ()))
    return st.just(value)


def _flipped(value: bytes, at: int) -> bytes:
    return value[: at // 8] + bytes([value[at // 8] ^ 1 << at % 8]) + value[at // 8 + 1 :]


def known_words(draw: st.DrawFn, stage: Stage, party: Party) -> Message:
    """A message that names things of this channel, and so comes further than a random one."""
    channel, number = party.channel, draw(st.integers(0, 5))
    htlc_id = draw(st.sampled_from((*channel.htlcs.local, channel.next_htlc_id.remote, *EDGES)))
    amount_msat = draw(st.sampled_from(EDGES) | st.integers(0, 10**10))
    cltv_expiry = draw(st.sampled_from((140, *EDGES[:-2])))
    other = stage.other(party)
    secret = other.secrets.per_commitment_secret(number)
    point = other.secrets.per_commitment_point(number)
    words: tuple[Message, ...] = (
        UpdateAddHtlc(channel.id, htlc_id, Msat(amount_msat), hash_of(number), cltv_expiry, bytes(1366)),
        UpdateFulfillHtlc(channel.id, htlc_id, preimage_of(number)),
        UpdateFailHtlc(channel.id, htlc_id, b"reason"),
        UpdateFailMalformedHtlc(channel.id, htlc_id, bytes(32), amount_msat % 2**16),
        UpdateFee(channel.id, draw(st.integers(0, 2**32 - 1))),
        RevokeAndAck(channel.id, secret, point),
        ChannelReady(channel.id, point),
        Shutdown(channel.id, party.script),
        ClosingSigned(channel.id, Sat(amount_msat % 10**7), bytes(64)),
        ChannelReestablish(channel.id, number, draw(st.integers(0, 5)), secret, point),
    )
    return draw(st.sampled_from(words))


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Stage, Party, list[Message]]:
    """A moment, and up to three odd messages in a row."""
    stage, party = draw(moments())
    other, words = stage.other(party), []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(("next", "altered", "known", "known", "any", "replayed")))
        if kind in ("next", "altered") and other.outbox:
            message = other.next_message()
            words.append(altered(draw, message) if kind == "altered" else message)
        elif kind == "replayed" and stage.heard[party.name]:
            words.append(draw(st.sampled_from(stage.heard[party.name])))
        elif kind == "any":
            message = draw(structures(draw(st.sampled_from(FOR_A_CHANNEL))))
            named = "channel_id" in type(message).__struct_fields__
            words.append(msgspec.structs.replace(message, channel_id=party.channel.id) if named else message)
        else:
            words.append(known_words(draw, stage, party))
    return stage, party, words


def arrived(message: Message) -> Message | None:
    """The message as the codec lets it through, if it does."""
    try:
        decoded = decode(encode(message))
    except (DecodeError, EncodeError):
        return None
    assert isinstance(decoded, Message)
    return decoded


def effects_of(party: Party) -> tuple[int, ...]:
    """How much the party has said and done so far."""
    done = party.outbox, party.offers, party.settled, party.broadcast, party.gone
    return tuple([len(each) for each in done])


@ROWDY
@bolt("removing.2", "commitment_signed-revoke_and_ack.4", "update_fee.1", "shutdown.1")
@given(scenes())
def test_a_peer_changes_nothing_by_breaking_a_rule(scene: tuple[Stage, Party, list[Message]]) -> None:
    stage, party, words = scene
    note("\n".join(stage.story))
    for message in filter(None, map(arrived, words)):
        before, told = party.channel, repr(party.channel)
        done = effects_of(party)
        try:
            party.receive(message)
        except (Warn, FailChannel):
            assert party.channel is before
            assert repr(before) == told
            assert effects_of(party) == done
        else:
            stage.check_commitments(party)
            assert party.channel.id == before.id
            assert party.channel.charter is before.charter


# --- opening


def _the_opening() -> tuple[Message, ...]:
    wish = opening.Wish(Sat(1_000_000), Msat(500_000_000), 253, ANCHORS, True)
    stage, proposal = opening.propose(HOUSE, ALL_FEATURES, wish, BOB_ID, 0, ALICE, b"\x01" * 32)
    awaiting, answer = opening.accept(HOUSE, ALL_FEATURES, proposal, ALICE_ID, 0, BOB)
    _, created = opening.fund(opening.receive_accept(stage, answer), FUNDING_OUTPOINT, ALICE)
    _, signed = opening.receive_created(awaiting, created, BOB)
    return proposal, answer, created, signed


@st.composite
def strange_openings(draw: st.DrawFn) -> tuple[Message, ...]:
    """The four messages of an opening, up to three of their fields changed or all of one drawn."""
    said = list(_the_opening())
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, 3))
        said[place] = (
            draw(structures(type(said[place]))) if draw(st.booleans()) else altered(draw, said[place])
        )
    return tuple(said)


@ROWDY
@bolt("open_channel.7", "accept_channel.2", "funding_created-funding_signed.2")
@given(strange_openings(), st.sampled_from([ALL_FEATURES, opening.Negotiated()]))
def test_a_strange_opening_is_refused_or_leads_to_a_sound_channel(
    said: tuple[Message, ...], negotiated: opening.Negotiated
) -> None:
    try:
        for channel in _opened(tuple(map(carried, said)), negotiated):
            party = Party("somebody", channel)
            spec = channel.spec(channel.charter.opener, 0)
            assert spec.to_owner_msat + spec.to_other_msat == 1000 * channel.charter.funding_sat
            assert spec.to_owner_msat >= 0 <= spec.to_other_msat
            assert party.their_commitment().tx.outputs
    except (Warn, FailChannel, DecodeError, EncodeError):
        pass


def _opened(said: tuple[Message, ...], negotiated: opening.Negotiated) -> list[Any]:
    """What either side makes of what the other one says: channels, or an error."""
    proposal, answer, created, signed = said
    assert isinstance(proposal, OpenChannel)
    assert isinstance(answer, AcceptChannel)
    assert isinstance(created, FundingCreated)
    assert isinstance(signed, FundingSigned)
    stage, _ = opening.propose(
        HOUSE,
        ALL_FEATURES,
        opening.Wish(Sat(1_000_000), Msat(500_000_000), 253, ANCHORS, True),
        BOB_ID,
        0,
        ALICE,
        b"\x01" * 32,
    )
    channels = []
    try:
        awaiting, _ = opening.accept(HOUSE, negotiated, proposal, ALICE_ID, 0, BOB)
        channels.append(opening.receive_created(awaiting, created, BOB)[0])
    except (Warn, FailChannel):
        pass
    signing, _ = opening.fund(opening.receive_accept(stage, answer), FUNDING_OUTPOINT, ALICE)
    return [*channels, opening.receive_signed(signing, signed, ALICE)]
