"""All secrets of a node, derived from one seed.

Every branch is a hash of the seed under its own tag, so that one leaked channel tells nothing
of another, and a seed alone restores every key.
"""

import secrets
from functools import lru_cache
from pathlib import Path

import msgspec

from htlc.keys import ChannelSecrets
from node.daemon.files import replace_file
from wire.crypto import secp256k1
from wire.crypto.hashes import sha256, tagged_hash

SEED_NAME = "seed"


class ForcedKeys(msgspec.Struct, frozen=True):
    """Keys that a test of the protocol wants, instead of those that follow from the seed."""

    node_secret: bytes | None = None
    wallet_seed: bytes | None = None  # with it, the wallet's keys are m/0/0/i
    channel_secrets: ChannelSecrets | None = None  # every channel's

    def __repr__(self) -> str:
        return "ForcedKeys(...)"


class Signer:
    """The node's keys. It hands channel secrets to the pure cores, and signs as the node."""

    def __init__(self, seed: bytes, forced: ForcedKeys = ForcedKeys()) -> None:  # noqa: B008 - it is a value
        assert len(seed) == 32, "a seed is 32 bytes"
        self._seed, self._forced = seed, forced
        self.node_secret = forced.node_secret or _secret(seed, "node", 0)
        self.node_id = secp256k1.point_of(self.node_secret)
        self.channel_secrets = lru_cache(maxsize=4096)(self._channel_secrets)

    def _channel_secrets(self, key_index: int) -> ChannelSecrets:
        """The secrets of our channel with this number."""
        if self._forced.channel_secrets is not None:
            return self._forced.channel_secrets
        names = ("funding", "revocation", "payment", "delayed_payment", "htlc", "shachain")
        return ChannelSecrets(*(_secret(self._seed, name, key_index) for name in names))

    @property
    def wallet_seed(self) -> bytes:
        """The seed of the on-chain wallet (BIP 32)."""
        return self._forced.wallet_seed or tagged_hash(b"rill/wallet", self._seed)

    @property
    def wallet_path(self) -> str | None:
        """Where the wallet's keys are, if not where they usually are."""
        return None if self._forced.wallet_seed is None else "m/0"

    @property
    def backup_key(self) -> bytes:
        """What backups are encrypted under."""
        return tagged_hash(b"rill/backup", self._seed)

    @property
    def rune_secret(self) -> bytes:
        """What the codes of runes are made with."""
        return tagged_hash(b"rill/rune", self._seed)

    def alias(self, purpose: bytes) -> "Signer":
        """Another identity of ours, which nobody can tell to be us."""
        return Signer(tagged_hash(b"rill/alias/" + purpose, self._seed))

    def preimage(self, number: int) -> bytes:
        """A preimage that nobody else can guess, one for each number."""
        return sha256(tagged_hash(b"rill/preimage", self._seed), number.to_bytes(8, "big"))

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign 32 bytes as the node."""
        return secp256k1.sign(self.node_secret, digest)


def _secret(seed: bytes, purpose: str, number: int) -> bytes:
    secret = tagged_hash(f"rill/{purpose}".encode(), seed + number.to_bytes(8, "big"))
    while not secp256k1.is_secret(secret):  # one in 2^128
        secret = sha256(secret)
    return secret


class SeedMissing(Exception):
    """There is a node in the directory, but not the seed that all its keys come from."""

    def __init__(self, path: Path, belongs_to: Path) -> None:
        self.path, self.belongs_to = path, belongs_to
        super().__init__(f"{path} is missing, and {belongs_to.name} beside it belongs to it")


def seed_in(directory: Path, *belongings: str) -> bytes:
    """The seed that the directory holds, made at the first start and readable by its owner alone.

    Raises:
        SeedMissing: one of the files is there that only a node that has a seed can have written.
    """
    path = directory / SEED_NAME
    if not path.exists():
        for belonging in (directory / name for name in belongings):
            if belonging.exists():
                raise SeedMissing(path, belonging)
        keep_seed(directory, secrets.token_bytes(32))
    return path.read_bytes()


def keep_seed(directory: Path, seed: bytes) -> None:
    """Write the seed down for good, before anything is owed to it."""
    replace_file(directory / SEED_NAME, seed)
