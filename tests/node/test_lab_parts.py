"""What splitting and learning are worth: payments over balances that nobody knows."""

from pathlib import Path

import numpy as np
import pytest

from gossip.compact import CompactGraph
from gossip.exports import to_table
from gossip.search import Search
from node.lab.experiments.payment_parts import PaymentParts
from node.lab.parts import STRATEGIES, Attempt, Town, compare, shares
from node.lab.plugins import BadPlugin
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


def test_the_experiment_answers_for_every_strategy(network: CompactGraph, tmp_path: Path) -> None:
    path = tmp_path / "network.csv"
    path.write_bytes(to_table(network))
    experiment = PaymentParts(graph=str(path), payments=4, amounts_sat=(1000, 3_000_000))
    found = experiment.run(1)
    assert [answer.partition(":")[0] for answer in found.answers[:5]] == list(STRATEGIES)
    assert found.summary["paid_split_learning_1000"] == 1.0
    assert [len(table.rows) for table in found.tables] == [10, 5]
    assert all(len(line.x) == len(line.y) for figure in found.figures for line in figure.lines)
    assert experiment.run(1) == found


def test_a_network_that_does_not_serve_is_named(tmp_path: Path) -> None:
    path = tmp_path / "small.csv"
    path.write_text(SQUARE)
    with pytest.raises(BadPlugin, match="50,000,000 sat"):
        PaymentParts(graph=str(path), payments=1).run(1)
    with pytest.raises(BadPlugin, match="No such file"):
        PaymentParts(graph=str(tmp_path / "none")).run(1)
