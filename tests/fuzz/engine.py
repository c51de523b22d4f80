"""Feeding one target for a while: with atheris, which looks where the bytes lead, or without."""

import random
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz.targets import Target, targets


class Undeclared(Exception):
    """A target raised what it does not declare."""


def feed(target: Target, raw: bytes) -> None:
    """Feed it once.

    Raises:
        Undeclared: it raised something else than it declares.
    """
    try:
        target.feed(raw)
    except target.declared:
        pass
    except Exception as error:
        raise Undeclared(f"{type(error).__name__}: {error} on {raw.hex()}") from error


def mutated(raw: bytes, dice: random.Random) -> bytes:
    """The bytes with a few of them changed, cut, doubled or put in."""
    changed = bytearray(raw)
    for _ in range(dice.randint(1, 4)):
        at = dice.randint(0, len(changed))
        match dice.randint(0, 4):
            case 0:
                changed[at : at + 1] = dice.randbytes(1)
            case 1:
                del changed[at : at + dice.randint(1, 16)]
            case 2:
                changed[at:at] = dice.randbytes(dice.randint(1, 16))
            case 3:
                changed[at:at] = changed[at : at + dice.randint(1, 64)]
            case _:
                changed[at : at + 2] = dice.choice((b"\xff\xff", b"\x00\x00", b"\xfd\x00", b"\x7f\xff"))
    return bytes(changed)


def run_plain(target: Target, seconds: float, seed: int) -> int:
    """Mutate the seeds at random; how many inputs were fed."""
    dice, count, end = random.Random(seed), 0, time.monotonic() + seconds
    seeds = target.seeds or [b""]
    while time.monotonic() < end:
        for _ in range(200):
            feed(target, mutated(dice.choice(seeds), dice))
        count += 200
    return count


def run_guided(name: str, seconds: int, seed: int) -> None:
    """Let atheris choose; it ends the process itself."""
    import atheris

    with atheris.instrument_imports(include=["wire", "onion", "node.stream"]):
        target = targets()[name]
    with TemporaryDirectory() as folder:
        for number, raw in enumerate(target.seeds):
            (Path(folder) / str(number)).write_bytes(raw[:4096])
        options = [f"-max_total_time={seconds}", f"-seed={seed}", "-max_len=4096", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], folder, *options], lambda raw: feed(target, raw))
        atheris.Fuzz()
