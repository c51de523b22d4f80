"""Commands about being paid and paying."""

import secrets
from typing import Any

import msgspec
import trio

from gossip.routes import MAX_CLTV_BLOCKS, NoRoute, Route, find_route
from node.daemon.invoices import (
    InvoiceExists,
    InvoiceRow,
    LabelTaken,
    new_invoice,
)
from node.daemon.node import KEYSEND_FINAL_DELTA_BLOCKS, Node
from node.daemon.paying import PaymentFailed, Wanted
from node.daemon.payments import AlreadyPaid, Note, PaymentRow, Status
from node.daemon.rpc_parameters import (
    INVALID_PARAMETERS,
    AmountMsat,
    AmountOrAny,
    Anything,
    Array,
    CommandFailed,
    Hash,
    Integer,
    Label,
    NodeId,
    Number,
    Text,
)
from node.daemon.rpc_views import invoice_view, payment_view
from wire import bolt11, scid
from wire.bitcoin.address import NoAddressForm, address_of
from wire.crypto.hashes import sha256
from wire.features import BASIC_MPP
from wire.units import Msat

UNSPECIFIED = -1
IN_PROGRESS = 200
ALREADY_PAID = 201
PERMANENT_FAILURE = 203
NO_ROUTE = 205
INVOICE_EXPIRED = 207
GAVE_UP = 210
LABEL_TAKEN = 900
PREIMAGE_TAKEN = 901
EXPIRED_WHILE_WAITING = 903
INVOICE_NOT_FOUND = 905
STATUS_UNEXPECTED = 906

ONE_WEEK_SECONDS = 604_800
RETRY_SECONDS = 60
FEE_PERCENT = 0.5
EXEMPT_FEE_MSAT = Msat(5000)
GETROUTE_FINAL_BLOCKS = 9


