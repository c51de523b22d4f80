"""The router: what of the gossip we believe, and what we tell whom (BOLT 7).

`Gossip` is a machine in steps, as the other cores are: it takes a message, an answer from the
chain, a block, and returns effects. Unlike them it is mutable. At mainnet's size it holds two
hundred thousand messages, each changing alone; a new value per step would copy, or hide the
copying in persistent maps that cost more than all the rest. What matters of the shape stays: it
reads no clock, knows no socket, and the same inputs in the same order give the same effects.

An announcement is believed when its output was seen, which takes time: the effect `LookUp` asks,
`found_output` answers. Until then updates and nodes wait for it, so that the order in which the
network delivers changes nothing in the end. Our own gossip goes out at once, all other lies on
the peers' trays until `flush`, which the shell calls as often as it likes (queries.5).
"""

from collections.abc import Collection, Iterable, Iterator

import msgspec

from gossip.archive import Archive, is_public, update_timestamp
from gossip.effects import Effect, GraphChanged, LookUp, Send, SendWarning, Watch
from gossip.errors import (
    AlreadyKnown,
    Blacklisted,
    ChannelSpent,
    ConflictingAnnouncement,
    Ignore,
    NotForUs,
    NotTheFundingOutput,
    UnknownChain,
    Warn,
)
from gossip.graph import Channel, Graph, directed
from gossip.queries import (
    WANTS_ALL,
    Asking,
)
from gossip.relay import ANNOUNCEMENT, NODE, UPDATE, About, Peer, flush, node_timestamp, relay
from gossip.validation import (
    DIRECTION,
    DISABLE,
    FORGET_AFTER_BLOCKS,
    STALE_SECONDS,
    channel_of,
    check_channel_announcement,
    check_channel_update,
    check_funding_output,
    check_node_announcement,
    check_not_ahead,
    check_not_stale,
    may_forward,
    node_of,
    policy_of,
)
from gossip.waiting import ANNOUNCE_DEPTH_BLOCKS, Candidates, Waiting
from wire.codec import Message
from wire.crypto.secp256k1 import Point
from wire.features import GOSSIP_QUERIES, GOSSIP_QUERIES_EX, Features
from wire.messages.base import Unknown
from wire.messages.catalogue import decode, encode
from wire.messages.gossip import (
    ChannelAnnouncement,
    ChannelUpdate,
    GossipTimestampFilter,
    NodeAnnouncement,
)

MOST_CANDIDATES = 20_000
MOST_WAITING_UPDATES = 5_000
MOST_WAITING_NODES = 2_000
SYNC_PEERS = 3
OVERLAP_SECONDS = 3600
NEVER = 0xFFFFFFFF


