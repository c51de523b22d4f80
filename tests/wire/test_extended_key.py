"""Extended keys: the vectors of BIP 32, and embit beside them."""

import pytest
from embit import bip32
from hypothesis import given
from hypothesis import strategies as st

from wire.bitcoin.extended_key import HARDENED, master_key

MAINNET = bytes.fromhex("0488b21e")


@pytest.mark.parametrize(
    ("seed", "path", "public"),
    [
        (
            "000102030405060708090a0b0c0d0e0f",
            "m",
            "xpub661MyMwAqRbcFtXgS5sYJABqqG9YLmC4Q1Rdap9gSE8NqtwybGhePY2gZ29ESFjqJoCu1Rupje8YtGqsefD265TMg7usUDFdp6W1EGMcet8",
        ),
        (
            "000102030405060708090a0b0c0d0e0f",
            "m/0h/1",
            "xpub6ASuArnXKPbfEwhqN6e3mwBcDTgzisQN1wXN9BJcM47sSikHjJf3UFHKkNAWbWMiGj7Wf5uMash7SyYq527Hqck2AxYysAA7xmALppuCkwQ",
        ),
        (
            # leading zeros of a child are kept
            "4b381541583be4423346c643850da4b320e46a87ae3d2a4e6da11eba819cd4acba45d239319ac14f863b8d5ab5a0d0c64d2e8a1e7d1457df2e5a3c51c73235be",
            "m/0h",
            "xpub68NZiKmJWnxxS6aaHmn81bvJeTESw724CRDs6HbuccFQN9Ku14VQrADWgqbhhTHBaohPX4CjNLf9fq9MYo6oDaPPLPxSb7gwQN3ih19Zm4Y",
        ),
    ],
)  # fmt: skip
def test_keys_are_those_that_bip_32_publishes(seed: str, path: str, public: str) -> None:
    assert master_key(bytes.fromhex(seed)).derive(path).public_text(MAINNET) == public


@given(st.binary(min_size=16, max_size=64), st.lists(st.integers(0, 2 * HARDENED - 1), max_size=5))
def test_children_are_those_of_embit(seed: bytes, steps: list[int]) -> None:
    ours = master_key(seed)
    for step in steps:
        ours = ours.child(step)
    theirs = bip32.HDKey.from_seed(seed).derive(steps)
    assert ours.secret == theirs.key.secret
    assert ours.public_text(MAINNET) == theirs.to_public().to_base58(MAINNET)
    assert ours.fingerprint == theirs.my_fingerprint
    assert repr(ours.secret) not in repr(ours)
