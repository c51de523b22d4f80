"""A network of mainnet's size: loading it, and routes beside a plain Dijkstra and scipy's, in the same run.

The network is the generated one, so that anybody can repeat this; and the snapshot, where it lies beside the
checkout. scipy's search is a yardstick only: it takes every fee at one amount, forwards from the payer, so
that its ways are not exact. It gets the same time to choose edges and to set weights as ours.

What a node's payer does with the same network follows: the routes of a payment from its own graph, the
first time and again, while one channel in a thousand changes between any two payments; and for how
long nothing else in the process comes to its turn.
"""

import lzma
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from random import Random
from time import perf_counter

import numpy as np
import trio
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra
from trio.abc import Instrument

from gossip.asked import MOST_PARTS, Asked
from gossip.beliefs import Beliefs
from gossip.compact import CompactGraph
from gossip.exports import to_table
from gossip.graph import Graph
from gossip.imports import from_table
from gossip.liquidity import nothing_known
from gossip.no_route import NoRoute
from gossip.search import Search
from gossip.splitting import split
from node.daemon.planning import Planner
from node.lab.generator import generate
from tests.bench.harness import Report
from tests.gossip.networks import MAINNET, graph_of, incoming, plain_dijkstra
from wire.crypto.secp256k1 import Point

AMOUNT_MSAT = 100_000_000
LARGE_MSAT = 3_000_000_000
PAIRS = 40
PLANS = 30
LEAST_SAT = 50_000_000
SEED = 7

LOADING = """
import sys
from pathlib import Path
from node.lab.graphs import read_graph
read_graph([Path(sys.argv[1])])
# not getrusage: its peak begins with that of the process that started this one
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""


def run(report: Report) -> None:
    """The generated network, then the snapshot."""
    measure(report, "generated", to_table(generate(1)))
    if MAINNET.exists():
        measure(report, "snapshot", lzma.decompress(MAINNET.read_bytes()))
    if MAINNET.exists() and sys.platform == "linux":
        report.figure("snapshot: peak memory of a process that loads it", peak_mib(), "MiB")


def measure(report: Report, name: str, table: bytes) -> None:
    """Load a network and find routes in it."""
    report.time(f"{name}: load", lambda: from_table(table), goal=2.0)
    graph = from_table(table)
    pairs = routable(graph)
    into = incoming(graph)
    plain = [seconds(plain_dijkstra, into, *pair, AMOUNT_MSAT) for pair in pairs]
    report.samples(f"{name}: plain Dijkstra", plain)
    report.samples(f"{name}: scipy's", [seconds(scipys, graph, *pair) for pair in pairs])
    cold = [seconds(route, graph, *pair) for pair in pairs]
    report.samples(
        f"{name}: route, cold", cold, floor=f"{name}: plain Dijkstra", goal=0.005, beside="CLN 0.0063"
    )
    report.samples(f"{name}: again, beside scipy's", cold, floor=f"{name}: scipy's")
    further = []
    for source, target in pairs:
        search = Search(graph, source, AMOUNT_MSAT)
        further.append(seconds(search.find, target, AMOUNT_MSAT * 5 // 4))
    report.samples(f"{name}: a further part", further, goal=0.001)
    known = nothing_known(graph)
    parts = [seconds(split, graph, known, *pair, LARGE_MSAT) for pair in pairs[:10]]
    report.samples(f"{name}: split by minimum-cost flow", parts, beside="CLN 0.056")
    trio.run(plan, report, name, graph_of(graph))


async def plan(report: Report, name: str, graph: Graph) -> None:
    """The plans of a payer with a few large channels, while gossip goes on."""
    ends = [node_id for node_id in graph.node_ids if _size_sat(graph, node_id) >= LEAST_SAT]
    chance, payer = Random(SEED), ends[SEED]
    planner, beliefs = Planner(graph, payer, lambda: 0.0), Beliefs()
    own = {c.short_channel_id: c.capacity_sat * 500 for c in graph.channels_of(payer)}
    for kind, amount_msat, parts in (("whole", AMOUNT_MSAT, 1), ("in parts", LARGE_MSAT, MOST_PARTS)):
        taken, held = list[float](), Held()
        for payee in chance.sample(ends, PLANS):
            asked = Asked(payer, payee, amount_msat, 18, own_msat=own, most_parts=parts)
            for scid in chance.sample(sorted(graph.channels), len(graph) // 1000):
                graph.add_channel(graph.channels[scid])
            start = perf_counter()
            with held, suppress(NoRoute):
                await planner.routes(asked, beliefs)
            taken.append(perf_counter() - start)
        report.samples(f"{name}: the payer's first plan, {kind}", taken[:1])
        report.samples(f"{name}: the payer's plans, {kind}", taken[1:])
        report.samples(f"{name}: others wait meanwhile, {kind}", held.seconds[1:])


class Held(Instrument):
    """For how long the other tasks of the process have to wait at most, while something is done."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __enter__(self) -> None:
        self._last, self._longest = perf_counter(), 0.0
        trio.lowlevel.add_instrument(self)

    def __exit__(self, *_: object) -> None:
        trio.lowlevel.remove_instrument(self)
        self.seconds.append(max(self._longest, perf_counter() - self._last))

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._last = perf_counter()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._longest = max(self._longest, perf_counter() - self._last)


def _size_sat(graph: Graph, node_id: Point) -> int:
    return sum(channel.capacity_sat for channel in graph.channels_of(node_id))


def routable(graph: CompactGraph) -> list[tuple[int, int]]:
    """Random pairs with a route between them."""
    chance, found = Random(SEED), list[tuple[int, int]]()
    while len(found) < PAIRS:
        source, target = chance.sample(range(graph.nodes), 2)
        if route(graph, source, target) is not None:
            found.append((source, target))
    return found


def route(graph: CompactGraph, source: int, target: int) -> object:
    """Ours, from nothing."""
    return Search(graph, source, AMOUNT_MSAT).find(target, AMOUNT_MSAT)


def scipys(graph: CompactGraph, source: int, target: int) -> bool:
    """scipy's, from nothing: edges that carry the amount, fees at the amount, and the search."""
    usable = graph.is_enabled & (graph.least_msat <= AMOUNT_MSAT) & (graph.most_msat >= AMOUNT_MSAT)
    edges = np.flatnonzero(usable)
    weights = graph.fee_base_msat[edges] + graph.fee_millionths[edges] * AMOUNT_MSAT // 1_000_000 + 1.0
    ends = (graph.source[edges], graph.target[edges])
    matrix = csr_matrix((weights, ends), shape=(graph.nodes, graph.nodes))
    least, _ = dijkstra(matrix, indices=source, return_predecessors=True)
    return bool(np.isfinite(least[target]))


def seconds(search: Callable[..., object], *asked: object) -> float:
    """How long one call takes."""
    start = perf_counter()
    search(*asked)
    return perf_counter() - start


def peak_mib() -> float:
    """The peak memory of a process that reads the snapshot's file and nothing else."""
    done = subprocess.run([sys.executable, "-c", LOADING, str(MAINNET)], capture_output=True, check=True)
    return int(done.stdout) / 1024
