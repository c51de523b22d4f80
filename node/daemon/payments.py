"""Payments of our own: what was sent for what, and what came of it.

An attempt is one HTLC on one route. It is written with the offer that carries it, and its
outcome with the settlement, so after a crash each is either not sent or still on a channel's
ladder. The onion's session key is kept: it alone can read a failure that comes back later.

A payment is complete as soon as one of its HTLCs is fulfilled, for the preimage proves it, and
failed only when none is left that could be.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING

import msgspec

from htlc.ladder import Failed, FailedMalformed, Fulfilled, Outcome
from node.daemon.indexes import CREATED, DELETED, SENDPAYS, UPDATED
from node.daemon.table import Table
from onion.attribution import verified_hold_times
from onion.failures import Attributed, Failure, FailureCode, attribute, encode_failure
from onion.sphinx import shared_secrets_of
from wire.crypto.secp256k1 import Point
from wire.units import Msat

if TYPE_CHECKING:
    from node.daemon.indexes import Indexes
    from node.daemon.store import Store
    from node.daemon.turn import Turn


class Status(Enum):
    """What a payment or an attempt has come to."""

    PENDING = "pending"
    COMPLETE = "complete"
    FAILED = "failed"


class AlreadyPaid(Exception):
    """There is a payment with this hash that is under way or done."""

    def __init__(self, payment_hash: bytes, status: Status) -> None:
        self.payment_hash, self.status = payment_hash, status
        super().__init__(f"the payment {payment_hash.hex()} is {status.value} already")


class Note(msgspec.Struct, frozen=True, gc=False):
    """What our user wants to find with a payment later."""

    bolt11: str = ""
    label: str = ""
    description: str = ""
    bolt12: str = ""


class PaymentRow(msgspec.Struct, frozen=True, gc=False):
    """A payment of ours, over all its attempts."""

    payment_hash: bytes
    payee: Point
    amount_msat: Msat
    created_at: int
    status: Status = Status.PENDING
    fee_msat: Msat = Msat(0)
    payment_preimage: bytes | None = None
    attempts: int = 0
    ended_at: int = 0
    note: Note = Note()
    created_index: int = 0  # counts the payments and their attempts together, from 1
    group_id: int = 0  # counts the tries of this one, from 1
    parts: int = 0  # that brought it, once it is complete
    updated_index: int = 0  # counts the changes of all attempts; 0: none of its own has ended


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Who failed an attempt, and why, as far as anybody can tell."""

    name: str
    code: int | None = None
    hop_index: int | None = None  # 0 is our peer, -1 ourselves
    message: bytes = b""  # the failure as the hop wrote it
    onion: bytes = b""  # what came back, if nobody could read it

    @property
    def text(self) -> str:
        """In words; the first hop is our peer."""
        return self.name if self.hop_index is None else f"{self.name}, says hop {self.hop_index + 1}"


class AttemptRow(msgspec.Struct, frozen=True, gc=False):
    """One HTLC of a payment: its route, and the key that reads what comes back."""

    id: int
    payment_hash: bytes
    session_key: bytes
    nodes: tuple[Point, ...]  # in order, without us
    short_channel_ids: tuple[int, ...]
    sent_msat: Msat
    delivered_msat: Msat
    status: Status = Status.PENDING
    refusal: Refusal | None = None
    created_at: int = 0
    ended_at: int = 0
    group_id: int = 0  # counts the tries of one payment
    part_id: int = 0  # among the parts of one try
    hold_times: tuple[int, ...] = ()  # in deciseconds, of as many hops as have told theirs
    shared_secrets: tuple[bytes, ...] = ()  # of an onion that our user made
    updated_index: int = 0  # counts the changes of all attempts; 0: it has not ended

    @property
    def created_index(self) -> int:
        return self.id

    @property
    def why(self) -> str:
        """Why it failed, in words."""
        return self.refusal.text if self.refusal is not None else ""

    @property
    def fee_msat(self) -> Msat:
        return Msat(self.sent_msat - self.delivered_msat)


def _nobody() -> None:
    """Nobody waits for it."""


class Attempt:
    """An attempt that somebody waits for."""

    def __init__(
        self, row: AttemptRow, shared_secrets: Sequence[bytes], tell: Callable[[], None] = _nobody
    ) -> None:
        self.row, self.shared_secrets, self.tell = row, shared_secrets, tell
        self.is_over = False
        self.preimage: bytes | None = None
        self.attributed: Attributed | None = None
        self.hold_times: tuple[int, ...] = ()


