"""One connection: handshake, init, frames in and out, liveness (BOLT 8, BOLT 1).

Writes are coalesced: `send` seals into a list, and one task hands the whole list to the
kernel. Reads take 64 KiB and open every frame in it. A message costs no task, no lock and no
memory channel (DESIGN §6).
"""

import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import trio

from node.daemon.saboteur import Fate, Saboteur
from node.daemon.signer import Signer
from wire.codec import DecodeError, Message
from wire.crypto.secp256k1 import InvalidPoint
from wire.features import Features, MissingDependency, UnknownRequiredFeature, check_features
from wire.messages.base import Init, Ping, Pong, Unknown, Warning, said
from wire.messages.catalogue import decode, encode
from wire.noise import BadFrame, HandshakeFailed, Initiator, Responder, Transport

READ_BYTES = 65536
HANDSHAKE_SECONDS = 15
PING_AFTER_SECONDS = 30
DEAD_AFTER_SECONDS = 75
LAST_WORDS_SECONDS = 3
CROSSING_SECONDS = 5
MOST_UNSENT_BYTES = 64 << 20
BULK_UNSENT_BYTES = 1 << 20
MOST_PONG_BYTES = 65532
PONG_HEAD_BYTES = 4
FIRST_CUSTOM_TYPE = 32768
ALL_CHANNELS = bytes(32)

log = logging.getLogger("rill.peer")

MessageHandler: TypeAlias = Callable[["Peer", Message, bytes], Awaitable[None] | None]
CustomHandler: TypeAlias = Callable[[bytes, bytes], Awaitable[None]]


class PeerGone(Exception):
    """The connection is closed, or was never made."""

    def __init__(self, peer_id: bytes, why: str) -> None:
        self.peer_id, self.why = peer_id, why
        super().__init__(f"not connected to {peer_id.hex()[:16]}…: {why}")


class Incompatible(Exception):
    """The peer's init names a chain or demands a feature that we do not have."""


_FAILED_GREETINGS = (
    HandshakeFailed,
    BadFrame,
    Incompatible,
    DecodeError,
    InvalidPoint,
    OSError,
    trio.TooSlowError,
    trio.BrokenResourceError,
)


