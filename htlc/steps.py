"""The steps of an open channel (BOLT 2, normal operation).

Each takes the channel as it is and an event, and gives the channel as it becomes and what
follows from it; it raises before a new value exists. We revoke at once what they signed over,
because nothing is won by waiting; we sign only when the shell says so, because one signature
covers all that has gathered meanwhile.
"""

import msgspec

from htlc.channel import Channel, Phase
from htlc.dust import MOST_DUST_EXPOSURE_MSAT, check_dust, check_dust_of_all
from htlc.effects import SAVE, Effect, Offer, Save, Send, Settle, Step
from htlc.errors import (
    CannotAffordFee,
    CannotOffer,
    FeeRefused,
    NotBadOnion,
    NothingToSign,
    NotOurPreimage,
    NotRemovable,
    NotTheOpener,
    NotUsable,
    TooMuchDust,
    UnexpectedMessage,
    UnknownHtlc,
    UnreasonableFeerate,
    Warn,
    WrongHtlcId,
    WrongPreimage,
    WrongSecret,
    WrongSignature,
    WrongSignatureCount,
)
from htlc.keys import ChannelSecrets, commitment_keys, derive_privkey
from htlc.ladder import (
    ALL_PROPOSED,
    LOCAL,
    REMOTE,
    SIGNED_NEXT,
    Dual,
    Failed,
    FailedMalformed,
    FeeChange,
    Fulfilled,
    Htlc,
    Origin,
    Outcome,
    Rung,
    Side,
    Signal,
)
from htlc.limits import check_add, check_fee
from htlc.shachain import FIRST_INDEX, InconsistentSecret
from htlc.transactions import Commitment
from onion.failures import BADONION
from wire.codec import Message
from wire.crypto import secp256k1
from wire.crypto.hashes import sha256
from wire.messages.channel import (
    ChannelReady,
    CommitmentSigned,
    RevokeAndAck,
    StartBatch,
    UpdateAddHtlc,
    UpdateFailHtlc,
    UpdateFailMalformedHtlc,
    UpdateFee,
    UpdateFulfillHtlc,
)
from wire.messages.interactive import TxAbort
from wire.units import Msat, msat

_with = msgspec.structs.replace


class Climate(msgspec.Struct, frozen=True, gc=False):
    """What the world outside says: the tip's height, and which feerates are reasonable."""

    height: int
    lowest_feerate_per_kw: int = 253
    highest_feerate_per_kw: int = 100_000


# What we do


def offer(
    channel: Channel,
    amount_msat: Msat,
    payment_hash: bytes,
    cltv_expiry: int,
    onion: bytes,
    origin: Origin,
    path_key: bytes | None = None,
    *,
    most_dust_msat: Msat = MOST_DUST_EXPOSURE_MSAT,
) -> Step:
    """Propose an HTLC to the peer.

    Raises:
        NotUsable: the channel is not open.
        CannotOffer: it would break a limit.
    """
    if not channel.is_usable:
        raise NotUsable(channel.phase.value)
    htlc = Htlc(LOCAL, channel.next_htlc_id.local, amount_msat, payment_hash, cltv_expiry, origin=origin)
    htlc = _with(htlc, onion=onion, path_key=path_key)
    try:
        check_add(channel, htlc)
        check_dust(channel, htlc, most_dust_msat)
    except Warn as broken:
        raise CannotOffer(broken) from None
    return Step(_added(channel, htlc), (Send(add_message(channel.id, htlc)),))


def add_message(channel_id: bytes, htlc: Htlc) -> UpdateAddHtlc:
    """The update_add_htlc of an HTLC of ours that may still have to be sent."""
    assert htlc.onion is not None, "an HTLC that is not acknowledged keeps its onion"
    return UpdateAddHtlc(
        channel_id=channel_id,
        id=htlc.id,
        amount_msat=htlc.amount_msat,
        payment_hash=htlc.payment_hash,
        cltv_expiry=htlc.cltv_expiry,
        onion_routing_packet=htlc.onion,
        blinded_path=htlc.path_key,
    )


