"""The offers of a node, and its requests to be sent an invoice, in memory and on disk."""

from typing import TypeVar

import msgspec

from node.daemon.switch import Switch
from node.daemon.turn import Turn
from wire.bolt12.forms import InvoiceRequest, Offer, read_form


class OfferRow(msgspec.Struct, frozen=True, gc=False):
    """An offer of ours."""

    offer_id: bytes
    bolt12: str
    label: str = ""
    is_single_use: bool = False
    is_enabled: bool = True
    is_fronted: bool = False  # whether our user named the peers that lead to it

    @property
    def offer(self) -> Offer:
        return read_form(Offer, self.bolt12)


class RequestRow(msgspec.Struct, frozen=True, gc=False):
    """A request of ours, without an offer, to be sent an invoice that we then pay."""

    invreq_id: bytes
    bolt12: str
    label: str = ""
    is_single_use: bool = True
    is_enabled: bool = True
    is_used: bool = False

    @property
    def request(self) -> InvoiceRequest:
        return read_form(InvoiceRequest, self.bolt12)

    @property
    def is_active(self) -> bool:
        """Whether an invoice for it would still be paid."""
        return self.is_enabled and not (self.is_single_use and self.is_used)


Row = TypeVar("Row", OfferRow, RequestRow)


class OfferBook:
    """All of them, by their ids, in the order they were made."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self.offers = {row.offer_id: row for row in self._read("offers", OfferRow)}
        self.requests = {row.invreq_id: row for row in self._read("invoice_requests", RequestRow)}

    def _read(self, table: str, cls: type[Row]) -> list[Row]:
        return [msgspec.msgpack.decode(raw, type=cls) for raw in self._switch.store.values(table)]

    def is_used(self, row: OfferRow) -> bool:
        """Whether an invoice for it was paid."""
        return row.offer_id in self._switch.invoices.used_offers

    def is_active(self, row: OfferRow) -> bool:
        """Whether a request for it is answered."""
        return row.is_enabled and not (row.is_single_use and self.is_used(row))

    async def put(self, row: OfferRow | RequestRow) -> None:
        """Keep an offer or a request, new or changed; durable when it returns."""
        await self._switch.ask(lambda turn: self.write(turn, row))

    def write(self, turn: Turn, row: OfferRow | RequestRow) -> None:
        """Keep an offer or a request; durable when the turn is."""
        store = self._switch.store
        if isinstance(row, OfferRow):
            self.offers[row.offer_id] = row
            turn.write(lambda: store.put_value("offers", row.offer_id, row))
        else:
            self.requests[row.invreq_id] = row
            turn.write(lambda: store.put_value("invoice_requests", row.invreq_id, row))
