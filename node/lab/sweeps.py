"""The same experiment at every point of a grid, on all cores or on a cluster; once interrupted, it goes on.

Each point's summary is a file of its own, written whole or not at all, so a sweep that is started again
does only what is missing.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, cast

from node.lab.experiments.model import Cell, Experiment, Table
from node.lab.plugins import EXPERIMENTS, plugin
from node.lab.results import MANIFEST, LabMissing, check_lab, versions, write_table

POINTS = "points"
CONNECT_SECONDS = 10


class OtherSweep(Exception):
    """The folder holds another sweep."""


class NoCluster(Exception):
    """The cluster cannot be reached."""


Point = dict[str, Any]


def points_of(grid: Mapping[str, Sequence[Any]]) -> list[Point]:
    """Every combination of the grid's values."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def measure(name: str, point: Point, seed: int) -> dict[str, float]:
    """One point's summary; what a worker does."""
    return plugin(EXPERIMENTS, name, point, Experiment).run(seed).summary


class Plan(NamedTuple):
    """What is to be swept, and by whom."""

    name: str
    grid: Mapping[str, Sequence[Any]]
    seed: int
    workers: int
    cluster: str | None = None


def sweep(folder: Path, plan: Plan, say: Callable[[int, int], None]) -> Table:
    """Measure what is missing, and write the whole as one table.

    Raises:
        BadPlugin: the experiment is none, or does not take what the grid says.
        OtherSweep, LabMissing, NoCluster, OSError: it cannot be done here.
    """
    check_lab()
    name, seed = plan.name, plan.seed
    points = points_of(plan.grid)
    for point in points:
        plugin(EXPERIMENTS, name, point, Experiment)
    _claim(folder, {"experiment": name, "grid": dict(plan.grid), "seed": seed})
    missing = [point for point in points if not _path(folder, point).exists()]
    done = len(points) - len(missing)
    say(done, len(points))
    if missing:
        with _pool(plan.workers, plan.cluster) as pool:
            for point, summary in _measured(pool, name, missing, seed):
                _keep(_path(folder, point), summary)
                done += 1
                say(done, len(points))
    return _gathered(folder, points)


def _claim(folder: Path, wanted: dict[str, Any]) -> None:
    """Write down what is swept, or see that it is the same as before."""
    (folder / POINTS).mkdir(parents=True, exist_ok=True)
    path = folder / MANIFEST
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        if {key: found.get(key) for key in wanted} != json.loads(json.dumps(wanted)):
            raise OtherSweep(f"{folder} holds another sweep: name another --out")
    text = json.dumps({**wanted, "versions": versions()}, indent=2, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")


def _path(folder: Path, point: Point) -> Path:
    digest = hashlib.sha256(json.dumps(point, sort_keys=True).encode()).hexdigest()
    return folder / POINTS / f"{digest[:16]}.json"


def _keep(path: Path, summary: dict[str, float]) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(summary, sort_keys=True), encoding="utf-8")
    fresh.replace(path)


def _pool(workers: int, cluster: str | None) -> AbstractContextManager[Executor]:
    if cluster is None:
        return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise LabMissing("distributed") from None
    try:
        made: Any = Client
        client = made(cluster, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise NoCluster(f"no Dask scheduler answers at {cluster}: {error}".splitlines()[0]) from None
    return cast(AbstractContextManager[Executor], client.get_executor(pure=False))


def _measured(
    pool: Executor, name: str, points: Sequence[Point], seed: int
) -> Iterator[tuple[Point, dict[str, float]]]:
    """Each point with its summary, in the order in which they are done."""
    waiting = {pool.submit(measure, name, point, seed): point for point in points}
    for future in _in_time(pool, waiting):
        yield waiting[future], future.result()


def _in_time(pool: Executor, waiting: Mapping[Any, Point]) -> Iterator[Any]:
    if isinstance(pool, ProcessPoolExecutor):
        return iter(as_completed(waiting))
    # a cluster's futures are of its own kind: they are taken in the order in which they were asked for
    return iter(waiting)


def _gathered(folder: Path, points: Sequence[Point]) -> Table:
    """The table of all points, in the grid's order."""
    summaries = [json.loads(_path(folder, point).read_text(encoding="utf-8")) for point in points]
    found = sorted({name for summary in summaries for name in summary})
    options = list(points[0])
    rows: list[tuple[Cell, ...]] = []
    for point, summary in zip(points, summaries, strict=True):
        told = [each if isinstance(each, int | float | str) else json.dumps(each) for each in point.values()]
        rows.append((*told, *(summary.get(name, float("nan")) for name in found)))
    table = Table("sweep", (*options, *found), tuple(rows))
    write_table(folder, table)
    return table
