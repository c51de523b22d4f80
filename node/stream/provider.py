"""The seller: publishes contents, and answers each request with an offer and a ciphertext.

The peer's reader task only puts a request into its buyer's queue. A few workers per buyer empty
it, so requests that arrive together share one database commit for their invoices, and a buyer
that reads slowly holds up nobody but itself. An invoice is durable before its offer leaves: a
viewer that pays after a crash of this node still gets the preimage.

What a buyer has received and not paid is bounded by a credit window. A request beyond it waits
until a payment comes in; a buyer that never pays costs one window per lifetime of an offer.
Asking again for a chunk that is unpaid brings the same sale again, so a viewer that lost its
connection loses nothing, and only a few times.
"""

import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable
from itertools import accumulate
from typing import TypeAlias

import msgspec
import trio

from node.daemon.peer import PeerGone
from node.stream import messages
from node.stream.content import Content, ContentChanged, NotHereYet, manifest_of, plant_source
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
from node.stream.offer import Offer, Terms, seal_chunk
from node.stream.ports import Node, Source
from node.stream.sales_book import Sale
from wire.codec import DecodeError
from wire.crypto.hashes import sha256
from wire.crypto.secp256k1 import Point
from wire.units import Msat

log = logging.getLogger("rill.stream")

FREE = Msat(0)
_SALE = re.compile("chunk ([0-9]{1,10}) of ([0-9a-f]{64}) for (0[23][0-9a-f]{64})")
_Request: TypeAlias = GetCatalogue | GetManifest | RequestChunk


class Policy(msgspec.Struct, frozen=True, gc=False):
    """How far a provider trusts a buyer, and how much work it takes on."""

    credit_bytes: int = 32 << 20
    """How much ciphertext one buyer may have unpaid."""
    credit_of_all_bytes: int = 1 << 30
    """How much all buyers together may; whoever asks for more is refused until some of it is paid."""
    offer_seconds: int = 900
    margin_seconds: int = 60
    """An offer that ends sooner is not sent again; the next request gets a new one."""
    resends: int = 3
    requests_per_buyer: int = messages.MAX_OPEN_REQUESTS
    workers_per_buyer: int = 32


class _AskedTooOften(Exception):
    """The same unpaid chunk, again and again."""


class _Sale(msgspec.Struct):
    """An offer that a buyer has, with its ciphertext, and has not paid."""

    key: tuple[bytes, int]
    buyer: Point
    ciphertext_bytes: int
    preimage: bytes
    expiry: float
    offer: bytes = b""
    resends: int = 0


