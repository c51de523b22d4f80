"""Nodes with real keys, what they sign, and routers joined by queues: no socket, no clock."""

from collections.abc import Iterable, Iterator

import msgspec

from gossip.announcing import (
    NO_FEATURES,
    End,
    Sign,
    channel_announcement,
    channel_update,
    node_announcement,
    our_signatures,
    unsigned_announcement,
)
from gossip.effects import Effect, LookUp, Send, SendWarning
from gossip.graph import Channel, Policy
from gossip.sync import Gossip
from tests.gossip.lines import a_policy
from wire.bitcoin.block import CHAIN_HASH
from wire.bitcoin.script import funding_script, p2wsh
from wire.crypto.hashes import sha256
from wire.crypto.secp256k1 import Point, Secret, Signature, point_of, sign
from wire.features import OUR_INIT, Features
from wire.messages.catalogue import decode
from wire.messages.gossip import ChannelAnnouncement
from wire.scid import scid
from wire.units import Sat

REGTEST = CHAIN_HASH["regtest"]
CAPACITY_SAT = Sat(10_000_000)
NOW_SECONDS = 1_700_000_000
HEIGHT = 120
FUNDED_AT = 103


class Party(msgspec.Struct, frozen=True):
    """A node that signs: its secret, and one funding secret per channel."""

    name: str

    @property
    def secret(self) -> Secret:
        return sha256(self.name.encode())

    @property
    def node_id(self) -> Point:
        return point_of(self.secret)

    def funding_secret(self, short_channel_id: int) -> Secret:
        return sha256(self.name.encode(), short_channel_id.to_bytes(8, "big"))

    def end(self, short_channel_id: int) -> End:
        return End(self.node_id, point_of(self.funding_secret(short_channel_id)))

    def sign(self, digest: bytes) -> Signature:
        return sign(self.secret, digest)

    def signer_for(self, short_channel_id: int) -> Sign:
        return lambda digest: sign(self.funding_secret(short_channel_id), digest)


ALICE, BOB, CAROL, DIANA, ERIC = parties = [
    Party(name) for name in ("alice", "bob", "carol", "diana", "eric")
]


def a_scid(number: int, block: int = FUNDED_AT) -> int:
    """The id of a numbered channel."""
    return scid(block, number, 0)


def announced(one: Party, other: Party, short_channel_id: int, features: Features = NO_FEATURES) -> bytes:
    """The channel_announcement of the two."""
    unsigned = unsigned_announcement(
        REGTEST, short_channel_id, one.end(short_channel_id), other.end(short_channel_id), features
    )
    halves = [
        our_signatures(bytes(32), unsigned, party.sign, party.signer_for(short_channel_id))
        for party in (one, other)
    ]
    return channel_announcement(unsigned, halves[0], halves[1], one.node_id)


def updated(
    owner: Party,
    other: Party,
    short_channel_id: int,
    policy: Policy | None = None,
    *,
    is_announced: bool = True,
) -> bytes:
    """The channel_update of the owner's direction."""
    return channel_update(
        policy or a_policy(timestamp=NOW_SECONDS),
        REGTEST,
        short_channel_id,
        int(owner.node_id > other.node_id),
        owner.sign,
        is_announced=is_announced,
    )


def named(party: Party, timestamp: int = NOW_SECONDS) -> bytes:
    """The node_announcement of a party."""
    return node_announcement(party.node_id, timestamp, party.sign, alias=party.name)


def output_of(announcement: bytes) -> bytes:
    """The script that the chain has there if the announcement is true."""
    message = decode(announcement)
    assert isinstance(message, ChannelAnnouncement)
    return p2wsh(funding_script(message.bitcoin_key_1, message.bitcoin_key_2))


def own_channel(one: Party, other: Party, short_channel_id: int) -> Channel:
    """What the two know of their channel before it is announced."""
    low, high = sorted((one.node_id, other.node_id))
    return Channel(short_channel_id, low, high, CAPACITY_SAT)


def a_router(party: Party) -> Gossip:
    """The party's router, knowing nothing."""
    return Gossip(party.node_id, REGTEST)


def tell(
    router: Gossip, peer: Party, raw: bytes, now_seconds: int = NOW_SECONDS, height: int = HEIGHT
) -> list[Effect]:
    """The router receives a message from the peer."""
    return router.receive(peer.node_id, raw, decode(raw), now_seconds, height)


def confirm(router: Gossip, announcement: bytes, depth_blocks: int = 6) -> list[Effect]:
    """The chain shows the router the output that is announced."""
    message = decode(announcement)
    assert isinstance(message, ChannelAnnouncement)
    script = output_of(announcement)
    return router.found_output(message.short_channel_id, script, CAPACITY_SAT, depth_blocks, NOW_SECONDS)


def sent(effects: Iterable[Effect], to: Party | None = None) -> list[bytes]:
    """The messages that are sent, to one peer or to all."""
    return [
        effect.raw for effect in effects if isinstance(effect, Send) and to in (None, _named(effect.peer))
    ]


def warnings(effects: Iterable[Effect]) -> list[type]:
    """What peers are warned of."""
    return [type(effect.why) for effect in effects if isinstance(effect, SendWarning)]


def _named(node_id: Point) -> Party:
    return next(party for party in parties if party.node_id == node_id)


class Network:
    """Routers joined by queues that anybody may deliver from in any order."""

    def __init__(self, members: Iterable[Party]) -> None:
        self.routers = {party.node_id: a_router(party) for party in members}
        self.outputs: dict[int, bytes] = {}
        self.under_way: list[tuple[Point, Effect]] = []
        self.warned: list[type] = []

    def connect(self, one: Party, other: Party) -> None:
        for here, there in ((one, other), (other, one)):
            self.put(here.node_id, self.routers[here.node_id].connected(there.node_id, OUR_INIT, NOW_SECONDS))

    def put(self, here: Point, effects: Iterable[Effect]) -> None:
        effects = list(effects)
        self.warned += warnings(effects)
        self.under_way += [(here, effect) for effect in effects if isinstance(effect, Send | LookUp)]

    def deliver(self, place: int) -> None:
        """One message or one answer from the chain arrives."""
        here, effect = self.under_way.pop(place)
        if isinstance(effect, Send):
            there = self.routers[effect.peer]
            self.put(effect.peer, there.receive(here, effect.raw, decode(effect.raw), NOW_SECONDS, HEIGHT))
            self.put(effect.peer, there.flush())
        elif isinstance(effect, LookUp):
            known = effect.short_channel_id
            router = self.routers[here]
            self.put(here, router.found_output(known, self.outputs.get(known), CAPACITY_SAT, 6, NOW_SECONDS))
            self.put(here, router.flush())

    def settle(self, places: Iterator[int]) -> None:
        """Deliver until all is quiet, each time what the iterator points at."""
        while self.under_way:
            self.deliver(next(places) % len(self.under_way))

    def publish(self, party: Party, *messages: bytes) -> None:
        for raw in messages:
            self.put(party.node_id, self.routers[party.node_id].publish(raw, NOW_SECONDS))

    def open(self, one: Party, other: Party, short_channel_id: int) -> list[tuple[Party, bytes]]:
        """A channel is funded; what each side will publish, in order."""
        announcement = announced(one, other, short_channel_id)
        self.outputs[short_channel_id] = output_of(announcement)
        for party in (one, other):
            self.routers[party.node_id].add_own(own_channel(one, other, short_channel_id), NOW_SECONDS)
        return [
            (party, raw)
            for party, peer in ((one, other), (other, one))
            for raw in (announcement, updated(party, peer, short_channel_id), named(party))
        ]
