"""Asking an offer's issuer for an invoice, over onion messages (BOLT 12, for who answers an offer).

A message may be lost on its way, and nobody says so. So the same request is sent again after a
while, another way: over another path of the offer, round the nodes that it went over before, or over
a connection that we make for it. Who gets it twice answers it twice, and alike.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

import msgspec
import trio

from gossip.graph import Graph
from node.daemon.offer_paths import message_path
from node.daemon.reaching import Reach
from node.daemon.switch import Switch
from onion.message import INVOICE, INVOICE_ERROR, INVOICE_REQUEST, Arrived
from wire.blinded_path import BlindedPath
from wire.bolt12.errors import Malformed, Unacceptable
from wire.bolt12.forms import Invoice, InvoiceError, InvoiceRequest, Offer, decode_form, encode_form, widened
from wire.bolt12.kinds import DnsName
from wire.bolt12.merkle import signed
from wire.bolt12.rules import BITCOIN, check_answer, check_invoice, check_offer, check_request
from wire.codec import DecodeError
from wire.crypto.secp256k1 import Point, point_of
from wire.units import Msat

RETRY_SECONDS = 5.0
MOST_PENDING = 100
METADATA_BYTES = 16
PATH_ID_BYTES = 32
MOST_WHY_CHARACTERS = 500


class Wish(msgspec.Struct, frozen=True, gc=False):
    """What somebody wants of an offer."""

    amount_msat: Msat | None = None
    quantity: int | None = None
    payer_note: str | None = None
    metadata: bytes | None = None  # None: fresh and random
    name: DnsName | None = None  # of BIP 353, that the offer was found by


class NoWayThere(Exception):
    """No node that we know passes messages on to the offer's issuer, and it cannot be called."""

    def __init__(self) -> None:
        super().__init__("no route for onion messages leads to the issuer of the offer")


class NoAnswer(Exception):
    """Nobody answered in time."""

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        super().__init__(f"no answer came within {timeout_seconds:g} seconds")


class Refused(Exception):
    """The other side says that there is no invoice, or no payment, and why."""

    def __init__(self, told: InvoiceError) -> None:
        self.told = told
        # error-warning.3: a terminal obeys control characters, whoever wrote them
        text = (told.error or "without a reason")[:MOST_WHY_CHARACTERS]
        self.why = "".join(each if each.isprintable() else "?" for each in text)
        super().__init__(f"it was refused: {self.why}")


class TooManyPending(Exception):
    """So many requests wait for an answer that no more are made."""

    def __init__(self) -> None:
        super().__init__(f"{MOST_PENDING} requests wait for their invoices already")


class Pending:
    """A request that waits for its answer."""

    def __init__(
        self, request: InvoiceRequest, asked: frozenset[Point], answered: trio.Event | None = None
    ) -> None:
        self.request, self.asked = request, asked
        self.answer: Invoice | Unacceptable | Refused | None = None
        self.answered = trio.Event() if answered is None else answered

    def end(self, answer: Invoice | Unacceptable | Refused) -> None:
        """What the first answer says counts."""
        if self.answer is None:
            self.answer = answer
            self.answered.set()


