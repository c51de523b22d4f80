"""Commands of those who choose routes or make onions themselves."""

import secrets
from typing import Any

import trio

from gossip.routes import Hop, Route
from htlc.errors import ChannelError
from node.daemon.errand import Errand
from node.daemon.node import Node
from node.daemon.paying import Wanted
from node.daemon.payments import AlreadyPaid, AttemptRow, Note, PaymentRow, Status
from node.daemon.rpc_parameters import (
    INVALID_PARAMETERS,
    AmountMsat,
    Anything,
    Array,
    Bytes,
    CommandFailed,
    Hash,
    Integer,
    Label,
    NodeId,
    Text,
)
from node.daemon.rpc_payment_views import failure_view, sendpay_view
from onion.sphinx import PACKET_SIZE, PAYLOADS_SIZE, Onion, OnionTooLong, build
from wire import scid
from wire.codec import DecodeError
from wire.crypto.secp256k1 import InvalidSecret, Point, is_point
from wire.tlv import read_bigsize
from wire.units import Msat

IN_PROGRESS = 200
ALREADY_PAID = 201
UNREADABLE_REPLY = 202
PERMANENT_FAILURE = 203
FAILED_ON_THE_WAY = 204
NOT_FOUND = 208
LONGEST_WAIT_SECONDS = 10**9
MONITOR = "Monitor status with listpays or waitsendpay"


