"""Asking an offer's issuer for an invoice, over onion messages (BOLT 12, for who answers an offer).

A message may be lost on its way, and nobody says so. So the same request is sent again after a
while, another way: over another path of the offer, round the nodes that it went over before, or over
a connection that we make for it. Who gets it twice answers it twice, and alike.
"""

import secrets
from collections.abc import Iterator, Sequence
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
        super().__init__(f"no invoice came within {timeout_seconds:g} seconds")


class Refused(Exception):
    """The issuer says that there is no invoice, and why."""

    def __init__(self, told: InvoiceError) -> None:
        self.told = told
        # error-warning.3: a terminal obeys control characters, whoever wrote them
        text = (told.error or "without a reason")[:MOST_WHY_CHARACTERS]
        self.why = "".join(each if each.isprintable() else "?" for each in text)
        super().__init__(f"the issuer refuses: {self.why}")


class TooManyPending(Exception):
    """So many requests wait for an answer that no more are made."""

    def __init__(self) -> None:
        super().__init__(f"{MOST_PENDING} requests wait for their invoices already")


class Pending:
    """A request that waits for its answer."""

    def __init__(self, request: InvoiceRequest, asked: frozenset[Point]) -> None:
        self.request, self.asked = request, asked
        self.answer: Invoice | Unacceptable | Refused | None = None
        self.answered = trio.Event()

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
        if len(self._pending) >= MOST_PENDING:
            raise TooManyPending
        paths = ways_to(request)
        pending = Pending(request, frozenset(path.hops[-1].blinded_node_id for path in paths))
        path_id = secrets.token_bytes(PATH_ID_BYTES)
        self._pending[path_id] = pending
        try:
            with trio.move_on_after(timeout_seconds):
                await self._ask(pending, paths, path_id)
        finally:
            del self._pending[path_id]
        if pending.answer is None:
            raise NoAnswer(timeout_seconds)
        if isinstance(pending.answer, Exception):
            raise pending.answer
        return pending.answer

    async def _ask(self, pending: Pending, paths: Sequence[BlindedPath], path_id: bytes) -> None:
        """Send the request, this way and that, until it is answered."""
        records = {INVOICE_REQUEST: encode_form(pending.request)}
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


def ways_to(request: InvoiceRequest) -> tuple[BlindedPath, ...]:
    """The paths that lead to the issuer of a request's offer."""
    if request.offer_paths is not None:
        return request.offer_paths
    assert request.offer_issuer_id is not None, "an offer without paths names its issuer"
    return (message_path((request.offer_issuer_id,), None, secrets.token_bytes(32)),)


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
