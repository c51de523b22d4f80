"""Payments in several parts: all of them arrive, or none (BOLT 4, basic_mpp)."""

from pathlib import Path

import msgspec
import pytest
import trio

from gossip.routes import find_route
from htlc.deadlines import CLAIM_BLOCKS
from htlc.relay import Toll
from node.daemon.errand import Errand
from node.daemon.gathering import PATIENCE_SECONDS
from node.daemon.invoices import DEFAULT_FINAL_DELTA_BLOCKS, InvoiceRow
from node.daemon.paying import MARGIN_BLOCKS, PaymentFailed, Wanted
from node.daemon.payments import Attempt, PaymentRow, Status
from tests.bolt import bolt
from tests.node.line import Held, Network, line, network, until
from tests.node.payments import AMOUNT, DETAILS, attempts, payments_on_disk, set_toll, settle
from wire import bolt11
from wire.features import BASIC_MPP
from wire.units import Msat

DIAMOND = [("alice", "bob"), ("alice", "carol"), ("bob", "diana"), ("carol", "diana")]
MORE_THAN_ONE_CHANNEL_HAS = 8_000_000_000
HALF = AMOUNT // 2
DELTA = DEFAULT_FINAL_DELTA_BLOCKS + MARGIN_BLOCKS


async def diamond(net: Network) -> None:
    """Two ways from Alice to Diana, each for half of what she has; that over Bob is cheaper."""
    await net.start("alice", "diana")
    await net.start("bob", toll=Toll(fee_base_msat=Msat(10)))
    await net.start("carol", toll=Toll(fee_base_msat=Msat(5000)))
    await net.join(DIAMOND)


async def part(
    net: Network, payer: str, payee: str, invoice: InvoiceRow, part_msat: int, total_msat: int = AMOUNT
) -> Attempt:
    """One HTLC of a payment of which the rest may follow."""
    node, to = net[payer], net[payee].node_id
    rows, payment_hash = node.switch.payments.rows, invoice.payment_hash
    if payment_hash not in rows or rows[payment_hash].status is Status.FAILED:
        node.switch.payments.begin(PaymentRow(payment_hash, to, Msat(total_msat), 0))
    route = find_route(node.graph, node.node_id, to, part_msat, DELTA, local_limits=node.payer.spendable())
    wanted = Wanted(to, payment_hash, Msat(total_msat), payment_secret=invoice.payment_secret)
    return await node.switch.ask(node.payer.offering(wanted, Errand(), route))


async def gathered(net: Network, payee: str, invoice: InvoiceRow, count: int) -> None:
    """Return once so many parts are waiting."""
    waiting = net[payee].switch.gathering.waiting
    await until(lambda: len(waiting[invoice.payment_hash].parts if waiting else ()) == count)


async def ended(*sent: Attempt) -> list[str]:
    """Why each of these failed, once all have ended."""
    await until(lambda: all(attempt.is_over for attempt in sent))
    return [attempt.row.why for attempt in sent]


def received(net: Network, payee: str, invoice: InvoiceRow) -> int | None:
    return net[payee].switch.invoices.rows[invoice.payment_hash].received_msat


# --- receiving


