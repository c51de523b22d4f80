"""Paid content over four hops: chunks of every size through windows of every size, and what it costs.

The floor is the same file from the same process over HTTP for nothing. An hour of 1080p, 8 Mbit/s in
chunks of 256 KiB, is 13,733 chunks: as many small ones are bought in a row, and the last thousand are
set against the first. What a viewer costs is measured on a process of its own.
"""

import os
import socket
import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import process_time
from urllib.request import urlopen

import trio
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route

from node.daemon.web import serve_web
from node.lab.network import HOST, Network, running_network
from node.lab.plan import CAPACITY_SAT, PUSHED_SAT
from node.stream.budget import Budget
from node.stream.files import FileSource
from node.stream.library import Library
from node.stream.link import Address, Link
from node.stream.pace import MOST_BYTES_AT_ONCE, Window
from node.stream.provider import Provider
from node.stream.receipt import ChunkBought
from tests.bench.disk import temporary_files_on_disk
from tests.bench.harness import Report
from tests.node.processes import RillNode, running, until
from tests.node.test_rill_node import fund, join
from wire.units import Msat, msat

KIBIBYTE, MEBIBYTE = 1 << 10, 1 << 20
SIZES = (16 * KIBIBYTE, 64 * KIBIBYTE, 256 * KIBIBYTE, MEBIBYTE)
WINDOWS = (1, 4, 16, 64)
USUAL_SIZE, USUAL_WINDOW = 256 * KIBIBYTE, 16
FILM_BYTES = 32 * MEBIBYTE
FULL_HD_BYTES_PER_SECOND = 1_000_000
HOUR_CHUNKS = 3600 * FULL_HD_BYTES_PER_SECOND // USUAL_SIZE
EDGE_CHUNKS = 1000
PRICE_MSAT = Msat(1_000)
BUDGET = Budget(PRICE_MSAT, Msat(10**9), Msat(10_000))
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Market:
    """A buyer and a seller at the ends of a line, and what was bought."""

    def __init__(self, network: Network, directory: Path) -> None:
        self._directory = directory
        self._buyer, self._seller = network.nodes["alice"], network.nodes["eric"]
        self._provider = Provider(self._seller)
        self._times: list[float] = []

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Sell until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._provider.serve)
            self._library = Library(self._buyer, self._directory / "library", on_chunk=self._note)
            await nursery.start(self._library.run)
            task_status.started()

    def _note(self, _: ChunkBought) -> None:
        self._times.append(trio.current_time())

    async def buy(self, film: Path, chunk_size: int, window: int) -> list[float]:
        """Buy a whole film; when it began, and when each chunk was there."""
        out = film.with_suffix(".copy")
        with FileSource(film) as source:
            manifest = await self._provider.publish(
                source, title="", price_msat=PRICE_MSAT, chunk_size=chunk_size
            )
            link = Link(manifest.root, (Address(self._seller.node_id, HOST, self._seller.port),))
            self._times = [trio.current_time()]
            title = await self._library.open(link, BUDGET, out=out, window=Window(window))
            await title.wait_until_delivered()
            self._library.close(title.root)
        assert not title.is_stopped, title.snapshot().problem
        out.unlink()
        return self._times


async def run(report: Report) -> None:
    """Sizes and windows, the same for nothing, an hour, and one viewer's share."""
    with temporary_files_on_disk(), tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with running_network(1, 0) as network, trio.open_nursery() as nursery:
            await network.fund()
            await network.open_line(CAPACITY_SAT, msat(PUSHED_SAT))
            await network.wait_for_gossip()
            market = Market(network, directory)
            await nursery.start(market.run)
            await _sizes_and_windows(report, market, directory)
            await _against_http(report, market, a_film(directory, FILM_BYTES))
            await _an_hour(report, market, directory)
            nursery.cancel_scope.cancel()
        await _one_viewer(report, directory)


