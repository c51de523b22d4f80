"""Paying: find a route, offer the first HTLC, learn from what comes back, try again (BOLT 4, 7).

A failed channel or node is not tried again for the same payment, so every attempt has something
new to say; a payment ends with the preimage, or with the reason of its last attempt.
"""

import secrets
from collections.abc import Callable

import msgspec

from gossip.graph import Graph
from gossip.routes import NoRoute, Route, find_route
from htlc import steps
from htlc.errors import CannotOffer, ChannelError, NotUsable
from htlc.ladder import Paid
from htlc.limits import spendable_msat
from node.daemon.payments import Attempt, AttemptRow, Note, PaymentRow, reason
from node.daemon.switch import Switch
from node.daemon.turn import Turn
from onion.failures import Attributed, FailureCode
from onion.payload import HopPayload, encode_payload
from onion.sphinx import build
from wire.crypto.secp256k1 import Point
from wire.units import Msat

MARGIN_BLOCKS = 3
MOST_ATTEMPTS = 20


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """What a payment must achieve."""

    payee: Point
    payment_hash: bytes
    amount_msat: Msat
    payment_secret: bytes | None = None
    payment_metadata: bytes | None = None
    keysend_preimage: bytes | None = None
    custom_records: dict[int, bytes] = {}
    final_cltv_expiry_delta: int = 18
    margin_blocks: int = MARGIN_BLOCKS  # in case blocks come while the HTLC is on its way
    max_fee_msat: Msat | None = None
    note: Note = Note()


class Payment(msgspec.Struct, frozen=True, gc=False):
    """A payment that arrived: the preimage proves it."""

    preimage: bytes
    amount_msat: Msat
    fee_msat: Msat
    route: tuple[Point, ...]  # the nodes after us, the payee last
    short_channel_ids: tuple[int, ...]
    attempts: int


class PaymentFailed(Exception):
    """No attempt arrived. Nothing was paid."""

    def __init__(self, reason: str, attempts: int, *, is_payees_wish: bool = False) -> None:
        self.reason, self.attempts, self.is_payees_wish = reason, attempts, is_payees_wish
        super().__init__(f"the payment failed after {attempts} attempts: {reason}")


class Errand:
    """One payment under way: what it has learned to avoid, and whether anybody still waits for it."""

    def __init__(self) -> None:
        self.is_over = False
        self.edges: set[tuple[int, int]] = set()
        self.nodes: set[Point] = set()


