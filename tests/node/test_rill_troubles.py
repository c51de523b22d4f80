"""Troubles of a node that runs as a process: its chain goes away, its database is an old one."""

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest
import trio

from node.daemon.backup import FILE_NAME
from node.daemon.node import DATABASE_NAME
from tests.bolt import bolt
from tests.node.backends import OverRpc, RillChain
from tests.node.conftest import _free_port
from tests.node.processes import READY, RillNode, until
from tests.node.relay_ground import Bitcoind, installed_bitcoind
from tests.node.test_rill_node import no_process_outlives_its_test
from wire.bitcoin.address import script_of
from wire.bitcoin.tx import TxOut
from wire.units import Sat

__all__ = ["no_process_outlives_its_test"]

CAPACITY_SAT, PUSH_SAT = 10_000_000, 4_000_000
FUNDS_SAT = Sat(11_000_000)
FEES_SAT = 20_000
PATIENCE_SECONDS = 120
LOOK_SECONDS = 0.02


class Ground:
    """A chain that can be stopped and started again, and Alice and Bob on it with a channel."""

    def __init__(self, directory: Path, start: Callable[[int], Bitcoind]) -> None:
        self.directory, self.port, self._start = directory, _free_port(), start
        self.server = start(self.port)
        self.backend = OverRpc(self.server)
        self.nodes: dict[str, RillNode] = {}
        for name in ("alice", "bob"):
            self.run(name)

    def run(self, name: str) -> RillNode:
        """Start the node of that name."""
        node = RillNode(self.directory / name, self.port)
        node.wait_for(READY)
        self.nodes[name] = node
        return node

    def __getitem__(self, name: str) -> RillNode:
        return self.nodes[name]

    async def stop_chain(self) -> None:
        """Stop the chain; return once it answers nobody."""
        self.server.close()
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", self.port)
            except OSError:
                return
            await stream.aclose()
            await trio.sleep(LOOK_SECONDS)

    async def start_chain(self) -> None:
        """Start it where it stood."""
        while True:
            try:
                self.server = self._start(self.port)
            except subprocess.CalledProcessError:
                # a bitcoind that was stopped keeps its directory until all of it is written
                await trio.sleep(LOOK_SECONDS)
            else:
                return

    async def mine(self, count: int = 1) -> None:
        """Mine, and return when every node that runs has read it."""
        height = await self.backend.mine(count)
        for node in self.nodes.values():

            async def has_followed(node: RillNode = node) -> bool:
                return bool((await node.call("getinfo"))["blockheight"] == height)

            await until(has_followed)

    async def open(self) -> None:
        """A channel from Alice to Bob."""
        alice, bob = self["alice"], self["bob"]
        address = (await alice.call("newaddr"))["bech32"]
        await self.backend.fund_many([TxOut(FUNDS_SAT, script_of(address, "regtest"))])
        await self.mine()
        bob_id, [where] = (await bob.call("getinfo"))["id"], (await bob.call("getinfo"))["binding"]
        await alice.call("connect", id=bob_id, host=where["address"], port=where["port"])
        await alice.call("fundchannel", id=bob_id, amount=CAPACITY_SAT, push_msat=f"{PUSH_SAT}sat")
        await self.mine_when_waiting(6)
        for node in (alice, bob):
            await until_state(node, "CHANNELD_NORMAL")

    async def mine_when_waiting(self, count: int = 1) -> None:
        while not await self.backend.waiting():  # noqa: ASYNC110 - a mempool tells nobody
            await trio.sleep(LOOK_SECONDS)
        await self.mine(count)

    async def pay(self, payer: str, payee: str, amount_sat: int, label: str) -> None:
        invoice = await self[payee].call(
            "invoice", amount_msat=f"{amount_sat}sat", label=label, description="a film"
        )
        await self[payer].call("pay", bolt11=invoice["bolt11"])

    def close(self) -> None:
        for node in self.nodes.values():
            node.end()
        self.server.close()


async def until_state(node: RillNode, wanted: str) -> None:
    async def is_so() -> bool:
        channels = (await node.call("listpeerchannels"))["channels"]
        return bool(channels) and all(channel["state"] == wanted for channel in channels)

    await until(is_so)


