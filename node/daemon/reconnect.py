"""Staying connected to those we have channels with.

Who called first calls again: only that side knows an address.
"""

import logging
import math
import random
from collections.abc import Awaitable, Callable

import msgspec
import trio

from htlc.channel import Phase
from node.daemon.peer import PeerGone
from node.daemon.switch import Switch
from wire.crypto.secp256k1 import Point

log = logging.getLogger("rill.peer")

FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 60.0
BRIEF_SECONDS = 2.0


class Unreachable(Exception):
    """No connection to that address."""

    def __init__(self, host: str, port: int, why: str) -> None:
        self.host, self.port, self.why = host, port, why
        super().__init__(f"cannot connect to {host}:{port}: {why}")


class Address(msgspec.Struct, frozen=True, gc=False):
    """Where we reached a peer."""

    node_id: Point
    host: str
    port: int


class Caller:
    """Calls peers again whose connection has ended."""

    def __init__(self, switch: Switch, call: Callable[[Address], Awaitable[None]]) -> None:
        self._switch, self._call = switch, call
        rows = (msgspec.msgpack.decode(raw, type=Address) for raw in switch.store.values("addresses"))
        self._known = {row.node_id: row for row in rows}
        self._calling: set[Point] = set()
        self._reached_at: dict[Point, float] = {}
        self._waits: dict[Point, float] = {}
        self.on_moved: list[Callable[[], None]] = []

    async def remember(self, address: Address) -> None:
        """Keep where a peer was reached just now."""
        self._reached_at[address.node_id] = trio.current_time()
        if self._known.get(address.node_id) == address:
            return
        self._known[address.node_id] = address
        for callback in self.on_moved:
            callback()
        store = self._switch.store

        def write() -> None:
            store.put_value("addresses", address.node_id, address)

        await self._switch.ask(lambda turn: turn.write(write))

    def learn(self, address: Address) -> None:
        """Somebody says where a peer is; what we have seen ourselves counts more."""
        self._known.setdefault(address.node_id, address)

    def address_of(self, node_id: Point) -> Address | None:
        """Where a peer was reached last."""
        return self._known.get(node_id)

    def everyone(self) -> list[Point]:
        """The peers that should be called at a start."""
        return [node_id for node_id in self._known if self._has_business_with(node_id)]

    def _has_business_with(self, node_id: Point) -> bool:
        return any(
            channel.charter.peer_id == node_id and channel.phase is not Phase.CLOSED
            for channel in self._switch.channels.values()
        )

    async def call_again(self, node_id: Point) -> None:
        """Call until connected, waiting longer each time, while we have channels with the peer.

        A connection that ends at once counts as none: two nodes that disagree about a channel would
        else hang up on each other for ever, as fast as they can.
        """
        if node_id in self._calling or node_id not in self._known:
            return
        self._calling.add(node_id)
        try:
            if trio.current_time() - self._reached_at.get(node_id, -math.inf) < BRIEF_SECONDS:
                await self._wait(node_id)
            else:
                self._waits.pop(node_id, None)
            level = logging.INFO
            while node_id not in self._switch.peers and self._has_business_with(node_id):
                try:
                    await self._call(self._known[node_id])
                except (Unreachable, PeerGone) as gone:
                    told = {"peer": node_id.hex(), "why": str(gone)}
                    log.log(level, "a peer cannot be reached", extra=told)
                    # our user has heard it
                    level = logging.DEBUG
                    await self._wait(node_id)
        finally:
            self._calling.discard(node_id)

    async def _wait(self, node_id: Point) -> None:
        wait_seconds = self._waits.get(node_id, FIRST_WAIT_SECONDS)
        self._waits[node_id] = min(2 * wait_seconds, LONGEST_WAIT_SECONDS)
        await trio.sleep(wait_seconds * random.uniform(0.8, 1.2))