class _Buyer(msgspec.Struct):
    """What a peer asked for and what it owes."""

    unpaid: dict[tuple[bytes, int], _Sale] = msgspec.field(default_factory=dict)
    unpaid_bytes: int = 0
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
        self._on_sale, self._clock, self._entropy = on_sale, clock, entropy
        self._unpaid_bytes = 0
        self._contents: dict[bytes, Content] = {}
        self._buyers: dict[Point, _Buyer] = {}
        self._sales: dict[bytes, _Sale] = {}
        self._nursery: trio.Nursery | None = None
        self.sold_chunks, self.earned_msat = 0, Msat(0)
        node.on_custom(messages.GET_MANIFEST, self._receive_get_manifest)
        node.on_custom(messages.GET_CATALOGUE, self._receive_get_catalogue)
        node.on_custom(messages.REQUEST_CHUNK, self._receive_request_chunk)
        node.on_settled(self._settled)

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
        try:
            async with trio.open_nursery() as self._nursery:
                await trio.sleep_forever()
        finally:
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
        await self._node.send_custom(peer, messages.MANIFEST, reply)

    async def _show_catalogue(self, peer: Point, request: GetCatalogue) -> None:
        """As many manifests, in the order of publication, as a message holds."""
        rest = [content.manifest.raw for content in self._contents.values()][request.first :]
        sums = accumulate(len(raw) + 2 for raw in rest)
        page = tuple(raw for raw, end in zip(rest, sums, strict=True) if end <= messages.MAX_PAGE_BYTES)
        reply = messages.write_catalogue(CatalogueReply(request.request_id, len(self._contents), page))
        await self._node.send_custom(peer, messages.CATALOGUE, reply)

    async def _answer(self, peer: Point, buyer: _Buyer, request: RequestChunk) -> bool:
        """Sell or refuse; False if the request must wait. One decision up to the first await."""
        content = self._contents.get(request.root)
        if content is None:
            return await self._refuse(peer, request.request_id, Reason.UNKNOWN_CONTENT)
        if request.index >= content.tree.layout.chunk_count:
            return await self._refuse(peer, request.request_id, Reason.NO_SUCH_CHUNK)
        if request.index < content.manifest.free_chunks:
            return await self._give(peer, request, content)
        self._forget_expired(buyer)
        sale = buyer.unpaid.get((request.root, request.index))
        size = content.tree.layout.chunk_bytes(request.index)
        if sale is None and buyer.unpaid and buyer.unpaid_bytes + size > self._policy.credit_bytes:
            buyer.waiting.append(request)
            return False
        if sale is None and self._unpaid_bytes + size > self._policy.credit_of_all_bytes:
            return await self._refuse(peer, request.request_id, Reason.UNPAID)
        try:
            if sale is None:
                sale = self._open_sale(peer, request, size)
                ciphertext = await self._sell(content, sale)
            else:
                ciphertext = self._sold(content, sale)
        except (ContentChanged, OSError) as reason:
            log.warning("chunk %d of %s cannot be sold: %r", request.index, request.root.hex(), reason)
            return await self._refuse(peer, request.request_id, Reason.UNAVAILABLE)
        except NotHereYet:
            return await self._refuse(peer, request.request_id, Reason.NOT_HERE_YET)
        except _AskedTooOften:
            return await self._refuse(peer, request.request_id, Reason.UNPAID)
        return await self._deliver(peer, request.request_id, sale.offer, ciphertext)

    async def _give(self, peer: Point, request: RequestChunk, content: Content) -> bool:
        """A chunk for nothing: the offer itself tells the preimage, in the place of the secret."""
        try:
            preimage, chunk = self._entropy(32), content.chunk(request.index)
        except (ContentChanged, NotHereYet, OSError) as reason:
            log.warning("chunk %d of %s cannot be given: %r", request.index, request.root.hex(), reason)
            return await self._refuse(peer, request.request_id, Reason.UNAVAILABLE)
        ciphertext = seal_chunk(preimage, request.root, request.index, chunk)
        expiry = int(self._clock() + self._policy.offer_seconds)
        terms = terms_of(content, request.index, FREE, (sha256(preimage), preimage), expiry, ciphertext)
        offer = Offer(terms, self._node.sign_digest(terms.digest())).encode()
        return await self._deliver(peer, request.request_id, offer, ciphertext)

    async def _refuse(self, peer: Point, request_id: int, reason: Reason) -> bool:
        payload = messages.write_refusal(Refusal(request_id, reason))
        await self._node.send_custom(peer, messages.REFUSAL, payload)
        return True

    async def _sell(self, content: Content, sale: _Sale) -> bytes:
        """The ciphertext of a new sale, whose offer is signed and whose invoice is durable."""
        try:
            ciphertext = seal_chunk(sale.preimage, *sale.key, content.chunk(sale.key[1]))
            terms = await self._invoiced(content, sale, ciphertext)
            sale.offer = Offer(terms, self._node.sign_digest(terms.digest())).encode()
        finally:
            if not sale.offer:
                self._close_sale(sale)
        return ciphertext

    def _sold(self, content: Content, sale: _Sale) -> bytes:
        """The ciphertext of a sale once more, for a buyer that lost it on the way."""
        sale.resends += 1
        if sale.resends > self._policy.resends or not sale.offer:
            raise _AskedTooOften
        return seal_chunk(sale.preimage, *sale.key, content.chunk(sale.key[1]))

    async def _deliver(self, peer: Point, request_id: int, offer: bytes, ciphertext: bytes) -> bool:
        payload = messages.write_offer(OfferReply(request_id, offer))
        async with self._buyers[peer].turn:
            await self._node.send_custom(peer, messages.OFFER, payload)
            for fragment in messages.write_fragments(request_id, ciphertext):
                await self._node.send_custom(peer, messages.CIPHERTEXT, fragment)
        return True

    async def _invoiced(self, content: Content, sale: _Sale, ciphertext: bytes) -> Terms:
        """The terms of a sale whose invoice is durable."""
        manifest, (root, index) = content.manifest, sale.key
        invoice = await self._node.add_invoice(
            manifest.price_msat,
            sale_text(root, index, sale.buyer),
            preimage=sale.preimage,
            expiry_seconds=self._policy.offer_seconds,
        )
        tie = (invoice.payment_hash, invoice.payment_secret)
        return terms_of(content, index, manifest.price_msat, tie, int(sale.expiry), ciphertext)

    def _open_sale(self, peer: Point, request: RequestChunk, size: int) -> _Sale:
        preimage = self._entropy(32)
        expiry = self._clock() + self._policy.offer_seconds
        sale = _Sale((request.root, request.index), peer, size, preimage, expiry)
        self._sales[sha256(preimage)] = sale
        buyer = self._buyers[peer]
        buyer.unpaid[sale.key] = sale
        buyer.unpaid_bytes += size
        self._unpaid_bytes += size
        return sale

    def _close_sale(self, sale: _Sale) -> None:
        """The buyer owes nothing for this sale any more."""
        del self._sales[sha256(sale.preimage)]
        buyer = self._buyers[sale.buyer]
        del buyer.unpaid[sale.key]
        buyer.unpaid_bytes -= sale.ciphertext_bytes
        self._unpaid_bytes -= sale.ciphertext_bytes
        if buyer.waiting:
            self._queue(sale.buyer, buyer, buyer.waiting.popleft())

    def _forget_expired(self, buyer: _Buyer) -> None:
        """An offer that can no longer be paid frees its credit: the loss that a window bounds."""
        soon = self._clock() + self._policy.margin_seconds
        for sale in [sale for sale in buyer.unpaid.values() if sale.offer and sale.expiry <= soon]:
            self._close_sale(sale)

    def _settled(self, payment_hash: bytes, amount_msat: Msat) -> None:
        sale = self._sales.get(payment_hash)
        if sale is None:
            return
        self.sold_chunks, self.earned_msat = self.sold_chunks + 1, Msat(self.earned_msat + amount_msat)
        if self._on_sale is not None:
            root, index = sale.key
            now = int(self._clock())
            self._on_sale(Sale(payment_hash, root, index, sale.buyer, amount_msat, now))
        self._close_sale(sale)
        self._forget_if_idle(sale.buyer, self._buyers[sale.buyer])

    def _forget_if_idle(self, peer: Point, buyer: _Buyer) -> None:
        """A peer that owes nothing and asks for nothing takes no memory."""
        if not buyer.unpaid and not buyer.requests and not buyer.workers:
            self._buyers.pop(peer, None)


def terms_of(
    content: Content, index: int, price_msat: Msat, tie: tuple[bytes, bytes], expiry: int, ciphertext: bytes
) -> Terms:
    """The terms of a sale; `tie` is its payment's hash and secret."""
    payment_hash, payment_secret = tie
    return Terms(
        provider=content.manifest.provider,
        root=content.tree.root,
        layout=content.tree.layout,
        index=index,
        price_msat=price_msat,
        payment_hash=payment_hash,
        payment_secret=payment_secret,
        expiry=expiry,
        subtree_hash=content.tree.subtree_hash(index),
        ciphertext_sha256=sha256(ciphertext),
        proof=content.tree.proof(index),
    )


def sale_text(root: bytes, index: int, buyer: Point) -> str:
    """What the invoice of a sale says: enough to book it by, after a crash."""
    return f"chunk {index} of {root.hex()} for {buyer.hex()}"


def read_sale_text(text: str) -> tuple[bytes, int, Point] | None:
    """The root, the chunk and the buyer that an invoice names, if it is one of a sale."""
    found = _SALE.fullmatch(text)
    return (bytes.fromhex(found[2]), int(found[1]), bytes.fromhex(found[3])) if found else None
