"""Either implementation goes to chain with HTLCs pending, and both sweep all that is theirs."""

from contextlib import suppress

import pytest
import trio

from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE
from node.daemon.node import Node
from node.daemon.paying import PaymentFailed
from node.daemon.payments import Status
from tests.interop.holding import held, hold, take
from tests.interop.ldk_peer import LdkPeer
from tests.interop.stage import CAPACITY_SAT, PUSH_MSAT, Stage
from wire.crypto.hashes import sha256
from wire.units import Msat

pytestmark = pytest.mark.slow

PAID_MSAT, LAPSED_MSAT = Msat(50_000_000), Msat(60_000_000)
FEES_SAT = 30_000
"""More than all transactions of a story cost together."""


@pytest.mark.parametrize("closer", ["ours", "theirs"])
@pytest.mark.parametrize("anchors", [True, False], ids=["anchors", "static_remotekey"])
async def test_a_force_close_is_swept_by_both_sides(
    stage: Stage, nursery: trio.Nursery, closer: str, anchors: bool
) -> None:
    ldk, rill = await stage.ldk("theirs", anchors=int(anchors), auto_claim=0), await stage.rill("ours")
    await stage.connect(rill, ldk)
    channel = await rill.open_channel(
        ldk.node_id, CAPACITY_SAT, PUSH_MSAT, channel_type=ANCHORS_TYPE if anchors else STATIC_REMOTEKEY_TYPE
    )
    await stage.confirm(1)
    await stage.usable(rill, 1)
    before_sat = rill.balance_sat.confirmed_sat
    hashes, preimages = [], []
    for amount_msat in (PAID_MSAT, LAPSED_MSAT):
        invoice = await ldk("invoice", msat=amount_msat, desc="held")
        nursery.start_soon(_pay, rill, invoice["bolt11"])
        await ldk.saw("payment_claimable")
        hashes.append(bytes.fromhex(invoice["payment_hash"]))
        preimages.append((await ldk("list_payments"))[-1]["preimage"])

    taken = b"t" * 32
    await ldk("pay", bolt11=await hold(rill, taken, PAID_MSAT), wait=False)
    await held(rill, taken)

    if closer == "ours":
        await rill.force_close(channel.id)
    else:
        await ldk("force_close", channel_id=channel.id.hex())
    # the payees take their first only now, and must show its preimage to the chain
    await ldk("claim", preimage=preimages[0])
    await take(rill, taken)
    await stage.mine_until_swept(rill, ldk)

    statuses = [rill.switch.payments.rows[payment_hash].status for payment_hash in hashes]
    assert statuses == [Status.COMPLETE, Status.FAILED]
    assert rill.switch.invoices.rows[sha256(taken)].is_paid
    # as much was paid there as back
    ours_sat = CAPACITY_SAT - PUSH_MSAT // 1000
    assert 0 <= ours_sat - (rill.balance_sat.confirmed_sat - before_sat) <= FEES_SAT
    theirs_sat = PUSH_MSAT // 1000
    assert await _swept_sat(stage, ldk, theirs_sat - FEES_SAT) <= theirs_sat


async def _pay(node: Node, text: str) -> None:
    with suppress(PaymentFailed):
        await node.pay_invoice(text)


async def _swept_sat(stage: Stage, ldk: LdkPeer, least_sat: int) -> int:
    """What the transactions brought that LDK sends its spendable outputs home with."""
    swept_sat = 0
    while swept_sat < least_sat:
        swept_sat += await _paid_sat(stage, (await ldk.saw("swept"))["txid"])
    return swept_sat


async def _paid_sat(stage: Stage, txid: str) -> int:
    transaction = await stage.bitcoind.call("getrawtransaction", txid, True)
    return sum(round(output["value"] * 10**8) for output in transaction["vout"])
