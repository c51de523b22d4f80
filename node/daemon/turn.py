"""One turn of the owner loop: everything it changes, staged until one commit (DESIGN §3).

A turn takes many events, steps the channels they concern, and steps other channels for what
follows: an HTLC that became irrevocable here is offered there, a preimage learned there
fulfils here, all in the same set. Then the set is made durable, swapped in, and only then its
messages leave. A crash leaves the old state with nothing said, or the new one with silence.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from htlc import steps
from htlc.channel import Channel, Phase
from htlc.dust import check_dust
from htlc.effects import Broadcast, Effect, Offer, Save, Send, Settle, Step, Watch, Withdraw
from htlc.errors import CannotOffer, FailChannel, NotRemovable, NotUsable, Refused, TooMuchDust, Warn
from htlc.ladder import Failed, FailedMalformed, Forwarded, Fulfilled, Htlc, Outcome
from htlc.limits import spendable_msat
from htlc.relay import FAR_BLOCKS, Exit, Fail, Forward, Receive, Take, Wait, accept, blinded, decide, failed
from onion.attribution import update_attribution
from onion.failures import Failure, FailureCode, encode_failure, fail_packet, wrap_failure
from wire.bitcoin.tx import Transaction
from wire.codec import Message
from wire.crypto.hashes import sha256
from wire.features import ATTRIBUTION_DATA
from wire.messages.base import Error, said

if TYPE_CHECKING:
    from node.daemon.switch import Switch

log = logging.getLogger("rill.switch")

MOST_DECISECONDS = (1 << 32) - 1
MOST_TIMED_REASON_BYTES = 64_000  # of a failure that has room for the times beside it in one message

ONION_BYTES = 16  # of the digest by which an onion is known again


class Mark(NamedTuple):
    """What a turn had staged at some moment."""

    lengths: tuple[int, ...]
    gone: dict[bytes, int]
    staged: dict[bytes, Channel]
    saved: dict[bytes, None]
    writes_once: dict[bytes, Callable[[], None]]
    onions: set[bytes]


class Turn:
    """What one turn has staged so far."""

    def __init__(self, switch: "Switch") -> None:
        self.switch = switch
        self.staged: dict[bytes, Channel] = {}
        self.saved: dict[bytes, None] = {}
        self.outgoing: list[tuple[bytes, Message]] = []
        self.rows: list[Callable[[], None]] = []
        self.writes_once: dict[bytes, Callable[[], None]] = {}
        self.after: list[Callable[[], None]] = []
        self.broadcasts: list[tuple[Transaction, ...]] = []
        self.warned: list[tuple[bytes, bytes, str]] = []
        self.gone: dict[bytes, list[Htlc]] = {}
        self.onions: set[bytes] = set()

    # --- undoing

    def mark(self) -> "Mark":
        """Where this turn stands, to be returned to."""
        lengths = tuple([len(each) for each in self._lists()])
        gone = {channel_id: len(htlcs) for channel_id, htlcs in self.gone.items()}
        return Mark(
            lengths, gone, dict(self.staged), dict(self.saved), dict(self.writes_once), set(self.onions)
        )

    def return_to(self, mark: "Mark") -> None:
        """Undo everything that was staged since; none of it is saved or sent."""
        for each, length in zip(self._lists(), mark.lengths, strict=True):
            del each[length:]
        self.gone = {channel_id: self.gone[channel_id][:length] for channel_id, length in mark.gone.items()}
        self.staged, self.saved, self.onions = mark.staged, mark.saved, mark.onions
        self.writes_once = mark.writes_once

    def _lists(self) -> tuple[list[Any], ...]:
        return self.outgoing, self.rows, self.after, self.broadcasts, self.warned

    # --- staging

    def channel(self, channel_id: bytes) -> Channel | None:
        """The channel as this turn has left it so far."""
        return self.staged.get(channel_id) or self.switch.channels.get(channel_id)

    def all_channels(self) -> list[Channel]:
        """Every channel as this turn has left it so far."""
        return list({**self.switch.channels, **self.staged}.values())

    def past_htlcs(self, channel_id: bytes, remote_number: int) -> list[Htlc]:
        """The settled HTLCs that a commitment of the peer contained, those of this turn too."""
        gone = [h for h in self.gone.get(channel_id, ()) if h.entered <= remote_number < h.left]
        return self.switch.store.past_htlcs(channel_id, remote_number) + gone

    def put(self, channel: Channel) -> None:
        """Stage a value that must be durable before this turn's messages leave."""
        self.staged[channel.id] = channel
        self.saved[channel.id] = None

    def send(self, peer_id: bytes, message: Message) -> None:
        """Queue a message for after the commit."""
        self.outgoing.append((peer_id, message))

    def warn(self, peer_id: bytes, channel_id: bytes, why: str) -> None:
        """Tell a peer what it did wrong, after the commit, and close the connection."""
        self.warned.append((peer_id, channel_id, why))

    def write(self, row: Callable[[], None]) -> None:
        """Add a write to the commit."""
        self.rows.append(row)

    def then(self, act: Callable[[], None]) -> None:
        """Do something once this turn is durable."""
        self.after.append(act)

    def take(self, step: Step) -> None:
        """Stage the step's value and carry out its effects."""
        self.staged[step.channel.id] = step.channel
        for effect in step.effects:
            self._carry_out(step.channel.id, effect)

    def _carry_out(self, channel_id: bytes, effect: Effect) -> None:
        match effect:
            case Save(gone=gone):
                self.saved[channel_id] = None
                if gone:
                    store = self.switch.store
                    self.gone.setdefault(channel_id, []).extend(gone)
                    self.write(lambda: store.put_past(channel_id, gone))
            case Send(message=message):
                self._send_for(channel_id, message)
            case Offer(htlc=htlc):
                self.settle_incoming(channel_id, htlc)
            case Settle(htlc=htlc):
                self.settle_outgoing(channel_id, htlc)
            case Withdraw(htlc=htlc):
                self.withdraw(channel_id, htlc)
            case Broadcast(transaction=transaction):
                self.broadcast(transaction)
            case Watch():
                pass  # the chain's follower reads what to watch from the channels themselves

    def _send_for(self, channel_id: bytes, message: Message) -> None:
        """Send on a channel that is taken up; else the peer gets it when it is (reestablish.1)."""
        if channel_id in self.switch.live:
            self.send(self.staged[channel_id].charter.peer_id, message)

    def broadcast(self, transaction: Transaction) -> None:
        """Give a transaction to the chain once the reason for it is durable."""
        self.write(lambda: self.switch.store.put_broadcast(transaction))
        self.publish(transaction)

    def publish(self, *transactions: Transaction) -> None:
        """Give the chain a transaction, or a parent with its child, that we can make again."""
        self.broadcasts.append(transactions)

    # --- HTLCs on their way

    def settle_incoming(self, channel_id: bytes, htlc: Htlc) -> None:
        """Decide an HTLC of a peer that is irrevocable, and carry the decision out."""
        switch = self.switch
        channel = self.staged.get(channel_id) or switch.channels[channel_id]
        discount = switch.lowest_toll_of(channel).inbound
        decision = decide(htlc, switch.signer.node_secret, switch.height, self, discount)
        is_for_us = isinstance(decision, Receive)
        secret, now = decision.shared_secret, switch.now()
        is_first = isinstance(decision, Forward) and decision.path_key is not None and htlc.path_key is None
        self.put(steps.decided(channel, htlc.id, secret, now, is_for_us=is_for_us, is_introduction=is_first))
        if not isinstance(decision, Fail) and self._is_too_much_dust(channel, htlc):
            failure = Failure(FailureCode.temporary_channel_failure)
            decision = failed(decision.shared_secret, failure)
        match decision:
            case Forward():
                self._forward(channel_id, htlc, decision)
            case Receive():
                self._receive(channel_id, htlc, decision)
            case Fail(outcome=outcome):
                self.remove(channel_id, htlc.id, outcome)

    def _is_too_much_dust(self, channel: Channel, htlc: Htlc) -> bool:
        """Whether an HTLC of the peer brings more without output than we allow to be lost."""
        # forwarding-safety.5: it was added without asking us, so it can only be failed back
        try:
            check_dust(channel, htlc, self.switch.house.most_dust_exposure_msat)
        except TooMuchDust as broken:
            log.info("too much dust", extra={"channel": channel.id.hex(), "why": str(broken)})
            return True
        return False

    def exit_of(self, short_channel_id: int) -> Exit | None:
        """Our channel of that id as somebody's next hop."""
        channel_id = self.switch.by_scid.get(short_channel_id)
        channel = self.channel(channel_id) if channel_id else None
        if channel is None or short_channel_id not in channel.exit_ids():
            return None
        toll = self.switch.lowest_toll_of(channel)
        is_usable = self.switch.may_offer(channel)
        return Exit(channel.id, toll, is_usable, self.switch.channel_updates.get(short_channel_id, b""))

    def exit_to(self, node_id: bytes) -> Exit | None:
        """The channel with a peer that can carry most, as somebody's next hop."""
        names = [
            (spendable_msat(channel), channel.exit_ids()[0])
            for channel in self.all_channels()
            if channel.charter.peer_id == node_id and channel.exit_ids()
        ]
        return self.exit_of(max(names)[1]) if names else None

    def _is_replayed(self, forward: Forward) -> bool:
        """Whether this onion was passed on before; from now on it was."""
        store, digest = self.switch.store, sha256(forward.shared_secret)[:ONION_BYTES]
        if digest in self.onions or store.has_onion(digest):
            return True
        self.onions.add(digest)
        # on a blinded path its expiry follows from that of the HTLC, which who brings it chooses
        longest = self.switch.height + FAR_BLOCKS if forward.path_key is not None else forward.cltv_expiry
        self.write(lambda: store.put_onion(longest, digest))
        return False

    def _forward(self, channel_id: bytes, htlc: Htlc, forward: Forward) -> None:
        if self._is_replayed(forward):
            # processing.2: who saw it on its way would learn where it goes by sending it again
            failure = Failure(FailureCode.temporary_node_failure)
            self.remove(channel_id, htlc.id, failed(forward.shared_secret, failure).outcome)
            return
        outgoing = self.channel(forward.exit.channel_id)
        assert outgoing is not None, "an exit is one of our channels"
        number = self.switch.ledger.begin(self)
        origin = Forwarded(channel_id, htlc.id, forward.shared_secret, forward.fee_msat, number)
        try:
            step = steps.offer(
                outgoing,
                forward.amount_msat,
                htlc.payment_hash,
                forward.cltv_expiry,
                forward.onion,
                origin,
                forward.path_key,
                most_dust_msat=self.switch.house.most_dust_exposure_msat,
            )
        except (CannotOffer, NotUsable):
            self.switch.ledger.note_refusal(self, channel_id, htlc, forward, number)
            update = forward.exit.channel_update
            failure = Failure(FailureCode.temporary_channel_failure, channel_update=update)
            self.remove(channel_id, htlc.id, failed(forward.shared_secret, failure).outcome)
            return
        self.take(step)
        self.saved[outgoing.id] = None
        self.switch.ledger.note_offer(self, outgoing.id)

    def _receive(self, channel_id: bytes, htlc: Htlc, receive: Receive) -> None:
        invoices, gathering, payment_hash = self.switch.invoices, self.switch.gathering, htlc.payment_hash
        if receive.path_id is not None:
            invoices.recall(self, payment_hash, receive.path_id)
        match accept(htlc, receive, invoices.owed(payment_hash), self.switch.height):
            case Take() as take:
                invoices.settle(self, payment_hash, take, htlc.amount_msat)
                self.remove(channel_id, htlc.id, Fulfilled(take.payment_preimage))
                gathering.refuse(self, payment_hash)
            case Wait() as wait:
                gathering.add(self, channel_id, htlc, receive.shared_secret, wait)
            case Fail(outcome=outcome):
                self.remove(channel_id, htlc.id, outcome)

    def remove(self, channel_id: bytes, htlc_id: int, outcome: Outcome) -> bool:
        """Fulfil or fail an incoming HTLC; one that is gone already is left alone, and False."""
        channel = self.channel(channel_id)
        if channel is None:
            return False
        try:
            step = steps.remove(channel, htlc_id, self._shown(channel, htlc_id, outcome))
        except NotRemovable:
            log.info("an HTLC was settled twice", extra={"channel": channel_id.hex(), "htlc": htlc_id})
            return False
        self.take(step)
        self.saved[channel_id] = None
        # forwarding-safety.2: on the chain too, a preimage is used at once
        self.switch.resolver.pursue(self, channel_id)
        return True

    def _shown(self, channel: Channel, htlc_id: int, outcome: Outcome) -> Outcome:
        """The outcome as the previous hop may see it, with how long we held the HTLC on top of the others."""
        htlc = channel.htlcs.remote.get(htlc_id)
        if htlc is None:
            return outcome
        outcome = blinded(htlc, outcome)
        if htlc.shared_secret is None or isinstance(outcome, FailedMalformed):
            return outcome
        received = outcome.attribution_data
        is_long = isinstance(outcome, Failed) and len(outcome.reason) > MOST_TIMED_REASON_BYTES
        is_agreed = self.switch.agrees_on(channel.charter.peer_id, ATTRIBUTION_DATA)
        if htlc.path_key is not None or is_long or not is_agreed:
            return outcome if received is None else msgspec.structs.replace(outcome, attribution_data=None)
        # failures.5: what is covered is the failure before our own layer; a success has none
        packet = wrap_failure(htlc.shared_secret, outcome.reason) if isinstance(outcome, Failed) else b""
        held_seconds = self.switch.now() - (htlc.decided_at or self.switch.now())
        held = min(max(0, int(10 * held_seconds)), MOST_DECISECONDS)
        data = update_attribution(htlc.shared_secret, packet, received, held)
        return msgspec.structs.replace(outcome, attribution_data=data)

    def settle_outgoing(self, channel_id: bytes, htlc: Htlc) -> None:
        """Carry the outcome of an HTLC that we offered to where it came from."""
        origin, outcome = htlc.origin, htlc.outcome
        assert origin is not None, "we know why we offered it"
        assert outcome is not None, "it has ended"
        if not isinstance(origin, Forwarded):
            self.switch.payments.settle(self, origin.attempt_id, outcome)
            return
        is_new = self.remove(origin.channel_id, origin.htlc_id, _upstream(outcome, origin.shared_secret))
        if is_new and isinstance(outcome, Fulfilled):
            self.switch.ledger.earn(self, origin, htlc)
            self.switch.ledger.note(self, channel_id, htlc, "settled")
        elif is_new:
            self.switch.ledger.note(self, channel_id, htlc, "failed")

    def lapse(self, channel_id: bytes, htlc: Htlc) -> None:
        """Fail an HTLC that we offered, and that ended on the chain unclaimed, where it came from."""
        origin = htlc.origin
        assert origin is not None, "we know why we offered it"
        if isinstance(origin, Forwarded):
            self._fail_back(origin.channel_id, origin.htlc_id, origin.shared_secret)
            self.switch.ledger.note(self, channel_id, htlc, "failed")
        else:
            self.switch.payments.settle(self, origin.attempt_id, None)

    def withdraw(self, channel_id: bytes, htlc: Htlc) -> None:
        """Fail an HTLC that we shall not offer after all, where it came from."""
        origin = htlc.origin
        assert origin is not None, "we know why we wanted to offer it"
        if not isinstance(origin, Forwarded):
            self.switch.payments.settle(self, origin.attempt_id, None)
            return
        update = self.switch.channel_updates.get(self.staged[channel_id].short_channel_id or 0, b"")
        failure = Failure(FailureCode.temporary_channel_failure, channel_update=update)
        self.remove(origin.channel_id, origin.htlc_id, failed(origin.shared_secret, failure).outcome)

    def fail_back(self, channel_id: bytes, htlc: Htlc) -> None:
        """Fail an HTLC of a peer whose time runs out, whatever becomes of it further on."""
        assert htlc.shared_secret is not None, "what cannot be read is failed when it comes"
        self._fail_back(channel_id, htlc.id, htlc.shared_secret)

    def _fail_back(self, channel_id: bytes, htlc_id: int, shared_secret: bytes) -> None:
        failure = Failure(FailureCode.permanent_channel_failure)
        self.remove(channel_id, htlc_id, failed(shared_secret, failure).outcome)

    # --- trouble

    def fail_channel(self, channel: Channel, why: str, is_told: bool = True) -> None:
        """Send `error` and go to chain with our latest commitment (BOLT 1, BOLT 5)."""
        if channel.phase in (Phase.BEHIND, Phase.FAILED, Phase.CLOSED):
            return
        log.warning("failing a channel", extra={"channel": channel.id.hex(), "why": why})
        if is_told:
            # error-warning.2
            self.send(channel.charter.peer_id, Error(channel.id, said(why)))
        if channel.phase is not Phase.CLOSING:
            # b5-on-chain.2: what both have agreed on serves us better than our commitment
            self.switch.live.discard(channel.id)
            self.switch.resolver.fail(self, channel)

    def guard(self, peer_id: bytes, channel_id: bytes, act: Callable[[], None]) -> None:
        """Run one event of a peer; what it breaks costs it the connection or the channel."""
        try:
            act()
        except FailChannel as broken:
            channel = self.channel(channel_id)
            if channel is None:
                self.send(peer_id, Error(channel_id, said(str(broken))))
            else:
                self.fail_channel(channel, str(broken))
        except Warn as broken:
            self.warn(peer_id, channel_id, str(broken))
        except Refused as refused:
            log.info("refused", extra={"channel": channel_id.hex(), "why": str(refused)})

    # --- the end of the turn

    def finish(self) -> None:
        """Sign what has gathered, and go on with closing where nothing is left to sign."""
        warned = {peer_id for peer_id, _, _ in self.warned}
        for channel_id in list(self.staged):
            channel = self.staged[channel_id]
            if channel_id in self.switch.live and channel.charter.peer_id not in warned:
                secrets = self.switch.signer.channel_secrets(channel.charter.key_index)
                if steps.has_to_sign(channel) and channel.phase in _SIGNING:
                    self.take(steps.sign(channel, secrets))
                self.switch.closings.advance(self, self.staged[channel_id])
                self.switch.quiescence.advance(self, self.staged[channel_id])