class Payments:
    """All payments, in the database; in memory, those that are tried or under way."""

    def __init__(self, store: "Store", now: Callable[[], float], indexes: "Indexes") -> None:
        self._now, self._indexes = now, indexes
        self.rows: Table[bytes, PaymentRow] = Table(
            store, "payments", "payment_hash", PaymentRow, {"pending": lambda row: _pending(row.status)}
        )
        self._attempts: Table[int, AttemptRow] = Table(
            store,
            "attempts",
            "id",
            AttemptRow,
            {"payment_hash": lambda row: row.payment_hash, "pending": lambda row: _pending(row.status)},
            remembered=0,
        )
        self._flying: dict[bytes, dict[int, AttemptRow]] = {}  # by hash and id
        self._hashes: dict[int, bytes] = {}  # of what is on its way
        for _, attempt in self._attempts.having("pending"):
            self._know(attempt)
        self._next_id = 1 + (indexes.value(SENDPAYS, CREATED) or self._largest_number())
        self._waited: dict[int, Attempt] = {}
        self.on_ended: list[Callable[[AttemptRow], None]] = []
        self._attended: set[bytes] = set()  # hashes of payments that will be tried again if they fail
        self._left: set[bytes] = set()  # that have failed, which the next turn writes
        for payment_hash, _ in list(self.rows.having("pending")):
            self.leave(payment_hash)

    def _largest_number(self) -> int:
        """The last number that was drawn, in a database that is older than the counts."""
        numbers = (row.created_index for rows in (self.rows, self._attempts) for row in rows.values())
        return max(numbers, default=0)

    def _know(self, row: AttemptRow) -> None:
        self._flying.setdefault(row.payment_hash, {})[row.id] = row
        self._hashes[row.id] = row.payment_hash

    # --- a payment

    def begin(self, row: PaymentRow) -> None:
        """Enter a payment that is about to be tried.

        Raises:
            AlreadyPaid: one with this hash is under way or done.
        """
        before = self.rows.get(row.payment_hash)
        if before is not None and before.status is not Status.FAILED:
            raise AlreadyPaid(row.payment_hash, before.status)
        group_id = row.group_id or 1 + (before.group_id if before is not None else 0)
        numbered = msgspec.structs.replace(row, created_index=self.new_attempt_id(), group_id=group_id)
        self.rows.hold(row.payment_hash, numbered)
        self._attended.add(row.payment_hash)

    def leave(self, payment_hash: bytes) -> None:
        """Nobody tries this payment any more: what is not on its way has failed, and nothing follows it."""
        self._attended.discard(payment_hash)
        row = self.rows[payment_hash]
        if row.status is Status.PENDING and not self.is_on_its_way(payment_hash):
            self.rows.hold(payment_hash, msgspec.structs.replace(row, status=Status.FAILED))
            self._left.add(payment_hash)

    def note_turn(self, turn: "Turn") -> None:
        """Write what was left without a turn into one that there is anyway."""
        while self._left:
            payment_hash = self._left.pop()
            self.rows.put(turn, payment_hash, self.rows[payment_hash])

    def is_on_its_way(self, payment_hash: bytes) -> bool:
        """Whether an HTLC of it may still arrive."""
        return payment_hash in self._flying

    def give_up(self, turn: "Turn", payment_hash: bytes) -> None:
        """No attempt is left to make, and none under way."""
        row = self.rows[payment_hash]
        if row.status is Status.PENDING:
            self._put(turn, msgspec.structs.replace(row, status=Status.FAILED, ended_at=int(self._now())))

    def _put(self, turn: "Turn", row: PaymentRow) -> None:
        self._indexes.reach(turn, SENDPAYS, CREATED, row.created_index)
        self.rows.put(turn, row.payment_hash, row)

    # --- its attempts

    def new_attempt_id(self) -> int:
        """A number that no attempt, and no payment, has had."""
        self._next_id += 1
        return self._next_id - 1

    def start(
        self, turn: "Turn", row: AttemptRow, shared_secrets: Sequence[bytes], tell: Callable[[], None]
    ) -> Attempt:
        """Write the attempt with the offer that carries it; `tell` is called when its outcome is durable."""
        payment = self.rows[row.payment_hash]
        row = msgspec.structs.replace(row, created_at=int(self._now()), group_id=payment.group_id)
        attempt = self._waited[row.id] = Attempt(row, shared_secrets, tell)
        self._know(row)
        self._put(turn, msgspec.structs.replace(payment, attempts=payment.attempts + 1))
        self._attempts.put(turn, row.id, row)
        self._indexes.reach(turn, SENDPAYS, CREATED, row.id)
        self._indexes.tell(turn, SENDPAYS, CREATED, row)
        return attempt

    def attempts(self, payment_hash: bytes) -> list[AttemptRow]:
        """All attempts of a payment, in their order."""
        return self._attempts.where("payment_hash", payment_hash)

    def all_attempts(self) -> list[AttemptRow]:
        """All attempts of all payments, in their order."""
        return list(self._attempts.values())

    def forget(self, turn: "Turn", payment_hash: bytes, attempts: Sequence[AttemptRow]) -> None:
        """Drop attempts that have ended, and their payment once none is left."""
        for attempt in attempts:
            self._attempts.put(turn, attempt.id, None)
            self._indexes.next(turn, SENDPAYS, DELETED)
            self._indexes.tell(turn, SENDPAYS, DELETED, attempt)
        if not self.attempts(payment_hash):
            self.rows.put(turn, payment_hash, None)

    def settle(self, turn: "Turn", attempt_id: int, outcome: Outcome | None) -> None:
        """The attempt's HTLC has its outcome; None if it ended on the chain and nobody claimed it."""
        row = self._landed(attempt_id)
        if row is None:
            return
        attempt = self._waited.pop(attempt_id, None)
        if attempt is None:
            attempt = Attempt(row, row.shared_secrets or shared_secrets_of(row.session_key, row.nodes))
        attempt.hold_times = hold_times_of(attempt.shared_secrets, outcome)
        number = self._indexes.next(turn, SENDPAYS, UPDATED)
        ended = msgspec.structs.replace(
            row, ended_at=int(self._now()), hold_times=attempt.hold_times, updated_index=number
        )
        payment = self.rows[row.payment_hash]
        self._put(turn, msgspec.structs.replace(payment, updated_index=number))
        if isinstance(outcome, Fulfilled):
            ended = msgspec.structs.replace(ended, status=Status.COMPLETE)
            attempt.preimage = outcome.payment_preimage
            self._complete(turn, row, outcome.payment_preimage)
        else:
            attempt.attributed = read_failure(attempt.shared_secrets, outcome)
            refusal = refusal_of(attempt.attributed, outcome, len(attempt.hold_times))
            ended = msgspec.structs.replace(ended, status=Status.FAILED, refusal=refusal)
            self._lose(turn, row)
        attempt.is_over, attempt.row = True, ended
        self._indexes.tell(turn, SENDPAYS, UPDATED, ended)
        self._attempts.put(turn, attempt_id, ended)
        # it is told once, and then knows nothing of who waits: each would keep the other in memory
        turn.then(attempt.tell)
        attempt.tell = _nobody
        for callback in self.on_ended:
            turn.then(lambda call=callback: call(ended))  # type: ignore[misc]

    def _landed(self, attempt_id: int) -> AttemptRow | None:
        """The attempt, which is not on its way any more; None if it was not."""
        payment_hash = self._hashes.pop(attempt_id, None)
        if payment_hash is None:
            return None
        flying = self._flying[payment_hash]
        row = flying.pop(attempt_id)
        if not flying:
            del self._flying[payment_hash]
        return row

    def _complete(self, turn: "Turn", row: AttemptRow, preimage: bytes) -> None:
        """The first part that arrives proves the payment; all that is on its way belongs to it."""
        payment = self.rows[row.payment_hash]
        if payment.status is Status.COMPLETE:
            return
        parts = [row, *self._flying.get(row.payment_hash, {}).values()]
        self._put(
            turn,
            msgspec.structs.replace(
                payment,
                status=Status.COMPLETE,
                payment_preimage=preimage,
                fee_msat=Msat(sum(part.sent_msat for part in parts) - payment.amount_msat),
                parts=len(parts),
                ended_at=int(self._now()),
            ),
        )

    def _lose(self, turn: "Turn", row: AttemptRow) -> None:
        """An attempt has failed; the payment too, if nothing else is on its way or will be."""
        payment = self.rows[row.payment_hash]
        if payment.status is Status.COMPLETE:
            # its payee has let go of a part that it might have had
            left_msat = Msat(payment.fee_msat - row.sent_msat)
            self._put(turn, msgspec.structs.replace(payment, fee_msat=left_msat, parts=payment.parts - 1))
        elif row.payment_hash not in self._attended and not self.is_on_its_way(row.payment_hash):
            self.give_up(turn, row.payment_hash)