class PaymentCommands:
    """Invoices, payments, routes."""

    def __init__(self, node: Node) -> None:
        self._node = node

    # --- being paid

    async def invoice(
        self,
        amount_msat: AmountOrAny,
        label: Label,
        description: Text,
        expiry: Integer = ONE_WEEK_SECONDS,
        preimage: Hash | None = None,
        cltv: Integer | None = None,
    ) -> dict[str, Any]:
        """Ask to be paid."""
        node = self._node
        if amount_msat == 0:
            raise CommandFailed(
                INVALID_PARAMETERS, "amount_msat: should be positive or 'any': invalid token '0'"
            )
        row = new_invoice(
            preimage or secrets.token_bytes(32),
            secrets.token_bytes(32),
            amount_msat,
            description,
            node.switch.now(),
            expiry,
            cltv or node.config.final_delta_blocks,
        )
        named = msgspec.structs.replace(row, label=label)
        try:
            kept = await node.switch.ask(lambda turn: node.switch.invoices.add(turn, named))
        except LabelTaken as taken:
            raise CommandFailed(LABEL_TAKEN, f"Duplicate label '{taken.label}'") from None
        except InvoiceExists:
            raise CommandFailed(PREIMAGE_TAKEN, "preimage already used") from None
        shown = invoice_view(node, kept)
        told = {name: shown[name] for name in ("bolt11", "payment_hash", "expires_at", "created_index")}
        return {**told, "payment_secret": kept.payment_secret.hex()}

    async def listinvoices(
        self, label: Label | None = None, invstring: Text | None = None, payment_hash: Hash | None = None
    ) -> dict[str, Any]:
        """Our invoices, in the order they were made."""
        wanted = payment_hash if invstring is None else self._read(invstring).payment_hash
        rows = sorted(self._node.switch.invoices.rows.values(), key=lambda row: row.created_index)
        shown = [
            row
            for row in rows
            if wanted in (None, row.payment_hash) and label in (None, row.label or row.payment_hash.hex())
        ]
        return {"invoices": [self._shown(row) for row in shown]}

    async def waitinvoice(self, label: Label) -> dict[str, Any]:
        """Wait until an invoice is paid or has expired."""
        invoices, now = self._node.switch.invoices, self._node.switch.now
        payment_hash = invoices.by_label.get(label)
        if payment_hash is None:
            raise CommandFailed(UNSPECIFIED, "Label not found")
        row = invoices.rows[payment_hash]
        with trio.move_on_after(max(0.0, row.created_at + row.expiry_seconds - now())):
            await self._settled(lambda paid: paid.payment_hash == payment_hash)
        row = invoices.rows[payment_hash]
        if not row.is_paid:
            raise CommandFailed(EXPIRED_WHILE_WAITING, "invoice expired during wait", self._shown(row))
        return self._shown(row)

    async def waitanyinvoice(
        self, lastpay_index: Integer = 0, timeout: Integer | None = None
    ) -> dict[str, Any]:
        """Wait for the next invoice that is paid after the one with this number."""

        def is_next(row: InvoiceRow) -> bool:
            return row.pay_index > lastpay_index

        rows = self._node.switch.invoices.rows
        with trio.move_on_after(float("inf") if timeout is None else timeout):
            await self._settled(is_next)
        found = sorted(filter(is_next, rows.values()), key=lambda row: row.pay_index)
        if not found:
            raise CommandFailed(904, "Timed out")
        return self._shown(found[0])

    async def _settled(self, is_it: Any) -> None:
        """Return once an invoice that looks like this is paid."""
        invoices, done = self._node.switch.invoices, trio.Event()

        def look(row: InvoiceRow) -> None:
            if is_it(row):
                done.set()

        invoices.on_settled.append(look)
        try:
            if any(row.is_paid and is_it(row) for row in invoices.rows.values()):
                return
            await done.wait()
        finally:
            invoices.on_settled.remove(look)

    def _shown(self, row: InvoiceRow) -> dict[str, Any]:
        return invoice_view(self._node, row, self._node.switch.now())

    # --- paying

    async def pay(
        self,
        bolt11: Text,
        amount_msat: AmountMsat | None = None,
        label: Label = "",
        riskfactor: Number = 10,  # noqa: ARG002
        maxfeepercent: Number | None = None,
        retry_for: Integer = RETRY_SECONDS,
        maxdelay: Integer | None = None,  # noqa: ARG002
        exemptfee: AmountMsat | None = None,
        maxfee: AmountMsat | None = None,
    ) -> dict[str, Any]:
        """Pay an invoice."""
        invoice = self._read(bolt11)
        if (amount_msat is None) == (invoice.amount_msat is None):
            why = "parameter required" if amount_msat is None else "parameter unnecessary"
            raise CommandFailed(INVALID_PARAMETERS, f"amount_msat {why}")
        amount = Msat(amount_msat or invoice.amount_msat or 0)
        now = int(self._node.switch.now())
        if now > invoice.expires_at:
            details = {"now": now, "expiry": invoice.expires_at}
            raise CommandFailed(INVOICE_EXPIRED, "Invoice expired", details)
        return await self._pay(
            Wanted(
                invoice.payee,
                invoice.payment_hash,
                amount,
                payment_secret=invoice.payment_secret,
                payment_metadata=invoice.payment_metadata,
                final_cltv_expiry_delta=invoice.min_final_cltv_expiry_delta,
                max_fee_msat=_most_fee(amount, maxfee, maxfeepercent, exemptfee),
                may_split=invoice.features.has(BASIC_MPP),
                note=Note(bolt11, label),
            ),
            retry_for,
        )

    async def keysend(
        self,
        destination: NodeId,
        amount_msat: AmountMsat,
        label: Label = "",
        maxfeepercent: Number | None = None,
        retry_for: Integer = RETRY_SECONDS,
        maxdelay: Integer | None = None,  # noqa: ARG002
        exemptfee: AmountMsat | None = None,
        extratlvs: Anything | None = None,
        maxfee: AmountMsat | None = None,
    ) -> dict[str, Any]:
        """Pay somebody who did not ask for it."""
        preimage = secrets.token_bytes(32)
        return await self._pay(
            Wanted(
                destination,
                sha256(preimage),
                amount_msat,
                keysend_preimage=preimage,
                custom_records=_records(extratlvs),
                final_cltv_expiry_delta=KEYSEND_FINAL_DELTA_BLOCKS,
                max_fee_msat=_most_fee(amount_msat, maxfee, maxfeepercent, exemptfee),
                note=Note(label=label),
            ),
            retry_for,
        )

    async def _pay(self, wanted: Wanted, retry_seconds: int) -> dict[str, Any]:
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
            code = NO_ROUTE if not failed.attempts else GAVE_UP
            code = PERMANENT_FAILURE if failed.is_payees_wish else code
            raise CommandFailed(code, failed.reason, {"attempts": failed.attempts}) from None
        if patience.cancelled_caught and payments.rows[wanted.payment_hash].status is not Status.COMPLETE:
            raise CommandFailed(GAVE_UP, f"Timed out after {retry_seconds} seconds")
        return _paid(payments.rows[wanted.payment_hash])

    async def listpays(
        self, bolt11: Text | None = None, payment_hash: Hash | None = None, status: Text | None = None
    ) -> dict[str, Any]:
        """Our payments, in the order they were begun."""
        wanted = payment_hash if bolt11 is None else self._read(bolt11).payment_hash
        rows = sorted(self._node.switch.payments.rows.values(), key=lambda row: row.created_index)
        shown = [
            row for row in rows if wanted in (None, row.payment_hash) and status in (None, row.status.value)
        ]
        return {"pays": [payment_view(row) for row in shown]}

    # --- reading

    async def getroute(
        self,
        id: NodeId,
        amount_msat: AmountMsat,
        riskfactor: Number,  # noqa: ARG002
        cltv: Integer = GETROUTE_FINAL_BLOCKS,
        fromid: NodeId | None = None,
        fuzzpercent: Number | None = None,  # noqa: ARG002
        exclude: Array | None = None,
        maxhops: Integer = 20,
    ) -> dict[str, Any]:
        """A route for an amount, as the graph has it; nothing is sent."""
        edges, nodes = _excluded(exclude or [])
        source = fromid or self._node.node_id
        try:
            route = find_route(
                self._node.graph,
                source,
                id,
                max(1, amount_msat),
                cltv,
                max_cltv=MAX_CLTV_BLOCKS,
                excluded=edges,
                excluded_nodes=nodes,
            )
        except NoRoute as none:
            raise CommandFailed(NO_ROUTE, f"Could not find a route: {none}") from None
        if len(route.hops) > maxhops:
            raise CommandFailed(NO_ROUTE, f"Could not find a route of at most {maxhops} hops")
        return {"route": _route_view(route)}

    async def decode(self, string: Text) -> dict[str, Any]:
        """What an invoice says."""
        try:
            invoice = bolt11.decode(string, None)
        except bolt11.InvalidInvoice as wrong:
            return {"type": "bolt11 invoice", "valid": False, "warning": str(wrong)}
        return {
            "type": "bolt11 invoice",
            "valid": True,
            **_invoice_text_view(invoice, self._node.chain.network),
        }

    def _read(self, text: str) -> bolt11.Invoice:
        try:
            invoice = bolt11.decode(text)
        except bolt11.InvalidInvoice as wrong:
            raise CommandFailed(INVALID_PARAMETERS, f"Invalid bolt11: {wrong}") from None
        wanted = bolt11.CURRENCY[self._node.chain.network]
        if invoice.currency != wanted:
            raise CommandFailed(
                INVALID_PARAMETERS, f"Invalid bolt11: for {invoice.currency}, this node has {wanted}"
            )
        return invoice


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