class SendpayCommands:
    """One HTLC at a time."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def sendpay(
        self,
        route: Array,
        payment_hash: Hash,
        label: Label = "",
        amount_msat: AmountMsat | None = None,
        bolt11: Text = "",
        payment_secret: Hash | None = None,
        partid: Integer = 0,
        localinvreqid: Hash | None = None,  # noqa: ARG002 - for invoices that were asked for with one
        groupid: Integer = 0,
        payment_metadata: Bytes | None = None,
        description: Text = "",
    ) -> dict[str, Any]:
        """Send one HTLC over this route; what becomes of it `waitsendpay` tells."""
        way = _route(route)
        if partid and amount_msat is None:
            raise CommandFailed(INVALID_PARAMETERS, "Must specify amount_msat with partid")
        total_msat, payee = amount_msat or way.amount_msat, way.hops[-1].node_id
        note = Note(bolt11, label, description)
        wanted = Wanted(
            payee,
            payment_hash,
            total_msat,
            payment_secret=payment_secret,
            payment_metadata=payment_metadata,
        )
        offer = self._node.payer.offering(wanted, Errand(), way, partid)
        payment = PaymentRow(payment_hash, payee, total_msat, self._now(), note=note, group_id=groupid)
        return await self._send(payment, partid, offer)

    def _now(self) -> int:
        return int(self._node.switch.now())

    async def _send(self, payment: PaymentRow, part_id: int, offer: Any) -> dict[str, Any]:
        payments, payment_hash = self._node.switch.payments, payment.payment_hash
        before = payments.rows.get(payment_hash)
        if payments.is_on_its_way(payment_hash) and before is not None:
            pending = [each for each in payments.attempts(payment_hash) if each.status is Status.PENDING]
            is_other_group = payment.group_id not in (0, before.group_id)
            if is_other_group or any(each.part_id == part_id for each in pending):
                raise CommandFailed(
                    IN_PROGRESS, "Payment is still in progress: cannot retry before that completes"
                )
        try:
            row = await self._node.payer.send(payment, offer)
        except AlreadyPaid as already:
            done = payments.rows[payment_hash]
            if (done.amount_msat, done.payee) != (payment.amount_msat, payment.payee):
                raise CommandFailed(ALREADY_PAID, str(already)) from None
            [row] = [each for each in payments.attempts(payment_hash) if each.status is Status.COMPLETE][:1]
        except ChannelError as refused:
            raise CommandFailed(FAILED_ON_THE_WAY, str(refused), {"erring_index": 0}) from None
        view = sendpay_view(row, payments.rows[payment_hash])
        return {**view, "message": MONITOR} if row.status is Status.PENDING else view

    async def sendonion(
        self,
        onion: Bytes,
        first_hop: Anything,
        payment_hash: Hash,
        label: Label = "",
        shared_secrets: Array | None = None,
        partid: Integer = 0,
        bolt11: Text = "",
        amount_msat: AmountMsat | None = None,
        destination: NodeId | None = None,
        localinvreqid: Hash | None = None,  # noqa: ARG002
        groupid: Integer = 0,
        description: Text = "",
        total_amount_msat: AmountMsat | None = None,
    ) -> dict[str, Any]:
        """Send an onion that somebody else has made; without its secrets nobody reads its failure."""
        if len(onion) != PACKET_SIZE:
            raise CommandFailed(INVALID_PARAMETERS, f"onion: should be {PACKET_SIZE} bytes")
        known = tuple(_hex(each, "shared_secrets") for each in shared_secrets or ())
        peer_id, sent_msat, blocks = _first_hop(first_hop)
        payee, delivered_msat = destination or peer_id, amount_msat or sent_msat
        attempt = AttemptRow(
            id=self._node.switch.payments.new_attempt_id(),
            payment_hash=payment_hash,
            session_key=b"",
            nodes=(),
            short_channel_ids=(),
            sent_msat=sent_msat,
            delivered_msat=delivered_msat,
            part_id=partid,
            shared_secrets=known,
        )
        hop = Hop(peer_id, self._channel_to(peer_id, sent_msat), 0, sent_msat, blocks)
        offer = self._node.payer.offering_onion(attempt, hop, Onion(onion, known), Errand())
        total_msat = total_amount_msat or delivered_msat
        note = Note(bolt11, label, description)
        payment = PaymentRow(payment_hash, payee, total_msat, self._now(), note=note, group_id=groupid)
        return await self._send(payment, partid, offer)

    def _channel_to(self, peer_id: Point, amount_msat: Msat) -> int:
        """Our channel with this peer that can send the most."""
        switch, spendable = self._node.switch, self._node.payer.spendable()
        names = [
            name for name in spendable if switch.channels[switch.by_scid[name]].charter.peer_id == peer_id
        ]
        best = max(names, key=lambda name: spendable[name], default=None)
        if best is None or spendable[best] < amount_msat:
            raise CommandFailed(FAILED_ON_THE_WAY, "No connection to first peer found", {"erring_index": 0})
        return best

    async def createonion(
        self,
        hops: Array,
        assocdata: Bytes,
        session_key: Hash | None = None,
        onion_size: Integer = PACKET_SIZE,
    ) -> dict[str, Any]:
        """An onion for these hops, and the secrets that read its failures."""
        try:
            told = [(_point(hop["pubkey"]), _unframed(_hex(hop["payload"], "payload"))) for hop in hops]
        except (KeyError, TypeError):
            raise CommandFailed(INVALID_PARAMETERS, "hops: should be an array of hops") from None
        size = onion_size - PACKET_SIZE + PAYLOADS_SIZE
        if not told or not 0 < size <= PAYLOADS_SIZE:
            raise CommandFailed(INVALID_PARAMETERS, "onion_size and hops do not go together")
        try:
            onion = build(session_key or secrets.token_bytes(32), told, assocdata, size)
        except (OnionTooLong, InvalidSecret) as wrong:
            raise CommandFailed(INVALID_PARAMETERS, f"Could not create onion: {wrong}") from None
        return {"onion": onion.packet.hex(), "shared_secrets": [each.hex() for each in onion.shared_secrets]}

    async def waitsendpay(
        self,
        payment_hash: Hash,
        timeout: Integer | None = None,
        partid: Integer = 0,
        groupid: Integer | None = None,
    ) -> dict[str, Any]:
        """Wait until an HTLC that was sent has its outcome."""
        with trio.move_on_after(min(timeout or LONGEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)):
            attempt = await self._ended(payment_hash, partid, groupid)
            if attempt.status is Status.COMPLETE:
                return sendpay_view(attempt, self._node.switch.payments.rows[payment_hash])
            raise self._why(attempt)
        raise CommandFailed(IN_PROGRESS, "Timed out while waiting")

    async def _ended(self, payment_hash: bytes, part_id: int, group_id: int | None) -> AttemptRow:
        """The attempt once it has ended."""
        payments, done = self._node.switch.payments, trio.Event()

        def look(ended: AttemptRow) -> None:
            if ended.payment_hash == payment_hash:
                done.set()

        payments.on_ended.append(look)
        try:
            while True:
                done = trio.Event()
                found = [
                    each
                    for each in payments.attempts(payment_hash)
                    if each.part_id == part_id and group_id in (None, each.group_id)
                ]
                if not found:
                    raise CommandFailed(NOT_FOUND, "Never attempted payment part")
                if found[-1].status is not Status.PENDING:
                    return found[-1]
                await done.wait()
        finally:
            payments.on_ended.remove(look)

    def _why(self, attempt: AttemptRow) -> CommandFailed:
        data, refusal = failure_view(attempt, self._node.node_id), attempt.refusal
        assert refusal is not None, "what failed has a reason"
        if refusal.onion:
            return CommandFailed(UNREADABLE_REPLY, "Malformed error reply", data)
        known_hops = len(attempt.nodes) or len(attempt.shared_secrets)
        is_final = refusal.hop_index is not None and refusal.hop_index == known_hops - 1
        code = PERMANENT_FAILURE if is_final else FAILED_ON_THE_WAY
        return CommandFailed(code, f"failed: {attempt.why}", data)


def _route(given: list[Any]) -> Route:
    """The route as `getroute` writes it."""
    try:
        hops = tuple(
            Hop(
                _point(hop["id"]),
                scid.parse(hop["channel"]),
                int(hop.get("direction", 0)),
                Msat(int(str(hop["amount_msat"]).removesuffix("msat"))),
                int(hop["delay"]),
            )
            for hop in given
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise CommandFailed(INVALID_PARAMETERS, "route: should be an array of hops") from None
    if not hops or not all(hop.amount_msat > 0 and 0 <= hop.cltv_blocks < 1 << 16 for hop in hops):
        raise CommandFailed(INVALID_PARAMETERS, "route: should carry something")
    return Route(hops)


def _first_hop(given: Any) -> tuple[Point, Msat, int]:
    try:
        amount_msat = Msat(int(str(given["amount_msat"]).removesuffix("msat")))
        blocks = int(given["delay"])
        peer_id = _point(given["id"])
    except (KeyError, TypeError, ValueError):
        raise CommandFailed(INVALID_PARAMETERS, "first_hop: should be id, amount_msat and delay") from None
    if amount_msat <= 0 or not 0 <= blocks < 1 << 16:
        raise CommandFailed(INVALID_PARAMETERS, "first_hop: should carry something")
    return peer_id, amount_msat, blocks


def _hex(text: Any, name: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except (TypeError, ValueError):
        raise CommandFailed(INVALID_PARAMETERS, f"{name}: should be hex") from None


def _point(text: Any) -> Point:
    raw = _hex(text, "id")
    if not is_point(raw):
        raise CommandFailed(INVALID_PARAMETERS, "should be a node id")
    return Point(raw)


def _unframed(payload: bytes) -> bytes:
    """A hop's payload without its length, which must be right."""
    try:
        size, at = read_bigsize(payload, 0)
    except DecodeError:
        size, at = -1, 0
    if size < 2 or len(payload) != at + size:
        raise CommandFailed(INVALID_PARAMETERS, "payload: should begin with its length")
    return payload[at:]
