"""BOLT 4, onion messages between nodes: over whom they pass, and what is dropped on the way."""

from pathlib import Path

import pytest
import trio

from node.daemon.messenger import MESSAGES_PER_SECOND, MOST_AT_ONCE, MOST_PEERS, Allowance, Allowances
from node.daemon.node import Node
from node.daemon.peer import PeerGone
from onion.blinded import RecipientData, blind, encode_recipient_data
from onion.message import INVOICE_REQUEST, Arrived, build_message
from tests.bolt import bolt
from tests.node.caller import answers, calling
from tests.node.line import Network, line, network, until
from wire.blinded_path import BlindedPath
from wire.crypto.hashes import sha256
from wire.crypto.secp256k1 import Point
from wire.messages.onion import OnionMessage
from wire.scid import scid

SECRET = sha256(b"a path's secret")
PATH_ID = b"who asks"
RECORDS = {INVOICE_REQUEST: b"a cup of tea"}


def path_over(nodes: list[Point], *onward: RecipientData) -> BlindedPath:
    """A path over these nodes to the last of them."""
    told = [*onward, RecipientData(path_id=PATH_ID)]
    return blind(SECRET, list(zip(nodes, map(encode_recipient_data, told), strict=True)))


def over(net: Network, *names: str) -> BlindedPath:
    """A path over these nodes that names the next by its id."""
    ids = [net[name].node_id for name in names]
    return path_over(ids, *[RecipientData(next_node_id=node_id) for node_id in ids[1:]])


class Heard:
    """What arrives at a node."""

    def __init__(self, node: Node) -> None:
        self.all: list[Arrived] = []
        node.messenger.on_arrived.append(self.all.append)

    async def next(self) -> Arrived:
        await until(lambda: bool(self.all))
        return self.all.pop(0)


@bolt("onion-messages.1", "onion-messages.3")
async def test_a_message_passes_over_nodes_without_channels_and_so_does_its_answer(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob carol") as net:
        await net.connect("alice", "bob")
        await net.connect("bob", "carol")
        at_carol, at_alice = Heard(net["carol"]), Heard(net["alice"])
        net["alice"].messenger.send(over(net, "bob", "carol"), RECORDS, over(net, "bob", "alice"))
        arrived = await at_carol.next()
        assert (arrived.records, arrived.path_id) == (RECORDS, PATH_ID)
        assert arrived.reply_path is not None
        net["carol"].messenger.send(arrived.reply_path, {INVOICE_REQUEST: b"with milk?"})
        assert (await at_alice.next()).records == {INVOICE_REQUEST: b"with milk?"}


@bolt("onion-messages.1", "channel_ready.3")
@pytest.mark.parametrize("is_announced", [True, False], ids=["public", "private"])
async def test_the_next_node_may_be_named_by_a_channel(tmp_path: Path, is_announced: bool) -> None:
    async with line(tmp_path, "alice bob carol", is_announced=is_announced, channel_type=None) as net:
        heard = Heard(net["carol"])
        channel = net.channel("bob", "carol")
        for name in (*channel.exit_ids(), channel.short_channel_id, scid(1, 2, 3)):
            path = path_over([net["bob"].node_id, net["carol"].node_id], RecipientData(short_channel_id=name))
            net["alice"].messenger.send(path, RECORDS)
        net["alice"].messenger.send(over(net, "bob", "carol"), {INVOICE_REQUEST: b"the last"})
        arrived = [(await heard.next()).records]
        while arrived[-1] == RECORDS:
            arrived.append((await heard.next()).records)
        # a public channel is known by both of its names, a secret one by its alias alone
        assert len(arrived) - 1 == (3 if is_announced else 1)


@bolt("onion-messages.2")
async def test_what_cannot_be_passed_on_is_dropped_in_silence(tmp_path: Path) -> None:
    async with network(tmp_path, "bob") as net, calling(net["bob"]) as caller:
        bob, nobody = net["bob"].node_id, Point(bytes.fromhex("02" + "79" * 32))
        path = path_over([bob, caller.node_id], RecipientData(next_node_id=nobody))
        packet = build_message(SECRET, path, RECORDS)
        for spoiled in (
            OnionMessage(path.first_path_key, packet),
            OnionMessage(path.first_path_key, packet[:-1] + bytes([packet[-1] ^ 1])),
            OnionMessage(path.first_path_key, b""),
            OnionMessage(path.first_path_key, bytes(60_000)),
        ):
            await caller.send(spoiled)
        assert await answers(caller)


async def test_who_is_not_there_can_be_sent_nothing(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob") as net:
        with pytest.raises(PeerGone):
            net["alice"].messenger.send(over(net, "bob"), RECORDS)


async def test_a_peer_may_send_only_so_much(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob") as net, calling(net["bob"]) as caller:
        heard = Heard(net["bob"])
        path = over(net, "bob")
        message = OnionMessage(path.first_path_key, build_message(SECRET, path, RECORDS))
        before = trio.current_time()
        for _ in range(10):
            await caller.send(*[message] * MOST_AT_ONCE)
            assert await answers(caller)
        most = MOST_AT_ONCE + (trio.current_time() - before) * MESSAGES_PER_SECOND
        assert MOST_AT_ONCE <= len(heard.all) <= most + 1
        # which costs others nothing
        await net.connect("alice", "bob")
        heard.all.clear()
        net["alice"].messenger.send(over(net, "bob"), RECORDS)
        await heard.next()


def test_an_allowance_fills_up_again_and_not_beyond() -> None:
    allowance = Allowance(0)
    assert sum(allowance.take(0) for _ in range(2 * MOST_AT_ONCE)) == MOST_AT_ONCE
    assert sum(allowance.take(1) for _ in range(2 * MOST_AT_ONCE)) == MESSAGES_PER_SECOND
    assert sum(allowance.take(1e6) for _ in range(2 * MOST_AT_ONCE)) == MOST_AT_ONCE


def test_allowances_are_kept_of_so_many_peers_and_no_more() -> None:
    allowances = Allowances()
    assert sum(allowances.take(b"first", 0) for _ in range(2 * MOST_AT_ONCE)) == MOST_AT_ONCE
    for number in range(MOST_PEERS - 1):
        assert allowances.take(number.to_bytes(33, "big"), 0)
    assert not allowances.take(b"first", 0)
    assert allowances.take(b"one more", 0)
    assert allowances.take(b"first", 0)
