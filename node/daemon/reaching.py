"""Bringing an onion message to where a blinded path begins: over nodes that pass it on (BOLT 4)."""

import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

import msgspec

from gossip.graph import Graph
from gossip.message_routes import Tree, message_route, message_tree, route_in
from node.daemon.blinded_ways import first_node
from node.daemon.messenger import Messenger
from node.daemon.offer_paths import message_path
from node.daemon.peer import PeerGone
from node.daemon.reconnect import Unreachable
from node.daemon.switch import Switch
from onion.blinded import InvalidBlinding, prepend, unblind
from onion.message import INVOICE_ERROR
from onion.sphinx import OnionTooLong
from wire.blinded_path import BlindedPath
from wire.bolt12.errors import Unacceptable
from wire.bolt12.forms import Form, InvoiceError, encode_form
from wire.crypto.secp256k1 import Point
from wire.features import ONION_MESSAGES

MOST_LOOKING_SHARE = 0.02
"""So much of our time strangers can make us spend on looking for ways to where they want an answer."""

log = logging.getLogger("rill.offers")


class OurOwnPath(Exception):
    """The path leads to ourselves."""

    def __init__(self) -> None:
        super().__init__("it leads to this node itself")


class Reach:
    """Sends messages farther than to our peers."""

    def __init__(
        self,
        switch: Switch,
        graph: Graph,
        messenger: Messenger,
        call: Callable[[Point], Awaitable[None]],
    ) -> None:
        """`call` connects us to a node; it raises Unreachable or PeerGone."""
        self._switch, self._graph, self._messenger, self._call = switch, graph, messenger, call
        self._tree: Tree = {}
        self._state: tuple[set[Point], int] | None = None  # of peers and graph, when the tree was made
        self._next_look = 0.0

    def entered(self, path: BlindedPath) -> BlindedPath | None:
        """The path from its first node that is not ourselves, known by its id; None if we know no such.

        Raises:
            OurOwnPath: there is none, for we are at its end.
        """
        first = first_node(self._graph, path)
        if first is None:
            return None
        if first != self._switch.signer.node_id:
            return msgspec.structs.replace(path, first_node_id=first)
        if len(path.hops) == 1:
            raise OurOwnPath
        encrypted = path.hops[0].encrypted_recipient_data
        try:
            opened = unblind(self._switch.signer.node_secret, path.first_path_key, encrypted)
        except InvalidBlinding:
            return None
        told = opened.recipient_data
        following = told.next_node_id or self._switch.peer_named(told.short_channel_id)
        return BlindedPath(following, opened.next_path_key, path.hops[1:]) if following else None

    def route(self, target: Point, excluded: Collection[Point] = ()) -> tuple[Point, ...] | None:
        """The nodes from a peer of ours to this one; None if there are none."""
        return message_route(self._graph, self._peers(), target, excluded)

    def _peers(self) -> set[Point]:
        return {peer_id for peer_id, peer in self._switch.peers.items() if peer.features.has(ONION_MESSAGES)}

    def _cheap_route(self, target: Point) -> tuple[Point, ...] | None:
        """The same for strangers, who choose the target: as things were not long ago."""
        now, peers = time.perf_counter(), self._peers()
        state = peers, self._graph.version
        if state != self._state and now >= self._next_look:
            self._tree, self._state = message_tree(self._graph, peers), state
            spent_seconds = time.perf_counter() - now
            self._next_look = now + spent_seconds / MOST_LOOKING_SHARE
        route = route_in(self._tree, self._graph, target)
        return route if route is not None and route[0] in peers else None

    def send(
        self,
        path: BlindedPath,
        route: Sequence[Point],
        records: Mapping[int, bytes],
        reply_path: BlindedPath | None = None,
    ) -> None:
        """Send records to whoever made the path, over a route to where it begins.

        Raises:
            PeerGone: the first node of the route is no peer any more.
            OnionTooLong: route, path and records are too long for a message.
        """
        *before, first = route
        assert first == path.first_node_id, "the route leads to the path"
        whole = prepend(secrets.token_bytes(32), before, path) if before else path
        self._messenger.send(whole, records, reply_path)

    async def bring(
        self,
        path: BlindedPath,
        records: Mapping[int, bytes],
        path_id: bytes,
        avoided: set[Point],
        *,
        is_called: bool,
    ) -> bool:
        """Send records along a path, with a path back to us; whether that could be done.

        Args:
            path_id: what comes back with an answer.
            avoided: nodes that did not bring an answer, gone round if that can be; it grows.
            is_called: whether to call the node where the path begins.

        Raises:
            OurOwnPath: it leads to ourselves.
        """
        entered = self.entered(path)
        if entered is None:
            return False
        first = entered.first_node_id
        if is_called and not await self._is_connected(first):
            return False
        route = (first,) if is_called else self.route(first, avoided) or self.route(first)
        if route is None:
            return False
        try:
            self.send(entered, route, records, self._back(entered, route, path_id))
        except (PeerGone, OnionTooLong):
            return False
        avoided.update(route[:-1])
        return True

    async def _is_connected(self, node_id: Point) -> bool:
        try:
            await self._call(node_id)
        except (Unreachable, PeerGone) as gone:
            log.info("the start of a path cannot be called", extra={"node": node_id.hex(), "why": str(gone)})
            return False
        return True

    def _back(self, path: BlindedPath, route: Sequence[Point], path_id: bytes) -> BlindedPath:
        """The way that a message goes, turned round: who gets it has the last node before it for a peer."""
        before = route if len(path.hops) > 1 else route[:-1]
        return message_path(
            (*reversed(before), self._switch.signer.node_id), path_id, secrets.token_bytes(32)
        )

    def reply(self, reply_path: BlindedPath, number: int, form: Form) -> None:
        """Send a form back, if there is a way; we call nobody for it, or anybody could make us do so."""
        try:
            path = self.entered(reply_path)
            route = self._cheap_route(path.first_node_id) if path is not None else None
            if path is None or route is None:
                log.info("there is no way back for an onion message")
                return
            self.send(path, route, {number: encode_form(form)})
        except (OurOwnPath, PeerGone, OnionTooLong) as lost:
            log.info("there is no way back for an onion message", extra={"why": str(lost)})

    def reply_error(self, reply_path: BlindedPath, refused: Unacceptable) -> None:
        """Tell whoever sent something what is wrong with it."""
        told = InvoiceError(erroneous_field=refused.field, error=str(refused))
        self.reply(reply_path, INVOICE_ERROR, told)
