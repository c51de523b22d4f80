"""`rill testnet`: a network in the background, taken down, started again, carried elsewhere."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from node.cli.main import run
from node.lab.scenario.shapes import shaped
from node.lab.testnet.grounds import NoBitcoind, bitcoind_program
from node.lab.testnet.place import Place, Setup

PATIENCE_SECONDS = 60


class Testnet:
    """The commands, on one directory."""

    __test__ = False

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory, self._capsys = directory, capsys

    def __call__(self, command: str, *arguments: str | int | Path) -> Any:
        """The JSON that a command prints; it must succeed."""
        code, out, err = self.try_to(command, *arguments)
        assert code == 0, err
        return json.loads(out)

    def try_to(self, command: str, *arguments: str | int | Path) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a command."""
        code = run(["testnet", command, *map(str, arguments), "--json", f"--dir={self.directory}"])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def refusal(self, command: str, *arguments: str | int | Path) -> str:
        """The one sentence with which a command fails."""
        code, out, err = self.try_to(command, *arguments)
        assert code != 0
        assert not out
        assert err.startswith("rill: ")
        assert err.count("\n") == 1
        return err


@pytest.fixture
def testnet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Testnet]:
    net = Testnet(tmp_path / "net", capsys)
    yield net
    net.try_to("down")


