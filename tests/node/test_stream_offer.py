"""The sale of a chunk: what an offer commits to, what opens it, and what proves a fraud."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.stream.merkle import BLOCK_BYTES, Layout, plant
from node.stream.offer import (
    MAX_OFFER_BYTES,
    TAG_BYTES,
    BadOfferField,
    Defrauded,
    Fraud,
    Offer,
    Terms,
    is_fraud,
    is_of_content,
    open_chunk,
    read_offer,
    seal_chunk,
)
from wire.codec import DecodeError, Truncated, WrongLength
from wire.crypto import secp256k1
from wire.crypto.hashes import sha256
from wire.units import Msat

SECRET = b"\x0e" * 32
PREIMAGE = b"\x05" * 32
CHUNKS = [b"one" + bytes(BLOCK_BYTES - 3), b"two" + bytes(BLOCK_BYTES - 3), b"three"]
LAYOUT = Layout(sum(map(len, CHUNKS)), BLOCK_BYTES)
TREE = plant(LAYOUT, CHUNKS)


def offer_of(index: int, ciphertext: bytes) -> Offer:
    terms = Terms(
        provider=secp256k1.point_of(SECRET),
        root=TREE.root,
        layout=LAYOUT,
        index=index,
        price_msat=Msat(100_000),
        payment_hash=sha256(PREIMAGE),
        payment_secret=b"s" * 32,
        expiry=1_700_000_000,
        subtree_hash=TREE.subtree_hash(index),
        ciphertext_sha256=sha256(ciphertext),
        proof=TREE.proof(index),
    )
    return signed(terms)


def signed(terms: Terms) -> Offer:
    return Offer(terms, secp256k1.sign(SECRET, terms.digest()))


def test_the_preimage_opens_what_was_offered() -> None:
    for index, chunk in enumerate(CHUNKS):
        ciphertext = seal_chunk(PREIMAGE, TREE.root, index, chunk)
        assert len(ciphertext) == len(chunk) + TAG_BYTES
        offer = read_offer(offer_of(index, ciphertext).encode())
        assert offer.is_signed()
        assert is_of_content(offer.terms)
        assert open_chunk(offer, ciphertext, PREIMAGE) == chunk
        assert not is_fraud(Fraud(offer, ciphertext, PREIMAGE))


@pytest.mark.parametrize(
    "ciphertext",
    [
        seal_chunk(PREIMAGE, TREE.root, 1, b"zwo" + bytes(BLOCK_BYTES - 3)),
        seal_chunk(PREIMAGE, TREE.root, 1, b"short"),
        seal_chunk(PREIMAGE, TREE.root, 0, CHUNKS[1]),
        seal_chunk(bytes(32), TREE.root, 1, CHUNKS[1]),
        b"",
    ],
    ids=["other bytes", "other length", "other place", "other key", "nothing"],
)
def test_a_sale_of_something_else_is_a_fraud_that_anyone_can_check(ciphertext: bytes) -> None:
    offer = offer_of(1, ciphertext)
    with pytest.raises(Defrauded) as caught:
        open_chunk(offer, ciphertext, PREIMAGE)
    assert is_fraud(caught.value.evidence)


def test_an_honest_provider_cannot_be_framed() -> None:
    ciphertext = seal_chunk(PREIMAGE, TREE.root, 1, CHUNKS[1])
    offer = offer_of(1, ciphertext)
    forged = seal_chunk(PREIMAGE, TREE.root, 1, b"zwo" + bytes(BLOCK_BYTES - 3))
    assert not is_fraud(Fraud(offer, forged, PREIMAGE))
    assert not is_fraud(Fraud(offer, ciphertext, bytes(32)))
    forged_terms = msgspec.structs.replace(offer.terms, ciphertext_sha256=sha256(forged))
    assert not is_fraud(Fraud(Offer(forged_terms, offer.signature), forged, PREIMAGE))


def test_no_field_can_be_changed_without_the_signature() -> None:
    raw = offer_of(2, b"ciphertext").encode()
    for at in range(0, len(raw), 7):
        altered = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        try:
            offer = read_offer(altered)
        except DecodeError:
            continue
        assert not offer.is_signed()


def test_the_longest_offer_fits() -> None:
    layout = Layout(1 << 48, BLOCK_BYTES)
    terms = msgspec.structs.replace(offer_of(0, b"").terms, layout=layout, proof=(bytes(32),) * 34)
    raw = signed(terms).encode()
    assert len(raw) == MAX_OFFER_BYTES
    assert read_offer(raw).terms == terms


@pytest.mark.parametrize(
    "change",
    [{"index": 3}, {"price_msat": Msat(2**63)}, {"layout": Layout(5, 5)}],
)
def test_fields_out_of_range_are_refused(change: dict[str, object]) -> None:
    terms = msgspec.structs.replace(offer_of(0, b"").terms, **change)
    with pytest.raises(BadOfferField):
        read_offer(signed(terms).encode())


def test_an_offer_ends_where_its_proof_says() -> None:
    raw = offer_of(0, b"").encode()
    with pytest.raises(WrongLength):
        read_offer(raw + b"\0")
    with pytest.raises(Truncated):
        read_offer(raw[:100])
    with pytest.raises(WrongLength):
        read_offer(signed(msgspec.structs.replace(offer_of(0, b"").terms, proof=(bytes(32),) * 35)).encode())


@given(st.binary(max_size=600) | st.binary(min_size=64, max_size=64).map(lambda end: raw_offer()[:-64] + end))
def test_any_bytes_are_an_offer_that_encodes_the_same_or_an_error(raw: bytes) -> None:
    try:
        offer = read_offer(raw)
    except DecodeError:
        return
    assert offer.encode() == raw


def raw_offer() -> bytes:
    return offer_of(0, b"").encode()
