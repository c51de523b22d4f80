"""How much may be lost to miners: HTLCs that a commitment leaves out (BOLT 2, bounding exposure).

An HTLC too small for an output is part of the fee while it is pending. If the channel goes to
chain then, its amount is nobody's; a peer that mines could want that. So the sum of such HTLCs
on either commitment is bounded: ours are not offered above it, and those of the peer, which it
adds without asking, are failed back instead of being passed on or taken. Without anchors the
feerate decides what is too small, so it is judged at a feerate well above the present one. An
update_fee that still exceeds the bound is no reason to close the channel: what is pending leaves.
"""

from htlc.channel import Channel
from htlc.errors import TooMuchDust
from htlc.ladder import LOCAL, REMOTE, Dual, Htlc, Side
from htlc.transactions import trim_limit_msat
from wire.units import Msat

# 50,000 sat, as CLN and eclair have it. LDK follows feerates (2,500 sat at the lowest of them), LND
# allows ten times as much. All 483 HTLCs that a channel takes may still be of 100 sat each.
MOST_DUST_EXPOSURE_MSAT = Msat(50_000_000)

FEERATE_MARGIN_PER_KW = 2530  # 10 sat per virtual byte; or a quarter more, if that is higher


def dust_feerate_per_kw(channel: Channel) -> int:
    """The feerate at which exposure is judged: one that may come before the HTLCs are gone."""
    feerate_per_kw = max([channel.feerate_per_kw, *[change.feerate_per_kw for change in channel.fee_changes]])
    return max(feerate_per_kw + FEERATE_MARGIN_PER_KW, feerate_per_kw * 5 // 4)


def dust_limits_msat(channel: Channel, owner: Side) -> Dual[Msat]:
    """The smallest HTLC that has an output in that side's commitment, by who offers it."""
    charter, feerate_per_kw = channel.charter, dust_feerate_per_kw(channel)
    dust_limit_sat = charter.terms[owner].dust_limit_sat
    return Dual(
        trim_limit_msat(charter.format, dust_limit_sat, feerate_per_kw, owner is LOCAL),
        trim_limit_msat(charter.format, dust_limit_sat, feerate_per_kw, owner is REMOTE),
    )


def dust_exposure_msat(channel: Channel, owner: Side) -> Msat:
    """The sum of all HTLCs that have no output in that side's commitment."""
    return Msat(_sum_below(channel, dust_limits_msat(channel, owner)))


def _sum_below(channel: Channel, limits: Dual[Msat]) -> int:
    ours = [htlc.amount_msat for htlc in channel.htlcs.local.values() if htlc.amount_msat < limits.local]
    theirs = [htlc.amount_msat for htlc in channel.htlcs.remote.values() if htlc.amount_msat < limits.remote]
    return sum(ours) + sum(theirs)


def check_dust(channel: Channel, htlc: Htlc, most_msat: int) -> None:
    """Whether an HTLC that we may offer, or that the peer has added, keeps the exposure bounded.

    What the peer has added later does not count against it.

    Raises:
        TooMuchDust: it does not.
    """
    # forwarding-safety.5
    side = channel.htlcs[htlc.proposer]
    both = {dust_limits_msat(channel, LOCAL), dust_limits_msat(channel, REMOTE)}
    for limits in both:
        limit_msat = limits[htlc.proposer]
        if htlc.amount_msat >= limit_msat:
            continue
        # most often this is enough to know
        exposure_msat = _sum_below(channel, limits) + (0 if htlc.id in side else htlc.amount_msat)
        if exposure_msat > most_msat:
            later = [each.amount_msat for each in side.values() if each.id > htlc.id]
            exposure_msat -= sum([amount_msat for amount_msat in later if amount_msat < limit_msat])
        if exposure_msat > most_msat:
            raise TooMuchDust(Msat(exposure_msat), Msat(most_msat))


def check_dust_of_all(channel: Channel, most_msat: int) -> None:
    """Whether the exposure stays bounded at the feerates that are proposed.

    Raises:
        TooMuchDust: it does not.
    """
    for owner in Side:
        exposure_msat = dust_exposure_msat(channel, owner)
        if exposure_msat > most_msat:
            raise TooMuchDust(exposure_msat, Msat(most_msat))