@bolt("payload.4")
async def test_parts_are_taken_when_the_last_has_come(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        invoice = await net["carol"].add_invoice(Msat(AMOUNT))
        told: list[tuple[bytes, Msat]] = []
        net["carol"].on_settled(lambda *paid: told.append(paid))
        sent = [await part(net, "alice", "carol", invoice, AMOUNT // 4) for _ in range(3)]
        await gathered(net, "carol", invoice, 3)
        assert received(net, "carol", invoice) is None
        sent.append(await part(net, "alice", "carol", invoice, AMOUNT // 4))
        assert await ended(*sent) == 4 * [""]
        await settle(net)
        assert received(net, "carol", invoice) == AMOUNT
        assert told == [(invoice.payment_hash, AMOUNT)]
        assert net["carol"].channel_balance_msat == 5_000_000_000 + AMOUNT
        row = net["alice"].switch.payments.rows[invoice.payment_hash]
        fee = 4 * Toll().fee_msat(Msat(AMOUNT // 4))
        assert (row.status, row.parts, row.fee_msat) == (Status.COMPLETE, 4, fee)


@bolt("payload.4")
async def test_parts_without_the_rest_are_given_back_after_a_minute(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        invoice = await net["carol"].add_invoice(Msat(AMOUNT))
        sent = [await part(net, "alice", "carol", invoice, HALF - 1) for _ in range(2)]
        await gathered(net, "carol", invoice, 2)
        switch = net["carol"].switch
        net.clock.seconds += PATIENCE_SECONDS - 1
        await switch.ask(switch.gathering.expire)
        assert len(switch.gathering.waiting) == 1
        net.clock.seconds += 1
        await switch.ask(switch.gathering.expire)
        assert await ended(*sent) == 2 * ["mpp_timeout, says hop 2"]
        await settle(net)
        assert switch.gathering.waiting == {}
        # and what comes then is counted from nothing
        again = await part(net, "alice", "carol", invoice, AMOUNT)
        assert await ended(again) == [""]
        await settle(net)


async def test_the_minute_passes_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.daemon.gathering.PATIENCE_SECONDS", 0.01)
    async with line(tmp_path, "alice bob") as net:
        invoice = await net["bob"].add_invoice(Msat(AMOUNT))
        for _ in range(2):
            sent = await part(net, "alice", "bob", invoice, HALF)
            await gathered(net, "bob", invoice, 1)
            net.clock.seconds += 1
            assert await ended(sent) == ["mpp_timeout, says hop 1"]
        await settle(net)


@bolt("payload.4")
async def test_parts_that_speak_of_different_totals_are_refused_together(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        invoice = await net["carol"].add_invoice(Msat(AMOUNT))
        first = await part(net, "alice", "carol", invoice, HALF)
        await gathered(net, "carol", invoice, 1)
        second = await part(net, "alice", "carol", invoice, HALF + 1, AMOUNT + 1)
        assert await ended(first, second) == 2 * [f"{DETAILS}, says hop 2"]
        await settle(net)
        assert received(net, "carol", invoice) is None


@bolt("payload.4")
@pytest.mark.parametrize(("total_msat", "is_taken"), [(2 * AMOUNT, True), (2 * AMOUNT + 2, False)])
async def test_all_parts_together_are_at_most_twice_the_amount(
    tmp_path: Path, total_msat: int, is_taken: bool
) -> None:
    async with line(tmp_path, "alice bob") as net:
        invoice = await net["bob"].add_invoice(Msat(AMOUNT))
        sent = [await part(net, "alice", "bob", invoice, total_msat // 2, total_msat) for _ in range(2)]
        assert await ended(*sent) == 2 * [""] if is_taken else 2 * [f"{DETAILS}, says hop 1"]
        await settle(net)
        assert received(net, "bob", invoice) == (total_msat if is_taken else None)


@bolt("payload.4")
async def test_a_payee_that_dies_between_two_parts_takes_both(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        invoice = await net["carol"].add_invoice(Msat(AMOUNT))
        first = await part(net, "alice", "carol", invoice, HALF)
        await gathered(net, "carol", invoice, 1)
        await net.stop("carol")
        await net.start("carol")
        await gathered(net, "carol", invoice, 1)
        await net.connect("bob", "carol")
        await net.wait_for_usable()
        await until(lambda: net.ids["bob", "carol"] in net["bob"].switch.live)
        second = await part(net, "alice", "carol", invoice, HALF)
        assert await ended(first, second) == ["", ""]
        await settle(net)
        assert received(net, "carol", invoice) == AMOUNT


@bolt("forwarding-safety.3", "forwarding-safety.4")
async def test_parts_go_back_while_there_is_time(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        invoice = await net["carol"].add_invoice(Msat(AMOUNT))
        sent = await part(net, "alice", "carol", invoice, HALF)
        await gathered(net, "carol", invoice, 1)
        await net.mine(DELTA - CLAIM_BLOCKS)
        assert net["carol"].switch.gathering.waiting
        await net.mine(1)
        assert await ended(sent) == ["mpp_timeout, says hop 2"]
        await settle(net)


async def test_the_whole_at_once_makes_parts_superfluous(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        invoice = await net["bob"].add_invoice(Msat(AMOUNT))
        first = await part(net, "alice", "bob", invoice, HALF)
        await gathered(net, "bob", invoice, 1)
        await net.pay_row("carol", "bob", invoice)
        assert await ended(first) == ["mpp_timeout, says hop 1"]
        await settle(net)
        assert received(net, "bob", invoice) == AMOUNT


async def test_a_part_that_has_gone_to_chain_does_not_count(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        await diamond(net)
        invoice = await net["diana"].add_invoice(Msat(AMOUNT))
        over_bob = await part(net, "alice", "diana", invoice, HALF)
        await gathered(net, "diana", invoice, 1)
        await net["diana"].force_close(net.ids["bob", "diana"])
        wrong_way = {(net.short_channel_id("bob", "diana"), direction) for direction in (0, 1)}
        node, to = net["alice"], net["diana"].node_id
        route = find_route(node.graph, node.node_id, to, HALF, DELTA, excluded=wrong_way)
        wanted = Wanted(to, invoice.payment_hash, Msat(AMOUNT), payment_secret=invoice.payment_secret)
        over_carol = await node.switch.ask(node.payer.offering(wanted, Errand(), route))
        other, waiting = net.ids["carol", "diana"], net["diana"].switch.gathering.waiting
        await until(lambda: [key[0] for each in waiting.values() for key in each.parts] == [other])
        assert received(net, "diana", invoice) is None
        net.clock.seconds += PATIENCE_SECONDS
        await net["diana"].switch.ask(net["diana"].switch.gathering.expire)
        assert await ended(over_carol) == ["mpp_timeout, says hop 2"]
        assert not over_bob.is_over


# --- sending


@bolt("payload.4", "b11-invoices.5")
async def test_what_no_channel_carries_alone_goes_over_several(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        await diamond(net)
        invoice = await net["diana"].add_invoice(Msat(MORE_THAN_ONE_CHANNEL_HAS))
        text = net["diana"].bolt11(invoice)
        assert bolt11.decode(text).features.has(BASIC_MPP)
        payment = await net["alice"].pay_invoice(text)
        assert (payment.amount_msat, payment.parts) == (MORE_THAN_ONE_CHANNEL_HAS, 2)
        await settle(net)
        assert received(net, "diana", invoice) == MORE_THAN_ONE_CHANNEL_HAS
        rows = attempts(net["alice"])
        assert [row.status for row in rows] == 2 * [Status.COMPLETE]
        assert sum(row.delivered_msat for row in rows) == MORE_THAN_ONE_CHANNEL_HAS
        assert payment.fee_msat == sum(row.fee_msat for row in rows)
        spent_msat = MORE_THAN_ONE_CHANNEL_HAS + payment.fee_msat
        assert net["alice"].channel_balance_msat == 10_000_000_000 - spent_msat


@bolt("b11-invoices.5")
async def test_who_does_not_offer_it_is_not_paid_in_parts(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        await diamond(net)
        with pytest.raises(PaymentFailed, match=r"after 0 attempts: .* our channels can send"):
            await net.pay("alice", "diana", MORE_THAN_ONE_CHANNEL_HAS)


async def test_a_part_that_fails_is_replaced_alone(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        await diamond(net)
        # what Bob can pass on is less than the graph says
        await net.pay("bob", "diana", 4_000_000_000)
        await net.wait_for_quiet()
        payment = await net.pay("alice", "diana", 5_500_000_000, may_split=True)
        rows = attempts(net["alice"])
        failed = [row for row in rows if row.status is Status.FAILED]
        arrived = [row for row in rows if row.status is Status.COMPLETE]
        assert {row.why for row in failed} == {"temporary_channel_failure, says hop 1"}
        assert all(row.nodes[0] == net["bob"].node_id for row in failed)
        assert sum(row.delivered_msat for row in arrived) == 5_500_000_000
        assert (payment.parts, payment.attempts) == (len(arrived), len(rows))
        # no amount is tried twice over the same channel once it has failed there
        assert len({row.delivered_msat for row in failed}) == len(failed)
        await settle(net)
        assert payments_on_disk(net["alice"]) == dict(net["alice"].switch.payments.rows.items())


async def test_one_channel_is_not_filled_twice(tmp_path: Path) -> None:
    """Halves that would each fit, but not together, do not set out together."""
    async with line(tmp_path, "alice bob carol") as net:
        with pytest.raises(PaymentFailed, match="but our channels can send") as failed:
            await net.pay("alice", "carol", 6_000_000_000, may_split=True)
        assert failed.value.attempts == 0
        await settle(net)


async def test_all_parts_together_keep_the_fee_budget(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        await diamond(net)
        options = {"may_split": True}
        free = await net.pay("alice", "diana", MORE_THAN_ONE_CHANNEL_HAS, **options)
        await net.wait_for_quiet()
        await net.pay("diana", "alice", MORE_THAN_ONE_CHANNEL_HAS, **options)
        await net.wait_for_quiet()
        with pytest.raises(PaymentFailed, match="after 0 attempts"):
            await net.pay(
                "alice",
                "diana",
                MORE_THAN_ONE_CHANNEL_HAS,
                max_fee_msat=Msat(free.fee_msat // 2),
                **options,
            )
        await settle(net)


async def test_when_one_part_cannot_arrive_all_come_back(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        await diamond(net)
        set_toll(net, "carol", "diana", Toll(htlc_maximum_msat=Msat(1)))
        invoice = await net["diana"].add_invoice(Msat(MORE_THAN_ONE_CHANNEL_HAS))
        async with trio.open_nursery() as nursery:
            failures: list[PaymentFailed] = []

            async def pay() -> None:
                try:
                    await net.pay_row("alice", "diana", invoice, may_split=True)
                except PaymentFailed as failed:
                    failures.append(failed)

            nursery.start_soon(pay)
            payments, waiting = net["alice"].switch.payments, net["diana"].switch.gathering.waiting
            await until(
                lambda: bool(waiting) and len(payments._hashes) == len(waiting[invoice.payment_hash].parts)
            )
            await trio.testing.wait_all_tasks_blocked()
            assert not failures
            net.clock.seconds += PATIENCE_SECONDS
            await net["diana"].switch.ask(net["diana"].switch.gathering.expire)
        [failed] = failures
        assert failed.reason == "mpp_timeout, says hop 2"
        assert not failed.is_payees_wish
        await settle(net)
        assert payments.rows[invoice.payment_hash].status is Status.FAILED
        assert received(net, "diana", invoice) is None


@pytest.mark.parametrize("is_whole", [True, False])
async def test_parts_outlive_a_restart_of_their_payer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_whole: bool
) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        invoice = await net["carol"].add_invoice(Msat(AMOUNT))
        held = Held(net["carol"], monkeypatch)
        for _ in range(2):
            await part(net, "alice", "carol", invoice, HALF if is_whole else HALF - 1)
        await held.wait_for(2)
        await net.stop("alice")
        await held.release()
        if not is_whole:
            net.clock.seconds += PATIENCE_SECONDS
            await net["carol"].switch.ask(net["carol"].switch.gathering.expire)
        await net.start("alice")
        payments = net["alice"].switch.payments
        assert payments.rows[invoice.payment_hash].status is Status.PENDING
        await net.connect("alice", "bob")
        await settle(net)
        row = payments.rows[invoice.payment_hash]
        assert row.status is (Status.COMPLETE if is_whole else Status.FAILED)
        assert (row.parts, received(net, "carol", invoice)) == ((2, AMOUNT) if is_whole else (0, None))
        assert dict(payments.rows.items()) == payments_on_disk(net["alice"])
        assert msgspec.structs.replace(row, attempts=2) == row
