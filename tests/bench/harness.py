"""The benchmarks' harness: repeat, take the median, set it against a floor of the same run.

A benchmark is a module `tests/bench/bench_<subject>.py` with one function, plain or async:

    def run(report: Report) -> None:
        report.time("ecdh", lambda: ecdh(SECRET, POINT))                              # a floor
        report.time("peel", lambda: peel(SECRET, PACKET, HASH), floor="ecdh")         # and a ratio to it
        report.samples("latency, four hops", seconds, goal=0.030, beside="CLN 0.200")
        report.rate("payments, 50 in flight", 312.0, goal=300, beside="CLN 70")
        report.figure("goodput, 256 KiB chunks", 24.1, "MiB/s", goal=20)
        with report.profile("four hops, 50 in flight"):                        # its costliest functions
            ...

`floor` names an earlier line of the same module: what the work would cost if nothing but its unavoidable part
were done (the ECDH, the signature, the hash, the fsync). Ratios travel between machines, times do not, so a
line that can have a floor has one. Nothing here asserts: a benchmark prints, a person judges.

`make bench` runs all modules; `python -m tests.bench onion wire --json out.json` some of them.
"""

import cProfile
import gc
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from types import CodeType

from msgspec import Struct

SAMPLE_SECONDS = 0.002
MOST_SAMPLES = 200
LEAST_SAMPLES = 5
PROFILE_LINES = 10


class Line(Struct, frozen=True, omit_defaults=True):
    """One figure of the report: seconds when `unit` is "s", otherwise a count of `unit`."""

    subject: str
    name: str
    median: float
    unit: str = "s"
    p95: float | None = None
    samples: int = 1
    floor: str | None = None
    ratio: float | None = None
    goal: float | None = None
    beside: str | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is reached: times want to be below it, everything else above it."""
        if self.goal is None:
            return None
        return self.median <= self.goal if self.unit == "s" else self.median >= self.goal


class Hotspot(Struct, frozen=True):
    """One function of a profile: its own share of the time, its calls, where it is."""

    own_seconds: float
    share: float
    calls: int
    where: str


class Report:
    """What the benchmarks found, in the order of finding it."""

    def __init__(self, *, budget_seconds: float = 0.4) -> None:
        self.budget_seconds = budget_seconds
        self.subject = ""
        self.lines: list[Line] = []
        self.profiles: dict[str, list[Hotspot]] = {}

    def time(
        self, name: str, work: Callable[[], object], *, floor: str | None = None, goal: float | None = None
    ) -> float:
        """Time one call of `work`, called in batches of at least 2 ms; gives the median in seconds."""
        batch = _batch_size(work)
        seconds: list[float] = []
        is_collecting = gc.isenabled()
        gc.disable()
        try:
            deadline = perf_counter() + self.budget_seconds
            while len(seconds) < LEAST_SAMPLES or (perf_counter() < deadline and len(seconds) < MOST_SAMPLES):
                seconds.append(_seconds_of(work, batch) / batch)
        finally:
            if is_collecting:
                gc.enable()
        return self.samples(name, seconds, floor=floor, goal=goal)

    def samples(
        self,
        name: str,
        seconds: Sequence[float],
        *,
        floor: str | None = None,
        goal: float | None = None,
        beside: str | None = None,
    ) -> float:
        """Report durations measured by the benchmark itself; gives their median in seconds."""
        middle = median(seconds)
        ratio = middle / self._median_of(floor) if floor else None
        p95 = percentile(seconds, 0.95) if len(seconds) > 1 else None
        self._add(Line(self.subject, name, middle, "s", p95, len(seconds), floor, ratio, goal, beside))
        return middle

    def rate(
        self,
        name: str,
        per_second: float,
        *,
        floor: str | None = None,
        goal: float | None = None,
        beside: str | None = None,
    ) -> None:
        """Report how many of something were done in a second; the floor is the time of one."""
        ratio = 1 / per_second / self._median_of(floor) if floor else None
        self._add(
            Line(self.subject, name, per_second, "/s", floor=floor, ratio=ratio, goal=goal, beside=beside)
        )

    def figure(
        self, name: str, value: float, unit: str, *, goal: float | None = None, beside: str | None = None
    ) -> None:
        """Report any other figure, of which more is better."""
        self._add(Line(self.subject, name, value, unit, goal=goal, beside=beside))

    @contextmanager
    def profile(self, name: str) -> Iterator[None]:
        """Profile what happens inside, and report the ten functions with the most time of their own."""
        profiler = cProfile.Profile()
        profiler.enable()
        try:
            yield
        finally:
            profiler.disable()
            self.profiles[f"{self.subject}: {name}"] = _hotspots(profiler)

    def _add(self, line: Line) -> None:
        self.lines.append(line)

    def _median_of(self, name: str) -> float:
        return next(line.median for line in self.lines if (line.subject, line.name) == (self.subject, name))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def machine() -> dict[str, str]:
    """The machine of this run, as far as it shows: cores, processor, system, Python."""
    return {
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _batch_size(work: Callable[[], object]) -> int:
    """How many calls make a sample of at least 2 ms; finding it also warms the code up."""
    batch = 1
    while (spent := _seconds_of(work, batch)) < SAMPLE_SECONDS:
        batch = max(batch + 1, min(batch * 10, int(batch * 1.2 * SAMPLE_SECONDS / max(spent, 1e-9))))
    return batch


def _seconds_of(work: Callable[[], object], batch: int) -> float:
    start = perf_counter()
    for _ in range(batch):
        work()
    return perf_counter() - start


def _hotspots(profiler: cProfile.Profile) -> list[Hotspot]:
    entries = sorted(profiler.getstats(), key=lambda entry: -entry.inlinetime)
    total = sum(entry.inlinetime for entry in entries) or 1e-9
    return [
        Hotspot(entry.inlinetime, entry.inlinetime / total, entry.callcount, _where(entry.code))
        for entry in entries[:PROFILE_LINES]
    ]


def _where(code: CodeType | str) -> str:
    """`htlc/channel.py:120 sign` for our code, a shorter place for others', a name for what is in C."""
    if isinstance(code, str):
        return code
    path = Path(code.co_filename)
    root = Path(__file__).parents[2]
    is_ours = path.is_relative_to(root) and ".venv" not in path.parts
    place = path.relative_to(root) if is_ours else "/".join(path.parts[-2:])
    return f"{place}:{code.co_firstlineno} {code.co_qualname}"
