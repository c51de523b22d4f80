"""Payments over real nodes: what is taken, what each hop refuses, and whom the payer blames."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import trio

from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE
from htlc.relay import Toll
from node.daemon.invoices import InvoiceExists
from node.daemon.node import Node
from node.daemon.paying import Payment, PaymentFailed, Wanted
from node.daemon.payments import AlreadyPaid, AttemptRow, PaymentRow, Status
from tests.bolt import bolt
from tests.node.line import Held, Network, bent, line, network, takes_at_most
from wire import bolt11
from wire.codec import Message
from wire.crypto import secp256k1
from wire.crypto.hashes import sha256
from wire.messages.channel import UpdateAddHtlc, UpdateFailHtlc
from wire.units import Msat

AMOUNT = 10_000_000
TOLL = Toll()
FEE = TOLL.fee_msat(Msat(AMOUNT))


async def failure_of(
    net: Network, payer: str, payee: str, amount_msat: int = AMOUNT, **options: object
) -> PaymentFailed:
    """Why a payment fails that must fail."""
    with pytest.raises(PaymentFailed) as failed:
        await net.pay(payer, payee, amount_msat, **options)
    return failed.value


def attempts(node: Node) -> list[AttemptRow]:
    """The attempts as they are on disk."""
    return [msgspec.msgpack.decode(raw, type=AttemptRow) for raw in node.store.values("attempts")]


def payments_on_disk(node: Node) -> dict[bytes, PaymentRow]:
    rows = [msgspec.msgpack.decode(raw, type=PaymentRow) for raw in node.store.values("payments")]
    return {row.payment_hash: row for row in rows}


def set_toll(net: Network, a: str, b: str, toll: Toll) -> None:
    """Let `a` ask for something else than it has told everybody."""
    net[a].switch.tolls[net.ids[a, b]] = toll


async def settle(net: Network) -> None:
    """Wait until nothing is in flight, and account for every millisatoshi."""
    await net.wait_for_quiet()
    net.check_conserved()


# --- what the payee takes


@bolt("payload.2", "forwarding-safety.1")
async def test_an_invoice_is_paid_over_three_hops(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol diana") as net:
        told: list[tuple[bytes, Msat]] = []
        net["diana"].on_settled(lambda *paid: told.append(paid))
        invoice = await net["diana"].add_invoice(Msat(AMOUNT), "a book")

        payment = await net["alice"].pay_invoice(net["diana"].bolt11(invoice))

        fee_of_carol = TOLL.fee_msat(Msat(AMOUNT))
        fee_of_bob = TOLL.fee_msat(Msat(AMOUNT + fee_of_carol))
        assert payment == Payment(
            preimage=invoice.payment_preimage,
            amount_msat=Msat(AMOUNT),
            fee_msat=Msat(fee_of_bob + fee_of_carol),
            route=tuple(net[name].node_id for name in ("bob", "carol", "diana")),
            short_channel_ids=tuple(
                net.short_channel_id(*pair)
                for pair in (("alice", "bob"), ("bob", "carol"), ("carol", "diana"))
            ),
            attempts=1,
        )
        assert told == [(invoice.payment_hash, AMOUNT)]
        await settle(net)
        assert net["alice"].channel_balance_msat == 5_000_000_000 - AMOUNT - payment.fee_msat
        assert net["diana"].channel_balance_msat == 5_000_000_000 + AMOUNT
        assert [net[name].switch.ledger.fees_msat for name in ("bob", "carol")] == [fee_of_bob, fee_of_carol]
        [attempt] = attempts(net["alice"])
        assert attempt.status is Status.COMPLETE
        row = net["alice"].switch.payments.rows[invoice.payment_hash]
        assert (row.status, row.payment_preimage, row.fee_msat, row.attempts) == (
            Status.COMPLETE,
            invoice.payment_preimage,
            payment.fee_msat,
            1,
        )


DETAILS = "incorrect_or_unknown_payment_details"


@bolt("payload.3", "payload.4", "failures.3")
@pytest.mark.parametrize(
    ("asked_msat", "paid_msat", "is_taken"),
    [
        (AMOUNT, AMOUNT, True),
        (AMOUNT, AMOUNT - 1, False),
        (AMOUNT, 1, False),
        (AMOUNT, 2 * AMOUNT, True),
        (AMOUNT, 2 * AMOUNT + 1, False),
        (None, 1, True),
        (None, AMOUNT, True),
        (1, 1, True),
    ],
)
async def test_how_much_an_invoice_takes(
    tmp_path: Path, asked_msat: int | None, paid_msat: int, is_taken: bool
) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        invoice = await net["carol"].add_invoice(None if asked_msat is None else Msat(asked_msat))
        if is_taken:
            assert (
                await net.pay_row("alice", "carol", invoice, amount_msat=paid_msat)
            ).amount_msat == paid_msat
        else:
            with pytest.raises(PaymentFailed, match=f"{DETAILS}, says hop 2"):
                await net.pay_row("alice", "carol", invoice, amount_msat=paid_msat)
        await settle(net)
        row = net["carol"].switch.invoices.rows[invoice.payment_hash]
        assert row.received_msat == (paid_msat if is_taken else None)
        assert net["carol"].channel_balance_msat == 5_000_000_000 + (paid_msat if is_taken else 0)


@bolt("payload.2", "failures.3")
async def test_a_wrong_secret_is_refused_and_the_right_one_taken_after_it(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        invoice = await net["carol"].add_invoice(Msat(AMOUNT))
        for secret in (bytes(32), invoice.payment_preimage, None):
            with pytest.raises(PaymentFailed, match=f"after 1 attempts: {DETAILS}, says hop 2"):
                await net.pay_row("alice", "carol", invoice, payment_secret=secret)
        await net.pay_row("alice", "carol", invoice)
        await settle(net)
        assert [row.status for row in attempts(net["alice"])] == [*3 * [Status.FAILED], Status.COMPLETE]
        assert net["alice"].switch.payments.rows[invoice.payment_hash].status is Status.COMPLETE


@bolt("failures.3")
async def test_an_invoice_is_paid_once_in_time_or_not_at_all(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        invoice = await net["bob"].add_invoice(Msat(AMOUNT))
        await net.pay_row("alice", "bob", invoice)
        with pytest.raises(PaymentFailed, match=DETAILS):
            await net.pay_row("carol", "bob", invoice)
        with pytest.raises(AlreadyPaid):
            await net.pay_row("alice", "bob", invoice)

        late = await net["bob"].add_invoice(Msat(AMOUNT), expiry_seconds=60)
        net.clock.seconds += 60
        await net.pay_row("alice", "bob", late)
        later = await net["bob"].add_invoice(Msat(AMOUNT), expiry_seconds=60)
        net.clock.seconds += 61
        with pytest.raises(PaymentFailed, match=DETAILS):
            await net.pay_row("alice", "bob", later)
        await settle(net)
        assert net["bob"].channel_balance_msat == 10_000_000_000 + 2 * AMOUNT


@bolt("failures.3")
async def test_an_unknown_hash_is_refused(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        with pytest.raises(PaymentFailed, match=f"{DETAILS}, says hop 1"):
            await net["alice"].pay(net["bob"].node_id, sha256(b"nobody's"), bytes(32), Msat(AMOUNT))
        await settle(net)


async def test_a_preimage_makes_one_invoice(tmp_path: Path) -> None:
    async with network(tmp_path, "bob") as net:
        await net["bob"].add_invoice(Msat(1), preimage=bytes(32))
        with pytest.raises(InvoiceExists):
            await net["bob"].add_invoice(Msat(2), preimage=bytes(32))


async def test_money_comes_unasked_too(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        told: list[tuple[bytes, Msat]] = []
        net["carol"].on_settled(lambda *paid: told.append(paid))
        payments = [await net["alice"].keysend(net["carol"].node_id, Msat(amount)) for amount in (1, AMOUNT)]
        assert told == [(sha256(payment.preimage), payment.amount_msat) for payment in payments]
        assert all(row.is_keysend and row.is_paid for row in net["carol"].switch.invoices.rows.values())
        # whoever knows an invoice's preimage cannot pass by its secret
        invoice = await net["carol"].add_invoice(Msat(AMOUNT))
        wanted = Wanted(
            net["carol"].node_id,
            invoice.payment_hash,
            Msat(1),
            keysend_preimage=invoice.payment_preimage,
        )
        with pytest.raises(PaymentFailed, match=DETAILS):
            await net["alice"].payer.pay(wanted)
        wrong = msgspec.structs.replace(wanted, payment_hash=sha256(b"another"))
        with pytest.raises(PaymentFailed, match=DETAILS):
            await net["alice"].payer.pay(wrong)
        await settle(net)


@bolt("b11-invoices.3")
async def test_an_invoice_without_an_amount_is_not_guessed_at(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        invoice = await net["bob"].add_invoice(None)
        with pytest.raises(bolt11.InvalidInvoice):
            await net["alice"].pay_invoice(net["bob"].bolt11(invoice))


async def test_who_cannot_be_paid(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        nobody = secp256k1.point_of(sha256(b"nobody"))
        invoice = await net["bob"].add_invoice(Msat(AMOUNT))
        for payee in (nobody, net["alice"].node_id):
            with pytest.raises(PaymentFailed, match="after 0 attempts"):
                await net["alice"].pay(payee, sha256(b"x"), bytes(32), Msat(AMOUNT))
        for amount_msat in (0, 5_000_000_001, 10_000_000_000, 10**15):
            with pytest.raises(PaymentFailed, match="after 0 attempts"):
                await net.pay_row("alice", "bob", invoice, amount_msat=amount_msat)
        await net.pay_row("alice", "bob", invoice)
        await settle(net)


# --- what the hops refuse


@bolt("payload.1", "failures.1", "failures.2", "failures.4")
@pytest.mark.parametrize(
    ("toll", "code"),
    [
        (Toll(fee_base_msat=Msat(1001)), "fee_insufficient"),
        (Toll(fee_proportional_millionths=1000), "fee_insufficient"),
        (Toll(cltv_expiry_delta=35), "incorrect_cltv_expiry"),
        (Toll(htlc_minimum_msat=Msat(2 * AMOUNT)), "amount_below_minimum"),
        (Toll(htlc_maximum_msat=Msat(AMOUNT - 1)), "temporary_channel_failure"),
    ],
)
@pytest.mark.parametrize(("hop", "pair"), [(1, ("bob", "carol")), (2, ("carol", "diana"))])
async def test_a_toll_that_was_raised_behind_the_payers_back(
    tmp_path: Path, toll: Toll, code: str, hop: int, pair: tuple[str, str]
) -> None:
    async with line(tmp_path, "alice bob carol diana") as net:
        set_toll(net, *pair, toll)
        failed = await failure_of(net, "alice", "diana")
        assert (failed.reason, failed.attempts) == (f"{code}, says hop {hop}", 1)
        [attempt] = attempts(net["alice"])
        assert (attempt.status, attempt.why) == (Status.FAILED, failed.reason)
        await settle(net)
        assert net["alice"].channel_balance_msat == 5_000_000_000
        # a toll that was lowered again, or is not undercut, is no hindrance
        set_toll(net, *pair, Toll(fee_base_msat=Msat(1), cltv_expiry_delta=1))
        await net.pay("alice", "diana", AMOUNT)


@bolt("failures.4")
async def test_a_next_peer_that_nobody_knows(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        del net["bob"].switch.by_scid[net.short_channel_id("bob", "carol")]
        failed = await failure_of(net, "alice", "carol")
        assert failed.reason == "unknown_next_peer, says hop 1"
        await settle(net)


@bolt("failures.4")
async def test_a_next_peer_that_is_away(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol diana") as net:
        invoice = await net["diana"].add_invoice(Msat(AMOUNT))
        diana = net["diana"]
        await net.stop("diana")
        with pytest.raises(PaymentFailed, match="temporary_channel_failure, says hop 2"):
            await net["alice"].pay(diana.node_id, invoice.payment_hash, invoice.payment_secret, Msat(AMOUNT))


@bolt("failures.4")
async def test_a_next_channel_that_holds_too_little(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        await net.pay("bob", "carol", 4_800_000_000)
        failed = await failure_of(net, "alice", "carol", 500_000_000)
        assert failed.reason == "temporary_channel_failure, says hop 1"
        await net.pay("carol", "bob", 1_000_000_000)
        await net.pay("alice", "carol", 500_000_000)
        await settle(net)


@bolt("failures.4", "forwarding-safety.3")
async def test_time_locks_that_are_too_near_or_too_far(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        invoice = await net["carol"].add_invoice(Msat(AMOUNT), min_final_cltv_expiry_delta=1)
        wanted = Wanted(
            net["carol"].node_id, invoice.payment_hash, Msat(AMOUNT), payment_secret=invoice.payment_secret
        )
        soon = msgspec.structs.replace(wanted, final_cltv_expiry_delta=3, margin_blocks=0)
        with pytest.raises(PaymentFailed, match="expiry_too_soon, says hop 1"):
            await net["alice"].payer.pay(soon)
        net["bob"].switch.height -= 1
        far = msgspec.structs.replace(wanted, final_cltv_expiry_delta=2016 - 34, margin_blocks=0)
        with pytest.raises(PaymentFailed, match="expiry_too_far, says hop 1"):
            await net["alice"].payer.pay(far)
        net["bob"].switch.height += 1
        await net["alice"].payer.pay(far)
        await settle(net)


@bolt("payload.3", "failures.3")
async def test_the_payee_wants_time_too(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        invoice = await net["carol"].add_invoice(Msat(AMOUNT), min_final_cltv_expiry_delta=30)
        wanted = Wanted(
            net["carol"].node_id,
            invoice.payment_hash,
            Msat(AMOUNT),
            payment_secret=invoice.payment_secret,
            final_cltv_expiry_delta=29,
            margin_blocks=0,
        )
        with pytest.raises(PaymentFailed, match=DETAILS):
            await net["alice"].payer.pay(wanted)
        await net["alice"].payer.pay(msgspec.structs.replace(wanted, final_cltv_expiry_delta=30))


def changed(**fields: object) -> Callable[[Message], Message]:
    """Every add with other fields than the node means to send."""

    def bend(message: Message) -> Message:
        return msgspec.structs.replace(message, **fields) if isinstance(message, UpdateAddHtlc) else message

    return bend


@bolt("removing.2", "removing.3", "processing.1", "update_add_htlc.4")
@pytest.mark.parametrize(
    ("onion", "code"),
    [
        (b"\x01" + bytes(1365), "invalid_onion_version"),
        (bytes(1366), "invalid_onion_key"),
        (b"\0" + secp256k1.point_of(sha256(b"x")) + bytes(1332), "invalid_onion_hmac"),
    ],
)
@pytest.mark.parametrize("payee", ["bob", "diana"])
async def test_an_onion_that_cannot_be_read(tmp_path: Path, onion: bytes, code: str, payee: str) -> None:
    async with line(tmp_path, "alice bob carol diana") as net:
        # the node before the one that cannot read it reports it, or finds out itself
        bent(net["alice" if payee == "bob" else "bob"], changed(onion_routing_packet=onion))
        failed = await failure_of(net, "alice", payee)
        assert failed.reason == f"{code}, says hop 1"
        await settle(net)


@bolt("failures.2")
async def test_a_failure_that_nobody_can_read(tmp_path: Path) -> None:
    def garble(message: Message) -> Message:
        if not isinstance(message, UpdateFailHtlc):
            return message
        return msgspec.structs.replace(message, reason=bytes(len(message.reason)))

    async with line(tmp_path, "alice bob carol") as net:
        bent(net["bob"], garble)
        failed = await failure_of(net, "alice", "carol", payment_secret=bytes(32))
        assert failed.reason == "a failure came back that nobody can read"
        await settle(net)


# --- other ways


DIAMOND = [("alice", "bob"), ("alice", "carol"), ("bob", "diana"), ("carol", "diana")]
CHEAP, DEAR = Toll(fee_base_msat=Msat(10)), Toll(fee_base_msat=Msat(5000))


async def diamond(net: Network) -> None:
    """Two ways from Alice to Diana, that over Bob the cheaper one."""
    await net.start("alice", "diana")
    await net.start("bob", toll=CHEAP)
    await net.start("carol", toll=DEAR)
    await net.join(DIAMOND)


@pytest.mark.parametrize("trouble", ["toll", "unknown", "away", "balance", "unreadable"])
@bolt("failures.4")
async def test_the_second_way_is_taken_when_the_first_fails(tmp_path: Path, trouble: str) -> None:
    async with network(tmp_path) as net:
        await diamond(net)
        first = await net.pay("alice", "diana", AMOUNT)
        assert first.route[0] == net["bob"].node_id
        await net.wait_for_quiet()
        amount_msat = AMOUNT
        match trouble:
            case "toll":
                set_toll(net, "bob", "diana", DEAR)
            case "unknown":
                del net["bob"].switch.by_scid[net.short_channel_id("bob", "diana")]
            case "away":
                await net["bob"].disconnect(net["diana"].node_id)
            case "balance":
                await net.pay("bob", "diana", 4_000_000_000)
                amount_msat = 1_000_000_000
            case "unreadable":
                bent(net["bob"], changed(onion_routing_packet=bytes(1366)))
        second = await net.pay("alice", "diana", amount_msat)
        assert second.route[0] == net["carol"].node_id
        assert second.attempts == 2
        assert [row.status for row in attempts(net["alice"])] == [
            Status.COMPLETE,
            Status.FAILED,
            Status.COMPLETE,
        ]


async def test_no_way_is_taken_that_costs_more_than_the_payer_allows(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        await diamond(net)
        set_toll(net, "bob", "diana", Toll(fee_base_msat=Msat(100)))
        failed = await failure_of(net, "alice", "diana", max_fee_msat=Msat(DEAR.fee_msat(Msat(AMOUNT)) - 1))
        assert (failed.reason, failed.attempts) == ("fee_insufficient, says hop 1", 1)
        payment = await net.pay("alice", "diana", AMOUNT, max_fee_msat=DEAR.fee_msat(Msat(AMOUNT)))
        assert payment.fee_msat == DEAR.fee_msat(Msat(AMOUNT))
        failed = await failure_of(net, "alice", "diana", max_fee_msat=Msat(0))
        assert failed.attempts == 0
        await net.pay("alice", "bob", AMOUNT, max_fee_msat=Msat(0))
        await settle(net)


async def test_our_own_channel_that_is_full_is_passed_by(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        await diamond(net)
        await net.pay("alice", "bob", 4_500_000_000)
        payment = await net.pay("alice", "diana", 1_000_000_000)
        assert (payment.route[0], payment.attempts) == (net["carol"].node_id, 1)
        await settle(net)


# --- payments that nobody waits for


async def cancelled(net: Network, held: Held, payment_hash: bytes, secret: bytes) -> None:
    """Begin a payment from Alice to Carol, and go away while it is on its way."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(net["alice"].pay, net["carol"].node_id, payment_hash, secret, Msat(AMOUNT))
        await held.wait_for(1)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_right", [True, False])
