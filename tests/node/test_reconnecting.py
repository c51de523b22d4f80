"""Channels over connections that end and begin, and a chain that changes its mind (BOLT 2, 7)."""

import logging
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
import trio
import trio.testing

from gossip.validation import FORGET_AFTER_BLOCKS
from htlc.channel import Phase
from node.daemon.paying import PaymentFailed
from node.daemon.peer import Peer
from node.daemon.reconnect import FIRST_WAIT_SECONDS, Address, Caller, Unreachable
from node.daemon.switch import Switch
from tests.bolt import bolt
from tests.node.line import Network, line, silent, until
from tests.node.payments import AMOUNT
from wire.codec import Message
from wire.messages.channel import ChannelReestablish, UpdateFee
from wire.scid import parts


@bolt("reestablish.1")
async def test_nothing_is_heard_of_a_channel_before_it_is_taken_up(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        await net.part("alice", "bob")
        silent(net["alice"], ChannelReestablish)
        await net.connect("alice", "bob")
        before = net.channel("bob", "alice")
        net["alice"].switch.peers[net["bob"].node_id].send(UpdateFee(before.id, 2000))
        await until(lambda: not net["bob"].switch.peers)
        assert net.channel("bob", "alice").fee_changes == ()
        assert net.channel("bob", "alice").phase is Phase.NORMAL


@bolt("reestablish.1")
async def test_a_channel_is_taken_up_once_when_one_connection_replaces_another_at_once(
    tmp_path: Path,
) -> None:
    async with line(tmp_path, "alice bob") as net:
        await net.part("alice", "bob")
        switch = net["bob"].switch
        sent: list[tuple[str, Message]] = []

        def connection(name: str) -> Peer:
            peer = SimpleNamespace(
                node_id=net["alice"].node_id,
                is_closing=False,
                outlives=lambda _newer, _our_id: False,
                close=lambda _why: None,
                send=lambda message: sent.append((name, message)),
            )
            return cast(Peer, peer)

        assert switch.add_peer(connection("first"))
        assert switch.add_peer(connection("second"))
        await switch.ask(lambda _: None)
        assert [(name, type(message)) for name, message in sent] == [("second", ChannelReestablish)]


async def test_what_a_peer_said_of_a_channel_that_has_failed_costs_nothing(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        failed = net.channel("alice", "bob")
        await net.join([("alice", "bob")])
        peer = net["alice"].switch.peers[net["bob"].node_id]
        await net["bob"].force_close(failed.id)
        # Alice has not heard of it yet
        peer.send(UpdateFee(failed.id, 2000))
        await net.pay("alice", "bob", AMOUNT)
        assert net["alice"].switch.peers[net["bob"].node_id] is peer
        assert not peer.is_closing


@bolt("reestablish.1", "reestablish.2")
async def test_payments_go_on_while_connections_are_cut_again_and_again(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        outcomes: list[bool] = []

        async def pay(payer: str, payee: str) -> None:
            try:
                await net.pay(payer, payee, AMOUNT)
                outcomes.append(True)
            except PaymentFailed:
                outcomes.append(False)

        for cut in range(1, 12):
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(pay, "alice", "carol")
                    nursery.start_soon(pay, "carol", "alice")
                for _ in range(3 * cut):
                    await trio.lowlevel.checkpoint()
                await net["bob"].disconnect(net[("alice", "carol")[cut % 2]].node_id)
                await until(lambda: any(net["bob"].node_id not in net[name].switch.peers for name in ENDS))
                for name in ENDS:
                    await net.connect(name, "bob")
            await net.wait_for_quiet()
            net.check_conserved()
        assert len(outcomes) == 110
        assert True in outcomes


ENDS = ("alice", "carol")


async def unmined(net: Network, depth: int) -> None:
    """Take so many blocks back; what was in them is mined again three blocks later."""
    await net.chain.reorganise(depth, confirm=())
    await net.follow()
    await net.mine(3)


@bolt("b5-on-chain.1", "own-announcements.1")
async def test_a_funding_output_may_move_to_another_block(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        before = net.short_channel_id("alice", "bob")
        await unmined(net, 6)
        await net.mine(6)
        after = net.short_channel_id("alice", "bob")
        assert after != before
        for node in net.nodes.values():
            await node.gossiper.wait_for_graph(lambda graph: after << 1 in graph.policies)
            await node.gossiper.wait_for_graph(lambda graph: after << 1 | 1 in graph.policies)
        await net.pay("alice", "carol", AMOUNT)
        await net.pay("carol", "alice", AMOUNT)
        await net.wait_for_quiet()
        net.check_conserved()
        # what it was called before is forgotten as a spent channel is
        await net.mine(FORGET_AFTER_BLOCKS)
        await trio.testing.wait_all_tasks_blocked(0.02)
        now = {net.short_channel_id(*pair) for pair in (("alice", "bob"), ("bob", "carol"))}
        assert all(node.graph.channels.keys() == now for node in net.nodes.values())


@bolt("validation.4")
async def test_a_block_that_comes_back_changes_nothing(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        before = net.short_channel_id("alice", "bob")
        regtest = net.chain.regtest
        funding_hash = regtest.block_hash(parts(before)[0])
        assert funding_hash is not None
        funding = regtest.block(funding_hash).transactions[1:]
        await net.chain.reorganise(6, confirm=funding)
        await net.mine(FORGET_AFTER_BLOCKS)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert net.short_channel_id("alice", "bob") == before
        for node in net.nodes.values():
            assert len(node.graph.policies) == 4
            assert not node.gossiper.router._spent
        await net.pay("alice", "carol", AMOUNT)


@bolt("validation.4")
async def test_a_spend_that_is_undone_is_forgotten(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        await net["bob"].close_channel(net.ids["bob", "carol"])
        outpoint = net.channel("bob", "carol").charter.funding_outpoint
        await net.chain.wait_for_mempool(lambda chain: chain.is_spent(outpoint))
        await net.mine(3)
        spent = net["alice"].gossiper.router._spent
        assert len(spent) == 1
        await net.chain.reorganise(3, confirm=())
        await net.follow()
        assert not spent
        height = await net.mine(1)
        assert list(spent.values()) == [height]


# --- calling again, in virtual time


def a_caller(ends_after_seconds: float) -> tuple[Caller, list[float]]:
    """A caller with one channel, whose connections end after so long; and when it called."""
    channel = SimpleNamespace(charter=SimpleNamespace(peer_id=PEER_ID), phase=Phase.NORMAL)
    store = SimpleNamespace(values=lambda _: [msgspec.msgpack.encode(ADDRESS)])
    switch = SimpleNamespace(peers={}, channels={b"": channel}, store=store)
    calls: list[float] = []

    async def call(address: Address) -> None:
        assert address == ADDRESS
        calls.append(trio.current_time())
        switch.peers[PEER_ID] = None
        await caller.remember(address)

    async def lose() -> None:
        await trio.sleep(ends_after_seconds)
        switch.peers.clear()
        await caller.call_again(PEER_ID)

    caller = Caller(cast("Switch", switch), call)
    caller.lose = lose  # type: ignore[attr-defined]
    return caller, calls


PEER_ID = bytes(33)
ADDRESS = Address(PEER_ID, "127.0.0.1", 1)


async def test_who_hangs_up_at_once_is_called_less_and_less(autojump_clock: trio.testing.MockClock) -> None:
    caller, calls = a_caller(ends_after_seconds=0.1)
    for _ in range(15):
        await caller.lose()  # type: ignore[attr-defined]
    waits = [after - before for before, after in pairwise(calls)]
    assert all(after > before for before, after in pairwise(waits[:7]))
    assert 40 < waits[-1] < 80


async def test_who_stayed_a_while_is_called_at_once(autojump_clock: trio.testing.MockClock) -> None:
    caller, calls = a_caller(ends_after_seconds=10)
    for _ in range(5):
        await caller.lose()  # type: ignore[attr-defined]
    assert [after - before for before, after in pairwise(calls)] == [10, 10, 10, 10]


# --- both know where the other is, and both call


async def restart_both(net: Network, ports: dict[str, int]) -> None:
    for name in ports:
        net.kill(name)
    for name in ports:
        await net.wait_for_death(name)
    async with trio.open_nursery() as nursery:
        for name, port in ports.items():
            nursery.start_soon(partial(net.start, name, port=port))


@pytest.mark.slow
@bolt("framing-tlv.1", "reestablish.1")
async def test_two_that_call_each_other_at_once_keep_one_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each restart costs at most the two calls that cross; nobody hears of the one that is dropped."""
    async with line(tmp_path, "alice bob") as net:
        ports = {name: net[name].port for name in ("alice", "bob")}
        await net.part("alice", "bob")
        await net.connect("bob", "alice")
        # now both have the other's address
        for _ in range(3):
            await restart_both(net, ports)
            alice, bob = ends = net["alice"], net["bob"]
            with caplog.at_level(logging.INFO):
                caplog.clear()
                await until(lambda ends=ends: all(node.switch.live for node in ends))  # type: ignore[misc]
                kept = [alice.switch.peers[bob.node_id], bob.switch.peers[alice.node_id]]
                assert kept[0].we_called is not kept[1].we_called
                # as long as it takes to hang up and call again, several times over
                await trio.testing.wait_all_tasks_blocked(2 * FIRST_WAIT_SECONDS)
                assert [alice.switch.peers[bob.node_id], bob.switch.peers[alice.node_id]] == kept
                assert not any(peer.is_closing for peer in kept)
            assert not [record.message for record in caplog.records]
            await net.pay("alice", "bob", AMOUNT)
            await net.pay("bob", "alice", AMOUNT)
        await net.wait_for_quiet()
        net.check_conserved()


async def test_who_cannot_be_reached_is_said_once(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caller, _ = a_caller(ends_after_seconds=1)
    tries = 0

    async def call(address: Address) -> None:
        nonlocal tries
        tries += 1
        if tries == 8:
            caller._switch.channels.clear()
        raise Unreachable(address.host, address.port, "nobody listens")

    caller._call = call
    with caplog.at_level(logging.INFO):
        await caller.call_again(PEER_ID)
    assert tries == 8
    assert [record.message for record in caplog.records] == ["a peer cannot be reached"]
