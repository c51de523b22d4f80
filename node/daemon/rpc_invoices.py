"""Commands about being paid: invoices, and those that our user holds."""

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import trio

from htlc.channel import Channel
from htlc.deadlines import CLAIM_BLOCKS
from htlc.limits import receivable_msat
from node.daemon.gathering import UNWANTED
from node.daemon.hints import route_hints
from node.daemon.invoices import InvoiceExists, InvoiceRow, LabelTaken, new_invoice
from node.daemon.node import Node
from node.daemon.rpc_parameters import (
    INVALID_PARAMETERS,
    U32,
    AmountMsat,
    AmountOrAny,
    Anything,
    Array,
    Boolean,
    CommandFailed,
    Hash,
    Index,
    Integer,
    InvoiceStatus,
    Label,
    Text,
    at_most_one,
    paged,
)
from node.daemon.rpc_payment_views import hash_in, hold_view, invoice_view, read_invoice
from node.daemon.turn import Turn
from wire import scid
from wire.bitcoin.address import InvalidAddress, script_of
from wire.bolt11 import Fallback
from wire.crypto.hashes import sha256
from wire.units import Msat

UNSPECIFIED = -1
LABEL_TAKEN = 900
PREIMAGE_TAKEN = 901
NO_HINTS = 902
EXPIRED_WHILE_WAITING = 903
TIMED_OUT = 904
NOT_FOUND = 905
STATUS_UNEXPECTED = 906
NO_DESCRIPTION = 908

ONE_WEEK_SECONDS = 604_800


