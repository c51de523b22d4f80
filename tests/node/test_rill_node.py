"""`rill node` and `rill chain` as a user runs them: processes, sockets, signals, exit codes."""

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node.daemon.rpc_client import NodeUnreachable
from tests.node.backends import RillChain
from tests.node.conftest import _free_port
from tests.node.processes import READY, Program, RillNode, running, until
from wire.bitcoin.block import parse_block
from wire.bitcoin.tx import OutPoint, Transaction, txid_hex, txid_of_hex

CAPACITY_SAT = 10_000_000
BURIED_BLOCKS = 6
PAID_SAT = 3_000


@pytest.fixture(autouse=True)
def no_process_outlives_its_test() -> Iterator[None]:
    yield
    for started in (Program.started, RillChain.started):
        while started:
            process = started.pop()
            if process.poll() is None:
                process.kill()
                process.communicate()


async def states(node: RillNode) -> set[str]:
    return {channel["state"] for channel in (await node.call("listpeerchannels"))["channels"]}


async def fund(chain: RillChain, node: RillNode) -> None:
    chain.call("sendtoaddress", (await node.call("newaddr"))["bech32"], "0.2")
    chain.call("generatetoaddress", 1, chain.call("getnewaddress"))

    async def is_rich() -> bool:
        return bool((await node.call("listfunds"))["outputs"])

    await until(is_rich)


async def grow(chain: RillChain, node: RillNode) -> None:
    """Mine a block, and return when the node has read it."""
    chain.call("generatetoaddress", 1, chain.call("getnewaddress"))
    height = chain.call("getblockcount")

    async def has_followed() -> bool:
        return bool((await node.call("getinfo"))["blockheight"] == height)

    await until(has_followed)


async def join(chain: RillChain, a: RillNode, b: RillNode) -> None:
    """Open a channel, and return when both can use it."""
    known = await b.call("getinfo")
    await a.call("connect", id=known["id"], host="127.0.0.1", port=known["binding"][0]["port"])
    opened = await a.call("fundchannel", id=known["id"], amount=CAPACITY_SAT)

    async def is_waiting() -> bool:
        return opened["txid"] in chain.call("getrawmempool")

    async def is_usable() -> bool:
        return await states(a) == await states(b) == {"CHANNELD_NORMAL"}

    await until(is_waiting)
    chain.call("generatetoaddress", BURIED_BLOCKS, chain.call("getnewaddress"))
    await until(is_usable)


@pytest.mark.slow
async def test_two_nodes_open_pay_restart_and_close(tmp_path: Path) -> None:
    port = _free_port()
    with running(tmp_path, port, "alice bob") as (chain, [alice, bob]):
        assert stat.S_IMODE(alice.client.path.stat().st_mode) == 0o600
        await fund(chain, alice)
        await join(chain, alice, bob)
        asked = await bob.call("invoice", amount_msat=1_000_000, label="one", description="x")
        assert (await alice.call("pay", bolt11=asked["bolt11"]))["status"] == "complete"

        # killed, and back: it reconnects without anybody's help
        alice.end(signal.SIGKILL)
        again = RillNode(tmp_path / "alice", port)
        again.wait_for(READY)

        async def is_connected() -> bool:
            [channel] = (await again.call("listpeerchannels"))["channels"]
            return bool(channel["reestablished"])

        await until(is_connected)
        asked = await bob.call("invoice", amount_msat=2_000_000, label="two", description="x")
        await again.call("pay", bolt11=asked["bolt11"])
        paid = (await bob.call("listinvoices"))["invoices"]
        assert [row["amount_received_msat"] for row in paid] == [1_000_000, 2_000_000]

        [channel] = (await bob.call("listpeerchannels"))["channels"]
        await bob.call("close", id=channel["channel_id"])
        closing = await mined_close(chain, again, bob, channel)
        [coin] = (await bob.call("listfunds"))["outputs"]
        assert coin["txid"] == txid_hex(closing.txid)
        # each offers a closing transaction at its own cost, and the miner takes either of them
        for_bob = closing.outputs[coin["output"]].value_sat
        for_alice = sum(output.value_sat for output in closing.outputs) - for_bob
        assert coin["amount_msat"] == 1000 * for_bob
        assert len(closing.outputs) == 2
        assert for_bob == PAID_SAT or for_alice == CAPACITY_SAT - PAID_SAT
        assert (await again.call("stop")) == {"result": "Shutdown complete"}
        assert again.code() == 0


async def mined_close(chain: RillChain, a: RillNode, b: RillNode, channel: dict[str, Any]) -> Transaction:
    """Mine what spends a channel's funding output, and return it when both nodes have seen it."""
    spent = OutPoint(txid_of_hex(channel["funding_txid"]), channel["funding_outnum"])

    async def is_waiting() -> bool:
        return bool(chain.call("getrawmempool"))

    async def is_over() -> bool:
        return await states(a) == await states(b) == {"ONCHAIN"}

    await until(is_waiting)
    [block_hash] = chain.call("generatetoaddress", 1, chain.call("getnewaddress"))
    await until(is_over)
    block = parse_block(bytes.fromhex(chain.call("getblock", block_hash, 0)))
    [closing] = [tx for tx in block.transactions if tx.inputs[0].outpoint == spent]
    return closing


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_a_node_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    chain = RillChain(tmp_path / "chain", _free_port())
    node = RillNode(tmp_path / "alice", chain.port)
    node.wait_for(READY)
    assert node.end(number) == 0
    assert not node.client.path.exists()
    with pytest.raises(NodeUnreachable):
        await node.call("getinfo")
    chain.close()


