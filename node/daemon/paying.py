"""Paying: find routes, offer their first HTLCs, learn from what comes back, try again (BOLT 4, 7).

A payment that its payee takes in parts may be under way over several routes at once. What fails is
planned anew beside what is still on its way; no attempt is repeated that has failed, unless
something is known that was not known then. A payment ends with the preimage, or with the reason of
its last failure once nothing of it is on its way any more.
"""

import secrets
from collections.abc import Callable

import msgspec

from gossip.asked import MOST_PARTS, Asked
from gossip.beliefs import Beliefs
from gossip.graph import Graph
from gossip.no_route import NoRoute
from gossip.private import Hint
from gossip.routes import MAX_CLTV_BLOCKS, Hop, Route
from htlc import steps
from htlc.channel import Channel
from htlc.errors import ChannelError, NotUsable
from htlc.ladder import Paid
from htlc.limits import spendable_msat
from node.daemon.blinded_ways import Blinded
from node.daemon.errand import Errand
from node.daemon.lessons import Lessons
from node.daemon.payments import Attempt, AttemptRow, Note, PaymentRow
from node.daemon.planning import Planner
from node.daemon.switch import Switch
from node.daemon.turn import Turn
from onion.payload import HopPayload, encode_payload
from onion.sphinx import Onion, build
from wire.crypto.secp256k1 import Point
from wire.units import Msat

MARGIN_BLOCKS = 3
MOST_ATTEMPTS = 20
MOST_ATTEMPTS_IN_PARTS = 100


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """What a payment must achieve."""

    payee: Point
    payment_hash: bytes
    amount_msat: Msat
    total_msat: Msat | None = None  # if others pay the rest
    payment_secret: bytes | None = None
    payment_metadata: bytes | None = None
    keysend_preimage: bytes | None = None
    custom_records: dict[int, bytes] = {}
    final_cltv_expiry_delta: int = 18
    margin_blocks: int = MARGIN_BLOCKS  # in case blocks come while the HTLC is on its way
    max_fee_msat: Msat | None = None
    max_cltv_blocks: int = MAX_CLTV_BLOCKS
    excluded: frozenset[tuple[int, int]] = frozenset()  # directed channels not to use
    excluded_nodes: frozenset[Point] = frozenset()
    may_split: bool = False  # whether the payee takes it in parts (b11-invoices.5)
    hints: tuple[Hint, ...] = ()
    blinded: Blinded | None = None  # how to reach a payee that nobody knows; its hints are among `hints`
    note: Note = Note()

    @property
    def target(self) -> Point:
        """Who the routes lead to."""
        return self.payee if self.blinded is None else self.blinded.target


class Payment(msgspec.Struct, frozen=True, gc=False):
    """A payment that arrived: the preimage proves it."""

    preimage: bytes
    amount_msat: Msat
    fee_msat: Msat
    route: tuple[Point, ...]  # of the part that arrived first: the nodes after us, the payee last
    short_channel_ids: tuple[int, ...]
    attempts: int
    parts: int = 1


class PaymentFailed(Exception):
    """No attempt arrived. Nothing was paid."""

    def __init__(
        self, reason: str, attempts: int, *, is_payees_wish: bool = False, no_route: NoRoute | None = None
    ) -> None:
        self.reason, self.attempts, self.is_payees_wish = reason, attempts, is_payees_wish
        self.no_route = no_route  # why no further attempt was made
        super().__init__(f"the payment failed after {attempts} attempts: {reason}")


