"""BOLT 3, keys: derivation, per-commitment secrets and their compact storage."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htlc.keys import (
    Basepoints,
    ChannelSecrets,
    commitment_keys,
    derive_privkey,
    derive_pubkey,
    revocation_key,
    revocation_privkey,
)
from htlc.shachain import FIRST_INDEX, InconsistentSecret, Shachain, secret_at, secret_of_commitment
from tests.bolt import bolt
from wire.crypto.secp256k1 import GROUP_ORDER, InvalidPoint, InvalidSecret, point_of

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "bolt3.json").read_text())
secrets = st.integers(1, GROUP_ORDER - 1).map(lambda number: number.to_bytes(32, "big"))
seeds = st.binary(min_size=32, max_size=32)


def stated(name: str) -> bytes:
    return bytes.fromhex(VECTORS["key_derivation"][name])


@bolt("b3-transactions.7")
def test_the_keys_of_the_vectors() -> None:
    base_secret, base_point = stated("base_secret"), stated("base_point")
    secret, point = stated("per_commitment_secret"), stated("per_commitment_point")
    assert (point_of(base_secret), point_of(secret)) == (base_point, point)
    assert derive_pubkey(base_point, point) == stated("localpubkey")
    assert derive_privkey(base_secret, point) == stated("localprivkey")
    assert revocation_key(base_point, point) == stated("revocationpubkey")
    assert revocation_privkey(base_secret, secret) == stated("revocationprivkey")


@given(secrets, secrets)
@bolt("b3-transactions.7")
def test_a_derived_secret_opens_the_derived_key(base_secret: bytes, commitment_secret: bytes) -> None:
    base, point = point_of(base_secret), point_of(commitment_secret)
    assert point_of(derive_privkey(base_secret, point)) == derive_pubkey(base, point)
    assert point_of(revocation_privkey(base_secret, commitment_secret)) == revocation_key(base, point)


@pytest.mark.parametrize("point", [b"", bytes(33), b"\x02" + b"\xff" * 32, b"\x04" + bytes(32)])
def test_what_is_no_point_derives_no_key(point: bytes) -> None:
    base = stated("base_point")
    for derive in (derive_pubkey, revocation_key):
        for arguments in ((point, base), (base, point)):
            if derive is derive_pubkey and arguments[1] is point:
                continue  # there the commitment's point is only hashed
            with pytest.raises(InvalidPoint):
                derive(*arguments)


def test_a_secret_of_zero_derives_nothing() -> None:
    with pytest.raises(InvalidSecret):
        derive_privkey(bytes(32), stated("base_point"))
    with pytest.raises(InvalidSecret):
        revocation_privkey(stated("base_secret"), bytes(32))


@pytest.mark.parametrize("case", VECTORS["secret_generation"], ids=lambda case: str(case["label"]))
@bolt("b3-transactions.7")
def test_a_seed_yields_the_secret_of_an_index(case: dict[str, Any]) -> None:
    assert secret_at(bytes.fromhex(case["seed"]), case["index"]).hex() == case["secret"]


@pytest.mark.parametrize("case", VECTORS["secret_storage"], ids=lambda case: str(case["label"]))
@bolt("b3-transactions.7")
def test_secrets_that_do_not_belong_together_are_refused(case: dict[str, Any]) -> None:
    remembered = Shachain()
    for insert in case["inserts"]:
        secret = bytes.fromhex(insert["secret"])
        if not insert["ok"]:
            with pytest.raises(InconsistentSecret):
                remembered.insert(insert["index"], secret)
            continue
        remembered = remembered.insert(insert["index"], secret)
        assert remembered.lookup(insert["index"]) == secret


@given(seeds, st.integers(1, 600))
def test_every_revealed_secret_is_remembered_and_no_other(seed: bytes, count: int) -> None:
    remembered = Shachain()
    assert remembered.revealed == 0
    for number in range(count):
        remembered = remembered.insert(FIRST_INDEX - number, secret_of_commitment(seed, number))
    assert remembered.revealed == count
    assert len(remembered.known) <= count.bit_length()
    for number in range(count):
        assert remembered.secret_of_commitment(number) == secret_of_commitment(seed, number)
    assert remembered.secret_of_commitment(count) is None


@given(seeds, st.integers(1, 200), st.integers(0, 255))
def test_an_altered_secret_is_caught_once_it_should_yield_another(seed: bytes, number: int, bit: int) -> None:
    remembered = Shachain()
    for earlier in range(number):
        remembered = remembered.insert(FIRST_INDEX - earlier, secret_of_commitment(seed, earlier))
    index = FIRST_INDEX - number
    altered = bytearray(secret_at(seed, index))
    altered[bit >> 3] ^= 1 << (bit & 7)
    if index & 1:
        assert remembered.insert(index, bytes(altered)).lookup(index) == bytes(altered)
    else:
        with pytest.raises(InconsistentSecret) as caught:
            remembered.insert(index, bytes(altered))
        assert caught.value.index == index


def test_secrets_are_inserted_in_order() -> None:
    with pytest.raises(AssertionError):
        Shachain().insert(FIRST_INDEX - 1, bytes(32))


def test_the_last_secret_of_all_is_the_seed() -> None:
    assert secret_at(b"s" * 32, 0) == b"s" * 32


sides = st.builds(ChannelSecrets, secrets, secrets, secrets, secrets, secrets, seeds)


@given(sides, st.integers(0, 2**48 - 1))
def test_a_side_announces_the_points_of_its_secrets(side: ChannelSecrets, number: int) -> None:
    assert side.basepoints() == Basepoints(
        funding_pubkey=point_of(side.funding),
        revocation_basepoint=point_of(side.revocation),
        payment_basepoint=point_of(side.payment),
        delayed_payment_basepoint=point_of(side.delayed_payment),
        htlc_basepoint=point_of(side.htlc),
    )
    assert side.per_commitment_point(number) == point_of(side.per_commitment_secret(number))
    assert side.funding.hex() not in repr(side)


@given(sides, sides, st.integers(0, 2**48 - 1))
def test_both_sides_can_open_what_is_theirs(
    owner: ChannelSecrets, other: ChannelSecrets, number: int
) -> None:
    point, secret = owner.per_commitment_point(number), owner.per_commitment_secret(number)
    keys = commitment_keys(owner.basepoints(), other.basepoints(), point)
    assert point_of(derive_privkey(owner.delayed_payment, point)) == keys.local_delayed
    assert point_of(derive_privkey(owner.htlc, point)) == keys.owner_htlc
    assert point_of(derive_privkey(other.htlc, point)) == keys.other_htlc
    assert point_of(other.payment) == keys.other_payment
    assert point_of(revocation_privkey(other.revocation, secret)) == keys.revocation
