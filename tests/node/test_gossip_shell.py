"""What live nodes tell and believe of the network, and how it forgets (BOLT 7)."""

import zlib
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import trio

from gossip.announcing import End, unsigned_announcement
from gossip.graph import Graph
from gossip.validation import FORGET_AFTER_BLOCKS
from htlc.relay import Toll
from node.daemon.gossiper import Gossiper
from node.daemon.node import Node
from node.daemon.paying import PaymentFailed
from node.daemon.peer import Peer, call
from tests.bolt import bolt
from tests.node.caller import Caller, HungUp, answers, calling
from tests.node.line import CAPACITY_SAT, HOST, Network, line, network, until
from tests.node.test_closing import closed
from wire import node_address
from wire.bitcoin.block import CHAIN_HASH
from wire.bitcoin.script import funding_script, p2wsh
from wire.codec import Message
from wire.crypto import secp256k1
from wire.crypto.hashes import sha256
from wire.messages.base import Ping, Pong, Warning
from wire.messages.catalogue import encode
from wire.messages.gossip import (
    AnnouncementSignatures,
    ChannelAnnouncement,
    ChannelUpdate,
    EncodedFlags,
    GossipTimestampFilter,
    NodeAnnouncement,
    QueryChannelRange,
    QueryShortChannelIds,
    ReplyChannelRange,
    ReplyShortChannelIdsEnd,
    signed_digest,
)
from wire.scid import parts, scid
from wire.units import Msat, Sat

REGTEST = CHAIN_HASH["regtest"]
EVERYTHING = GossipTimestampFilter(REGTEST, 0, 0xFFFFFFFF)


async def quiet() -> None:
    """Return once no node has anything left to do."""
    await trio.testing.wait_all_tasks_blocked(0.02)


# --- our own channels


