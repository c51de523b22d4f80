"""Commands about paying, and about what was paid."""

import secrets
from typing import Any

import msgspec
import trio

from gossip.no_route import CltvTooFar, FeeTooHigh
from gossip.private import Hint
from gossip.routes import MAX_CLTV_BLOCKS
from node.daemon.hints import hints_in, hints_of
from node.daemon.node import KEYSEND_FINAL_DELTA_BLOCKS, Node
from node.daemon.paying import PaymentFailed, Wanted
from node.daemon.payments import AlreadyPaid, Note, PaymentRow, Status
from node.daemon.rpc_parameters import (
    INVALID_PARAMETERS,
    AmountMsat,
    Anything,
    Array,
    CommandFailed,
    EndedStatus,
    Hash,
    Index,
    Integer,
    Label,
    NodeId,
    Number,
    PaymentStatus,
    Text,
    at_most_one,
    paged,
)
from node.daemon.rpc_payment_views import (
    decoded_view,
    failure_view,
    hash_in,
    paid_view,
    payment_view,
    read_invoice,
    sendpay_view,
    xpaid_view,
)
from node.daemon.rpc_routes import excluded
from node.daemon.turn import Turn
from wire import bolt11, scid
from wire.bolt11 import Invoice, RouteHop
from wire.bolt12.text import is_bolt12
from wire.crypto.hashes import sha256
from wire.crypto.secp256k1 import is_point
from wire.features import BASIC_MPP
from wire.units import Msat

IN_PROGRESS = 200
ALREADY_PAID = 201
PERMANENT_FAILURE = 203
NO_ROUTE = 205
TOO_EXPENSIVE = 206
INVOICE_EXPIRED = 207
NOT_FOUND = 208
GAVE_UP = 210
STATUS_UNEXPECTED = 211
XPAY_OTHER = 209
XPAY_ALREADY_PAID = 219

RETRY_SECONDS = 60
FEE_PERCENT = 0.5
EXEMPT_FEE_MSAT = Msat(5000)
XPAY_FEE_PERCENT = 1.0


