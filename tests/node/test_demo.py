"""The whole demo: five real nodes, four hops, and what a user sees of it."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest

from node.cli.main import run
from node.cli.screen import Screen
from node.lab.network import NAMES, running_network
from node.stream.receipt import ChunkBought
from wire.units import Sat, msat


@pytest.fixture(autouse=True)
def _own_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what a demo leaves behind is seen."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    monkeypatch.chdir(tmp_path)


def left_behind(tmp_path: Path) -> list[str]:
    """Files that are neither the film nor its copy."""
    kept = {"film.bin", "copy.bin", "temporary"}
    return [path.name for path in tmp_path.rglob("*") if path.name not in kept]


def a_film(tmp_path: Path, length: int) -> Path:
    film = tmp_path / "film.bin"
    film.write_bytes(os.urandom(length))
    return film


@pytest.mark.parametrize(("length", "chunks"), [(1, 1), (65536, 1), (5 * 65536 + 77, 6)])
def test_a_film_is_bought_over_four_hops(
    length: int, chunks: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    film = a_film(tmp_path, length)
    assert run(["demo", str(film), "--out", "copy.bin", "--json"]) == 0
    assert (tmp_path / "copy.bin").read_bytes() == film.read_bytes()
    out, err = capfd.readouterr()
    account = json.loads(out)
    assert not err
    assert account["film"]["chunks"] == chunks
    assert account["route"] == list(NAMES)
    assert account["paid_msat"] == chunks * 100_000
    assert account["fees_msat"] == dict.fromkeys(NAMES[1:4], chunks * 1001)
    assert account["chain"]["transactions_per_channel"] == [2, 2, 2, 2]
    assert account["conserved"]
    assert not left_behind(tmp_path)


def test_the_account_names_every_satoshi(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    film = a_film(tmp_path, 100_000)
    run(["demo", str(film), "--out", "copy.bin", "--json", "--price-msat", "7000", "--chunk-size", "16384"])
    account = json.loads(capfd.readouterr().out)
    assert list(account) == [
        "film",
        "route",
        "paid_msat",
        "fees_msat",
        "seconds",
        "chunk_ms",
        "goodput_mib_s",
        "balances_sat",
        "chain",
        "conserved",
    ]
    assert list(account["balances_sat"]) == list(NAMES)
    assert account["paid_msat"] == 7 * 7000
    spent = {name: pair["before"] - pair["after"] for name, pair in account["balances_sat"].items()}
    assert sum(spent.values()) == account["chain"]["onchain_fees_sat"]
    assert spent["eric"] == -5_000_049


def test_without_a_file_the_bundled_film_is_bought(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["demo"]) == 0
    copy = tmp_path / "rill-demo-rill.mp4"
    assert copy.read_bytes()[4:8] == b"ftyp"
    out = capfd.readouterr().out
    assert "Alice → Bob → Carol → Diana → Eric" in out
    assert "Every satoshi is accounted for." in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_leaves_the_channels_as_they_are(
    number: signal.Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def interrupt(screen: Screen, chunk: ChunkBought) -> None:
        os.kill(os.getpid(), number)

    monkeypatch.setattr(Screen, "bought", interrupt)
    film = a_film(tmp_path, 3 << 20)
    assert run(["demo", str(film), "--out", "copy.bin", "--window", "2"]) == 128 + number
    out, err = capfd.readouterr()
    assert not out
    assert err == (
        f"rill: interrupted by {number.name}: the channels are left as they are, none was closed, "
        "and the local chain is gone\n"
    )
    assert not (tmp_path / "copy.bin").exists()
    assert not left_behind(tmp_path)


def test_a_signal_before_the_channels_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Screen, "stage", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    assert run(["demo", str(a_film(tmp_path, 1))]) == 130
    assert "no channel was open" in capfd.readouterr().err


def test_a_signal_before_the_network_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Screen, "__enter__", lambda _: os.kill(os.getpid(), signal.SIGINT))
    assert run(["demo", str(a_film(tmp_path, 1))]) == 130
    assert capfd.readouterr().err == "rill: interrupted\n"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["missing.bin"], 2, "rill: there is no file missing.bin"),
        (["film.bin", "--out", "nowhere/copy"], 2, "nowhere/copy cannot be written"),
        (["film.bin", "--chunk-size", "5000"], 2, "--chunk-size 5000 is not 16 KiB times a power of two"),
        (["film.bin", "--price-msat", "6000000000"], 2, "Alice can spend 5000000000 msat"),
        (["film.bin", "--price-msat", "4950000000"], 2, "but Alice can spend 48"),
        (["film.bin", "--window", "many"], 2, "'--window'"),
        (["film.bin", "--frobnicate"], 2, "--frobnicate"),
    ],
)
def test_bad_input_gets_one_sentence(
    arguments: list[str], code: int, sentence: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    a_film(tmp_path, 5)
    assert run(["demo", *arguments]) == code
    out, err = capfd.readouterr()
    assert not out
    assert sentence in err
    assert err.startswith("rill: ")
    assert err.count("\n") == 1
    assert not left_behind(tmp_path)


def test_a_taken_port_gets_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    a_film(tmp_path, 5)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert run(["demo", "film.bin", "--port", str(port)]) == 1
    assert capfd.readouterr().err == f"rill: port {port} on 127.0.0.1 is taken\n"


def test_help_imports_nothing_heavy(capfd: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "demo" in capfd.readouterr().out
    heavy = "{'trio', 'apsw', 'coincurve', 'msgspec', 'node.lab'} & set(sys.modules)"
    program = f"import sys, node.cli.commands; sys.exit(bool({heavy}))"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0


async def test_every_node_learns_the_whole_line_by_gossip() -> None:
    async with running_network(seed=7, names=("alice", "bob", "carol")) as network:
        await network.fund()
        await network.open_line(Sat(1_000_000), msat(500_000))
        await network.wait_for_gossip()
        alice, _, carol = network.nodes.values()
        aliases = [node.alias.rstrip(b"\0").decode() for node in alice.graph.nodes.values()]
        assert sorted(aliases) == list(network.nodes)
        assert all(len(node.graph) == 2 for node in network.nodes.values())
        invoice = await carol.add_invoice(msat(1000))
        payment = await alice.pay(carol.node_id, invoice.payment_hash, invoice.payment_secret, msat(1000))
        assert [network.name_of(node_id) for node_id in payment.route] == ["bob", "carol"]


async def test_the_same_seed_gives_the_same_nodes() -> None:
    async with running_network(seed=1, names=("alice", "bob")) as network:
        first = [node.node_id for node in network.nodes.values()]
        assert all(a != b for a, b in pairwise(first))
    async with running_network(seed=1, names=("alice", "bob")) as network:
        assert [node.node_id for node in network.nodes.values()] == first
    async with running_network(seed=2, names=("alice",)) as network:
        assert network.nodes["alice"].node_id != first[0]
