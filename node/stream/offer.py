"""The sale of one chunk: a signed offer, a ciphertext, and the preimage that opens it.

The provider encrypts a chunk under a key derived from a payment preimage, and signs an offer
that ties together the chunk's place in the content (subtree hash and Merkle proof), the
ciphertext (its SHA-256) and the payment (price, payment hash and secret). The viewer checks all
of it before paying; the payment brings the preimage; the preimage opens the ciphertext. If what
comes out is not the chunk, then offer, ciphertext and preimage together prove it to anyone,
because an offer also names its provider and the content's layout.

The cipher is ChaCha20-Poly1305 and not its XChaCha variant: every sale has a fresh key, so the
longer nonce protects from nothing, and OpenSSL's code takes a sixth of the time (59 instead of
381 us for 256 KiB).
"""

from struct import Struct as Layer

from msgspec import Struct

from node.stream.merkle import MAX_PROOF, InvalidLayout, Layout, WrongChunkLength, is_proven, subtree_hash
from wire.codec import DecodeError, Truncated, WrongLength
from wire.crypto.aead import Aead, BadTag
from wire.crypto.hashes import sha256, tagged_hash
from wire.crypto.secp256k1 import Point, Signature, is_signed
from wire.units import MAX_MSAT, Msat

TAG_BYTES = 16
"""How much longer than its chunk a ciphertext is."""

_OFFER_TAG, _KEY_TAG = b"rill/offer/1", b"rill/chunk-key/1"
_FIXED = Layer(">33s32sQIIQ32s32sQ32s32sB")
MAX_OFFER_BYTES = _FIXED.size + 32 * MAX_PROOF + 64


class BadOfferField(DecodeError):
    """A field of the offer is out of its range."""

    def __init__(self, field: str, why: str) -> None:
        self.field, self.why = field, why
        super().__init__(f"the offer's {field}: {why}")


class InvalidOffer(ValueError):
    """The bytes are an offer, but not one to pay for."""


class OfferNotSigned(InvalidOffer):
    """The provider it names did not sign it."""

    def __init__(self, provider: Point) -> None:
        self.provider = provider
        super().__init__(f"the offer is not signed by {provider.hex()}")


class WrongOffer(InvalidOffer):
    """It differs from what was asked for or from the manifest."""

    def __init__(self, field: str, asked: object, offered: object) -> None:
        self.field, self.asked, self.offered = field, asked, offered
        super().__init__(f"the offer has {field} {offered}, not {asked}")


class OfferNotProven(InvalidOffer):
    """Its Merkle proof does not lead from the chunk to the content's root."""

    def __init__(self, index: int) -> None:
        self.index = index
        super().__init__(f"the offer of chunk {index} does not prove that the chunk belongs to the content")


class OfferExpired(InvalidOffer):
    """Too little time is left to pay it."""

    def __init__(self, index: int, left_seconds: float) -> None:
        self.index, self.left_seconds = index, left_seconds
        ends = f"ends in {left_seconds:.0f}" if left_seconds > 0 else f"ended {-left_seconds:.0f}"
        since = "seconds" if left_seconds > 0 else "seconds ago: one of the two clocks may be wrong"
        super().__init__(f"the offer of chunk {index} {ends} {since}")


class OfferReused(InvalidOffer):
    """Its payment hash served for another sale: the preimage that we have opens nothing new."""

    def __init__(self, index: int) -> None:
        self.index = index
        super().__init__(f"the offer of chunk {index} uses a payment hash for the second time")


class WrongCiphertext(InvalidOffer):
    """The bytes that came are not those that the offer commits to."""

    def __init__(self, index: int) -> None:
        self.index = index
        super().__init__(f"the ciphertext of chunk {index} is not the one offered")


class Terms(Struct, frozen=True, gc=False):
    """What an offer says, before its signature."""

    provider: Point
    root: bytes
    layout: Layout
    index: int
    price_msat: Msat
    payment_hash: bytes
    payment_secret: bytes
    """Of a chunk that is free, the preimage itself."""
    expiry: int
    """Seconds since 1970."""
    subtree_hash: bytes
    ciphertext_sha256: bytes
    proof: tuple[bytes, ...]

    def encode(self) -> bytes:
        """The bytes that are signed and sent."""
        fixed = _FIXED.pack(
            self.provider,
            self.root,
            self.layout.length,
            self.layout.chunk_size,
            self.index,
            self.price_msat,
            self.payment_hash,
            self.payment_secret,
            self.expiry,
            self.subtree_hash,
            self.ciphertext_sha256,
            len(self.proof),
        )
        return fixed + b"".join(self.proof)

    def digest(self) -> bytes:
        """What the provider signs."""
        return tagged_hash(_OFFER_TAG, self.encode())


