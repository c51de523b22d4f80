"""Quiescence: a channel on which both sides fall silent, so that another protocol may change it (BOLT 2).

Whoever asks for it has no update of its own under way, and who is asked answers when it has none
either; from then on neither sends any. No protocol that needs it is spoken here, so we only answer,
and it ends with the connection: what has to be said meanwhile is said again on the next one.
"""

from htlc.channel import Channel, Phase
from htlc.errors import UnexpectedMessage
from htlc.ladder import LOCAL, REMOTE, Rung, Side

LONGEST_SECONDS = 60


def check_asked(channel: Channel) -> None:
    """Whether the peer may ask for quiescence now.

    Raises:
        UnexpectedMessage: the channel is not open, or an update of the peer's is not irrevocable yet.
    """
    # stfu.1
    if channel.phase is not Phase.NORMAL:
        raise UnexpectedMessage("stfu", channel.phase.value)
    if _is_moving(channel, REMOTE):
        raise UnexpectedMessage("stfu", "changing still, by updates of its sender")


def may_fall_silent(channel: Channel) -> bool:
    """Whether no update of ours is under way."""
    # stfu.1
    return not _is_moving(channel, LOCAL)


def is_silent_for_too_long(channel: Channel, silent_seconds: float) -> bool:
    """Whether the connection must end, because HTLCs wait for an end that nobody may bring."""
    # stfu.2
    return silent_seconds > LONGEST_SECONDS and any(channel.all_htlcs())


def _is_moving(channel: Channel, side: Side) -> bool:
    """Whether an add, a removal or a fee of that side's is on a rung below the last."""
    adds = any(htlc.rung is not Rung.LOCKED_IN for htlc in channel.htlcs[side].values())
    removals = any(htlc.outcome is not None for htlc in channel.htlcs[side.other].values())
    return adds or removals or (channel.charter.opener is side and bool(channel.fee_changes))
