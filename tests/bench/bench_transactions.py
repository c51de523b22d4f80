"""Commitments: their keys, their bytes and digests, their signatures (DESIGN §6).

Every commitment is built twice, by who signs it and by who verifies it, with all of its HTLCs. The
floor of building is hashing: per HTLC the script once, its digest twice, and twice its output and
(without anchors) its outpoint. The floor of signing is as many bare signatures.
"""

from functools import partial
from hashlib import sha256 as hashed
from itertools import count

from htlc.keys import (
    Basepoints,
    ChannelSecrets,
    CommitmentKeys,
    commitment_keys,
    derive_pubkey,
    revocation_key,
)
from htlc.transactions import (
    ChannelFormat,
    Commitment,
    CommitmentParams,
    CommitmentSpec,
    HtlcOut,
    build_commitment,
    obscuring_factor,
)
from tests.bench.harness import Report
from wire.bitcoin.script import funding_script
from wire.bitcoin.tx import OutPoint, parse_transaction
from wire.crypto.hashes import sha256, sha256d
from wire.crypto.secp256k1 import is_signed, point_of, sign
from wire.units import Msat, Sat

OWNER, OTHER = (
    ChannelSecrets(*[sha256(side, bytes((i,))) for i in range(6)]) for side in (b"owner", b"other")
)
OWNER_POINTS, OTHER_POINTS = OWNER.basepoints(), OTHER.basepoints()
FUNDING_SCRIPT = funding_script(OWNER_POINTS.funding_pubkey, OTHER_POINTS.funding_pubkey)
POINT = OWNER.per_commitment_point(7)
SECRET, DIGEST = OTHER.htlc, sha256(b"digest")
SCRIPT, PREIMAGE, OUTPUT, OUTPOINT = bytes(136), bytes(293), bytes(43), bytes(36)
MOST_HTLCS = 483


def _params(channel_format: ChannelFormat) -> CommitmentParams:
    return CommitmentParams(
        format=channel_format,
        funding_outpoint=OutPoint(bytes(32), 0),
        funding_sat=Sat(10_000_000_000),
        funding_script=FUNDING_SCRIPT,
        obscuring_factor=obscuring_factor(OWNER_POINTS.payment_basepoint, OTHER_POINTS.payment_basepoint),
        dust_limit_sat=Sat(354),
        to_self_delay=144,
        is_owner_opener=True,
        owner_funding_pubkey=OWNER_POINTS.funding_pubkey,
        other_funding_pubkey=OTHER_POINTS.funding_pubkey,
    )


