"""The shell around the gossip router: looking up outputs, announcing our own channels.

The router decides what to believe and whom to tell; here are the clock, the chain and the
peers. Our own channels are announced as soon as they are six blocks deep and both sides have
signed (BOLT 7, announcement_signatures).
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence

import trio

from gossip.announcing import (
    End,
    bounded,
    channel_announcement,
    channel_update,
    check_their_signatures,
    next_timestamp,
    node_announcement,
    our_signatures,
    unsigned_announcement,
)
from gossip.archive import update_timestamp
from gossip.effects import Effect, LookUp, Send, SendWarning, Watch
from gossip.errors import BadGossip, ImpossibleLimits
from gossip.graph import Channel as GraphChannel
from gossip.graph import Graph, Policy, directed
from gossip.relay import node_timestamp
from gossip.sync import Gossip
from gossip.waiting import ANNOUNCE_DEPTH_BLOCKS
from htlc.channel import Channel
from node.chain.interface import BlockConnected, BlockDisconnected, Chain
from node.daemon.peer import Peer
from node.daemon.switch import Switch
from wire import node_address
from wire.bitcoin.tx import OutPoint
from wire.codec import Message
from wire.crypto import secp256k1
from wire.crypto.secp256k1 import Point
from wire.messages.gossip import AnnouncementSignatures, ChannelAnnouncement, ChannelUpdate
from wire.scid import parts

log = logging.getLogger("rill.gossip")

PRUNE_EVERY_SECONDS = 3600


class Gossiper:
    """What one node hears and says about the network."""

    def __init__(
        self, switch: Switch, chain: Chain, alias: str, flush_seconds: float, now: Callable[[], float]
    ) -> None:
        self.router = Gossip(switch.signer.node_id, switch.house.chain_hash)
        self.addresses: tuple[node_address.Address, ...] = ()
        self.rgb_color = switch.signer.node_id[1:4]
        self._switch, self._chain, self._alias, self._now = switch, chain, alias, now
        self._flush_seconds = flush_seconds
        self._to_look_up: deque[int] = deque()
        self._to_look_again: deque[int] = deque()
        self._outpoints: dict[int, OutPoint] = {}
        self._watched: dict[OutPoint, int] = {}
        self._spent: dict[OutPoint, tuple[int, int]] = {}  # the channel, and at what height
        self._undone: set[int] = set()  # channels whose block was taken back, and no other has come yet
        self._places: dict[bytes, int] = {}  # where each of our channels was when we last spoke of it
        self._wake = trio.Event()
        self._changed = trio.Event()
        self._ours: dict[bytes, AnnouncementSignatures] = {}  # sent on the present connection
        self._theirs: dict[bytes, AnnouncementSignatures] = {}
        # by channel: whether it was announced, and whether usable, when we last said something of it
        self._updated: dict[bytes, tuple[bool, bool]] = {}
        self._timestamps: dict[int | None, int] = {}  # by channel, and of the node
        switch.on_channels_changed.append(self._channels_changed)

    @property
    def graph(self) -> Graph:
        """The network as we believe it to be."""
        return self.router.graph

    async def wait_for_graph(self, is_so: Callable[[Graph], bool]) -> None:
        """Return once the graph looks as wished."""
        while not is_so(self.graph):
            await self.wait_for_change()

    async def wait_for_change(self) -> None:
        """Return when the graph is not what it was."""
        await self._changed.wait()

    # --- the shell's three inputs: peers, the chain, the clock

    def peer_up(self, peer: Peer) -> None:
        """A connection is up."""
        self._forget_signatures(peer)
        self._carry_out(self.router.connected(peer.node_id, peer.features, self._seconds()))
        self._consider_all()

    def peer_down(self, peer: Peer) -> None:
        """A connection is down."""
        if peer.node_id not in self._switch.peers:
            self.router.disconnected(peer.node_id)

    def _forget_signatures(self, peer: Peer) -> None:
        # own-announcements.1: what was sent on another connection may never have arrived
        for channel in self._switch.channels.values():
            if channel.charter.peer_id == peer.node_id:
                self._ours.pop(channel.id, None)

    def receive(self, peer: Peer, message: Message, raw: bytes) -> None:
        """A message of BOLT 7."""
        if isinstance(message, AnnouncementSignatures):
            self._receive_signatures(peer, message)
            return
        height = self._switch.height
        self._carry_out(self.router.receive(peer.node_id, raw, message, self._seconds(), height))
        if isinstance(message, ChannelUpdate):
            self._contradict(message.short_channel_id, raw)

    def connect_block(self, block: BlockConnected) -> None:
        """A block came: some channels are deep enough now, some are spent."""
        if self._watched:
            for transaction in block.transactions:
                for txin in transaction.inputs:
                    spent = self._watched.pop(txin.outpoint, None)
                    if spent is not None:
                        self._spent[txin.outpoint] = spent, block.height
                        self._carry_out(self.router.closed(spent, block.height))
        self._look_again(block.height)
        self._carry_out(self.router.new_block(block.height))
        self._consider_all()

    def disconnect_block(self, block: BlockDisconnected) -> None:
        """A block was taken back: what it spent is unspent, and what it held may come elsewhere."""
        for outpoint, (short_channel_id, height) in list(self._spent.items()):
            if height == block.height:
                del self._spent[outpoint]
                self._watched[outpoint] = short_channel_id
                self.router.reopened(short_channel_id)
        self._undone.update(known for known in self.graph.channels if parts(known)[0] == block.height)

    def _look_again(self, height: int) -> None:
        """Another block has taken the place of one that was taken back."""
        self._to_look_again.extend(known for known in self._undone if parts(known)[0] == height)
        self._undone.difference_update(self._to_look_again)
        if self._to_look_again:
            self._wake.set()

    async def run(self) -> None:
        """Look up what the router wants to see, and flush what it has to say."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._prune)
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                while self._to_look_again:
                    await self._check_again(self._to_look_again.popleft())
                while self._to_look_up:
                    await self._look_up(self._to_look_up.popleft())
                if self._flush_seconds:
                    await trio.sleep(self._flush_seconds)
                self._carry_out(self.router.flush())
                if self.router.has_more:
                    self._wake.set()

    async def _prune(self) -> None:
        while True:
            await trio.sleep(PRUNE_EVERY_SECONDS)
            self._carry_out(self.router.prune(self._seconds()))

    async def _check_again(self, short_channel_id: int) -> None:
        found = await self._chain.funding_output(short_channel_id)
        if found is None or self._watched.get(found.outpoint) != short_channel_id:
            self._carry_out(self.router.closed(short_channel_id, self._switch.height))

    async def _look_up(self, short_channel_id: int) -> None:
        found = await self._chain.funding_output(short_channel_id)
        script = None
        if found is not None and found.is_unspent:
            script = found.script
            self._outpoints[short_channel_id] = found.outpoint
        value_sat, depth = (found.value_sat, found.depth) if found is not None else (0, 0)
        self._carry_out(self.router.found_output(short_channel_id, script, value_sat, depth, self._seconds()))
        self._outpoints.pop(short_channel_id, None)

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(peer=node_id, raw=raw):
                    peer = self._switch.peers.get(node_id)
                    if peer is not None:
                        peer.send_raw(raw)
                case SendWarning(peer=node_id, why=why):
                    peer = self._switch.peers.get(node_id)
                    if peer is not None:
                        peer.warn(str(why))
                case LookUp(short_channel_id=wanted):
                    self._to_look_up.append(wanted)
                case Watch(short_channel_id=watched):
                    outpoint = self._outpoints.get(watched)
                    if outpoint is not None:
                        self._watched[outpoint] = watched
                case _:
                    self._changed.set()
                    self._changed = trio.Event()
        if self._to_look_up or self.router.has_more:
            self._wake.set()

    def _seconds(self) -> int:
        return int(self._now())

    # --- our own channels

    def _channels_changed(self, channels: list[Channel]) -> None:
        for channel in channels:
            said = self._updated.get(channel.id)
            if said is None or said[1] is not channel.is_usable or self._has_moved(channel):
                self._consider(channel)

    def _consider_all(self) -> None:
        for channel in list(self._switch.channels.values()):
            if channel.is_usable and self._updated.get(channel.id) != (True, True):
                self._consider(channel)

    def _consider(self, channel: Channel) -> None:
        """Say of a channel of ours whatever may be said by now."""
        graph_id = channel.graph_id
        if graph_id is None:
            return
        if self._has_moved(channel):
            self._move(channel)
        self._places[channel.id] = graph_id
        if not channel.is_usable:
            if channel.id in self._updated:
                self._say_update(channel, graph_id)
            return
        if graph_id not in self.graph.channels:
            ours = _graph_channel(channel, graph_id, self._us)
            self._carry_out(self.router.add_own(ours, self._seconds(), _their_names(channel)))
            self._watched[channel.charter.funding_outpoint] = graph_id
        if channel.id not in self._updated:
            self._say_update(channel, graph_id)
        self._announce_when_deep(channel)

    def _announce_when_deep(self, channel: Channel) -> None:
        short_channel_id = channel.short_channel_id
        # own-announcements.1: both ready, deep enough, and meant to be public
        if short_channel_id is None or not channel.charter.is_announced:
            return
        depth = self._switch.height - parts(short_channel_id)[0] + 1
        if depth >= ANNOUNCE_DEPTH_BLOCKS:
            self._sign(channel, short_channel_id)
            self._announce(channel, short_channel_id)

    def _has_moved(self, channel: Channel) -> bool:
        return channel.graph_id not in (None, self._places.get(channel.id, channel.graph_id))

    def _move(self, channel: Channel) -> None:
        """Our channel is in another block than it was: nothing that we said of it names it any more."""
        before = self._places[channel.id]
        self._switch.channel_updates.pop(before, None)
        for said in (self._ours, self._theirs, self._updated):
            said.pop(channel.id, None)
        self._carry_out(self.router.closed(before, self._switch.height))

    @property
    def _us(self) -> bytes:
        return self._switch.signer.node_id

    def _unsigned(self, channel: Channel, short_channel_id: int) -> ChannelAnnouncement:
        basepoints = channel.charter.basepoints
        return unsigned_announcement(
            self._switch.house.chain_hash,
            short_channel_id,
            End(self._us, basepoints.local.funding_pubkey),
            End(channel.charter.peer_id, basepoints.remote.funding_pubkey),
        )

    def _sign(self, channel: Channel, short_channel_id: int) -> None:
        peer = self._switch.peers.get(channel.charter.peer_id)
        if channel.id in self._ours or peer is None:
            return
        signer = self._switch.signer
        funding = signer.channel_secrets(channel.charter.key_index).funding
        unsigned = self._unsigned(channel, short_channel_id)
        ours = our_signatures(
            channel.id, unsigned, signer.sign_digest, lambda digest: secp256k1.sign(funding, digest)
        )
        self._ours[channel.id] = ours
        peer.send(ours)

    def _receive_signatures(self, peer: Peer, message: AnnouncementSignatures) -> None:
        channel = self._switch.channels.get(message.channel_id)
        if channel is None or channel.charter.peer_id != peer.node_id or not channel.charter.is_announced:
            return
        self._theirs[message.channel_id] = message
        if channel.is_usable:
            self._consider(channel)

    def _announce(self, channel: Channel, short_channel_id: int) -> None:
        ours, theirs = self._ours.get(channel.id), self._theirs.get(channel.id)
        is_done = self._updated.get(channel.id, (False, False))[0]
        if ours is None or theirs is None or is_done:
            return
        unsigned = self._unsigned(channel, short_channel_id)
        try:
            check_their_signatures(theirs, unsigned, channel.charter.peer_id)
        except BadGossip as why:
            del self._theirs[channel.id]
            self._switch.peers[channel.charter.peer_id].warn(str(why), channel.id)
            return
        raw = channel_announcement(unsigned, ours, theirs, self._us)
        self._carry_out(self.router.publish(raw, self._seconds()))
        self._updated[channel.id] = (True, True)
        self._say_update(channel, short_channel_id)
        self._say_node()

    def tell_toll(self, channel_id: bytes) -> None:
        """What one of our channels asks for has changed."""
        channel = self._switch.channels.get(channel_id)
        if channel is not None and channel.graph_id is not None and channel_id in self._updated:
            self._say_update(channel, channel.graph_id)

    def _contradict(self, graph_id: int, raw: bytes) -> None:
        """Say again what we ask, if it has just been replaced by what we said before a restart.

        Updates that come quicker than one a second run ahead of the clock, and a node that starts again
        knows nothing of that: to the others its words would be older than what they replace.
        """
        channel = self._switch.channels.get(self._switch.by_scid.get(graph_id, b""))
        if channel is None or self._switch.channel_updates.get(graph_id, raw) == raw:
            return
        if self.router.archive.updates.get(self._number(channel, graph_id)) == raw:
            self._say_update(channel, graph_id)

    def _number(self, channel: Channel, graph_id: int) -> int:
        """Our direction of a channel of ours."""
        return directed(graph_id, 0 if self._us < channel.charter.peer_id else 1)

    def _timestamp(self, name: int | None, known: bytes | None) -> int:
        """The time of our next word about a channel or ourselves, later than the last that is known."""
        last = self._timestamps.get(name, 0)
        if known is not None:
            last = max(last, node_timestamp(known) if name is None else update_timestamp(known))
        self._timestamps[name] = next_timestamp(self._seconds(), last)
        return self._timestamps[name]

    def _say_update(self, channel: Channel, graph_id: int) -> None:
        is_announced = self._updated.get(channel.id, (False, False))[0]
        try:
            policy = self._policy(channel, graph_id)
        except ImpossibleLimits as why:
            log.warning("nothing fits a channel", extra={"channel": channel.id.hex(), "why": str(why)})
            return
        self._updated[channel.id] = (is_announced, channel.is_usable)
        for name in channel.exit_ids():
            # a payer that calls it so is told of it under this name
            self._switch.channel_updates[name] = self._update(channel, policy, name)
        if graph_id not in self.graph.channels:
            return
        if is_announced:
            self._carry_out(self.router.publish(self._switch.channel_updates[graph_id], self._seconds()))
        else:
            # own-announcements.4: the peer knows it by what it called it itself
            name = channel.hint_id or graph_id
            self._carry_out(self.router.tell_peer(graph_id, self._update(channel, policy, name)))

    def _policy(self, channel: Channel, graph_id: int) -> Policy:
        """What we ask for now.

        Raises:
            ImpossibleLimits: no HTLC can be as small and as large as it must.
        """
        toll, theirs = self._switch.toll_of(channel), channel.charter.terms.remote
        policy = Policy(
            fee_base_msat=toll.fee_base_msat,
            fee_proportional_millionths=toll.fee_proportional_millionths,
            cltv_expiry_delta=toll.cltv_expiry_delta,
            htlc_minimum_msat=max(toll.htlc_minimum_msat, theirs.htlc_minimum_msat),
            htlc_maximum_msat=toll.htlc_maximum_msat or theirs.max_htlc_value_in_flight_msat,
            is_disabled=not channel.is_usable,
            inbound=toll.inbound,
            timestamp=self._timestamp(
                graph_id, self.router.archive.updates.get(self._number(channel, graph_id))
            ),
        )
        return bounded(policy, channel.charter.funding_sat, theirs.max_htlc_value_in_flight_msat)

    def _update(self, channel: Channel, policy: Policy, name: int) -> bytes:
        return channel_update(
            policy,
            self._switch.house.chain_hash,
            name,
            0 if self._us < channel.charter.peer_id else 1,
            self._switch.signer.sign_digest,
            is_announced=self._updated[channel.id][0],
        )

    def _say_node(self) -> None:
        raw = node_announcement(
            self._us,
            self._timestamp(None, self.router.archive.nodes.get(Point(self._us))),
            self._switch.signer.sign_digest,
            alias=self._alias,
            rgb_color=self.rgb_color,
            addresses=self.addresses,
        )
        self._carry_out(self.router.publish(raw, self._seconds()))


def _graph_channel(channel: Channel, short_channel_id: int, us: bytes) -> GraphChannel:
    first, second = sorted((us, channel.charter.peer_id))
    return GraphChannel(short_channel_id, first, second, channel.charter.funding_sat)


def _their_names(channel: Channel) -> list[int]:
    """What the peer's updates may call a channel, besides its name in our graph."""
    names = (channel.short_channel_id, channel.aliases.local)
    return [name for name in names if name not in (None, channel.graph_id)]
