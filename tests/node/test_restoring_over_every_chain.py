"""Lost, restored, closed by the peer, swept: over each backend, with every satoshi accounted for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from htlc.channel import Channel, Phase
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE
from node.chain.interface import BlockConnected
from node.daemon.backup import FILE_NAME
from node.daemon.node import Node, NodeConfig
from tests.bolt import bolt
from tests.node.backends import Backend
from wire.bitcoin.tx import OutPoint, TxOut
from wire.crypto.hashes import sha256
from wire.units import Msat, Sat

FUNDS_SAT = Sat(11_000_000)
CAPACITY_SAT = Sat(10_000_000)
PUSH_MSAT = Msat(4_000_000_000)
AMOUNT_MSAT = Msat(100_000_000)
ANCHOR_SAT = 330
DELAY_BLOCKS = 6
LOOK_SECONDS = 0.01
PATIENCE_SECONDS = 90


@asynccontextmanager
async def running(backend: Backend, directory: Path) -> AsyncIterator[Node]:
    """A node whose seed is told by its directory's name."""
    seed = sha256(directory.name.encode(), str(directory).encode())
    config = NodeConfig(directory, seed=seed, to_self_delay_blocks=DELAY_BLOCKS)
    async with trio.open_nursery() as nursery:
        node = Node(config, backend.chain())
        await nursery.start(node.run)
        yield node
        nursery.cancel_scope.cancel()


async def mine(backend: Backend, *nodes: Node, count: int = 1) -> int:
    height = await backend.mine(count)
    for node in nodes:
        await node.watcher.wait_for_height(height)
    return height


async def mine_until(backend: Backend, *nodes: Node, phase: Phase) -> None:
    """Mine, each block with what the nodes make of the one before, until their channels are there."""
    while not all(channel.phase is phase for node in nodes for channel in node.channels()):
        await mine(backend, *nodes)
        await trio.sleep(LOOK_SECONDS)


async def opened(backend: Backend, alice: Node, bob: Node, channel_type: bytes) -> Channel:
    """A channel from Alice to Bob, who has paid her some of his share back."""
    await backend.fund_many([TxOut(FUNDS_SAT, await node.new_script()) for node in (alice, bob)])
    await mine(backend, alice, bob)
    await alice.connect(bob.node_id, "127.0.0.1", bob.port)
    channel = await alice.open_channel(bob.node_id, CAPACITY_SAT, PUSH_MSAT, channel_type=channel_type)
    while channel.charter.funding_outpoint.txid not in await backend.waiting():  # noqa: ASYNC110
        await trio.sleep(LOOK_SECONDS)
    await mine(backend, alice, bob, count=6)
    for node in (alice, bob):
        await node.wait_for_channels(lambda channels: all(c.is_usable for c in channels))
        await node.gossiper.wait_for_graph(lambda graph: len(graph.policies) == 2)
    invoice = await alice.add_invoice(AMOUNT_MSAT, "a film")
    await bob.pay_invoice(alice.bolt11(invoice))
    for node in (alice, bob):
        await node.wait_for_channels(lambda channels: not any(list(c.all_htlcs()) for c in channels))
    return alice.channels()[0]


async def accounted(backend: Backend, since: int, tip: int, *nodes: Node) -> tuple[int, int, int]:
    """What the nodes own, what their transactions left to anybody, and what they paid miners."""
    owned = {coin.outpoint: coin.value_sat for node in nodes for coin in node.wallet.coins()}
    values: dict[OutPoint, int] = {}
    spent: set[OutPoint] = set()
    fees_sat = 0
    async for event in backend.chain().follow(since):
        assert isinstance(event, BlockConnected)
        for tx in event.transactions[1:]:
            outputs = {tx.outpoint(index): output.value_sat for index, output in enumerate(tx.outputs)}
            inputs = [txin.outpoint for txin in tx.inputs]
            if all(outpoint in values for outpoint in inputs):
                fees_sat += sum(values[outpoint] for outpoint in inputs) - sum(outputs.values())
                values |= outputs
            elif FUNDS_SAT in outputs.values():
                # the gift that everything began with
                values |= {outpoint: value for outpoint, value in outputs.items() if value == FUNDS_SAT}
            spent.update(inputs)
        if event.height == tip:
            break
    left = {outpoint: value for outpoint, value in values.items() if outpoint not in spent | owned.keys()}
    return sum(owned.values()), sum(left.values()), fees_sat


@bolt("reestablish.7")
@pytest.mark.slow
@pytest.mark.parametrize(
    "channel_type", [ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE], ids=["anchors", "static_remotekey"]
)
async def test_nothing_is_lost_with_a_disk(backend: Backend, tmp_path: Path, channel_type: bytes) -> None:
    kept = tmp_path / "kept"
    with trio.fail_after(PATIENCE_SECONDS):
        async with running(backend, tmp_path / "bob") as bob:
            since = (await backend.chain().tip()).height + 1
            async with running(backend, tmp_path / "alice") as alice:
                before = await opened(backend, alice, bob, channel_type)
                before_sat = alice.balance_sat.confirmed_sat
                (tmp_path / "alice" / FILE_NAME).rename(kept)
            (tmp_path / "alice").rename(tmp_path / "lost")
            (tmp_path / "alice").mkdir()
            kept.rename(tmp_path / "alice" / FILE_NAME)
            async with running(backend, tmp_path / "alice") as alice:
                await mine_until(backend, alice, bob, phase=Phase.CLOSED)
                while alice.channels() == []:  # noqa: ASYNC110
                    await trio.sleep(LOOK_SECONDS)
                await mine_until(backend, alice, bob, phase=Phase.CLOSED)
                gained_sat = alice.balance_sat.confirmed_sat - before_sat
                tip = await mine(backend, alice, bob)
                owned_sat, left_sat, fees_sat = await accounted(backend, since, tip, alice, bob)
    assert owned_sat + left_sat + fees_sat == 2 * FUNDS_SAT
    assert left_sat == (2 * ANCHOR_SAT if channel_type == ANCHORS_TYPE else 0)
    assert before.settled_msat.local == Msat(10_000_000_000 - PUSH_MSAT + AMOUNT_MSAT)
    assert 0 <= before.settled_msat.local // 1000 - gained_sat <= fees_sat + left_sat
