"""BOLT 5 with real nodes: a channel that one side closes alone ends in both wallets."""

from pathlib import Path

import pytest

from htlc.channel import Phase
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE
from tests.bolt import bolt
from tests.node.line import CAPACITY_SAT, PUSH_MSAT, Network, line

both_formats = pytest.mark.parametrize(
    "channel_type", [ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE], ids=["anchors", "static_remotekey"]
)

FEES_SAT = 20_000
"""More than all transactions of a story cost together."""


def confirmed_sat(net: Network, name: str) -> int:
    return net[name].balance_sat.confirmed_sat


@both_formats
@bolt("b5-on-chain.2", "b5-on-chain.3")
async def test_a_unilateral_close_pays_both_sides(tmp_path: Path, channel_type: bytes) -> None:
    async with line(tmp_path, "alice bob", channel_type=channel_type) as net:
        before = {name: confirmed_sat(net, name) for name in net.nodes}
        channel = net.channel("alice", "bob")
        await net["alice"].force_close(channel.id)
        await net.chain.wait_for_mempool(lambda chain: chain.is_spent(channel.charter.funding_outpoint))
        await net.mine()
        assert net.channel("alice", "bob").phase is net.channel("bob", "alice").phase is Phase.FAILED
        # Bob's balance is his after a block, Alice's after the delay that he asked for
        await net.mine(channel.charter.terms.remote.to_self_delay_blocks)
        await net.mine(6)
        await net.wait_for_closed()
        gained = {name: confirmed_sat(net, name) - before[name] for name in net.nodes}
        assert 0 <= PUSH_MSAT // 1000 - gained["bob"] <= FEES_SAT
        assert 0 <= CAPACITY_SAT - PUSH_MSAT // 1000 - gained["alice"] <= FEES_SAT
