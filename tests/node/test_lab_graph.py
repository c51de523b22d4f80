"""Networks from a seed, with the figures of a real one."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from gossip.exports import to_table
from gossip.imports import from_table
from node.cli.main import run
from node.lab.figures import mainnet, measured
from node.lab.generator import generate
from node.lab.parts import arrivals
from node.lab.portrait import portrait
from tests.gossip.networks import MAINNET, a_network

COLUMNS = ("source", "target", "capacity_msat", "fee_base_msat", "least_msat", "is_enabled")


# what a number or two cannot say of who is joined to whom, by how much it may differ
LOOSE = {
    "open: most peers of a node": 0.35,
    "open, 10M sat: nodes": 0.3,
    "open, 10M sat: clustering, nodes' mean": 0.35,
    "open, 10M sat: clustering, of all pairs": 0.35,
    "capacity at 10 ppm or less, %": 0.3,
}


@pytest.mark.parametrize("seed", [1, 2])
def test_a_generated_network_fits_mainnets_figures(seed: int) -> None:
    there, here = mainnet().portrait, portrait(generate(seed))
    assert list(there) == list(here)
    assert (here["nodes"], here["channels"]) == (17324, 50808)
    # hardly anybody asks between 1 and 100 msat, where the median falls
    for name, value in there.items():
        if name != "base fee, msat: median":
            assert here[name] == pytest.approx(value, rel=LOOSE.get(name, 0.2), abs=0.02), name
    assert here["degrees of peers, rank correlation"] < -0.15


@pytest.mark.slow
def test_payments_go_in_it_as_on_mainnet() -> None:
    there, here = mainnet().arrivals, arrivals(generate(1))
    assert list(there) == list(here)
    for name, value in there.items():
        assert here[name] == pytest.approx(value, abs=15 if name.endswith("%") else 10), name


def test_the_same_seed_makes_the_same_network() -> None:
    one, again, other = generate(7), generate(7), generate(8)
    assert all(np.array_equal(getattr(one, name), getattr(again, name)) for name in COLUMNS)
    assert not np.array_equal(one.source, other.source)


def test_what_is_written_reads_back_the_same() -> None:
    graph = generate(2)
    again = from_table(to_table(graph))
    for name in COLUMNS:
        assert np.array_equal(getattr(graph, name), getattr(again, name)), name


@pytest.mark.parametrize("seed", range(4))
def test_any_network_can_be_imitated(seed: int) -> None:
    figures = measured(a_network(seed, nodes=40, channels=90), "a small one")
    graph = generate(seed, figures)
    assert graph.nodes == 40
    assert abs(graph.channels - figures.channels) <= 2
    assert msgspec.json.decode(msgspec.json.encode(figures), type=type(figures)) == figures


@pytest.mark.slow
@pytest.mark.skipif(not MAINNET.exists(), reason="the snapshot of mainnet is not beside this checkout")
def test_the_figures_that_come_with_the_package_are_the_snapshots(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lab", "graph", "--like", str(MAINNET), "--json"]) == 0
    fit = json.loads(capsys.readouterr().out)["fit"]
    assert {name: there for name, (there, _) in fit.items()} == mainnet().portrait | mainnet().arrivals


def test_the_command_writes_what_a_route_is_found_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "graph.csv"
    assert run(["lab", "graph", "--seed", "1", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "17,324" in said
    assert "seed 1" in said
    ends = ["17300", "17200", "50000000"]
    assert run(["route", *ends, "--json"]) == 0
    unwritten = json.loads(capsys.readouterr().out)
    assert run(["route", "--graph", str(out), *ends, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["hops"] == unwritten["hops"]


def test_a_network_that_cannot_be_read_or_written_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lab", "graph", "--like", "/nowhere"]) == 2
    assert run(["lab", "graph", "--out", "/nowhere/graph.csv"]) == 2
    assert capsys.readouterr().err.count("/nowhere") == 2