async def test_a_payment_goes_on_without_its_payer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_right: bool
) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        invoice = await net["carol"].add_invoice(Msat(AMOUNT))
        held = Held(net["carol"], monkeypatch)
        secret = invoice.payment_secret if is_right else bytes(32)
        await cancelled(net, held, invoice.payment_hash, secret)
        payments = net["alice"].switch.payments
        assert payments.rows[invoice.payment_hash].status is Status.PENDING
        with pytest.raises(AlreadyPaid):
            await net.pay_row("alice", "carol", invoice)
        await held.release()
        await settle(net)
        if is_right:
            assert payments.rows[invoice.payment_hash].payment_preimage == invoice.payment_preimage
            return
        assert payments.rows[invoice.payment_hash].status is Status.FAILED
        monkeypatch.undo()
        await net.pay_row("alice", "carol", invoice)


async def test_a_payment_that_is_not_yet_on_its_way_can_be_called_off(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        invoice = await net["bob"].add_invoice(Msat(AMOUNT))
        switch = net["alice"].switch
        turn, switch._turn = switch._turn, lambda: None  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(net.pay_row, "alice", "bob", invoice)
            while not switch._inbox:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        switch._turn = turn  # type: ignore[method-assign]
        await settle(net)
        assert net["alice"].channel_balance_msat == 5_000_000_000
        assert attempts(net["alice"]) == []
        await net.pay_row("alice", "bob", invoice)


@pytest.mark.parametrize("is_right", [True, False])
async def test_a_payment_outlives_a_restart_of_its_payer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_right: bool
) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        invoice = await net["carol"].add_invoice(Msat(AMOUNT))
        held = Held(net["carol"], monkeypatch)
        await cancelled(net, held, invoice.payment_hash, invoice.payment_secret if is_right else bytes(32))
        await net.stop("alice")
        await held.release()
        await net.start("alice")
        with pytest.raises(AlreadyPaid):
            await net.pay_row("alice", "carol", invoice)
        await net.connect("alice", "bob")
        await settle(net)
        row = net["alice"].switch.payments.rows[invoice.payment_hash]
        assert row.status is (Status.COMPLETE if is_right else Status.FAILED)
        assert net["alice"].switch.payments.rows == payments_on_disk(net["alice"])


