"""Payments between real nodes as a scenario wants them: begun, held by their payees, and their outcomes."""

from collections.abc import Sequence
from secrets import token_bytes
from typing import Any, NamedTuple

import msgspec
import trio

from node.daemon.node import Node
from node.daemon.paying import PaymentFailed
from node.daemon.payments import Status
from node.lab.flow.engine import UNDER_WAY, Outcome, Wish
from node.lab.real.agenda import Agenda
from node.lab.testnet.members import NodeHere
from wire import bolt11
from wire.crypto.hashes import sha256
from wire.units import Msat


class Release(NamedTuple):
    """A payee that has kept a payment long enough decides."""

    payee: int
    preimage: bytes
    is_refused: bool


class Sending(msgspec.Struct):
    """One payment: what was wanted, and what is known of it so far."""

    number: int
    wish: Wish
    payment_hash: bytes = b""
    scope: trio.CancelScope = msgspec.field(default_factory=trio.CancelScope)
    outcome: Outcome | None = None


class Desk:
    """Makes the payments of a scenario. Nodes are told by their places in it."""

    def __init__(self, agenda: Agenda[Any], members: Sequence[NodeHere]) -> None:
        self._agenda, self._members = agenda, members
        self._sendings: list[Sending] = []
        self._held: dict[bytes, tuple[Wish, bytes]] = {}  # by payment hash: not accepted yet
        self._overdue: list[Release] = []  # of payees that are away
        self._waited_for = 0
        self._to_release = 0
        for member in members:
            self._listen(member)

    def _listen(self, member: NodeHere) -> None:
        _node(member).switch.gathering.on_changed.append(self._accepted)

    @property
    def is_busy(self) -> bool:
        """Whether a payment is under way that can still end by itself."""
        return bool(self._waited_for or self._to_release)

    # --- paying

    def begin(self, wish: Wish, nursery: trio.Nursery) -> None:
        """Make a payment."""
        sending = Sending(len(self._sendings), wish)
        self._sendings.append(sending)
        self._waited_for += 1
        nursery.start_soon(self._pay, sending)

    async def _pay(self, sending: Sending) -> None:
        with sending.scope:
            await self._try(sending)
        self._waited_for -= 1
        self._agenda.nudge()

    async def _try(self, sending: Sending) -> None:
        wish = sending.wish
        payer, payee = self._members[wish.payer], self._members[wish.payee]
        if not (payer.is_up and payee.is_up):
            self._note(sending, why="no route")
        else:
            sending.payment_hash, secret = await self._invoice(wish, payee)
            payee_id, amount_msat = _node(payee).node_id, Msat(wish.amount_msat)
            try:
                paid = await _node(payer).pay(payee_id, sending.payment_hash, secret, amount_msat)
            except PaymentFailed as failed:
                self._note(sending, attempts=failed.attempts, why=failed.reason)
            else:
                hops = len(paid.route)
                self._note(sending, is_paid=True, fee_msat=paid.fee_msat, hops=hops, attempts=paid.attempts)

    async def _invoice(self, wish: Wish, payee: NodeHere) -> tuple[bytes, bytes]:
        """The payment hash and secret of a new invoice; one of ours to hold if the payee waits or refuses."""
        amount_msat = Msat(wish.amount_msat)
        if not (wish.hold_us or wish.is_refused):
            row = await _node(payee).add_invoice(amount_msat)
            return row.payment_hash, row.payment_secret
        preimage = token_bytes(32)
        payment_hash = sha256(preimage)
        self._held[payment_hash] = wish, preimage
        held = await payee.call("holdinvoice", payment_hash=payment_hash.hex(), amount=amount_msat)
        secret = bolt11.decode(held["bolt11"]).payment_secret
        assert secret is not None, "our invoices have one"
        return payment_hash, secret

    def _note(
        self,
        sending: Sending,
        *,
        is_paid: bool = False,
        fee_msat: int = 0,
        hops: int = 0,
        attempts: int = 0,
        why: str = "",
    ) -> None:
        wish, now_us = sending.wish, self._agenda.now_us
        whom_and_what = wish.payer, wish.payee, wish.amount_msat
        sending.outcome = Outcome(
            sending.number, wish.at_us, now_us, *whom_and_what, fee_msat, hops, attempts, is_paid, why
        )

    # --- holding

    def _accepted(self, payment_hash: bytes) -> None:
        """All of a payment is with its payee, for the first time or again; or it is not any more."""
        wish, preimage = self._held.pop(payment_hash, (None, b""))
        if wish is not None:
            release = Release(wish.payee, preimage, wish.is_refused)
            self._to_release += 1
            self._agenda.add(self._agenda.now_us + wish.hold_us, UNDER_WAY, release)

    async def release(self, release: Release) -> None:
        """Settle a payment, or give it back; a payee that is away does so when it comes back."""
        self._to_release -= 1
        await self._decide(release)

    async def _decide(self, release: Release) -> None:
        payee = self._members[release.payee]
        if not payee.is_up:
            self._overdue.append(release)
        elif release.is_refused:
            await payee.call("cancelholdinvoice", payment_hash=sha256(release.preimage).hex())
        else:
            await payee.call("settleholdinvoice", preimage=release.preimage.hex())

    # --- coming and going

    def leave(self, place: int) -> None:
        """A node goes: nobody waits for its payments, though they may still arrive."""
        for sending in self._sendings:
            if sending.outcome is None and sending.wish.payer == place:
                sending.scope.cancel()

    async def welcome(self, member: NodeHere) -> None:
        """A node is back: what it should have decided meanwhile it decides now."""
        self._listen(member)
        due = [each for each in self._overdue if self._members[each.payee] is member]
        self._overdue = [each for each in self._overdue if each not in due]
        for each in due:
            await self._decide(each)

    # --- what came of it

    def look_up(self) -> None:
        """Find out from the payers' books what became of payments that nobody waits for."""
        for sending in self._sendings:
            if sending.outcome is None:
                self._read(sending)

    def _read(self, sending: Sending) -> None:
        payer = self._members[sending.wish.payer]
        row = _node(payer).payment(sending.payment_hash) if payer.is_up else None
        if row is None or row.status is Status.PENDING:
            self._note(sending, why="still under way")
        elif row.status is Status.FAILED:
            self._note(sending, attempts=row.attempts, why="its payer went away")
        else:
            attempts = _node(payer).switch.payments.attempts(row.payment_hash)
            hops = next(len(each.nodes) for each in attempts if each.status is Status.COMPLETE)
            self._note(sending, is_paid=True, fee_msat=row.fee_msat, hops=hops, attempts=row.attempts)

    def outcomes(self) -> tuple[Outcome, ...]:
        """What became of every payment, in the order of their beginnings."""
        return tuple([each.outcome for each in self._sendings if each.outcome is not None])


def _node(member: NodeHere) -> Node:
    assert member.node is not None, "it was started"
    return member.node
