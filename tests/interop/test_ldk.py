"""Rill and LDK, an independent implementation, on one bitcoind: channels, payments, forwarding, gossip."""

import pytest
import trio

from htlc.channel import Phase
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE
from tests.interop.stage import CAPACITY_SAT, PUSH_MSAT, Stage, of_type
from tests.node.line import together
from wire import bolt11
from wire.units import Msat, Sat

pytestmark = pytest.mark.slow

LARGE_SAT = Sat(20_000_000)  # which takes option_support_large_channel


@pytest.mark.parametrize("anchors", [True, False], ids=["anchors", "static_remotekey"])
async def test_channels_of_either_opener_carry_payments_both_ways_and_close(
    stage: Stage, anchors: bool
) -> None:
    ldk, rill = await stage.ldk("theirs", anchors=int(anchors)), await stage.rill("ours")
    await stage.connect(rill, ldk)
    channel_type = ANCHORS_TYPE if anchors else STATIC_REMOTEKEY_TYPE
    await rill.open_channel(ldk.node_id, LARGE_SAT, PUSH_MSAT, channel_type=channel_type)
    await stage.confirm(1)
    await stage.usable(rill, 1)
    await ldk("open_channel", id=rill.node_id.hex(), sat=LARGE_SAT, push_msat=PUSH_MSAT, announced=True)
    await stage.confirm(1)
    await stage.usable(rill, 2)
    assert of_type(rill.channels()) == {channel_type}
    await stage.everybody_sees(2)

    await rill.pay_invoice((await ldk("invoice", msat=5_000_000, desc="to them"))["bolt11"])
    row = await rill.add_invoice(Msat(7_000_000), "to us")
    assert (await ldk("pay", bolt11=rill.bolt11(row)))["status"] == "sent"
    any_amount = await rill.add_invoice(None, "as you like")
    assert (await ldk("pay", bolt11=rill.bolt11(any_amount), msat=1234))["status"] == "sent"
    theirs = bolt11.decode((await ldk("invoice", desc="as we like"))["bolt11"])
    await rill.pay(
        ldk.node_id,
        theirs.payment_hash,
        theirs.payment_secret,
        Msat(4321),
        final_cltv_expiry_delta=theirs.min_final_cltv_expiry_delta,
    )
    assert (await ldk("keysend", id=rill.node_id.hex(), msat=123_456))["status"] == "sent"
    await rill.keysend(ldk.node_id, Msat(222_000))
    paid_msat = -5_000_000 + 7_000_000 + 1234 - 4321 + 123_456 - 222_000
    await stage.quiet(rill)
    start_msat = int(PUSH_MSAT) + LARGE_SAT * 1000 - PUSH_MSAT
    assert rill.channel_balance_msat == start_msat + paid_msat

    ours, theirs_id = (channel.id for channel in rill.channels())
    await rill.close_channel(ours)
    await ldk("close", channel_id=theirs_id.hex())
    await stage.channels(
        rill, lambda channels: all(c.phase in (Phase.CLOSING, Phase.CLOSED) for c in channels)
    )
    await stage.confirm(2)
    await stage.closed(rill)
    assert await ldk("list_channels") == []


async def test_a_hundred_payments_with_thirty_in_flight(stage: Stage) -> None:
    ldk, rill = await stage.ldk("theirs"), await stage.rill("ours")
    channel = await stage.open_public(rill, ldk)
    await stage.confirm(1)
    await stage.usable(rill, 1)
    await stage.everybody_sees(1)
    slots = trio.CapacityLimiter(30)

    async def pay(number: int) -> None:
        async with slots:
            if number % 2:
                invoice = await ldk("invoice", msat=1_000_000 + number, desc=str(number))
                await rill.pay_invoice(invoice["bolt11"])
            else:
                row = await rill.add_invoice(Msat(1_000_000 + number))
                assert (await ldk("pay", bolt11=rill.bolt11(row)))["status"] == "sent"

    await together(map(pay, range(100)))
    await stage.quiet(rill)
    [after] = [each for each in rill.channels() if each.id == channel.id]
    paid_msat = sum((1_000_000 + number) * (1 if number % 2 else -1) for number in range(100))
    assert after.settled_msat.local == CAPACITY_SAT * 1000 - PUSH_MSAT - paid_msat


async def test_payments_pass_over_us_and_over_them(stage: Stage) -> None:
    """LDK one – Rill one – LDK two – Rill two: each implementation forwards for the other."""
    one, two = await stage.ldk("one"), await stage.ldk("two")
    first, last = await stage.rill("first"), await stage.rill("last")
    await stage.open_public(first, one)
    await stage.open_public(first, two)
    await stage.open_public(last, two)
    await stage.confirm(3)
    await stage.usable(first, 2)
    await stage.usable(last, 1)
    await stage.everybody_sees(3)

    invoice = await two("invoice", msat=5_000_000, desc="over us")
    assert (await one("pay", bolt11=invoice["bolt11"]))["status"] == "sent"
    assert first.switch.ledger.fees_msat > 0
    row = await last.add_invoice(Msat(6_000_000), "over them")
    over_them = await first.pay_invoice(last.bolt11(row))
    assert over_them.route == (two.node_id, last.node_id)
    assert over_them.fee_msat > 0
    row = await last.add_invoice(Msat(7_000_000), "over us and them")
    assert (await one("pay", bolt11=last.bolt11(row)))["status"] == "sent"
    # and without an invoice
    await last.keysend(one.node_id, Msat(8_000_000))
    assert (await one("keysend", id=last.node_id.hex(), msat=9_000_000))["status"] == "sent"