@bolt("own-announcements.1", "own-announcements.2", "own-announcements.4")
async def test_a_channel_is_announced_at_six_blocks_and_not_before(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob carol") as net:
        await net.fund([("alice", CAPACITY_SAT + 100_000)])
        await net.connect("alice", "bob")
        await net.connect("bob", "carol")
        await net.open("alice", "bob")
        for depth in range(1, 6):
            await net.mine(1)
            if depth == 3:
                await net.wait_for_usable()
            await quiet()
            assert not net["carol"].graph.channels
            for name in ("alice", "bob"):
                # its two ends know each other's terms as soon as they may use it
                assert len(net[name].graph.policies) == (2 if depth >= 3 else 0)
                assert not any(channel.is_announced for channel in net[name].graph.channels.values())
        await net.mine(1)
        await net["carol"].gossiper.wait_for_graph(
            lambda graph: len(graph.policies) == 2 and len(graph.nodes) == 2
        )
        [channel] = net["carol"].graph.channels.values()
        assert channel.short_channel_id == net.short_channel_id("alice", "bob")
        assert (channel.capacity_sat, channel.is_announced) == (CAPACITY_SAT, True)


@bolt("own-announcements.1")
async def test_an_unannounced_channel_stays_between_its_ends(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol", is_announced=False) as net:
        await net.mine(6)
        await quiet()
        for name, known in (("alice", 1), ("bob", 2), ("carol", 1)):
            assert len(net[name].graph.channels) == known
            assert not net[name].gossiper.router.archive.announcements


@bolt("own-announcements.3", "own-announcements.4")
async def test_everybody_reads_what_a_node_says_of_itself_and_its_channels(tmp_path: Path) -> None:
    toll = Toll(Msat(7), 77, 17, Msat(777), Msat(7_777_777))
    async with line(tmp_path, "alice bob carol", toll=toll) as net:
        for reader in net.nodes.values():
            for name, node in net.nodes.items():
                said = reader.graph.nodes[node.node_id]
                assert said.alias.rstrip(b"\0") == name.encode()
                [address] = node_address.read_addresses(said.addresses)
                assert address == node_address.parse(f"{HOST}:{node.port}")
            for policy in reader.graph.policies.values():
                assert (policy.fee_base_msat, policy.fee_proportional_millionths) == (7, 77)
                assert (policy.cltv_expiry_delta, policy.is_disabled) == (17, False)
                assert (policy.htlc_minimum_msat, policy.htlc_maximum_msat) == (777, 7_777_777)


@bolt("own-announcements.4")
async def test_the_time_of_an_update_is_the_time(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob") as net:
        await net.join(6 * [("alice", "bob")])
        for node in net.nodes.values():
            for policy in node.graph.policies.values():
                # an update that is dated far ahead could not be replaced by one after a restart
                assert policy.timestamp <= net.clock() + 1


class Deaf:
    """A gossiper's ear for announcement_signatures, closed."""

    def __init__(self, node: Node) -> None:
        self.heard = 0
        self._gossiper: Gossiper = node.gossiper
        self._receive = self._gossiper.receive
        self._gossiper.receive = self._drop  # type: ignore[method-assign]

    def _drop(self, peer: Peer, message: Message, raw: bytes) -> None:
        if isinstance(message, AnnouncementSignatures):
            self.heard += 1
        else:
            self._receive(peer, message, raw)

    def opened(self) -> None:
        self._gossiper.receive = self._receive  # type: ignore[method-assign]


@bolt("own-announcements.1")
@pytest.mark.parametrize("caller", ["alice", "bob"])
async def test_signatures_that_were_lost_are_sent_again_on_a_new_connection(
    tmp_path: Path, caller: str
) -> None:
    async with network(tmp_path, "alice bob carol") as net:
        await net.fund([("alice", CAPACITY_SAT + 100_000)])
        await net.connect("bob", "carol")
        await net.connect(*(("alice", "bob") if caller == "alice" else ("bob", "alice")))
        await net.open("alice", "bob")
        deaf = Deaf(net["bob"])
        await net.mine(6)
        await until(lambda: deaf.heard == 1)
        deaf.opened()
        # the old connection is not gone yet: the new one replaces it
        node, peer = net[caller], net["bob" if caller == "alice" else "alice"]
        stream = await trio.open_tcp_stream(HOST, peer.port)
        nursery = node._nursery
        assert nursery is not None
        await nursery.start(node._keep, await call(stream, node.signer, peer.node_id, node._init))
        await net["carol"].gossiper.wait_for_graph(lambda graph: len(graph.policies) == 2)


@bolt("own-announcements.1")
@pytest.mark.parametrize("name", ["alice", "bob"])
async def test_a_node_that_was_away_at_six_blocks_signs_when_it_returns(tmp_path: Path, name: str) -> None:
    async with network(tmp_path, "alice bob carol") as net:
        await net.fund([("alice", CAPACITY_SAT + 100_000)])
        await net.connect("alice", "bob")
        await net.open("alice", "bob")
        await net.mine(3)
        await net.wait_for_usable()
        await net.stop(name)
        await net.mine(3)
        await net.start(name)
        await net.connect("alice", "bob")
        await net.connect("bob", "carol")
        await net["carol"].gossiper.wait_for_graph(lambda graph: len(graph.policies) == 2)
        await net.follow()


async def test_a_node_that_returns_knows_the_network_again(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol diana") as net:
        await net.stop("alice")
        await net.start("alice")
        await net.connect("alice", "bob")
        await net.wait_for_gossip()
        await net.pay("alice", "diana", 1_000_000)


@bolt("own-announcements.4")
async def test_a_node_is_believed_after_a_restart_though_its_words_ran_ahead_of_the_clock(
    tmp_path: Path,
) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        scid = net.short_channel_id("alice", "bob")

        async def ask(base_msat: int) -> None:
            [channel] = net["alice"].channels()
            await net["alice"].switch.set_toll(channel.id, Toll(Msat(base_msat)), 0)
            net["alice"].gossiper.tell_toll(channel.id)

        def asks(graph: Graph, base_msat: int) -> bool:
            edges = graph.policies.items()
            return any(number >> 1 == scid and policy.fee_base_msat == base_msat for number, policy in edges)

        for base_msat in range(1, 60):
            await ask(base_msat)
        await net["carol"].gossiper.wait_for_graph(lambda graph: asks(graph, 59))
        await net.stop("alice")
        await net.start("alice")
        await net.connect("alice", "bob")
        await net.wait_for_usable()
        await ask(99)
        for name in ("alice", "carol"):
            with trio.fail_after(30):
                await net[name].gossiper.wait_for_graph(lambda graph: asks(graph, 99))


# --- who comes late, and who has not asked


@bolt("queries.1", "queries.2", "queries.4")
async def test_who_comes_late_learns_everything_by_asking(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol diana") as net:
        await net.start("eric")
        await net.connect("eric", "alice")
        await net["eric"].gossiper.wait_for_graph(
            lambda graph: len(graph.policies) == 6 and len(graph.nodes) == 4
        )
        assert net["eric"].graph.channels.keys() == net["alice"].graph.channels.keys()


async def until_pong(caller: Caller) -> list[Message]:
    """Everything the node sends before it answers."""
    await caller.send(Ping(num_pong_bytes=0))
    received: list[Message] = []
    while not isinstance(message := await caller.receive(), Pong):
        assert isinstance(message, Message)
        received.append(message)
    return received


def gossip_of(messages: list[Message]) -> list[Message]:
    return [
        each for each in messages if isinstance(each, ChannelAnnouncement | ChannelUpdate | NodeAnnouncement)
    ]


@bolt("queries.4")
async def test_others_gossip_goes_only_to_who_asks_for_it(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net, calling(net["alice"]) as caller:
        ours = net.short_channel_id("alice", "bob")
        await answers(caller)
        for message in gossip_of(await until_pong(caller)):
            assert getattr(message, "short_channel_id", ours) == ours
        await caller.send(EVERYTHING)
        kinds: list[type[Message]] = []
        while NodeAnnouncement not in kinds:
            kinds += [type(message) for message in gossip_of(await until_pong(caller))]
        assert kinds[:3] == [ChannelAnnouncement, ChannelUpdate, ChannelUpdate]


# --- the chain's word


KEYS = [sha256(f"a liar's key {number}".encode()) for number in range(4)]


def an_announcement(short_channel_id: int) -> bytes:
    """An announcement that is perfectly signed by nodes and keys of a liar."""
    one, other = [End(secp256k1.point_of(KEYS[node]), secp256k1.point_of(KEYS[node + 2])) for node in (0, 1)]
    unsigned = unsigned_announcement(REGTEST, short_channel_id, one, other)
    digest = signed_digest(encode(unsigned))
    secrets = {secp256k1.point_of(key): key for key in KEYS}
    signatures = [
        secp256k1.sign(secrets[point], digest)
        for point in (unsigned.node_id_1, unsigned.node_id_2, unsigned.bitcoin_key_1, unsigned.bitcoin_key_2)
    ]
    return encode(
        msgspec.structs.replace(
            unsigned,
            node_signature_1=signatures[0],
            node_signature_2=signatures[1],
            bitcoin_signature_1=signatures[2],
            bitcoin_signature_2=signatures[3],
        )
    )


def an_update(short_channel_id: int, timestamp: int, changes: dict[str, int] | None = None) -> bytes:
    """An update of that channel by the liar."""
    first = min(KEYS[:2], key=secp256k1.point_of)
    unsigned = ChannelUpdate(
        signature=bytes(64),
        chain_hash=REGTEST,
        short_channel_id=short_channel_id,
        timestamp=timestamp,
        message_flags=1,
        channel_flags=0,
        cltv_expiry_delta=1,
        htlc_minimum_msat=Msat(1),
        fee_base_msat=1,
        fee_proportional_millionths=1,
        htlc_maximum_msat=Msat(1_000_000),
    )
    unsigned = msgspec.structs.replace(unsigned, **(changes or {}))
    signature = secp256k1.sign(first, signed_digest(encode(unsigned)))
    return encode(msgspec.structs.replace(unsigned, signature=signature))


def a_lie_about(short_channel_id: int, timestamp: int) -> tuple[bytes, bytes]:
    """All that it takes to be believed, but for the output."""
    return an_announcement(short_channel_id), an_update(short_channel_id, timestamp)


LIARS_SCRIPT = p2wsh(funding_script(*(secp256k1.point_of(key) for key in KEYS[2:])))


async def fund_liar(net: Network) -> int:
    """Pay to the two keys, and say where the output is."""
    outpoint = await net.chain.fund(LIARS_SCRIPT, Sat(1_000_000))
    regtest = net.chain.regtest
    block_hash = regtest.block_hash(regtest.height)
    assert block_hash is not None
    txids = [transaction.txid for transaction in regtest.block(block_hash).transactions]
    await net.follow()
    return scid(regtest.height, txids.index(outpoint.txid), outpoint.index)


@bolt("validation.1")
async def test_an_output_that_pays_the_two_keys_is_believed_at_six_blocks(tmp_path: Path) -> None:
    async with network(tmp_path, "bob carol") as net, calling(net["bob"]) as caller:
        await net.connect("bob", "carol")
        short_channel_id = await fund_liar(net)
        await caller.send_raw(
            an_announcement(short_channel_id), an_update(short_channel_id, int(net.clock()))
        )
        await net.mine(4)
        await until_pong(caller)
        await quiet()
        assert not net["bob"].graph.channels
        await net.mine(1)
        for name in ("bob", "carol"):
            await net[name].gossiper.wait_for_graph(lambda graph: len(graph.policies) == 1)
            assert net[name].graph.channels[short_channel_id].capacity_sat == 1_000_000


@bolt("validation.1")
@pytest.mark.parametrize(
    "lie", ["no such block", "no such transaction", "no such output", "another script", "not yet mined"]
)
async def test_a_channel_without_its_output_is_never_believed(tmp_path: Path, lie: str) -> None:
    async with line(tmp_path, "bob carol") as net, calling(net["bob"]) as caller:
        real = net.short_channel_id("bob", "carol")
        block, transaction, output = parts(real)
        short_channel_id = {
            "no such block": scid(block + 100_000, transaction, output),
            "no such transaction": scid(block, transaction + 7, output),
            "no such output": scid(block, transaction, output + 7),
            "another script": scid(block, transaction, 1 - output),
            "not yet mined": scid(block + 6, 1, 0),
        }[lie]
        await caller.send_raw(
            an_announcement(short_channel_id), an_update(short_channel_id, int(net.clock()))
        )
        await until_pong(caller)
        await net.mine(20)
        await quiet()
        for name in ("bob", "carol"):
            assert net[name].graph.channels.keys() == {real}
        assert await answers(caller)


@bolt("validation.1")
async def test_a_spent_output_is_no_channel(tmp_path: Path) -> None:
    async with line(tmp_path, "bob carol") as net:
        [announcement] = net["bob"].gossiper.router.archive.announcements.values()
        updates = net["bob"].gossiper.router.archive.updates.values()
        await net["bob"].close_channel(net.ids["bob", "carol"])
        await closed(net, ("bob", "carol"))
        await net.start("diana")
        async with calling(net["diana"]) as caller:
            await caller.send_raw(announcement, *updates)
            assert await answers(caller)
            await net.mine(6)
            await quiet()
            assert not net["diana"].graph.channels


@bolt("validation.1")
async def test_a_false_signature_costs_a_warning(tmp_path: Path) -> None:
    async with network(tmp_path, "bob") as net, calling(net["bob"]) as caller:
        short_channel_id = await fund_liar(net)
        await net.mine(6)
        spoiled = bytearray(an_announcement(short_channel_id))
        spoiled[40] ^= 1
        await caller.send_raw(bytes(spoiled))
        await caller.expect(Warning)
        assert not net["bob"].graph.channels


@bolt("validation.3", "validation.4")
async def test_a_closed_channel_leaves_everybodys_graph_after_72_blocks(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol diana") as net:
        await net["bob"].close_channel(net.ids["bob", "carol"])
        gone = net.short_channel_id("bob", "carol")
        # both ends say at once that nothing goes through it any more
        await net["diana"].gossiper.wait_for_graph(
            lambda graph: all(graph.policies[gone << 1 | side].is_disabled for side in (0, 1))
        )
        outpoint = net.channel("bob", "carol").charter.funding_outpoint
        await net.chain.wait_for_mempool(lambda chain: chain.is_spent(outpoint))
        await net.mine(FORGET_AFTER_BLOCKS)
        await quiet()
        assert all(gone in node.graph for node in net.nodes.values())
        await net.mine(1)
        await quiet()
        others = {net.short_channel_id(*pair) for pair in (("alice", "bob"), ("carol", "diana"))}
        for node in net.nodes.values():
            assert node.graph.channels.keys() <= others
            assert gone not in node.gossiper.router.archive.announcements


async def test_who_comes_late_is_not_told_of_a_closed_channel(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        await net["bob"].close_channel(net.ids["bob", "carol"])
        outpoint = net.channel("bob", "carol").charter.funding_outpoint
        await net.chain.wait_for_mempool(lambda chain: chain.is_spent(outpoint))
        await net.mine(1)
        await net.start("diana")
        await net.connect("diana", "alice")
        await net["diana"].gossiper.wait_for_graph(lambda graph: len(graph.policies) == 2)
        await quiet()
        assert net["diana"].graph.channels.keys() == {net.short_channel_id("alice", "bob")}


# --- odd questions and odd truths


ODD_QUESTIONS = [
    QueryChannelRange(REGTEST, 0xFFFFFFFF, 0xFFFFFFFF),
    QueryChannelRange(REGTEST, 0, 0),
    QueryChannelRange(REGTEST, 0, 0xFFFFFFFF, query_option=3),
    QueryChannelRange(bytes(32), 0, 1),
    QueryShortChannelIds(REGTEST, b""),
    QueryShortChannelIds(REGTEST, b"\0"),
    QueryShortChannelIds(REGTEST, b"\0" + bytes(7)),
    QueryShortChannelIds(REGTEST, b"\0" + bytes(8000)),
    QueryShortChannelIds(REGTEST, b"\0" + bytes(16), query_flags=EncodedFlags(0, b"\1")),
    QueryShortChannelIds(REGTEST, b"\1" + zlib.compress(bytes(8_000_000))),
    QueryShortChannelIds(bytes(32), b"\0" + bytes(8)),
    ReplyChannelRange(REGTEST, 0, 1, 1, b"\0"),
    ReplyChannelRange(REGTEST, 0, 0, 0, b"\1" + zlib.compress(bytes(8_000_000))),
    ReplyShortChannelIdsEnd(REGTEST, 1),
    GossipTimestampFilter(REGTEST, 0xFFFFFFFF, 0xFFFFFFFF),
]


@bolt("queries.1", "queries.2", "queries.3")
@pytest.mark.parametrize("asked", ODD_QUESTIONS, ids=lambda asked: type(asked).__name__)
async def test_an_odd_question_does_no_harm(tmp_path: Path, asked: Message) -> None:
    async with line(tmp_path, "bob carol") as net, calling(net["bob"]) as caller:
        with suppress(HungUp):
            await caller.send(EVERYTHING, asked, asked)
            await until_pong(caller)
        async with calling(net["bob"], KEYS[0]) as other:
            assert await answers(other)


@bolt("validation.3")
async def test_an_extreme_update_is_believed_and_no_route_breaks_of_it(tmp_path: Path) -> None:
    extreme = {
        "cltv_expiry_delta": 0xFFFF,
        "htlc_minimum_msat": Msat(0),
        "fee_base_msat": 0xFFFFFFFF,
        "fee_proportional_millionths": 0xFFFFFFFF,
        "htlc_maximum_msat": Msat(2_100_000_000_000_000_000),
    }
    async with line(tmp_path, "bob carol") as net, calling(net["bob"]) as caller:
        short_channel_id = await fund_liar(net)
        await net.mine(6)
        now = int(net.clock())
        await caller.send_raw(an_announcement(short_channel_id), an_update(short_channel_id, now, extreme))
        await net["bob"].gossiper.wait_for_graph(lambda graph: len(graph.policies) == 3)
        for payee in (secp256k1.point_of(key) for key in KEYS[:2]):
            with pytest.raises(PaymentFailed):
                await net["bob"].pay(payee, sha256(b"x"), bytes(32), Msat(1_000_000))
        await net.pay("bob", "carol", 1_000_000)
