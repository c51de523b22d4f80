"""Two parties of one channel in one process: the stage for stories and property machines."""

import hashlib
from collections import deque
from typing import TypeVar

import msgspec

from htlc import closing, opening, steps
from htlc.channel import Channel, Phase
from htlc.effects import Broadcast, Effect, Offer, Save, Send, Settle, Step, Withdraw
from htlc.keys import ChannelSecrets
from htlc.ladder import LOCAL, REMOTE, Failed, Fulfilled, Htlc, Origin, Outcome, Paid, Rung
from htlc.reestablish import receive_reestablish
from htlc.transactions import Commitment
from wire.bitcoin.script import p2wpkh
from wire.bitcoin.tx import OutPoint, Transaction
from wire.codec import Message
from wire.crypto.hashes import sha256
from wire.crypto.secp256k1 import point_of
from wire.messages.catalogue import decode, encode
from wire.messages.channel import (
    ChannelReady,
    ChannelReestablish,
    ClosingSigned,
    CommitmentSigned,
    RevokeAndAck,
    Shutdown,
    UpdateAddHtlc,
    UpdateFailHtlc,
    UpdateFee,
    UpdateFulfillHtlc,
)
from wire.units import MAX_MSAT, Msat, Sat

M = TypeVar("M", bound=Message)

CHAIN = bytes(32)
HOUSE = opening.House(chain_hash=CHAIN)
ALL_FEATURES = opening.Negotiated(
    large_channels=True,
    anchors=True,
    scid_alias=True,
    zeroconf=True,
    upfront_shutdown=True,
    shutdown_anysegwit=True,
)
HEIGHT = 100
ONION = bytes(1366)
ANCHORS, STATIC = opening.ANCHORS_TYPE, opening.STATIC_REMOTEKEY_TYPE
FUNDING_OUTPOINT = OutPoint(b"\x02" * 32, 1)
ALICE_ID, BOB_ID = point_of(b"\x0a" * 32), point_of(b"\x0b" * 32)

WORDS: dict[str, type[Message]] = {
    "ready": ChannelReady,
    "add": UpdateAddHtlc,
    "ful": UpdateFulfillHtlc,
    "fail": UpdateFailHtlc,
    "fee": UpdateFee,
    "sig": CommitmentSigned,
    "rev": RevokeAndAck,
    "shut": Shutdown,
    "close": ClosingSigned,
}


def secrets_of(name: str) -> ChannelSecrets:
    return ChannelSecrets(*(hashlib.sha256(f"{name} {i}".encode()).digest() for i in range(6)))


def preimage_of(number: int) -> bytes:
    return sha256(b"preimage", number.to_bytes(8, "big"))


def hash_of(number: int) -> bytes:
    return sha256(preimage_of(number))


class Party:
    """One side: its channel, its secrets, what it has to say and what it was told."""

    def __init__(self, name: str, channel: Channel) -> None:
        self.name, self.channel, self.secrets = name, channel, secrets_of(name)
        self.outbox: deque[bytes] = deque()
        self.offers: list[Offer] = []
        self.settled: list[Settle] = []
        self.withdrawn: list[Htlc] = []
        self.gone: list[Htlc] = []
        self.broadcast: list[Transaction] = []
        self.climate = steps.Climate(HEIGHT)
        self.script = p2wpkh(point_of(self.secrets.payment))

    def take(self, step: Step) -> "Party":
        self.channel = step.channel
        for effect in step.effects:
            self._note(effect)
        return self

    def _note(self, effect: Effect) -> None:
        match effect:
            case Save(gone=gone):
                self.gone.extend(gone)
            case Send(message=message):
                self.outbox.append(encode(message))
            case Offer():
                self.offers.append(effect)
            case Settle():
                self.settled.append(effect)
            case Withdraw(htlc=htlc):
                self.withdrawn.append(htlc)
            case Broadcast(transaction=transaction):
                self.broadcast.append(transaction)

    # --- what it does

    def offer(self, amount_msat: int, number: int = 0, cltv_expiry: int = HEIGHT + 40) -> "Party":
        origin: Origin = Paid(number)
        # how much dust is too much has tests of its own
        step = steps.offer(
            self.channel,
            Msat(amount_msat),
            hash_of(number),
            cltv_expiry,
            ONION,
            origin,
            most_dust_msat=Msat(MAX_MSAT),
        )
        return self.take(step)

    def remove(self, htlc_id: int, outcome: Outcome) -> "Party":
        return self.take(steps.remove(self.channel, htlc_id, outcome))

    def change_fee(self, feerate_per_kw: int) -> "Party":
        return self.take(steps.change_fee(self.channel, feerate_per_kw))

    def sign(self) -> "Party":
        return self.take(steps.sign(self.channel, self.secrets))

    def confirm(self) -> "Party":
        """The funding transaction is deep enough."""
        return self.take(steps.confirmed(self.channel, self.secrets))

    def shut_down(self) -> "Party":
        return self.take(closing.shut_down(self.channel, self.script))

    def negotiate(self, feerate_per_kw: int = 1000) -> "Party":
        return self.take(closing.negotiate(self.channel, self.secrets, feerate_per_kw))

    def receive(self, message: Message) -> "Party":
        match message:
            case Shutdown():
                return self.take(closing.receive_shutdown(self.channel, message, True))
            case ClosingSigned():
                return self.take(closing.receive_closing_signed(self.channel, message, self.secrets))
            case ChannelReestablish():
                height = self.climate.height
                return self.take(receive_reestablish(self.channel, message, self.secrets, height))
        return self.take(steps.receive(self.channel, message, self.secrets, self.climate))

    def deliver_one_to(self, other: "Party") -> Message:
        """Hand over the oldest message, as bytes, so that the codec is in every story."""
        message = self.next_message()
        other.receive(message)
        return message

    def next_message(self) -> Message:
        """Take the oldest message out of the outbox without handing it over."""
        message = decode(self.outbox.popleft())
        assert isinstance(message, Message)
        return message

    # --- what it knows

    def rungs(self) -> list[Rung]:
        """How far each update has climbed: removals in place of their adds, fee changes last."""
        htlcs = [
            htlc.rung if htlc.outcome is None else htlc.outcome_rung for htlc in self.channel.all_htlcs()
        ]
        return htlcs + [change.rung for change in self.channel.fee_changes]

    def our_commitment(self) -> Commitment:
        point = self.secrets.per_commitment_point(self.channel.number.local)
        return self.channel.commitment(LOCAL, point)

    def their_commitment(self) -> Commitment:
        return self.channel.commitment(REMOTE, self.channel.remote_point)

    @property
    def balances_msat(self) -> tuple[int, int]:
        """What is settled: ours, theirs."""
        return self.channel.settled_msat.local, self.channel.settled_msat.remote