class Peer:
    """A peer that we are connected to and have exchanged `init` with."""

    def __init__(
        self,
        node_id: bytes,
        stream: trio.SocketStream,
        transport: Transport,
        our: Init,
        their: Init,
        early: list[bytes],
        saboteur: Saboteur | None = None,
    ) -> None:
        self.node_id = node_id
        self._early = early  # what came in one read with init
        self.features: Features = their.all_features()
        self._our_features: Features = our.all_features()
        self._stream, self._transport = stream, transport
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._wake_writer = trio.Event()
        self._drained = trio.Event()
        self._heard_at = trio.current_time()
        self._scope = trio.CancelScope()
        self.on_closing: Callable[[Peer], None] = lambda _: None
        self.is_closing = False
        self.is_heard = True  # until it is we who close: what came before its own end counts
        self.gone_because = "the connection ended"
        self.was_dismissed = False  # our user wished it gone
        self.we_called = False
        self.address: tuple[str, int] | None = None  # where it was called, or called from
        self.saboteur = saboteur
        self._is_deaf = False
        self._pings: deque[tuple[int, trio.Event]] = deque()  # unanswered: what they asked for
        self._since_seconds = trio.current_time()

    def agrees_on(self, feature: str) -> bool:
        """Whether both its init and ours have the feature."""
        return self._our_features.has(feature) and self.features.has(feature)

    def outlives(self, newer: "Peer", our_id: bytes) -> bool:
        """Whether this connection stays although there is a newer one with the same peer.

        A newer one usually means that the peer has lost the older. But when both sides call at
        once, each would close what the other keeps; then the call of the lesser node id stays.
        """
        are_crossed = self.we_called is not newer.we_called and not self.is_closing
        is_young = newer._since_seconds - self._since_seconds < CROSSING_SECONDS
        return are_crossed and is_young and self.we_called is (our_id < self.node_id)

    # --- out

    def send(self, message: Message) -> None:
        """Queue a message; it leaves in order with all others."""
        self.send_raw(encode(message))

    def send_raw(self, raw: bytes) -> None:
        """Queue an encoded message."""
        if self.is_closing:
            return
        if self._unsent_bytes > MOST_UNSENT_BYTES:
            self.close("it does not read what we send")
            return
        if self.saboteur is None:
            self._queue(raw)
        else:
            self._queue_or_not(raw, self.saboteur.fate_of_sent(raw))

    def _queue(self, raw: bytes) -> None:
        frame = self._transport.seal(raw)
        self._unsent.append(frame)
        self._unsent_bytes += len(frame)
        self._wake_writer.set()

    def _queue_or_not(self, raw: bytes, fate: Fate) -> None:
        """As a test of the protocol wants it."""
        is_swallowed = self._is_deaf or fate in (Fate.CUT_BEFORE, Fate.DROPPED, Fate.DROPPED_AND_CUT)
        self._is_deaf = self._is_deaf or fate in (Fate.SWALLOWED, Fate.LAST)
        if not is_swallowed and fate is not Fate.SWALLOWED:
            self._queue(raw)
        if fate in (Fate.CUT_BEFORE, Fate.CUT_AFTER, Fate.DROPPED_AND_CUT):
            self.close("a test cut it off")

    @property
    def is_behind(self) -> bool:
        """Whether so much is unsent that what need not arrive should not be added."""
        return self._unsent_bytes > BULK_UNSENT_BYTES

    async def send_bulk(self, raw: bytes) -> None:
        """Queue an encoded message once little enough is unsent."""
        while self.is_behind and not self.is_closing:
            await self._drained.wait()
        if self.is_closing:
            raise PeerGone(self.node_id, self.gone_because)
        self.send_raw(raw)

    def warn(self, why: str, channel_id: bytes = ALL_CHANNELS) -> None:
        """Tell the peer what it did wrong, and close once that is sent."""
        log.info("warning a peer", extra={"peer": self.node_id.hex(), "why": why})
        self.send(Warning(channel_id, said(why)))
        self.close(why)

    def close(self, why: str) -> None:
        """Close once everything queued is sent; hear nothing more."""
        if not self.is_closing:
            self.gone_because = why
            self.is_closing, self.is_heard = True, False
            self._scope.deadline = trio.current_time() + LAST_WORDS_SECONDS
            self._wake_writer.set()
            self.on_closing(self)

    async def hang_up(self) -> None:
        """Close at once; nothing was said but init."""
        await trio.aclose_forcefully(self._stream)

    async def _write(self) -> None:
        while True:
            if not self._unsent:
                if self.is_closing:
                    await self._stream.send_eof()
                    return
                await self._wake_writer.wait()
                self._wake_writer = trio.Event()
                continue
            frames, self._unsent, self._unsent_bytes = self._unsent, [], 0
            self._drained.set()
            self._drained = trio.Event()
            await self._stream.send_all(b"".join(frames))

    # --- in

    async def run(self, on_message: MessageHandler, custom: dict[int, CustomHandler]) -> None:
        """Serve the connection until it ends, for whatever reason."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    nursery.start_soon(self._keep_alive)
                    await self._read(on_message, custom)
                    await self._until_they_hang_up()
                    nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.is_closing = True
            self._drained.set()
            for _, answered in self._pings:
                answered.set()
            await trio.aclose_forcefully(self._stream)

    async def _read(self, on_message: MessageHandler, custom: dict[int, CustomHandler]) -> None:
        messages: Sequence[bytes] = self._early
        while await self._hear(messages, on_message, custom):
            received = await self._stream.receive_some(READ_BYTES)
            if not received or self.is_closing:
                return
            self._heard_at = trio.current_time()
            try:
                messages = self._transport.feed(received)
            except BadFrame as broken:
                # what came intact before it counts, however the network cut the stream
                await self._hear(broken.messages, on_message, custom)
                self.close(str(broken))
                return

    async def _hear(
        self, messages: Sequence[bytes], on_message: MessageHandler, custom: dict[int, CustomHandler]
    ) -> bool:
        """Take these messages one by one; whether to read on."""
        for raw in messages:
            if self.is_closing:
                break
            fate = Fate.PASSED if self.saboteur is None else self.saboteur.fate_of_received(raw)
            if not self._is_deaf:
                await self._take(raw, on_message, custom)
            if fate is Fate.CUT_AFTER_RECEIVED or self._is_called_off():
                self.close("a test cut it off")
        return not self.is_closing

    def _is_called_off(self) -> bool:
        return self._is_deaf and self.saboteur is not None and self.saboteur.is_called_off

    async def _until_they_hang_up(self) -> None:
        """Read on without hearing: a close over unread bytes would destroy our last words."""
        while await self._stream.receive_some(READ_BYTES):
            pass

    async def _take(self, raw: bytes, on_message: MessageHandler, custom: dict[int, CustomHandler]) -> None:
        number = int.from_bytes(raw[:2], "big")
        if number >= FIRST_CUSTOM_TYPE and number in custom:
            await custom[number](self.node_id, raw[2:])
            return
        try:
            message = decode(raw)
        except DecodeError as error:
            # framing-tlv.3, framing-tlv.4: a known message that is malformed closes the connection
            self.warn(str(error))
            return
        match message:
            case Unknown(is_even=True):
                # framing-tlv.3: an unknown even message closes the connection
                self.close(f"unknown message {message.type} must be understood")
            case Unknown():
                pass
            case Pong():
                self._receive_pong(message)
            case Ping(num_pong_bytes=wanted):
                # ping-pong.1
                if wanted < MOST_PONG_BYTES:
                    self.send(Pong(ignored=bytes(wanted)))
            case _:
                waiting = on_message(self, message, raw)
                if waiting is not None:
                    await waiting

    async def ping(self, ignored_bytes: int, num_pong_bytes: int) -> int:
        """Send a ping, and return how many bytes come back, their type and length counted.

        Raises:
            PeerGone: the connection ended before.
        """
        # ping-pong.1: from here on there is no answer
        if num_pong_bytes >= MOST_PONG_BYTES:
            self.send(Ping(num_pong_bytes, bytes(ignored_bytes)))
            return 0
        waiting = self._ping(Ping(num_pong_bytes, bytes(ignored_bytes)))
        await waiting.wait()
        if self.is_closing:
            raise PeerGone(self.node_id, self.gone_because)
        return PONG_HEAD_BYTES + num_pong_bytes

    def _ping(self, ping: Ping) -> trio.Event:
        answered = trio.Event()
        self._pings.append((ping.num_pong_bytes, answered))
        self.send(ping)
        return answered

    def _receive_pong(self, pong: Pong) -> None:
        """Pongs come in the order of their pings; one that answers nothing is ignored."""
        if self._pings and self._pings[0][0] == len(pong.ignored):
            self._pings.popleft()[1].set()

    async def _keep_alive(self) -> None:
        while True:
            await trio.sleep(PING_AFTER_SECONDS)
            silent_seconds = trio.current_time() - self._heard_at
            if silent_seconds > DEAD_AFTER_SECONDS:
                # ping-pong.2: silence closes the connection, and fails no channel
                self.gone_because = "it has gone silent"
                await trio.aclose_forcefully(self._stream)
                return
            if silent_seconds > PING_AFTER_SECONDS / 2:
                self._ping(Ping(num_pong_bytes=1))


async def call(
    stream: trio.SocketStream, signer: Signer, node_id: bytes, init: Init, saboteur: Saboteur | None = None
) -> Peer:
    """Make the outgoing handshake and exchange init.

    Raises:
        PeerGone: it is not who we meant, or not compatible.
    """
    try:
        with trio.fail_after(HANDSHAKE_SECONDS):
            # b8-transport.3: a fresh key for each session
            initiator = Initiator(signer.node_secret, node_id, secrets.token_bytes(32))
            await stream.send_all(initiator.act_one())
            last_act, transport = initiator.receive_act_two(await _exactly(stream, 50))
            await stream.send_all(last_act)
            peer = await _introduce(stream, transport, node_id, init, saboteur)
            peer.we_called = True
            return peer
    except _FAILED_GREETINGS as error:
        await trio.aclose_forcefully(stream)
        raise PeerGone(node_id, str(error) or "no answer") from None


async def answer(
    stream: trio.SocketStream, signer: Signer, init: Init, saboteur: Saboteur | None = None
) -> Peer:
    """Make the incoming handshake and exchange init.

    Raises:
        PeerGone: the caller failed at it.
    """
    node_id = b""
    try:
        with trio.fail_after(HANDSHAKE_SECONDS):
            responder = Responder(signer.node_secret, secrets.token_bytes(32))
            await stream.send_all(responder.receive_act_one(await _exactly(stream, 50)))
            node_id, transport = responder.receive_act_three(await _exactly(stream, 66))
            if node_id == signer.node_id:
                raise Incompatible("it has our own key")
            return await _introduce(stream, transport, node_id, init, saboteur)
    except _FAILED_GREETINGS as error:
        await trio.aclose_forcefully(stream)
        raise PeerGone(node_id, str(error) or "no answer") from None


async def _exactly(stream: trio.SocketStream, size: int) -> bytes:
    received = b""
    while len(received) < size:
        more = await stream.receive_some(size - len(received))
        if not more:
            raise trio.BrokenResourceError("the connection ended during the handshake")
        received += more
    return received


async def _introduce(
    stream: trio.SocketStream, transport: Transport, node_id: bytes, init: Init, saboteur: Saboteur | None
) -> Peer:
    """Send our init, and read theirs: nothing else may come first."""
    raw = encode(init)
    fate = Fate.PASSED if saboteur is None else saboteur.fate_of_sent(raw)
    if fate not in (Fate.CUT_BEFORE, Fate.DROPPED_AND_CUT):
        await stream.send_all(transport.seal(raw))
    if fate not in (Fate.PASSED, Fate.DROPPED):
        raise Incompatible("a test cut it off")
    messages: list[bytes] = []
    while not messages:
        received = await stream.receive_some(READ_BYTES)
        if not received:
            raise Incompatible("it hung up instead of sending init")
        messages = transport.feed(received)
    their = decode(messages[0])
    if not isinstance(their, Init):
        # init.1
        raise Incompatible("its first message is not init")
    _check_compatible(their, init)
    return Peer(node_id, stream, transport, init, their, messages[1:], saboteur)


def _check_compatible(their: Init, ours: Init) -> None:
    features = their.all_features()
    try:
        # init.3
        check_features(features, ours.all_features())
    except (UnknownRequiredFeature, MissingDependency) as error:
        raise Incompatible(str(error)) from None
    if their.networks and ours.networks and not set(their.networks) & set(ours.networks):
        raise Incompatible("it is on another chain")
