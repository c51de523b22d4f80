"""Nodes that are connected without channels: what the sale of content needs, and no more.

Messages go through a queue and one reader task per node; a payment looks up the invoice and hands
over the preimage.
"""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from gossip.graph import Graph
from node.daemon.paying import PaymentFailed
from node.daemon.payments import AlreadyPaid, Status
from node.daemon.peer import PeerGone
from node.stream.ports import CustomHandler, SettledCallback
from wire.crypto import secp256k1
from wire.crypto.hashes import sha256
from wire.crypto.secp256k1 import Point, Signature
from wire.units import Msat


@dataclass(frozen=True)
class JoinedInvoice:
    payment_hash: bytes
    payment_secret: bytes
    amount_msat: Msat | None
    preimage: bytes


@dataclass(frozen=True)
class JoinedPayment:
    preimage: bytes
    amount_msat: Msat
    fee_msat: Msat
    route: tuple[Point, ...]
    short_channel_ids: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class JoinedState:
    status: Status
    payment_preimage: bytes | None
    amount_msat: Msat
    fee_msat: Msat


@dataclass
class JoinedNode:
    """A node that is joined to others."""

    secret: bytes
    peers: dict[Point, "JoinedNode"] = field(default_factory=dict)
    invoices: dict[bytes, JoinedInvoice] = field(default_factory=dict)
    handlers: dict[int, CustomHandler] = field(default_factory=dict)
    settled: list[SettledCallback] = field(default_factory=list)
    payments: list[bytes] = field(default_factory=list)
    states: dict[bytes, JoinedState] = field(default_factory=dict)
    spendable_msat: Msat = Msat(10**12)
    graph: Graph = field(default_factory=Graph)
    failures: int = 0
    """How many payments fail before one succeeds."""
    failed: int = 0
    is_cut: bool = False
    """Whether what we send finds no connection."""
    bend: Callable[[int, bytes], bytes | None] = lambda _, payload: payload
    """What becomes of a payload that is sent; None loses it."""

    on_offered: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
    """Awaited while a payment is on its way, before the payee hears of it."""

    on_htlc: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
    """Awaited by whoever pays us, before we reveal the preimage."""

    def __post_init__(self) -> None:
        self.node_id = secp256k1.point_of(self.secret)
        self.put, self.inbox = trio.open_memory_channel[tuple[Point, int, bytes]](math.inf)

    def sign_digest(self, digest: bytes) -> Signature:
        return secp256k1.sign(self.secret, digest)

    async def connect(self, node_id: Point, host: str, port: int) -> None:
        await trio.lowlevel.checkpoint()

    def on_custom(self, type: int, handler: CustomHandler) -> None:
        self.handlers[type] = handler

    def on_settled(self, callback: SettledCallback) -> None:
        self.settled.append(callback)

    async def send_custom(self, peer_id: Point, type: int, payload: bytes) -> None:
        await trio.lowlevel.checkpoint()
        peer = self.peers.get(peer_id)
        if self.is_cut or peer is None or peer.is_cut:
            raise PeerGone(peer_id, "nobody is joined")
        bent = self.bend(type, payload)
        if bent is not None:
            peer.put.send_nowait((self.node_id, type, bent))

    async def read(self) -> None:
        async for peer_id, type, payload in self.inbox:
            if type in self.handlers:
                await self.handlers[type](peer_id, payload)

    async def add_invoice(
        self, amount_msat: Msat, description: str, *, preimage: bytes | None, expiry_seconds: int
    ) -> JoinedInvoice:
        await trio.lowlevel.checkpoint()
        preimage = preimage or sha256(self.secret, len(self.invoices).to_bytes(4, "big"))
        invoice = JoinedInvoice(sha256(preimage), sha256(b"secret", preimage), amount_msat, preimage)
        self.invoices[invoice.payment_hash] = invoice
        return invoice

    async def pay(
        self,
        payee: Point,
        payment_hash: bytes,
        payment_secret: bytes,
        amount_msat: Msat,
        *,
        max_fee_msat: Msat,
    ) -> JoinedPayment:
        await trio.lowlevel.checkpoint()
        if self.failures:
            self.failures -= 1
            self.failed += 1
            raise PaymentFailed("no route just now", 1)
        if payment_hash in self.payments:
            raise AlreadyPaid(payment_hash, Status.COMPLETE)
        self.payments.append(payment_hash)
        self.states[payment_hash] = JoinedState(Status.PENDING, None, amount_msat, Msat(0))
        await self.on_offered()
        assert self.states[payment_hash].status is Status.PENDING
        payee_node = self.peers[payee]
        await payee_node.on_htlc()
        invoice = payee_node.invoices[payment_hash]
        assert (payment_secret, amount_msat) == (invoice.payment_secret, invoice.amount_msat)
        self.complete(payment_hash)
        return JoinedPayment(invoice.preimage, amount_msat, Msat(0), (payee,))

    def complete(self, payment_hash: bytes) -> None:
        """A payment that is on its way arrives, and its preimage comes back."""
        [payee] = [peer for peer in self.peers.values() if payment_hash in peer.invoices]
        invoice, amount_msat = payee.invoices[payment_hash], self.states[payment_hash].amount_msat
        for callback in payee.settled:
            callback(payment_hash, amount_msat)
        self.states[payment_hash] = JoinedState(Status.COMPLETE, invoice.preimage, amount_msat, Msat(0))

    def payment(self, payment_hash: bytes) -> JoinedState | None:
        return self.states.get(payment_hash)


@asynccontextmanager
async def joined(*secrets: bytes) -> AsyncIterator[tuple[list[JoinedNode], trio.Nursery]]:
    """Nodes that are all joined to each other, and a nursery that reads for them."""
    nodes = [JoinedNode(secret) for secret in secrets]
    for node in nodes:
        node.peers = {other.node_id: other for other in nodes if other is not node}
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(node.read)
        yield nodes, nursery
        nursery.cancel_scope.cancel()
