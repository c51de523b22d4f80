"""What changes under payments of Rill and LDK that wait: the feerate, the payee's mind, the chain."""

import pytest
import trio

from htlc.channel import Phase
from htlc.opening import STATIC_REMOTEKEY_TYPE
from node.daemon.node import Node
from tests.bolt import bolt
from tests.interop.holding import held, hold, refuse, take
from tests.interop.ldk_peer import LdkPeer
from tests.interop.stage import (
    CAPACITY_SAT,
    PUSH_MSAT,
    Stage,
)
from wire.crypto.hashes import sha256
from wire.units import Msat

pytestmark = pytest.mark.slow

AMOUNT_MSAT = 20_000_000
DEARER_PER_KW = 3000
FEES_SAT = 10_000
"""More than all transactions of a story cost together."""
DEEP_BLOCKS = 3


async def dearer(_: int) -> int:
    """What the chain asks for now."""
    return DEARER_PER_KW


async def test_feerates_change_while_payments_are_held_both_ways(
    stage: Stage, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    ldk, rill = await stage.ldk("theirs", anchors=0, auto_claim=0), await stage.rill("ours")
    await stage.connect(rill, ldk)
    await rill.open_channel(ldk.node_id, CAPACITY_SAT, PUSH_MSAT, channel_type=STATIC_REMOTEKEY_TYPE)
    await ldk("open_channel", id=rill.node_id.hex(), sat=CAPACITY_SAT, push_msat=PUSH_MSAT)
    await stage.confirm(2)
    await stage.usable(rill, 2)
    await ldk.until("list_channels", lambda channels: all(channel["usable"] for channel in channels))
    before_msat = rill.channel_balance_msat

    invoice = await ldk("invoice", msat=AMOUNT_MSAT, desc="held")
    nursery.start_soon(rill.pay_invoice, invoice["bolt11"])
    await ldk.saw("payment_claimable")
    taken, refused = b"t" * 32, b"r" * 32
    for preimage in (taken, refused):
        await ldk("pay", bolt11=await hold(rill, preimage, AMOUNT_MSAT), wait=False)
        await held(rill, preimage)

    monkeypatch.setattr(rill.chain, "feerate_per_kw", dearer)
    await ldk("set_feerate", perkw=DEARER_PER_KW)
    await stage.mine(1)
    await stage.channels(
        rill, lambda channels: [channel.feerate_per_kw for channel in channels] == [DEARER_PER_KW] * 2
    )
    await take(rill, taken)
    await refuse(rill, refused)
    assert (await ldk.saw("payment_sent"))["payment_hash"] == sha256(taken).hex()
    await ldk.saw("payment_failed")
    [ours] = [row for row in await ldk("list_payments") if row["direction"] == "in"]
    await ldk("claim", preimage=ours["preimage"])
    await stage.quiet(rill)
    assert rill.channel_balance_msat == before_msat


async def pay_both_ways(rill: Node, ldk: LdkPeer) -> None:
    await rill.pay_invoice((await ldk("invoice", msat=AMOUNT_MSAT, desc="to them"))["bolt11"])
    row = await rill.add_invoice(Msat(AMOUNT_MSAT), "to us")
    assert (await ldk("pay", bolt11=rill.bolt11(row)))["status"] == "sent"


@bolt("b5-on-chain.1")
async def test_blocks_of_a_channel_are_undone(stage: Stage) -> None:
    """Before it is ready it gets another place; after that LDK gives it up, and both have their money."""
    ldk = await stage.ldk("theirs", min_depth=DEEP_BLOCKS)
    rill = await stage.rill("ours", minimum_depth_blocks=DEEP_BLOCKS)
    await stage.open_public(rill, ldk)
    await stage.confirm(1, DEEP_BLOCKS - 1)
    height = await stage.bitcoind.call("getblockcount")
    await stage.undo(DEEP_BLOCKS - 1)
    await stage.confirm(1)
    await stage.usable(rill, 1)
    assert rill.channels()[0].short_channel_id == (height + 2) << 40 | 1 << 16
    await stage.everybody_sees(1)
    await pay_both_ways(rill, ldk)

    # less than what makes it ready
    await stage.undo(DEEP_BLOCKS)
    await pay_both_ways(rill, ldk)
    await stage.quiet(rill)
    before_sat = rill.balance_sat.confirmed_sat

    # more than that
    await stage.undo(await stage.bitcoind.call("getblockcount") - height - 1)
    assert "un-confirmed" in (await ldk.saw("channel_closed"))["reason"]
    await stage.channels(rill, lambda channels: channels[0].phase is Phase.FAILED)
    await stage.confirm(2)
    await stage.mine_until_swept(rill, ldk)
    ours_sat = CAPACITY_SAT - PUSH_MSAT // 1000
    assert 0 <= ours_sat - (rill.balance_sat.confirmed_sat - before_sat) <= FEES_SAT