def until(is_so: Callable[[], bool]) -> None:
    """Return once something is so; the test fails if it never is."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def balances(status: dict[str, Any]) -> list[list[int]]:
    return [channel["balances_msat"] for channel in status["channels"]]


@pytest.mark.slow
def test_a_network_stays_what_it_is_over_down_and_up_and_in_another_place(
    testnet: Testnet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    up = testnet("up", "--topology=ring", "--nodes=3", "--capacity=1000000")
    assert up["ready"]
    assert balances(up) == 3 * [[500_000_000, 500_000_000]]

    paid = testnet("pay", "alice", "bob", "20000sat")
    assert paid["amount_msat"] == 20_000_000
    assert testnet("mine", 2) == {"height": up["height"] + 2}
    alice = testnet("exec", "alice", "getinfo")
    assert alice["alias"] == "alice"
    assert alice["lightning-dir"] == str(testnet.directory / "alice" / "regtest")
    assert run(["cli", f"--lightning-dir={testnet.directory / 'alice'}", "--json", "getinfo"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == alice["id"]
    assert any("routable" in line for line in testnet("logs")["lines"])
    assert "is up already, and all of its nodes are" in testnet.refusal("up")
    reached = testnet("info", "bob")
    assert reached["nodes"][0]["socket"] == str(testnet.directory / "bob" / "regtest" / "lightning-rpc")
    pyln = pytest.importorskip("pyln.client")
    assert pyln.LightningRpc(reached["nodes"][0]["socket"]).getinfo()["alias"] == "bob"
    port, password = up["chain"]["rpcport"], up["chain"]["rpcpassword"]
    assert reached["chain"]["cli"] == f"rill chain --port {port} --rpcuser rill --rpcpassword {password}"
    assert run([*reached["chain"]["cli"].split()[1:], "getblockcount"]) == 0
    assert capsys.readouterr().out.strip() == str(up["height"] + 2)
    functions = testnet("env")
    assert [name for name in functions if "cli" in name] == ["alice-cli", "bob-cli", "carol-cli", "btc-cli"]
    assert functions["bob-cli"] == f"rill cli --lightning-dir {testnet.directory / 'bob'}"
    assert "is up: `rill testnet down" in testnet.refusal("export", tmp_path / "net.tar.gz")

    assert testnet("down") == {"was_up": True, "removed": False}
    assert testnet("status")["up"] is False
    assert "testnet up" in testnet.refusal("pay", "alice", "bob", 1)
    testnet("export", tmp_path / "net.tar.gz")

    again = testnet("up")
    assert balances(again) == [[480_000_000, 520_000_000], *2 * [[500_000_000, 500_000_000]]]
    assert [node["id"] for node in again["nodes"]] == [node["id"] for node in up["nodes"]]
    testnet("pay", "bob", "carol", 1000)
    assert testnet("down", "--remove") == {"was_up": True, "removed": True}
    assert not testnet.directory.exists()

    elsewhere = Testnet(tmp_path / "elsewhere", capsys)
    elsewhere("import", tmp_path / "net.tar.gz")
    try:
        assert balances(elsewhere("up")) == balances(again)
        elsewhere("pay", "carol", "alice", 1000)
    finally:
        elsewhere("down")


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--processes"], ["--chain=bitcoind"]], ids=["processes", "bitcoind"])
def test_nodes_in_processes_and_on_bitcoind_pay_as_well(testnet: Testnet, options: list[str]) -> None:
    skip_without_bitcoind(options)
    testnet("up", "--nodes=3", *options)
    paid = testnet("pay", "alice", "carol", 1_000_000)
    assert paid["fee_msat"] == 1010
    testnet("down")
    again = testnet("up")
    assert sum(map(sum, balances(again))) == 2 * 10_000_000_000
    assert balances(again)[0] == [5_000_000_000 - 1_001_010, 5_000_000_000 + 1_001_010]
    testnet("pay", "carol", "alice", 1_000_000)


OPTIONS = [[], ["--processes"], ["--processes", "--chain=bitcoind"]]


def skip_without_bitcoind(options: list[str]) -> None:
    if "--chain=bitcoind" in options:
        try:
            bitcoind_program()
        except NoBitcoind as none:
            pytest.skip(str(none))


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=["one process", "processes", "processes on bitcoind"])
def test_a_network_that_was_killed_comes_back(testnet: Testnet, options: list[str]) -> None:
    skip_without_bitcoind(options)
    up = testnet("up", "--nodes=2", *options)
    testnet("pay", "alice", "bob", 1_000_000)
    os.kill(up["pid"], signal.SIGKILL)
    until(lambda: not testnet("status")["up"])
    testnet("up")
    # what both had not signed yet when they died is settled once they speak again
    until(lambda: balances(testnet("status")) == [[4_999_000_000, 5_001_000_000]])
    testnet("pay", "bob", "alice", 1000)


@pytest.mark.slow
def test_nodes_that_ended_are_started_again_while_the_others_go_on(testnet: Testnet) -> None:
    testnet("up", "--nodes=3", "--processes")
    testnet("pay", "alice", "carol", 1_000_000)
    testnet("exec", "bob", "stop")
    until(lambda: not testnet("status")["nodes"][1]["up"])
    assert "rill: " in testnet.refusal("pay", "alice", "carol", 1_000_000)
    again = testnet("up")
    assert [node["up"] for node in again["nodes"]] == [True, True, True]
    testnet("pay", "carol", "alice", 1000)


@pytest.mark.slow
def test_a_first_start_that_was_interrupted_begins_anew(testnet: Testnet) -> None:
    place = Place(testnet.directory)
    place.make(shaped("line", 2), Setup(channel_ids=("00" * 32,), is_unfinished=True))
    (place.node_directory("alice") / "regtest").mkdir(parents=True)
    (place.node_directory("alice") / "regtest" / "node.sqlite").write_text("half of a database")
    assert balances(testnet("up")) == [[5_000_000_000, 5_000_000_000]]
    testnet("pay", "alice", "bob", 1000)


@pytest.mark.slow
def test_channels_closed_and_opened_by_hand_are_shown_and_are_no_hindrance(testnet: Testnet) -> None:
    up = testnet("up", "--topology=ring", "--nodes=3", "--capacity=1000000")
    bob = up["nodes"][1]["id"]
    testnet("exec", "alice", "close", bob)
    testnet("mine", 6)
    assert testnet("fund", "alice", 1_000_000)["amount_sat"] == 1_000_000
    testnet("exec", "alice", "fundchannel", bob, 600_000)
    testnet("mine", 6)
    until(lambda: testnet("status")["channels"][-1]["state"] == "CHANNELD_NORMAL")
    shown = testnet("status")["channels"]
    assert [channel["nodes"] for channel in shown[-2:]] == [["carol", "alice"], ["alice", "bob"]]
    assert shown[0]["state"] == "ONCHAIN"
    assert shown[-1]["capacity_sat"] == 600_000
    testnet("down")
    assert len(testnet("up")["channels"]) == 4
    testnet("pay", "alice", "bob", 300_000_000)


def test_a_user_is_told_what_is_wrong(testnet: Testnet, tmp_path: Path) -> None:
    assert "there is no testnet in" in testnet.refusal("status")
    assert "there is no testnet in" in testnet.refusal("pay", "alice", "bob", 1)
    assert "no house scenario of that name" in testnet.refusal("up", "--topology=torus")
    assert "--nodes 1 is not between" in testnet.refusal("up", "--nodes=1")
    assert "--chain 'litecoin'" in testnet.refusal("up", "--chain=litecoin")
    assert "--nodes is for shapes: line5 says" in testnet.refusal("up", "--topology=line5", "--nodes=5")
    assert "greater than or equal to 20000" in testnet.refusal("up", "--capacity=5")
    assert "greater than or equal to 0" in testnet.refusal("up", "--seed=-1")
    assert "65535" in testnet.refusal("view", "--port=99999")
    assert "is a directory" in testnet.refusal("up", f"--topology={tmp_path}")
    broken = tmp_path / "broken.toml"
    broken.write_text('[[node]]\nname = "ann"\n[[channel]]\nnodes = ["ann", "ben"]\n')
    assert f"{broken}, line 4: there is no node called ben" in testnet.refusal("up", f"--topology={broken}")
    assert "is no archive of a testnet" in testnet.refusal("import", broken)
    assert not testnet.directory.exists()
    testnet.directory.mkdir()
    (testnet.directory / "letter.txt").write_text("dear")
    assert "is not empty and holds no testnet" in testnet.refusal("up")


def test_what_never_was_a_network_is_not_in_the_way(testnet: Testnet) -> None:
    said = testnet.refusal("up", "--nodes=2", "--capacity=500000000000")
    assert "more than the chain's miner has to give" in said
    assert not testnet.directory.exists()


def test_the_log_of_a_node_is_its_own(testnet: Testnet) -> None:
    place = Place(testnet.directory)
    place.make(shaped("line", 28), Setup())
    place.log_path.write_text("".join(f"{n} INFO rill: said node=node{n}\n" for n in (27, 28, 2)))
    assert testnet("logs", "node27") == {"lines": ["27 INFO rill: said node=node27"]}
    assert len(testnet("logs", "-n", "2")["lines"]) == 2
    assert testnet("logs", "alice") == {"lines": []}


def test_a_network_that_cannot_start_says_why(testnet: Testnet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "BITCOIND", "/nowhere/bitcoind")
    assert "there is no bitcoind at /nowhere/bitcoind" in testnet.refusal("up", "--chain=bitcoind")
    assert "there is no testnet in" in testnet.refusal("down")
