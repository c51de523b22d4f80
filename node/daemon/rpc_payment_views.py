"""Invoices, payments and their attempts as Core Lightning's replies show them."""

import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec

from node.daemon.gathering import Part
from node.daemon.invoices import Asked, InvoiceRow
from node.daemon.node import Node
from node.daemon.payments import AttemptRow, PaymentRow, Refusal, Status
from node.daemon.rpc_parameters import INVALID_PARAMETERS, CommandFailed
from wire import bolt11
from wire.bitcoin.address import NoAddressForm, address_of
from wire.bolt12.text import is_bolt12
from wire.crypto.secp256k1 import Point, der_of
from wire.scid import text_of

NO_CHANNEL = "0x0x0"
# by version, as BOLT 11 counts them, and length
_KINDS_OF_SCRIPT = {(17, 20): "P2PKH", (18, 20): "P2SH", (0, 20): "P2WPKH", (0, 32): "P2WSH", (1, 32): "P2TR"}


def read_invoice(node: Node, text: str) -> bolt11.Invoice:
    """An invoice of the node's own network.

    Raises:
        CommandFailed: it is none.
    """
    try:
        invoice = bolt11.decode(text)
    except bolt11.InvalidInvoice as wrong:
        raise CommandFailed(INVALID_PARAMETERS, f"Invalid bolt11: {wrong}") from None
    wanted = bolt11.CURRENCY[node.chain.network]
    if invoice.currency != wanted:
        why = f"Invalid bolt11: for {invoice.currency}, this node has {wanted}"
        raise CommandFailed(INVALID_PARAMETERS, why)
    return invoice


def hash_in(node: Node, text: str) -> bytes:
    """The payment hash of an invoice, of whichever kind.

    Raises:
        CommandFailed: it is none.
    """
    if not is_bolt12(text):
        return read_invoice(node, text).payment_hash
    # most nodes never see one
    from wire.bolt12.errors import Unacceptable
    from wire.bolt12.forms import Invoice, read_form

    try:
        return read_form(Invoice, text).invoice_payment_hash or b""
    except Unacceptable as wrong:
        raise CommandFailed(INVALID_PARAMETERS, f"Invalid bolt12: {wrong}") from None


# --- invoices of ours


def invoice_view(node: Node, row: InvoiceRow, now_seconds: float | None = None) -> dict[str, Any]:
    """An entry of `listinvoices`."""
    is_expired = row.is_expired(time.time() if now_seconds is None else now_seconds)
    view: dict[str, Any] = {
        "label": row.label or row.payment_hash.hex(),
        "description": row.description,
        "payment_hash": row.payment_hash.hex(),
        "status": "paid" if row.is_paid else "expired" if is_expired else "unpaid",
        "expires_at": row.expires_at,
        "created_index": row.created_index,
    }
    if row.asked is not None:
        view |= _asked_view(row.asked)
    elif not row.is_keysend:
        view["bolt11"] = node.bolt11(row)
    if row.updated_index:
        view["updated_index"] = row.updated_index
    if row.amount_msat is not None:
        view["amount_msat"] = row.amount_msat
    if row.is_paid:
        view |= {
            "pay_index": row.pay_index,
            "amount_received_msat": row.received_msat,
            "paid_at": row.paid_at,
            "payment_preimage": row.payment_preimage.hex(),
        }
    return view


def _asked_view(asked: Asked) -> dict[str, str]:
    told = {
        "bolt12": asked.bolt12,
        "local_offer_id": asked.offer_id.hex(),
        "invreq_payer_note": asked.payer_note,
    }
    return {name: text for name, text in told.items() if text}


def hold_view(node: Node, row: InvoiceRow) -> dict[str, Any]:
    """An entry of `listholdinvoices`."""
    gathered = node.switch.gathering.waiting.get(row.payment_hash)
    view: dict[str, Any] = {
        "id": row.created_index,
        "payment_hash": row.payment_hash.hex(),
        "invoice": node.bolt11(row),
        "state": hold_state(row),
        "min_cltv": row.min_final_cltv_expiry_delta,
        "created_at": _iso(row.created_at),
        "htlcs": [
            _waiting_view(node, channel_id, part)
            for (channel_id, _), part in (gathered.parts.items() if gathered is not None else ())
        ],
    }
    if row.is_paid:
        view |= {"preimage": row.payment_preimage.hex(), "settled_at": _iso(row.paid_at or 0)}
    return view