def play(story: str, alice: Party, bob: Party) -> tuple[Party, Party]:
    """Act out a dance such as `add sig> <rev <sig rev>`.

    Each word is one message from Alice (`>`) or from Bob (`<`); a word without an arrow goes the
    way of the next one that has it. A side that has nothing to say yet does what the word means:
    it adds 1,000,000 msat, removes the oldest HTLC that it can, signs, and so on.
    """
    words = story.split()
    for place, word in enumerate(words):
        arrow = next(later for later in words[place:] if later.strip("<>") != later)
        speaker, listener = (bob, alice) if arrow.startswith("<") else (alice, bob)
        name = word.strip("<>")
        if not speaker.outbox:
            _speak(speaker, name)
        message = speaker.deliver_one_to(listener)
        assert isinstance(message, WORDS[name]), f"{speaker.name} says {message}, not {name}"
    return alice, bob


def _speak(party: Party, word: str) -> None:
    removable = [htlc.id for htlc in party.channel.htlcs.remote.values() if htlc.outcome is None]
    match word:
        case "add":
            party.offer(1_000_000, party.channel.next_htlc_id.local)
        case "ful":
            party.remove(removable[0], Fulfilled(preimage_of(removable[0])))
        case "fail":
            party.remove(removable[0], Failed(b"reason"))
        case "fee":
            party.change_fee(party.channel.feerate_per_kw + 100)
        case "sig":
            party.sign()
        case "ready":
            party.confirm()
        case "shut":
            party.shut_down()
        case "close":
            party.negotiate()


def drain(alice: Party, bob: Party, is_signing: bool = True) -> None:
    """Deliver and sign until nothing is left to do."""
    while True:
        if alice.outbox:
            alice.deliver_one_to(bob)
        elif bob.outbox:
            bob.deliver_one_to(alice)
        elif is_signing and steps.has_to_sign(alice.channel):
            alice.sign()
        elif is_signing and steps.has_to_sign(bob.channel):
            bob.sign()
        else:
            return


def close(alice: Party, bob: Party, feerates_per_kw: tuple[int, int] = (1000, 1000)) -> Transaction:
    """Close together; both hold the same transaction in the end."""
    for party in (alice, bob):
        if not party.channel.closing.scripts.local:
            party.shut_down()
    drain(alice, bob)
    for party, feerate_per_kw in zip((alice, bob), feerates_per_kw, strict=True):
        if closing.may_negotiate(party.channel):
            party.negotiate(feerate_per_kw)
    drain(alice, bob)
    assert alice.channel.phase is bob.channel.phase is Phase.CLOSING
    assert alice.broadcast == bob.broadcast
    (transaction,) = alice.broadcast
    return transaction


def opened_channel(
    capacity_sat: int = 10_000_000,
    push_msat: int = 5_000_000_000,
    channel_type: bytes = ANCHORS,
    feerate_per_kw: int = 253,
    house_of_alice: opening.House = HOUSE,
    house_of_bob: opening.House = HOUSE,
    is_ready: bool = True,
    funding_outpoint: OutPoint = FUNDING_OUTPOINT,
) -> tuple[Party, Party]:
    """Alice opens a channel to Bob through the real establishment, message by message."""
    ours, theirs = secrets_of("alice"), secrets_of("bob")
    wish = opening.Wish(Sat(capacity_sat), Msat(push_msat), feerate_per_kw, channel_type, True)
    stage, proposal = opening.propose(house_of_alice, ALL_FEATURES, wish, BOB_ID, 0, ours, b"\x01" * 32)
    awaiting, answer = opening.accept(house_of_bob, ALL_FEATURES, carried(proposal), ALICE_ID, 0, theirs)
    agreed = opening.receive_accept(stage, carried(answer))
    signing, created = opening.fund(agreed, funding_outpoint, ours)
    channel_of_bob, signed = opening.receive_created(awaiting, carried(created), theirs)
    alice = Party("alice", opening.receive_signed(signing, carried(signed), ours))
    bob = Party("bob", channel_of_bob)
    if is_ready:
        for party in (alice, bob):
            party.take(steps.mined(party.channel, 1 << 40))
            party.confirm()
        drain(alice, bob)
        assert alice.channel.phase is bob.channel.phase is Phase.NORMAL
    return alice, bob


def carried(message: M) -> M:
    """The message after it went over the wire."""
    arrived = decode(encode(message))
    assert type(arrived) is type(message)
    return arrived


def replaced_house(**changes: object) -> opening.House:
    return msgspec.structs.replace(HOUSE, **changes)
