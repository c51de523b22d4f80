"""Payments in parts between Rill and LDK (BOLT 4, basic_mpp)."""

import pytest

from htlc.opening import ANCHORS_TYPE
from node.daemon.paying import PaymentFailed
from tests.bolt import bolt
from tests.interop.stage import CAPACITY_SAT, PUSH_MSAT, Stage
from wire.units import Msat

pytestmark = pytest.mark.slow


@bolt("payload.4", "b11-invoices.5")
async def test_what_one_channel_cannot_carry_goes_in_parts_both_ways(stage: Stage) -> None:
    ldk, rill = await stage.ldk("theirs"), await stage.rill("ours")
    await stage.connect(rill, ldk)
    for _ in range(2):
        await rill.open_channel(ldk.node_id, CAPACITY_SAT, PUSH_MSAT, channel_type=ANCHORS_TYPE)
        await stage.confirm(1)
    await stage.usable(rill, 2)
    await stage.everybody_sees(2)

    ours_msat = rill.channel_balance_msat
    too_much_msat = max(rill.payer.spendable().values()) * 3 // 2
    invoice = await ldk("invoice", msat=too_much_msat, desc="in parts")
    payment = await rill.pay_invoice(invoice["bolt11"])
    assert payment.parts > 1
    await stage.quiet(rill)
    assert rill.channel_balance_msat == ours_msat - too_much_msat

    row = await rill.add_invoice(Msat(too_much_msat), "and back")
    assert (await ldk("pay", bolt11=rill.bolt11(row)))["status"] == "sent"
    await stage.quiet(rill)
    assert rill.channel_balance_msat == ours_msat
    assert rill.switch.invoices.rows[row.payment_hash].received_msat == too_much_msat

    with pytest.raises(PaymentFailed, match="incorrect_or_unknown_payment_details, says hop 1"):
        await rill.pay(ldk.node_id, bytes(32), bytes(32), Msat(1_000_000))
    await stage.quiet(rill)