class PaymentCommands:
    """Payments, and the account of them."""

    def __init__(self, node: Node) -> None:
        self._node = node

    # --- paying

    async def pay(
        self,
        bolt11: Text,
        amount_msat: AmountMsat | None = None,
        label: Label = "",
        riskfactor: Number = 10,  # noqa: ARG002
        maxfeepercent: Number | None = None,
        retry_for: Integer = RETRY_SECONDS,
        maxdelay: Integer = MAX_CLTV_BLOCKS,
        exemptfee: AmountMsat | None = None,
        localinvreqid: Hash | None = None,  # noqa: ARG002 - for invoices that were asked for with one
        exclude: Array | None = None,
        maxfee: AmountMsat | None = None,
        description: Text = "",
        partial_msat: AmountMsat | None = None,
    ) -> dict[str, Any]:
        """Pay an invoice, or an offer."""
        asked = await self._asked(bolt11, amount_msat, description, "", retry_for)
        most_fee_msat = _most_fee(asked.amount_msat, maxfee, maxfeepercent, exemptfee)
        wanted = _bounded(asked, most_fee_msat, maxdelay, partial_msat, label)
        edges, nodes = excluded(exclude or [])
        wanted = msgspec.structs.replace(wanted, excluded=frozenset(edges), excluded_nodes=frozenset(nodes))
        return paid_view(await self._pay(wanted, retry_for))

    async def _asked(
        self, text: str, amount_msat: Msat | None, description: str, payer_note: str, seconds: int
    ) -> Wanted:
        """What an invoice, or an offer, asks for."""
        if is_bolt12(text):
            # most nodes never see one
            from node.daemon.bolt12_paying import wanted_by

            return await wanted_by(self._node, text, amount_msat, payer_note, seconds)
        invoice = read_invoice(self._node, text)
        return Wanted(
            invoice.payee,
            invoice.payment_hash,
            self._amount(invoice, amount_msat, description),
            payment_secret=invoice.payment_secret,
            payment_metadata=invoice.payment_metadata,
            final_cltv_expiry_delta=invoice.min_final_cltv_expiry_delta,
            may_split=invoice.features.has(BASIC_MPP),
            hints=hints_in(invoice),
            note=Note(text, description=description),
        )

    async def xpay(
        self,
        invstring: Text,
        amount_msat: AmountMsat | None = None,
        maxfee: AmountMsat | None = None,
        layers: Array | None = None,  # noqa: ARG002 - no layer of ours changes what we believe
        retry_for: Integer = RETRY_SECONDS,
        partial_msat: AmountMsat | None = None,
        maxdelay: Integer = MAX_CLTV_BLOCKS,
        payer_note: Text = "",
        label: Label = "",
        localinvreqid: Hash | None = None,  # noqa: ARG002 - for invoices that were asked for with one
    ) -> dict[str, Any]:
        """Pay an invoice, or an offer; what fails says which hop refused, and why."""
        try:
            asked = await self._asked(invstring, amount_msat, "", payer_note, retry_for)
            most_fee_msat = _most_fee(asked.amount_msat, maxfee, XPAY_FEE_PERCENT, None)
            row = await self._pay(_bounded(asked, most_fee_msat, maxdelay, partial_msat, label), retry_for)
        except CommandFailed as failed:
            codes = {ALREADY_PAID: XPAY_ALREADY_PAID, GAVE_UP: XPAY_OTHER, IN_PROGRESS: XPAY_OTHER}
            codes[TOO_EXPENSIVE] = NO_ROUTE
            raise CommandFailed(codes.get(failed.code, failed.code), failed.message, failed.details) from None
        return xpaid_view(row)

    def _amount(self, invoice: Invoice, amount_msat: Msat | None, description: str) -> Msat:
        """What an invoice is paid with, if it may be paid."""
        if (amount_msat is None) == (invoice.amount_msat is None):
            why = "parameter required" if amount_msat is None else "parameter unnecessary"
            raise CommandFailed(INVALID_PARAMETERS, f"amount_msat {why}")
        # b11-invoices.3
        if description and not invoice.is_about(description):
            raise CommandFailed(INVALID_PARAMETERS, "description does not match the invoice")
        now = int(self._node.switch.now())
        if now > invoice.expires_at:
            details = {"now": now, "expiry": invoice.expires_at}
            raise CommandFailed(INVOICE_EXPIRED, "Invoice expired", details)
        return Msat(amount_msat or invoice.amount_msat or 0)

    async def keysend(
        self,
        destination: NodeId,
        amount_msat: AmountMsat,
        label: Label = "",
        maxfeepercent: Number | None = None,
        retry_for: Integer = RETRY_SECONDS,
        maxdelay: Integer = MAX_CLTV_BLOCKS,
        exemptfee: AmountMsat | None = None,
        routehints: Array | None = None,
        extratlvs: Anything | None = None,
        maxfee: AmountMsat | None = None,
    ) -> dict[str, Any]:
        """Pay somebody who did not ask for it."""
        preimage = secrets.token_bytes(32)
        wanted = Wanted(
            destination,
            sha256(preimage),
            amount_msat,
            keysend_preimage=preimage,
            custom_records=_records(extratlvs),
            final_cltv_expiry_delta=KEYSEND_FINAL_DELTA_BLOCKS,
            max_fee_msat=_most_fee(amount_msat, maxfee, maxfeepercent, exemptfee),
            max_cltv_blocks=min(maxdelay, MAX_CLTV_BLOCKS),
            hints=_hints(routehints or [], destination),
            note=Note(label=label),
        )
        return paid_view(await self._pay(wanted, retry_for))

    async def xkeysend(
        self,
        destination: NodeId,
        amount_msat: AmountMsat,
        label: Label = "",
        maxfee: AmountMsat | None = None,
        layers: Array | None = None,  # noqa: ARG002 - no layer of ours changes what we believe
        retry_for: Integer = RETRY_SECONDS,
        maxdelay: Integer = MAX_CLTV_BLOCKS,
        extratlvs: Anything | None = None,
    ) -> dict[str, Any]:
        """The same, answered as `xpay` is."""
        paid = await self.keysend(
            destination,
            amount_msat,
            label,
            XPAY_FEE_PERCENT,
            retry_for,
            maxdelay,
            extratlvs=extratlvs,
            maxfee=maxfee,
        )
        return xpaid_view(self._node.switch.payments.rows[bytes.fromhex(paid["payment_hash"])])

    async def _pay(self, wanted: Wanted, retry_seconds: int) -> PaymentRow:
        payments = self._node.switch.payments
        try:
            with trio.move_on_after(retry_seconds) as patience:
                await self._node.payer.pay(wanted)
        except AlreadyPaid as already:
            row = payments.rows[wanted.payment_hash]
            if already.status is Status.PENDING:
                raise CommandFailed(IN_PROGRESS, "Payment is already in progress") from None
            if (row.amount_msat, row.payee) != (wanted.amount_msat, wanted.payee):
                why = "Already paid this hash with another amount or destination"
                raise CommandFailed(ALREADY_PAID, why) from None
        except PaymentFailed as failed:
            raise self._refused(wanted, failed) from None
        row = payments.rows[wanted.payment_hash]
        if patience.cancelled_caught and row.status is not Status.COMPLETE:
            raise CommandFailed(GAVE_UP, f"Timed out after {retry_seconds} seconds", self._account(row))
        return row

    def _refused(self, wanted: Wanted, failed: PaymentFailed) -> CommandFailed:
        """Why a payment failed, with the account of its attempts."""
        if failed.is_payees_wish:
            code = PERMANENT_FAILURE
        elif failed.attempts:
            code = GAVE_UP
        else:
            code = TOO_EXPENSIVE if isinstance(failed.no_route, FeeTooHigh | CltvTooFar) else NO_ROUTE
        row = self._node.switch.payments.rows[wanted.payment_hash]
        return CommandFailed(code, failed.reason, self._account(row))

    def _account(self, row: PaymentRow) -> dict[str, Any]:
        """What was tried in this round, and what it failed for; first what the last failure says."""
        us = self._node.node_id
        attempts = self._node.switch.payments.attempts(row.payment_hash)
        view = payment_view(row, [each for each in attempts if each.group_id == row.group_id], us)
        failed = [each for each in attempts if each.group_id == row.group_id and each.refusal is not None]
        last = failure_view(failed[-1], us) if failed else {}
        failures = [failure_view(each, us) for each in failed]
        return {**last, "attempts": view["attempts"], "failures": failures, "sendpay_tries": row.attempts}

    # --- the account

    async def listpays(
        self,
        bolt11: Text | None = None,
        payment_hash: Hash | None = None,
        status: PaymentStatus | None = None,
        index: Index | None = None,
        start: Integer = 0,
        limit: Integer | None = None,
    ) -> dict[str, Any]:
        """Our payments, in the order they were begun, with all that was tried for each."""
        at_most_one(bolt11=bolt11, payment_hash=payment_hash)
        wanted = payment_hash if bolt11 is None else hash_in(self._node, bolt11)
        payments = self._node.switch.payments
        rows = sorted(payments.rows.values(), key=lambda row: row.created_index)
        found = [
            row for row in rows if wanted in (None, row.payment_hash) and status in (None, row.status.value)
        ]
        return {
            "pays": [
                payment_view(row, payments.attempts(row.payment_hash), self._node.node_id)
                for row in paged(found, index, start, limit)
            ]
        }

    async def listsendpays(
        self,
        bolt11: Text | None = None,
        payment_hash: Hash | None = None,
        status: PaymentStatus | None = None,
        index: Index | None = None,
        start: Integer = 0,
        limit: Integer | None = None,
    ) -> dict[str, Any]:
        """Every HTLC that we have sent for payments of our own."""
        at_most_one(bolt11=bolt11, payment_hash=payment_hash)
        wanted = payment_hash if bolt11 is None else hash_in(self._node, bolt11)
        payments = self._node.switch.payments
        every = payments.all_attempts() if wanted is None else payments.attempts(wanted)
        found = [each for each in every if status in (None, each.status.value)]
        return {
            "payments": [
                sendpay_view(attempt, payments.rows[attempt.payment_hash])
                for attempt in paged(found, index, start, limit)
            ]
        }

    async def delpay(
        self,
        payment_hash: Hash,
        status: EndedStatus,
        partid: Integer | None = None,
        groupid: Integer | None = None,
    ) -> dict[str, Any]:
        """Forget a payment that has ended, or some of its parts."""
        if (partid is None) is not (groupid is None):
            raise CommandFailed(INVALID_PARAMETERS, "Must set both partid and groupid, or neither")
        payments = self._node.switch.payments
        row = payments.rows.get(payment_hash)
        if row is None:
            raise CommandFailed(NOT_FOUND, "Unknown payment with payment_hash")
        if row.status.value != status:
            raise CommandFailed(STATUS_UNEXPECTED, f"Payment with hash has status {row.status.value}")
        gone = [
            each
            for each in payments.attempts(payment_hash)
            if partid in (None, each.part_id) and groupid in (None, each.group_id)
        ]
        shown = [sendpay_view(each, row) for each in gone]

        def forget(turn: Turn) -> None:
            payments.forget(turn, payment_hash, gone)

        await self._node.switch.ask(forget)
        return {"payments": shown}

    async def decode(self, string: Text) -> dict[str, Any]:
        """What an invoice, an invoice request or an offer says."""
        if is_bolt12(string):
            from node.daemon.rpc_offer_views import decoded_bolt12

            return decoded_bolt12(string, self._node.chain.network)
        try:
            invoice = bolt11.decode(string, None)
        except bolt11.InvalidInvoice as wrong:
            return {"type": "bolt11 invoice", "valid": False, "warning": str(wrong)}
        shown = decoded_view(string, invoice, self._node.chain.network)
        return {"type": "bolt11 invoice", "valid": True, **shown}