class Fetcher:
    """Fetches invoices."""

    def __init__(self, switch: Switch, graph: Graph, reach: Reach) -> None:
        self._switch, self._graph, self._reach = switch, graph, reach
        self._pending: dict[bytes, Pending] = {}  # by what comes back with the answer

    # --- asking

    def request_for(self, offer: Offer, wish: Wish) -> InvoiceRequest:
        """The request of a wish, signed with a key that nobody can tell to be ours.

        Raises:
            Unacceptable: the offer cannot be answered, or not with this wish.
        """
        chain_hash, signer = self._switch.house.chain_hash, self._switch.signer
        check_offer(offer, chain_hash, self._switch.now())
        metadata = wish.metadata or secrets.token_bytes(METADATA_BYTES)
        secret = signer.offer_secret(b"payer", metadata)
        request = widened(
            InvoiceRequest,
            offer,
            invreq_metadata=metadata,
            invreq_chain=None if chain_hash == BITCOIN else chain_hash,
            invreq_amount=wish.amount_msat,
            invreq_quantity=wish.quantity,
            invreq_payer_id=point_of(secret),
            invreq_payer_note=wish.payer_note,
            invreq_bip_353_name=wish.name,
        )
        request = signed(request, secret)
        if offer.offer_currency is None:
            check_request(request, chain_hash)
        return request

    async def fetch(self, request: InvoiceRequest, timeout_seconds: float) -> Invoice:
        """The invoice that answers a request; it keeps all rules.

        Raises:
            NoWayThere, NoAnswer, Refused, TooManyPending, OurOwnPath: there is none.
            Unacceptable: there is one, and it must not be paid.
        """
        paths = ways_to(request.offer_paths, request.offer_issuer_id)
        pending = Pending(request, frozenset(path.hops[-1].blinded_node_id for path in paths))
        await self._wait(pending, paths, {INVOICE_REQUEST: encode_form(request)}, timeout_seconds)
        if pending.answer is None:
            raise NoAnswer(timeout_seconds)
        if isinstance(pending.answer, Exception):
            raise pending.answer
        return pending.answer

    async def deliver(self, invoice: Invoice, paid: trio.Event, timeout_seconds: float) -> None:
        """Bring an invoice to whoever requested it without an offer; return when it is paid.

        Raises:
            NoWayThere, NoAnswer, Refused, TooManyPending, OurOwnPath, Unacceptable: it is not.
        """
        paths = ways_to(invoice.invreq_paths, invoice.invreq_payer_id)
        pending = Pending(invoice, frozenset(), paid)
        await self._wait(pending, paths, {INVOICE: encode_form(invoice)}, timeout_seconds)
        if isinstance(pending.answer, Exception):
            raise pending.answer
        if not paid.is_set():
            raise NoAnswer(timeout_seconds)

    async def _wait(
        self,
        pending: Pending,
        paths: Sequence[BlindedPath],
        records: Mapping[int, bytes],
        timeout_seconds: float,
    ) -> None:
        """Send records and wait for what comes back, at most so long."""
        if len(self._pending) >= MOST_PENDING:
            raise TooManyPending
        path_id = secrets.token_bytes(PATH_ID_BYTES)
        self._pending[path_id] = pending
        try:
            with trio.move_on_after(timeout_seconds):
                await self._ask(pending, paths, records, path_id)
        finally:
            del self._pending[path_id]

    async def _ask(
        self, pending: Pending, paths: Sequence[BlindedPath], records: Mapping[int, bytes], path_id: bytes
    ) -> None:
        """Send records, this way and that, until they are answered."""
        unsent, avoided = 0, set[Point]()
        for path, is_called in _tries(paths):
            is_sent = await self._reach.bring(path, records, path_id, avoided, is_called=is_called)
            unsent = 0 if is_sent else unsent + 1
            if unsent == 2 * len(paths):
                raise NoWayThere
            with trio.move_on_after(RETRY_SECONDS if is_sent else 0):
                await pending.answered.wait()
                return

    # --- what comes back

    def receive(self, arrived: Arrived) -> bool:
        """Take an answer; whether it is one to a request of ours."""
        pending = self._pending.get(arrived.path_id or b"")
        if pending is None:
            return False
        # b12-offers.5: it came over our reply path, or we would not know what it belongs to
        if INVOICE in arrived.records:
            pending.end(self._judged(pending, arrived.records[INVOICE]))
        elif INVOICE_ERROR in arrived.records:
            pending.end(_refusal(arrived.records[INVOICE_ERROR]))
        return True

    def _judged(self, pending: Pending, raw: bytes) -> Invoice | Unacceptable:
        try:
            invoice = decode_form(Invoice, raw)
            check_answer(invoice, pending.request, pending.asked)
            check_invoice(invoice, self._switch.house.chain_hash, self._switch.now())
        except DecodeError as why:
            return Malformed(why)
        except Unacceptable as wrong:
            return wrong
        return invoice


def ways_to(paths: tuple[BlindedPath, ...] | None, node_id: Point | None) -> tuple[BlindedPath, ...]:
    """The paths to somebody; who gives none is a node of this id."""
    if paths is not None:
        return paths
    assert node_id is not None, "who gives no paths has an id"
    return (message_path((node_id,), None, secrets.token_bytes(32)),)


def _tries(paths: Sequence[BlindedPath]) -> Iterator[tuple[BlindedPath, bool]]:
    """Every path as it can be reached now, then every path over a connection of its own, and again."""
    for is_called in cycle((False, True)):
        for path in paths:
            yield path, is_called


def _refusal(raw: bytes) -> Refused | Unacceptable:
    try:
        return Refused(decode_form(InvoiceError, raw))
    except DecodeError as why:
        return Malformed(why)
