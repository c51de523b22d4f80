"""What splitting and learning are worth: payments over balances that nobody knows."""

from pathlib import Path

import numpy as np
import pytest

from gossip.compact import CompactGraph
from gossip.exports import to_table
from gossip.search import Search
from node.cli.main import run
from node.lab.parts import STRATEGIES, Attempt, Town, compare, shares
from tests.gossip.networks import a_network
from tests.node.test_route_command import SQUARE


@pytest.fixture(scope="module")
def network() -> CompactGraph:
    return a_network(5, nodes=80, channels=500)


def test_a_channels_two_balances_are_its_capacity(network: CompactGraph) -> None:
    town = Town(network, 1)
    both = network.twin >= 0
    total = town.balances_msat[both] + town.balances_msat[network.twin[both]]
    assert np.array_equal(total, network.capacity_msat[both])
    assert (town.balances_msat >= 0).all()


def test_a_part_takes_what_it_carries_and_a_failure_takes_nothing(network: CompactGraph) -> None:
    town = Town(network, 1)
    for source, target in town.pairs(1, 10):
        attempt = Attempt(town, source, target, 3_000_000)
        way = Search(network, source, 3_000_000).find(target, 3_000_000)
        if way is None:
            continue
        is_sent = attempt.send(way)
        taken = town.balances_msat - attempt.left_msat
        carried = dict(zip(way.edges, way.amounts_msat, strict=True)) if is_sent else {}
        assert {int(edge): int(taken[edge]) for edge in np.flatnonzero(taken)} == carried
        assert attempt.missing_msat == (0 if is_sent else 3_000_000)


def test_whoever_learns_or_splits_arrives_no_less_often(network: CompactGraph) -> None:
    rows = list(compare(network, 1, 12, (1000, 1_000_000, 20_000_000)))
    assert [row.strategy for row in rows[:5]] == list(STRATEGIES)
    for amount in (1000, 1_000_000, 20_000_000):
        paid = {row.strategy: row.paid for row in rows if row.amount_sat == amount}
        assert paid["single"] <= paid["single, learning"] <= paid["split, learning"]
        assert paid["split"] <= paid["split, learning"]
    total = {name: sum(row.paid for row in rows if row.strategy == name) for name in STRATEGIES}
    assert total["cheapest"] < total["split, learning"]


def test_the_same_seed_pays_the_same(network: CompactGraph) -> None:
    assert list(compare(network, 3, 4, (3_000_000,))) == list(compare(network, 3, 4, (3_000_000,)))
    assert list(shares(network, 3, 3)) == list(shares(network, 3, 3))


def test_the_command_writes_the_same_files_again(
    network: CompactGraph, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "network.csv"
    path.write_bytes(to_table(network))
    written = []
    for name in ("one", "two"):
        out = tmp_path / name
        assert run(["lab", "parts", "--graph", str(path), "--payments", "3", "--out", str(out)]) == 0
        written.append({file.name: file.read_bytes() for file in out.iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {"parts.csv", "shares.csv", "parts.svg"}
    assert "payments that arrived" in capsys.readouterr().out


def test_a_network_without_large_nodes_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "small.csv"
    path.write_text(SQUARE)
    assert run(["lab", "parts", "--graph", str(path), "--payments", "1"]) == 1
    assert "50,000,000 sat" in capsys.readouterr().err
