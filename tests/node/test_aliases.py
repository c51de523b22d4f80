"""Channels that are not announced, by the names their ends gave them; and some that need no block."""

from pathlib import Path

import pytest

from gossip.graph import Channel as GraphChannel
from htlc.channel import Channel
from htlc.opening import ANCHORS_TYPE
from htlc.relay import Toll
from node.daemon.establish import OpeningFailed
from node.daemon.node import Node
from node.daemon.paying import PaymentFailed
from node.daemon.turn import Turn
from tests.bolt import bolt
from tests.node.line import CAPACITY_SAT, Network, line, network
from wire.features import ANCHORS, OUR_INIT, SCID_ALIAS, STATIC_REMOTEKEY, ZEROCONF, Features
from wire.messages.catalogue import decode
from wire.messages.gossip import ChannelUpdate
from wire.units import Msat

AMOUNT_MSAT = 10_000_000
SECRET = Features.of(STATIC_REMOTEKEY, ANCHORS, SCID_ALIAS).to_bytes()
EARLY = Features.of(STATIC_REMOTEKEY, ANCHORS, ZEROCONF).to_bytes()


def hint(net: Network, short_channel_id: int | None) -> None:
    """Let Alice know of the channel between Bob and Carol under this name, as an invoice would."""
    assert short_channel_id is not None
    graph, (low, high) = net["alice"].graph, sorted((net["bob"].node_id, net["carol"].node_id))
    channel = GraphChannel(short_channel_id, low, high, CAPACITY_SAT, is_announced=False)
    graph.add_channel(channel)
    known = net["bob"].graph.policy(
        net.channel("bob", "carol").graph_id or 0, channel.direction_from(net["bob"].node_id)
    )
    assert known is not None
    graph.apply_policy(short_channel_id, channel.direction_from(net["bob"].node_id), known)


async def joined(net: Network, channel_type: bytes | None) -> Channel:
    """A public channel from Alice to Bob, and a private one from Bob to Carol; the latter for Carol."""
    await net.start("alice", "bob", "carol")
    await net.connect("bob", "carol")
    await net.join([("alice", "bob")])
    await net.join([("bob", "carol")], is_announced=False, channel_type=channel_type)
    return net.channel("carol", "bob")


@bolt("channel_ready.3", "own-announcements.4")
@pytest.mark.parametrize("channel_type", [ANCHORS_TYPE, SECRET], ids=["open", "secret"])
async def test_a_private_channel_is_found_by_the_alias_that_payers_were_given(
    tmp_path: Path, channel_type: bytes
) -> None:
    async with network(tmp_path) as net:
        private = await joined(net, channel_type)
        hint(net, private.hint_id)
        await net.pay("alice", "carol", AMOUNT_MSAT)
        assert net.channel("bob", "carol").aliases.local == private.hint_id
        # what its ends told each other names it by the other's own alias, and went no further
        for name, peer in (("bob", "carol"), ("carol", "bob")):
            aliases = net.channel(name, peer).aliases
            graph_id = net.channel(name, peer).graph_id
            assert graph_id is not None
            assert graph_id == aliases.local
            updates = [net[name].gossiper.router.archive.updates[graph_id << 1 | bit] for bit in (0, 1)]
            said = [message for raw in updates if isinstance(message := decode(raw), ChannelUpdate)]
            assert {message.short_channel_id for message in said} == {aliases.local, aliases.remote}
            assert all(message.message_flags == 3 for message in said)
        assert len(net["alice"].gossiper.router.archive.announcements) == 1


@bolt("channel_ready.3")
@pytest.mark.parametrize("channel_type", [ANCHORS_TYPE, SECRET], ids=["open", "secret"])
async def test_the_real_place_is_a_name_only_where_it_is_no_secret(
    tmp_path: Path, channel_type: bytes
) -> None:
    async with network(tmp_path) as net:
        private = await joined(net, channel_type)
        hint(net, private.short_channel_id)
        if channel_type is ANCHORS_TYPE:
            await net.pay("alice", "carol", AMOUNT_MSAT)
        else:
            with pytest.raises(PaymentFailed):
                await net.pay("alice", "carol", AMOUNT_MSAT)