def _pending(status: Status) -> int | None:
    return 1 if status is Status.PENDING else None


def read_failure(shared_secrets: Sequence[bytes], outcome: Outcome | None) -> Attributed | None:
    """Who failed the attempt, and why; None if nobody can tell (BOLT 4, returning errors)."""
    match outcome:
        case Failed(reason=reason):
            return attribute(shared_secrets, reason)
        case FailedMalformed(sha256_of_onion=digest, failure_code=code):
            return Attributed(0, Failure(code, sha256_of_onion=digest))
        case None:
            # it never got beyond our own channel, of which we speak ourselves
            return Attributed(-1, Failure(FailureCode.permanent_channel_failure))
    return None


def hold_times_of(shared_secrets: Sequence[bytes], outcome: Outcome | None) -> tuple[int, ...]:
    """How long each hop says that it held the HTLC, as far as that is proved (failures.5)."""
    if not isinstance(outcome, Fulfilled | Failed) or outcome.attribution_data is None:
        return ()
    packet = outcome.reason if isinstance(outcome, Failed) else b""
    return verified_hold_times(shared_secrets, packet, outcome.attribution_data)


def refusal_of(attributed: Attributed | None, outcome: Outcome | None, proved_hops: int) -> Refusal:
    """What is kept of a failure; so many hops have proved that they did not garble it."""
    if attributed is None:
        onion = outcome.reason if isinstance(outcome, Failed) else b""
        where = f", garbled behind hop {proved_hops}" if proved_hops else ""
        return Refusal(f"a failure came back that nobody can read{where}", onion=onion)
    failure = attributed.failure
    if failure is None:
        return Refusal("an unreadable failure", hop_index=attributed.hop_index)
    return Refusal(failure.name, failure.code, attributed.hop_index, encode_failure(failure))
