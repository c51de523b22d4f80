"""Rill and Electrum hold payments of each other, restart, and go to chain with them."""

from contextlib import suppress
from secrets import token_bytes

import pytest
import trio

from htlc.channel import Phase
from node.daemon.node import Node
from node.daemon.paying import PaymentFailed
from node.daemon.payments import Status
from tests.bolt import bolt
from tests.interop.electrum_peer import ElectrumPeer, ElectrumRefused, bitcoin
from tests.interop.electrum_stage import ElectrumStage, address
from tests.interop.holding import held, hold, take
from tests.interop.stage import CAPACITY_SAT, FUNDS_SAT, HOST, PATIENCE_SECONDS, PUSH_MSAT
from wire.bitcoin.tx import OutPoint
from wire.crypto.hashes import sha256

pytestmark = pytest.mark.slow

PAID_SAT, LAPSED_SAT = 50_000, 60_000
FEES_SAT = 30_000
"""More than all transactions of a story cost together."""
FINAL_BLOCKS = 150
"""What Electrum wants between now and the deadline of a held payment, a little over its least."""
DELAY_BLOCKS = 144
STEP_BLOCKS, MOST_STEPS = 24, 20


class Held:
    """Two payments each way, of which the payee will take the first and leave the second."""

    AMOUNTS_SAT = (PAID_SAT, LAPSED_SAT)

    def __init__(self, wallet: ElectrumPeer, funding: OutPoint) -> None:
        self.wallet, self.funding = wallet, funding
        self.ours, self.theirs = ([token_bytes(32) for _ in self.AMOUNTS_SAT] for _ in range(2))

    async def begin(self, rill: Node, nursery: trio.Nursery) -> None:
        """Pay, and wait until the payees hold all."""
        for preimage, amount_sat in zip(self.ours, self.AMOUNTS_SAT, strict=True):
            asked = await self.wallet(
                "add_hold_invoice",
                payment_hash=sha256(preimage).hex(),
                amount=bitcoin(amount_sat),
                min_final_cltv_expiry_delta=FINAL_BLOCKS,
            )
            nursery.start_soon(self._we_pay, rill, asked["invoice"])
        for preimage, amount_sat in zip(self.theirs, self.AMOUNTS_SAT, strict=True):
            nursery.start_soon(self._they_pay, await hold(rill, preimage, amount_sat * 1000))
        await self.are_held(rill)

    async def _we_pay(self, rill: Node, text: str) -> None:
        with suppress(PaymentFailed):
            await rill.pay_invoice(text)

    async def _they_pay(self, text: str) -> None:
        with suppress(ElectrumRefused, OSError):
            await self.wallet.pay(text)

    async def are_held(self, rill: Node) -> None:
        """Wait until the payees hold all."""
        for preimage in self.ours:
            await self.wallet.until(
                "check_hold_invoice", lambda row: row["status"] == "paid", payment_hash=sha256(preimage).hex()
            )
        await held(rill, *self.theirs)

    async def take(self, rill: Node) -> None:
        """Each payee decides to take its first."""
        await self.wallet("settle_hold_invoice", preimage=self.ours[0].hex())
        await take(rill, self.theirs[0])

    def are_taken(self, rill: Node) -> bool:
        """Whether the chain has shown the preimages of what was taken."""
        payment, invoice = sha256(self.ours[0]), sha256(self.theirs[0])
        is_complete = rill.switch.payments.rows[payment].status is Status.COMPLETE
        return is_complete and rill.switch.invoices.rows[invoice].is_paid