@bolt("channel_ready.3")
async def test_aliases_are_the_same_after_a_restart_and_a_reorganisation(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        private = await joined(net, None)
        assert private.charter.channel_type == SECRET
        await net.stop("bob")
        await net.start("bob")
        await net.connect("alice", "bob")
        await net.connect("bob", "carol")
        await net.chain.reorganise(3, confirm=[])
        await net.follow()
        assert net.channel("carol", "bob").aliases == private.aliases
        hint(net, private.hint_id)
        await net.pay("alice", "carol", AMOUNT_MSAT)


@bolt("own-announcements.4")
async def test_a_new_toll_of_a_private_channel_is_told_to_its_other_end(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob", is_announced=False, channel_type=None) as net:
        alice, bob, channel_id = net["alice"], net["bob"], net.ids["alice", "bob"]
        direction = int(alice.node_id > bob.node_id)
        graph_id = net.channel("bob", "alice").graph_id
        assert graph_id is not None
        alice.switch.tolls[channel_id] = Toll(fee_base_msat=Msat(4321))
        alice.gossiper.tell_toll(channel_id)
        await bob.gossiper.wait_for_graph(
            lambda graph: (
                (policy := graph.policy(graph_id, direction)) is not None and policy.fee_base_msat == 4321
            )
        )


async def test_without_the_feature_a_private_channel_is_an_ordinary_one(tmp_path: Path) -> None:
    features = OUR_INIT.without(SCID_ALIAS, ZEROCONF)
    async with line(tmp_path, "alice bob", features=features, is_announced=False, channel_type=None) as net:
        assert net.channel("alice", "bob").charter.channel_type == ANCHORS_TYPE
        await net.pay("alice", "bob", AMOUNT_MSAT)


@bolt("open_channel.5")
@pytest.mark.parametrize("channel_type", [ANCHORS_TYPE, EARLY], ids=["asked for by nobody", "zeroconf"])
async def test_a_chosen_peers_channel_is_used_before_a_block_comes(
    tmp_path: Path, channel_type: bytes
) -> None:
    async with network(tmp_path, "alice") as net:
        await net.start("bob", zeroconf_peers=frozenset([net["alice"].node_id]))
        await net.fund([("alice", CAPACITY_SAT + 100_000)])
        await net.connect("alice", "bob")
        await net.open("alice", "bob", channel_type=channel_type)
        await net.wait_for_usable()
        assert net.channel("bob", "alice").short_channel_id is None
        await net.pay("alice", "bob", AMOUNT_MSAT)
        await net.pay("bob", "alice", AMOUNT_MSAT)
        await net.wait_for_quiet()
        # once it has a place it is announced as any other, and the payments go on
        await net.mine(6)
        await net.wait_for_gossip()
        assert net.channel("bob", "alice").graph_id == net.short_channel_id("alice", "bob")
        await net.pay("alice", "bob", AMOUNT_MSAT)
        await net.pay("bob", "alice", AMOUNT_MSAT)
        await net.wait_for_quiet()
        net.check_conserved()


@bolt("open_channel.5")
async def test_nobody_else_is_trusted_with_an_unconfirmed_channel(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob") as net:
        await net.fund([("alice", CAPACITY_SAT + 100_000)])
        await net.connect("alice", "bob")
        with pytest.raises(OpeningFailed):
            await net.open("alice", "bob", channel_type=EARLY)
        await net.open("alice", "bob")
        assert net.channel("bob", "alice").charter.minimum_depth_blocks == 3


async def names_on_the_way(node: Node, names: list[int]) -> list[bool]:
    """Which of these the node takes as a way on."""

    def act(turn: Turn) -> list[bool]:
        return [turn.exit_of(name) is not None for name in names]

    return await node.switch.ask(act)


@bolt("channel_ready.3")
async def test_an_alias_means_its_channel_even_where_it_is_announced(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        channel = net.channel("alice", "bob")
        alias = channel.aliases.local
        assert alias is not None
        names = [alias, net.short_channel_id("alice", "bob"), alias + 1, int(Msat(0))]
        assert await names_on_the_way(net["alice"], names) == [True, True, False, False]
