"""Until when an HTLC may stay on its channel (BOLT 2, cltv_expiry_delta selection).

An HTLC is only as safe as the block height by which it can be enforced. What we offered and is
not removed soon after its expiry must be taken back on the chain, before the HTLC that it came
from expires. What we received and can claim must be claimed while nobody else can. Everything
here follows from a channel and a height.
"""

from collections.abc import Iterator

from htlc.channel import Channel, Phase
from htlc.errors import FailChannel
from htlc.ladder import REMOTE, Fulfilled, Htlc, Rung

GRACE_BLOCKS = 2  # for a peer to remove an expired HTLC by message
CLAIM_BLOCKS = 18  # for two confirmations of ours, twice reorganised, before a peer may take it back
FAIL_BACK_BLOCKS = 3  # before the peer must fail the channel for what we did not remove

FUNDING_BLOCKS = 2016  # for the peer's funding transaction to be mined

_ENFORCED = (Phase.NORMAL, Phase.SHUTTING_DOWN)


class OfferedHtlcExpired(FailChannel):
    """The peer neither fulfilled nor failed an HTLC of ours in time."""

    def __init__(self, htlc_id: int, cltv_expiry: int) -> None:
        self.htlc_id, self.cltv_expiry = htlc_id, cltv_expiry
        super().__init__(f"HTLC {htlc_id} expired at {cltv_expiry} and is still there")


class FulfilledHtlcExpires(FailChannel):
    """We have fulfilled an HTLC of the peer, and its removal does not become irrevocable."""

    def __init__(self, htlc_id: int, cltv_expiry: int) -> None:
        self.htlc_id, self.cltv_expiry = htlc_id, cltv_expiry
        super().__init__(f"HTLC {htlc_id}, which is fulfilled, would expire at {cltv_expiry}")


def overdue(channel: Channel, height: int) -> FailChannel | None:
    """Why the channel has to go to chain at this height, or None."""
    if channel.phase not in _ENFORCED:
        return None
    # forwarding-safety.4
    for htlc in channel.htlcs.local.values():
        if height >= htlc.cltv_expiry + GRACE_BLOCKS and _is_committed(htlc):
            return OfferedHtlcExpired(htlc.id, htlc.cltv_expiry)
    for htlc in channel.htlcs.remote.values():
        is_claimable = isinstance(htlc.outcome, Fulfilled) and _is_committed(htlc)
        if is_claimable and height >= htlc.cltv_expiry - CLAIM_BLOCKS:
            return FulfilledHtlcExpires(htlc.id, htlc.cltv_expiry)
    return None


def _is_committed(htlc: Htlc) -> bool:
    """Whether either side's newest commitment contains it."""
    if htlc.rung is Rung.PROPOSED:
        return False
    return htlc.outcome is None or htlc.outcome_rung < Rung.ACK_SIGNED


def expiring(channel: Channel, height: int) -> Iterator[Htlc]:
    """HTLCs of the peer that must be failed now, whatever becomes of them further on."""
    if channel.phase not in _ENFORCED:
        return
    # forwarding-safety.3
    for htlc in channel.htlcs.remote.values():
        is_pending = htlc.is_locked_in and htlc.outcome is None and htlc.shared_secret is not None
        if is_pending and height >= htlc.cltv_expiry - FAIL_BACK_BLOCKS:
            yield htlc


def is_abandoned(channel: Channel, height: int) -> bool:
    """Whether a channel of the peer's has waited in vain for its funding transaction.

    Not even the peer's `error` lets us forget it sooner: it may have lost the channel and yet have
    broadcast the transaction, and then only our commitment gets its money back.
    """
    # funding_created-funding_signed.4
    was_funded = channel.short_channel_id is not None or channel.is_ready.local
    is_theirs = channel.charter.opener is REMOTE and channel.phase is not Phase.CLOSED
    return is_theirs and not was_funded and height >= channel.known_since + FUNDING_BLOCKS
