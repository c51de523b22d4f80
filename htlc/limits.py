"""What an add or a fee change may not break (BOLT 2, update_add_htlc and update_fee).

Each limit is judged on the commitment that a signature now would make: all of the proposer's
updates, and those of the other side that are acknowledged. The same code judges our adds and
the peer's, so we never send what we would not accept. It runs for every add, so it counts the
ladder in one pass instead of building the commitment.
"""

import msgspec

from htlc.channel import Channel, Charter
from htlc.errors import (
    BelowReserve,
    CannotAffordFee,
    CltvExpiryOutOfRange,
    HtlcBelowMinimum,
    TooManyHtlcs,
    TooMuchInFlight,
    Warn,
)
from htlc.ladder import ALL_PROPOSED, LOCAL, REMOTE, SIGNED_NEXT, Dual, Floor, Fulfilled, Htlc, Side
from htlc.transactions import ANCHOR_SAT, ChannelFormat, commitment_fee_sat, trim_limit_msat
from wire.units import Msat, msat

FIRST_LOCKTIME_THAT_IS_A_TIME = 500_000_000


class Tally(msgspec.Struct, frozen=True, gc=False):
    """The sums of one side's next commitment."""

    owner: Side
    feerate_per_kw: int
    balance_msat: Dual[int]  # after HTLCs, before fee and anchors
    pending: Dual[int]  # HTLCs by who offered them
    in_flight_msat: Dual[int]
    untrimmed: int


def tally(channel: Channel, owner: Side, extra: Htlc | None = None, floor: Floor = SIGNED_NEXT) -> Tally:
    """Count that side's next commitment, with one HTLC more if given."""
    feerate_per_kw = channel.feerate_in(owner, floor)
    limits = channel.charter.format, channel.charter.terms[owner].dust_limit_sat, feerate_per_kw
    pending, in_flight, moved, untrimmed = [0, 0], [0, 0], [0, 0], 0
    for proposer in (LOCAL, REMOTE):
        lowest_add, lowest_removal = floor.rung(proposer, owner), floor.rung(proposer.other, owner)
        threshold_msat = trim_limit_msat(*limits, proposer is owner)
        counted = flying_msat = moved_msat = 0
        for htlc in channel.htlcs[proposer].values():
            if htlc.outcome is None or htlc.outcome_rung < lowest_removal:
                if htlc.rung >= lowest_add:
                    counted += 1
                    flying_msat += (amount_msat := htlc.amount_msat)
                    if amount_msat >= threshold_msat:
                        untrimmed += 1
            elif isinstance(htlc.outcome, Fulfilled):
                moved_msat += htlc.amount_msat
        if extra is not None and extra.proposer is proposer:
            counted += 1
            flying_msat += extra.amount_msat
            untrimmed += extra.amount_msat >= threshold_msat
        pending[proposer], in_flight[proposer], moved[proposer] = counted, flying_msat, moved_msat
    settled, (ours, theirs) = channel.settled_msat, moved
    balance = settled.local - in_flight[0] - ours + theirs, settled.remote - in_flight[1] - theirs + ours
    return Tally(owner, feerate_per_kw, Dual(*balance), Dual(*pending), Dual(*in_flight), untrimmed)


def check_add(channel: Channel, htlc: Htlc) -> None:
    """Whether the channel has room for one more HTLC of its proposer.

    Raises:
        Warn: the limit that it would break.
    """
    proposer = htlc.proposer
    terms = channel.charter.terms[proposer.other]
    # update_add_htlc.1: zero or below the receiver's minimum, or a time instead of a height
    if htlc.amount_msat < max(1, terms.htlc_minimum_msat):
        raise HtlcBelowMinimum(htlc.id, htlc.amount_msat, terms.htlc_minimum_msat)
    if htlc.cltv_expiry >= FIRST_LOCKTIME_THAT_IS_A_TIME:
        raise CltvExpiryOutOfRange(htlc.id, htlc.cltv_expiry)
    count = tally(channel, proposer.other, htlc)
    # update_add_htlc.2: slots, value in flight, then reserve and fee
    if count.pending[proposer] > terms.max_accepted_htlcs:
        raise TooManyHtlcs(count.pending[proposer], terms.max_accepted_htlcs)
    if count.in_flight_msat[proposer] > terms.max_htlc_value_in_flight_msat:
        raise TooMuchInFlight(Msat(count.in_flight_msat[proposer]), terms.max_htlc_value_in_flight_msat)
    _check_proposer(channel.charter, count, proposer)
    if proposer is LOCAL:
        _check_our_margin(channel.charter, count)
        # ours gets the HTLC last, when all that is under way has entered it
        _check_our_margin(channel.charter, tally(channel, LOCAL, htlc, ALL_PROPOSED))


