"""Rill and Electrum, an independent implementation, on one bitcoind."""

import pytest

from htlc.channel import Channel, Phase
from htlc.ladder import LOCAL, REMOTE, Side
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE
from node.daemon.node import Node
from tests.interop.electrum_peer import ElectrumPeer, bitcoin
from tests.interop.electrum_stage import ElectrumStage, address
from tests.interop.stage import CAPACITY_SAT, HOST, PUSH_MSAT
from wire.features import ANCHORS, SCID_ALIAS, STATIC_REMOTEKEY, Features
from wire.units import Msat

pytestmark = pytest.mark.slow

PUSH_SAT = PUSH_MSAT // 1000
PARTED_SAT = 700_000
SECRET = Features.of(STATIC_REMOTEKEY, ANCHORS, SCID_ALIAS).to_bytes()
OVER = frozenset(["CLOSED", "REDEEMED"])


async def they_open(wallet: ElectrumPeer, rill: Node, *, public: bool = False) -> None:
    """A channel that the wallet opens to us, not confirmed yet."""
    await wallet(
        "open_channel",
        connection_string=address(rill),
        amount=bitcoin(CAPACITY_SAT),
        push_amount=bitcoin(PUSH_SAT),
        public=public,
    )


def between(rill: Node, wallet: ElectrumPeer, opener: Side) -> Channel:
    """The channel of the two that this side opened."""
    [channel] = [
        channel
        for channel in rill.channels()
        if (channel.charter.peer_id, channel.charter.opener) == (wallet.node_id, opener)
    ]
    return channel


async def test_channels_of_either_opener_carry_payments_each_way_and_over_us_and_close(
    electrum_stage: ElectrumStage,
) -> None:
    stage = electrum_stage
    ann = await stage.electrum("ann")
    ben = await stage.electrum("ben", test_ln_open_srk_channels=True)
    rill = await stage.rill("ours")
    types = {ann: (SECRET, ANCHORS_TYPE), ben: (STATIC_REMOTEKEY_TYPE, STATIC_REMOTEKEY_TYPE)}
    for wallet, (ours, _) in types.items():
        await rill.connect(wallet.node_id, HOST, wallet.port)
        await rill.open_channel(
            wallet.node_id, CAPACITY_SAT, PUSH_MSAT, is_announced=False, channel_type=ours
        )
        await they_open(wallet, rill)
    await stage.confirm(4)
    await stage.usable(rill, 4)
    for wallet, wanted in types.items():
        await wallet.open(2)
        assert tuple(between(rill, wallet, side).charter.channel_type for side in Side) == wanted

    await rill.pay_invoice(await ann.invoice(5000))
    await ann.pay(rill.bolt11(await rill.add_invoice(Msat(7_000_000), "to us")))
    # more than one channel can carry
    in_parts = await rill.pay_invoice(await ann.invoice(PARTED_SAT))
    assert in_parts.parts > 1
    await ann.pay(rill.bolt11(await rill.add_invoice(Msat(PARTED_SAT * 1000), "and back")))
    # over us
    await ann.pay(await ben.invoice(11_000))
    await ben.pay(await ann.invoice(13_000))
    await stage.quiet(rill)
    fees_msat = rill.switch.ledger.fees_msat
    assert fees_msat > 0
    assert rill.channel_balance_msat == 2 * CAPACITY_SAT * 1000 + 2_000_000 + fees_msat

    for wallet in (ann, ben):
        await rill.close_channel(between(rill, wallet, LOCAL).id)
        theirs = between(rill, wallet, REMOTE).charter.funding_outpoint
        await wallet("close_channel", channel_point=str(theirs))
    await stage.channels(
        rill, lambda channels: all(c.phase in (Phase.CLOSING, Phase.CLOSED) for c in channels)
    )
    await stage.confirm(4)
    await stage.closed(rill)
    for wallet in (ann, ben):
        await wallet.channels(lambda rows: {row["state"] for row in rows} <= OVER)


async def test_a_wallet_learns_the_network_from_us_pays_across_it_and_forwards(
    electrum_stage: ElectrumStage,
) -> None:
    """Rill far – Rill near – Electrum – Rill last, all announced."""
    stage = electrum_stage
    ann = await stage.electrum("ann", lightning_forward_payments=True)
    far, near, last = [await stage.rill(name) for name in ("far", "near", "last")]
    for rill in (far, last):
        await near.connect(rill.node_id, HOST, rill.port)
    await near.open_channel(far.node_id, CAPACITY_SAT, PUSH_MSAT)
    for rill in (near, last):
        await they_open(ann, rill, public=True)
    await stage.confirm(3)
    await stage.usable(near, 2)
    await ann.open(2)
    await ann("add_peer", connection_string=address(near), gossip=True)
    await ann.until("gossip_info", lambda told: told["database"]["channel_policies"] == 6)
    for rill in (far, last):
        await stage.graph(rill, lambda graph: len(graph.policies) == 6)

    await ann.pay(far.bolt11(await far.add_invoice(Msat(7_000_000), "over near")))
    await far.pay_invoice(await ann.invoice(5000))
    over_them = await far.pay_invoice(last.bolt11(await last.add_invoice(Msat(9_000_000), "over both")))
    assert over_them.route == (near.node_id, ann.node_id, last.node_id)