class Gossip:
    """All that a node knows of the network, and whom it still has to tell."""

    def __init__(self, node_id: Point, chain_hash: bytes) -> None:
        self.node_id = node_id
        self.chain_hash = chain_hash
        self.graph = Graph()
        self.archive = Archive()
        self.peers: dict[Point, Peer] = {}
        self._effects: list[Effect] = []
        self._is_changed = False
        self._candidates = Candidates(MOST_CANDIDATES)
        self._updates: Waiting[int, ChannelUpdate] = Waiting(MOST_WAITING_UPDATES)
        self._nodes: Waiting[Point, NodeAnnouncement] = Waiting(MOST_WAITING_NODES)
        # believed, but not to be shown before the channel has an update: with where it came from
        self._held: dict[int, set[Point]] = {}
        self._held_nodes: dict[Point, tuple[bytes, set[Point]]] = {}
        self._spent: dict[int, int] = {}
        self._blacklist: set[Point] = set()
        self._aliases: dict[int, int] = {}

    # connections

    def connected(self, peer: Point, features: Features, now_seconds: int) -> list[Effect]:
        """A peer is there: say what we want of it, and what is ours to say."""
        self.peers[peer] = Peer(Asking(self.chain_hash, features.has(GOSSIP_QUERIES_EX), {}))
        is_worth_asking = features.has(GOSSIP_QUERIES)
        # a node that knows nothing yet wants everything, later only what is new
        first = max(0, now_seconds - OVERLAP_SECONDS) if self._has_synced() else 0
        if is_worth_asking:
            # a peer that is not has nothing to pass on, and may take any word more than init for an answer
            self._send(peer, self._filter(first, NEVER - first))
        if is_worth_asking and sum(other.asking.has_asked for other in self.peers.values()) < SYNC_PEERS:
            self._send(peer, *self.peers[peer].asking.range())
        self._send(peer, *self._own_gossip(peer))
        return self._drain()

    def disconnected(self, peer: Point) -> None:
        """A peer is gone, and with it what it asked for."""
        self.peers.pop(peer, None)

    def flush(self) -> list[Send]:
        """Empty the peers' trays; `has_more` says whether to come again soon."""
        return flush(self.peers)

    @property
    def has_more(self) -> bool:
        """Whether something waits for a flush."""
        return any(peer.has_more for peer in self.peers.values())

    # our own channels

    def add_own(self, channel: Channel, now_seconds: int, aliases: Collection[int] = ()) -> list[Effect]:
        """Put a channel of ours into the graph before, or without, its announcement.

        What the other end has said of it already, by its place or an alias, comes in with it.
        """
        short_channel_id = channel.short_channel_id
        is_announced = short_channel_id in self.archive.announcements
        self.graph.add_channel(msgspec.structs.replace(channel, is_announced=is_announced))
        self._is_changed = True
        self._aliases.update(dict.fromkeys(aliases, short_channel_id))
        for name in (short_channel_id, *aliases):
            self._take_waiting(self._updates.take(name), now_seconds)
        self._take_waiting(self._nodes.take(channel.other_end(self.node_id)), now_seconds)
        return self._drain()

    def tell_peer(self, short_channel_id: int, raw: bytes) -> list[Effect]:
        """Take in our update of a channel that is not announced, and send it to the other end.

        There it may have another name than in our graph, where it has this one.
        """
        message = decode(raw)
        assert isinstance(message, ChannelUpdate), "there is nothing else to tell"
        self._apply_update(self.graph.channels[short_channel_id], raw, message, set())
        return self._drain()

    def publish(self, raw: bytes, now_seconds: int) -> list[Effect]:
        """Take in and send what we signed: of a channel in the graph, or of this node."""
        message = decode(raw)
        if isinstance(message, ChannelAnnouncement):
            if message.short_channel_id not in self.archive.announcements:
                own = self.graph.channels[message.short_channel_id]
                self._candidates.take(message.short_channel_id)
                self._accept(channel_of(message, own.capacity_sat), raw, set(), now_seconds)
        elif isinstance(message, ChannelUpdate):
            self._apply_update(self.graph.channels[message.short_channel_id], raw, message, set())
        else:
            assert isinstance(message, NodeAnnouncement), "only gossip is published"
            self._apply_node(raw, message, set())
        return self._drain()

    # the chain

    def found_output(
        self, short_channel_id: int, script: bytes | None, value_sat: int, depth_blocks: int, now_seconds: int
    ) -> list[Effect]:
        """The chain's answer to `LookUp`: the unspent output and its confirmations, or no script."""
        candidates = self._candidates.take(short_channel_id)
        if script is not None and depth_blocks < ANNOUNCE_DEPTH_BLOCKS and candidates:
            self._candidates.put_back(short_channel_id, candidates)
            return self._drain()
        for raw, sources in candidates.items():
            message = decode(raw)
            assert isinstance(message, ChannelAnnouncement), "only announcements are candidates"
            try:
                check_funding_output(message, script)
            except NotTheFundingOutput:
                continue
            self._accept(channel_of(message, value_sat), raw, sources, now_seconds)
            return self._drain()
        self._updates.take(short_channel_id)
        return self._drain()

    def new_block(self, height: int) -> list[Effect]:
        """Look up what is deep enough now, and forget what was spent long ago."""
        self._effects += [LookUp(short_channel_id) for short_channel_id in self._candidates.due(height)]
        # validation.4: a spent channel may be a splice whose new announcement is still to come
        for short_channel_id, spent_at in list(self._spent.items()):
            if height >= spent_at + FORGET_AFTER_BLOCKS:
                self._forget(short_channel_id)
        return self._drain()

    def closed(self, short_channel_id: int, height: int) -> list[Effect]:
        """The output was spent, or reorganised away, at this height."""
        self._candidates.take(short_channel_id)
        channel = self.graph.channels.get(short_channel_id)
        if channel is not None and not channel.is_announced:
            self._forget(short_channel_id)
        elif channel is not None:
            self._spent.setdefault(short_channel_id, height)
            for peer in self.peers.values():
                peer.take_off((ANNOUNCEMENT, short_channel_id))
        return self._drain()

    def reopened(self, short_channel_id: int) -> None:
        """The block with the spending transaction was reorganised away."""
        self._spent.pop(short_channel_id, None)

    def prune(self, now_seconds: int) -> list[Effect]:
        """Forget others' channels of which one side has not been heard for two weeks (validation.4)."""
        for short_channel_id in list(self.archive.announcements):
            updates = self.archive.public_updates(short_channel_id)
            is_stale = any(update_timestamp(raw) < now_seconds - STALE_SECONDS for raw in updates)
            if is_stale and not self._is_own(self.graph.channels[short_channel_id]):
                self._forget(short_channel_id)
        return self._drain()

    # what peers send

    def receive(
        self, peer: Point, raw: bytes, message: Message | Unknown, now_seconds: int, height: int
    ) -> list[Effect]:
        """Take a message of BOLT 7 from a connected peer; `raw` is what was decoded."""
        self._attempt(peer, raw, message, now_seconds, height)
        return self._drain()

    def _attempt(
        self, peer: Point, raw: bytes, message: Message | Unknown, now_seconds: int, height: int
    ) -> None:
        try:
            self._take(peer, raw, message, now_seconds, height)
        except Warn as why:
            if peer in self.peers:
                self._effects.append(SendWarning(peer, why))
        except Ignore:
            pass

    def _take(
        self, peer: Point, raw: bytes, message: Message | Unknown, now_seconds: int, height: int
    ) -> None:
        match message:
            case ChannelAnnouncement():
                self._take_announcement(peer, raw, message, height)
            case ChannelUpdate():
                self._take_update(peer, raw, message, now_seconds)
            case NodeAnnouncement():
                self._take_node(peer, raw, message)
            case _ if peer in self.peers:
                answer = self.peers[peer].answer(
                    message, self.chain_hash, self.archive, self.graph.channels, self._spent, self._is_known
                )
                self._send(peer, *answer)

    def _take_announcement(self, peer: Point, raw: bytes, message: ChannelAnnouncement, height: int) -> None:
        short_channel_id = message.short_channel_id
        self._has_already(peer, (ANNOUNCEMENT, short_channel_id), raw)
        if not self._blacklist.isdisjoint((message.node_id_1, message.node_id_2)):
            raise Blacklisted(short_channel_id)
        if short_channel_id in self.archive.announcements:
            raise self._conflict(raw, message)
        # validation.1: what costs four signatures to verify must be new, and ours to judge
        self._candidates.check_new(short_channel_id, raw, peer)
        check_channel_announcement(message, raw, self.chain_hash)
        if self._candidates.add(short_channel_id, raw, peer, height):
            self._effects.append(LookUp(short_channel_id))

    def _conflict(self, raw: bytes, message: ChannelAnnouncement) -> Ignore:
        """What to think of an announcement of a known channel; all four nodes may be lying."""
        known = decode(self.archive.announcements[message.short_channel_id])
        assert isinstance(known, ChannelAnnouncement), "the archive keeps announcements here"
        nodes = {known.node_id_1, known.node_id_2}
        if nodes == {message.node_id_1, message.node_id_2}:
            return AlreadyKnown()
        if {known.bitcoin_key_1, known.bitcoin_key_2} != {message.bitcoin_key_1, message.bitcoin_key_2}:
            return NotTheFundingOutput(message.short_channel_id)
        check_channel_announcement(message, raw, self.chain_hash)
        self._blacklist |= (nodes | {message.node_id_1, message.node_id_2}) - {self.node_id}
        for channel in [found for node_id in self._blacklist for found in self.graph.channels_of(node_id)]:
            if not self._is_own(channel):
                self._forget(channel.short_channel_id)
        return ConflictingAnnouncement(message.short_channel_id)

    def _accept(self, channel: Channel, raw: bytes, sources: set[Point], now_seconds: int) -> None:
        """Believe an announcement, and then all that waited for it."""
        short_channel_id = channel.short_channel_id
        self.graph.add_channel(channel)
        self.archive.keep_announcement(short_channel_id, raw)
        self._held[short_channel_id] = sources
        self._effects.append(Watch(short_channel_id))
        self._is_changed = True
        for direction in (0, 1):
            update = self.archive.public_update(short_channel_id, direction)
            if update is not None:
                self._show_update(channel, direction, update, set())
        self._take_waiting(self._updates.take(short_channel_id), now_seconds)
        for node_id in (channel.node_id_1, channel.node_id_2):
            self._take_waiting(self._nodes.take(node_id), now_seconds)

    def _take_waiting(self, waited: Iterable[tuple[Point, bytes, Message]], now_seconds: int) -> None:
        """What came too early comes in now; announcements, which need the height, are not among it."""
        for peer, raw, message in waited:
            self._attempt(peer, raw, message, now_seconds, height=0)

    def _take_update(self, peer: Point, raw: bytes, message: ChannelUpdate, now_seconds: int) -> None:
        if message.chain_hash != self.chain_hash:
            raise UnknownChain(message.chain_hash)
        short_channel_id = self._aliases.get(message.short_channel_id, message.short_channel_id)
        direction = message.channel_flags & DIRECTION
        self._has_already(peer, (UPDATE, directed(short_channel_id, direction)), raw)
        channel = self.graph.channels.get(short_channel_id)
        if channel is None:
            self._await_channel(peer, raw, message, now_seconds)
            return
        # own-announcements.4: what is not for others concerns the two ends only
        if not self._is_own(channel) and not is_public(raw, short_channel_id):
            raise NotForUs(short_channel_id)
        # validation.3: a spent channel may still be switched off, nothing else
        if short_channel_id in self._spent and not message.channel_flags & DISABLE:
            raise ChannelSpent(short_channel_id)
        known = self.archive.updates.get(directed(short_channel_id, direction))
        check_channel_update(message, raw, channel, known, now_seconds, is_ours=self._is_own(channel))
        self._apply_update(channel, raw, message, {peer})

    def _await_channel(self, peer: Point, raw: bytes, message: ChannelUpdate, now_seconds: int) -> None:
        """Keep an update whose channel may be announced or be ours yet, and ask for its announcement."""
        short_channel_id = message.short_channel_id
        check_not_ahead(message.timestamp, now_seconds)
        direction = message.channel_flags & DIRECTION
        self._updates.keep(short_channel_id, direction, message.timestamp, peer, raw, message)
        # the channel may be ours, about which the other end may say what is old
        check_not_stale(message.timestamp, now_seconds)
        # validation.3: an unknown channel's update means nothing by itself
        if (
            is_public(raw, short_channel_id)
            and short_channel_id not in self._candidates
            and peer in self.peers
        ):
            asking = self.peers[peer].asking
            asking.want(short_channel_id, WANTS_ALL)
            self._send(peer, *asking.channels())

    def _apply_update(self, channel: Channel, raw: bytes, message: ChannelUpdate, origin: set[Point]) -> None:
        short_channel_id, direction = channel.short_channel_id, message.channel_flags & DIRECTION
        self.graph.apply_policy(short_channel_id, direction, policy_of(message))
        self.archive.updates[directed(short_channel_id, direction)] = raw
        self._is_changed = True
        if channel.is_announced and self.archive.public_update(short_channel_id, direction) is not None:
            self._show_update(channel, direction, raw, origin)
        elif channel.end(direction) == self.node_id:
            # own-announcements.4: before the announcement only the channel's other end may know
            self._send(channel.other_end(self.node_id), raw)

    def _show_update(self, channel: Channel, direction: int, raw: bytes, origin: set[Point]) -> None:
        """Relay an update; the first of a channel brings out its announcement and its nodes."""
        timestamp, short_channel_id = update_timestamp(raw), channel.short_channel_id
        sources = self._held.pop(short_channel_id, None)
        if sources is not None:
            announcement = self.archive.announcements[short_channel_id]
            about = (ANNOUNCEMENT, short_channel_id)
            self._relay(about, announcement, timestamp, sources, is_own=self._is_own(channel))
        is_own = channel.end(direction) == self.node_id
        self._relay((UPDATE, directed(short_channel_id, direction)), raw, timestamp, origin, is_own=is_own)
        if sources is not None:
            for node_id in (channel.node_id_1, channel.node_id_2):
                self._show_node(node_id)

    def _take_node(self, peer: Point, raw: bytes, message: NodeAnnouncement) -> None:
        node_id = message.node_id
        self._has_already(peer, (NODE, node_id), raw)
        known = self.graph.nodes.get(node_id)
        if known is not None and message.timestamp <= known.timestamp:
            raise AlreadyKnown
        check_node_announcement(message, raw)
        if node_id in self.graph.index:
            self._apply_node(raw, message, {peer})
        else:
            self._nodes.keep(node_id, None, message.timestamp, peer, raw, message)

    def _apply_node(self, raw: bytes, message: NodeAnnouncement, origin: set[Point]) -> None:
        node_id = message.node_id
        if node_id in self.graph.index:
            self.graph.set_node(node_id, node_of(message))
            self._is_changed = True
        self.archive.nodes.pop(node_id, None)
        self._held_nodes.pop(node_id, None)
        if may_forward(message):
            self._held_nodes[node_id] = (raw, origin)
        shown = (channel.short_channel_id for channel in self.graph.channels_of(node_id))
        if any(map(self.archive.is_shown, shown)):
            self._show_node(node_id)

    def _show_node(self, node_id: Point) -> None:
        """Relay what a node says of itself, once one of its channels was shown."""
        if node_id in self._held_nodes:
            raw, origin = self._held_nodes.pop(node_id)
            self.archive.nodes[node_id] = raw
            is_own = node_id == self.node_id
            self._relay((NODE, node_id), raw, node_timestamp(raw), origin, is_own=is_own)

    # inside

    def _relay(self, about: About, raw: bytes, timestamp: int, origin: set[Point], *, is_own: bool) -> None:
        if is_own:
            # queries.4: what is ours goes to everybody, whatever the filter, and at once
            self._effects += [Send(peer, raw) for peer in self.peers if peer not in origin]
        else:
            relay(self.peers, about, raw, timestamp, origin)

    def _has_already(self, peer: Point, about: About, raw: bytes) -> None:
        if peer in self.peers:
            self.peers[peer].take_off(about, raw)

    def _forget(self, short_channel_id: int) -> None:
        channel = self.graph.channels.get(short_channel_id)
        if channel is None:
            return
        self.graph.remove_channel(short_channel_id)
        self.archive.forget_channel(short_channel_id)
        self._held.pop(short_channel_id, None)
        self._spent.pop(short_channel_id, None)
        if self._is_own(channel):
            self._aliases = {
                alias: known for alias, known in self._aliases.items() if known != short_channel_id
            }
        for peer in self.peers.values():
            peer.take_off((ANNOUNCEMENT, short_channel_id))
            for direction in (0, 1):
                peer.take_off((UPDATE, directed(short_channel_id, direction)))
        for node_id in (channel.node_id_1, channel.node_id_2):
            if node_id not in self.graph.index:
                self.archive.nodes.pop(node_id, None)
                self._held_nodes.pop(node_id, None)
        self._is_changed = True

    def _own_gossip(self, peer: Point) -> Iterator[bytes]:
        """What we have made and this peer may see, in order."""
        for channel in self.graph.channels_of(self.node_id):
            number = directed(channel.short_channel_id, channel.direction_from(self.node_id))
            update = self.archive.updates.get(number)
            if update is None or channel.short_channel_id in self._spent:
                continue
            if channel.is_announced and is_public(update, channel.short_channel_id):
                yield from (self.archive.announcements[channel.short_channel_id], update)
            elif channel.other_end(self.node_id) == peer:
                yield update
        if self.node_id in self.archive.nodes:
            yield self.archive.nodes[self.node_id]

    def _filter(self, first_timestamp: int, timestamp_range: int) -> bytes:
        return encode(GossipTimestampFilter(self.chain_hash, first_timestamp, timestamp_range))

    def _send(self, peer: Point, *messages: bytes) -> None:
        if peer in self.peers:
            self._effects += [Send(peer, raw) for raw in messages]

    def _is_own(self, channel: Channel) -> bool:
        return self.node_id in (channel.node_id_1, channel.node_id_2)

    def _is_known(self, short_channel_id: int) -> bool:
        return short_channel_id in self.archive.announcements or short_channel_id in self._candidates

    def _has_synced(self) -> bool:
        """Whether we know of anybody's channel but our own."""
        return any(not self._is_own(channel) for channel in self.graph.channels.values())

    def _drain(self) -> list[Effect]:
        """The effects of this step; of several changes to the graph one is said."""
        effects = self._effects
        if self._is_changed:
            effects.append(GraphChanged())
        self._effects, self._is_changed = [], False
        return effects
