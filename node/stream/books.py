"""A database beside the node's own, whose writes are gathered and made durable together.

Nothing here is what a payment depends on: a sale that was paid and not booked is found again among
the node's invoices, and a chunk that was paid and not booked among the ciphertexts that are kept
until it is.
"""

import errno
import logging
from pathlib import Path

import apsw
import trio

from node.daemon.store import Database

log = logging.getLogger("rill.stream")

GATHER_SECONDS = 0.5


class Books:
    """Rows that are noted, and a task that makes them durable: start `run` in a nursery."""

    def __init__(self, path: Path, schema: str) -> None:
        """Open or create the database.

        Raises:
            DatabaseInUse, Damaged: it cannot be opened.
        """
        self._database = Database(path, schema)
        self._db = self._database.db
        self._noted: list[tuple[str, tuple[object, ...]]] = []
        self._has_work = trio.Event()

    async def run(self) -> None:
        """Write what is noted, until cancelled."""
        while True:
            await self._has_work.wait()
            await trio.sleep(GATHER_SECONDS)
            self._try_flush()

    def close(self) -> None:
        """Write the rest; nothing may be noted afterwards."""
        self._try_flush()
        self._database.close()

    def flush(self) -> None:
        """Make everything that was noted durable.

        Raises:
            OSError: the disk does not take it. It stays noted.
        """
        noted = self._noted
        if noted:
            try:
                with self._database.transaction() as db:
                    for statement, row in noted:
                        db.execute(statement, row)
            except (apsw.FullError, apsw.IOError) as error:
                raise OSError(errno.ENOSPC, str(error)) from None
        self._noted, self._has_work = [], trio.Event()

    def _try_flush(self) -> None:
        try:
            self.flush()
        except OSError as error:
            log.error("the books cannot be written: %s", error.strerror)

    def note(self, statement: str, *row: object) -> None:
        """Let a statement be carried out with the next ones."""
        self._noted.append((statement, row))
        self._has_work.set()