def remove(channel: Channel, htlc_id: int, outcome: Outcome) -> Step:
    """Fulfil or fail an HTLC of the peer.

    Raises:
        NotRemovable: it is unknown, not yet irrevocable, or removed already.
        NotOurPreimage: the preimage is another's.
    """
    htlc = channel.htlcs.remote.get(htlc_id)
    # removing.1: only what the other side offered, and only once it is irrevocable
    if htlc is None or not htlc.is_locked_in or htlc.outcome is not None:
        raise NotRemovable(htlc_id)
    if isinstance(outcome, Fulfilled) and sha256(outcome.payment_preimage) != htlc.payment_hash:
        raise NotOurPreimage(htlc_id)
    removed = _with(htlc, outcome=_bare(outcome), outcome_rung=Rung.PROPOSED, onion=None)
    return Step(_with_htlc(channel, removed), (Send(removal_message(channel.id, htlc_id, outcome)),))


def _bare(outcome: Outcome) -> Outcome:
    """The outcome without how long each hop held it: that is said once, and not kept."""
    if isinstance(outcome, FailedMalformed) or outcome.attribution_data is None:
        return outcome
    return _with(outcome, attribution_data=None)


def removal_message(channel_id: bytes, htlc_id: int, outcome: Outcome) -> Message:
    """The update that removes an HTLC of the peer."""
    match outcome:
        case Fulfilled(payment_preimage=preimage, attribution_data=attribution):
            return UpdateFulfillHtlc(channel_id, htlc_id, preimage, attribution)
        case Failed(reason=reason, attribution_data=attribution):
            return UpdateFailHtlc(channel_id, htlc_id, reason, attribution)
        case FailedMalformed(sha256_of_onion=digest, failure_code=code):
            return UpdateFailMalformedHtlc(channel_id, htlc_id, digest, code)


def decided(
    channel: Channel,
    htlc_id: int,
    shared_secret: bytes | None,
    now_seconds: float,
    *,
    is_for_us: bool = False,
    is_introduction: bool = False,
) -> Channel:
    """Note that the onion of this HTLC was read, so that it is never passed on twice.

    One for us keeps it: if it waits for more of its payment, a restart reads it again.
    """
    htlc = channel.htlcs.remote[htlc_id]
    read = _with(
        htlc,
        onion=htlc.onion if is_for_us else None,
        shared_secret=shared_secret,
        decided_at=htlc.decided_at or now_seconds,
        is_introduction=is_introduction,
    )
    return _with_htlc(channel, read)


def change_fee(
    channel: Channel, feerate_per_kw: int, *, most_dust_msat: Msat = MOST_DUST_EXPOSURE_MSAT
) -> Step:
    """Propose another feerate for the commitments.

    Raises:
        FeeRefused: we did not open the channel, could not pay for it, or would leave too many HTLCs
            without an output.
    """
    if channel.charter.opener is not LOCAL:
        raise FeeRefused("the peer opened the channel")
    if not channel.is_usable:
        raise NotUsable(channel.phase.value)
    changed = _with_fee(channel, feerate_per_kw)
    try:
        check_fee(changed, REMOTE)
        check_fee(changed, LOCAL, ALL_PROPOSED)
        check_dust_of_all(changed, most_dust_msat)
    except (CannotAffordFee, TooMuchDust) as broken:
        raise FeeRefused(str(broken)) from None
    return Step(changed, (Send(UpdateFee(channel.id, feerate_per_kw)),))


def has_to_sign(channel: Channel) -> bool:
    """Whether a commitment_signed of ours would change their commitment, and may be sent."""
    return (
        not channel.is_awaiting_revocation
        and channel.remote_next_point is not None
        and _is_covered_by(channel, Signal.WE_SIGN)
    )


def _is_covered_by(channel: Channel, signal: Signal) -> bool:
    opener = channel.charter.opener
    return any(htlc.after(signal) is not htlc for htlc in channel.all_htlcs()) or any(
        change.after(signal, opener) is not change for change in channel.fee_changes
    )


def sign(channel: Channel, secrets: ChannelSecrets) -> Step:
    """Sign the peer's next commitment with all that has gathered.

    Raises:
        NotUsable: nothing to sign, or the last signature is not answered yet.
    """
    # commitment_signed-revoke_and_ack.1: not without an update to commit
    if not has_to_sign(channel):
        raise NotUsable("not ready for another signature")
    signed = _with(
        channel.after(Signal.WE_SIGN),
        number=channel.number.with_side(REMOTE, channel.number.remote + 1),
        remote_point=channel.remote_next_point,
        remote_next_point=None,
        remote_revoking_point=channel.remote_point,
        has_revoked_last=False,
    )
    return Step(signed, (SAVE, Send(signature_message(signed, secrets))))


