"""Whatever a peer says, the node goes on for all others; a peer with a channel can say most."""

from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
import trio

from htlc.channel import Phase
from htlc.errors import ChannelError, UnacceptableOpening
from htlc.reestablish import reestablish
from node.daemon.establish import OpeningFailed
from node.daemon.paying import PaymentFailed
from node.daemon.peer import Peer, PeerGone
from tests.bolt import bolt
from tests.node.caller import Caller, HungUp, answers, calling
from tests.node.line import Network, line, sent_by
from tests.node.payments import AMOUNT
from wire.messages.catalogue import MESSAGES, encode
from wire.messages.channel import ChannelReestablish

CALLS = 12
MESSAGES_PER_CALL = 25
PATIENCE_SECONDS = 0.5


async def a_life(net: Network) -> list[bytes]:
    """What Alice says to Bob from opening to a payment in either direction, and how she would close."""
    said = sent_by(net["alice"])
    await net.join([("alice", "bob"), ("bob", "carol")])
    for payer, payee in ("alice", "carol"), ("carol", "alice"), ("alice", "bob"):
        await net.pay(payer, payee, AMOUNT)
    await net.wait_for_quiet()
    return [encode(message) for _, message in said]


class Liar:
    """Says what an honest node has said, mostly at the wrong time and a little wrong."""

    def __init__(self, seed: int, known: list[bytes], channel_id: bytes) -> None:
        self._random, self._known, self._channel_id = Random(seed), known, channel_id
        self._types = [number.to_bytes(2, "big") for number in MESSAGES]

    def word(self) -> bytes:
        random = self._random
        match random.randrange(6):
            case 0:
                return random.choice(self._known)
            case 1:
                return spoiled(random.choice(self._known), random)
            case 2:
                return random.choice(self._known)[: random.randrange(2, 200)]
            case 3:
                # some number of bytes that may be read as any message about the channel
                return random.choice(self._types) + self._channel_id + random.randbytes(random.randrange(300))
            case 4:
                return random.choice(self._types) + bytes(random.randrange(1500))
            case _:
                return random.choice(self._types) + random.randbytes(random.randrange(1500))


def spoiled(raw: bytes, random: Random) -> bytes:
    """The same with a few bytes changed."""
    changed = bytearray(raw)
    for _ in range(random.randrange(1, 4)):
        changed[random.randrange(len(changed))] = random.choice(b"\0\1\2\3\x7f\x80\xff")
    return bytes(changed)


async def lie(caller: Caller, liar: Liar, taken_up: ChannelReestablish | None) -> None:
    """Take the channel up or not, then say anything until hung up on."""
    try:
        await caller.expect(ChannelReestablish)
        if taken_up is not None:
            await caller.send(taken_up)
        for _ in range(MESSAGES_PER_CALL):
            await caller.send_raw(liar.word())
        await answers(caller)
    except (HungUp, trio.BrokenResourceError):
        pass


@bolt("framing-tlv.3", "framing-tlv.4")
@pytest.mark.parametrize("seed", range(3))
async def test_no_lie_of_a_peer_stops_a_node(tmp_path: Path, seed: int) -> None:
    async with line(tmp_path, "dave bob") as net:
        await net.start("alice", "carol")
        known = await a_life(net)
        signer, channel = net["alice"].signer, net.channel("alice", "bob")
        taken_up = reestablish(channel, signer.channel_secrets(channel.charter.key_index))
        liar = Liar(seed, known, channel.id)
        await net.stop("alice")
        for call in range(CALLS):
            if net.channel("bob", "alice").phase is not Phase.NORMAL:
                break
            async with calling(net["bob"], signer.node_secret) as caller:
                await lie(caller, liar, taken_up if call % 4 else None)
        await net.pay("dave", "carol", AMOUNT)
        await net.mine(3)


class Garbler:
    """Spoils one of the messages that Alice sends to Bob."""

    def __init__(self, net: Network, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._random = Random(number)
        send_raw = Peer.send_raw

        def garbled(peer: Peer, raw: bytes) -> None:
            if net["alice"].switch.peers.get(net["bob"].node_id) is peer:
                self.count += 1
                if self.count == number:
                    raw = spoiled(raw, self._random)
            send_raw(peer, raw)

        monkeypatch.setattr(Peer, "send_raw", garbled)


async def live_on(net: Network) -> None:
    """Open, pay and close, as far as one gets."""
    with suppress(OpeningFailed, UnacceptableOpening, PeerGone):
        await net.join([("alice", "bob")])
        for payer, payee in ("alice", "carol"), ("carol", "alice"), ("bob", "alice"):
            with suppress(PaymentFailed):
                await net.pay(payer, payee, AMOUNT)
        with suppress(ChannelError):
            await net["bob"].close_channel(net.ids["alice", "bob"])


@pytest.mark.parametrize("number", range(1, 44, 4))
async def test_no_spoiled_message_stops_either_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    async with line(tmp_path, "bob carol") as net:
        await net.start("alice")
        Garbler(net, number, monkeypatch)
        # what was spoiled may be waited for in vain
        with trio.move_on_after(PATIENCE_SECONDS):
            await live_on(net)
        await net.mine(1)
        await net.pay("bob", "carol", AMOUNT)
        for node in net.nodes.values():
            async with calling(node) as caller:
                assert await answers(caller)