def _spec(htlcs: int) -> CommitmentSpec:
    pending = tuple(
        HtlcOut(
            i % 2 == 0, Msat(10_000_000 + 1000 * i), sha256(bytes((i % 256, i // 256))), 800_000 + i % 144, i
        )
        for i in range(htlcs)
    )
    return CommitmentSpec(7, 2500, Msat(5_000_000_000_000), Msat(4_000_000_000_000), pending)


def _hash_as_much(channel_format: ChannelFormat, htlcs: int) -> None:
    for _ in range(htlcs):
        hashed(SCRIPT).digest()
        hashed(hashed(PREIMAGE).digest()).digest()
        hashed(hashed(OUTPUT).digest()).digest()
        if channel_format is ChannelFormat.STATIC_REMOTEKEY:
            hashed(hashed(OUTPOINT).digest()).digest()


def _sign_all(commitment: Commitment) -> list[bytes]:
    digests = [commitment.sighash, *(second.sighash_for_other for second in commitment.htlcs)]
    return [sign(SECRET, digest) for digest in digests]


def _verify_all(commitment: Commitment, pubkey: bytes, signatures: list[bytes]) -> bool:
    digests = [commitment.sighash, *(second.sighash_for_other for second in commitment.htlcs)]
    return all(
        is_signed(pubkey, digest, signature) for digest, signature in zip(digests, signatures, strict=True)
    )


def _derive_keys(owner: Basepoints, other: Basepoints) -> None:
    derive_pubkey(owner.delayed_payment_basepoint, POINT)
    revocation_key(other.revocation_basepoint, POINT)
    derive_pubkey(owner.htlc_basepoint, POINT)
    derive_pubkey(other.htlc_basepoint, POINT)


def run(report: Report) -> None:
    _run_keys(report)
    keys = commitment_keys(OWNER_POINTS, OTHER_POINTS, POINT)
    for channel_format in ChannelFormat:
        _run_format(report, channel_format, keys)
    _run_objects(report, keys)


def _run_keys(report: Report) -> None:
    report.time("point of a secret", lambda: point_of(SECRET))
    report.time(
        "the keys of a commitment",
        lambda: _derive_keys(OWNER_POINTS, OTHER_POINTS),
        floor="point of a secret",
    )
    report.time("the keys, remembered", lambda: commitment_keys(OWNER_POINTS, OTHER_POINTS, POINT))
    numbers = count()
    report.time("the next per-commitment secret", lambda: OWNER.per_commitment_secret(next(numbers)))
    report.time("sign", lambda: sign(SECRET, DIGEST))
    signature, pubkey = sign(SECRET, DIGEST), point_of(SECRET)
    report.time("verify", lambda: is_signed(pubkey, DIGEST, signature))


def _run_format(report: Report, channel_format: ChannelFormat, keys: CommitmentKeys) -> None:
    params, name = _params(channel_format), channel_format.value
    empty = report.time(f"build, {name}, no HTLC", partial(build_commitment, params, keys, _spec(0)))
    for htlcs in (50, MOST_HTLCS):
        floor = f"hash as much, {name}, {htlcs}"
        report.time(floor, partial(_hash_as_much, channel_format, htlcs))
        spec = _spec(htlcs)
        built = report.time(
            f"build, {name}, {htlcs} HTLCs", partial(build_commitment, params, keys, spec), floor=floor
        )
        # DESIGN §6: 1.1 us per output and 2.2 us per second stage
        report.samples(f"per HTLC, {name}, {htlcs}", [(built - empty) / htlcs], goal=3.3e-6)
    equal = tuple(
        HtlcOut(h.is_offered, Msat(10_000_000), h.payment_hash, h.cltv_expiry, h.id) for h in spec.htlcs
    )
    chunks = CommitmentSpec(7, 2500, spec.to_owner_msat, spec.to_other_msat, equal)
    report.time(
        f"build, {name}, {htlcs} equal HTLCs", partial(build_commitment, params, keys, chunks), floor=floor
    )


def _run_objects(report: Report, keys: CommitmentKeys) -> None:
    commitment = build_commitment(_params(ChannelFormat.ANCHORS), keys, _spec(MOST_HTLCS))
    signatures, pubkey = _sign_all(commitment), point_of(SECRET)
    bare, signature = [DIGEST] * len(signatures), sign(SECRET, DIGEST)
    report.time("484 bare signatures", lambda: [sign(SECRET, digest) for digest in bare])
    report.time("sign a full commitment", lambda: _sign_all(commitment), floor="484 bare signatures")
    report.time("484 bare verifications", lambda: [is_signed(pubkey, digest, signature) for digest in bare])
    report.time(
        "verify a full commitment",
        lambda: _verify_all(commitment, pubkey, signatures),
        floor="484 bare verifications",
    )
    report.time("one second stage as an object", lambda: commitment.htlcs[0].tx)
    raw = build_commitment(_params(ChannelFormat.ANCHORS), keys, _spec(1)).unsigned
    report.time("hash a transaction", lambda: sha256d(raw))
    report.time("read a transaction", lambda: parse_transaction(raw), floor="hash a transaction")
    tx = parse_transaction(raw)
    report.time("write a transaction", tx.serialize, floor="hash a transaction")
