"""The whole demo: five nodes start, a random file is sold chunk by chunk over four hops, all is closed.

The floor of the stream is what each byte needs anyway: read, hashed as published and before it is
sold, sealed for the buyer, sealed and opened by the transport, hashed as ciphertext at either
end, opened, hashed again, and written.
"""

import os
import tempfile
from hashlib import sha256
from pathlib import Path
from statistics import median
from time import perf_counter

from node.lab.account import Account
from node.lab.demo import play
from node.lab.plan import Plan
from node.stream.manifest import Manifest
from node.stream.receipt import ChunkBought
from tests.bench.disk import temporary_files_on_disk
from tests.bench.harness import Report
from wire.crypto.aead import Aead, xchacha_open, xchacha_seal
from wire.units import Msat

FILM_BYTES = 32 << 20
MEBIBYTE = 1 << 20
FRAME_BYTES = 65000
WINDOW = 32
PRICE_MSAT = Msat(100_000)
ROUNDS = 3
GOALS = {64 << 10: None, 256 << 10: 20.0}
KEY, NONCE = bytes(32), bytes(24)


class Silent:
    """Nobody watches."""

    def stage(self, text: str) -> None:
        pass

    def channels_open(self) -> None:
        pass

    def buying(self, manifest: Manifest) -> None:
        pass

    def bought(self, chunk: ChunkBought) -> None:
        pass

    def page(self, url: str) -> None:
        pass


async def run(report: Report) -> None:
    """Two sizes of chunks, then a profile of the larger."""
    with temporary_files_on_disk(), tempfile.TemporaryDirectory() as directory:
        film = Path(directory) / "film.bin"
        film.write_bytes(os.urandom(FILM_BYTES))
        report.samples("hashes and ciphers of 1 MiB", [_floor_seconds() for _ in range(9)])
        for chunk_size, goal in GOALS.items():
            accounts = [await _play(film, chunk_size) for _ in range(ROUNDS)]
            _report(report, f"{chunk_size >> 10} KiB", accounts, goal)
        with report.profile("256 KiB chunks"):
            await _play(film, 256 << 10)


async def _play(film: Path, chunk_size: int) -> Account:
    plan = Plan(
        film=film,
        name=film.name,
        out=film.with_suffix(".copy"),
        chunk_size=chunk_size,
        price_msat=PRICE_MSAT,
        window=WINDOW,
        seed=0,
        first_port=0,
    )
    return await play(plan.checked(), Silent())


def _report(report: Report, size: str, accounts: list[Account], goal: float | None) -> None:
    goodput = median(account.goodput_mib_s for account in accounts)
    chunks = median(account.film.chunks / account.seconds.stream for account in accounts)
    report.figure(f"goodput, chunks of {size}", goodput, "MiB/s", goal=goal)
    report.samples(f"1 MiB, chunks of {size}", [1 / goodput], floor="hashes and ciphers of 1 MiB")
    report.rate(f"chunks of {size}", chunks)
    chunk_seconds = [account.chunk_ms.median / 1000 for account in accounts]
    report.samples(f"one chunk of {size}, {WINDOW} at once", chunk_seconds)
    report.samples(f"whole demo, chunks of {size}", [account.seconds.total for account in accounts])


def _floor_seconds() -> float:
    """Hash a mebibyte five times, encrypt and decrypt it once for the buyer and once for the wire."""
    content, frame, transport = os.urandom(MEBIBYTE), os.urandom(FRAME_BYTES), Aead(KEY)
    start = perf_counter()
    for _ in range(5):
        sha256(content)
    xchacha_open(KEY, NONCE, xchacha_seal(KEY, NONCE, content))
    for _ in range(MEBIBYTE // FRAME_BYTES):
        transport.open(0, transport.seal(0, frame))
    return perf_counter() - start
