"""Opening channels between nodes, and what a peer cannot do to ours by opening one (BOLT 2)."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from htlc.channel import Phase
from htlc.errors import UnacceptableOpening
from htlc.opening import ANCHORS_TYPE, LARGE_CHANNEL_SAT, STATIC_REMOTEKEY_TYPE, Wish
from htlc.relay import Toll
from node.daemon.establish import MOST_STAGES_PER_PEER, Funding, OpeningFailed
from node.daemon.node import Node
from node.daemon.peer import PeerGone
from node.daemon.turn import Turn
from node.daemon.wallet import InsufficientFunds
from tests.bolt import bolt
from tests.node.caller import answers, calling
from tests.node.line import CAPACITY_SAT, Network, bent, line, network, takes_at_most
from tests.node.openings import an_opening
from wire.bitcoin.tx import OutPoint, TxOut
from wire.codec import Message
from wire.crypto.hashes import sha256
from wire.messages.base import Error
from wire.messages.channel import AcceptChannel, FundingSigned, OpenChannel
from wire.units import Msat, Sat

FUNDS_SAT = CAPACITY_SAT + 100_000


async def funded_pair(net: Network) -> None:
    await net.fund([("alice", FUNDS_SAT)])
    await net.connect("alice", "bob")


@bolt("channel_ready.1", "channel_ready.2")
async def test_a_channel_is_usable_at_the_depth_that_the_accepter_asked_for(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        await net.start("bob", minimum_depth_blocks=4)
        await funded_pair(net)
        await net.open("alice", "bob")
        await net.mine(3)
        for a, b in ("alice", "bob"), ("bob", "alice"):
            assert net.channel(a, b).phase is Phase.AWAITING_FUNDING
            assert not net.channel(a, b).is_usable
        await net.mine(1)
        await net.wait_for_usable()


@bolt("open_channel.10")
async def test_what_was_pushed_belongs_to_the_accepter_once_the_channel_is_usable(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob", push_msat=Msat(1_234_567_891)) as net:
        assert net.channel("bob", "alice").settled_msat.local == 1_234_567_891
        net.check_conserved()


@bolt("open_channel.4", "accept_channel.1")
@pytest.mark.parametrize("channel_type", [STATIC_REMOTEKEY_TYPE, ANCHORS_TYPE])
async def test_both_types_of_channels(tmp_path: Path, channel_type: bytes) -> None:
    async with line(tmp_path, "alice bob", channel_type=channel_type) as net:
        assert net.channel("alice", "bob").charter.channel_type == channel_type
        await net.pay("alice", "bob", 50_000_000)
        await net.pay("bob", "alice", 60_000_000)
        await net.wait_for_quiet()
        assert net.channel("bob", "alice").settled_msat.local == 5_000_000_000 - 10_000_000
        net.check_conserved()


@pytest.mark.parametrize(
    ("capacity_sat", "push_msat", "channel_type", "error"),
    [
        (CAPACITY_SAT, 1000 * CAPACITY_SAT + 1, ANCHORS_TYPE, UnacceptableOpening),
        (CAPACITY_SAT, 1000 * CAPACITY_SAT, ANCHORS_TYPE, UnacceptableOpening),
        (CAPACITY_SAT, 0, b"", UnacceptableOpening),
        (CAPACITY_SAT, 0, b"\x01", UnacceptableOpening),
        (9_999, 0, ANCHORS_TYPE, OpeningFailed),
        (FUNDS_SAT, 0, ANCHORS_TYPE, InsufficientFunds),
        (2 * LARGE_CHANNEL_SAT, 0, ANCHORS_TYPE, InsufficientFunds),
    ],
)
@bolt("open_channel.2", "open_channel.7")
async def test_a_wish_that_cannot_be_fulfilled_costs_nothing(
    tmp_path: Path, capacity_sat: int, push_msat: int, channel_type: bytes, error: type[Exception]
) -> None:
    async with network(tmp_path, "alice bob") as net:
        await funded_pair(net)
        with pytest.raises(error):
            await net["alice"].open_channel(
                net["bob"].node_id, Sat(capacity_sat), Msat(push_msat), channel_type=channel_type
            )
        assert net["alice"].channels() == net["bob"].channels() == []
        # the coins are free, and the peers are still friends
        await net.open("alice", "bob")


async def test_no_channel_without_a_connection(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob") as net:
        with pytest.raises(PeerGone):
            await net["alice"].open_channel(net["bob"].node_id, CAPACITY_SAT)


@bolt("error-warning.2")
async def test_only_so_many_openings_at_once(tmp_path: Path) -> None:
    async with network(tmp_path, "bob") as net, calling(net["bob"]) as caller:
        openings = [
            an_opening(temporary_channel_id=sha256(bytes([number])))
            for number in range(MOST_STAGES_PER_PEER + 1)
        ]
        await caller.send(*openings)
        for opening in openings[:-1]:
            assert (await caller.expect(AcceptChannel)).temporary_channel_id == opening.temporary_channel_id
        assert (await caller.expect(Error)).channel_id == openings[-1].temporary_channel_id
        assert net["bob"].channels() == []


@bolt("open_channel.1")
async def test_an_opening_of_the_same_id_is_refused(tmp_path: Path) -> None:
    async with network(tmp_path, "bob") as net, calling(net["bob"]) as caller:
        await caller.send(an_opening(), an_opening())
        await caller.expect(AcceptChannel)
        await caller.expect(Error)


@bolt("funding_created-funding_signed.2")
@pytest.mark.parametrize("place", [0, 63])
async def test_a_funding_signature_that_does_not_hold(tmp_path: Path, place: int) -> None:
    def spoil(message: Message) -> Message:
        if not isinstance(message, FundingSigned):
            return message
        signature = bytearray(message.signature)
        signature[place] ^= 1
        return FundingSigned(message.channel_id, bytes(signature))

    async with network(tmp_path, "alice bob") as net:
        await funded_pair(net)
        bent(net["bob"], spoil)
        with pytest.raises(OpeningFailed):
            await net["alice"].open_channel(net["bob"].node_id, CAPACITY_SAT)
        assert len(net.chain.regtest.mempool) == 0
        assert net["alice"].channels() == []
        assert net["alice"].balance_sat.confirmed_sat == FUNDS_SAT


def fund_with(node: Node, outpoint: OutPoint | None = None, less_sat: int = 0) -> None:
    """Make a node name another funding output, or one that pays too little."""
    pay = node.switch.establishment._pay

    def wrong(turn: Turn, funding: Funding, outputs: Sequence[TxOut]) -> list[OutPoint]:
        less = [TxOut(Sat(output.value_sat - less_sat), output.script) for output in outputs]
        right = pay(turn, funding, less)
        return right if outpoint is None else [outpoint]

    node.switch.establishment._pay = wrong  # type: ignore[method-assign]


@bolt("funding_created-funding_signed.3")
async def test_nobody_takes_the_place_of_a_channel_by_naming_its_funding(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        before = net.channel("bob", "alice")
        await net.start("mallory")
        await net.fund([("mallory", FUNDS_SAT)])
        await net.connect("mallory", "bob")
        fund_with(net["mallory"], before.charter.funding_outpoint)
        with pytest.raises(OpeningFailed):
            await net["mallory"].open_channel(net["bob"].node_id, CAPACITY_SAT)
        assert net["bob"].channels() == [before] == net["bob"].store.channels()
        await net.pay("alice", "bob", 1_000_000)


@bolt("error-warning.1")
@pytest.mark.parametrize("names_it", [True, False])
async def test_an_error_ends_an_opening(tmp_path: Path, names_it: bool) -> None:
    async with network(tmp_path, "bob") as net, calling(net["bob"]) as caller:
        await answers(caller)

        async def refuse() -> None:
            opening = await caller.expect(OpenChannel)
            await caller.send(Error(sha256(b"something else"), b"whatever"))
            assert await answers(caller)
            await caller.send(Error(opening.temporary_channel_id if names_it else bytes(32), b"not today"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(refuse)
            with pytest.raises(OpeningFailed, match="not today"):
                await net["bob"].open_channel(caller.node_id, CAPACITY_SAT)
        assert await answers(caller)


async def test_an_opening_that_begins_as_the_peer_leaves_fails(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob") as net:
        await funded_pair(net)
        node = net["alice"]
        peer = node.switch.peers[net["bob"].node_id]
        node.switch.drop_peer(peer)
        wish = Wish(CAPACITY_SAT, Msat(0), 1000, ANCHORS_TYPE, True)
        with pytest.raises(OpeningFailed):
            await node.switch.establishment.open(peer, wish, 1000)


@bolt("channel_ready.1")
async def test_a_funding_output_of_another_amount_fails_the_channel(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob") as net:
        await funded_pair(net)
        fund_with(net["alice"], less_sat=1)
        await net.open("alice", "bob")
        await net.mine(1)
        await net["bob"].wait_for_channels(lambda channels: channels[0].phase is Phase.FAILED)
        await net.mine(6)
        assert not net.channel("bob", "alice").is_ready.local
        assert not net.channel("alice", "bob").is_usable


@bolt("open_channel.7")
@pytest.mark.parametrize(("opener", "accepter"), [("alice", "bob"), ("bob", "alice")])
async def test_a_channel_that_takes_nothing_in_flight_is_refused(
    tmp_path: Path, opener: str, accepter: str
) -> None:
    async with network(tmp_path, "alice bob") as net:
        takes_at_most(net["alice"], 0)
        await net.fund([(opener, FUNDS_SAT)])
        await net.connect(opener, accepter)
        with pytest.raises(OpeningFailed):
            await net.open(opener, accepter)


@bolt("own-announcements.4")
async def test_a_channel_that_takes_less_than_our_minimum_does_no_harm(tmp_path: Path) -> None:
    toll = Toll(htlc_minimum_msat=Msat(1000))
    async with line(tmp_path, "bob carol", toll=toll) as net:
        await net.start("alice")
        takes_at_most(net["alice"], 500)
        await net.fund([("alice", FUNDS_SAT)])
        await net.connect("alice", "bob")
        await net.open("alice", "bob")
        await net.mine(6)
        await net.wait_for_usable()
        await net.pay("bob", "carol", 1_000_000)
        direction = 0 if net["bob"].node_id < net["alice"].node_id else 1
        assert net["bob"].graph.policy(net.short_channel_id("alice", "bob"), direction) is None


@bolt("open_channel.7")
async def test_a_peer_cannot_have_us_remember_channels_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.daemon.establish.MOST_UNFUNDED_PER_PEER", 2)
    async with network(tmp_path, "alice bob") as net:
        await net.fund([("alice", FUNDS_SAT)] * 4)
        await net.connect("alice", "bob")
        peer = net["alice"].switch.peers[net["bob"].node_id]
        wish = Wish(Sat(1_000_000), Msat(0), 1000, ANCHORS_TYPE, True)
        opened = [await net["alice"].switch.establishment.open(peer, wish, 1000) for _ in range(2)]
        with pytest.raises(OpeningFailed, match="one too many"):
            await net["alice"].switch.establishment.open(peer, wish, 1000)
        await net.mine()
        opened.append(await net["alice"].switch.establishment.open(peer, wish, 1000))
        assert len(net["bob"].switch.channels) == len(opened)
