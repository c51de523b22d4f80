"""The command that returns when something was made, changed or deleted."""

from typing import Annotated, Any, TypeAlias

import trio

from node.daemon.indexes import CREATED, DELETED, FORWARDS, INVOICES, SENDPAYS, UPDATED
from node.daemon.invoices import InvoiceRow
from node.daemon.ledger import Passage
from node.daemon.node import Node
from node.daemon.payments import AttemptRow
from node.daemon.rpc_parameters import Integer, one_of
from node.daemon.rpc_payment_views import invoice_view
from wire.scid import text_of

Subsystem: TypeAlias = Annotated[str, one_of(INVOICES, FORWARDS, SENDPAYS)]
IndexName: TypeAlias = Annotated[str, one_of(CREATED, UPDATED, DELETED)]


class WaitCommands:
    """Waiting for a number."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def wait(self, subsystem: Subsystem, indexname: IndexName, nextvalue: Integer) -> dict[str, Any]:
        """Wait until so many invoices, sendpays or forwards were created, updated or deleted."""
        indexes, reached = self._node.switch.indexes, trio.Event()
        told: dict[str, Any] = {}

        def look(which: str, index: str, number: int, row: object) -> None:
            if (which, index) == (subsystem, indexname) and number >= nextvalue and not reached.is_set():
                told[subsystem] = self._view(row)
                reached.set()

        if indexes.value(subsystem, indexname) < nextvalue:
            indexes.on_counted.append(look)
            try:
                await reached.wait()
            finally:
                indexes.on_counted.remove(look)
        return {"subsystem": subsystem, indexname: indexes.value(subsystem, indexname), **told}

    def _view(self, row: object) -> dict[str, Any]:
        match row:
            case InvoiceRow():
                shown = invoice_view(self._node, row, self._node.switch.now())
                return _chosen(shown, "status label description bolt11")
            case AttemptRow():
                return {
                    "status": row.status.value,
                    "partid": row.part_id,
                    "groupid": row.group_id,
                    "payment_hash": row.payment_hash.hex(),
                }
            case Passage():
                return {
                    "status": row.status,
                    "in_channel": text_of(row.in_channel),
                    "in_htlc_id": row.in_htlc_id,
                    "in_msat": row.in_msat,
                    "out_channel": text_of(row.out_channel),
                }
        return {}


def _chosen(view: dict[str, Any], names: str) -> dict[str, Any]:
    return {name: view[name] for name in names.split() if name in view}
