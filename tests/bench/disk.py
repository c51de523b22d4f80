"""A directory that is really on a disk: durability on a file system in memory would cost nothing."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")
BLOCK = bytes(4096)


def file_system(path: Path) -> str:
    """The type of the file system that holds this path, as the kernel calls it."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "an unknown file system"
    path = path.resolve()
    found = {mount[1]: mount[2] for mount in mounts}
    return next(found[str(place)] for place in (path, *path.parents) if str(place) in found)


@contextmanager
def temporary_files_on_disk() -> Iterator[str]:
    """Temporary directories are on a disk from now on; gives the file system's type.

    That is the system's place for them if it is on a disk, otherwise this checkout.
    """
    before = tempfile.tempdir
    usual = Path(tempfile.gettempdir())
    place = Path(__file__).parents[2] if file_system(usual) in IN_MEMORY else usual
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=place) as directory:
        tempfile.tempdir = directory
        try:
            yield file_system(place)
        finally:
            tempfile.tempdir = before


def seconds_to_sync(times: int = 100) -> list[float]:
    """How long 4 KiB more in a file take to be durable: the floor of a commit."""
    seconds = []
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(times):
            start = perf_counter()
            file.write(BLOCK)
            os.fdatasync(file.fileno())
            seconds.append(perf_counter() - start)
    return seconds
