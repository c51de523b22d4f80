"""The lab: payment attempts in flow fidelity over a network of mainnet's size, and what a real node weighs.

Attempts are counted against the processor's time, so that others on the machine do not count. The traffic
is many consumers who pay fifty merchants, who are large nodes more often than small ones; amounts are
log-normal around 3,000 sat. The router's trees are built within the time. Nodes are weighed in processes of
their own.
"""

import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random

import trio

from node.lab.flow.engine import Engine, Wish
from node.lab.flow.network import FlowNetwork
from node.lab.flow.towns import town_of
from node.lab.flow.trees import TreeRouter
from node.lab.generator import generate
from node.lab.network import running_network
from node.lab.traffic.model import Town
from tests.bench.disk import temporary_files_on_disk
from tests.bench.harness import Report
from wire.units import Msat, Sat

PAYMENTS, MERCHANTS = 10_000, 50
USUAL_MSAT = 3_300_000
FEW, MANY = 5, 45
CAPACITY_SAT, PUSHED_MSAT = Sat(1_000_000), Msat(500_000_000)
MEBIBYTE, GIBIBYTE = 1 << 20, 1 << 30


async def run(report: Report) -> None:
    """Attempts a second, then nodes per GB."""
    network = town_of(generate(1), Random(1))
    report.figure("channels in flow fidelity", len(network.ends), f", {len(network.names):,} nodes")
    engine = _fed(network)
    began = time.process_time()
    engine.run()
    rate = engine.attempts / (time.process_time() - began)
    report.rate("payment attempts in flow fidelity", rate, goal=1000)
    paid = sum(outcome.is_paid for outcome in engine.outcomes)
    report.figure("of its payments arrive", 100 * paid / len(engine.outcomes), "%")
    own = ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1)
    with temporary_files_on_disk(), own:
        weights = list(own.map(_weigh, (FEW, MANY)))
    each = (weights[1] - weights[0]) / (MANY - FEW)
    report.figure("a real node with its channels weighs", each / MEBIBYTE, "MiB")
    report.figure("real nodes per GB in one process", GIBIBYTE / each, "")


def _fed(network: FlowNetwork) -> Engine:
    random = Random(2)
    able = [place for place in range(len(network.names)) if _may_send(network, place)]
    merchants = Town(network).some(MERCHANTS, random, able)
    engine = Engine(network, TreeRouter(network))
    for number in range(PAYMENTS):
        payer, payee = random.choice(able), random.choice(merchants)
        if payer != payee:
            amount_msat = round(random.lognormvariate(15, 1.2))
            engine.wish(Wish(number * 100_000, payer, payee, amount_msat))
    return engine


def _weigh(count: int) -> int:
    return trio.run(_resident_bytes, count)


def _may_send(network: FlowNetwork, place: int) -> bool:
    """Whether a node has a channel that is switched on, and the usual amount in it."""
    return any(network.has_policy[at] and network.room_msat(at) > USUAL_MSAT for at in network.out[place])


async def _resident_bytes(count: int) -> int:
    """What this process holds while so many nodes run in a line, every graph complete."""
    names = [f"node{number}" for number in range(count)]
    async with running_network(count, names=names) as network:
        await network.fund()
        await network.open_line(CAPACITY_SAT, PUSHED_MSAT)
        await network.wait_for_gossip()
        pages = int(Path("/proc/self/statm").read_text().split()[1])  # noqa: ASYNC240 - no disk's
        return pages * resource.getpagesize()