def _paid(row: PaymentRow) -> dict[str, Any]:
    return {
        "payment_preimage": (row.payment_preimage or b"").hex(),
        "destination": row.payee.hex(),
        "payment_hash": row.payment_hash.hex(),
        "created_at": row.created_at,
        "parts": row.parts,
        "amount_msat": row.amount_msat,
        "amount_sent_msat": row.amount_msat + row.fee_msat,
        "status": row.status.value,
    }


def _excluded(exclude: list[Any]) -> tuple[set[tuple[int, int]], set[bytes]]:
    """The directed channels SCID/DIRECTION and the nodes of a list."""
    edges: set[tuple[int, int]] = set()
    nodes: set[bytes] = set()
    for text in map(str, exclude):
        channel, slash, direction = text.partition("/")
        try:
            if slash:
                edges.add((scid.parse(channel), int(direction)))
            else:
                nodes.add(bytes.fromhex(text))
        except ValueError:
            why = f"exclude: should be short_channel_id/direction or node_id: invalid token '{text}'"
            raise CommandFailed(INVALID_PARAMETERS, why) from None
    return edges, nodes


def _route_view(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "id": hop.node_id.hex(),
            "channel": scid.text_of(hop.short_channel_id),
            "direction": hop.direction,
            "amount_msat": hop.amount_msat,
            "delay": hop.cltv_blocks,
            "style": "tlv",
        }
        for hop in route.hops
    ]


def _invoice_text_view(invoice: bolt11.Invoice, network: str) -> dict[str, Any]:
    view: dict[str, Any] = {
        "currency": invoice.currency,
        "created_at": invoice.timestamp,
        "expiry": invoice.expiry_seconds,
        "payee": invoice.payee.hex(),
        "min_final_cltv_expiry": invoice.min_final_cltv_expiry_delta,
        "payment_hash": invoice.payment_hash.hex(),
        "payment_secret": invoice.payment_secret.hex(),
        "features": invoice.features.to_bytes().hex(),
    }
    if invoice.amount_msat is not None:
        view["amount_msat"] = invoice.amount_msat
    if invoice.description is not None:
        view["description"] = invoice.description
    if invoice.description_hash is not None:
        view["description_hash"] = invoice.description_hash.hex()
    if invoice.payment_metadata is not None:
        view["payment_metadata"] = invoice.payment_metadata.hex()
    if invoice.fallbacks:
        view["fallbacks"] = [_fallback_view(fallback, network) for fallback in invoice.fallbacks]
    if invoice.route_hints:
        view["routes"] = [[_hint_view(hop) for hop in hint] for hint in invoice.route_hints]
    return view


def _fallback_view(fallback: bolt11.Fallback, network: str) -> dict[str, Any]:
    script = fallback.script()
    try:
        return {"hex": script.hex(), "addr": address_of(script, network)}
    except NoAddressForm:
        return {"hex": script.hex()}


def _hint_view(hop: bolt11.RouteHop) -> dict[str, Any]:
    return {
        "pubkey": hop.pubkey.hex(),
        "short_channel_id": scid.text_of(hop.short_channel_id),
        "fee_base_msat": hop.fee_base_msat,
        "fee_proportional_millionths": hop.fee_proportional_millionths,
        "cltv_expiry_delta": hop.cltv_expiry_delta,
    }
