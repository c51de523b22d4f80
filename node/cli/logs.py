"""Log lines of programs that run in the foreground: time, level, who, what, and then its fields."""

import logging
import sys
import time
from pathlib import Path
from typing import TextIO

LEVELS = {
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


def start_logging(level: str, file: Path | None = None, stream: TextIO | None = None) -> None:
    """Write the log of all of Rill to a file or to a stream: stdout, if there is neither."""
    handler = logging.StreamHandler(stream or sys.stdout) if file is None else logging.FileHandler(file)
    handler.setFormatter(Lines())
    rill = logging.getLogger("rill")
    rill.addHandler(handler)
    rill.setLevel(LEVELS[level])
    rill.propagate = False
