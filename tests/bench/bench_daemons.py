"""Five `rill node` processes on a bitcoind, driven over their sockets: speed, memory, start-up.

Everything a user pays for is in it: the client's JSON, the socket, routes, signatures, both databases'
fsyncs. Invoices are made beforehand. Start-up is counted from the process's first instruction: to the
first answer on its socket, and to its last channel being taken up with the peer.
"""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter

import trio

from node.lab.daemons import HOST, Daemon, free_port
from tests.bench.disk import temporary_files_on_disk
from tests.bench.harness import Report
from tests.interop.bitcoin import Bitcoind
from tests.node.processes import until
from tests.node.relay_ground import find_bitcoind

NAMES = ("alice", "bob", "carol", "diana", "eric")
FUNDS_SAT = 20_000_000
CAPACITY_SAT = 10_000_000
AMOUNT_MSAT = 1_000_000
PAYMENTS = 300
AT_ONCE = 50
ALONE = 20
SMALL_CHANNEL_SAT = 50_000
COUNTS = (0, 100, 1000)
STARTS = 3
BATCH = 100
MEBIBYTE = 1 << 20


async def run(report: Report) -> None:
    """Payments over a line of five, then two nodes with ever more channels between them."""
    program = find_bitcoind()
    if program is None:
        return
    with temporary_files_on_disk(), tempfile.TemporaryDirectory() as folder:
        async with bitcoind_in(Path(folder), program) as bitcoind:
            await _payments(report, Path(folder), bitcoind)
            await _channels(report, Path(folder), bitcoind)


@asynccontextmanager
async def bitcoind_in(folder: Path, program: str) -> AsyncIterator[Bitcoind]:
    directory = folder / "bitcoind"
    directory.mkdir()
    bitcoind = Bitcoind(program, directory, free_port())
    try:
        await bitcoind.ready()
        yield bitcoind
    finally:
        bitcoind.close()


class Daemons:
    """Nodes on one bitcoind."""

    def __init__(self, folder: Path, bitcoind: Bitcoind) -> None:
        self._folder, self._bitcoind = folder, bitcoind
        self.nodes: dict[str, Daemon] = {}

    async def start(self, name: str) -> float:
        """Start a node, or start it again; the seconds it took until it answered."""
        if name not in self.nodes:
            self.nodes[name] = Daemon(name, self._folder / name, self._bitcoind.port)
        began = perf_counter()
        await self.nodes[name].start()
        return perf_counter() - began

    async def stop(self) -> None:
        for node in self.nodes.values():
            await node.stop()

    def __getitem__(self, name: str) -> Daemon:
        return self.nodes[name]

    def memory_mib(self, name: str) -> float:
        """The proportional set size of a node's process."""
        rollup = Path(f"/proc/{self.nodes[name].pid}/smaps_rollup").read_text()
        [line] = [line for line in rollup.splitlines() if line.startswith("Pss:")]
        return int(line.split()[1]) * 1024 / MEBIBYTE

    async def fund(self, name: str, coin_sat: int, coins: int = 1) -> None:
        """Give a node so many confirmed coins."""
        addresses = [(await self[name].call("newaddr"))["bech32"] for _ in range(coins)]
        for at in range(0, coins, BATCH):
            amounts = dict.fromkeys(addresses[at : at + BATCH], coin_sat / 10**8)
            await self._bitcoind.call("sendmany", "", amounts, wallet="miner")
        await self.mine(1)

    async def mine(self, count: int) -> None:
        height = await self._bitcoind.mine(count)
        for node in self.nodes.values():
            await until(partial(_has_read, node, height))

    async def connect(self, a: str, b: str) -> None:
        await self[a].call("connect", id=self[b].node_id, host=HOST, port=self[b].port)

    async def open(self, a: str, b: str, capacity_sat: int, *, is_announced: bool = True) -> None:
        await self[a].call("fundchannel", id=self[b].node_id, amount=capacity_sat, announce=is_announced)

    async def live(self, name: str, count: int) -> None:
        """Wait until so many channels are open and taken up."""
        await until(lambda: _are_live(self[name], count))

    async def invoices(self, payee: str, count: int, label: str) -> list[str]:
        made = []
        for number in range(count):
            invoice = await self[payee].call(
                "invoice", amount_msat=AMOUNT_MSAT, label=f"{label}-{number}", description=""
            )
            made.append(invoice["bolt11"])
        return made