class Payer:
    """Makes the payments of one node."""

    def __init__(self, switch: Switch, graph: Graph, now: Callable[[], float]) -> None:
        self._switch, self._graph, self._now = switch, graph, now
        self.beliefs = Beliefs()
        self._counted: dict[int, tuple[Channel, Msat]] = {}
        self.planner = Planner(graph, switch.signer.node_id, now)
        self._lessons = Lessons(self.beliefs, graph, now)

    def spendable(self) -> dict[int, Msat]:
        """What each of our own channels can send at once, by short_channel_id."""
        counted, found = self._counted, dict[int, tuple[Channel, Msat]]()
        for channel in self._switch.channels.values():
            if channel.graph_id is not None and self._switch.may_offer(channel):
                # a channel that changes is another value, and few payments meet one alone
                known = counted.get(channel.graph_id)
                if known is None or known[0] is not channel:
                    known = channel, spendable_msat(channel)
                found[channel.graph_id] = known
        self._counted = found
        return {name: amount_msat for name, (_, amount_msat) in found.items()}

    async def pay(self, wanted: Wanted) -> Payment:
        """Make one payment. Cancelled, it makes no further attempt; one that is on its way goes on.

        Raises:
            PaymentFailed: there is no route, or none that worked.
            AlreadyPaid: this payment hash is under way or done.
        """
        if wanted.amount_msat <= 0:
            raise PaymentFailed("there is nothing to pay", 0)
        now, errand = int(self._now()), Errand(wanted.hints, wanted.blinded)
        row = PaymentRow(wanted.payment_hash, wanted.payee, wanted.amount_msat, now, note=wanted.note)
        self._switch.payments.begin(row)
        try:
            return await self._run(wanted, errand)
        finally:
            errand.is_over = True
            self._switch.payments.leave(wanted.payment_hash)

    async def _run(self, wanted: Wanted, errand: Errand) -> Payment:
        while not errand.arrived:
            while not errand.is_hopeless and errand.promised_msat < wanted.amount_msat:
                await self._send_what_is_missing(wanted, errand)
            if not errand.flying:
                await self._switch.ask(lambda turn: self._switch.payments.give_up(turn, wanted.payment_hash))
                raise PaymentFailed(
                    errand.why,
                    errand.made,
                    is_payees_wish=errand.is_payees_wish,
                    no_route=errand.no_route,
                )
            await errand.wait_for_news()
            for attempt, route in errand.land():
                if attempt.preimage is None:
                    errand.why = attempt.row.why
                    graph, now = errand.view(self._graph), int(self._now())
                    errand.learn(attempt, route, graph, now)
        return _arrived(errand, self._switch.payments.rows[wanted.payment_hash])

    async def _send_what_is_missing(self, wanted: Wanted, errand: Errand) -> None:
        """Offer what would make the payment whole, all of it in one turn."""
        missing_msat = Msat(wanted.amount_msat - errand.promised_msat)
        try:
            routes = await self._routes(wanted, errand, missing_msat)
        except NoRoute as none:
            errand.why, errand.is_hopeless, errand.no_route = errand.why or str(none), True, none
            return
        offers = [
            self.offering(wanted, errand, route, part_id)
            for part_id, route in enumerate(routes, start=errand.made + 1)
        ]
        errand.made += len(offers)

        def act(turn: Turn) -> list[Attempt | ChannelError]:
            return [_tried(offer, turn) for offer in offers]

        for route, result in zip(routes, await self._switch.ask(act), strict=True):
            if isinstance(result, Attempt):
                errand.flying[result.row.id] = result, route
            else:
                errand.why = str(result)
                errand.cap(route.hops[0], route.amount_msat)

    async def _routes(self, wanted: Wanted, errand: Errand, amount_msat: Msat) -> tuple[Route, ...]:
        """Routes for an amount as the errand now sees the network.

        Raises:
            NoRoute: there are none, or it has been tried often enough.
        """
        if errand.made >= (MOST_ATTEMPTS_IN_PARTS if wanted.may_split else MOST_ATTEMPTS):
            raise TriedOften(errand.made)
        budget_msat = wanted.max_fee_msat
        asked = Asked(
            self._switch.signer.node_id,
            wanted.target,
            amount_msat,
            wanted.final_cltv_expiry_delta + wanted.margin_blocks,
            own_msat=self.spendable(),
            max_fee_msat=None if budget_msat is None else budget_msat - errand.fees_msat,
            max_cltv_blocks=wanted.max_cltv_blocks,
            excluded=wanted.excluded,
            excluded_nodes=wanted.excluded_nodes | errand.nodes,
            room_msat=errand.room_msat(self._graph),
            most_parts=MOST_PARTS - len(errand.flying) if wanted.may_split else 1,
            hints=errand.hints,
            policies=errand.policies,
        )
        return await self.planner.routes(asked, self.beliefs)

    def offering(
        self, wanted: Wanted, errand: Errand, route: Route, part_id: int = 0
    ) -> Callable[[Turn], Attempt]:
        """What a turn does to offer the first HTLC of the route; it raises what `steps.offer` raises."""
        switch, session_key = self._switch, secrets.token_bytes(32)
        told, first = _told(wanted, route, switch.height), route.hops[0]
        onion = build(session_key, told, wanted.payment_hash)
        names = tuple(hop.short_channel_id for hop in route.hops)
        row = AttemptRow(
            id=switch.payments.new_attempt_id(),
            payment_hash=wanted.payment_hash,
            session_key=session_key,
            nodes=tuple(point for point, _ in told),
            # a blinded path has no name
            short_channel_ids=names if wanted.blinded is None else names[:-1],
            sent_msat=first.amount_msat,
            delivered_msat=route.amount_msat,
            part_id=part_id,
        )

        return self.offering_onion(row, first, onion, errand, route)

    def offering_onion(
        self, row: AttemptRow, first: Hop, onion: Onion, errand: Errand, route: Route | None = None
    ) -> Callable[[Turn], Attempt]:
        """What a turn does to offer the first HTLC of an onion; it raises what `steps.offer` raises.

        What becomes of it is a lesson if its route is known.
        """
        switch, lessons = self._switch, self._lessons

        def act(turn: Turn) -> Attempt:
            channel = turn.channel(switch.by_scid.get(first.short_channel_id, b""))
            if channel is None or channel.id not in switch.live:
                raise NotUsable("not connected")
            if errand.is_over:
                raise NotUsable("no longer wanted for this")
            step = steps.offer(
                channel,
                first.amount_msat,
                row.payment_hash,
                switch.height + first.cltv_blocks,
                onion.packet,
                Paid(row.id),
                most_dust_msat=switch.house.most_dust_exposure_msat,
            )
            turn.take(step)
            turn.saved[channel.id] = None
            if route is None:
                return switch.payments.start(turn, row, onion.shared_secrets, errand.tell)

            lesson = lessons.of(route)

            def tell() -> None:
                lessons.end(lesson, attempt)
                errand.tell()

            turn.then(lambda: lessons.begin(lesson))
            attempt = switch.payments.start(turn, row, onion.shared_secrets, tell)
            return attempt

        return act

    async def send(self, payment: PaymentRow, offer: Callable[[Turn], Attempt]) -> AttemptRow:
        """Send one HTLC as our user says, by itself or beside others of the same payment.

        Raises:
            AlreadyPaid: the payment is complete.
            ChannelError: nothing was sent.
        """
        payments = self._switch.payments
        if not payments.is_on_its_way(payment.payment_hash):
            payments.begin(payment)
        try:
            return (await self._switch.ask(offer)).row
        finally:
            payments.leave(payment.payment_hash)


