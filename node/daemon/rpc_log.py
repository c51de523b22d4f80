"""The command that shows the log."""

import logging
from typing import Annotated, Any, TypeAlias

from node.daemon.log_book import MOST_BYTES, LogBook, log_book
from node.daemon.node import Node
from node.daemon.rpc_parameters import one_of

LEVELS = {
    "broken": logging.ERROR,
    "unusual": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
    "io": logging.DEBUG,
}
_TYPES = {logging.ERROR: "BROKEN", logging.WARNING: "UNUSUAL", logging.INFO: "INFO"}
Level: TypeAlias = Annotated[str, one_of(*LEVELS)]


class LogCommands:
    """What was said."""

    def __init__(self, _: Node) -> None:
        """The log is of the process."""

    async def getlog(self, level: Level = "info") -> dict[str, Any]:
        """The last lines of the log, of this level and above."""
        book = log_book() or LogBook()
        lines = [
            {
                "type": _TYPES.get(line.level, "DEBUG"),
                "time": f"{line.at_seconds - book.began_at_seconds:.9f}",
                "source": line.source,
                "log": line.text,
            }
            for line in book.lines
            if line.level >= LEVELS[level]
        ]
        skipped = [{"type": "SKIPPED", "num_skipped": book.skipped}] if book.skipped else []
        return {
            "created_at": f"{book.began_at_seconds:.9f}",
            "bytes_used": book.bytes_used,
            "bytes_max": MOST_BYTES,
            "log": [*skipped, *lines],
        }