class Offer(Struct, frozen=True, gc=False):
    """Signed terms."""

    terms: Terms
    signature: Signature

    def encode(self) -> bytes:
        """The offer as it is sent."""
        return self.terms.encode() + self.signature

    def is_signed(self) -> bool:
        """Whether its provider signed it."""
        return is_signed(self.terms.provider, self.terms.digest(), self.signature)


class Fraud(Struct, frozen=True):
    """A claim that a provider sold something else than it signed; `is_fraud` judges it."""

    offer: Offer
    ciphertext: bytes
    preimage: bytes


class Defrauded(Exception):
    """We paid, and what the preimage opens is not the chunk."""

    def __init__(self, evidence: Fraud) -> None:
        self.evidence = evidence
        terms = evidence.offer.terms
        super().__init__(f"{terms.provider.hex()} sold a chunk {terms.index} that is not the one it signed")


def read_offer(raw: bytes) -> Offer:
    """The offer in these bytes; nothing of it is verified yet.

    Raises:
        DecodeError: the bytes are no offer.
    """
    if len(raw) < _FIXED.size + 64:
        raise Truncated("an offer")
    provider, root, length, chunk_size, index, price_msat, *rest, proof_length = _FIXED.unpack_from(raw)
    end = _FIXED.size + 32 * proof_length
    if proof_length > MAX_PROOF or len(raw) != end + 64:
        raise WrongLength("an offer", len(raw))
    layout = _layout(length, chunk_size, index)
    if not 0 <= price_msat <= MAX_MSAT:
        raise BadOfferField("price", f"{price_msat} msat is no amount that a payment can have")
    proof = tuple([raw[at : at + 32] for at in range(_FIXED.size, end, 32)])
    payment_hash, payment_secret, expiry, subtree, ciphertext_sha256 = rest
    terms = Terms(
        provider=provider,
        root=root,
        layout=layout,
        index=index,
        price_msat=Msat(price_msat),
        payment_hash=payment_hash,
        payment_secret=payment_secret,
        expiry=expiry,
        subtree_hash=subtree,
        ciphertext_sha256=ciphertext_sha256,
        proof=proof,
    )
    return Offer(terms, raw[end:])


def _layout(length: int, chunk_size: int, index: int) -> Layout:
    try:
        layout = Layout(length, chunk_size).checked()
    except InvalidLayout as reason:
        raise BadOfferField("layout", str(reason)) from None
    if index >= layout.chunk_count:
        raise BadOfferField("index", f"{index} is beyond the last of {layout.chunk_count} chunks")
    return layout


def seal_chunk(preimage: bytes, root: bytes, index: int, chunk: bytes) -> bytes:
    """The ciphertext of a chunk. A preimage serves for one chunk only, ever."""
    return _cipher(preimage, root, index).seal(0, chunk)


def open_chunk(offer: Offer, ciphertext: bytes, preimage: bytes) -> bytes:
    """The chunk that was paid for.

    The ciphertext must be the one offered, and the preimage that of the payment hash.

    Raises:
        Defrauded: it is not the chunk that the provider signed.
    """
    chunk = _opened(offer.terms, ciphertext, preimage)
    if chunk is None:
        raise Defrauded(Fraud(offer, ciphertext, preimage))
    return chunk


def is_fraud(claim: Fraud) -> bool:
    """Whether the evidence convicts the provider that it names, for anyone and at any time."""
    terms = claim.offer.terms
    return (
        claim.offer.is_signed()
        and sha256(claim.ciphertext) == terms.ciphertext_sha256
        and sha256(claim.preimage) == terms.payment_hash
        and _opened(terms, claim.ciphertext, claim.preimage) is None
    )


def is_of_content(terms: Terms) -> bool:
    """Whether the offered chunk has this place in the content."""
    return is_proven(terms.layout, terms.root, terms.index, terms.subtree_hash, terms.proof)


def _opened(terms: Terms, ciphertext: bytes, preimage: bytes) -> bytes | None:
    try:
        chunk = _cipher(preimage, terms.root, terms.index).open(0, ciphertext)
        is_the_chunk = subtree_hash(terms.layout, terms.index, chunk) == terms.subtree_hash
    except (BadTag, WrongChunkLength):
        return None
    return chunk if is_the_chunk else None


def _cipher(preimage: bytes, root: bytes, index: int) -> Aead:
    """The cipher of one sale; the chunk's place is part of the key, so it needs no other tie."""
    return Aead(tagged_hash(_KEY_TAG, preimage + root + index.to_bytes(4, "big")))
