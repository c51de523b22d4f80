"""A live node, and a peer that has shaken hands and then sends whatever comes to its mind."""

import random
import resource
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from node.chain.embedded import EmbeddedChain
from node.daemon.node import Node, NodeConfig
from node.daemon.peer import Peer, PeerGone, call
from node.daemon.signer import Signer
from tests.fuzz.engine import mutated
from tests.fuzz.targets import targets
from wire.bitcoin.block import CHAIN_HASH
from wire.features import OUR_INIT
from wire.messages.base import Init
from wire.messages.catalogue import MESSAGES

MESSAGES_PER_CONNECTION = 200
MOST_GROWTH_MIB = 200


class NodeBroke(Exception):
    """The node did not outlive its peer."""


async def fuzz_node(seconds: float, seed: int) -> int:
    """Send for so long; how many messages were sent.

    Raises:
        NodeBroke: the node no longer answers, or its memory grew without bound.
    """
    dice = random.Random(seed)
    with TemporaryDirectory() as folder, EmbeddedChain() as chain:
        node = Node(NodeConfig(Path(folder), seed=b"\x01" * 32), chain)
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            sent = await _attack(node, dice, seconds)
            grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
            if grown_mib > MOST_GROWTH_MIB:
                raise NodeBroke(f"its memory grew by {grown_mib:.0f} MiB")
            nursery.cancel_scope.cancel()
    return sent


async def _attack(node: Node, dice: random.Random, seconds: float) -> int:
    seeds, sent, end = targets()["message"].seeds, 0, trio.current_time() + seconds
    while trio.current_time() < end:
        with trio.move_on_after(30) as scope:
            sent += await _one_connection(node, dice, seeds)
        if scope.cancelled_caught:
            raise NodeBroke("it stopped answering")
    return sent


async def _one_connection(node: Node, dice: random.Random, seeds: list[bytes]) -> int:
    peer = await _connected(node, dice)
    count = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.run, lambda *_: None, {})
        for _ in range(dice.randint(1, MESSAGES_PER_CONNECTION)):
            try:
                await peer.send_bulk(_invented(dice, seeds))
            except PeerGone:
                break
            count += 1
        peer.close("enough")
    return count


async def _connected(node: Node, dice: random.Random) -> Peer:
    stream = await trio.open_tcp_stream("127.0.0.1", node.port)
    init = Init(features=OUR_INIT.to_bytes(), networks=(CHAIN_HASH["regtest"],))
    return await call(stream, Signer(dice.randbytes(32)), node.node_id, init)


def _invented(dice: random.Random, seeds: list[bytes]) -> bytes:
    number = dice.choice([*MESSAGES, 0, 7, 99, 32769, 65535]).to_bytes(2, "big")
    if dice.random() < 0.3:
        return number + dice.randbytes(dice.randint(0, 2000))
    raw = mutated(dice.choice(seeds), dice)[:60_000]
    return raw if dice.random() < 0.5 and len(raw) > 1 else number + raw[2:]