def opener_cost_msat(format: ChannelFormat, feerate_per_kw: int, untrimmed: int) -> int:
    """What a commitment costs its opener: the fee, and both anchors where there are any."""
    fee_sat = commitment_fee_sat(format, feerate_per_kw, untrimmed)
    # b3-transactions.4: the opener pays both anchors
    anchors_sat = 2 * ANCHOR_SAT if format is ChannelFormat.ANCHORS else 0
    return msat(fee_sat + anchors_sat)


def _check_proposer(charter: Charter, count: Tally, proposer: Side) -> None:
    needed_msat = int(charter.reserve_msat(proposer))
    if charter.opener is proposer:
        needed_msat += opener_cost_msat(charter.format, count.feerate_per_kw, count.untrimmed)
    if count.balance_msat[proposer] < needed_msat:
        raise BelowReserve(count.balance_msat[proposer], needed_msat)


def _check_our_margin(charter: Charter, count: Tally) -> None:
    """Stricter for our own adds: the opener keeps its reserve on either commitment.

    A peer that opened the channel would fail it if our HTLC cost it its reserve.
    """
    balance_msat, needed_msat = count.balance_msat[charter.opener], _needed_by_opener_msat(charter, count)
    if balance_msat < needed_msat:
        raise BelowReserve(balance_msat, needed_msat)


def _needed_by_opener_msat(charter: Charter, count: Tally, more: int = 0) -> int:
    """What the opener must have before we add so many more HTLCs."""
    feerate_per_kw, untrimmed = count.feerate_per_kw, count.untrimmed + more
    if charter.opener is LOCAL:
        # update_add_htlc.2: the fee-spike buffer, twice the feerate and one HTLC more
        feerate_per_kw, untrimmed = 2 * feerate_per_kw, untrimmed + 1
    cost_msat = opener_cost_msat(charter.format, feerate_per_kw, untrimmed)
    return charter.reserve_msat(charter.opener) + cost_msat


def check_fee(channel: Channel, owner: Side, floor: Floor = SIGNED_NEXT) -> None:
    """Whether the opener can pay for that side's next commitment and keep its reserve.

    Raises:
        CannotAffordFee: it cannot.
    """
    charter, count = channel.charter, tally(channel, owner, floor=floor)
    needed_msat = charter.reserve_msat(charter.opener) + opener_cost_msat(
        charter.format, count.feerate_per_kw, count.untrimmed
    )
    if count.balance_msat[charter.opener] < needed_msat:
        raise CannotAffordFee(count.balance_msat[charter.opener], needed_msat)


def spendable_msat(channel: Channel) -> Msat:
    """The most that one more HTLC of ours can carry now; 0 if none fits."""
    charter, terms = channel.charter, channel.charter.terms.remote
    count, ours = tally(channel, REMOTE), tally(channel, LOCAL, floor=ALL_PROPOSED)
    if not channel.is_usable or count.pending.local >= terms.max_accepted_htlcs:
        return Msat(0)
    room_msat = terms.max_htlc_value_in_flight_msat - count.in_flight_msat.local
    for each in (count, ours):
        needed_msat = _needed_by_opener_msat(charter, each, more=1)
        if charter.opener is LOCAL:
            room_msat = min(room_msat, each.balance_msat.local - needed_msat)
        elif each.balance_msat.remote < needed_msat:
            return Msat(0)
        else:
            room_msat = min(room_msat, each.balance_msat.local - charter.reserve_msat(LOCAL))
    return Msat(room_msat if room_msat >= max(1, terms.htlc_minimum_msat) else 0)


def receivable_msat(channel: Channel) -> Msat:
    """About what the peer can still send us: its balance without its HTLCs, reserve and fees."""
    if not channel.is_usable:
        return Msat(0)
    charter = channel.charter
    theirs_msat = channel.settled_msat.remote - sum(
        htlc.amount_msat for htlc in channel.htlcs.remote.values()
    )
    left_msat = theirs_msat - charter.reserve_msat(REMOTE)
    if charter.opener is REMOTE:
        count = sum(1 for _ in channel.all_htlcs())
        left_msat -= opener_cost_msat(charter.format, channel.feerate_in(REMOTE), count + 1)
    return Msat(max(0, min(left_msat, charter.terms.local.max_htlc_value_in_flight_msat)))


def why_not(channel: Channel, htlc: Htlc) -> Warn | None:
    """The limit that our add would break, or None."""
    try:
        check_add(channel, htlc)
    except Warn as broken:
        return broken
    return None
