"""The seller: publishes contents, and answers each request with an offer and a ciphertext.

The peer's reader task only puts a request into its buyer's queue. A few workers per buyer empty
it, so requests that arrive together share one database commit for their invoices, and a buyer
that reads slowly holds up nobody but itself. A request beyond a buyer's credit waits until a payment
comes in; a buyer that never pays costs one window per lifetime of an offer.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from itertools import accumulate
from typing import TypeAlias

import msgspec
import trio

from node.daemon.peer import PeerGone
from node.stream import messages, numbers
from node.stream.content import Content, manifest_of, plant_source
from node.stream.manifest import Manifest
from node.stream.merkle import Layout
from node.stream.messages import (
    CatalogueReply,
    GetCatalogue,
    GetManifest,
    ManifestReply,
    OfferReply,
    Reason,
    Refusal,
    RequestChunk,
)
from node.stream.ports import Node, Source
from node.stream.sales_book import Sale
from node.stream.vendor import CreditUsedUp, Policy, Refused, Vendor
from wire.codec import DecodeError
from wire.crypto.secp256k1 import Point
from wire.units import Msat

log = logging.getLogger("rill.stream")

_Request: TypeAlias = GetCatalogue | GetManifest | RequestChunk


class _Buyer(msgspec.Struct):
    """What a peer asked for."""

    requests: int = 0
    """Requests not yet answered: queued, in work, or waiting for credit."""
    queue: deque[_Request] = msgspec.field(default_factory=deque)
    waiting: deque[RequestChunk] = msgspec.field(default_factory=deque)
    workers: int = 0
    turn: trio.Lock = msgspec.field(default_factory=trio.Lock)
    """One ciphertext leaves at a time, in the order of the requests, so the first is whole first."""


class Provider:
    """Sells chunks of published contents over the node's connections; `serve` runs it."""

    def __init__(
        self,
        node: Node,
        policy: Policy | None = None,
        *,
        on_sale: Callable[[Sale], None] | None = None,
        clock: Callable[[], float] = time.time,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`on_sale` hears of every chunk that was paid."""
        self._node, self._policy = node, policy or Policy()
        self.vendor = Vendor(
            node, self._policy, on_sale=on_sale, on_room=self._take_up_waiting, clock=clock, entropy=entropy
        )
        self._contents = self.vendor.contents
        self._buyers: dict[Point, _Buyer] = {}
        self._nursery: trio.Nursery | None = None
        node.on_custom(numbers.GET_MANIFEST, self._receive_get_manifest)
        node.on_custom(numbers.GET_CATALOGUE, self._receive_get_catalogue)
        node.on_custom(numbers.REQUEST_CHUNK, self._receive_request_chunk)

    @property
    def sold_chunks(self) -> int:
        """How many chunks were paid since the start."""
        return self.vendor.sold_chunks

    @property
    def earned_msat(self) -> Msat:
        """What they brought."""
        return self.vendor.earned_msat

    async def publish(self, source: Source, *, title: str, price_msat: Msat, chunk_size: int) -> Manifest:
        """Name a content and put it on sale; reads it once from end to end.

        Raises:
            InvalidLayout: the content is empty or the chunk size is not allowed.
            BadManifestRecord: the price or the title is out of range.
            ContentChanged: the content became shorter meanwhile.
            OSError: it cannot be read.
        """
        layout = Layout(source.length, chunk_size).checked()
        tree = await plant_source(source, layout)
        manifest = manifest_of(self._node, tree.root, layout, price_msat, title)
        self.put_on_sale(Content(source, tree, manifest))
        return manifest

    def put_on_sale(self, content: Content) -> None:
        """Sell a content from now on; one of the same root is replaced."""
        self._contents[content.tree.root] = content

    def withdraw(self, root: bytes) -> None:
        """Sell it no more; what was offered may still be paid."""
        self._contents.pop(root, None)

    async def serve(self) -> None:
        """Answer requests until cancelled."""
        async with trio.open_nursery() as self._nursery:
            try:
                await trio.sleep_forever()
            finally:
                # the node may still bring requests, when nobody may work on them any more
                self._nursery = None

    async def _receive_get_manifest(self, peer: Point, payload: bytes) -> None:
        self._enqueue(peer, messages.read_get_manifest, payload)

    async def _receive_get_catalogue(self, peer: Point, payload: bytes) -> None:
        self._enqueue(peer, messages.read_get_catalogue, payload)

    async def _receive_request_chunk(self, peer: Point, payload: bytes) -> None:
        self._enqueue(peer, messages.read_request_chunk, payload)

    def _enqueue(self, peer: Point, read: Callable[[bytes], _Request], payload: bytes) -> None:
        """Take a request to the queue of its buyer; one too many is not heard."""
        try:
            request = read(payload)
        except DecodeError as reason:
            log.debug("a request is dropped: %s", reason)
            return
        if self._nursery is None:
            return
        buyer = self._buyers.setdefault(peer, _Buyer())
        if buyer.requests >= self._policy.requests_per_buyer:
            log.debug("a buyer with %d open requests is not heard", buyer.requests)
            return
        buyer.requests += 1
        self._queue(peer, buyer, request)

    def _queue(self, peer: Point, buyer: _Buyer, request: _Request) -> None:
        buyer.queue.append(request)
        if self._nursery is not None and buyer.workers < self._policy.workers_per_buyer:
            buyer.workers += 1
            self._nursery.start_soon(self._work, peer, buyer)

    async def _work(self, peer: Point, buyer: _Buyer) -> None:
        """Answer what is in a buyer's queue, then end."""
        while buyer.queue:
            request = buyer.queue.popleft()
            is_answered = True
            try:
                if isinstance(request, GetManifest):
                    await self._show(peer, request)
                elif isinstance(request, GetCatalogue):
                    await self._show_catalogue(peer, request)
                else:
                    is_answered = await self._answer(peer, buyer, request)
            except PeerGone as reason:
                log.debug("a buyer left before its answer: %s", reason)
            if is_answered:
                buyer.requests -= 1
        buyer.workers -= 1
        self._forget_if_idle(peer, buyer)

    async def _show(self, peer: Point, request: GetManifest) -> None:
        content = self._contents.get(request.root)
        if content is None:
            await self._refuse(peer, request.request_id, Reason.UNKNOWN_CONTENT)
            return
        reply = messages.write_manifest(ManifestReply(request.request_id, content.manifest.raw))
        await self._node.send_custom(peer, numbers.MANIFEST, reply)

    async def _show_catalogue(self, peer: Point, request: GetCatalogue) -> None:
        """As many manifests, in the order of publication, as a message holds."""
        rest = [content.manifest.raw for content in self._contents.values()][request.first :]
        sums = accumulate(len(raw) + 2 for raw in rest)
        page = tuple(raw for raw, end in zip(rest, sums, strict=True) if end <= messages.MAX_PAGE_BYTES)
        reply = messages.write_catalogue(CatalogueReply(request.request_id, len(self._contents), page))
        await self._node.send_custom(peer, numbers.CATALOGUE, reply)

    async def _answer(self, peer: Point, buyer: _Buyer, request: RequestChunk) -> bool:
        """Sell or refuse; False if the request must wait."""
        try:
            sold = await self.vendor.sell(peer, request.root, request.index)
        except CreditUsedUp:
            buyer.waiting.append(request)
            return False
        except Refused as refused:
            return await self._refuse(peer, request.request_id, refused.reason)
        payload = messages.write_offer(OfferReply(request.request_id, sold.offer.encode()))
        async with buyer.turn:
            await self._node.send_custom(peer, numbers.OFFER, payload)
            for fragment in messages.write_fragments(request.request_id, sold.ciphertext):
                await self._node.send_custom(peer, numbers.CIPHERTEXT, fragment)
        return True

    async def _refuse(self, peer: Point, request_id: int, reason: Reason) -> bool:
        payload = messages.write_refusal(Refusal(request_id, reason))
        await self._node.send_custom(peer, numbers.REFUSAL, payload)
        return True

    def _take_up_waiting(self, peer: Point) -> None:
        """A buyer owes less: its next request may be answered."""
        buyer = self._buyers.get(peer)
        if buyer is not None and buyer.waiting:
            self._queue(peer, buyer, buyer.waiting.popleft())

    def _forget_if_idle(self, peer: Point, buyer: _Buyer) -> None:
        """A peer that asks for nothing takes no memory."""
        if not buyer.requests and not buyer.workers:
            self._buyers.pop(peer, None)
