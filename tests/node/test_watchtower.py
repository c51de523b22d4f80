"""Watching for others: a breach is punished while who it robs is away."""

from pathlib import Path

import pytest
import trio

from htlc.channel import Channel
from htlc.ladder import LOCAL
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE
from htlc.transactions import ANCHOR_SAT, HtlcOut
from tests.bolt import bolt
from tests.node.line import CAPACITY_SAT, Held, Network
from tests.node.towers import Guard, client_of, commitment_of, watched, watched_pair
from wire.bitcoin.tx import Transaction

both_formats = pytest.mark.parametrize(
    "channel_type", [ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE], ids=["anchors", "static_remotekey"]
)
HTLC_MSAT = 400_000_000
FEES_SAT = 20_000
"""More than all penalties of a story cost together."""


async def lived(
    net: Network, guard: Guard, monkeypatch: pytest.MonkeyPatch, **options: object
) -> Transaction:
    """Payments between Alice and Bob; what Bob held while HTLCs were under way in both directions."""
    await watched_pair(net, guard, **options)
    await net.pay("alice", "bob", 1_000_000_000)
    old = await with_htlcs(net, monkeypatch)
    await net.pay("alice", "bob", 2_000_000_000)
    await net.wait_for_quiet()
    await client_of(net["alice"]).wait_for_all()
    return commitment_of(net["bob"], old)


async def with_htlcs(net: Network, monkeypatch: pytest.MonkeyPatch) -> Channel:
    """Bob's channel while two HTLCs are under way in each direction."""
    with monkeypatch.context() as patch:
        held = [Held(net["alice"], patch), Held(net["bob"], patch)]
        async with trio.open_nursery() as nursery:
            for payer, payee in (("alice", "bob"), ("bob", "alice")) * 2:
                nursery.start_soon(net.pay, payer, payee, HTLC_MSAT)
            for each in held:
                await each.wait_for(2)
            await net["bob"].wait_for_channels(lambda channels: len(signed_htlcs(channels[0])) == 4)
            old = net.channel("bob", "alice")
            for each in held:
                await each.release()
    return old


def signed_htlcs(channel: Channel) -> tuple[HtlcOut, ...]:
    """The HTLCs of the newest commitment of whom the channel belongs to."""
    return channel.spec(LOCAL, channel.number.local).htlcs


async def breach(net: Network, commitment: Transaction) -> None:
    """Bob publishes it, and it is mined while Alice is away."""
    if "alice" in net.nodes:
        await net.stop("alice")
    await net.stop("bob")
    await net.chain.broadcast(commitment)
    await net.chain.mine()


async def check_punished(net: Network, guard: Guard, commitment: Transaction) -> None:
    """Alice comes back to find everything of the commitment in her wallet, beside what was there."""
    await guard.follow()
    await net.chain.mine()
    await guard.follow()
    (caught,) = guard.tower.pursuit.breaches.values()
    assert caught.is_resolved
    assert all(target.is_ours for target in caught.targets)
    await net.start("alice", watchtowers=(guard.address,))
    before_sat = net["alice"].balance_sat.confirmed_sat
    await net.follow()
    await net.chain.wait_for_mempool(lambda chain: len(chain.regtest.mempool) > 0)
    await net.mine()
    held_sat = sum(out.value_sat for out in commitment.outputs if out.value_sat != ANCHOR_SAT)
    assert held_sat > CAPACITY_SAT - FEES_SAT
    gained_sat = net["alice"].balance_sat.confirmed_sat - before_sat
    assert held_sat - FEES_SAT < gained_sat < held_sat


@both_formats
@bolt("b5-on-chain.6")
async def test_the_victim_is_away_and_gets_it_all(
    tmp_path: Path, channel_type: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(tmp_path) as (net, guard):
        commitment = await lived(net, guard, monkeypatch, channel_type=channel_type)
        assert len([out for out in commitment.outputs if out.value_sat == HTLC_MSAT // 1000]) == 4
        await breach(net, commitment)
        await check_punished(net, guard, commitment)