def hold_state(row: InvoiceRow) -> str:
    """What has become of an invoice that our user holds."""
    if row.is_paid:
        return "paid"
    if row.is_cancelled:
        return "cancelled"
    return "accepted" if row.accepted_at else "unpaid"


def _waiting_view(node: Node, channel_id: bytes, part: Part) -> dict[str, Any]:
    short_channel_id = node.switch.channels[channel_id].short_channel_id
    return {
        "id": part.htlc.id,
        "state": "accepted",
        "scid": NO_CHANNEL if short_channel_id is None else text_of(short_channel_id),
        "channel_id": channel_id.hex(),
        "msat": part.htlc.amount_msat,
        "cltv_expiry": part.htlc.cltv_expiry,
    }


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


# --- payments of ours


def payment_view(row: PaymentRow, attempts: list[AttemptRow], our_id: Point) -> dict[str, Any]:
    """An entry of `listpays`; with `attempts`, the account of each of them."""
    view: dict[str, Any] = {
        "payment_hash": row.payment_hash.hex(),
        "status": row.status.value,
        "destination": row.payee.hex(),
        "created_at": row.created_at,
        "created_index": row.created_index,
        **_noted(row),
        "attempts": [attempt_view(attempt, our_id) for attempt in attempts],
    }
    if row.updated_index:
        view["updated_index"] = row.updated_index
    pending = [each for each in attempts if each.status is Status.PENDING]
    if row.status is Status.COMPLETE and row.payment_preimage is not None:
        view |= {"preimage": row.payment_preimage.hex(), "completed_at": row.ended_at}
        view["amount_sent_msat"] = row.amount_msat + row.fee_msat
    else:
        view["amount_sent_msat"] = sum(each.sent_msat for each in pending)
    if row.status is not Status.FAILED:
        view |= {"amount_msat": row.amount_msat, "number_of_parts": row.parts or len(pending)}
    return view


def _noted(row: PaymentRow) -> dict[str, str]:
    return {name: text for name, text in msgspec.structs.asdict(row.note).items() if text}


def paid_view(row: PaymentRow) -> dict[str, Any]:
    """What `pay` and `keysend` return."""
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


def xpaid_view(row: PaymentRow) -> dict[str, Any]:
    """What `xpay` and `xkeysend` return."""
    return {
        "payment_preimage": (row.payment_preimage or b"").hex(),
        "failed_parts": max(0, row.attempts - row.parts),
        "successful_parts": row.parts,
        "amount_msat": row.amount_msat,
        "amount_sent_msat": row.amount_msat + row.fee_msat,
    }


def attempt_view(attempt: AttemptRow, our_id: Point) -> dict[str, Any]:
    """One attempt: its route, how long each hop says it held it, and who refused it and why."""
    names = [text_of(each) for each in attempt.short_channel_ids]
    hops = [
        {"id": node_id.hex(), "channel": channel}
        for node_id, channel in zip(attempt.nodes, names, strict=False)
    ]
    for hop, deciseconds in zip(hops, attempt.hold_times, strict=False):
        hop["hold_time_ms"] = 100 * deciseconds  # type: ignore[assignment]
    state = {Status.PENDING: "pending", Status.COMPLETE: "success", Status.FAILED: "failed"}
    view: dict[str, Any] = {
        "partid": attempt.part_id,
        "groupid": attempt.group_id,
        "state": state[attempt.status],
        "start_time": _iso(attempt.created_at),
        "amount_msat": attempt.delivered_msat,
        "amount_sent_msat": attempt.sent_msat,
        "route": hops,
    }
    if attempt.status is not Status.PENDING:
        view["end_time"] = _iso(attempt.ended_at)
    if attempt.refusal is not None:
        view["failure"] = {"message": attempt.why, "data": failure_view(attempt, our_id)}
    return view


