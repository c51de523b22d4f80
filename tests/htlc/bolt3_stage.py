"""Two sides of one channel, for the tests of its transactions; and the kernel's verdict."""

import pbk
from hypothesis import strategies as st

from htlc.keys import ChannelSecrets, CommitmentKeys, commitment_keys
from htlc.transactions import (
    ChannelFormat,
    CommitmentParams,
    CommitmentSpec,
    HtlcOut,
    anchors_sat,
    commitment_fee_sat,
    obscuring_factor,
)
from wire.bitcoin.script import funding_script
from wire.bitcoin.tx import OutPoint, Transaction
from wire.crypto.hashes import sha256
from wire.units import Msat, Sat, msat

# every consensus rule that a version 0 witness meets
_FLAGS = pbk.ScriptVerificationFlags.ALL & ~pbk.ScriptVerificationFlags.TAPROOT

FUNDING_SAT = Sat(1_000_000_000)
DELAY_BLOCKS = 144
DUST_LIMIT_SAT = Sat(546)


def secrets_of(name: str) -> ChannelSecrets:
    return ChannelSecrets(*(sha256(f"{name} {number}".encode()) for number in range(6)))


OWNER, OTHER = secrets_of("owner"), secrets_of("other")
OWNER_POINTS, OTHER_POINTS = OWNER.basepoints(), OTHER.basepoints()
FUNDING_SCRIPT = funding_script(OWNER_POINTS.funding_pubkey, OTHER_POINTS.funding_pubkey)


def keys_of(number: int) -> CommitmentKeys:
    return commitment_keys(OWNER_POINTS, OTHER_POINTS, OWNER.per_commitment_point(number))


def params_of(
    channel_format: ChannelFormat, *, is_owner_opener: bool = True, dust_limit_sat: Sat = DUST_LIMIT_SAT
) -> CommitmentParams:
    return CommitmentParams(
        format=channel_format,
        funding_outpoint=OutPoint(sha256(b"funding"), 3),
        funding_sat=FUNDING_SAT,
        funding_script=FUNDING_SCRIPT,
        obscuring_factor=obscuring_factor(OWNER_POINTS.payment_basepoint, OTHER_POINTS.payment_basepoint),
        dust_limit_sat=dust_limit_sat,
        to_self_delay=DELAY_BLOCKS,
        is_owner_opener=is_owner_opener,
        owner_funding_pubkey=OWNER_POINTS.funding_pubkey,
        other_funding_pubkey=OTHER_POINTS.funding_pubkey,
    )


def preimage_of(htlc_id: int) -> bytes:
    return sha256(b"preimage", htlc_id.to_bytes(8, "big"))


def an_htlc(
    htlc_id: int, *, is_offered: bool, amount_msat: int = 10_000_000, cltv_expiry: int = 800_000
) -> HtlcOut:
    return HtlcOut(is_offered, Msat(amount_msat), sha256(preimage_of(htlc_id)), cltv_expiry, htlc_id)


def a_spec(
    *htlcs: HtlcOut, number: int = 5, feerate_per_kw: int = 2500, to_other_sat: int = 400_000_000
) -> CommitmentSpec:
    """A commitment where the owner has all that is left."""
    pending_msat = sum(htlc.amount_msat for htlc in htlcs)
    to_owner_msat = Msat(msat(FUNDING_SAT - to_other_sat) - pending_msat)
    return CommitmentSpec(number, feerate_per_kw, to_owner_msat, msat(to_other_sat), htlcs)


@st.composite
def specs(draw: st.DrawFn) -> CommitmentSpec:
    """Commitments of all kinds, down to balances that are dust; the opener can always pay."""
    amounts = st.integers(1, 6_000_000) | st.sampled_from([4_000_000, 4_000_999])
    expiries = st.sampled_from([500, 500_000, 800_000, 800_001])
    htlcs = [
        HtlcOut(
            draw(st.booleans()),
            Msat(draw(amounts)),
            sha256(preimage_of(draw(st.integers(0, 3)))),
            draw(expiries),
            htlc_id,
        )
        for htlc_id in range(draw(st.integers(0, 12)))
    ]
    feerate = draw(st.sampled_from([0, 253, 2500, 15_000]))
    worst_sat = commitment_fee_sat(ChannelFormat.ANCHORS, feerate, len(htlcs)) + anchors_sat(
        ChannelFormat.ANCHORS
    )
    left_msat = msat(FUNDING_SAT) - sum(htlc.amount_msat for htlc in htlcs)
    to_other_msat = draw(st.integers(0, 2_000_000) | st.integers(0, left_msat - msat(worst_sat)))
    return CommitmentSpec(
        draw(st.integers(0, 2**48 - 1)),
        feerate,
        Msat(left_msat - to_other_msat),
        Msat(to_other_msat),
        tuple(htlcs),
    )


def is_valid_spend(tx: Transaction, value_sat: int, output_script: bytes) -> bool:
    """Whether Bitcoin Core's code lets input 0 spend an output of this value and script."""
    spender = pbk.Transaction(tx.serialize())
    return bool(pbk.ScriptPubkey(output_script).verify(value_sat, spender, None, 0, _FLAGS))
