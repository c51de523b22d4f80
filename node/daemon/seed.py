"""The seed that all of a node's keys come from: a file of its owner's alone, and the words for it.

The file holds the entropy of BIP 39, 32 bytes where we make it, and as many as 12 to 24 words stand
for where our user brings it. What follows from it is written down in docs/keys.md.
"""

import hashlib
import secrets
from pathlib import Path

from node.daemon.files import replace_file
from wire.crypto.hashes import sha256

SEED_NAME = "seed"
NEW_SEED_BYTES = 32
SEED_SIZES = (16, 20, 24, 28, 32)
_WORD_BITS, _SEED_ROUNDS = 11, 2048


class SeedMissing(Exception):
    """There is a node in the directory, but not the seed that all its keys come from."""

    def __init__(self, path: Path, belongs_to: Path) -> None:
        self.path, self.belongs_to = path, belongs_to
        super().__init__(f"{path} is missing, and {belongs_to.name} beside it belongs to it")


class SeedDamaged(Exception):
    """What is in the seed's place is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} is no seed: it has not the length of one")


def seed_in(directory: Path, *belongings: str) -> bytes:
    """The seed that the directory holds, made at the first start and readable by its owner alone.

    Raises:
        SeedMissing: one of the files is there that only a node that has a seed can have written.
        SeedDamaged: there is a file, but no seed in it.
    """
    path = directory / SEED_NAME
    if not path.exists():
        for belonging in (directory / name for name in belongings):
            if belonging.exists():
                raise SeedMissing(path, belonging)
        keep_seed(directory, secrets.token_bytes(NEW_SEED_BYTES))
    seed = path.read_bytes()
    if len(seed) not in SEED_SIZES:
        raise SeedDamaged(path)
    return seed


def keep_seed(directory: Path, seed: bytes) -> None:
    """Write the seed down for good, before anything is owed to it."""
    replace_file(directory / SEED_NAME, seed)


def words_of(seed: bytes) -> str:
    """The words that stand for it (BIP 39), lower case, a space between them."""
    # every start needs the words, and the rest of embit would stay in memory with them
    from embit.wordlists.bip39 import WORDLIST

    checksum_bits = len(seed) // 4
    number = int.from_bytes(seed, "big") << checksum_bits | sha256(seed)[0] >> (8 - checksum_bits)
    count = (len(seed) * 8 + checksum_bits) // _WORD_BITS
    places = (number >> _WORD_BITS * at & (1 << _WORD_BITS) - 1 for at in reversed(range(count)))
    return " ".join(WORDLIST[place] for place in places)


def seed_of(words: str) -> bytes:
    """The seed that words stand for.

    Raises:
        ValueError: one of them is no word of BIP 39, or they do not belong together.
    """
    from embit import bip39

    return bytes(bip39.mnemonic_to_bytes(words))


def wallet_seed_of(seed: bytes) -> bytes:
    """The 64 bytes that BIP 39 makes of the words without a passphrase, where BIP 32 begins."""
    return hashlib.pbkdf2_hmac("sha512", words_of(seed).encode(), b"mnemonic", _SEED_ROUNDS)
