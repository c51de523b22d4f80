"""Payments of our own: what was sent for what, and what came of it.

An attempt is one HTLC on one route. It is written with the offer that carries it, and its
outcome with the settlement, so after a crash each is either not sent or still on a channel's
ladder. The onion's session key is kept: it alone can read a failure that comes back later.
"""

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

import msgspec
import trio

from htlc.ladder import Failed, FailedMalformed, Fulfilled, Outcome
from onion.failures import Attributed, Failure, FailureCode, attribute
from onion.sphinx import shared_secrets_of
from wire.crypto.secp256k1 import Point
from wire.units import Msat

if TYPE_CHECKING:
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
    completed_at: int | None = None
    note: Note = Note()
    created_index: int = 0  # counts the payments, from 1


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
    why: str = ""


class Attempt:
    """An attempt that somebody waits for."""

    def __init__(self, row: AttemptRow) -> None:
        self.row = row
        self.done = trio.Event()
        self.preimage: bytes | None = None
        self.attributed: Attributed | None = None


class Payments:
    """All payments, in memory and on disk."""

    def __init__(self, store: "Store", now: Callable[[], float]) -> None:
        self._store, self._now = store, now
        payments = (msgspec.msgpack.decode(raw, type=PaymentRow) for raw in store.values("payments"))
        self.rows = {row.payment_hash: row for row in payments}
        attempts = [msgspec.msgpack.decode(raw, type=AttemptRow) for raw in store.values("attempts")]
        self._pending = {row.id: row for row in attempts if row.status is Status.PENDING}
        self._created = max((row.created_index for row in self.rows.values()), default=0)
        self._next_id = 1 + max((row.id for row in attempts), default=0)
        self._waited: dict[int, Attempt] = {}
        self._attended: set[bytes] = set()  # hashes of payments that will be tried again if they fail
        for payment_hash in self.rows:
            self.leave(payment_hash)

    def begin(self, row: PaymentRow) -> None:
        """Enter a payment that is about to be tried.

        Raises:
            AlreadyPaid: one with this hash is under way or done.
        """
        before = self.rows.get(row.payment_hash)
        if before is not None and before.status is not Status.FAILED:
            raise AlreadyPaid(row.payment_hash, before.status)
        self._created += 1
        self.rows[row.payment_hash] = msgspec.structs.replace(row, created_index=self._created)
        self._attended.add(row.payment_hash)

    def leave(self, payment_hash: bytes) -> None:
        """Nobody tries this payment any more: what is not on its way has failed, and nothing follows it."""
        self._attended.discard(payment_hash)
        row = self.rows[payment_hash]
        is_on_its_way = any(attempt.payment_hash == payment_hash for attempt in self._pending.values())
        if row.status is Status.PENDING and not is_on_its_way:
            self.rows[payment_hash] = msgspec.structs.replace(row, status=Status.FAILED)

    def new_attempt_id(self) -> int:
        """A number that no attempt has had."""
        self._next_id += 1
        return self._next_id - 1

    def start(self, turn: "Turn", row: AttemptRow) -> Attempt:
        """Write the attempt with the offer that carries it."""
        attempt = Attempt(row)
        self._pending[row.id] = row
        self._waited[row.id] = attempt
        payment = self.rows[row.payment_hash]
        self._put(turn, msgspec.structs.replace(payment, attempts=payment.attempts + 1))
        turn.write(lambda: self._store.put_value("attempts", row.id, row))
        return attempt

    def settle(self, turn: "Turn", attempt_id: int, outcome: Outcome | None) -> None:
        """The attempt's HTLC has its outcome; None if it ended on the chain and nobody claimed it."""
        row = self._pending.pop(attempt_id, None)
        if row is None:
            return
        attempt = self._waited.pop(attempt_id, None)
        if isinstance(outcome, Fulfilled):
            self._complete(turn, row, outcome.payment_preimage)
            if attempt is not None:
                attempt.preimage = outcome.payment_preimage
        else:
            attributed = read_failure(row, outcome)
            failed = msgspec.structs.replace(row, status=Status.FAILED, why=reason(attributed))
            turn.write(lambda: self._store.put_value("attempts", row.id, failed))
            if row.payment_hash not in self._attended:
                self.give_up(turn, row.payment_hash)
            if attempt is not None:
                attempt.attributed = attributed
        if attempt is not None:
            turn.then(attempt.done.set)

    def _complete(self, turn: "Turn", row: AttemptRow, preimage: bytes) -> None:
        done = msgspec.structs.replace(row, status=Status.COMPLETE)
        turn.write(lambda: self._store.put_value("attempts", row.id, done))
        payment = self.rows[row.payment_hash]
        self._put(
            turn,
            msgspec.structs.replace(
                payment,
                status=Status.COMPLETE,
                payment_preimage=preimage,
                fee_msat=Msat(row.sent_msat - row.delivered_msat),
                completed_at=int(self._now()),
            ),
        )

    def give_up(self, turn: "Turn", payment_hash: bytes) -> None:
        """No attempt is left to make."""
        self._put(turn, msgspec.structs.replace(self.rows[payment_hash], status=Status.FAILED))

    def _put(self, turn: "Turn", row: PaymentRow) -> None:
        self.rows[row.payment_hash] = row
        turn.write(lambda: self._store.put_value("payments", row.payment_hash, row))


def read_failure(row: AttemptRow, outcome: Outcome | None) -> Attributed | None:
    """Who failed the attempt, and why; None if nobody can tell (BOLT 4, returning errors)."""
    match outcome:
        case Failed(reason=reason):
            return attribute(shared_secrets_of(row.session_key, row.nodes), reason)
        case FailedMalformed(sha256_of_onion=digest, failure_code=code):
            return Attributed(0, Failure(code, sha256_of_onion=digest))
        case None:
            # it never got beyond our own channel, of which we speak ourselves
            return Attributed(-1, Failure(FailureCode.permanent_channel_failure))
    return None


def reason(attributed: Attributed | None) -> str:
    """What came back, in words; the first hop is our peer."""
    if attributed is None:
        return "a failure came back that nobody can read"
    name = attributed.failure.name if attributed.failure is not None else "an unreadable failure"
    return f"{name}, says hop {attributed.hop_index + 1}"