@pytest.mark.slow
async def test_a_script_finds_a_node_by_its_number_and_moves_its_log_away(tmp_path: Path) -> None:
    log = tmp_path / "alice.log"
    node = RillNode(tmp_path / "alice", _free_port(), "--chain=embedded", "--log-file=-", f"--log-file={log}")
    node.wait_for(READY)
    number = tmp_path / "alice" / "lightningd-regtest.pid"
    assert int(number.read_text()) == node.pid
    assert READY in log.read_text()
    log.rename(tmp_path / "old.log")
    os.kill(node.pid, signal.SIGHUP)
    node.wait_for("Opened log file")
    assert (await node.call("listconfigs", config="pid-file"))["configs"]["pid-file"]["source"] == "default"
    assert node.end() == 0
    assert not number.exists()
    assert log.read_text().splitlines()[-1].endswith("stopped")
    assert READY not in log.read_text()


@pytest.mark.slow
async def test_whoever_stops_a_node_may_start_the_next_at_once(tmp_path: Path) -> None:
    """In the same place, as soon as `stop` is answered."""
    port = _free_port()
    first = RillNode(tmp_path / "alice", port, "--chain=embedded")
    first.wait_for(READY)
    for _ in range(3):
        node = RillNode(tmp_path / "bob", port)
        node.wait_for(READY)
        assert await node.call("stop") == {"result": "Shutdown complete"}
        following = RillNode(tmp_path / "bob", port)
        following.wait_for(READY)
        assert node.code() == 0
        assert (await following.call("getinfo"))["blockheight"] == 150
        assert following.end() == 0
    assert first.end() == 0


@pytest.mark.slow
def test_one_directory_has_one_node(tmp_path: Path) -> None:
    chain = RillChain(tmp_path / "chain", _free_port())
    first = RillNode(tmp_path / "alice", chain.port)
    first.wait_for(READY)
    second = RillNode(tmp_path / "alice", chain.port)
    assert second.code() == 1
    assert sentence(second).startswith("rill: ")
    assert first.end() == 0
    chain.close()


def sentence(program: Program) -> str:
    [line] = "".join(program.said).splitlines()
    return line


@pytest.mark.slow
@pytest.mark.parametrize("option", ["rpc-file", "pid-file"])
def test_a_place_where_nothing_can_be_made_is_one_sentence(tmp_path: Path, option: str) -> None:
    place = tmp_path / "nowhere" / "it"
    program = Program(
        "node",
        f"--lightning-dir={tmp_path}",
        "--chain=embedded",
        f"--bitcoin-rpcport={_free_port()}",
        "--bind-addr=127.0.0.1:0",
        f"--log-file={tmp_path / 'log'}",
        f"--{option}={place}",
    )
    assert program.code() == 1
    assert sentence(program) == f"rill: {place} cannot be made: no such file or directory"


@pytest.mark.slow
def test_a_missing_chain_is_one_sentence(tmp_path: Path) -> None:
    node = RillNode(tmp_path / "alice", _free_port())
    assert node.code() == 1
    assert "no bitcoind answers" in sentence(node)


@pytest.mark.slow
def test_a_wrong_network_is_one_sentence(tmp_path: Path) -> None:
    chain = RillChain(tmp_path / "chain", _free_port())
    node = RillNode(tmp_path / "alice", chain.port, "--network=bitcoin")
    assert node.code() == 1
    assert "for bitcoin, but its bitcoind follows the chain 'regtest'" in sentence(node)
    chain.close()


@pytest.mark.slow
async def test_a_chain_that_was_made_anew_is_one_sentence(tmp_path: Path) -> None:
    chain = RillChain(tmp_path / "chain", _free_port())
    node = RillNode(tmp_path / "alice", chain.port)
    node.wait_for(READY)
    await grow(chain, node)
    assert node.end() == 0
    chain.close()
    other = RillChain(tmp_path / "other", chain.port)
    again = RillNode(tmp_path / "alice", other.port)
    assert again.code() == 1
    assert "not on any branch of this chain" in again.said[-1].splitlines()[-1]
    other.close()


@pytest.mark.parametrize(
    "arguments",
    [
        ["node", "--network=mainnet"],
        ["node", "--bitcoin-rpcuser=u"],
        ["node", "--nosuch"],
        ["chain", "--rpcpassword=p"],
        ["chain", "--port=x"],
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(arguments: list[str]) -> None:
    program = Program(*arguments)
    assert program.code() == 2
    assert sentence(program).startswith("rill: ")


@pytest.mark.slow
def test_a_chain_in_use_is_one_sentence(tmp_path: Path) -> None:
    chain = RillChain(tmp_path / "chain", _free_port())
    for arguments in ([f"--datadir={tmp_path / 'chain'}", "--port=0"], [f"--port={chain.port}"]):
        program = Program("chain", *arguments)
        assert program.code() == 1
        assert sentence(program).startswith("rill: ")
    chain.close()


@pytest.mark.slow
async def test_a_node_outlives_its_chain(tmp_path: Path) -> None:
    port = _free_port()
    chain = RillChain(tmp_path / "chain", port)
    node = RillNode(tmp_path / "alice", port)
    node.wait_for(READY)
    chain.close()
    assert (await node.call("getinfo"))["blockheight"] == 150
    chain = RillChain(tmp_path / "chain", port)
    await grow(chain, node)
    assert node.end() == 0
    chain.close()
