"""What the whole node does: payments over one hop and over four, durably, all nodes in one process.

Every node has its own SQLite file with synchronous=FULL on a real disk, and its own encrypted
connections over the loopback. A payment is counted from its invoice to the preimage at the payer, with both
durable. The floor of a hop is the cryptography that nobody can leave out, in straight lines. Beside
stands Core Lightning 26.06, one process per node, on two shared cores as well.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from statistics import median
from time import perf_counter

import trio

from node.lab.network import NAMES, Network, running_network
from tests.bench.disk import seconds_to_sync, temporary_files_on_disk
from tests.bench.harness import Report
from wire.crypto.aead import Aead, chacha20_xor
from wire.crypto.hashes import sha256
from wire.crypto.secp256k1 import (
    add_multiples,
    add_to_point,
    ecdh,
    is_signed,
    multiply_point,
    point_of,
    sign,
)
from wire.units import Msat, Sat

CAPACITY_SAT, PUSHED_MSAT = Sat(10_000_000), Msat(5_000_000_000)
AMOUNT_MSAT = Msat(1_000_000)
DUST_MSAT = Msat(100_000)
IN_FLIGHT = (1, 10, 50, 200)
ROUNDS = 3
STARTS = 5
LONE_PAYMENTS = 60
SEEDS = count()

AIMED_IN_FLIGHT = 50

SECRET, DIGEST = sha256(b"secret"), sha256(b"digest")
PUBKEY, POINT, OTHER_POINT = point_of(SECRET), point_of(sha256(b"point")), point_of(sha256(b"other"))
AEAD, ONION, ADD, FULFILL = Aead(DIGEST), bytes(1300), bytes(1452), bytes(74)
FLOOR_SAMPLES = 7


async def run(report: Report) -> None:
    """Start, one hop, four hops, and the profile of four hops."""
    with temporary_files_on_disk() as file_system:
        report.samples(f"a write made durable, 4 KiB, {file_system}", seconds_to_sync())
        await _run_starts(report)
        async with _line(NAMES[:2]) as network:
            _run_floors(report, 1)
            await _run_rates(report, network, "one hop", 1000, "CLN 190")
        async with _line(NAMES) as network:
            _run_floors(report, 4)
            await _run_lone(report, network)
            await _run_rates(report, network, "four hops", 300, "CLN 70")
            _run_storage(report, network)
            with report.profile("four hops, 50 in flight"):
                await _pay_many(network, 300, 50, AMOUNT_MSAT)


# The line


@asynccontextmanager
async def _line(names: tuple[str, ...]) -> AsyncIterator[Network]:
    """A fresh network in which the first node can pay the last."""
    async with running_network(next(SEEDS), names=names) as network:
        await network.fund()
        await network.open_line(CAPACITY_SAT, PUSHED_MSAT)
        await network.wait_for_gossip()
        yield network


async def _run_starts(report: Report) -> None:
    seconds = []
    for _ in range(STARTS):
        start = trio.current_time()
        async with _line(NAMES):
            seconds.append(trio.current_time() - start)
    report.samples("from nothing to five routable nodes", seconds, goal=2.0, beside="CLN 8 to 19 s")


# Payments


async def _pay(network: Network, amount_msat: Msat) -> None:
    """One payment from end to end, beginning with its invoice."""
    payer, payee = (network.nodes[name] for name in (NAMES[0], list(network.nodes)[-1]))
    invoice = await payee.add_invoice(amount_msat)
    await payer.pay(payee.node_id, invoice.payment_hash, invoice.payment_secret, amount_msat)


async def _pay_many(network: Network, total: int, in_flight: int, amount_msat: Msat) -> float:
    """Make so many payments, so many at once; gives how many settled in a second."""
    left = iter(range(total))

    async def pay_next() -> None:
        for _ in left:
            await _pay(network, amount_msat)

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(in_flight):
            nursery.start_soon(pay_next)
    rate = total / (trio.current_time() - start)
    await network.wait_for_quiet()
    return rate


def _commits(network: Network) -> int:
    return sum(node.store.commits for node in network.nodes.values())


async def _run_lone(report: Report, network: Network) -> None:
    """One payment at a time, its invoice made before: what a person who pays waits for."""
    payer, payee = network.nodes[NAMES[0]], network.nodes[NAMES[-1]]
    seconds, commits = [], []
    for _ in range(LONE_PAYMENTS):
        invoice = await payee.add_invoice(AMOUNT_MSAT)
        before, start = _commits(network), trio.current_time()
        await payer.pay(payee.node_id, invoice.payment_hash, invoice.payment_secret, AMOUNT_MSAT)
        seconds.append(trio.current_time() - start)
        await network.wait_for_quiet()
        commits.append(_commits(network) - before)
    report.samples("one payment, four hops", seconds, floor=_floor_of(4, 1), goal=0.030, beside="CLN 200 ms")
    report.figure("commits of all nodes for it", median(commits), "")


async def _run_rates(report: Report, network: Network, route: str, goal: float, beside: str) -> None:
    """Payments in a second, by how many are under way at once; then the same below the dust limit."""
    hops = len(network.channels)
    for amount_msat, kind in ((AMOUNT_MSAT, ""), (DUST_MSAT, ", dust")):
        for in_flight in IN_FLIGHT:
            is_aimed = amount_msat == AMOUNT_MSAT and in_flight == AIMED_IN_FLIGHT
            total, before = max(40, 4 * in_flight), _commits(network)
            rates = [await _pay_many(network, total, in_flight, amount_msat) for _ in range(ROUNDS)]
            report.rate(
                f"{route}, {in_flight} in flight{kind}",
                median(rates),
                floor=None if kind else _floor_of(hops, in_flight),
                goal=goal if is_aimed else None,
                beside=beside if is_aimed else None,
            )
            if is_aimed:
                commits = (_commits(network) - before) / (ROUNDS * total)
                report.figure(f"commits of all nodes for 100 payments, {route}", 100 * commits, "")


def _run_storage(report: Report, network: Network) -> None:
    """What a forwarder keeps of a settled HTLC, so that any state its peer revoked stays punishable."""
    forwarder = network.nodes[NAMES[1]].store.db
    kept, pages, page_bytes = (
        forwarder.execute(question).get
        for question in ("select count(*) from past_htlcs", "pragma page_count", "pragma page_size")
    )
    report.figure("kept by a forwarder of each settled HTLC", pages * page_bytes / kept, "B")


# The floor


def _floor_of(hops: int, in_flight: int) -> str:
    return f"crypto, {hops} hop{'s' * (hops > 1)}, one of {in_flight}"


def _run_floors(report: Report, hops: int) -> None:
    for in_flight in IN_FLIGHT:
        seconds = []
        for _ in range(FLOOR_SAMPLES):
            start = perf_counter()
            _pay_in_straight_lines(hops, in_flight)
            seconds.append((perf_counter() - start) / in_flight)
        report.samples(_floor_of(hops, in_flight), seconds)


def _pay_in_straight_lines(hops: int, payments: int) -> None:
    """The cryptography of so many payments, if in every channel they share all four signatures.

    The two nodes of a channel share the keys of a commitment here, as they do in one process.
    """
    for _ in range(payments):
        for _ in range(hops):
            ecdh(SECRET, POINT)
    for _ in range(hops):
        for _ in range(4):
            _commit()
        for _ in range(payments):
            _pass_htlc()


def _commit() -> None:
    """One commitment without HTLCs: a new point and its keys, a signature, and the old secret."""
    point_of(SECRET)
    for basepoint in (POINT, PUBKEY, OTHER_POINT):
        add_to_point(basepoint, DIGEST)
    add_multiples(POINT, DIGEST, OTHER_POINT, DIGEST)
    is_signed(PUBKEY, DIGEST, sign(SECRET, DIGEST))
    point_of(SECRET)


def _pass_htlc() -> None:
    """One HTLC: signed in either commitment, its onion peeled, its messages sealed and opened."""
    for _ in range(2):
        is_signed(PUBKEY, DIGEST, sign(SECRET, DIGEST))
    ecdh(SECRET, POINT)
    multiply_point(POINT, DIGEST)
    chacha20_xor(SECRET, ONION + ONION)
    for message in (ADD, FULFILL):
        AEAD.open(0, AEAD.seal(0, message))
