"""The buyer: turns money into a file, a window of chunks at a time.

As many tasks as the window has places take the next chunk each, and carry it all the way: ask,
gather the ciphertext, verify the offer, pay, decrypt, verify, write. So at most a window of
chunks is unpaid or paid and not yet opened, and no task is made for a chunk. Messages that
arrive only fill the parcel that waits for them.

What can go wrong by accident (a lost message, a payment without a route just now) is tried again
a bounded number of times. What can only be meant (an offer that does not verify, a chunk that is
not the one signed) ends the purchase.
"""

import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256

import msgspec
import trio

from node.daemon.paying import PaymentFailed
from node.daemon.payments import AlreadyPaid
from node.daemon.peer import PeerGone
from node.daemon.reconnect import Unreachable
from node.stream import messages
from node.stream.budget import Budget, Hour, OverBudget, Spent
from node.stream.manifest import Manifest, WrongManifest, read_manifest
from node.stream.messages import (
    Fragment,
    GetManifest,
    ManifestReply,
    OfferReply,
    Reason,
    Refusal,
    RequestChunk,
)
from node.stream.offer import (
    TAG_BYTES,
    Defrauded,
    InvalidOffer,
    Offer,
    OfferExpired,
    OfferNotProven,
    OfferNotSigned,
    OfferReused,
    WrongCiphertext,
    WrongOffer,
    is_of_content,
    open_chunk,
    read_offer,
)
from node.stream.ports import Node, Payment, Sink
from wire.codec import DecodeError
from wire.crypto.secp256k1 import Point
from wire.units import Msat

log = logging.getLogger("rill.stream")


class Patience(msgspec.Struct, frozen=True, gc=False):
    """How long a viewer waits, and how often it tries."""

    silence_seconds: float = 15.0
    """Without a word from the provider, whatever it was asked for is asked for again."""
    requests: int = 3
    payments: int = 6
    pause_seconds: float = 0.05
    """Before the second payment of an offer; it doubles each time."""
    margin_seconds: float = 10.0
    """An offer that ends sooner is not paid."""


class PurchaseFailed(Exception):
    """The content cannot be had; what was bought so far is written."""


class NoAnswer(PurchaseFailed):
    """The provider does not answer, however often it is asked."""

    def __init__(self, what: str, tries: int) -> None:
        self.what, self.tries = what, tries
        super().__init__(f"no answer to {tries} requests for {what}")


class ProviderRefused(PurchaseFailed):
    """The provider says no."""

    def __init__(self, what: str, reason: Reason) -> None:
        self.what, self.reason = what, reason
        super().__init__(f"the provider refuses {what}: {reason.name.lower().replace('_', ' ')}")


class ChunkNotPaid(PurchaseFailed):
    """No payment for the chunk goes through."""

    def __init__(self, index: int, tries: int, why: str) -> None:
        self.index, self.tries, self.why = index, tries, why
        super().__init__(f"chunk {index} could not be paid in {tries} tries: {why}")


class ChunkBought(msgspec.Struct, frozen=True, gc=False):
    """One chunk is paid, opened, verified and written."""

    index: int
    bytes: int
    price_msat: Msat
    fee_msat: Msat
    seconds: float
    route: tuple[Point, ...]
    tries: int


class Receipt(msgspec.Struct, frozen=True):
    """What a purchase came to; the chunks in the order in which they were done."""

    chunks: tuple[ChunkBought, ...]
    seconds: float

    @property
    def bytes(self) -> int:
        """The length of what was bought."""
        return sum(chunk.bytes for chunk in self.chunks)

    @property
    def paid_msat(self) -> Msat:
        """What the provider got."""
        return Msat(sum(chunk.price_msat for chunk in self.chunks))

    @property
    def fee_msat(self) -> Msat:
        """What the hops on the way got."""
        return Msat(sum(chunk.fee_msat for chunk in self.chunks))


class _Parcel:
    """A request that is under way, and what has come of it."""

    __slots__ = ("arrived", "ciphertext", "digest", "expected", "offer", "peer", "refusal", "reply")

    def __init__(self, peer: Point, expected_bytes: int) -> None:
        self.peer, self.expected = peer, expected_bytes
        self.arrived = trio.Event()
        self.reply, self.offer = b"", b""
        # one buffer, and not a list of pieces: a provider may send a byte at a time
        self.ciphertext = bytearray()
        self.digest = sha256()
        self.refusal: Reason | None = None

    def add(self, piece: bytes) -> None:
        """The next bytes of the ciphertext; those after its end are dropped."""
        piece = piece[: self.expected - len(self.ciphertext)]
        self.ciphertext += piece
        self.digest.update(piece)
        self.note()

    def note(self) -> None:
        """Wake whoever waits, if everything is here."""
        if self.offer and len(self.ciphertext) == self.expected:
            self.arrived.set()


class _Purchase(msgspec.Struct):
    """One content on its way from a provider to a sink."""

    manifest: Manifest
    sink: Sink
    budget: Budget
    indexes: Iterator[int]
    on_chunk: Callable[[ChunkBought], None] | None
    spent: Spent = Spent()
    done: list[ChunkBought] = msgspec.field(default_factory=list)
    failure: Exception | None = None


