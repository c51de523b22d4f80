"""Offers that we have told the peer of and not signed for yet: they can still be taken back (BOLT 2).

Such an offer may wait, for the peer's revocation or for its return, until there is no room for it
any more, or until its time is nearly over. Then it must never be signed: upstream it is failed, and
whoever could still claim it downstream would be paid by us. The peer has forgotten it once the
connection is gone, so that is when it is taken back, and its id with it.
"""

from collections.abc import Iterator

import msgspec

from htlc.channel import Channel, Phase
from htlc.effects import SAVE, Effect, Step, Withdraw
from htlc.errors import CannotOffer, NotUsable
from htlc.ladder import Htlc, Rung
from htlc.relay import SOON_BLOCKS
from htlc.steps import offer
from wire.units import Msat


def unsigned(channel: Channel) -> Iterator[Htlc]:
    """Our offers that no signature of ours covers, in their order."""
    local = channel.htlcs.local
    yield from (local[i] for i in sorted(local) if local[i].rung is Rung.PROPOSED)


def is_stalled(channel: Channel, height: int) -> bool:
    """Whether an offer has waited for a signature for as long as it may."""
    if channel.phase not in (Phase.NORMAL, Phase.SHUTTING_DOWN):
        return False
    return any(_is_late(htlc, height) for htlc in unsigned(channel))


def _is_late(htlc: Htlc, height: int) -> bool:
    # as late as it would not have been taken to pass on
    return htlc.cltv_expiry <= height + SOON_BLOCKS


def offered_again(channel: Channel, height: int, most_dust_msat: Msat) -> Step:
    """Offer again what was not signed when the connection broke, where there is still room and time.

    What the peer proposed may have become irrevocable meanwhile, and need that room.
    """
    waiting = list(unsigned(channel))
    if not waiting:
        return Step(channel)
    # reestablish.2: the peer has forgotten them, so their ids are free
    channel, effects = _without(channel, waiting), list[Effect]([SAVE])
    for htlc in waiting:
        step = None if _is_late(htlc, height) else _offered(channel, htlc, most_dust_msat)
        if step is None:
            effects.append(Withdraw(htlc))
        else:
            channel = step.channel
            effects.extend(step.effects)
    return Step(channel, tuple(effects))


def _without(channel: Channel, waiting: list[Htlc]) -> Channel:
    gone = {htlc.id for htlc in waiting}
    htlcs = {i: htlc for i, htlc in channel.htlcs.local.items() if i not in gone}
    return msgspec.structs.replace(
        channel,
        htlcs=msgspec.structs.replace(channel.htlcs, local=htlcs),
        next_htlc_id=msgspec.structs.replace(
            channel.next_htlc_id, local=channel.next_htlc_id.local - len(waiting)
        ),
    )


def _offered(channel: Channel, htlc: Htlc, most_dust_msat: Msat) -> Step | None:
    assert htlc.onion is not None, "an HTLC that is not acknowledged keeps its onion"
    assert htlc.origin is not None, "we know why we offered it"
    try:
        return offer(
            channel,
            htlc.amount_msat,
            htlc.payment_hash,
            htlc.cltv_expiry,
            htlc.onion,
            htlc.origin,
            htlc.path_key,
            most_dust_msat=most_dust_msat,
        )
    except (CannotOffer, NotUsable):
        return None
