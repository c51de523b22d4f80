"""The owner loop: one task owns all channels of the node (DESIGN §3).

No locks and no callbacks into channels: whoever wants something changed leaves an event, and
the loop drains what waits, stages it in one `Turn`, commits once, and releases the messages.
Under load a turn takes many events, so one commitment_signed covers many HTLCs and one fsync
many channels.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import msgspec
import trio

from htlc import steps
from htlc.channel import Channel, Phase
from htlc.errors import ChannelError, UnexpectedMessage
from htlc.opening import House
from htlc.reestablish import disconnected, receive_reestablish, reestablish
from htlc.relay import Toll, lower
from htlc.steps import Climate
from node.daemon.closings import Closings, ClosingWish
from node.daemon.establish import Establishment
from node.daemon.gathering import Gathering
from node.daemon.history import Histories
from node.daemon.indexes import Indexes
from node.daemon.invoices import Invoices
from node.daemon.ledger import Ledger
from node.daemon.payments import Payments
from node.daemon.peer import Peer
from node.daemon.quiescence import Quiescence
from node.daemon.resolver import Resolver
from node.daemon.signer import Signer
from node.daemon.store import Store
from node.daemon.turn import Turn, resume
from node.daemon.wallet import Wallet
from wire.bitcoin.tx import Transaction
from wire.codec import Message
from wire.crypto.secp256k1 import Point
from wire.messages.base import Error, Warning
from wire.messages.channel import (
    AcceptChannel,
    ChannelReestablish,
    ClosingComplete,
    ClosingSig,
    ClosingSigned,
    FundingCreated,
    FundingSigned,
    OpenChannel,
    Shutdown,
    Stfu,
)

log = logging.getLogger("rill.switch")

T = TypeVar("T")
MOST_EVENTS_PER_TURN = 2000
MOST_WAITING_EVENTS = 10_000
# what a neighbour just sent takes three rounds of the scheduler to get here: its writer, our reader, we
GATHERING_ROUNDS = 4
ALL_CHANNELS = bytes(32)
ANY_FEERATE_PER_KW = (1 << 32) - 1
_ENDED = (Phase.BEHIND, Phase.FAILED, Phase.CLOSED)


class Request(Generic[T]):
    """Something our own side asks of the loop; answered once the turn is durable."""

    __slots__ = ("act", "answered", "error", "result")

    def __init__(self, act: Callable[[Turn], T]) -> None:
        self.act = act
        self.answered = trio.Event()
        self.result: T | None = None
        self.error: Exception | None = None


class Switch:
    """All channels of a node, and the only task that changes them."""

    def __init__(
        self, store: Store, signer: Signer, wallet: Wallet, house: House, toll: Toll, now: Callable[[], float]
    ) -> None:
        self.store, self.signer, self.wallet, self.house, self.now = store, signer, wallet, house, now
        self.default_toll = toll
        rows = store.items("tolls")
        self.tolls: dict[bytes, Toll] = {key: msgspec.msgpack.decode(raw, type=Toll) for key, raw in rows}
        self.lenient = store.keys("lenient")  # channels whose feerate may be any
        self._former_tolls: dict[bytes, tuple[Toll, float]] = {}  # and until when they are enough
        self.channels: dict[bytes, Channel] = {channel.id: channel for channel in store.channels()}
        # by its place in the chain, and by our alias
        self.by_scid: dict[int, bytes] = {}
        self._name(self.channels.values())
        self.channel_updates: dict[int, bytes] = {}
        self.peers: dict[bytes, Peer] = {}
        self.live: set[bytes] = set()  # channels that are taken up on the present connection
        self.indexes = Indexes(store)
        self.invoices = Invoices(store, signer, now, self.indexes)
        self.payments = Payments(store, now, self.indexes)
        self.gathering = Gathering(self)
        self.ledger, self.establishment = Ledger(store, self.indexes), Establishment(self)
        self.closings, self.resolver = Closings(self), Resolver(self)
        self.quiescence = Quiescence(self)
        self.height = 0
        self.to_broadcast: deque[tuple[Transaction, ...]] = deque()
        # what else belongs into its commit
        self.on_turn: list[Callable[[Turn], None]] = [self.payments.note_turn]
        self.on_channels_changed: list[Callable[[list[Channel]], None]] = []
        self.histories = Histories(self)
        self._inbox: deque[tuple[Peer, Message] | Request[Any]] = deque()
        self._wake, self._has_room = trio.Event(), trio.Event()
        self.broadcast_wake, self._broadcast_news = trio.Event(), trio.Event()

    # --- what leaves events

    def deliver(self, peer: Peer, message: Message) -> None:
        """Leave a message of a peer."""
        self._inbox.append((peer, message))
        self._wake.set()

    @property
    def is_full(self) -> bool:
        """Whether peers should wait before they leave more."""
        return len(self._inbox) >= MOST_WAITING_EVENTS

    async def wait_for_room(self) -> None:
        """Wait until the loop has caught up."""
        while self.is_full:
            await self._has_room.wait()

    async def ask(self, act: Callable[[Turn], T]) -> T:
        """Run `act` in a turn; return its result once that turn is durable.

        Raises:
            whatever `act` raises, with nothing staged, saved or sent. What it changes outside of the turn
            it has to change last.
        """
        request = Request(act)
        self._inbox.append(request)
        self._wake.set()
        await request.answered.wait()
        if request.error is not None:
            raise request.error
        return request.result  # type: ignore[return-value]

    async def handed_over(self) -> None:
        """Return once the chain was given what turns have left for it so far, or is away."""
        if self.to_broadcast:
            await self._broadcast_news.wait()

    def tell_broadcast(self) -> None:
        """There is nothing left for the chain, or it is away."""
        self._broadcast_news.set()
        self._broadcast_news = trio.Event()

    # --- the loop

    async def run(self) -> None:
        """Turn until cancelled."""
        self._inbox.appendleft(Request(resume))
        while True:
            if not self._inbox:
                self._wake = trio.Event()
                await self._wake.wait()
            await self._gather()
            self._turn()
            await trio.lowlevel.checkpoint()

    async def _gather(self) -> None:
        """Return once nothing more comes in at once: what shares a turn shares its signatures and commit."""
        known = 0
        while known < len(self._inbox) < MOST_EVENTS_PER_TURN:
            known = len(self._inbox)
            for _ in range(GATHERING_ROUNDS):
                await trio.lowlevel.checkpoint()

    def _turn(self) -> None:
        turn, requests = Turn(self), []
        for _ in range(min(len(self._inbox), MOST_EVENTS_PER_TURN)):
            event = self._inbox.popleft()
            if isinstance(event, Request):
                self._run_request(turn, event)
                requests.append(event)
            elif self._is_heard(turn, event[0]):
                self._receive(turn, *event)
        turn.finish()
        for callback in self.on_turn:
            callback(turn)
        self._commit(turn)
        self._swap(turn)
        self._release(turn)
        for request in requests:
            request.answered.set()
        self._has_room.set()
        self._has_room = trio.Event()

    def _is_heard(self, turn: Turn, peer: Peer) -> bool:
        """Whether messages of this connection still count: it may be replaced, or going to be closed."""
        is_warned = any(peer_id == peer.node_id for peer_id, _, _ in turn.warned)
        return self.peers.get(peer.node_id) is peer and peer.is_heard and not is_warned

    @staticmethod
    def _run_request(turn: Turn, request: Request[Any]) -> None:
        mark = turn.mark()
        try:
            request.result = request.act(turn)
        except Exception as error:  # noqa: BLE001 - the boundary of the asking task, which gets it
            turn.return_to(mark)
            request.error = error

    def _commit(self, turn: Turn) -> None:
        if not (turn.saved or turn.rows or turn.writes_once):
            return
        with self.store.transaction():
            for channel_id in turn.saved:
                self.store.put_channel(turn.staged[channel_id])
            for row in turn.rows:
                row()
            for row in turn.writes_once.values():
                row()

    def _swap(self, turn: Turn) -> None:
        self.channels.update(turn.staged)
        self._name(turn.staged.values())
        if turn.staged:
            changed = list(turn.staged.values())
            for callback in self.on_channels_changed:
                callback(changed)

    def _name(self, channels: Iterable[Channel]) -> None:
        for channel in channels:
            for name in (channel.short_channel_id, channel.aliases.local):
                if name is not None:
                    self.by_scid[name] = channel.id

    def peer_named(self, short_channel_id: int | None) -> Point | None:
        """The peer that somebody else's path names by a channel with it."""
        channel = self.channels.get(self.by_scid.get(short_channel_id or 0, b""))
        # channel_ready.3: what is no name for an HTLC is none here either
        is_named_so = channel is not None and short_channel_id in channel.exit_ids()
        return channel.charter.peer_id if channel is not None and is_named_so else None

    def _release(self, turn: Turn) -> None:
        for peer_id, message in turn.outgoing:
            peer = self.peers.get(peer_id)
            if peer is not None:
                peer.send(message)
        for peer_id, channel_id, why in turn.warned:
            if peer_id in self.peers:
                self.peers[peer_id].warn(why, channel_id)
        if turn.broadcasts:
            self.to_broadcast.extend(turn.broadcasts)
            self.broadcast_wake.set()
        for act in turn.after:
            act()

    # --- messages of peers

    def _receive(self, turn: Turn, peer: Peer, message: Message) -> None:
        match message:
            case OpenChannel() | AcceptChannel() | FundingCreated() | FundingSigned():
                self.establishment.receive(turn, peer, message)
            case Error():
                self._receive_error(turn, peer, message)
            case Warning():
                log.warning("a peer warns", extra={"peer": peer.node_id.hex(), "text": message.text})
            case _:
                self._receive_for_channel(turn, peer, message)

    def _receive_for_channel(self, turn: Turn, peer: Peer, message: Message) -> None:
        channel_id: bytes | None = getattr(message, "channel_id", None)
        if channel_id is None:
            # framing-tlv.3: what we can read but do not do is to us as if it were unknown
            if not message.TYPE & 1:
                turn.warn(peer.node_id, ALL_CHANNELS, f"unexpected {type(message).__name__}")
            return
        channel = turn.channel(channel_id)
        if channel is None or channel.charter.peer_id != peer.node_id:
            turn.send(peer.node_id, Error(channel_id, b"no such channel"))
            return
        turn.guard(peer.node_id, channel_id, lambda: self._step(turn, peer, channel, message))

    def _step(self, turn: Turn, peer: Peer, channel: Channel, message: Message) -> None:
        if isinstance(message, ChannelReestablish):
            self._take_up(turn, channel, message)
            return
        if channel.phase in _ENDED:
            # said before the peer knew
            turn.take(steps.receive_late(channel, message))
            return
        if channel.id not in self.live:
            # reestablish.1
            raise UnexpectedMessage(type(message).__name__, "not taken up again yet")
        secrets = self.signer.channel_secrets(channel.charter.key_index)
        match message:
            case Stfu():
                self.quiescence.receive(turn, peer, channel, message)
            case Shutdown() | ClosingSigned() | ClosingComplete() | ClosingSig():
                self.closings.receive(turn, peer, channel, message)
            case _:
                turn.take(steps.receive(channel, message, secrets, self._climate_of(channel)))

    def _take_up(self, turn: Turn, channel: Channel, message: ChannelReestablish) -> None:
        if channel.phase not in _ENDED:
            secrets = self.signer.channel_secrets(channel.charter.key_index)
            most_dust_msat = self.house.most_dust_exposure_msat
            step = receive_reestablish(channel, message, secrets, self.height, most_dust_msat=most_dust_msat)
            self.live.add(channel.id)
            turn.take(step)
        if (turn.channel(channel.id) or channel).phase in _ENDED:
            # reestablish.7: an error makes a peer that knows more than we do close the channel
            turn.send(channel.charter.peer_id, Error(channel.id, b"this channel is closed here"))

    def _greet(self, turn: Turn, peer: Peer) -> None:
        """Take up all channels with a peer that has just connected, if it has not connected again since."""
        if self.peers.get(peer.node_id) is not peer:
            return
        for channel in turn.all_channels():
            if channel.charter.peer_id != peer.node_id or channel.phase in (Phase.FAILED, Phase.CLOSED):
                continue
            if channel.phase is not Phase.BEHIND:
                turn.put(disconnected(channel))
            secrets = self.signer.channel_secrets(channel.charter.key_index)
            # reestablish.1: before anything else about the channel; reestablish.7: it shows what we lack
            turn.send(peer.node_id, reestablish(channel, secrets))

    def _receive_error(self, turn: Turn, peer: Peer, message: Error) -> None:
        log.warning("a peer fails a channel", extra={"peer": peer.node_id.hex(), "text": message.text})
        self.establishment.fail(turn, peer.node_id, message.channel_id, message.text)
        for channel in turn.all_channels():
            # error-warning.1: the channel named, or with the all-zero id every channel of the peer
            is_meant = message.channel_id in (channel.id, ALL_CHANNELS)
            if is_meant and channel.charter.peer_id == peer.node_id:
                turn.fail_channel(channel, message.text, is_told=False)

    # --- what turns ask

    def _climate_of(self, channel: Channel) -> Climate:
        """What the world outside says now, or our user in its place."""
        if channel.id in self.lenient:
            return Climate(self.height, 0, ANY_FEERATE_PER_KW)
        return Climate(self.height, self.house.lowest_feerate_per_kw, self.house.highest_feerate_per_kw)

    def may_offer(self, channel: Channel) -> bool:
        """Whether HTLCs may be offered on it now."""
        return channel.is_usable and channel.id in self.live and not self.quiescence.is_asked(channel.id)

    def toll_of(self, channel: Channel) -> Toll:
        """What we ask for passing HTLCs on over this channel."""
        return self.tolls.get(channel.id, self.default_toll)

    def lowest_toll_of(self, channel: Channel) -> Toll:
        """What is enough now: senders learn of a higher toll only after a while."""
        toll = self.toll_of(channel)
        former, until_seconds = self._former_tolls.get(channel.id, (toll, 0.0))
        return toll if self.now() >= until_seconds else lower(toll, former)

    def new_script(self, turn: Turn) -> bytes:
        """A fresh script of our wallet, durable with the turn."""
        return self.new_scripts(turn)[0]

    def new_scripts(self, turn: Turn) -> tuple[bytes, bytes]:
        """Two fresh scripts of our wallet, P2WPKH and P2TR, durable with the turn."""
        scripts = self.wallet.new_scripts()
        turn.writes_once[b"wallet"] = lambda: self.wallet.save(self.store.db)
        return scripts

    # --- peers come and go

    def add_peer(self, peer: Peer) -> bool:
        """A connection is up; of two to the same node one is closed. Whether this one stays."""
        older = self.peers.get(peer.node_id)
        if older is not None and older.outlives(peer, self.signer.node_id):
            return False
        if older is not None:
            # framing-tlv.1
            older.close("replaced by a newer connection")
        self.peers[peer.node_id] = peer
        # what is said from now on could not arrive, so nothing more is offered there
        peer.on_closing = self.drop_peer
        self._inbox.append(Request(lambda turn: self._greet(turn, peer)))
        self._wake.set()
        return True

    def drop_peer(self, peer: Peer) -> None:
        """A connection is down."""
        if self.peers.get(peer.node_id) is peer:
            del self.peers[peer.node_id]
            theirs = {c.id for c in self.channels.values() if c.charter.peer_id == peer.node_id}
            self.live -= theirs
            self.quiescence.forget(theirs)
            self.establishment.forget(peer.node_id)

    def agrees_on(self, peer_id: bytes, feature: str) -> bool:
        """Whether we are connected to the peer, and both init have the feature."""
        peer = self.peers.get(peer_id)
        return peer is not None and peer.agrees_on(feature)

    # --- what our user asks

    async def close_channel(self, channel_id: bytes, wish: ClosingWish) -> None:
        """Begin a cooperative close; or while it waits for a block, offer another transaction.

        Raises:
            ChannelError: there is no such channel, or it cannot be closed so now.
        """
        await self.ask(lambda turn: self.closings.begin(turn, channel_id, wish))

    async def set_toll(self, channel_id: bytes, toll: Toll, grace_seconds: int) -> None:
        """Ask for this from now on; so long, what was asked before is enough, too."""
        before = self.tolls.get(channel_id, self.default_toll)

        def act(turn: Turn) -> None:
            self.tolls[channel_id] = toll
            self._former_tolls[channel_id] = before, self.now() + grace_seconds
            turn.write(lambda: self.store.put_value("tolls", channel_id, toll))

        await self.ask(act)

    async def set_lenient(self, channel_id: bytes, *, is_lenient: bool) -> None:
        """Let the peer ask for whatever feerate it likes, as the opener of the channel, or no longer."""

        def act(turn: Turn) -> None:
            if is_lenient:
                self.lenient.add(channel_id)
                turn.write(lambda: self.store.put_key("lenient", channel_id))
            else:
                self.lenient.discard(channel_id)
                turn.write(lambda: self.store.drop_key("lenient", channel_id))

        await self.ask(act)

    async def force_close(self, channel_id: bytes) -> None:
        """Close a channel alone, with our latest commitment.

        Raises:
            ChannelError: there is no such channel, or it is on the chain already, or only its peer
                can close it.
        """

        def act(turn: Turn) -> None:
            channel = turn.channel(channel_id)
            if channel is None or channel.phase in _ENDED:
                raise ChannelError("there is no channel with that id that we can close alone")
            turn.fail_channel(channel, "closed at our user's wish")
            # what both agreed on may wait for ever, so our user may have it both ways
            self.resolver.fail(turn, channel)

        await self.ask(act)