class Viewer:
    """Buys contents chunk by chunk over the node's connections and payments.

    The node must be connected to the provider; `reconnect` is awaited when it no longer is.
    """

    def __init__(
        self,
        node: Node,
        patience: Patience | None = None,
        *,
        reconnect: Callable[[], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._node, self._patience, self._clock = node, patience or Patience(), clock
        self._reconnect, self._calling = reconnect, trio.Lock()
        self._heard_at: dict[Point, float] = {}
        self._parcels: dict[int, _Parcel] = {}
        self._request_ids = itertools.count(1)
        self._hour = Hour()
        node.on_custom(messages.MANIFEST, self._receive_manifest)
        node.on_custom(messages.OFFER, self._receive_offer)
        node.on_custom(messages.CIPHERTEXT, self._receive_ciphertext)
        node.on_custom(messages.REFUSAL, self._receive_refusal)

    async def fetch_manifest(self, provider: Point, root: bytes) -> Manifest:
        """The provider's manifest of a content, verified.

        Raises:
            PurchaseFailed: it does not answer, or refuses.
            InvalidManifest, DecodeError: what it sends is not that manifest.
        """
        parcel = await self._ask_for_manifest(provider, root)
        manifest = read_manifest(parcel.reply)
        if manifest.root != root:
            raise WrongManifest("root")
        if manifest.provider != provider:
            raise WrongManifest("provider")
        return manifest

    async def buy(
        self,
        manifest: Manifest,
        sink: Sink,
        budget: Budget,
        *,
        window: int = 16,
        on_chunk: Callable[[ChunkBought], None] | None = None,
    ) -> Receipt:
        """Buy every chunk of a content and write it to the sink.

        Raises:
            PurchaseFailed: a chunk cannot be had.
            InvalidOffer, DecodeError: the provider offers something else than its manifest says.
            Defrauded: it sold something else than it offered.
            OverBudget: the next chunk would pass a limit.
            OSError: the sink does not take it.
        """
        assert 1 <= window <= messages.MAX_OPEN_REQUESTS, "no more requests would be heard"
        count = manifest.layout.chunk_count
        purchase = _Purchase(manifest, sink, budget, iter(range(count)), on_chunk)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(min(window, count)):
                nursery.start_soon(self._buy_chunks, purchase, nursery.cancel_scope)
        if purchase.failure is not None:
            raise purchase.failure
        return Receipt(tuple(purchase.done), trio.current_time() - began)

    async def _buy_chunks(self, purchase: _Purchase, scope: trio.CancelScope) -> None:
        """One place of the window; the first failure ends the others."""
        try:
            for index in purchase.indexes:
                bought = await self._buy_chunk(purchase, index)
                purchase.done.append(bought)
                if purchase.on_chunk is not None:
                    purchase.on_chunk(bought)
        except (PurchaseFailed, InvalidOffer, DecodeError, Defrauded, OverBudget, OSError) as failure:
            purchase.failure = purchase.failure or failure
            scope.cancel()

    async def _buy_chunk(self, purchase: _Purchase, index: int) -> ChunkBought:
        began, price_msat = trio.current_time(), purchase.manifest.price_msat
        minute = int(self._clock() // 60)
        purchase.spent = purchase.spent.reserve(purchase.budget, price_msat, self._hour.spent_msat(minute))
        self._hour = self._hour.add(minute, price_msat)
        try:
            offer, ciphertext, tries = await self._obtain(purchase.manifest, index)
            payment = await self._pay(offer, purchase.budget)
        except (PurchaseFailed, InvalidOffer, DecodeError):
            purchase.spent = purchase.spent.release(price_msat)
            self._hour = self._hour.add(minute, -price_msat)
            raise
        chunk = open_chunk(offer, ciphertext, payment.preimage)
        purchase.sink.write(purchase.manifest.layout.offset(index), chunk)
        seconds = trio.current_time() - began
        return ChunkBought(index, len(chunk), price_msat, payment.fee_msat, seconds, payment.route, tries)

    async def _obtain(self, manifest: Manifest, index: int) -> tuple[Offer, bytes, int]:
        """The verified offer of a chunk, its ciphertext, and how often we asked."""
        what, expected_bytes = f"chunk {index}", manifest.layout.chunk_bytes(index) + TAG_BYTES
        for tries in range(1, self._patience.requests + 1):
            request_id = next(self._request_ids)
            payload = messages.write_request_chunk(RequestChunk(request_id, manifest.root, index))
            parcel = await self._ask(
                manifest.provider, request_id, messages.REQUEST_CHUNK, payload, expected_bytes
            )
            if parcel is None:
                continue
            if parcel.refusal is not None:
                raise ProviderRefused(what, parcel.refusal)
            offer = self._verified(read_offer(parcel.offer), manifest, index)
            if parcel.digest.digest() != offer.terms.ciphertext_sha256:
                raise WrongCiphertext(index)
            return offer, bytes(parcel.ciphertext), tries
        raise NoAnswer(what, self._patience.requests)

    async def _ask_for_manifest(self, provider: Point, root: bytes) -> _Parcel:
        for _ in range(self._patience.requests):
            request_id = next(self._request_ids)
            payload = messages.write_get_manifest(GetManifest(request_id, root))
            parcel = await self._ask(provider, request_id, messages.GET_MANIFEST, payload, 0)
            if parcel is None:
                continue
            if parcel.refusal is not None:
                raise ProviderRefused("the manifest", parcel.refusal)
            return parcel
        raise NoAnswer("the manifest", self._patience.requests)

    async def _ask(
        self, provider: Point, request_id: int, type: int, payload: bytes, expected_bytes: int
    ) -> _Parcel | None:
        """Send one request and wait for all that it brings; None if that takes too long."""
        parcel = self._parcels[request_id] = _Parcel(provider, expected_bytes)
        try:
            await self._node.send_custom(provider, type, payload)
            return parcel if await self._arrives(parcel) else None
        except PeerGone as gone:
            log.debug("the provider is gone: %s", gone)
            await self._call_again()
            return None
        finally:
            del self._parcels[request_id]

    async def _arrives(self, parcel: _Parcel) -> bool:
        """Wait for all of it as long as the provider says anything at all: a queue may be long."""
        asked_at = trio.current_time()
        while not parcel.arrived.is_set():
            heard_at = max(asked_at, self._heard_at.get(parcel.peer, asked_at))
            left_seconds = heard_at + self._patience.silence_seconds - trio.current_time()
            if left_seconds <= 0:
                return False
            with trio.move_on_after(left_seconds):
                await parcel.arrived.wait()
        return True

    async def _call_again(self) -> None:
        await trio.sleep(self._patience.pause_seconds)
        if self._reconnect is None:
            return
        # a whole window notices at once, and one call is enough
        async with self._calling:
            try:
                await self._reconnect()
            except (PeerGone, Unreachable) as reason:
                log.debug("the provider cannot be reached: %s", reason)

    def _verified(self, offer: Offer, manifest: Manifest, index: int) -> Offer:
        """The offer, which is what we asked for at the price we know; raises InvalidOffer."""
        terms = offer.terms
        for field, asked, offered in (
            ("provider", manifest.provider.hex(), terms.provider.hex()),
            ("root", manifest.root.hex(), terms.root.hex()),
            ("layout", manifest.layout, terms.layout),
            ("index", index, terms.index),
            ("price_msat", manifest.price_msat, terms.price_msat),
        ):
            if asked != offered:
                raise WrongOffer(field, asked, offered)
        left_seconds = terms.expiry - self._clock()
        if left_seconds < self._patience.margin_seconds:
            raise OfferExpired(index, left_seconds)
        if not offer.is_signed():
            raise OfferNotSigned(terms.provider)
        if not is_of_content(terms):
            raise OfferNotProven(index)
        return offer

    async def _pay(self, offer: Offer, budget: Budget) -> Payment:
        """Pay an offer; tried again after a pause, because liquidity on the way comes and goes."""
        terms, why = offer.terms, ""
        for attempt in range(self._patience.payments):
            if terms.expiry - self._clock() < self._patience.margin_seconds:
                break
            try:
                return await self._node.pay(
                    terms.provider,
                    terms.payment_hash,
                    terms.payment_secret,
                    terms.price_msat,
                    max_fee_msat=budget.fee_per_chunk_msat,
                )
            except AlreadyPaid:
                raise OfferReused(terms.index) from None
            except PaymentFailed as reason:
                why = reason.reason
                log.debug("payment of chunk %d failed: %s", terms.index, why)
            await trio.sleep(self._patience.pause_seconds * 2**attempt)
        raise ChunkNotPaid(terms.index, self._patience.payments, why)

    async def _receive_manifest(self, peer: Point, payload: bytes) -> None:
        self._deliver(peer, messages.read_manifest_reply, payload)

    async def _receive_offer(self, peer: Point, payload: bytes) -> None:
        self._deliver(peer, messages.read_offer_reply, payload)

    async def _receive_ciphertext(self, peer: Point, payload: bytes) -> None:
        self._deliver(peer, messages.read_fragment, payload)

    async def _receive_refusal(self, peer: Point, payload: bytes) -> None:
        self._deliver(peer, messages.read_refusal, payload)

    def _deliver(
        self,
        peer: Point,
        read: Callable[[bytes], ManifestReply | OfferReply | Fragment | Refusal],
        payload: bytes,
    ) -> None:
        """Put a message into the parcel that waits for it; anything else is none of ours."""
        try:
            message = read(payload)
        except DecodeError as reason:
            log.debug("an answer is dropped: %s", reason)
            return
        parcel = self._parcels.get(message.request_id)
        if parcel is None or parcel.peer != peer or parcel.arrived.is_set():
            return
        self._heard_at[peer] = trio.current_time()
        match message:
            case Fragment():
                parcel.add(message.ciphertext)
            case OfferReply():
                parcel.offer = message.offer
                parcel.note()
            case ManifestReply():
                parcel.reply = message.manifest
                parcel.arrived.set()
            case Refusal():
                parcel.refusal = message.reason
                parcel.arrived.set()
