"""Two parties of one channel in one process: the stage for stories and property machines."""

import hashlib
from collections import deque

import msgspec

from htlc import closing, opening, steps
from htlc.channel import Channel, Phase
from htlc.effects import Broadcast, Effect, Offer, Send, Settle, Step
from htlc.keys import ChannelSecrets
from htlc.ladder import Origin, Outcome, Paid
from wire.bitcoin.tx import OutPoint, Transaction
from wire.codec import Message
from wire.crypto.hashes import sha256
from wire.crypto.secp256k1 import point_of
from wire.messages.catalogue import decode, encode
from wire.messages.channel import ClosingSigned, Shutdown
from wire.units import Msat, Sat

CHAIN = bytes(32)
HOUSE = opening.House(chain_hash=CHAIN)
ALL_FEATURES = opening.Negotiated(True, True, True, True)
HEIGHT = 100
ONION = bytes(1366)
ANCHORS, STATIC = opening.ANCHORS_TYPE, opening.STATIC_REMOTEKEY_TYPE


def secrets_of(name: str) -> ChannelSecrets:
    return ChannelSecrets(*(hashlib.sha256(f"{name} {i}".encode()).digest() for i in range(6)))


def preimage_of(number: int) -> bytes:
    return sha256(b"preimage", number.to_bytes(8, "big"))


class Party:
    """One side: its channel, its secrets, what it has to say and what it was told."""

    def __init__(self, name: str, channel: Channel) -> None:
        self.name, self.channel, self.secrets = name, channel, secrets_of(name)
        self.outbox: deque[bytes] = deque()
        self.offers: list[Offer] = []
        self.settled: list[Settle] = []
        self.broadcast: list[Transaction] = []
        self.climate = steps.Climate(HEIGHT)

    def take(self, step: Step) -> "Party":
        self.channel = step.channel
        for effect in step.effects:
            self._note(effect)
        return self

    def _note(self, effect: Effect) -> None:
        match effect:
            case Send(message=message):
                self.outbox.append(encode(message))
            case Offer():
                self.offers.append(effect)
            case Settle():
                self.settled.append(effect)
            case Broadcast(transaction=transaction):
                self.broadcast.append(transaction)

    def offer(self, amount_msat: int, number: int = 0, cltv_expiry: int = HEIGHT + 40) -> "Party":
        origin: Origin = Paid(number)
        payment_hash = sha256(preimage_of(number))
        return self.take(
            steps.offer(self.channel, Msat(amount_msat), payment_hash, cltv_expiry, ONION, origin)
        )

    def remove(self, htlc_id: int, outcome: Outcome) -> "Party":
        return self.take(steps.remove(self.channel, htlc_id, outcome))

    def sign(self) -> "Party":
        return self.take(steps.sign(self.channel, self.secrets))

    def receive(self, message: Message) -> "Party":
        match message:
            case Shutdown():
                return self.take(closing.receive_shutdown(self.channel, message, True))
            case ClosingSigned():
                return self.take(closing.receive_closing_signed(self.channel, message, self.secrets))
        return self.take(steps.receive(self.channel, message, self.secrets, self.climate))

    def deliver_one_to(self, other: "Party") -> Message:
        """Hand over the oldest message, as bytes, so that the codec is in every story."""
        message = decode(self.outbox.popleft())
        assert isinstance(message, Message)
        other.receive(message)
        return message


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


def opened_channel(
    capacity_sat: int = 10_000_000,
    push_msat: int = 5_000_000_000,
    channel_type: bytes = ANCHORS,
    feerate_per_kw: int = 253,
    house_of_alice: opening.House = HOUSE,
    house_of_bob: opening.House = HOUSE,
    is_ready: bool = True,
) -> tuple[Party, Party]:
    """Alice opens a channel to Bob through the real establishment, message by message."""
    ours, theirs = secrets_of("alice"), secrets_of("bob")
    wish = opening.Wish(Sat(capacity_sat), Msat(push_msat), feerate_per_kw, channel_type, True)
    stage, proposal = opening.propose(
        house_of_alice, ALL_FEATURES, wish, point_of(b"\x0b" * 32), 0, ours, b"\x01" * 32
    )
    awaiting, answer = opening.accept(house_of_bob, ALL_FEATURES, proposal, point_of(b"\x0a" * 32), 0, theirs)
    agreed = opening.receive_accept(stage, answer)
    signing, created = opening.fund(agreed, OutPoint(b"\x02" * 32, 1), ours)
    channel_of_bob, signed = opening.receive_created(awaiting, created, theirs)
    alice = Party("alice", opening.receive_signed(signing, signed, ours))
    bob = Party("bob", channel_of_bob)
    if is_ready:
        for party in (alice, bob):
            party.take(steps.mined(party.channel, 1 << 40))
            party.take(steps.confirmed(party.channel, party.secrets))
        drain(alice, bob)
        assert alice.channel.phase is bob.channel.phase is Phase.NORMAL
    return alice, bob


def replaced_house(**changes: object) -> opening.House:
    return msgspec.structs.replace(HOUSE, **changes)