def resume(turn: Turn) -> None:
    """After a start: decide again what was irrevocable and not decided when the node stopped.

    What was decided and has neither outcome nor an HTLC going out for it is failed back: the
    decision and what follows from it are one transaction, so this only mends what was damaged.
    """
    channels = turn.all_channels()
    carried = {
        (htlc.origin.channel_id, htlc.origin.htlc_id)
        for channel in channels
        for htlc in channel.htlcs.local.values()
        if isinstance(htlc.origin, Forwarded)
    }
    for channel in channels:
        if channel.phase in (Phase.BEHIND, Phase.FAILED, Phase.CLOSED):
            # on the chain, what was not passed on yet never will be
            turn.switch.resolver.pursue(turn, channel.id)
            continue
        for htlc in channel.htlcs.remote.values():
            if not htlc.is_locked_in or htlc.outcome is not None:
                continue
            if htlc.onion is not None:
                turn.settle_incoming(channel.id, htlc)
            elif htlc.shared_secret is not None and (channel.id, htlc.id) not in carried:
                failure = Failure(FailureCode.temporary_node_failure)
                turn.remove(channel.id, htlc.id, failed(htlc.shared_secret, failure).outcome)


_SIGNING = (Phase.NORMAL, Phase.SHUTTING_DOWN)


def _upstream(outcome: Outcome, shared_secret: bytes) -> Outcome:
    """The outcome as the previous hop shall see it."""
    match outcome:
        case Fulfilled():
            return outcome
        case Failed(reason=reason, attribution_data=attribution):
            return Failed(wrap_failure(shared_secret, reason), attribution)
        case FailedMalformed(sha256_of_onion=digest, failure_code=code):
            # removing.3: the next hop could not read its onion, so the failure becomes ours
            failure = encode_failure(Failure(code, sha256_of_onion=digest))
            return Failed(fail_packet(shared_secret, failure))
