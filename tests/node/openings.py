"""An open_channel as a stranger may send it."""

from typing import Any

import msgspec

from htlc.opening import ANCHORS_TYPE
from wire.bitcoin.block import CHAIN_HASH
from wire.crypto import secp256k1
from wire.crypto.hashes import sha256
from wire.messages.channel import OpenChannel
from wire.units import Msat, Sat

POINT = secp256k1.point_of(sha256(b"a stranger's only key"))

_ACCEPTABLE = OpenChannel(
    chain_hash=CHAIN_HASH["regtest"],
    temporary_channel_id=sha256(b"temporary"),
    funding_satoshis=Sat(100_000),
    push_msat=Msat(0),
    dust_limit_satoshis=Sat(354),
    max_htlc_value_in_flight_msat=Msat(100_000_000),
    channel_reserve_satoshis=Sat(1000),
    htlc_minimum_msat=Msat(1),
    feerate_per_kw=1000,
    to_self_delay=144,
    max_accepted_htlcs=483,
    funding_pubkey=POINT,
    revocation_basepoint=POINT,
    payment_basepoint=POINT,
    delayed_payment_basepoint=POINT,
    htlc_basepoint=POINT,
    first_per_commitment_point=POINT,
    channel_flags=1,
    upfront_shutdown_script=b"",
    channel_type=ANCHORS_TYPE,
)


def an_opening(**changes: Any) -> OpenChannel:
    """One that any node accepts, but for these changes."""
    return msgspec.structs.replace(_ACCEPTABLE, **changes)