def failure_view(attempt: AttemptRow, our_id: Point) -> dict[str, Any]:
    """Core Lightning's routing failure object."""
    refusal = attempt.refusal or Refusal("")
    view: dict[str, Any] = {
        "id": attempt.id,
        "payment_hash": attempt.payment_hash.hex(),
        "groupid": attempt.group_id,
        "partid": attempt.part_id,
        "status": attempt.status.value,
        "amount_msat": attempt.delivered_msat,
        "amount_sent_msat": attempt.sent_msat,
        "created_at": attempt.created_at,
    }
    if attempt.nodes:
        view["destination"] = attempt.nodes[-1].hex()
    if refusal.onion:
        view["onionreply"] = refusal.onion.hex()
    if refusal.code is not None and refusal.hop_index is not None:
        view |= {
            "failcode": refusal.code,
            "failcodename": f"WIRE_{refusal.name.upper()}",
            "erring_index": refusal.hop_index + 1,
            "raw_message": refusal.message.hex(),
            **_erring(attempt, refusal.hop_index, our_id),
        }
    return view


def _erring(attempt: AttemptRow, index: int, our_id: Point) -> dict[str, Any]:
    """The node that speaks, and the channel it speaks of: the next one, or its own if it is the last."""
    nodes = (our_id, *attempt.nodes)
    if not 0 <= index + 1 < len(nodes):
        return {}
    at = min(index + 1, len(attempt.short_channel_ids) - 1)
    return {
        "erring_node": nodes[index + 1].hex(),
        "erring_channel": text_of(attempt.short_channel_ids[at]),
        "erring_direction": int(nodes[at] > nodes[at + 1]),
    }


def sendpay_view(attempt: AttemptRow, row: PaymentRow) -> dict[str, Any]:
    """An entry of `listsendpays`, and what `sendpay` and `waitsendpay` return."""
    view: dict[str, Any] = {
        "id": attempt.id,
        "created_index": attempt.id,
        "payment_hash": attempt.payment_hash.hex(),
        "groupid": attempt.group_id,
        "partid": attempt.part_id,
        "status": attempt.status.value,
        "amount_msat": attempt.delivered_msat,
        "amount_sent_msat": attempt.sent_msat,
        "destination": row.payee.hex(),
        "created_at": attempt.created_at,
        **_noted(row),
    }
    if attempt.updated_index:
        view["updated_index"] = attempt.updated_index
    if attempt.status is Status.COMPLETE:
        preimage = (row.payment_preimage or b"").hex()
        view |= {"completed_at": attempt.ended_at, "payment_preimage": preimage}
    if attempt.refusal is not None and attempt.refusal.onion:
        view["erroronion"] = attempt.refusal.onion.hex()
    return view


# --- what an invoice says


def decoded_view(text: str, invoice: bolt11.Invoice, network: str) -> dict[str, Any]:
    """What `decode` returns of a BOLT 11 invoice."""
    view: dict[str, Any] = {
        "currency": invoice.currency,
        "created_at": invoice.timestamp,
        "expiry": invoice.expiry_seconds,
        "payee": invoice.payee.hex(),
        "min_final_cltv_expiry": invoice.min_final_cltv_expiry_delta,
        "payment_hash": invoice.payment_hash.hex(),
        "payment_secret": invoice.payment_secret.hex(),
        "features": invoice.features.to_bytes().hex(),
        "signature": der_of(bolt11.signature_of(text)).hex(),
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
    view = {"hex": script.hex()}
    kind = _KINDS_OF_SCRIPT.get((fallback.version, len(fallback.program)))
    if kind is not None:
        view["type"] = kind
    with suppress(NoAddressForm):
        view["addr"] = address_of(script, network)
    return view


def _hint_view(hop: bolt11.RouteHop) -> dict[str, Any]:
    return {
        "pubkey": hop.pubkey.hex(),
        "short_channel_id": text_of(hop.short_channel_id),
        "fee_base_msat": hop.fee_base_msat,
        "fee_proportional_millionths": hop.fee_proportional_millionths,
        "cltv_expiry_delta": hop.cltv_expiry_delta,
    }
