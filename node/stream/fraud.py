"""The proof of a fraud as a file: whoever has it can check it, without a network and without trust.

The file holds what the provider signed (the offer), what it sent (the ciphertext) and what it sold
(the preimage), as a TLV stream. Anyone can see that the signature is the provider's, that the
ciphertext and the payment are those of the offer, and that what the preimage opens is not the
chunk whose hash the offer promises.
"""

from pathlib import Path

from msgspec import Struct

from node.stream.merkle import MAX_CHUNK_BYTES
from node.stream.offer import MAX_OFFER_BYTES, TAG_BYTES, Fraud, is_fraud, is_of_content, read_offer
from wire.codec import DecodeError
from wire.tlv import read_records, write_records

MAX_PROOF_BYTES = MAX_OFFER_BYTES + MAX_CHUNK_BYTES + TAG_BYTES + 64
_OFFER, _PREIMAGE, _CIPHERTEXT = 0, 2, 4


class NotAProof(ValueError):
    """The file proves nothing."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"this is no proof of a fraud: {why}")


class Verdict(Struct, frozen=True):
    """What a proof shows, for people; identities in hex."""

    provider: str
    root: str
    chunk: int
    price_msat: int
    payment_hash: str
    is_of_content: bool
    """Whether the chunk that was promised has its place in the content of that root."""


def write_fraud(claim: Fraud) -> bytes:
    """The proof's bytes."""
    return write_records(
        [(_OFFER, claim.offer.encode()), (_PREIMAGE, claim.preimage), (_CIPHERTEXT, claim.ciphertext)]
    )


def read_fraud(raw: bytes) -> Fraud:
    """The claim in a proof's bytes, not judged yet.

    Raises:
        NotAProof: they hold none.
    """
    if len(raw) > MAX_PROOF_BYTES:
        raise NotAProof(f"it has {len(raw)} bytes")
    try:
        records = dict(read_records(raw))
        return Fraud(read_offer(records[_OFFER]), records[_CIPHERTEXT], records[_PREIMAGE])
    except KeyError as missing:
        raise NotAProof(f"record {missing} is missing") from None
    except DecodeError as why:
        raise NotAProof(str(why)) from None


def judge(raw: bytes) -> Verdict:
    """What a proof shows.

    Raises:
        NotAProof: nothing: it convicts nobody.
    """
    claim = read_fraud(raw)
    if not is_fraud(claim):
        raise NotAProof(
            "the offer is not signed, or the payment and the ciphertext are not its own,"
            " or the key opens the chunk after all"
        )
    terms = claim.offer.terms
    return Verdict(
        provider=terms.provider.hex(),
        root=terms.root.hex(),
        chunk=terms.index,
        price_msat=terms.price_msat,
        payment_hash=terms.payment_hash.hex(),
        is_of_content=is_of_content(terms),
    )


def keep_fraud(directory: Path, claim: Fraud) -> Path:
    """Write the proof into a file of its own; raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    terms = claim.offer.terms
    path = directory / f"{terms.root.hex()[:16]}-{terms.index}-{terms.provider.hex()[:16]}.fraud"
    path.write_bytes(write_fraud(claim))
    return path
