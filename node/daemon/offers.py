"""Offers of a node, of both sides: its own, and those of others (BOLT 12).

A node that never sees an offer never imports this.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from node.daemon.invoice_fetching import Fetcher
from node.daemon.offer_book import OfferBook
from node.daemon.offer_desk import OfferDesk
from node.daemon.peer import PeerGone
from node.daemon.reaching import Reach
from node.daemon.refunds import Refunds
from onion.message import INVOICE, INVOICE_REQUEST, Arrived
from wire.crypto.secp256k1 import Point

if TYPE_CHECKING:
    import trio

    from node.daemon.node import Node

log = logging.getLogger("rill.offers")


class Offers:
    """All about offers."""

    def __init__(self, node: "Node", nursery: "trio.Nursery") -> None:
        self._node, self._nursery = node, nursery
        self.book = OfferBook(node.switch)
        self.reach = Reach(node.switch, node.graph, node.messenger, self._call)
        self.desk = OfferDesk(node.switch, node.graph, self.reach, self.book, node.config.final_delta_blocks)
        self.fetcher = Fetcher(node.switch, node.graph, self.reach)
        self.refunds = Refunds(node.switch, node.graph, node.payer, self.reach, self.book)

    async def _call(self, node_id: Point) -> None:
        """Be connected to a node.

        Raises:
            Unreachable, PeerGone: it cannot be called, or is not to be.
        """
        if node_id in self._node.switch.peers:
            return
        if not self._node.config.may_call_for_invoices:
            raise PeerGone(node_id, "nobody is to be called for an invoice")
        address = self._node.address_of(node_id)
        if address is None:
            raise PeerGone(node_id, "no address of it is known")
        await self._node.connect(node_id, *address)

    def receive(self, arrived: Arrived) -> None:
        """An onion message for us."""
        if self.fetcher.receive(arrived):
            return
        if INVOICE_REQUEST in arrived.records:
            self._nursery.start_soon(self._answer, self.desk.answer, arrived, INVOICE_REQUEST)
        elif INVOICE in arrived.records:
            self._nursery.start_soon(self._answer, self.refunds.receive, arrived, INVOICE)

    async def _answer(
        self, act: Callable[[Arrived, bytes], Awaitable[None]], arrived: Arrived, number: int
    ) -> None:
        try:
            await act(arrived, arrived.records[number])
        except Exception:
            # whatever a stranger's message does, the node goes on
            log.exception("an onion message failed in a way that nobody foresaw")