async def confirmed_sat(node: RillNode) -> int:
    outputs = (await node.call("listfunds"))["outputs"]
    return sum(int(output["amount_msat"]) for output in outputs if output["status"] == "confirmed") // 1000


@contextmanager
def ground(kind: str, directory: Path) -> Iterator[Ground]:
    chain = directory / "chain"
    chain.mkdir()
    if kind == "served":
        made = Ground(directory, lambda port: RillChain(chain, port))
    else:
        program = installed_bitcoind()
        made = Ground(directory, lambda port: Bitcoind(program, chain, port))
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "is_killed"), [("served", True), ("served", False), ("bitcoind", False)])
@bolt("b5-on-chain.2")
async def test_what_could_not_be_published_is_when_the_chain_returns(
    tmp_path: Path, kind: str, is_killed: bool
) -> None:
    with ground(kind, tmp_path) as net, trio.fail_after(PATIENCE_SECONDS):
        await net.open()
        alice = net["alice"]
        net["bob"].end()
        del net.nodes["bob"]
        await net.stop_chain()
        # without a chain and without a peer: the node answers, and goes to chain alone
        [channel] = (await alice.call("listpeerchannels"))["channels"]
        closed = await alice.call("close", id=channel["channel_id"], unilateraltimeout=1)
        assert closed["type"] == "unilateral"
        if is_killed:
            alice.end(signal.SIGKILL)
        await net.start_chain()
        if is_killed:
            net.run("alice")
        await net.mine_when_waiting()
        await until_state(net["alice"], "ONCHAIN")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["served", "bitcoind"])
async def test_channels_live_on_while_the_chain_is_away(tmp_path: Path, kind: str) -> None:
    with ground(kind, tmp_path) as net, trio.fail_after(PATIENCE_SECONDS):
        await net.open()
        await net.stop_chain()
        await net.pay("alice", "bob", 1000, "while it is away")
        await net.start_chain()
        await net.mine(2)
        await net.pay("bob", "alice", 500, "when it is back")


@pytest.mark.slow
@bolt("reestablish.7")
async def test_a_node_with_an_old_database_does_not_broadcast(tmp_path: Path) -> None:
    with ground("served", tmp_path) as net, trio.fail_after(PATIENCE_SECONDS):
        await net.open()
        await net.pay("alice", "bob", 1000, "before")
        net["alice"].end()
        home, copy = tmp_path / "alice", tmp_path / "copy"
        shutil.copytree(home, copy)
        net.run("alice")
        await until_state(net["alice"], "CHANNELD_NORMAL")
        await net.pay("alice", "bob", 2_000_000, "after")
        net["alice"].end(signal.SIGKILL)
        shutil.rmtree(home)
        shutil.copytree(copy, home)
        (home / "regtest" / FILE_NAME).unlink()
        before_sat = await confirmed_sat(net.run("alice"))

        async def is_behind() -> bool:
            [channel] = (await net["alice"].call("listpeerchannels"))["channels"]
            return bool(channel["lost_state"])

        await until(is_behind)
        await net.mine_when_waiting()
        await until_state(net["alice"], "ONCHAIN")
        await net.mine_when_waiting(6)
        # what it remembers was revoked: had it published that, all would be Bob's
        gained_sat = await confirmed_sat(net["alice"]) - before_sat
        newest_sat = CAPACITY_SAT - PUSH_SAT - 1000 - 2_000_000
        assert 0 <= newest_sat - gained_sat <= FEES_SAT


@pytest.mark.slow
def test_a_database_of_another_version_is_one_sentence(tmp_path: Path) -> None:
    directory = tmp_path / "alice"
    first = RillNode(directory, 0, "--chain=embedded")
    first.wait_for(READY)
    assert first.end() == 0
    database = apsw.Connection(str(directory / "regtest" / DATABASE_NAME))
    database.execute("pragma user_version=0")
    database.close()
    again = RillNode(directory, 0, "--chain=embedded")
    assert again.code() == 1
    said = "".join(again.said)
    [line] = [line for line in said.splitlines() if line.startswith("rill: ")]
    assert line.endswith("and this one reads format 1; start the version that wrote it")
    assert "Traceback" not in said