def signature_message(channel: Channel, secrets: ChannelSecrets) -> CommitmentSigned:
    """The commitment_signed for their newest commitment; equal channels give equal bytes."""
    signature, htlc_signatures = signatures_for(channel, secrets)
    # commitment_signed-revoke_and_ack.3
    return CommitmentSigned(channel.id, signature, htlc_signatures, channel.charter.funding_outpoint.txid)


def signatures_for(channel: Channel, secrets: ChannelSecrets) -> tuple[bytes, tuple[bytes, ...]]:
    """Our signatures on the peer's newest commitment: the funding input, then each HTLC."""
    commitment = channel.commitment(REMOTE, channel.remote_point)
    signature = secp256k1.sign(secrets.funding, commitment.sighash)
    if not commitment.htlcs:
        return signature, ()
    htlc_key = derive_privkey(secrets.htlc, channel.remote_point)
    sign_one = secp256k1.sign
    return signature, tuple(sign_one(htlc_key, second.sighash_for_other) for second in commitment.htlcs)


# What they do


def receive(channel: Channel, message: Message, secrets: ChannelSecrets, climate: Climate) -> Step:
    """Any message of an open channel.

    Raises:
        Warn: the message breaks a rule that costs the connection.
        FailChannel: it breaks one that costs the channel.
    """
    if isinstance(message, ChannelReady):
        return receive_ready(channel, message)
    if channel.phase not in _PHASES_WITH_UPDATES:
        raise UnexpectedMessage(type(message).__name__, channel.phase.value)
    match message:
        case UpdateAddHtlc():
            return _receive_add(channel, message)
        case UpdateFulfillHtlc():
            return _receive_fulfill(channel, message)
        case CommitmentSigned():
            return _receive_signature(channel, message, secrets)
        case RevokeAndAck():
            return _receive_revocation(channel, message)
        case UpdateFailHtlc():
            return _receive_fail(channel, message)
        case UpdateFailMalformedHtlc():
            return _receive_malformed(channel, message)
        case UpdateFee():
            return _receive_fee(channel, message, climate)
        case StartBatch() | TxAbort():
            # commitment_signed-revoke_and_ack.6: with one funding, what follows is no batch; and we
            # negotiate no transaction that could be given up
            return Step(channel)
    raise UnexpectedMessage(type(message).__name__, channel.phase.value)


_PHASES_WITH_UPDATES = (Phase.NORMAL, Phase.SHUTTING_DOWN)


def receive_late(channel: Channel, message: Message) -> Step:
    """What was under way when the channel failed: it is too late for all of it but a preimage.

    Raises:
        Warn: there is no such HTLC, or the preimage is another's.
    """
    if not isinstance(message, UpdateFulfillHtlc):
        return Step(channel)
    # forwarding-safety.2
    return _receive_fulfill(channel, message)


def _receive_add(channel: Channel, add: UpdateAddHtlc) -> Step:
    # shutdown.1: the peer may hold our signature on a closing transaction that lacks this HTLC
    if channel.closing.has_peer_shut_down or not channel.is_ready.remote:
        raise UnexpectedMessage("update_add_htlc", channel.phase.value)
    if add.id != channel.next_htlc_id.remote:
        raise WrongHtlcId(add.id, channel.next_htlc_id.remote)
    htlc = Htlc(
        REMOTE,
        add.id,
        add.amount_msat,
        add.payment_hash,
        add.cltv_expiry,
        onion=add.onion_routing_packet,
        path_key=add.blinded_path,
    )
    check_add(channel, htlc)
    return Step(_added(channel, htlc))


def _receive_fulfill(channel: Channel, message: UpdateFulfillHtlc) -> Step:
    htlc = _removable_by_them(channel, message.id)
    if sha256(message.payment_preimage) != htlc.payment_hash:
        raise WrongPreimage(message.id)
    removed = _with(htlc, outcome=Fulfilled(message.payment_preimage), outcome_rung=Rung.PROPOSED)
    outcome = Fulfilled(message.payment_preimage, message.attribution_data)
    # forwarding-safety.2: a preimage goes upstream at once, whatever becomes of this channel
    return Step(_with_htlc(channel, removed), (SAVE, Settle(_with(removed, outcome=outcome))))


def _receive_fail(channel: Channel, message: UpdateFailHtlc) -> Step:
    htlc = _removable_by_them(channel, message.id)
    outcome = Failed(message.reason, message.attribution_data)
    return Step(_with_htlc(channel, _with(htlc, outcome=outcome, outcome_rung=Rung.PROPOSED)))