def _bounded(
    asked: Wanted, most_fee_msat: Msat, maxdelay: int, partial_msat: Msat | None, label: str
) -> Wanted:
    """What is asked for within our user's limits, or a part of it."""
    amount_msat = asked.amount_msat
    return msgspec.structs.replace(
        asked,
        amount_msat=min(amount_msat, partial_msat or amount_msat),
        total_msat=amount_msat,
        max_fee_msat=most_fee_msat,
        max_cltv_blocks=min(maxdelay, MAX_CLTV_BLOCKS),
        note=msgspec.structs.replace(asked.note, label=label),
    )


def _most_fee(
    amount_msat: Msat, maxfee: Msat | None, maxfeepercent: float | None, exemptfee: Msat | None
) -> Msat:
    if maxfee is not None:
        return maxfee
    percent = FEE_PERCENT if maxfeepercent is None else maxfeepercent
    exempt_msat = EXEMPT_FEE_MSAT if exemptfee is None else exemptfee
    return Msat(max(int(amount_msat * percent / 100), exempt_msat))


def _records(extratlvs: Any) -> dict[int, bytes]:
    try:
        return {int(number): bytes.fromhex(raw) for number, raw in (extratlvs or {}).items()}
    except (AttributeError, TypeError, ValueError):
        why = "extratlvs: should be an object of numbers and hex"
        raise CommandFailed(INVALID_PARAMETERS, why) from None


def _hints(routehints: list[Any], payee: bytes) -> tuple[Hint, ...]:
    """Hints as Core Lightning writes them: hops by `id`, the channel after each and its terms."""
    try:
        ways = [tuple(_route_hop(hop) for hop in way) for way in routehints]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise CommandFailed(INVALID_PARAMETERS, "routehints: should be an array of routehints") from None
    return tuple(hint for way in ways for hint in hints_of(way, payee))


def _route_hop(hop: dict[str, Any]) -> RouteHop:
    node_id = bytes.fromhex(hop["id"])
    if not is_point(node_id):
        raise ValueError
    return RouteHop(
        node_id,
        scid.parse(hop["short_channel_id"]),
        Msat(int(hop["fee_base_msat"])),
        int(hop["fee_proportional_millionths"]),
        int(hop["cltv_expiry_delta"]),
    )
