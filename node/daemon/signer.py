"""All secrets of a node, derived from one seed.

The wallet's keys are where BIP 39 and BIP 32 put them, so that the seed's words show its money to any
wallet. Every other branch is a hash of the seed under its own tag, so that one leaked channel tells
nothing of another, and a seed alone restores every key. docs/keys.md says it for the user.
"""

from functools import lru_cache

import msgspec

from htlc.keys import ChannelSecrets
from node.daemon.seed import SEED_SIZES, wallet_seed_of
from wire.crypto import secp256k1
from wire.crypto.hashes import sha256, tagged_hash


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
        assert len(seed) in SEED_SIZES, "it is BIP 39's entropy"
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
        """The seed of the on-chain wallet (BIP 32), which takes a millisecond to make."""
        return self._forced.wallet_seed or wallet_seed_of(self._seed)

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

    def offer_secret(self, purpose: bytes, about: bytes) -> bytes:
        """A secret of our offers and requests, always the same for the same purpose and subject."""
        secret = tagged_hash(b"rill/offer/" + purpose, self._seed + about)
        while not secp256k1.is_secret(secret):  # one in 2^128
            secret = sha256(secret)
        return secret

    def made_secret(self, purpose: bytes) -> bytes:
        """A secret for a program of our user's, always the same for the same purpose."""
        return tagged_hash(b"rill/made", self._seed + purpose)

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