def _receive_malformed(channel: Channel, message: UpdateFailMalformedHtlc) -> Step:
    htlc = _removable_by_them(channel, message.id)
    # removing.2: the code must say that the onion was bad
    if not message.failure_code & BADONION:
        raise NotBadOnion(message.id, message.failure_code)
    outcome = FailedMalformed(message.sha256_of_onion, message.failure_code)
    return Step(_with_htlc(channel, _with(htlc, outcome=outcome, outcome_rung=Rung.PROPOSED)))


def _removable_by_them(channel: Channel, htlc_id: int) -> Htlc:
    htlc = channel.htlcs.local.get(htlc_id)
    if htlc is None or not htlc.is_locked_in or htlc.outcome is not None:
        raise UnknownHtlc(htlc_id)
    return htlc


def _receive_fee(channel: Channel, message: UpdateFee, climate: Climate) -> Step:
    # update_fee.1: from the opener alone, and within reason
    if channel.charter.opener is not REMOTE:
        raise NotTheOpener
    low, high = climate.lowest_feerate_per_kw, climate.highest_feerate_per_kw
    if not low <= message.feerate_per_kw <= high:
        raise UnreasonableFeerate(message.feerate_per_kw, low, high)
    changed = _with_fee(channel, message.feerate_per_kw)
    # a lower fee helps an opener that adds of ours have left short
    if message.feerate_per_kw > channel.feerate_in(LOCAL, SIGNED_NEXT):
        check_fee(changed, LOCAL)
    return Step(changed)


def _receive_signature(channel: Channel, message: CommitmentSigned, secrets: ChannelSecrets) -> Step:
    if not _is_covered_by(channel, Signal.THEY_SIGN):
        raise NothingToSign
    number = channel.number.local + 1
    signed = _with(
        channel.after(Signal.THEY_SIGN),
        number=channel.number.with_side(LOCAL, number),
        remote_signature=message.signature,
        remote_htlc_signatures=message.htlc_signature,
    )
    point = secrets.per_commitment_point(number)
    check_signatures(signed, signed.commitment(LOCAL, point), point)
    # commitment_signed-revoke_and_ack.4: one answer, which gives up the commitment before
    revoked = _with(signed.after(Signal.WE_REVOKE), has_revoked_last=True)
    return Step(revoked, (Save(_gone(signed, revoked)), Send(revocation_message(revoked, secrets))))


def revocation_message(channel: Channel, secrets: ChannelSecrets) -> RevokeAndAck:
    """The revoke_and_ack that gave up our commitment before the newest."""
    number = channel.number.local
    return RevokeAndAck(
        channel.id,
        per_commitment_secret=secrets.per_commitment_secret(number - 1),
        next_per_commitment_point=secrets.per_commitment_point(number + 1),
    )


def _gone(before: Channel, after: Channel) -> tuple[Htlc, ...]:
    """The HTLCs that have left the ladder, if their outputs can matter in a revoked commitment."""
    # commitment_signed-revoke_and_ack.5: any state that they revoked must stay punishable
    dust_limit_msat = msat(before.charter.terms.remote.dust_limit_sat)
    return tuple(
        htlc
        for side in Side
        for i, htlc in before.htlcs[side].items()
        if i not in after.htlcs[side] and htlc.amount_msat >= dust_limit_msat
    )


def check_signatures(channel: Channel, commitment: Commitment, per_commitment_point: bytes) -> None:
    """Whether the peer's signatures hold on our newest commitment and its HTLC transactions.

    Raises:
        WrongSignature, WrongSignatureCount: they do not.
    """
    theirs = channel.charter.basepoints.remote
    if not secp256k1.is_signed(theirs.funding_pubkey, commitment.sighash, channel.remote_signature):
        raise WrongSignature("the commitment")
    signatures = channel.remote_htlc_signatures
    if len(signatures) != len(commitment.htlcs):
        raise WrongSignatureCount(len(signatures), len(commitment.htlcs))
    if not signatures:
        return
    keys = commitment_keys(channel.charter.basepoints.local, theirs, per_commitment_point)
    is_signed, htlc_key = secp256k1.is_signed, keys.other_htlc
    for second, signature in zip(commitment.htlcs, signatures, strict=True):
        if not is_signed(htlc_key, second.sighash_for_other, signature):
            raise WrongSignature(f"HTLC {second.htlc.id}")


