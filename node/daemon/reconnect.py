"""Staying connected to those we have channels with.

Who called first calls again: only that side knows an address, and two sides that call each
other at once would close each other's connections.
"""

import logging
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

    async def remember(self, address: Address) -> None:
        """Keep where a peer was reached."""
        if self._known.get(address.node_id) == address:
            return
        self._known[address.node_id] = address
        store = self._switch.store

        def write() -> None:
            store.put_value("addresses", address.node_id, address)

        await self._switch.ask(lambda turn: turn.write(write))

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
        """Call until connected, waiting longer each time, while we have channels with the peer."""
        if node_id in self._calling or node_id not in self._known:
            return
        self._calling.add(node_id)
        wait_seconds = FIRST_WAIT_SECONDS
        try:
            while node_id not in self._switch.peers and self._has_business_with(node_id):
                try:
                    await self._call(self._known[node_id])
                except (Unreachable, PeerGone) as gone:
                    log.info("a peer cannot be reached", extra={"peer": node_id.hex(), "why": str(gone)})
                    await trio.sleep(wait_seconds * random.uniform(0.8, 1.2))
                    wait_seconds = min(2 * wait_seconds, LONGEST_WAIT_SECONDS)
        finally:
            self._calling.discard(node_id)
