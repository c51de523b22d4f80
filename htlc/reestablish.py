"""Taking up a channel again on a new connection (BOLT 2, message retransmission).

There is no outbox: what the peer may have missed is recomputed from the channel. Signatures
are deterministic, so a commitment_signed that is sent again is the same to the byte.
"""

import msgspec

from htlc.channel import Channel, Closing, Phase
from htlc.dust import MOST_DUST_EXPOSURE_MSAT
from htlc.effects import SAVE, Effect, Send, Step
from htlc.errors import FailChannel
from htlc.keys import ChannelSecrets
from htlc.ladder import LOCAL, REMOTE, Dual, FeeChange, Htlc, Rung
from htlc.steps import add_message, ready_message, removal_message, revocation_message, signature_message
from htlc.withdrawal import offered_again
from wire.codec import Message
from wire.crypto import secp256k1
from wire.messages.channel import ChannelReestablish, Shutdown, UpdateFee
from wire.messages.interactive import TxAbort
from wire.units import Msat

_with = msgspec.structs.replace

ZERO_SECRET = bytes(32)


class OutOfStep(FailChannel):
    """The peer's numbers fit no state that we were in together."""

    def __init__(self, field: str, theirs: int, ours: int) -> None:
        self.field, self.theirs, self.ours = field, theirs, ours
        super().__init__(f"{field} is {theirs}, which does not fit our {ours}")


class FalseSecret(FailChannel):
    """The secret that the peer says we revealed is not ours."""

    def __init__(self) -> None:
        super().__init__("your_last_per_commitment_secret is not a secret of ours")


def disconnected(channel: Channel) -> Channel:
    """The channel once the connection is gone: what the peer proposed and did not sign is forgotten.

    The negotiation of a closing fee starts again, too.
    """
    # reestablish.2
    removed = {
        i: _with(htlc, outcome=None)
        if htlc.outcome is not None and htlc.outcome_rung is Rung.PROPOSED
        else htlc
        for i, htlc in channel.htlcs.local.items()
    }
    added = {i: htlc for i, htlc in channel.htlcs.remote.items() if htlc.rung is not Rung.PROPOSED}
    forgotten = len(channel.htlcs.remote) - len(added)
    return _with(
        channel,
        htlcs=Dual(removed, added),
        next_htlc_id=channel.next_htlc_id.with_side(REMOTE, channel.next_htlc_id.remote - forgotten),
        fee_changes=tuple(change for change in channel.fee_changes if _is_kept(channel, change)),
        # reestablish.8
        phase=Phase.SHUTTING_DOWN if channel.phase in _NEGOTIATED else channel.phase,
        closing=_restarted(channel.closing),
    )


def _is_kept(channel: Channel, change: FeeChange) -> bool:
    """Whether a fee change outlives the connection.

    A raise of ours that is not signed may have become too dear meanwhile: who wants it asks
    again. Adds of ours may count on a lower fee, so that one is said again.
    """
    is_lower = change.feerate_per_kw < channel.feerate_in(REMOTE)
    return change.rung is not Rung.PROPOSED or (channel.charter.opener is LOCAL and is_lower)


_NEGOTIATED = (Phase.NEGOTIATING, Phase.CLOSING)


def _restarted(closing: Closing) -> Closing:
    """Only our own script, that the peer has shut down, and what was agreed outlive the connection."""
    if not closing.scripts.local and not closing.scripts.remote:
        return closing
    return Closing(
        scripts=Dual(closing.scripts.local, b""),
        has_peer_shut_down=closing.has_peer_shut_down,
        transaction=closing.transaction,
    )


def reestablish(channel: Channel, secrets: ChannelSecrets) -> ChannelReestablish:
    """The first message for this channel on a new connection."""
    if channel.is_restored:
        # reestablish.4: commitment 0 is never the next, so this makes the peer close at once
        return ChannelReestablish(channel.id, 0, 0, ZERO_SECRET, secrets.per_commitment_point(0))
    # reestablish.3: what we expect next, and the last secret that they gave us
    revoked = _revoked_by_them(channel)
    last_secret = channel.shachain.secret_of_commitment(revoked - 1) if revoked else ZERO_SECRET
    return ChannelReestablish(
        channel.id,
        next_commitment_number=channel.number.local + 1,
        next_revocation_number=revoked,
        your_last_per_commitment_secret=last_secret or ZERO_SECRET,
        my_current_per_commitment_point=secrets.per_commitment_point(channel.number.local),
    )


def _revoked_by_them(channel: Channel) -> int:
    return channel.number.remote - (1 if channel.is_awaiting_revocation else 0)


