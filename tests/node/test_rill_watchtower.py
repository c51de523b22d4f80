"""`rill watchtower` as a user runs it: a process that others give penalties, and that a signal ends."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.node.backends import CREDENTIALS, RillChain
from tests.node.conftest import _free_port
from tests.node.processes import READY, Program, RillNode, until
from tests.node.test_rill_node import fund, join, no_process_outlives_its_test, sentence

__all__ = ["no_process_outlives_its_test"]


class RillWatchtower(Program):
    """`rill watchtower --json`."""

    def __init__(self, directory: Path, chain_port: int, *more: str) -> None:
        super().__init__(
            "watchtower",
            f"--lightning-dir={directory}",
            "--json",
            f"--bitcoin-rpcport={chain_port}",
            f"--bitcoin-rpcuser={CREDENTIALS.user}",
            f"--bitcoin-rpcpassword={CREDENTIALS.password}",
            *more,
        )

    def ready(self) -> dict[str, Any]:
        """What it says when it is ready."""
        self.wait_for("watchtower")
        said: dict[str, Any] = json.loads(self.said[-1])
        return said


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_node_gives_its_penalties_to_the_tower_process(
    tmp_path: Path, number: signal.Signals
) -> None:
    chain = RillChain(tmp_path / "chain", _free_port())
    tower = RillWatchtower(tmp_path / "tower", chain.port, "--bind-addr=127.0.0.1:0")
    address = tower.ready()["watchtower"]
    alice = RillNode(tmp_path / "alice", chain.port, f"--watchtower={address}")
    bob = RillNode(tmp_path / "bob", chain.port)
    for node in (alice, bob):
        node.wait_for(READY)
    await fund(chain, alice)
    await join(chain, alice, bob)
    for label in "abc":
        invoice = await bob.call("invoice", amount_msat=400_000_000, label=label, description="")
        await alice.call("pay", bolt11=invoice["bolt11"])
    database = tmp_path / "tower" / "regtest" / "watchtower" / "watchtower.sqlite-wal"

    async def has_grown() -> bool:
        return database.stat().st_size > 10_000

    await until(has_grown)
    assert [program.end(number) for program in (alice, bob, tower)] == [0, 0, 0]
    again = RillWatchtower(tmp_path / "tower", chain.port, f"--bind-addr={address.partition('@')[2]}")
    ready = again.ready()
    assert ready["watchtower"] == address
    assert ready["blobs"] >= 3
    assert again.end() == 0
    chain.close()


@pytest.mark.slow
def test_what_a_tower_cannot_have_is_one_sentence(tmp_path: Path) -> None:
    port = _free_port()
    lonely = RillWatchtower(tmp_path / "tower", port)
    assert lonely.code() == 1
    assert "no bitcoind answers" in sentence(lonely)
    chain = RillChain(tmp_path / "chain", port)
    first = RillWatchtower(tmp_path / "tower", port, "--bind-addr=127.0.0.1:0")
    taken = first.ready()["watchtower"].rpartition(":")[2]
    second = RillWatchtower(tmp_path / "tower", port, "--bind-addr=127.0.0.1:0")
    assert second.code() == 1
    assert "is in use by another process" in sentence(second)
    third = RillWatchtower(tmp_path / "other", port, f"--bind-addr=127.0.0.1:{taken}")
    assert third.code() == 1
    assert sentence(third).startswith(f"rill: cannot listen on 127.0.0.1:{taken}: ")
    assert first.end() == 0
    chain.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["watchtower", "--network=litecoin"],
        ["watchtower", "--client-mib=0"],
        ["watchtower", "--log-level=loud"],
        ["watchtower", "--bitcoin-rpcuser=somebody"],
        ["node", "--watchtower=nobody@nowhere"],
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(arguments: list[str]) -> None:
    program = Program(*arguments)
    assert program.code() == 2
    assert sentence(program).startswith("rill: ")
