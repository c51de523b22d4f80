"""The opener keeps the feerate of its commitments near what the chain asks for."""

from pathlib import Path

import pytest

from htlc.channel import Phase
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE
from node.daemon.fees import MOST_WITH_ANCHORS_PER_KW, is_off
from tests.bolt import bolt
from tests.node.line import Network, line, until
from tests.node.rpc_stage import Client


async def _both_have(net: Network, feerate_per_kw: int) -> None:
    for name in ("alice", "bob"):
        await net[name].wait_for_channels(
            lambda channels: all(each.feerate_per_kw == feerate_per_kw for each in channels)
        )


@bolt("update_fee.1")
@pytest.mark.parametrize(
    ("channel_type", "expected_per_kw"),
    [(STATIC_REMOTEKEY_TYPE, 4000), (ANCHORS_TYPE, MOST_WITH_ANCHORS_PER_KW)],
    ids=["static_remotekey", "anchors"],
)
async def test_a_dearer_chain_raises_the_feerate_on_both_sides(
    tmp_path: Path, channel_type: bytes, expected_per_kw: int
) -> None:
    async with line(tmp_path, "alice bob", channel_type=channel_type) as net:
        assert net.channel("alice", "bob").feerate_per_kw == 1000
        net.chain.feerate_now_per_kw = 4000
        await net.mine()
        await _both_have(net, expected_per_kw)
        await net.pay("alice", "bob", 1_000_000)
        await net.pay("bob", "alice", 1_000_000)
        net.chain.feerate_now_per_kw = 500
        await net.mine()
        await _both_have(net, 500)
        await net.wait_for_quiet()
        net.check_conserved()


@bolt("update_fee.1")
@pytest.mark.parametrize("is_lenient", [True, False])
async def test_an_unreasonable_feerate_costs_the_channel_unless_our_user_says_otherwise(
    tmp_path: Path, is_lenient: bool
) -> None:
    async with line(tmp_path, "alice bob", channel_type=STATIC_REMOTEKEY_TYPE) as net:
        bob = Client(net["bob"])
        if is_lenient:
            [shown] = (await bob.call("setchannel", id="all", ignorefeelimits=True))["channels"]
            assert shown["ignore_fee_limits"] is True
            # it is kept, and what else is set later leaves it
            await net.stop("bob")
            await net.start("bob")
            await net.connect("alice", "bob")
            bob = Client(net["bob"])
            [shown] = (await bob.call("setchannel", id="all", feebase=7))["channels"]
            assert shown["ignore_fee_limits"] is True
            await until(lambda: all(net[name].switch.live for name in ("alice", "bob")))
        net.chain.feerate_now_per_kw = 110_000
        await net.mine()
        if is_lenient:
            await _both_have(net, 110_000)
        else:
            await net["bob"].wait_for_channels(lambda all: all[0].phase is Phase.FAILED)


def test_small_changes_are_not_worth_a_message() -> None:
    assert [is_off(1000, wanted) for wanted in (1100, 1201, 700, 600)] == [False, True, False, True]
