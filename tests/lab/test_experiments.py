"""`rill lab run`, `list` and `sweep`: answers, files that are the same to the byte, sweeps that go on."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from node.cli.main import run
from node.lab import sweeps
from node.lab.experiments.ground import MAINNET, ground
from node.lab.experiments.model import Experiment, Findings, listener
from node.lab.plugins import EXPERIMENTS, names_of, plugin
from tests.node.test_route_command import SQUARE

SMALL: dict[str, dict[str, Any]] = {
    "depletion": {"graph": "town", "hours": 0.2, "drifts": [0.0, 1.0], "merchants": 2},
    "fee-curve": {"graph": "town", "hours": 0.05, "rivals": [0, 1]},
    "jamming": {"graph": "town", "seconds": 120.0, "rates": [0.0, 16.0], "slots": 30, "hold_seconds": 60.0},
    "payment-parts": {"payments": 3, "amounts_sat": [1000, 10_000_000]},
    "network-policy": {"graph": "town", "hours": 0.1, "policies": ["static", "liquidity"]},
    "streaming": {"graph": "town", "hours": 0.1, "loads": [1.0, 4.0]},
}

Rill = Callable[..., Any]


@pytest.fixture
def rill(capsys: pytest.CaptureFixture[str]) -> Rill:
    """The JSON of a command that succeeds, or the sentence of one that fails."""

    def call(*arguments: str) -> Any:
        code = run(["lab", *arguments, "--json"])
        said = capsys.readouterr()
        if code:
            assert said.err.startswith("rill: ")
            assert said.err.count("\n") == 1
            return said.err
        return json.loads(said.out)

    return call


def found(name: str, seed: int, **options: Any) -> Findings:
    return plugin(EXPERIMENTS, name, {**SMALL[name], **options}, Experiment).run(seed)


@pytest.mark.parametrize("name", names_of(EXPERIMENTS))
def test_every_experiment_asks_and_answers_and_finds_the_same_again(name: str) -> None:
    assert plugin(EXPERIMENTS, name, {}, Experiment).question.endswith("?")
    first = found(name, 3)
    assert first.answers
    assert first.summary
    for table in first.tables:
        assert {len(row) for row in table.rows} == {len(table.columns)}
    assert first == found(name, 3)
    assert first.tables != found(name, 4).tables


def test_a_router_with_a_rival_earns_most_just_below_what_that_asks() -> None:
    summary = found("fee-curve", 1, hours=0.2).summary
    assert summary["most_sat_per_hour_0"] > summary["most_sat_per_hour_1"]
    assert summary["best_millionths_1"] == 130 < summary["best_millionths_0"]


def test_jamming_takes_the_victims_income_and_reputation_saves_some() -> None:
    summary = found("jamming", 1, seconds=300.0).summary
    calm = found("jamming", 1, seconds=300.0, rates=[0.0]).summary
    assert summary["victim_earned_sat_nothing"] < 0.5 * calm["victim_earned_sat_nothing"]
    assert summary["victim_earned_sat_reputation"] > 1.2 * summary["victim_earned_sat_nothing"]
    assert summary["attacker_paid_sat_upfront_fees"] > summary["attacker_paid_sat_nothing"] == 0


def test_payments_that_go_one_way_empty_channels() -> None:
    summary = found("depletion", 1, hours=0.5).summary
    assert summary["success_1_left"] < summary["success_0_left"]


def test_fees_that_follow_liquidity_show_who_tries_once_the_way() -> None:
    summary = found("streaming", 1, hours=0.5, loads=[4.0]).summary
    assert summary["earned_sat_liquidity_4_4_1"] > 1.2 * summary["earned_sat_static_4_4_1"]
    assert summary["millionths_liquidity_4_4_20"] > summary["millionths_static_4_4_20"]
    many = summary["earned_sat_liquidity_4_4_20"], summary["earned_sat_static_4_4_20"]
    assert many[0] == pytest.approx(many[1], rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fewer"),
    [
        ("network-policy", {"policies": ["as it is", "liquidity"], "hours": 0.1}),
        ("jamming", {"rates": [8.0], "seconds": 30.0}),
    ],
)
def test_the_default_ground_is_of_mainnets_size(name: str, fewer: dict[str, Any]) -> None:
    assert len(ground(MAINNET, 1).names) > 6000
    experiment = plugin(EXPERIMENTS, name, fewer, Experiment)
    assert experiment.run(1) == experiment.run(1)


def test_an_experiment_says_how_far_it_is() -> None:
    told: list[tuple[int, int]] = []
    listening = listener.set(lambda done, of: told.append((done, of)))
    found("network-policy", 1)
    listener.reset(listening)
    assert told == [(0, 2), (1, 2)]


@pytest.mark.slow
def test_the_same_seed_writes_the_same_bytes(rill: Rill, tmp_path: Path) -> None:
    sets = [f"--set={name}={json.dumps(value)}" for name, value in SMALL["fee-curve"].items()]
    for folder in ("one", "two"):
        told = rill("run", "fee-curve", "--seed=5", f"--out={tmp_path / folder}", *sets)
        assert told["options"]["graph"] == "town"
        assert told["answers"]
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} for folder in ("one", "two")
    )
    assert first == second
    kinds = ("csv", "parquet", "png", "svg")
    assert sorted(first) == ["manifest.json", "report.html", *(f"revenue.{kind}" for kind in kinds)]
    assert first["revenue.png"].startswith(b"\x89PNG")
    manifest = json.loads(first["manifest.json"])
    assert (manifest["experiment"], manifest["seed"]) == ("fee-curve", 5)
    assert {"python", "rill-lightning", "matplotlib"} <= set(manifest["versions"])
    rows = list(csv.DictReader(first["revenue.csv"].decode().splitlines()))
    columns = pyarrow.parquet.read_table(tmp_path / "one" / "revenue.parquet").to_pydict()
    assert [float(row["sat_per_hour"]) for row in rows] == columns["sat_per_hour"]
    page = first["report.html"].decode()
    assert told["answers"][0] in page
    assert "<svg" in page
    assert "src=" not in page
    assert "http-equiv" not in page


def test_the_list_names_every_plug_in(rill: Rill) -> None:
    told = rill("list")
    assert all(each["seconds"] for each in told["experiments"])
    assert [each["name"] for each in told["experiments"]] == names_of(EXPERIMENTS)
    assert "learner" in told["fees"]
    assert "streaming" in told["traffic"]


GRID = ("--grid=graph=town", "--grid=seconds=30", "--grid=slots=4,60", "--grid=hold_seconds=5,60")


@pytest.mark.slow
def test_a_sweep_goes_on_where_it_was_interrupted(
    rill: Rill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = f"--out={tmp_path / 'sweep'}"
    whole = rill("sweep", "jamming", *GRID, out, "--workers=2")
    assert [row[1:4] for row in whole["rows"]] == [[30, 4, 5], [30, 4, 60], [30, 60, 5], [30, 60, 60]]
    table = (tmp_path / "sweep" / "sweep.csv").read_bytes()

    points = sorted((tmp_path / "sweep" / "points").iterdir())
    points[0].unlink()
    asked: list[int] = []
    measured = sweeps._measured

    def counting(pool: Any, name: str, missing: Any, seed: int) -> Any:
        asked.append(len(missing))
        return measured(pool, name, missing, seed)

    monkeypatch.setattr(sweeps, "_measured", counting)
    again = rill("sweep", "jamming", *GRID, out, "--workers=1")
    assert asked == [1]
    assert again == whole
    assert (tmp_path / "sweep" / "sweep.csv").read_bytes() == table
    assert "holds another sweep" in rill("sweep", "jamming", "--grid=slots=5", out)


@pytest.mark.slow
def test_a_cluster_measures_the_same(rill: Rill, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra lab is not installed")
    alone = rill("sweep", "jamming", *GRID, f"--out={tmp_path / 'alone'}", "--workers=1")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        address = f"--cluster={cluster.scheduler_address}"
        together = rill("sweep", "jamming", *GRID, f"--out={tmp_path / 'cluster'}", address)
    assert together["rows"] == alone["rows"]


def test_what_is_wrong_is_named(rill: Rill, tmp_path: Path) -> None:
    out = f"--out={tmp_path / 'out'}"
    assert "no experiment 'luck': there are depletion" in rill("run", "luck", out)
    assert "jamming has no option 'zeal'" in rill("run", "jamming", "--set=zeal=3", out)
    assert "expected `int`" in rill("run", "jamming", "--set=slots=many", out)
    assert "--set 'slots' is not NAME=VALUE" in rill("run", "jamming", "--set=slots", out)
    assert "jamming has no option 'zeal'" in rill("sweep", "jamming", "--grid=zeal=1,2", out)
    assert "hours: expected `float` > 0" in rill("run", "fee-curve", "--set=hours=0", out)
    square = tmp_path / "square.csv"
    square.write_text(SQUARE)
    assert "nodes of 2 to 8 channels" in rill("run", "jamming", f"--set=graph={square}", out)
    assert "graph is mainnet, town, or a file" in rill("run", "jamming", "--set=graph=atlantis", out)
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in rill(
        "sweep", "jamming", "--grid=slots=5", out, "--cluster=tcp://127.0.0.1:9"
    )
    assert not (tmp_path / "out" / "sweep.csv").exists()
