"""What a watchtower is given, and how it follows a breach to its end (BOLT 5, revoked commitments).

A tower is told of each revoked commitment a hint, half of its txid, and the justice for it, sealed
under the whole txid. Until that commitment is in a block it learns nothing but how much there is,
and that only in coarse steps. Justice longer than a message goes in parts that each stand alone.

Blocks go in, with the breach as it stands; transactions come out. All of them are given to the
chain again at every block, dearer ones as blocks pass them over, until nothing can change any more.
"""

from collections.abc import Iterable, Iterator

import msgspec

from htlc.justice import Justice, penalties, staged_penalties
from wire.bitcoin.tx import OutPoint, Transaction
from wire.crypto.aead import BadTag, xchacha_open, xchacha_seal
from wire.crypto.hashes import sha256, tagged_hash
from wire.crypto.secp256k1 import Signature

HINT_BYTES = 16
PRIZES_IN_PART = 128
STEP_BYTES = 512
MOST_BLOB_BYTES = 60_000
PATIENCE_BLOCKS = 3
SECURITY_BLOCKS = 18  # before the cheat may spend, as BOLT 5 recommends
IRREVOCABLE_BLOCKS = 100
GIVEN_UP_BLOCKS = 4032

_NONCE_BYTES, _LENGTH_BYTES = 24, 4
_with = msgspec.structs.replace
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Justice).decode