class InvoiceCommands:
    """Invoices, and waiting for them."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def invoice(
        self,
        amount_msat: AmountOrAny,
        label: Label,
        description: Text,
        expiry: U32 = ONE_WEEK_SECONDS,
        fallbacks: Array | None = None,
        preimage: Hash | None = None,
        exposeprivatechannels: Anything | None = None,
        cltv: U32 | None = None,
        deschashonly: Boolean = False,
    ) -> dict[str, Any]:
        """Ask to be paid."""
        if amount_msat == 0:
            raise CommandFailed(
                INVALID_PARAMETERS, "amount_msat: should be positive or 'any': invalid token '0'"
            )
        node = self._node
        row = new_invoice(
            preimage or secrets.token_bytes(32),
            secrets.token_bytes(32),
            amount_msat,
            description,
            node.switch.now(),
            expiry,
            _final_delta(node, cltv),
        )
        hints = route_hints(node.switch, node.graph, amount_msat, _wanted_channels(exposeprivatechannels))
        if exposeprivatechannels not in (None, False, "false") and not hints:
            raise CommandFailed(NO_HINTS, "None of the channels in exposeprivatechannels can be used")
        row = msgspec.structs.replace(
            row,
            label=label,
            is_hashed=deschashonly,
            fallbacks=tuple(_fallback(each, node.chain.network) for each in fallbacks or ()),
            route_hints=hints,
        )
        kept = await self._add(row)
        shown = invoice_view(node, kept)
        told = {name: shown[name] for name in ("bolt11", "payment_hash", "expires_at", "created_index")}
        return {**told, "payment_secret": kept.payment_secret.hex(), **_warnings(node, amount_msat)}

    async def _add(self, row: InvoiceRow) -> InvoiceRow:
        switch = self._node.switch
        try:
            return await switch.ask(lambda turn: switch.invoices.add(turn, row))
        except LabelTaken as taken:
            raise CommandFailed(LABEL_TAKEN, f"Duplicate label '{taken.label}'") from None
        except InvoiceExists:
            raise CommandFailed(PREIMAGE_TAKEN, "preimage already used") from None

    async def listinvoices(
        self,
        label: Label | None = None,
        invstring: Text | None = None,
        payment_hash: Hash | None = None,
        offer_id: Text | None = None,
        index: Index | None = None,
        start: Integer = 0,
        limit: Integer | None = None,
    ) -> dict[str, Any]:
        """Our invoices, in the order they were made."""
        at_most_one(label=label, invstring=invstring, payment_hash=payment_hash, offer_id=offer_id)
        wanted = payment_hash if invstring is None else hash_in(self._node, invstring)
        rows = sorted(self._node.switch.invoices.rows.values(), key=lambda row: row.created_index)
        shown = [
            row
            for row in rows
            if wanted in (None, row.payment_hash)
            and label in (None, row.label or row.payment_hash.hex())
            and not row.is_held
            and not row.is_cancelled
            and (offer_id is None or (row.asked is not None and row.asked.offer_id.hex() == offer_id))
        ]
        return {"invoices": [self._shown(row) for row in paged(shown, index, start, limit)]}

    async def delinvoice(
        self, label: Label, status: InvoiceStatus, desconly: Boolean = False
    ) -> dict[str, Any]:
        """Forget an invoice, or its description, if its status is still this one."""
        switch, row = self._node.switch, self._row(label, NOT_FOUND)
        shown = self._shown(row)
        if shown["status"] != status:
            details = {"current_status": shown["status"], "expected_status": status}
            raise CommandFailed(
                STATUS_UNEXPECTED, f"Invoice status is {shown['status']} not {status}", details
            )
        if not desconly:

            def forget(turn: Turn) -> None:
                switch.invoices.delete(turn, row)
                switch.gathering.refuse(turn, row.payment_hash, UNWANTED)

            await switch.ask(forget)
            return shown
        if not row.description:
            raise CommandFailed(NO_DESCRIPTION, "Invoice description already removed")
        bare = await switch.ask(lambda turn: switch.invoices.describe(turn, row, ""))
        return self._shown(bare)

    def _row(self, label: str, code: int) -> InvoiceRow:
        row = self._node.switch.invoices.labelled(label)
        if row is None:
            raise CommandFailed(code, "Unknown invoice" if code == NOT_FOUND else "Label not found")
        return row

    async def waitinvoice(self, label: Label) -> dict[str, Any]:
        """Wait until an invoice is paid or has expired."""
        asked = self._row(label, UNSPECIFIED)
        payment_hash = asked.payment_hash
        if not asked.is_paid:
            with trio.move_on_after(max(0.0, asked.expires_at - self._node.switch.now())):
                await self._paid(lambda paid: paid.payment_hash == payment_hash)
        row = self._node.switch.invoices.rows.get(payment_hash)
        if row is None:
            raise CommandFailed(UNSPECIFIED, "Invoice deleted during wait")
        if not row.is_paid:
            raise CommandFailed(EXPIRED_WHILE_WAITING, "invoice expired during wait", self._shown(row))
        return self._shown(row)

    async def waitanyinvoice(
        self, lastpay_index: Integer = 0, timeout: Integer | None = None
    ) -> dict[str, Any]:
        """Wait for the next invoice that is paid after the one with this number."""
        rows = self._node.switch.invoices.rows
        found = rows.first_after("pay_index", lastpay_index)
        if found is None:
            with trio.move_on_after(float("inf") if timeout is None else timeout):
                await self._paid(lambda row: row.pay_index > lastpay_index)
            found = rows.first_after("pay_index", lastpay_index)
        if found is None:
            raise CommandFailed(TIMED_OUT, "Timed out")
        return self._shown(found)

    async def _paid(self, is_it: Callable[[InvoiceRow], bool]) -> None:
        """Return once an invoice that looks like this is paid, from now on."""
        invoices, done = self._node.switch.invoices, trio.Event()

        def look(row: InvoiceRow) -> None:
            if is_it(row):
                done.set()

        invoices.on_settled.append(look)
        try:
            await done.wait()
        finally:
            invoices.on_settled.remove(look)

    def _shown(self, row: InvoiceRow) -> dict[str, Any]:
        return invoice_view(self._node, row, self._node.switch.now())

    # --- invoices that our user holds, as BoltzExchange's `hold` plugin has them

    async def holdinvoice(
        self,
        payment_hash: Hash,
        amount: AmountMsat,
        description: Text = "",
        expiry: U32 = ONE_WEEK_SECONDS,
        cltv: U32 | None = None,
    ) -> dict[str, Any]:
        """Ask to be paid for a preimage that only our user has."""
        node = self._node
        row = InvoiceRow(
            payment_hash=payment_hash,
            payment_preimage=b"",
            payment_secret=secrets.token_bytes(32),
            amount_msat=amount,
            description=description,
            created_at=int(node.switch.now()),
            expiry_seconds=expiry,
            min_final_cltv_expiry_delta=_final_delta(node, cltv),
            route_hints=route_hints(node.switch, node.graph, amount),
            is_held=True,
        )
        return {"bolt11": node.bolt11(await self._add(row))}

    async def listholdinvoices(
        self, payment_hash: Hash | None = None, invoice: Text | None = None
    ) -> dict[str, Any]:
        """Invoices that our user holds, and the HTLCs that wait for them."""
        if payment_hash is not None and invoice is not None:
            raise CommandFailed(INVALID_PARAMETERS, "too many parameters")
        wanted = payment_hash if invoice is None else read_invoice(self._node, invoice).payment_hash
        rows = sorted(self._node.switch.invoices.rows.values(), key=lambda row: row.created_index)
        held = [row for row in rows if row.is_held and wanted in (None, row.payment_hash)]
        return {"holdinvoices": [hold_view(self._node, row) for row in held]}

    async def settleholdinvoice(self, preimage: Hash) -> dict[str, Any]:
        """Take a payment that waits for this preimage."""
        switch, payment_hash = self._node.switch, sha256(preimage)
        self._held(payment_hash)
        if not await switch.ask(lambda turn: switch.gathering.take(turn, payment_hash, preimage)):
            raise CommandFailed(UNSPECIFIED, "no HTLCs to settle")
        return {}

    async def cancelholdinvoice(self, payment_hash: Hash) -> dict[str, Any]:
        """Give a payment back, and let the invoice not be paid any more."""
        switch, row = self._node.switch, self._held(payment_hash)
        if row.is_paid:
            raise CommandFailed(UNSPECIFIED, "state paid is final")

        def act(turn: Turn) -> None:
            switch.invoices.cancel(turn, payment_hash)
            switch.gathering.refuse(turn, payment_hash, UNWANTED)

        await switch.ask(act)
        return {}

    def _held(self, payment_hash: bytes) -> InvoiceRow:
        row = self._node.switch.invoices.rows.get(payment_hash)
        if row is None or not row.is_held:
            raise CommandFailed(UNSPECIFIED, "invoice not found")
        return row


def _final_delta(node: Node, cltv: int | None) -> int:
    """How many blocks an invoice asks for: what it takes to claim an HTLC on the chain, or more."""
    usual = node.config.final_delta_blocks
    least = min(CLAIM_BLOCKS, usual)
    if cltv is not None and cltv < least:
        why = f"cltv: should be {least} or more, to be claimed on the chain: invalid token '{cltv}'"
        raise CommandFailed(INVALID_PARAMETERS, why)
    return usual if cltv is None else cltv


def _wanted_channels(given: Any) -> bool | Sequence[int] | None:
    """Which private channels an invoice names: all, none, these, or those that it needs."""
    if given in (None, True, False, "true", "false"):
        return None if given is None else given in (True, "true")
    names = given if isinstance(given, list) else [given]
    try:
        return [scid.parse(str(name)) for name in names]
    except ValueError:
        why = "exposeprivatechannels: should be a boolean, an array or single short_channel_id"
        raise CommandFailed(INVALID_PARAMETERS, why) from None


def _fallback(address: Any, network: str) -> Fallback:
    try:
        return Fallback.of_script(script_of(str(address), network))
    except InvalidAddress as wrong:
        raise CommandFailed(INVALID_PARAMETERS, f"fallbacks: {wrong}") from None


def _warnings(node: Node, amount_msat: Msat | None) -> dict[str, str]:
    """What may keep an invoice from being paid."""
    switch = node.switch
    usable = [channel for channel in switch.channels.values() if channel.is_usable]
    here = [channel for channel in usable if channel.id in switch.live]
    needed_msat = amount_msat or 1
    if _sum_msat(usable) < needed_msat:
        why = "Insufficient incoming channel capacity to pay invoice"
        return {"warning_capacity": why}
    if _sum_msat(here) < needed_msat:
        return {"warning_offline": "Insufficient incoming capacity, once offline peers were excluded"}
    if max((receivable_msat(channel) for channel in here), default=0) < needed_msat:
        return {"warning_mpp": "The invoice is only payable by MPP-capable payers"}
    return {}


def _sum_msat(channels: Sequence[Channel]) -> int:
    return sum(receivable_msat(channel) for channel in channels)