async def _sizes_and_windows(report: Report, market: Market, directory: Path) -> None:
    for chunk_size in SIZES:
        for window in WINDOWS:
            if window * chunk_size > MOST_BYTES_AT_ONCE:
                continue
            chunks = max(16, min(128, 4 * window))
            times = await market.buy(a_film(directory, chunks * chunk_size), chunk_size, window)
            goodput = chunks * chunk_size / MEBIBYTE / (times[-1] - times[0])
            report.figure(f"goodput, chunks of {chunk_size >> 10} KiB, window {window}", goodput, "MiB/s")


async def _against_http(report: Report, market: Market, film: Path) -> None:
    """The same file from the same process, for nothing and paid."""

    async def give(_: object) -> FileResponse:
        return FileResponse(film)

    app = Starlette(routes=[Route("/film", give)])
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve_web, app, HOST, 0)
        began = trio.current_time()
        await trio.to_thread.run_sync(download, f"http://{HOST}:{port}/film")
        free_seconds = trio.current_time() - began
        nursery.cancel_scope.cancel()
    report.samples("32 MiB over HTTP, for nothing", [free_seconds])
    cpu = process_time()
    times = await market.buy(film, USUAL_SIZE, USUAL_WINDOW)
    cpu = process_time() - cpu
    seconds = times[-1] - times[0]
    report.samples("32 MiB paid, chunks of 256 KiB", [seconds], floor="32 MiB over HTTP, for nothing")
    report.samples("CPU of a chunk of 256 KiB, five nodes together", [cpu / (len(times) - 1)])


async def _an_hour(report: Report, market: Market, directory: Path) -> None:
    """As many chunks as an hour has; the first thousand against the last."""
    film = a_film(directory, HOUR_CHUNKS * SIZES[0])
    times = await market.buy(film, SIZES[0], 64)
    first = EDGE_CHUNKS / (times[EDGE_CHUNKS] - times[0])
    last = EDGE_CHUNKS / (times[-1] - times[-1 - EDGE_CHUNKS])
    report.rate("chunks of 16 KiB, the first 1,000 of an hour", first)
    report.rate("chunks of 16 KiB, the last 1,000 of an hour", last)
    report.figure("last against first", last / first, "times", goal=0.9)


async def _one_viewer(report: Report, directory: Path) -> None:
    """The viewer's own process among five: its share of a core at 8 Mbit/s."""
    film = a_film(directory, FILM_BYTES)
    with running(directory, free_port(), "alice bob carol diana eric") as (chain, nodes):
        for a, b in pairwise(nodes):
            await fund(chain, a)
            await join(chain, a, b)
        alice, eric = nodes[0], nodes[-1]
        await until(partial(knows_all, alice))
        share = await eric.call("share", path=str(film), price_msat=PRICE_MSAT, chunk_size=USUAL_SIZE)
        before = cpu_seconds(alice)
        await alice.call("fetch", link=share["link"], out=str(directory / "copy"))
        await until(partial(is_delivered, alice, share["root"]))
        spent = cpu_seconds(alice) - before
    chunk_seconds = spent / share["chunks"]
    report.samples("CPU of a chunk of 256 KiB, the viewer's process", [chunk_seconds])
    cores = chunk_seconds * FULL_HD_BYTES_PER_SECOND / USUAL_SIZE
    report.samples("a core's seconds for a second of 1080p (8 Mbit/s)", [cores], goal=0.1)


async def knows_all(node: RillNode) -> bool:
    return len((await node.call("listchannels"))["channels"]) == 8


async def is_delivered(node: RillNode, root: str) -> bool:
    return bool((await node.call("waittitle", root=root, timeout=0.5))["delivered"])


def cpu_seconds(node: RillNode) -> float:
    """What a process has used so far, of its own and of the system's time."""
    fields = Path(f"/proc/{node.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def a_film(directory: Path, length: int) -> Path:
    """A file that was never bought before."""
    film = directory / f"{length}.bin"
    film.write_bytes(os.urandom(length))
    return film


def download(url: str) -> None:
    with urlopen(url) as answer:
        while answer.read(MEBIBYTE):
            pass


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