class Unreadable(ValueError):
    """A blob is not justice for this transaction: another's, or garbage."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the blob is no justice for this transaction: {why}")
        self.why = why


# Hints and blobs


def hint_of(txid: bytes) -> bytes:
    """What the tower looks for in blocks."""
    return txid[:HINT_BYTES]


def blobs_of(txid: bytes, justice: Justice) -> list[bytes]:
    """The justice for that commitment as a tower keeps it: in as many parts as it needs."""
    starts = range(0, len(justice.prizes), PRIZES_IN_PART)
    parts = [_with(justice, prizes=justice.prizes[at : at + PRIZES_IN_PART]) for at in starts]
    return [_seal(txid, part) for part in parts]


def _key(txid: bytes) -> bytes:
    return tagged_hash(b"rill/watchtower", txid)


def _seal(txid: bytes, justice: Justice) -> bytes:
    packed = _encode(justice)
    plain = len(packed).to_bytes(_LENGTH_BYTES, "big") + packed
    plain += bytes(-len(plain) % STEP_BYTES)
    # it follows from what it protects, so that no two texts ever share one, and equal ones stay equal
    nonce = sha256(_key(txid), plain)[:_NONCE_BYTES]
    return nonce + xchacha_seal(_key(txid), nonce, plain)


def unsealed(txid: bytes, blob: bytes) -> Justice:
    """The justice in a blob whose hint is that of this transaction.

    Raises:
        Unreadable: there is none.
    """
    try:
        plain = xchacha_open(_key(txid), blob[:_NONCE_BYTES], blob[_NONCE_BYTES:])
        length = int.from_bytes(plain[:_LENGTH_BYTES], "big")
        return _decode(plain[_LENGTH_BYTES : _LENGTH_BYTES + length])
    except (BadTag, msgspec.MsgspecError, UnicodeDecodeError) as broken:
        raise Unreadable(str(broken)) from None


# A breach


class Target(msgspec.Struct, frozen=True):
    """An output of the breach, and what takes it at each feerate, the cheapest first."""

    outpoint: OutPoint
    versions: tuple[Transaction, ...]
    staged_signatures: tuple[Signature, ...] = ()
    staged_at: int | None = None  # the height of the HTLC transaction that made it
    spent_at: int | None = None
    is_ours: bool = False

    @property
    def value_sat(self) -> int:
        """What the cheapest version brings."""
        return self.versions[0].outputs[0].value_sat


class Breach(msgspec.Struct, frozen=True):
    """A revoked commitment in the best chain, and what has become of its outputs."""

    justice: Justice
    transaction: Transaction
    height: int
    targets: tuple[Target, ...]
    is_mined: bool = True
    version: int = 0  # how dear we have become
    asked_at: int | None = None  # the height at which we published that version first

    @property
    def taken_sat(self) -> int:
        """What our transactions in blocks have brought to who was cheated, at least."""
        return sum(target.value_sat for target in self.targets if target.is_ours)

    @property
    def is_resolved(self) -> bool:
        """Whether every output that we could take is spent, by whomever."""
        return self.is_mined and all(target.spent_at is not None for target in self.targets)

    def is_over(self, height: int) -> bool:
        """Whether no reorganisation can matter any more, or nothing has helped for weeks."""
        heights = [target.spent_at for target in self.targets if target.spent_at is not None]
        is_irrevocable = height - max(heights, default=self.height) >= IRREVOCABLE_BLOCKS
        return (self.is_resolved and is_irrevocable) or height - self.height >= GIVEN_UP_BLOCKS


def found(justice: Justice, commitment: Transaction, height: int) -> Breach:
    """The breach that a block of this height shows.

    Raises:
        Unreadable: nothing in the justice spends that transaction.
    """
    targets = tuple(_targets(justice, commitment))
    if not targets:
        raise Unreadable("it spends none of its outputs")
    return Breach(_with(justice, prizes=()), commitment, height, targets)


def _targets(justice: Justice, commitment: Transaction) -> Iterator[Target]:
    for prize in justice.prizes:
        versions = penalties(justice, commitment, prize)
        if versions:
            yield Target(commitment.outpoint(prize.index), versions, prize.staged_signatures)


def connected(breach: Breach, height: int, transactions: Iterable[Transaction]) -> Breach:
    """A block: which outputs it spends, and which HTLC transactions of the cheat are in it."""
    targets = {target.outpoint: target for target in breach.targets}
    for transaction in transactions:
        if transaction.txid == breach.transaction.txid:
            breach = _with(breach, height=height, is_mined=True)
        for txin in transaction.inputs:
            target = targets.get(txin.outpoint)
            if target is None or target.spent_at is not None:
                continue
            is_ours = any(version.txid == transaction.txid for version in target.versions)
            targets[target.outpoint] = _with(target, spent_at=height, is_ours=is_ours)
            versions = () if is_ours else _versions(breach, target, transaction)
            if versions:
                outpoint = transaction.outpoint(0)
                targets[outpoint] = Target(outpoint, versions, staged_at=height)
    return _with(breach, targets=tuple(targets.values()))


def _versions(breach: Breach, target: Target, spender: Transaction) -> tuple[Transaction, ...]:
    """What takes the output of an HTLC transaction, if it was known when we signed."""
    if not target.staged_signatures:
        return ()
    return staged_penalties(breach.justice, spender, target.staged_signatures)


def disconnected(breach: Breach, height: int) -> Breach:
    """The last block, of this height, is no longer in the best chain."""
    is_mined = breach.is_mined and breach.height != height
    standing = [target for target in breach.targets if target.staged_at != height]
    targets = tuple([_with(t, spent_at=None, is_ours=False) if t.spent_at == height else t for t in standing])
    return _with(breach, is_mined=is_mined, targets=targets)


def published(breach: Breach, height: int, feerate_per_kw: int) -> tuple[Breach, list[Transaction]]:
    """What to give the chain now: of every output that stands, the version that its time asks for."""
    # b5-on-chain.1: a breach whose block was undone waits to be mined again
    again = [] if breach.is_mined else [breach.transaction]
    breach = _dearer(breach, height, feerate_per_kw)
    standing = [target for target in breach.targets if target.spent_at is None]
    return breach, again + [target.versions[breach.version] for target in standing]


def _dearer(breach: Breach, height: int, feerate_per_kw: int) -> Breach:
    """The breach as dear as a confirmation is, dearer when blocks have passed it over, never cheaper."""
    rates = breach.justice.feerates_per_kw
    version = max(breach.version, sum(rate < feerate_per_kw for rate in rates))
    asked_at = height if breach.asked_at is None else breach.asked_at
    if height - asked_at >= PATIENCE_BLOCKS:
        version, asked_at = version + 1, height
    if breach.height + breach.justice.to_self_delay - height <= SECURITY_BLOCKS:
        version = len(rates)
    return _with(breach, version=min(version, len(rates) - 1), asked_at=asked_at)
