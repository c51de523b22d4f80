"""The witness scripts of a commitment's outputs, and what spends them (BOLT 3, BOLT 5).

Keys are named from the owner of the commitment: `owner_htlc` is the spec's local_htlcpubkey
there, `other_htlc` its remote_htlcpubkey. Anchor channels add a delay of one block to every
path that the other side can spend alone.
"""

from functools import lru_cache

import msgspec

from htlc.keys import CommitmentKeys
from wire.bitcoin.script import (
    OP_1,
    OP_2,
    OP_16,
    OP_CHECKLOCKTIMEVERIFY,
    OP_CHECKMULTISIG,
    OP_CHECKSEQUENCEVERIFY,
    OP_CHECKSIG,
    OP_CHECKSIGVERIFY,
    OP_DROP,
    OP_DUP,
    OP_ELSE,
    OP_ENDIF,
    OP_EQUAL,
    OP_EQUALVERIFY,
    OP_HASH160,
    OP_IF,
    OP_IFDUP,
    OP_NOTIF,
    OP_SIZE,
    OP_SWAP,
    push_number,
    script,
)
from wire.bitcoin.sighash import witness_signature
from wire.crypto.hashes import hash160, ripemd160
from wire.crypto.secp256k1 import Point, Signature

_ONE_BLOCK = script(OP_1, OP_CHECKSEQUENCEVERIFY, OP_DROP)
_PUSH_20 = b"\x14"

# the same HTLC is written into every commitment while it lives, on both sides
ripemd160_of_hash = lru_cache(maxsize=512)(ripemd160)


def to_local(revocation: Point, to_self_delay: int, delayed: Point) -> bytes:
    """The owner's balance, and where its HTLC transactions pay: delayed, or taken when revoked."""
    delay = push_number(to_self_delay) + script(OP_CHECKSEQUENCEVERIFY, OP_DROP)
    # b3-transactions.3: whoever holds the revocation key need not wait
    return script(OP_IF, revocation, OP_ELSE) + delay + script(delayed, OP_ENDIF, OP_CHECKSIG)


def to_remote_anchors(payment: Point) -> bytes:
    """The other side's balance on an anchor channel: its own key, after one block."""
    return script(payment, OP_CHECKSIGVERIFY, OP_1, OP_CHECKSEQUENCEVERIFY)


def anchor(funding_pubkey: Point) -> bytes:
    """330 sat to pull a commitment into a block; anyone may sweep it after 16 blocks."""
    late = script(OP_IFDUP, OP_NOTIF, OP_16, OP_CHECKSEQUENCEVERIFY, OP_ENDIF)
    return script(funding_pubkey, OP_CHECKSIG) + late


class HtlcScripts(msgspec.Struct, frozen=True, gc=False):
    """The two HTLC scripts of one commitment, cut where the single HTLC's values go."""

    offered_head: bytes
    offered_tail: bytes
    received_head: bytes
    received_middle: bytes
    received_tail: bytes

    def offered(self, payment_hash: bytes) -> bytes:
        """The script of an HTLC that the owner offered."""
        return self.offered_head + ripemd160_of_hash(payment_hash) + self.offered_tail

    def received(self, payment_hash: bytes, cltv_expiry: int) -> bytes:
        """The script of an HTLC that the owner received."""
        claim = self.received_head + ripemd160_of_hash(payment_hash) + self.received_middle
        return claim + push_number(cltv_expiry) + self.received_tail


def htlc_scripts(revocation: Point, owner_htlc: Point, other_htlc: Point, *, is_anchors: bool) -> HtlcScripts:
    """The HTLC scripts for these keys."""
    revoked = script(OP_DUP, OP_HASH160, hash160(revocation), OP_EQUAL, OP_IF, OP_CHECKSIG, OP_ELSE)
    head = revoked + script(other_htlc, OP_SWAP, OP_SIZE, b"\x20", OP_EQUAL)
    both_sign = script(OP_2, OP_SWAP, owner_htlc, OP_2, OP_CHECKMULTISIG, OP_ELSE)
    preimage = bytes((OP_HASH160,)) + _PUSH_20
    end = script(OP_CHECKSIG, OP_ENDIF) + (_ONE_BLOCK if is_anchors else b"") + script(OP_ENDIF)
    return HtlcScripts(
        offered_head=head + script(OP_NOTIF, OP_DROP) + both_sign + preimage,
        offered_tail=script(OP_EQUALVERIFY) + end,
        received_head=head + script(OP_IF) + preimage,
        received_middle=script(OP_EQUALVERIFY) + both_sign + script(OP_DROP),
        received_tail=script(OP_CHECKLOCKTIMEVERIFY, OP_DROP) + end,
    )


def offered_htlc(keys: CommitmentKeys, payment_hash: bytes, *, is_anchors: bool) -> bytes:
    """One HTLC that the commitment's owner offered: the other side's by preimage, the owner's by timeout."""
    scripts = htlc_scripts(keys.revocation, keys.owner_htlc, keys.other_htlc, is_anchors=is_anchors)
    return scripts.offered(payment_hash)


def received_htlc(keys: CommitmentKeys, payment_hash: bytes, cltv_expiry: int, *, is_anchors: bool) -> bytes:
    """One HTLC that the commitment's owner received: the owner's by preimage, the other's by timeout."""
    scripts = htlc_scripts(keys.revocation, keys.owner_htlc, keys.other_htlc, is_anchors=is_anchors)
    return scripts.received(payment_hash, cltv_expiry)


def one_key_witness(witness_script: bytes, signature: Signature) -> tuple[bytes, ...]:
    """What spends an anchor with its funding key, or `to_remote_anchors` (sequence 1)."""
    return witness_signature(signature), witness_script


def delayed_witness(witness_script: bytes, signature: Signature) -> tuple[bytes, ...]:
    """What pays the owner from `to_local`, its second stages included; the sequence is its to_self_delay."""
    return witness_signature(signature), b"", witness_script


def revoked_witness(witness_script: bytes, signature: Signature) -> tuple[bytes, ...]:
    """What takes a revoked `to_local` at once."""
    return witness_signature(signature), b"\x01", witness_script


def revoked_htlc_witness(witness_script: bytes, signature: Signature, revocation: Point) -> tuple[bytes, ...]:
    """What takes a revoked HTLC output, offered or received, at once."""
    return witness_signature(signature), revocation, witness_script


def claim_witness(witness_script: bytes, signature: Signature, preimage: bytes) -> tuple[bytes, ...]:
    """What pays the other side from an HTLC that the owner offered (sequence 1 under anchors)."""
    return witness_signature(signature), preimage, witness_script


def expired_witness(witness_script: bytes, signature: Signature) -> tuple[bytes, ...]:
    """What pays back the other side from an HTLC that the owner received, its locktime the cltv_expiry."""
    return witness_signature(signature), b"", witness_script