def receive_reestablish(
    channel: Channel,
    message: ChannelReestablish,
    secrets: ChannelSecrets,
    height: int,
    *,
    most_dust_msat: Msat = MOST_DUST_EXPOSURE_MSAT,
) -> Step:
    """The peer's view: send again what it missed, in the order it was first sent.

    Raises:
        OutOfStep, FalseSecret: there is no going on from here.
    """
    if _proves_we_are_behind(channel, message, secrets):
        # reestablish.7: our commitment may be revoked, so we never publish it
        return Step(_with(channel, phase=Phase.BEHIND), (SAVE,))
    lacks_signature = _lacks_signature(channel, message)
    lacks_revocation = _lacks_revocation(channel, message, secrets)
    again: list[Message] = []
    # reestablish.4: nothing was signed yet, so channel_ready may be lost
    if message.next_commitment_number == 1 and channel.number.local == 0 and channel.is_ready.local:
        again.append(ready_message(channel, secrets))
    # reestablish.6: the original order of revocation and signature
    if lacks_revocation and not channel.has_revoked_last:
        again.append(revocation_message(channel, secrets))
    if lacks_signature:
        again += [*_signed_updates(channel), signature_message(channel, secrets)]
    if lacks_revocation and channel.has_revoked_last:
        again.append(revocation_message(channel, secrets))
    offering = offered_again(channel, height, most_dust_msat)
    again += [*_removals(channel, Rung.PROPOSED), *_fees(channel, Rung.PROPOSED)]
    effects: list[Effect] = [*map(Send, again), *offering.effects]
    if message.next_funding is not None:
        # reestablish.9: we build no transaction together with anybody, so it is none that we know
        effects.append(Send(TxAbort(channel.id, b"no such transaction")))
    # reestablish.8
    if channel.closing.scripts.local:
        effects.append(Send(Shutdown(channel.id, channel.closing.scripts.local)))
    return Step(offering.channel, tuple(effects))


def _proves_we_are_behind(channel: Channel, message: ChannelReestablish, secrets: ChannelSecrets) -> bool:
    number = message.next_revocation_number
    if number <= channel.number.local:
        return False
    secret = message.your_last_per_commitment_secret
    if secret != secrets.per_commitment_secret(number - 1) or not secp256k1.is_secret(secret):
        raise FalseSecret
    return True


def _lacks_signature(channel: Channel, message: ChannelReestablish) -> bool:
    """Whether the peer never got our last commitment_signed."""
    theirs, newest = message.next_commitment_number, channel.number.remote
    # reestablish.5
    if theirs == newest + 1:
        return False
    if theirs == newest and theirs > 0 and channel.is_awaiting_revocation:
        return True
    raise OutOfStep("next_commitment_number", theirs, newest + 1)


def _lacks_revocation(channel: Channel, message: ChannelReestablish, secrets: ChannelSecrets) -> bool:
    """Whether the peer never got our last revoke_and_ack."""
    theirs, ours = message.next_revocation_number, channel.number.local
    if theirs not in (ours, ours - 1) or theirs < 0:
        raise OutOfStep("next_revocation_number", theirs, ours)
    expected = secrets.per_commitment_secret(theirs - 1) if theirs else ZERO_SECRET
    if message.your_last_per_commitment_secret != expected:
        raise FalseSecret
    return theirs == ours - 1


def _signed_updates(channel: Channel) -> list[Message]:
    """What our last commitment_signed covers, in an order that the peer can take whatever it first was.

    Removals and a lower fee make room, and a higher one is no dearer before the adds than after.
    """
    adds = [
        add_message(channel.id, htlc)
        for htlc in _by_id(channel.htlcs.local)
        if htlc.rung is Rung.SIGNED and htlc.onion is not None
    ]
    return [*_removals(channel, Rung.SIGNED), *_fees(channel, Rung.SIGNED), *adds]


def _removals(channel: Channel, rung: Rung) -> list[Message]:
    return [
        removal_message(channel.id, htlc.id, htlc.outcome)
        for htlc in _by_id(channel.htlcs.remote)
        if htlc.outcome is not None and htlc.outcome_rung is rung
    ]


def _fees(channel: Channel, rung: Rung) -> list[Message]:
    return [
        UpdateFee(channel.id, change.feerate_per_kw)
        for change in channel.fee_changes
        if change.rung is rung and channel.charter.opener is LOCAL
    ]


def _by_id(htlcs: dict[int, Htlc]) -> list[Htlc]:
    return [htlcs[i] for i in sorted(htlcs)]
