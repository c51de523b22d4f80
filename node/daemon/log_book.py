"""The last lines of the log, kept in memory for who asks over the RPC."""

import logging
import time
from collections import deque
from typing import NamedTuple

MOST_BYTES = 256 << 10


class Line(NamedTuple):
    """One record; its time is that of the clock."""

    at_seconds: float
    level: int
    source: str
    text: str


class LogBook(logging.Handler):
    """Keeps lines up to so many bytes; the oldest give way."""

    def __init__(self) -> None:
        super().__init__()
        self.began_at_seconds = time.time()
        self.lines: deque[Line] = deque()
        self.bytes_used = self.skipped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what was said; what it was given beside its text is part of it."""
        _, _, text = self.format(record).partition(f"{record.name}: ")
        line = Line(record.created, record.levelno, record.name.removeprefix("rill."), text)
        self.lines.append(line)
        self.bytes_used += _size(line)
        while self.bytes_used > MOST_BYTES:
            self.bytes_used -= _size(self.lines.popleft())
            self.skipped += 1


def _size(line: Line) -> int:
    return len(line.source) + len(line.text)


def log_book() -> LogBook | None:
    """The book of this process, if it keeps one."""
    found = [each for each in logging.getLogger("rill").handlers if isinstance(each, LogBook)]
    return found[0] if found else None