class TriedOften(NoRoute):
    """Enough is enough."""

    def __init__(self, attempts: int) -> None:
        super().__init__(attempts)
        self.attempts = attempts

    def __str__(self) -> str:
        return f"{self.attempts} attempts were made"


def _tried(offer: Callable[[Turn], Attempt], turn: Turn) -> Attempt | ChannelError:
    try:
        return offer(turn)
    except ChannelError as refused:
        return refused


def _told(wanted: Wanted, route: Route, height: int) -> list[tuple[Point, bytes]]:
    """The onion's payloads, first hop to payee."""
    if wanted.blinded is not None:
        return wanted.blinded.told(route, height, wanted.total_msat or wanted.amount_msat)
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
                total_msat=(wanted.total_msat or wanted.amount_msat) if wanted.payment_secret else None,
                payment_metadata=wanted.payment_metadata,
                keysend_preimage=wanted.keysend_preimage,
                custom_records=wanted.custom_records,
            )
        told.append((hop.node_id, encode_payload(payload)))
    return told


def _arrived(errand: Errand, row: PaymentRow) -> Payment:
    first = errand.arrived[0]
    assert first.preimage is not None, "an attempt that arrived has its preimage"
    return Payment(
        preimage=first.preimage,
        amount_msat=row.amount_msat,
        fee_msat=row.fee_msat,
        route=first.row.nodes,
        short_channel_ids=first.row.short_channel_ids,
        attempts=errand.made,
        parts=row.parts,
    )
