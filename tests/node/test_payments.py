"""What a payee takes, and payments that nobody waits for any more (BOLT 4, receiving)."""

from pathlib import Path

import msgspec
import pytest
import trio

from node.daemon.invoices import InvoiceExists
from node.daemon.paying import Payment, PaymentFailed, Wanted
from node.daemon.payments import AlreadyPaid, Status
from tests.bolt import bolt
from tests.node.line import Held, Network, line, network
from tests.node.payments import AMOUNT, DETAILS, TOLL, attempts, payments_on_disk, settle
from wire import bolt11
from wire.crypto import secp256k1
from wire.crypto.hashes import sha256
from wire.units import Msat


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
        assert dict(net["alice"].switch.payments.rows.items()) == payments_on_disk(net["alice"])