class Payer:
    """Makes the payments of one node."""

    def __init__(self, switch: Switch, graph: Graph, now: Callable[[], float]) -> None:
        self._switch, self._graph, self._now = switch, graph, now

    def spendable(self) -> dict[int, Msat]:
        """What each of our own channels can send at once, by short_channel_id."""
        return {
            channel.short_channel_id: spendable_msat(channel)
            for channel in self._switch.channels.values()
            if channel.short_channel_id is not None and channel.is_usable and channel.id in self._switch.live
        }

    async def pay(self, wanted: Wanted) -> Payment:
        """Make one payment. Cancelled, it makes no further attempt; one that is on its way goes on.

        Raises:
            PaymentFailed: there is no route, or none that worked.
            AlreadyPaid: this payment hash is under way or done.
        """
        if wanted.amount_msat <= 0:
            raise PaymentFailed("there is nothing to pay", 0)
        now, errand = int(self._now()), Errand()
        row = PaymentRow(wanted.payment_hash, wanted.payee, wanted.amount_msat, now, note=wanted.note)
        self._switch.payments.begin(row)
        try:
            return await self._run(wanted, errand)
        finally:
            errand.is_over = True
            self._switch.payments.leave(wanted.payment_hash)

    async def _run(self, wanted: Wanted, errand: Errand) -> Payment:
        why, made, is_payees_wish = "no attempt was made", 0, False
        while made < MOST_ATTEMPTS:
            try:
                route = self._route(wanted, errand)
            except NoRoute as none:
                why = str(none) if made == 0 else why
                break
            made += 1
            try:
                attempt = await self._switch.ask(self.offering(wanted, errand, route))
            except (CannotOffer, NotUsable, ChannelError) as refused:
                why = str(refused)
                errand.edges.add((route.hops[0].short_channel_id, route.hops[0].direction))
                continue
            await attempt.done.wait()
            if attempt.preimage is not None:
                return _arrived(attempt, made)
            why = reason(attempt.attributed)
            is_payees_wish = (
                attempt.attributed is not None and attempt.attributed.hop_index == len(route.hops) - 1
            )
            if not _learn(attempt.attributed, route, errand):
                break
        await self._switch.ask(lambda turn: self._switch.payments.give_up(turn, wanted.payment_hash))
        raise PaymentFailed(why, made, is_payees_wish=is_payees_wish)

    def _route(self, wanted: Wanted, errand: Errand) -> Route:
        return find_route(
            self._graph,
            self._switch.signer.node_id,
            wanted.payee,
            wanted.amount_msat,
            wanted.final_cltv_expiry_delta + wanted.margin_blocks,
            max_fee_msat=wanted.max_fee_msat,
            excluded=errand.edges,
            excluded_nodes=errand.nodes,
            local_limits=self.spendable(),
        )

    def offering(self, wanted: Wanted, errand: Errand, route: Route) -> Callable[[Turn], Attempt]:
        """What a turn does to offer the first HTLC of the route; it raises what `steps.offer` raises."""
        switch, session_key = self._switch, secrets.token_bytes(32)
        onion = build(session_key, _told(wanted, route, switch.height), wanted.payment_hash)
        first = route.hops[0]
        row = AttemptRow(
            id=switch.payments.new_attempt_id(),
            payment_hash=wanted.payment_hash,
            session_key=session_key,
            nodes=tuple(hop.node_id for hop in route.hops),
            short_channel_ids=tuple(hop.short_channel_id for hop in route.hops),
            sent_msat=first.amount_msat,
            delivered_msat=route.amount_msat,
        )

        def act(turn: Turn) -> Attempt:
            channel = turn.channel(switch.by_scid.get(first.short_channel_id, b""))
            if channel is None or channel.id not in switch.live:
                raise NotUsable("not connected")
            if errand.is_over:
                raise NotUsable("no longer wanted for this")
            step = steps.offer(
                channel,
                first.amount_msat,
                wanted.payment_hash,
                switch.height + first.cltv_blocks,
                onion.packet,
                Paid(row.id),
                most_dust_msat=switch.house.most_dust_exposure_msat,
            )
            turn.take(step)
            turn.saved[channel.id] = None
            return switch.payments.start(turn, row)

        return act


def _told(wanted: Wanted, route: Route, height: int) -> list[tuple[Point, bytes]]:
    """The onion's payloads, first hop to payee."""
    told = []
    for hop in route.for_onion(height):
        payload = HopPayload(
            amt_to_forward=hop.amt_to_forward,
            outgoing_cltv_value=hop.outgoing_cltv_value,
            short_channel_id=hop.short_channel_id,
        )
        if hop.short_channel_id is None:
            payload = msgspec.structs.replace(
                payload,
                payment_secret=wanted.payment_secret,
                total_msat=wanted.amount_msat if wanted.payment_secret else None,
                payment_metadata=wanted.payment_metadata,
                keysend_preimage=wanted.keysend_preimage,
                custom_records=wanted.custom_records,
            )
        told.append((hop.node_id, encode_payload(payload)))
    return told


def _arrived(attempt: Attempt, attempts: int) -> Payment:
    row = attempt.row
    assert attempt.preimage is not None, "an attempt that arrived has its preimage"
    return Payment(
        preimage=attempt.preimage,
        amount_msat=row.delivered_msat,
        fee_msat=Msat(row.sent_msat - row.delivered_msat),
        route=row.nodes,
        short_channel_ids=row.short_channel_ids,
        attempts=attempts,
    )


_WORTH_ANOTHER_ROUTE = (FailureCode.final_incorrect_cltv_expiry, FailureCode.final_incorrect_htlc_amount)


def _learn(attributed: Attributed | None, route: Route, errand: Errand) -> bool:
    """Avoid what failed; whether another attempt makes sense."""
    hops = route.hops
    if attributed is None:
        # anybody but our peer may have done it: avoid what comes after the first hop
        errand.edges.update((hop.short_channel_id, hop.direction) for hop in hops[1:])
        return len(hops) > 1
    index, failure = attributed.hop_index, attributed.failure
    if index == len(hops) - 1:
        # the payee itself answers for others on the way only if they gave it the wrong HTLC
        if failure is None or failure.code not in _WORTH_ANOTHER_ROUTE or index == 0:
            return False
        errand.nodes.add(hops[index - 1].node_id)
        return True
    if failure is None or failure.is_node or failure.is_bad_onion:
        errand.nodes.add(hops[index].node_id)
    else:
        errand.edges.add((hops[index + 1].short_channel_id, hops[index + 1].direction))
    return True
