"""Either implementation stops with HTLCs pending, starts again, and every payment arrives."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from tests.interop.ldk_peer import LdkPeer
from tests.interop.stage import Stage

pytestmark = pytest.mark.slow

AMOUNT_MSAT = 5_000_000


@asynccontextmanager
async def line(stage: Stage) -> AsyncIterator[tuple[LdkPeer, LdkPeer]]:
    """LDK one – Rill – LDK two, both of whom hold what they are paid."""
    one, two = await stage.ldk("one", auto_claim=0), await stage.ldk("two", auto_claim=0)
    rill = await stage.rill("ours")
    await stage.open_public(rill, one)
    await stage.open_public(rill, two)
    await stage.confirm(2)
    await stage.usable(rill, 2)
    await stage.everybody_sees(2)
    yield one, two


async def held_by(payee: LdkPeer, pay: Callable[[str], Awaitable[object]]) -> str:
    """Pay an invoice of theirs that they neither claim nor fail; its preimage."""
    invoice = await payee("invoice", msat=AMOUNT_MSAT, desc="held")
    await pay(invoice["bolt11"])
    while (await payee.saw("payment_claimable"))["payment_hash"] != invoice["payment_hash"]:
        pass
    [preimage] = [
        payment["preimage"]
        for payment in await payee("list_payments")
        if payment["payment_hash"] == invoice["payment_hash"]
    ]
    return str(preimage)


async def test_we_restart_with_htlcs_pending_both_ways(stage: Stage, nursery: trio.Nursery) -> None:
    """One for each of them to forward, and one that we pay ourselves."""
    async with line(stage) as (one, two):
        rill = stage.ours["ours"]

        async def pay(text: str) -> None:
            nursery.start_soon(rill.pay_invoice, text)

        balance_msat = rill.channel_balance_msat
        preimages = [
            (two, await held_by(two, pay)),
            (two, await held_by(two, lambda text: one("pay", bolt11=text, wait=False))),
            (one, await held_by(one, lambda text: two("pay", bolt11=text, wait=False))),
        ]
        await stage.kill_rill("ours")
        rill = await stage.start_rill("ours")
        await stage.usable(rill, 2)
        for payee, preimage in preimages:
            await payee("claim", preimage=preimage)
        for payer in (one, two):
            await payer.saw("payment_sent")
        await stage.quiet(rill)
        fees_msat = rill.switch.ledger.fees_msat
        assert fees_msat > 0
        assert rill.channel_balance_msat == balance_msat + fees_msat - AMOUNT_MSAT


async def test_they_restart_with_htlcs_pending(stage: Stage, nursery: trio.Nursery) -> None:
    """The payee forgets its events, the payer its requests; the HTLCs stay."""
    async with line(stage) as (one, two):
        rill = stage.ours["ours"]
        forwarded = await held_by(two, lambda text: one("pay", bolt11=text, wait=False))
        paid = trio.Event()

        async def pay(text: str) -> None:
            async def until_paid() -> None:
                await rill.pay_invoice(text)
                paid.set()

            nursery.start_soon(until_paid)

        direct = await held_by(two, pay)
        for name in ("one", "two"):
            await stage.stop_ldk(name)
        one, two = await stage.start_ldk("one"), await stage.start_ldk("two")
        await stage.usable(rill, 2)
        for preimage in (forwarded, direct):
            await two("claim", preimage=preimage)
        await one.saw("payment_sent")
        await paid.wait()
        await stage.quiet(rill)
