"""Per-commitment secrets: a one-way tree made from a seed, and its compact memory (BOLT 3).

Indexes count down from `FIRST_INDEX`, commitment numbers count up from 0. A secret yields
every secret whose index has the same upper bits and lies below its trailing zeros, so 49
secrets remember all 2**48.
"""

from functools import lru_cache
from hashlib import sha256

import msgspec

FIRST_INDEX = 2**48 - 1

_BRANCH_BITS = 8


class InconsistentSecret(ValueError):
    """A revealed secret does not yield the secrets below it that were revealed before."""

    def __init__(self, index: int, contradicted_index: int) -> None:
        super().__init__(f"secret {index} does not yield secret {contradicted_index}")
        self.index = index
        self.contradicted_index = contradicted_index


def _descend(secret: bytes, index: int, upper_bit: int, lowest_bit: int = 0) -> bytes:
    """Flip and hash once for each bit of `index` that is set below `upper_bit`, high to low."""
    # b3-transactions.7: bit b sits in byte b // 8, and the whole is hashed after each flip
    for bit in range(upper_bit - 1, lowest_bit - 1, -1):
        if index >> bit & 1:
            flipped = bytearray(secret)
            flipped[bit >> 3] ^= 1 << (bit & 7)
            secret = sha256(flipped).digest()
    return secret


@lru_cache(maxsize=4096)
def _branch(seed: bytes, branch: int) -> bytes:
    """The node above 256 neighbouring secrets, kept because a channel asks for them in turn."""
    return _descend(seed, branch << _BRANCH_BITS, 48, _BRANCH_BITS)


def secret_at(seed: bytes, index: int) -> bytes:
    """The secret at an index of the tree, 32 bytes (BOLT 3, appendix D)."""
    return _descend(_branch(seed, index >> _BRANCH_BITS), index, _BRANCH_BITS)


def secret_of_commitment(seed: bytes, commitment_number: int) -> bytes:
    """The secret of a commitment; the first commitment has number 0 and the highest index."""
    return secret_at(seed, FIRST_INDEX - commitment_number)


def _trailing_zeros(index: int) -> int:
    return (index & -index).bit_length() - 1 if index else 48


class Shachain(msgspec.Struct, frozen=True, gc=False):
    """What the other side has revoked so far.

    Position n holds the last (index, secret) whose index has n trailing zeros.
    """

    known: tuple[tuple[int, bytes], ...] = ()

    @property
    def revealed(self) -> int:
        """How many secrets are known: the number of the first commitment not revoked."""
        return FIRST_INDEX - min((index for index, _ in self.known), default=FIRST_INDEX + 1) + 1

    def insert(self, index: int, secret: bytes) -> "Shachain":
        """Remember the next secret. Indexes must come in order, downwards from FIRST_INDEX.

        Raises:
            InconsistentSecret: it does not yield those below it; the other side is cheating.
        """
        zeros = _trailing_zeros(index)
        assert zeros <= len(self.known), "secrets are inserted in order"
        for known_index, known_secret in self.known[:zeros]:
            if _descend(secret, known_index, zeros) != known_secret:
                raise InconsistentSecret(index, known_index)
        return Shachain((*self.known[:zeros], (index, secret), *self.known[zeros + 1 :]))

    def lookup(self, index: int) -> bytes | None:
        """The secret at an index, or None when it was not revealed yet."""
        for zeros, (known_index, secret) in enumerate(self.known):
            if index >> zeros == known_index >> zeros:
                return _descend(secret, index, zeros)
        return None

    def secret_of_commitment(self, commitment_number: int) -> bytes | None:
        """The secret that revoked a commitment, or None when it is not revoked."""
        return self.lookup(FIRST_INDEX - commitment_number)
