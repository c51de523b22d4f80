"""Log lines of programs that run in the foreground: time, level, who, what, and then its fields."""

import logging
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from node.daemon.log_book import LogBook

LEVELS = {
    "io": logging.DEBUG,
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "unusual": logging.WARNING,
    "warning": logging.WARNING,
    "broken": logging.ERROR,
    "error": logging.ERROR,
}
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Lines(logging.Formatter):
    """One line for each record; what it was given beside its text comes as name=value."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's spelling
        fields = [f"{name}={value}" for name, value in vars(record).items() if name not in _USUAL]
        return " ".join((super().formatMessage(record), *fields))


def start_logging(
    level: str,
    files: Sequence[Path] = (),
    stream: TextIO | None = None,
    levels: Iterable[tuple[str, str]] = (),
) -> None:
    """Write the log of all of Rill to these files, and to a stream: stdout, if there are neither.

    `levels` are those of single subsystems, as (level, subsystem).
    """
    handlers: list[logging.Handler] = [logging.FileHandler(file) for file in files]
    if stream is not None or not files:
        handlers.append(logging.StreamHandler(stream or sys.stdout))
    rill = logging.getLogger("rill")
    handlers.append(LogBook())
    for handler in handlers:
        handler.setFormatter(Lines())
        rill.addHandler(handler)
    rill.setLevel(LEVELS[level])
    for one, subsystem in levels:
        rill.getChild(subsystem).setLevel(LEVELS[one])
    rill.propagate = False


def reopen_logs() -> None:
    """Go on in files of the same names: whoever rotates logs has moved those that we write to away."""
    for handler in logging.getLogger("rill").handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()
    # which opens them again
    logging.getLogger("rill.lightningd").info("Opened log file")
