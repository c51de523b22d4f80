"""Two parties that close under option_simple_close, each with a transaction of its own."""

from msgspec.structs import replace

from htlc import closing, simple_close
from htlc.channel import Channel, ClosingOffer
from htlc.ladder import REMOTE
from htlc.reestablish import disconnected, receive_reestablish, reestablish
from htlc.simple_close import Form, closing_transaction
from tests.htlc.parties import HEIGHT, Party, opened_channel
from wire.crypto import secp256k1
from wire.messages.channel import ChannelReady, ChannelReestablish, ClosingComplete, ClosingSig, Shutdown
from wire.units import Sat

CAPACITY_SAT = 10_000_000
FEE_SAT = 674  # of two P2WPKH outputs at 1,000 per kw
OP_RETURN = b"\x6a\x06" + b"burned"


def after_shutdown(push_msat: int = 4_000_000_000) -> tuple[Party, Party]:
    """Both have said shutdown, and neither has offered anything yet."""
    alice, bob = opened_channel(push_msat=push_msat)
    alice.shut_down()
    bob.shut_down()
    deliver_all(alice, bob)
    return alice, bob


def negotiate(party: Party, feerate_per_kw: int = 1000) -> Party:
    return party.take(simple_close.negotiate(party.channel, party.secrets, feerate_per_kw, HEIGHT))


def propose(party: Party, feerate_per_kw: int = 1000, script: bytes = b"") -> Party:
    return party.take(simple_close.propose(party.channel, party.secrets, feerate_per_kw, HEIGHT, script))


def tell(party: Party, message: object) -> Party:
    match message:
        case Shutdown():
            return party.take(closing.receive_shutdown(party.channel, message, True, True))
        case ClosingComplete():
            return party.take(simple_close.receive_closing_complete(party.channel, message, party.secrets))
        case ClosingSig():
            return party.take(simple_close.receive_closing_sig(party.channel, message, party.secrets))
        case ChannelReestablish():
            height = party.climate.height
            return party.take(receive_reestablish(party.channel, message, party.secrets, height))
        case ChannelReady():
            return party.receive(message)
    raise AssertionError(f"{message} belongs to no closing")


def deliver_all(alice: Party, bob: Party, most: int = 100) -> int:
    """Deliver, in turns, until nothing is left to say, or so many messages; how many there were."""
    delivered = 0
    while (alice.outbox or bob.outbox) and delivered < most:
        for speaker, listener in ((alice, bob), (bob, alice)):
            if speaker.outbox and delivered < most:
                tell(listener, speaker.next_message())
                delivered += 1
    return delivered


def both_negotiate(alice: Party, bob: Party, feerates_per_kw: tuple[int, int] = (1000, 1000)) -> None:
    """Both offer, and sign what the other one offers."""
    for party, feerate_per_kw in zip((alice, bob), feerates_per_kw, strict=True):
        negotiate(party, feerate_per_kw)
    deliver_all(alice, bob)


def reconnect(alice: Party, bob: Party) -> None:
    """Lose the connection with all that was on its way, and take the channel up again."""
    for party in (alice, bob):
        party.outbox.clear()
        party.channel = disconnected(party.channel)
    greetings = [reestablish(party.channel, party.secrets) for party in (alice, bob)]
    tell(alice, greetings[1])
    tell(bob, greetings[0])
    deliver_all(alice, bob)


def an_offer_of(
    party: Party, forms: tuple[Form, ...], fee_sat: int = FEE_SAT, script: bytes = b"", locktime: int = HEIGHT
) -> ClosingComplete:
    """What that side would send to offer these forms, whether it may or not."""
    scripts = party.channel.closing.scripts
    offer = ClosingOffer(script or scripts.local, scripts.remote, Sat(fee_sat), locktime)
    return ClosingComplete(
        party.channel.id,
        offer.closer_script,
        offer.closee_script,
        offer.fee_sat,
        offer.locktime,
        **signatures_of(party, offer, forms),
    )


def signatures_of(party: Party, offer: ClosingOffer, forms: tuple[Form, ...]) -> dict[str, bytes]:
    seen = as_the_peer_sees(party.channel)
    return {
        form.value: secp256k1.sign(
            party.secrets.funding, closing_transaction(seen, REMOTE, offer, form).sighash
        )
        for form in forms
    }


def as_the_peer_sees(channel: Channel) -> Channel:
    """The channel with the balances swapped, so that the closer is the remote side."""
    return replace(channel, settled_msat=channel.settled_msat.swapped())


def forms_in(message: object) -> tuple[Form, ...]:
    return tuple(form for form in Form if getattr(message, form.value) is not None)
