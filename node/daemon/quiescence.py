"""Channels whose peer has asked for silence (BOLT 2, quiescence).

Once we have answered, the channel is no longer among those that we may speak on, as if it were not
taken up yet: nothing is offered, signed or sent there, and what is decided meanwhile goes out when the
next connection takes it up.
"""

from typing import TYPE_CHECKING

import trio

from htlc.channel import Channel
from htlc.errors import UnexpectedMessage
from htlc.quiescence import check_asked, is_silent_for_too_long, may_fall_silent
from node.daemon.peer import Peer
from wire.features import QUIESCE
from wire.messages.channel import Stfu

if TYPE_CHECKING:
    from node.daemon.switch import Switch
    from node.daemon.turn import Turn

LOOK_SECONDS = 1.0
ASKING, ANSWERING = 1, 0


class Quiescence:
    """Which channels are asked to be silent, and since when they are."""

    def __init__(self, switch: "Switch") -> None:
        self._switch = switch
        self._asked: set[bytes] = set()
        self._silent_since: dict[bytes, float] = {}
        self._wake = trio.Event()

    def is_asked(self, channel_id: bytes) -> bool:
        """Whether the peer wants silence: nothing new should be begun."""
        return channel_id in self._asked

    def receive(self, turn: "Turn", peer: Peer, channel: Channel, message: Stfu) -> None:
        """The peer asks.

        Raises:
            UnexpectedMessage: it may not.
        """
        if not peer.agrees_on(QUIESCE) or channel.id in self._asked or message.initiator != ASKING:
            # stfu.1: once, and only who was asked says that it answers
            raise UnexpectedMessage("stfu", channel.phase.value)
        check_asked(channel)
        self._asked.add(channel.id)
        self.advance(turn, channel)

    def advance(self, turn: "Turn", channel: Channel) -> None:
        """Answer, if we were asked and have nothing under way any more."""
        is_answered = channel.id in self._silent_since
        if channel.id not in self._asked or is_answered or not may_fall_silent(channel):
            return
        turn.send(channel.charter.peer_id, Stfu(channel.id, ANSWERING))
        self._switch.live.discard(channel.id)
        self._silent_since[channel.id] = trio.current_time()
        self._wake.set()

    def forget(self, channel_ids: set[bytes]) -> None:
        """The connection is down, and with it the silence."""
        self._asked -= channel_ids
        for channel_id in channel_ids:
            self._silent_since.pop(channel_id, None)

    async def run(self) -> None:
        """Part from peers that keep HTLCs waiting."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._silent_since:
                await trio.sleep(LOOK_SECONDS)
                self._part(trio.current_time())

    def _part(self, now_seconds: float) -> None:
        for channel_id, since_seconds in list(self._silent_since.items()):
            channel = self._switch.channels[channel_id]
            peer = self._switch.peers.get(channel.charter.peer_id)
            if peer is not None and is_silent_for_too_long(channel, now_seconds - since_seconds):
                peer.warn("HTLCs have waited too long for the end of quiescence", channel_id)
