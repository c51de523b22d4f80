"""Onion messages between peers: passed on, or given to those here who wait for them (BOLT 4).

A message that cannot be read, or goes to nobody we are connected to, is dropped in silence, and so
is what comes faster than we care to open: each costs some curve arithmetic, and its sender, who is
not the peer, can send it to us for nothing. A peer that is slow to read gets none.
"""

import logging
import secrets
from collections.abc import Callable, Mapping

import trio

from node.daemon.peer import Peer, PeerGone
from node.daemon.switch import Switch
from onion.message import Arrived, Dropped, PassOn, build_message, open_message
from wire.blinded_path import BlindedPath
from wire.crypto.secp256k1 import Point
from wire.features import ONION_MESSAGES
from wire.messages.onion import OnionMessage

log = logging.getLogger("rill.onion")

MESSAGES_PER_SECOND = 20
MOST_AT_ONCE = 100
MOST_PEERS = 1000


class Allowance:
    """How much a peer may still send: full at first, and slowly filled up again."""

    def __init__(self, now_seconds: float) -> None:
        self._left, self._at_seconds = float(MOST_AT_ONCE), now_seconds

    def take(self, now_seconds: float) -> bool:
        """Use up one message; False if none is left."""
        gained = (now_seconds - self._at_seconds) * MESSAGES_PER_SECOND
        self._left, self._at_seconds = min(MOST_AT_ONCE, self._left + gained), now_seconds
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Allowances:
    """Those of all peers; kept beyond a connection, or calling again would fill one up."""

    def __init__(self) -> None:
        self._by_peer: dict[Point, Allowance] = {}

    def take(self, node_id: Point, now_seconds: float) -> bool:
        """Use up one message of a peer; False if it has none left."""
        if node_id not in self._by_peer and len(self._by_peer) >= MOST_PEERS:
            del self._by_peer[next(iter(self._by_peer))]
        return self._by_peer.setdefault(node_id, Allowance(now_seconds)).take(now_seconds)


class Messenger:
    """The onion messages of one node."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._allowances = Allowances()
        self.on_arrived: list[Callable[[Arrived], None]] = []

    def receive(self, peer: Peer, message: OnionMessage) -> None:
        """A message that a peer brings."""
        # onion-messages.2: whatever becomes of it, nobody is told
        if self._allowances.take(peer.node_id, trio.current_time()):
            self._take(message)

    def _take(self, message: OnionMessage) -> None:
        outcome = open_message(
            self._switch.signer.node_secret, message.path_key, message.onion_message_packet
        )
        match outcome:
            case PassOn():
                self._pass_on(outcome)
            case Arrived():
                for callback in self.on_arrived:
                    callback(outcome)
            case Dropped(why=why):
                log.debug("an onion message is dropped", extra={"why": why})

    def _pass_on(self, outcome: PassOn) -> None:
        # onion-messages.3
        message = OnionMessage(outcome.path_key, outcome.packet)
        peer = self._switch.peers.get(self._next_of(outcome) or b"")
        # onion-messages.1: to any peer that takes them, whether or not we share a channel
        if peer is not None and peer.features.has(ONION_MESSAGES) and not peer.is_behind:
            peer.send(message)

    def _next_of(self, outcome: PassOn) -> Point | None:
        if outcome.short_channel_id is None:
            return outcome.next_node_id
        return self._switch.peer_named(outcome.short_channel_id)

    def send(
        self, path: BlindedPath, records: Mapping[int, bytes], reply_path: BlindedPath | None = None
    ) -> None:
        """Send records to whoever made the path, which begins with a peer of ours.

        Raises:
            PeerGone: we are not connected to it.
            OnionTooLong: the path or the records are too long for a message.
        """
        peer = self._switch.peers.get(path.first_node_id)
        if peer is None:
            raise PeerGone(path.first_node_id, "there is no connection")
        packet = build_message(secrets.token_bytes(32), path, records, reply_path)
        peer.send(OnionMessage(path.first_path_key, packet))
