"""A peer without a node behind it: it makes the handshake and then says whatever a test wants."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from node.daemon.node import Node
from wire.codec import Message
from wire.crypto import secp256k1
from wire.crypto.hashes import sha256
from wire.features import OUR_INIT
from wire.messages.base import Init, Ping, Pong, Unknown
from wire.messages.catalogue import decode, encode
from wire.noise import Initiator, Transport

HOST = "127.0.0.1"
SECRET = sha256(b"the secret of a caller")
EPHEMERAL_SECRET = sha256(b"the ephemeral secret of a caller")
OUR_SIDE = Init(features=OUR_INIT.to_bytes())

M = TypeVar("M", bound=Message)


class HungUp(Exception):
    """The other side closed the connection."""


class Caller:
    """Our end of a connection after the handshake; `init` is not yet sent."""

    def __init__(self, stream: trio.SocketStream, transport: Transport, secret: bytes = SECRET) -> None:
        self.node_id = secp256k1.point_of(secret)
        self._stream, self._transport = stream, transport
        self._received: list[bytes] = []

    async def send(self, *messages: Message | Unknown) -> None:
        """Send these in one write."""
        await self.send_raw(*map(encode, messages))

    async def send_raw(self, *messages: bytes) -> None:
        """Send these plaintexts in one write, whatever is in them."""
        await self.send_bytes(b"".join(map(self._transport.seal, messages)))

    async def send_bytes(self, frames: bytes) -> None:
        """Send bytes that are sealed already, or nonsense."""
        await self._stream.send_all(frames)

    def seal(self, message: Message) -> bytes:
        """The frame of a message, for a test to send as it likes."""
        return self._transport.seal(encode(message))

    async def receive(self) -> Message | Unknown:
        """The next message.

        Raises:
            HungUp: there is none.
        """
        while not self._received:
            try:
                received = await self._stream.receive_some(65536)
            except trio.BrokenResourceError:
                raise HungUp from None
            if not received:
                raise HungUp
            self._received = self._transport.feed(bytes(received))
        return decode(self._received.pop(0))

    async def expect(self, kind: type[M]) -> M:
        """The next message of this class; others before it are skipped."""
        while True:
            message = await self.receive()
            if isinstance(message, kind):
                return message

    async def expect_unknown(self) -> Unknown:
        """The next message that BOLT does not know; others before it are skipped."""
        while True:
            message = await self.receive()
            if isinstance(message, Unknown):
                return message

    async def rest(self) -> list[Message | Unknown]:
        """All messages until the other side closes."""
        messages = []
        try:
            while True:
                messages.append(await self.receive())
        except HungUp:
            return messages

    async def hang_up(self) -> None:
        """Close the connection."""
        await trio.aclose_forcefully(self._stream)


async def handshake(stream: trio.SocketStream, their_id: bytes, secret: bytes = SECRET) -> Caller:
    """Make the calling side's three acts."""
    initiator = Initiator(secret, their_id, EPHEMERAL_SECRET)
    await stream.send_all(initiator.act_one())
    act_two = b""
    while len(act_two) < 50:
        received = await stream.receive_some(50 - len(act_two))
        if not received:
            raise HungUp
        act_two += received
    act_three, transport = initiator.receive_act_two(act_two)
    await stream.send_all(act_three)
    return Caller(stream, transport, secret)


@asynccontextmanager
async def shaking_hands(node: Node, secret: bytes = SECRET) -> AsyncIterator[Caller]:
    """A caller that has made the handshake with a node, and has not sent its init."""
    stream = await trio.open_tcp_stream(HOST, node.port)
    async with stream:
        yield await handshake(stream, node.node_id, secret)


@asynccontextmanager
async def calling(node: Node, secret: bytes = SECRET, init: Init = OUR_SIDE) -> AsyncIterator[Caller]:
    """A caller that has exchanged init with a node."""
    async with shaking_hands(node, secret) as caller:
        await caller.send(init)
        assert isinstance(await caller.receive(), Init)
        yield caller


async def answers(caller: Caller) -> bool:
    """Whether the node still talks with the caller."""
    await caller.send(Ping(num_pong_bytes=3))
    return len((await caller.expect(Pong)).ignored) == 3
