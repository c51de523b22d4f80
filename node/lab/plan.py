"""What the demo is asked to do, checked before anything is started.

Each way in which the wish cannot be met has its class, and its text is the one sentence that a
user reads.
"""

import errno
import os
import socket
import stat
from pathlib import Path

import msgspec

from node.stream.files import FileSink
from node.stream.merkle import BLOCK_BYTES, MAX_CHUNK_BYTES, InvalidLayout, Layout
from wire.units import MAX_MSAT, Msat, Sat

CAPACITY_SAT = Sat(10_000_000)
PUSHED_SAT = Sat(CAPACITY_SAT // 2)
MAX_WINDOW = 400
"""Below the 483 HTLCs that a commitment can hold."""


class BadPlan(Exception):
    """The demo cannot do this; nothing was started."""


class FileMissing(BadPlan):
    """There is no such file."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"there is no file {path}")


class NotAFile(BadPlan):
    """A directory or a device."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is not a regular file")


class FileEmpty(BadPlan):
    """There is nothing to sell."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is empty, and an empty file has no chunk to sell")


class FileUnreadable(BadPlan):
    """The operating system does not let us read it."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} cannot be read: {why}")


class OutUnwritable(BadPlan):
    """The operating system does not let us write there."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} cannot be written: {why}")


class OutIsSource(BadPlan):
    """The copy would replace what it is made from."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is the film itself: --out must name another file")


class WrongChunkSizeWish(BadPlan):
    """A chunk must be a subtree of the content's tree."""

    def __init__(self, chunk_size: int) -> None:
        super().__init__(
            f"--chunk-size {chunk_size} is not 16 KiB times a power of two, "
            f"from {BLOCK_BYTES} to {MAX_CHUNK_BYTES} bytes"
        )


class WrongPrice(BadPlan):
    """No payment can have this amount."""

    def __init__(self, price_msat: int) -> None:
        super().__init__(f"--price-msat {price_msat} is not a price: it takes at least 1 msat")


class BeyondMeans(BadPlan):
    """The film costs more than the buyer's side of its channel."""

    def __init__(self, chunks: int, price_msat: int, means_msat: int) -> None:
        super().__init__(
            f"{chunks} chunks at {price_msat} msat cost {chunks * price_msat} msat, but Alice can spend "
            f"{means_msat} msat with fees: lower --price-msat or raise --chunk-size"
        )


class WrongWindow(BadPlan):
    """A commitment holds a limited number of HTLCs."""

    def __init__(self, window: int) -> None:
        super().__init__(f"--window {window} is not between 1 and {MAX_WINDOW}")


class WrongSeed(BadPlan):
    """Seeds are counted from zero."""

    def __init__(self, seed: int) -> None:
        super().__init__(f"--seed {seed} is negative")


class WrongPort(BadPlan):
    """The ports do not exist or are not for everybody."""

    def __init__(self, port: int, count: int) -> None:
        super().__init__(f"--port {port} leaves no {count} ports from 1024 to 65535")


class PortTaken(BadPlan):
    """Somebody else listens there."""

    def __init__(self, port: int) -> None:
        super().__init__(f"port {port} on 127.0.0.1 is taken")


class Plan(msgspec.Struct, frozen=True):
    """A film, where its copy goes, and on which terms it is bought."""

    film: Path
    name: str
    out: Path
    chunk_size: int
    price_msat: Msat
    window: int
    seed: int
    first_port: int
    """Zero lets the system choose free ports."""
    is_web: bool = False
    """Watched on a page, as far and as fast as a person wishes."""

    def checked(self, node_count: int = 5) -> "Plan":
        """This plan, as far as can be known before it is carried out.

        Raises:
            BadPlan: it cannot be.
        """
        check_numbers(self)
        length = readable_length(self.film)
        chunks = Layout(length, self.chunk_size).chunk_count
        if chunks * self.price_msat > PUSHED_SAT * 1000:
            raise BeyondMeans(chunks, self.price_msat, PUSHED_SAT * 1000)
        check_out(self.out, self.film)
        check_ports(self.first_port, node_count)
        return self


def check_numbers(plan: Plan) -> None:
    """Raises BadPlan if a number is out of its range."""
    try:
        Layout(1, plan.chunk_size).checked()
    except InvalidLayout:
        raise WrongChunkSizeWish(plan.chunk_size) from None
    if not 1 <= plan.price_msat <= MAX_MSAT:
        raise WrongPrice(plan.price_msat)
    if not 1 <= plan.window <= MAX_WINDOW:
        raise WrongWindow(plan.window)
    if plan.seed < 0:
        raise WrongSeed(plan.seed)


def readable_length(film: Path) -> int:
    """The length of a file that can be read and is not empty; raises BadPlan."""
    try:
        status = film.stat()
        if not stat.S_ISREG(status.st_mode):
            raise NotAFile(film)
        with film.open("rb") as file:
            file.read(1)
    except FileNotFoundError:
        raise FileMissing(film) from None
    except OSError as reason:
        raise FileUnreadable(film, reason.strerror or str(reason)) from None
    if not status.st_size:
        raise FileEmpty(film)
    return status.st_size


def check_out(out: Path, film: Path) -> None:
    """Raises BadPlan if the copy cannot be written; leaves nothing behind."""
    try:
        if out.exists():
            if out.samefile(film):
                raise OutIsSource(out)
            if not out.is_file():
                raise OutUnwritable(out, "it is not a regular file")
            if not os.access(out, os.W_OK):
                raise OutUnwritable(out, "permission denied")
        with FileSink(out):
            pass
    except (OSError, ValueError) as reason:
        raise OutUnwritable(out, getattr(reason, "strerror", None) or str(reason)) from None


def check_ports(first_port: int, count: int) -> None:
    """Raises BadPlan if a port is taken."""
    if not first_port:
        return
    if not 1024 <= first_port <= 65536 - count:
        raise WrongPort(first_port, count)
    for port in range(first_port, first_port + count):
        with socket.socket() as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind(("127.0.0.1", port))
            except OSError as reason:
                if reason.errno in (errno.EADDRINUSE, errno.EACCES):
                    raise PortTaken(port) from None
                raise
