"""What others may pay us for: invoices, and payments that came without one (keysend)."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from htlc.deadlines import CLAIM_BLOCKS
from htlc.relay import Owed, Take
from node.daemon.indexes import CREATED, DELETED, INVOICES, PAID, UPDATED
from node.daemon.offer_ticket import read_ticket
from node.daemon.signer import Signer
from node.daemon.table import Table
from wire.bolt11 import Fallback, RouteHop
from wire.crypto.hashes import sha256
from wire.units import Msat

if TYPE_CHECKING:
    from node.daemon.indexes import Indexes
    from node.daemon.store import Store
    from node.daemon.turn import Turn

DEFAULT_EXPIRY_SECONDS = 3600
OFFERED_EXPIRY_SECONDS = 7200  # what BOLT 12 has for an invoice that says nothing else
DEFAULT_FINAL_DELTA_BLOCKS = 30
"""What we ask for beyond BOLT 11's 18: with those alone, a channel whose peer is away for one block
while it owes us the removal of a fulfilled HTLC would have to go to chain."""


LAPSED_SECONDS = 600
"""So long after its end, no HTLC waits for an invoice any more, and nobody asks what became of it."""


class InvoiceExists(Exception):
    """There is an invoice with this payment hash already."""

    def __init__(self, payment_hash: bytes) -> None:
        self.payment_hash = payment_hash
        super().__init__(f"an invoice with payment hash {payment_hash.hex()} exists already")


class LabelTaken(Exception):
    """There is an invoice with this label already."""

    def __init__(self, label: str) -> None:
        self.label = label
        super().__init__(f"an invoice with the label {label!r} exists already")


class Asked(msgspec.Struct, frozen=True, gc=False):
    """That an invoice is one of BOLT 12, and what for."""

    bolt12: str  # empty if it was dropped to make room for others
    offer_id: bytes = b""  # of the offer of ours that it is for, if there is one
    is_single_use: bool = False  # whether that offer is paid once and never again
    payer_note: str = ""


class InvoiceRow(msgspec.Struct, frozen=True, gc=False):
    """An invoice of ours, and how it was paid."""

    payment_hash: bytes
    payment_preimage: bytes
    payment_secret: bytes
    amount_msat: Msat | None  # None: the payer chooses
    description: str
    created_at: int
    expiry_seconds: int = DEFAULT_EXPIRY_SECONDS
    min_final_cltv_expiry_delta: int = DEFAULT_FINAL_DELTA_BLOCKS
    received_msat: Msat | None = None
    paid_at: int | None = None
    is_keysend: bool = False
    label: str = ""  # our user's own name for it
    created_index: int = 0  # counts the invoices, from 1
    pay_index: int = 0  # counts the paid ones, in the order they were paid
    is_hashed: bool = False  # whether the text names only the description's hash
    fallbacks: tuple[Fallback, ...] = ()
    route_hints: tuple[tuple[RouteHop, ...], ...] = ()
    is_held: bool = False  # our user decides when it is paid, and has the preimage until then
    accepted_at: int = 0  # of a held one: since when all of it is here
    is_cancelled: bool = False  # of a held one, or of one for an offer that our user deleted
    updated_index: int = 0  # counts the changes of all invoices; 0: it was never changed
    asked: Asked | None = None

    @property
    def is_paid(self) -> bool:
        return self.received_msat is not None

    @property
    def expires_at(self) -> int:
        """The last second at which it may be paid."""
        return self.created_at + self.expiry_seconds

    def is_expired(self, now_seconds: float) -> bool:
        return now_seconds > self.expires_at

    def is_open(self, now_seconds: float) -> bool:
        """Whether an HTLC may still pay it."""
        is_in_time = bool(self.accepted_at) or not self.is_expired(now_seconds)
        return is_in_time and not (self.is_paid or self.is_cancelled)


class Invoices:
    """All invoices, in the database."""

    def __init__(self, store: "Store", signer: Signer, now: Callable[[], float], indexes: "Indexes") -> None:
        self._store, self._signer, self._now, self._indexes = store, signer, now, indexes
        self.used_offers = store.used_offers()
        self.rows: Table[bytes, InvoiceRow] = Table(
            store,
            "invoices",
            "payment_hash",
            InvoiceRow,
            {
                "label": lambda row: row.label or None,
                "pay_index": lambda row: row.pay_index or None,
                "unnamed": lambda row: None if row.label or row.is_held or row.is_paid else row.created_index,
                "unpaid_offer": lambda row: (
                    None if row.asked is None or row.is_paid else row.asked.offer_id or None
                ),
            },
        )
        self.on_settled: list[Callable[[InvoiceRow], None]] = []
        self._unnamed = deque([payment_hash for payment_hash, _ in self.rows.having("unnamed")])
        # in a database that is older than the counts
        for row in self.rows.values() if not indexes.value(INVOICES, CREATED) else ():
            indexes.begin_after(INVOICES, CREATED, row.created_index)
            indexes.begin_after(INVOICES, PAID, row.pay_index)

    def labelled(self, label: str) -> InvoiceRow | None:
        """The invoice that our user gave this name."""
        found = self.rows.where("label", label) if label else []
        return found[0] if found else None

    def add(self, turn: "Turn", row: InvoiceRow) -> InvoiceRow:
        """Make an invoice known; it is durable when the turn is.

        Raises:
            InvoiceExists: the payment hash is taken.
            LabelTaken: the label is.
        """
        if row.payment_hash in self.rows:
            raise InvoiceExists(row.payment_hash)
        if self.labelled(row.label) is not None:
            raise LabelTaken(row.label)
        return self._enter(turn, row)

    def _enter(self, turn: "Turn", row: InvoiceRow) -> InvoiceRow:
        """Keep a new invoice under its number and its label."""
        self._forget_lapsed(turn)
        number = self._indexes.next(turn, INVOICES, CREATED)
        numbered = msgspec.structs.replace(row, created_index=number)
        if not (row.label or row.is_held):
            self._unnamed.append(row.payment_hash)
        self._put(turn, numbered)
        self._indexes.tell(turn, INVOICES, CREATED, numbered)
        return numbered

    def _forget_lapsed(self, turn: "Turn") -> None:
        """Forget what the node asked for by itself and nobody paid: a seller of chunks makes thousands a day.

        They are looked at in the order they were made, so each costs one look, and one with a long life
        keeps those after it a while longer.
        """
        last = self._now() - LAPSED_SECONDS
        while self._unnamed:
            row = self.rows.get(self._unnamed[0])
            if row is not None and not row.is_paid:
                if row.expires_at >= last:
                    return
                self.delete(turn, row)
            self._unnamed.popleft()

    def owed(self, payment_hash: bytes) -> Owed | None:
        """What an HTLC with this hash must bring."""
        row = self.rows.get(payment_hash)
        if row is None:
            return None
        # what was accepted and is read again after a restart waits as long as it would have without one
        is_accepted = self.is_accepted(payment_hash)
        return Owed(
            None if row.is_held else row.payment_preimage,
            row.payment_secret,
            row.amount_msat,
            CLAIM_BLOCKS if is_accepted else row.min_final_cltv_expiry_delta,
            is_open=row.is_open(self._now()) and not self._is_offer_spent(row),
        )

    def _is_offer_spent(self, row: InvoiceRow) -> bool:
        return row.asked is not None and row.asked.is_single_use and row.asked.offer_id in self.used_offers

    def recall(self, turn: "Turn", payment_hash: bytes, path_id: bytes) -> None:
        """Know an invoice for an offer again that was dropped, from what its payment brings back."""
        ticket = None if payment_hash in self.rows else read_ticket(path_id, self._signer)
        if ticket is None or self._now() > ticket.expires_at:
            return
        preimage = ticket.preimage(self._signer)
        if sha256(preimage) == payment_hash:
            row = new_invoice(
                preimage,
                path_id,
                ticket.amount_msat,
                "",
                ticket.expires_at - OFFERED_EXPIRY_SECONDS,
                OFFERED_EXPIRY_SECONDS,
                ticket.final_delta_blocks,
            )
            asked = Asked("", ticket.offer_id, ticket.is_single_use)
            self._enter(turn, msgspec.structs.replace(row, asked=asked))

    def settle(self, turn: "Turn", payment_hash: bytes, take: Take, received_msat: Msat) -> None:
        """Note that so much was paid for it."""
        now = int(self._now())
        row = self.rows.get(payment_hash) or self._enter(
            turn,
            InvoiceRow(
                payment_hash=payment_hash,
                payment_preimage=take.payment_preimage,
                payment_secret=b"",
                amount_msat=None,
                description="",
                created_at=now,
                is_keysend=True,
            ),
        )
        paid = msgspec.structs.replace(
            row,
            payment_preimage=take.payment_preimage,
            received_msat=received_msat,
            paid_at=now,
            pay_index=self._indexes.next(turn, INVOICES, PAID),
        )
        paid = self._change(turn, paid)
        if paid.asked is not None and paid.asked.offer_id:
            self._note_used(turn, paid.asked.offer_id)
        for callback in self.on_settled:
            turn.then(lambda call=callback: call(paid))  # type: ignore[misc]

    def _note_used(self, turn: "Turn", offer_id: bytes) -> None:
        self.used_offers.add(offer_id)
        turn.write(lambda: self._store.note_used_offer(offer_id))

    def note_accepted(self, turn: "Turn", payment_hash: bytes) -> None:
        """All of a held one is here: it does not expire any more."""
        row = self.rows[payment_hash]
        if not row.accepted_at:
            self._put(turn, msgspec.structs.replace(row, accepted_at=int(self._now())))

    def is_accepted(self, payment_hash: bytes) -> bool:
        """Whether all of a held one was here, and our user has not decided yet."""
        row = self.rows.get(payment_hash)
        return row is not None and bool(row.accepted_at) and not (row.is_paid or row.is_cancelled)

    def cancel(self, turn: "Turn", payment_hash: bytes) -> None:
        """A held one shall not be paid any more."""
        self._change(turn, msgspec.structs.replace(self.rows[payment_hash], is_cancelled=True))

    def delete(self, turn: "Turn", row: InvoiceRow) -> None:
        """Forget an invoice; if it is not paid, it cannot be any more."""
        if row.asked is not None and not row.is_paid and not row.is_expired(self._now()):
            # its payment would bring it back
            self.cancel(turn, row.payment_hash)
            return
        self.drop(turn, row)

    def drop(self, turn: "Turn", row: InvoiceRow) -> None:
        """Keep an invoice no longer; one for an offer can be paid all the same."""
        self.rows.put(turn, row.payment_hash, None)
        self._indexes.next(turn, INVOICES, DELETED)
        self._indexes.tell(turn, INVOICES, DELETED, row)

    def describe(self, turn: "Turn", row: InvoiceRow, description: str) -> InvoiceRow:
        """Give an invoice another description; its text has it too."""
        return self._change(turn, msgspec.structs.replace(row, description=description))

    def _change(self, turn: "Turn", row: InvoiceRow) -> InvoiceRow:
        """Keep the row under a new number of change."""
        number = self._indexes.next(turn, INVOICES, UPDATED)
        changed = msgspec.structs.replace(row, updated_index=number)
        self._put(turn, changed)
        self._indexes.tell(turn, INVOICES, UPDATED, changed)
        return changed

    def _put(self, turn: "Turn", row: InvoiceRow) -> None:
        self.rows.put(turn, row.payment_hash, row)


def new_invoice(
    payment_preimage: bytes,
    payment_secret: bytes,
    amount_msat: Msat | None,
    description: str,
    now_seconds: float,
    expiry_seconds: int = DEFAULT_EXPIRY_SECONDS,
    min_final_cltv_expiry_delta: int = DEFAULT_FINAL_DELTA_BLOCKS,
) -> InvoiceRow:
    """An invoice that nobody has paid yet."""
    return InvoiceRow(
        payment_hash=sha256(payment_preimage),
        payment_preimage=payment_preimage,
        payment_secret=payment_secret,
        amount_msat=amount_msat,
        description=description,
        created_at=int(now_seconds),
        expiry_seconds=expiry_seconds,
        min_final_cltv_expiry_delta=min_final_cltv_expiry_delta,
    )