# --- many at once


async def many(net: Network, payer: str, payee: str, amounts: list[int]) -> list[Payment | PaymentFailed]:
    """Pay so many invoices at the same time; what becomes of each."""
    outcomes: list[Payment | PaymentFailed] = []

    async def pay(amount_msat: int) -> None:
        try:
            outcomes.append(await net.pay(payer, payee, amount_msat))
        except PaymentFailed as failed:
            outcomes.append(failed)

    async with trio.open_nursery() as nursery:
        for amount_msat in amounts:
            nursery.start_soon(pay, amount_msat)
    return outcomes


def arrived(outcomes: list[Payment | PaymentFailed]) -> list[Payment]:
    return [outcome for outcome in outcomes if isinstance(outcome, Payment)]


@bolt("update_add_htlc.2")
async def test_no_more_than_483_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with line(tmp_path, "alice bob") as net:
        held = Held(net["bob"], monkeypatch)
        outcomes: list[Payment | PaymentFailed] = []

        async def pay_all() -> None:
            outcomes.extend(await many(net, "alice", "bob", 600 * [1_000]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay_all)
            await held.wait_for(483)
            assert len(net.channel("alice", "bob").htlcs.local) == 483
            failed = await failure_of(net, "alice", "bob", 1_000)
            assert failed.attempts == 0
            # the other direction has slots of its own
            await net.pay("bob", "alice", 1_000)
            await held.release()
        assert len(arrived(outcomes)) == 483
        await settle(net)
        assert net["bob"].channel_balance_msat == 5_000_000_000 + 482 * 1_000


@bolt("update_add_htlc.2", "failures.4")
async def test_a_hop_without_slots_fails_what_it_cannot_pass_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network(tmp_path, "alice bob carol") as net:
        house = net["carol"].switch.house
        net["carol"].switch.house = msgspec.structs.replace(house, max_accepted_htlcs=3)
        await net.join([("alice", "bob"), ("bob", "carol")])
        held = Held(net["carol"], monkeypatch)
        outcomes: list[Payment | PaymentFailed] = []

        async def pay_all() -> None:
            outcomes.extend(await many(net, "alice", "carol", 20 * [AMOUNT]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay_all)
            await held.wait_for(3)
            failed = await failure_of(net, "alice", "carol")
            assert failed.reason == "temporary_channel_failure, says hop 1"
            await held.release()
        assert len(arrived(outcomes)) == 3
        await settle(net)


@bolt("update_add_htlc.2")
async def test_no_more_in_flight_than_the_peer_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network(tmp_path, "alice bob") as net:
        takes_at_most(net["bob"], 3 * AMOUNT)
        await net.join([("alice", "bob")])
        assert (await failure_of(net, "alice", "bob", 3 * AMOUNT + 1)).attempts == 0
        held = Held(net["bob"], monkeypatch)
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(net.pay, "alice", "bob", AMOUNT)
            await held.wait_for(2)
            assert net["alice"].spendable_msat == AMOUNT
            await failure_of(net, "alice", "bob", AMOUNT + 1)
            nursery.start_soon(net.pay, "alice", "bob", AMOUNT)
            await held.wait_for(3)
            assert net["alice"].spendable_msat == 0
            await held.release()
        await settle(net)


@bolt("update_add_htlc.3", "commitment_signed-revoke_and_ack.1", "commitment_signed-revoke_and_ack.4")
@pytest.mark.parametrize("channel_type", [STATIC_REMOTEKEY_TYPE, ANCHORS_TYPE])
async def test_payments_in_both_directions_at_once(tmp_path: Path, channel_type: bytes) -> None:
    async with line(tmp_path, "alice bob carol", channel_type=channel_type) as net:
        # some with an output in the commitment, some below the dust limit
        there, back = [[(AMOUNT, 1_001, 400_000)[i % 3] + 7 * i for i in range(60)] for _ in range(2)]
        outcomes: dict[str, list[Payment | PaymentFailed]] = {}

        async def run(payer: str, payee: str, amounts: list[int]) -> None:
            outcomes[payer] = await many(net, payer, payee, amounts)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, "alice", "carol", there)
            nursery.start_soon(run, "carol", "alice", [amount + 1 for amount in back])
            nursery.start_soon(run, "bob", "alice", back)
            nursery.start_soon(run, "carol", "bob", there)
        await settle(net)
        assert all(isinstance(outcome, Payment) for all_of in outcomes.values() for outcome in all_of)
        fees_msat = sum(
            outcome.fee_msat
            for all_of in outcomes.values()
            for outcome in all_of
            if isinstance(outcome, Payment)
        )
        assert net["bob"].switch.ledger.fees_msat == fees_msat
        assert net["alice"].channel_balance_msat == (
            5_000_000_000
            - sum(outcome.amount_msat + outcome.fee_msat for outcome in arrived(outcomes["alice"]))
            + sum(back)
            + sum(back)
            + 60
        )


@bolt("update_add_htlc.3")
async def test_two_payers_of_one_invoice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        invoice = await net["bob"].add_invoice(Msat(AMOUNT))
        held = Held(net["bob"], monkeypatch)
        outcomes: list[str] = []

        async def pay(payer: str) -> None:
            try:
                await net.pay_row(payer, "bob", invoice)
                outcomes.append("paid")
            except PaymentFailed:
                outcomes.append("failed")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay, "alice")
            nursery.start_soon(pay, "carol")
            await held.wait_for(2)
            await held.release()
        assert sorted(outcomes) == ["failed", "paid"]
        await settle(net)
        assert net["bob"].channel_balance_msat == 10_000_000_000 + AMOUNT


async def test_payments_while_blocks_come(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol diana") as net:
        async with trio.open_nursery() as nursery:

            async def pay_all() -> None:
                outcomes = await many(net, "alice", "diana", 30 * [AMOUNT])
                assert len(arrived(outcomes)) == 30

            nursery.start_soon(pay_all)
            for _ in range(3):
                await net.chain.mine(1)
        await settle(net)


@bolt("own-announcements.4")
async def test_an_unannounced_channel_carries_payments_of_its_two_ends(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob", is_announced=False) as net:
        await net.pay("alice", "bob", AMOUNT)
        await net.pay("bob", "alice", 2 * AMOUNT)
        await settle(net)
        await net.start("carol")
        await net.join([("bob", "carol")], is_announced=False)
        # nobody else knows of it
        failed = await failure_of(net, "alice", "carol")
        assert failed.attempts == 0
        assert all(len(net[name].graph) == count for name, count in (("alice", 1), ("bob", 2), ("carol", 1)))