async def _has_read(node: Daemon, height: int) -> bool:
    return bool((await node.call("getinfo"))["blockheight"] >= height)


async def _are_live(node: Daemon, count: int) -> bool:
    channels = (await node.call("listpeerchannels"))["channels"]
    usable = [each for each in channels if each["state"] == "CHANNELD_NORMAL" and each["peer_connected"]]
    return len(usable) >= count


async def _payments(report: Report, folder: Path, bitcoind: Bitcoind) -> None:
    line = Daemons(folder, bitcoind)
    try:
        for name in NAMES:
            await line.start(name)
        for name in NAMES[:-1]:
            await line.fund(name, FUNDS_SAT)
        for a, b in pairwise(NAMES):
            await line.connect(a, b)
            await line.open(a, b, CAPACITY_SAT)
        await line.mine(6)
        await until(lambda: _sees(line[NAMES[0]], 2 * (len(NAMES) - 1)))
        for hops, payee, goal, beside in ((1, "bob", 300, "CLN 190"), (4, "eric", 100, "CLN 70")):
            per_second, alone = await _pay(line, payee)
            name = f"{hops} hop{'s' * (hops > 1)}"
            report.rate(f"payments over {name}, {AT_ONCE} in flight", per_second, goal=goal, beside=beside)
            there = "CLN 0.200" if hops == 4 else None
            report.samples(f"one payment over {name}", alone, goal=0.1, beside=there)
        report.figure(
            "memory of a node (PSS)", median(line.memory_mib(name) for name in NAMES), "MiB", beside="CLN 33"
        )
    finally:
        await line.stop()


async def _sees(node: Daemon, directions: int) -> bool:
    return len((await node.call("listchannels"))["channels"]) == directions


async def _pay(line: Daemons, payee: str) -> tuple[float, list[float]]:
    """Payments in a second with many at once; the seconds of each of some that were alone."""
    payer = line[NAMES[0]]
    alone = []
    for bolt11 in await line.invoices(payee, ALONE, f"alone-{payee}"):
        began = perf_counter()
        await payer.call("pay", bolt11=bolt11)
        alone.append(perf_counter() - began)
    waiting = await line.invoices(payee, PAYMENTS, payee)

    async def pay_some() -> None:
        while waiting:
            await payer.call("pay", bolt11=waiting.pop())

    began = perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(pay_some)
    return PAYMENTS / (perf_counter() - began), alone


async def _channels(report: Report, folder: Path, bitcoind: Bitcoind) -> None:
    """Two nodes, one of which starts again and again, with more channels each time."""
    pair = Daemons(folder, bitcoind)
    memory_mib: list[float] = []
    try:
        for name in ("frank", "grace"):
            await pair.start(name)
        for before, count in pairwise((0, *COUNTS)):
            await _open(pair, count - before)
            await pair.live("frank", count)
            ready, taken_up = await _start_again(pair, count)
            report.samples(f"start-up with {count:,} channels, answers", ready)
            if count:
                report.samples(f"start-up with {count:,} channels, all taken up", taken_up)
            memory_mib.append(pair.memory_mib("frank"))
    finally:
        await pair.stop()
    per_channel_kib = (memory_mib[-1] - memory_mib[0]) * 1024 / COUNTS[-1]
    report.figure("memory of a channel (PSS)", per_channel_kib, "KiB")


async def _open(pair: Daemons, count: int) -> None:
    if not count:
        return
    await pair.connect("frank", "grace")
    await pair.fund("frank", SMALL_CHANNEL_SAT + 5_000, count)
    for at in range(0, count, BATCH):
        for _ in range(min(BATCH, count - at)):
            await pair.open("frank", "grace", SMALL_CHANNEL_SAT, is_announced=False)
        await pair.mine(1)
    await pair.mine(6)


async def _start_again(pair: Daemons, count: int) -> tuple[list[float], list[float]]:
    ready, taken_up = [], []
    for _ in range(STARTS):
        await pair["frank"].stop()
        ready.append(await pair.start("frank"))
        began = perf_counter()
        await pair.live("frank", count)
        taken_up.append(ready[-1] + perf_counter() - began)
    return ready, taken_up
