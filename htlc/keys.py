"""The keys of a channel and of each commitment (BOLT 3, key derivation).

A commitment belongs to its `owner`, who can broadcast it; the `other` side can punish it. The
same words serve both commitments of a channel, so nothing here asks who we are.
"""

from functools import lru_cache

import msgspec

from htlc.shachain import secret_of_commitment
from wire import scid
from wire.crypto.hashes import sha256
from wire.crypto.secp256k1 import (
    Point,
    Secret,
    add_multiples,
    add_secrets,
    add_to_point,
    multiply_secrets,
    point_of,
)


def derive_pubkey(basepoint: Point, per_commitment_point: Point) -> Point:
    """The key of one commitment: basepoint + SHA256(per_commitment_point || basepoint) x G."""
    # b3-transactions.7: the commitment's point comes first in the hash
    return add_to_point(basepoint, sha256(per_commitment_point, basepoint))


def derive_privkey(basepoint_secret: Secret, per_commitment_point: Point) -> Secret:
    """The secret of `derive_pubkey`'s result, for who knows the basepoint's secret."""
    return add_secrets(basepoint_secret, sha256(per_commitment_point, point_of(basepoint_secret)))


def revocation_key(revocation_basepoint: Point, per_commitment_point: Point) -> Point:
    """The key that sweeps a revoked commitment.

    The basepoint is the other side's, the commitment's point its owner's: neither of them can
    sign for the sum until the owner reveals the commitment's secret.
    """
    return add_multiples(
        revocation_basepoint,
        sha256(revocation_basepoint, per_commitment_point),
        per_commitment_point,
        sha256(per_commitment_point, revocation_basepoint),
    )


def revocation_privkey(revocation_basepoint_secret: Secret, per_commitment_secret: Secret) -> Secret:
    """The secret of `revocation_key`, once the owner has revealed the commitment's secret."""
    basepoint, point = point_of(revocation_basepoint_secret), point_of(per_commitment_secret)
    of_other = multiply_secrets(revocation_basepoint_secret, sha256(basepoint, point))
    return add_secrets(of_other, multiply_secrets(per_commitment_secret, sha256(point, basepoint)))


class Basepoints(msgspec.Struct, frozen=True, gc=False):
    """What one side announces when a channel opens; all 33-byte points."""

    funding_pubkey: Point
    revocation_basepoint: Point
    payment_basepoint: Point
    delayed_payment_basepoint: Point
    htlc_basepoint: Point


class CommitmentKeys(msgspec.Struct, frozen=True, gc=False):
    """The keys in the scripts of one commitment."""

    per_commitment_point: Point
    local_delayed: Point
    revocation: Point
    owner_htlc: Point
    other_htlc: Point
    other_payment: Point


@lru_cache(maxsize=128)
def commitment_keys(owner: Basepoints, other: Basepoints, per_commitment_point: Point) -> CommitmentKeys:
    """The keys of the owner's commitment with this point: six curve operations, then remembered."""
    return CommitmentKeys(
        per_commitment_point,
        derive_pubkey(owner.delayed_payment_basepoint, per_commitment_point),
        revocation_key(other.revocation_basepoint, per_commitment_point),
        derive_pubkey(owner.htlc_basepoint, per_commitment_point),
        derive_pubkey(other.htlc_basepoint, per_commitment_point),
        other.payment_basepoint,
    )


@lru_cache(maxsize=1024)
def _per_commitment_point(shachain_seed: bytes, commitment_number: int) -> Point:
    return point_of(secret_of_commitment(shachain_seed, commitment_number))


_ALIAS_BLOCKS = scid.scid(0xF00000, 0, 0)


class ChannelSecrets(msgspec.Struct, frozen=True, gc=False):
    """One side's secrets for one channel, 32 bytes each. They never show in a repr."""

    funding: Secret
    revocation: Secret
    payment: Secret
    delayed_payment: Secret
    htlc: Secret
    shachain_seed: bytes

    def __repr__(self) -> str:
        return "ChannelSecrets(...)"

    def basepoints(self) -> Basepoints:
        """The points to announce."""
        secrets = (self.funding, self.revocation, self.payment, self.delayed_payment, self.htlc)
        return Basepoints(*map(point_of, secrets))

    def alias(self, channel_id: bytes) -> int:
        """What others may call our end of a channel: a short_channel_id that is no place in the chain.

        Always the same for a channel, and to anybody else random. Its block, of fifteen million and
        more, will not be mined for two centuries.
        """
        # channel_ready.3: unlike any real id and any other alias
        return int.from_bytes(sha256(b"alias", self.shachain_seed, channel_id)[:8], "big") | _ALIAS_BLOCKS

    def per_commitment_secret(self, commitment_number: int) -> Secret:
        """What to reveal to revoke our commitment of this number (from 0, upwards)."""
        return secret_of_commitment(self.shachain_seed, commitment_number)

    def per_commitment_point(self, commitment_number: int) -> Point:
        """What to give the other side so that it can build our commitment of this number."""
        return _per_commitment_point(self.shachain_seed, commitment_number)