async def test_held_payments_outlive_restarts_and_are_settled_on_the_chain(
    electrum_stage: ElectrumStage, nursery: trio.Nursery
) -> None:
    """We go to chain with the first wallet, and the second one with us."""
    stage = electrum_stage
    wallets = [await stage.electrum(name, lightning_to_self_delay=DELAY_BLOCKS) for name in ("ann", "ben")]
    rill = await stage.rill("ours")
    both = []
    for wallet in wallets:
        await rill.connect(wallet.node_id, HOST, wallet.port)
        channel = await rill.open_channel(wallet.node_id, CAPACITY_SAT, PUSH_MSAT, is_announced=False)
        both.append(Held(wallet, channel.charter.funding_outpoint))
    await stage.confirm(2)
    await stage.usable(rill, 2)
    before_sat = rill.balance_sat.confirmed_sat
    theirs_before_sat = [await wallet.in_bitcoin() for wallet in wallets]
    for pending in both:
        await pending.wallet.open(1)
        await pending.begin(rill, nursery)

    await stage.kill_rill("ours")
    rill = await stage.start_rill("ours")
    for name, pending in zip(("ann", "ben"), both, strict=True):
        await pending.wallet.open(1)
        await stage.restart_electrum(name)
        await pending.wallet.open(1)
        await pending.are_held(rill)

    ours, theirs = both
    [channel] = [each for each in rill.channels() if each.charter.funding_outpoint == ours.funding]
    await rill.force_close(channel.id)
    await theirs.wallet("close_channel", channel_point=str(theirs.funding), force=True)
    for pending in both:
        await pending.take(rill)
    with trio.fail_after(2 * PATIENCE_SECONDS):
        while not all(pending.are_taken(rill) for pending in both):
            # block for block, so that who sweeps has the time to before the deadline comes
            await stage.mine(1)
            await trio.sleep(0.5)
    for _ in range(MOST_STEPS):
        await stage.mine(STEP_BLOCKS)
        if all(channel.phase is Phase.CLOSED for channel in rill.channels()):
            break
    assert {channel.phase for channel in rill.channels()} == {Phase.CLOSED}
    for pending in both:
        rows = [rill.switch.payments.rows[sha256(preimage)] for preimage in pending.ours]
        assert [row.status for row in rows] == [Status.COMPLETE, Status.FAILED]
        invoices = [rill.switch.invoices.rows[sha256(preimage)] for preimage in pending.theirs]
        assert [invoice.is_paid for invoice in invoices] == [True, False]
    # as much was paid there as back
    ours_sat = 2 * (CAPACITY_SAT - PUSH_MSAT // 1000)
    assert 0 <= ours_sat - (rill.balance_sat.confirmed_sat - before_sat) <= FEES_SAT
    for wallet, theirs_sat in zip(wallets, theirs_before_sat, strict=True):
        assert 0 <= PUSH_MSAT // 1000 - (await wallet.in_bitcoin() - theirs_sat) <= FEES_SAT


@bolt("reestablish.7")
async def test_a_wallet_that_has_lost_its_channel_has_us_close_it(electrum_stage: ElectrumStage) -> None:
    """From its seed and a channel backup, as its user has them."""
    stage = electrum_stage
    wallet, rill = await stage.electrum("ann"), await stage.rill("ours")
    await rill.connect(wallet.node_id, HOST, wallet.port)
    await rill.open_channel(wallet.node_id, CAPACITY_SAT, PUSH_MSAT, is_announced=False)
    await stage.confirm(1)
    await wallet.open(1)
    funding = str(rill.channels()[0].charter.funding_outpoint)
    backup, seed = await wallet("export_channel_backup", channel_point=funding), await wallet("getseed")
    await rill.pay_invoice(await wallet.invoice(PAID_SAT))
    await stage.quiet(rill)
    before_sat = await wallet.in_bitcoin()

    await stage.wallets.pop("ann").stop()
    again = await stage.electrum("again", seed=seed)
    await again("import_channel_backup", encrypted=backup)
    await again("request_force_close", channel_point=funding, connection_string=address(rill))
    await stage.channels(rill, lambda channels: channels[0].phase is Phase.FAILED)
    await stage.confirm(1)
    await stage.confirm(1)
    theirs_sat = before_sat + FUNDS_SAT + PUSH_MSAT // 1000 + PAID_SAT
    assert 0 <= theirs_sat - await again.in_bitcoin() <= FEES_SAT