def _receive_revocation(channel: Channel, message: RevokeAndAck) -> Step:
    number = channel.number.remote - 1
    if not channel.is_awaiting_revocation:
        raise UnexpectedMessage("revoke_and_ack", "not awaiting one")
    if _point_or_none(message.per_commitment_secret) != channel.remote_revoking_point:
        raise WrongSecret(number)
    try:
        shachain = channel.shachain.insert(FIRST_INDEX - number, message.per_commitment_secret)
    except InconsistentSecret:
        raise WrongSecret(number) from None
    revoked = _with(
        channel.after(Signal.THEY_REVOKE),
        shachain=shachain,
        remote_next_point=message.next_per_commitment_point,
        remote_revoking_point=None,
    )
    return Step(revoked, (Save(_gone(channel, revoked)), *_newly_irrevocable(channel)))


def _point_or_none(secret: bytes) -> bytes | None:
    return secp256k1.point_of(secret) if secp256k1.is_secret(secret) else None


def _newly_irrevocable(before: Channel) -> list[Effect]:
    """What their revocation has made irrevocable: their adds, and the failures of ours."""
    failed: list[Effect] = [
        Settle(_with(htlc, outcome_rung=Rung.LOCKED_IN))
        for htlc in before.htlcs.local.values()
        # forwarding-safety.1: no failure goes upstream before its removal is irrevocable
        if htlc.outcome_rung is Rung.ACK_SIGNED and isinstance(htlc.outcome, Failed | FailedMalformed)
    ]
    added: list[Effect] = [
        Offer(_with(htlc, rung=Rung.LOCKED_IN))
        for htlc in before.htlcs.remote.values()
        if htlc.rung is Rung.ACK_SIGNED and htlc.outcome is None
    ]
    return failed + added


def receive_ready(channel: Channel, message: ChannelReady) -> Step:
    """The peer's channel_ready: from now on it accepts HTLCs."""
    # channel_ready.2: a repetition changes nothing
    if channel.is_ready.remote:
        return Step(channel)
    ready = _with(
        channel,
        is_ready=channel.is_ready.with_side(REMOTE, True),
        remote_next_point=message.second_per_commitment_point,
        aliases=channel.aliases.with_side(REMOTE, message.short_channel_id),
    )
    return Step(_opened(ready), (SAVE,))


def mined(channel: Channel, short_channel_id: int | None) -> Step:
    """The funding transaction is in a block, or with None no longer in one."""
    return Step(_with(channel, short_channel_id=short_channel_id), (SAVE,))


def confirmed(channel: Channel, secrets: ChannelSecrets) -> Step:
    """The funding output is deep enough for us: say so."""
    if channel.is_ready.local:
        return Step(channel)
    ready = _with(
        channel,
        is_ready=channel.is_ready.with_side(LOCAL, True),
        aliases=channel.aliases.with_side(LOCAL, secrets.alias(channel.id)),
    )
    return Step(_opened(ready), (SAVE, Send(ready_message(ready, secrets))))


def ready_message(channel: Channel, secrets: ChannelSecrets) -> ChannelReady:
    """Our channel_ready, as it was first sent."""
    # channel_ready.2: it carries the point of commitment 1
    return ChannelReady(channel.id, secrets.per_commitment_point(1), channel.aliases.local)


def _opened(channel: Channel) -> Channel:
    if channel.phase is not Phase.AWAITING_FUNDING or channel.is_ready != Dual(True, True):
        return channel
    # shutdown.1: who said it before the channel was ready adds nothing after
    is_closing = bool(channel.closing.scripts.local) or channel.closing.has_peer_shut_down
    return _with(channel, phase=Phase.SHUTTING_DOWN if is_closing else Phase.NORMAL)


# How values change


def _added(channel: Channel, htlc: Htlc) -> Channel:
    side: Side = htlc.proposer
    return _with(
        _with_htlc(channel, htlc),
        next_htlc_id=channel.next_htlc_id.with_side(side, htlc.id + 1),
    )


def _with_htlc(channel: Channel, htlc: Htlc) -> Channel:
    htlcs = {**channel.htlcs[htlc.proposer], htlc.id: htlc}
    return _with(channel, htlcs=channel.htlcs.with_side(htlc.proposer, htlcs))


def _with_fee(channel: Channel, feerate_per_kw: int) -> Channel:
    """The channel with a fee change proposed; one that was not signed yet is forgotten for it."""
    signed = tuple(change for change in channel.fee_changes if change.rung is not Rung.PROPOSED)
    return _with(channel, fee_changes=(*signed, FeeChange(feerate_per_kw)))
