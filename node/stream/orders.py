"""What was asked of providers and has not come yet: manifests, catalogues, chunks.

Every request has a number; messages that arrive only fill the parcel that waits under it. A lost
message, a connection that broke, a provider that is slow to come back: all of it is asked again
a bounded number of times. As long as a provider says anything at all it is waited for.
"""

import itertools
import logging
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import TypeAlias

import msgspec
import trio

from node.daemon.peer import PeerGone
from node.daemon.reconnect import Unreachable
from node.stream import messages, numbers
from node.stream.manifest import Manifest, WrongManifest, read_manifest
from node.stream.messages import (
    CatalogueReply,
    Fragment,
    GetCatalogue,
    GetManifest,
    ManifestReply,
    OfferReply,
    Reason,
    Refusal,
    RequestChunk,
)
from node.stream.offer import (
    TAG_BYTES,
    Offer,
    OfferExpired,
    OfferNotProven,
    OfferNotSigned,
    WrongCiphertext,
    WrongOffer,
    is_of_content,
    read_offer,
)
from node.stream.ports import CustomHandler, Node
from wire.codec import DecodeError
from wire.crypto.secp256k1 import Point

log = logging.getLogger("rill.stream")

MOST_TITLES = 1000
"""How much of a catalogue is read."""


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
    reveal_seconds: float = 30.0
    """A payment that brings no key for so long makes its chunk be bought elsewhere."""


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


class Catalogue(msgspec.Struct, frozen=True):
    """What a provider sells, as it says itself; every manifest is signed by it."""

    provider: Point
    manifests: tuple[Manifest, ...]
    missing: int
    """How many more it has, which were not read."""


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """A chunk that can be paid for: its verified offer and the ciphertext that it names."""

    offer: Offer
    ciphertext: bytes
    tries: int


_Answer: TypeAlias = ManifestReply | CatalogueReply | OfferReply | Fragment | Refusal


class _Parcel:
    """A request that is under way, and what has come of it."""

    __slots__ = ("arrived", "ciphertext", "digest", "expected", "offer", "page", "peer", "refusal", "reply")

    def __init__(self, peer: Point, expected_bytes: int) -> None:
        self.peer, self.expected = peer, expected_bytes
        self.arrived = trio.Event()
        self.reply, self.offer = b"", b""
        # one buffer, and not a list of pieces: a provider may send a byte at a time
        self.ciphertext = bytearray()
        self.digest = sha256()
        self.refusal: Reason | None = None
        self.page = CatalogueReply(0, 0, ())

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


class Orders:
    """Asks providers over the node's connections, and gathers what they answer.

    `call` is awaited with the provider's id when there is no connection to it.
    """

    def __init__(
        self,
        node: Node,
        patience: Patience,
        *,
        call: Callable[[Point], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._node, self._patience, self._clock = node, patience, clock
        self._call, self._calling = call, trio.Lock()
        self._heard_at: dict[Point, float] = {}
        self._parcels: dict[int, _Parcel] = {}
        self._request_ids = itertools.count(1)
        for type, read in (
            (numbers.MANIFEST, messages.read_manifest_reply),
            (numbers.CATALOGUE, messages.read_catalogue_reply),
            (numbers.OFFER, messages.read_offer_reply),
            (numbers.CIPHERTEXT, messages.read_fragment),
            (numbers.REFUSAL, messages.read_refusal),
        ):
            node.on_custom(type, self._receiver(read))

    async def manifest(self, provider: Point, root: bytes) -> Manifest:
        """The provider's manifest of a content, verified.

        Raises:
            PurchaseFailed: it does not answer, or refuses.
            InvalidManifest, DecodeError: what it sends is not that manifest.
        """
        parcel, _ = await self._answer(
            "the manifest",
            provider,
            numbers.GET_MANIFEST,
            lambda number: messages.write_get_manifest(GetManifest(number, root)),
        )
        manifest = _signed_by(provider, parcel.reply)
        if manifest.root != root:
            raise WrongManifest("root")
        return manifest

    async def catalogue(self, provider: Point) -> Catalogue:
        """What a provider sells.

        Raises:
            PurchaseFailed: it does not answer.
            InvalidManifest, DecodeError: what it sends is no catalogue.
        """
        found: list[Manifest] = []
        while True:
            page = await self._page(provider, len(found))
            found += [_signed_by(provider, raw) for raw in page.manifests]
            missing = max(0, page.total - len(found))
            if not page.manifests or not missing or len(found) >= MOST_TITLES:
                return Catalogue(provider, tuple(found), missing)

    async def _page(self, provider: Point, first: int) -> CatalogueReply:
        parcel, _ = await self._answer(
            "the catalogue",
            provider,
            numbers.GET_CATALOGUE,
            lambda number: messages.write_get_catalogue(GetCatalogue(number, first)),
        )
        return parcel.page

    async def chunk(self, manifest: Manifest, index: int) -> Delivery:
        """The offer of a chunk, which is what the manifest promised, and its ciphertext.

        Raises:
            PurchaseFailed: the provider does not answer, or refuses.
            InvalidOffer, DecodeError: it offers something else.
        """
        parcel, tries = await self._answer(
            f"chunk {index}",
            manifest.provider,
            numbers.REQUEST_CHUNK,
            lambda number: messages.write_request_chunk(RequestChunk(number, manifest.root, index)),
            manifest.layout.chunk_bytes(index) + TAG_BYTES,
        )
        offer = self._verified(read_offer(parcel.offer), manifest, index)
        if parcel.digest.digest() != offer.terms.ciphertext_sha256:
            raise WrongCiphertext(index)
        return Delivery(offer, bytes(parcel.ciphertext), tries)

    async def _answer(
        self, what: str, provider: Point, type: int, write: Callable[[int], bytes], expected_bytes: int = 0
    ) -> tuple[_Parcel, int]:
        """What a request brought, and how often we asked."""
        for tries in range(1, self._patience.requests + 1):
            number = next(self._request_ids)
            parcel = await self._ask(provider, number, type, write(number), expected_bytes)
            if parcel is None:
                continue
            if parcel.refusal is not None:
                raise ProviderRefused(what, parcel.refusal)
            return parcel, tries
        raise NoAnswer(what, self._patience.requests)

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
            await self._call_again(provider)
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

    async def _call_again(self, provider: Point) -> None:
        await trio.sleep(self._patience.pause_seconds)
        if self._call is None:
            return
        # a whole window notices at once, and one call is enough
        async with self._calling:
            try:
                await self._call(provider)
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
            ("price_msat", manifest.price_of(index), terms.price_msat),
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

    def _receiver(self, read: Callable[[bytes], _Answer]) -> CustomHandler:
        async def receive(peer: Point, payload: bytes) -> None:
            self._deliver(peer, read, payload)

        return receive

    def _deliver(
        self,
        peer: Point,
        read: Callable[[bytes], _Answer],
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
            case CatalogueReply():
                parcel.page = message
                parcel.arrived.set()
            case Refusal():
                parcel.refusal = message.reason
                parcel.arrived.set()


def _signed_by(provider: Point, raw: bytes) -> Manifest:
    manifest = read_manifest(raw)
    if manifest.provider != provider:
        raise WrongManifest("provider")
    return manifest
