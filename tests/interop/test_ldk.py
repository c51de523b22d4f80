"""Rill and LDK, an independent implementation, on one bitcoind (anchors and static_remotekey)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from htlc.channel import Channel, Phase
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE
from node.daemon.node import Node, NodeConfig
from tests.interop.bitcoin import Bitcoind
from tests.interop.ldk_peer import LdkPeer, start_ldk
from wire.bitcoin.address import address_of
from wire.units import Msat, Sat

HOST = "127.0.0.1"
CAPACITY_SAT = Sat(1_000_000)
PUSH_MSAT = Msat(400_000_000)
PATIENCE_SECONDS = 60


class Stage:
    """One bitcoind, and nodes of both kinds on it."""

    def __init__(
        self, bitcoind: Bitcoind, nursery: trio.Nursery, modules: Path, ports: Callable[[], int], folder: Path
    ) -> None:
        self.bitcoind, self._nursery, self._modules = bitcoind, nursery, modules
        self._ports, self._folder = ports, folder
        self.ours: list[Node] = []
        self.theirs: list[LdkPeer] = []

    async def rill(self, name: str) -> Node:
        """A node of ours with a bitcoin."""
        chain = self.bitcoind.chain()
        await chain.check()
        node = Node(NodeConfig(self._folder / name, alias=name), chain)
        await self._nursery.start(node.run)
        self.ours.append(node)
        await self.bitcoind.pay(address_of(await node.new_script(), "regtest"), 100_000_000)
        await self.mine(1)
        return node

    async def ldk(self, name: str, *, anchors: bool) -> LdkPeer:
        """A node of theirs with a bitcoin."""
        await self.bitcoind.wallet(name, 100_000_000, 4)
        await self.bitcoind.mine(1)
        peer = await start_ldk(
            self._nursery, name, self._modules, self.bitcoind.url, self._ports(), anchors=int(anchors)
        )
        self.theirs.append(peer)
        return peer

    async def mine(self, count: int) -> None:
        """Mine, and wait until everybody knows."""
        height = await self.bitcoind.mine(count)
        for node in self.ours:
            await node.watcher.wait_for_height(height)
        for peer in self.theirs:
            await peer("sync")

    async def confirm(self, count: int) -> None:
        """Mine once the mempool has what was broadcast."""
        while len(await self.bitcoind.call("getrawmempool")) < count:  # noqa: ASYNC110 - bitcoind tells nobody
            await trio.sleep(0.02)
        await self.mine(6)

    async def close(self) -> None:
        for peer in self.theirs:
            await peer.stop()


@pytest.fixture
async def stage(
    bitcoind: Bitcoind,
    nursery: trio.Nursery,
    ldk_modules: Path,
    free_port: Callable[[], int],
    tmp_path: Path,
) -> AsyncIterator[Stage]:
    stage = Stage(bitcoind, nursery, ldk_modules, free_port, tmp_path)
    with trio.fail_after(4 * PATIENCE_SECONDS):
        yield stage
        await stage.close()
    nursery.cancel_scope.cancel()


def _all_usable(count: int) -> Callable[[list[Channel]], bool]:
    return lambda channels: len(channels) == count and all(channel.is_usable for channel in channels)


async def _usable(node: Node, count: int) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        await node.wait_for_channels(_all_usable(count))


async def _quiet(node: Node) -> None:
    """Wait until no HTLC is on any ladder."""
    with trio.fail_after(PATIENCE_SECONDS):
        await node.wait_for_channels(
            lambda channels: not any(htlc for channel in channels for htlc in channel.all_htlcs())
        )


async def _sees(node: Node, channels: int) -> None:
    """Wait until the node knows both directions of so many announced channels."""
    with trio.fail_after(PATIENCE_SECONDS):
        await node.gossiper.wait_for_graph(
            lambda graph: (
                len(graph.channels) == channels
                and all(channel.is_announced for channel in graph.channels.values())
                and all(graph.policy(scid, direction) for scid in graph.channels for direction in (0, 1))
            )
        )


async def _they_see(peer: LdkPeer, channels: int) -> None:
    await peer("announce_node")
    await peer.until(
        "list_graph", lambda graph: (graph["channels"], graph["directions"]) == (channels, 2 * channels)
    )


async def _together(acts: list[Callable[[], Awaitable[None]]]) -> None:
    async with trio.open_nursery() as nursery:
        for act in acts:
            nursery.start_soon(act)


@pytest.mark.slow
@pytest.mark.parametrize("anchors", [True, False], ids=["anchors", "static_remotekey"])
async def test_channels_of_either_opener_carry_payments_both_ways_and_close(
    stage: Stage, anchors: bool
) -> None:
    ldk, rill = await stage.ldk("theirs", anchors=anchors), await stage.rill("ours")
    await rill.connect(ldk.node_id, HOST, ldk.port)
    channel_type = ANCHORS_TYPE if anchors else STATIC_REMOTEKEY_TYPE
    await rill.open_channel(ldk.node_id, CAPACITY_SAT, PUSH_MSAT, channel_type=channel_type)
    await stage.confirm(1)
    await _usable(rill, 1)
    await ldk("open_channel", id=rill.node_id.hex(), sat=CAPACITY_SAT, push_msat=PUSH_MSAT, announced=True)
    await stage.confirm(1)
    await _usable(rill, 2)
    assert {channel.charter.channel_type for channel in rill.channels()} == {channel_type}
    await _sees(rill, 2)
    await _they_see(ldk, 2)

    await rill.pay_invoice((await ldk("invoice", msat=5_000_000, desc="to them"))["bolt11"])
    row = await rill.add_invoice(Msat(7_000_000), "to us")
    assert (await ldk("pay", bolt11=rill.bolt11(row)))["status"] == "sent"
    any_amount = await rill.add_invoice(None, "as you like")
    assert (await ldk("pay", bolt11=rill.bolt11(any_amount), msat=1234))["status"] == "sent"
    assert (await ldk("keysend", id=rill.node_id.hex(), msat=123_456))["status"] == "sent"
    await rill.keysend(ldk.node_id, Msat(222_000))
    paid_msat = -5_000_000 + 7_000_000 + 1234 + 123_456 - 222_000
    await _quiet(rill)
    start_msat = int(PUSH_MSAT) + CAPACITY_SAT * 1000 - PUSH_MSAT
    assert rill.channel_balance_msat == start_msat + paid_msat

    for channel in rill.channels():
        await rill.close_channel(channel.id)
    with trio.fail_after(PATIENCE_SECONDS):
        await rill.wait_for_channels(
            lambda channels: all(c.phase in (Phase.CLOSING, Phase.CLOSED) for c in channels)
        )
    await stage.confirm(2)
    with trio.fail_after(PATIENCE_SECONDS):
        await rill.wait_for_channels(lambda channels: all(c.phase is Phase.CLOSED for c in channels))


@pytest.mark.slow
async def test_a_hundred_payments_with_thirty_in_flight(stage: Stage) -> None:
    ldk, rill = await stage.ldk("theirs", anchors=True), await stage.rill("ours")
    await rill.connect(ldk.node_id, HOST, ldk.port)
    channel = await rill.open_channel(ldk.node_id, CAPACITY_SAT, PUSH_MSAT)
    await stage.confirm(1)
    await _usable(rill, 1)
    await _sees(rill, 1)
    slots = trio.CapacityLimiter(30)

    async def pay(number: int) -> None:
        async with slots:
            invoice = await ldk("invoice", msat=1_000_000 + number, desc=str(number))
            await rill.pay_invoice(invoice["bolt11"])

    await _together([partial(pay, number) for number in range(100)])
    await _quiet(rill)
    [after] = [each for each in rill.channels() if each.id == channel.id]
    paid_msat = sum(1_000_000 + number for number in range(100))
    assert after.settled_msat.local == CAPACITY_SAT * 1000 - PUSH_MSAT - paid_msat


@pytest.mark.slow
async def test_payments_pass_over_us_and_over_them(stage: Stage) -> None:
    """LDK one – Rill one – LDK two – Rill two: each implementation forwards for the other."""
    one, two = await stage.ldk("one", anchors=True), await stage.ldk("two", anchors=True)
    first, last = await stage.rill("first"), await stage.rill("last")
    await first.connect(one.node_id, HOST, one.port)
    await first.connect(two.node_id, HOST, two.port)
    await last.connect(two.node_id, HOST, two.port)
    await first.open_channel(one.node_id, CAPACITY_SAT, PUSH_MSAT)
    await first.open_channel(two.node_id, CAPACITY_SAT, PUSH_MSAT)
    await last.open_channel(two.node_id, CAPACITY_SAT, PUSH_MSAT)
    await stage.confirm(3)
    await _usable(first, 2)
    await _usable(last, 1)
    for node in (first, last):
        await _sees(node, 3)
    for peer in (one, two):
        await _they_see(peer, 3)

    invoice = await two("invoice", msat=5_000_000, desc="over us")
    assert (await one("pay", bolt11=invoice["bolt11"]))["status"] == "sent"
    assert first.switch.ledger.fees_msat > 0
    row = await last.add_invoice(Msat(6_000_000), "over them")
    over_them = await first.pay_invoice(last.bolt11(row))
    assert over_them.route == (two.node_id, last.node_id)
    assert over_them.fee_msat > 0
    row = await last.add_invoice(Msat(7_000_000), "over us and them")
    assert (await one("pay", bolt11=last.bolt11(row)))["status"] == "sent"
