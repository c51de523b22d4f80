"""Watching for others: a breach is punished while who it robs is away."""

from pathlib import Path

import pytest
import trio

from htlc.channel import Channel
from htlc.ladder import LOCAL
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE
from htlc.transactions import ANCHOR_SAT, HtlcOut
from htlc.watchtower import IRREVOCABLE_BLOCKS
from node.daemon.tower_messages import (
    REFUSED,
    STORED,
    AddJustice,
    ForgetChannel,
    Reason,
    Refused,
    write_refused,
    write_stored,
)
from node.daemon.watchtower import Watchtower
from tests.bolt import bolt
from tests.node.line import CAPACITY_SAT, Held, Network, until
from tests.node.towers import Guard, another, client_of, commitment_of, watched, watched_pair
from wire.bitcoin.tx import Transaction
from wire.crypto.secp256k1 import Point
from wire.units import Msat

both_formats = pytest.mark.parametrize(
    "channel_type", [ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE], ids=["anchors", "static_remotekey"]
)
HTLC_MSAT = 400_000_000
BURIED_BLOCKS = 6
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


@both_formats
@bolt("b5-on-chain.6")
async def test_a_tower_that_was_down_punishes_when_it_is_back(
    tmp_path: Path, channel_type: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(tmp_path) as (net, guard):
        commitment = await lived(net, guard, monkeypatch, channel_type=channel_type)
        await guard.stop()
        await breach(net, commitment)
        await net.chain.mine(3)
        await guard.start()
        await check_punished(net, guard, commitment)


async def test_a_tower_that_dies_while_it_punishes_takes_up_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(tmp_path) as (net, guard):
        commitment = await lived(net, guard, monkeypatch)
        await breach(net, commitment)
        await guard.follow()
        await guard.stop()
        # nothing of what it gave to the chain is left
        net.chain.regtest.mempool.clear()
        await guard.start()
        await net.chain.wait_for_mempool(lambda chain: len(chain.regtest.mempool) == 5)
        await check_punished(net, guard, commitment)


@bolt("b5-on-chain.1")
async def test_a_reorganisation_saves_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(tmp_path) as (net, guard):
        commitment = await lived(net, guard, monkeypatch)
        await breach(net, commitment)
        await guard.follow()
        await net.chain.mine()
        await net.chain.reorganise(2, ())
        await guard.follow()
        (undone,) = guard.tower.pursuit.breaches.values()
        assert not undone.is_mined
        await net.chain.mine()
        await check_punished(net, guard, commitment)


async def test_a_victim_that_is_back_before_the_penalties_confirm_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(tmp_path) as (net, guard):
        commitment = await lived(net, guard, monkeypatch)
        await breach(net, commitment)
        await guard.follow()
        await net.start("alice", watchtowers=(guard.address,))
        before_sat = net["alice"].balance_sat.confirmed_sat
        await net.mine()
        await net.chain.wait_for_mempool(lambda chain: len(chain.regtest.mempool) > 0)
        await net.mine(BURIED_BLOCKS)
        await net.wait_for_closed()
        held_sat = sum(out.value_sat for out in commitment.outputs if out.value_sat != ANCHOR_SAT)
        assert held_sat - FEES_SAT < net["alice"].balance_sat.confirmed_sat - before_sat < held_sat


# --- what the tower has


def states(net: Network) -> int:
    """How many commitments Bob has revoked."""
    return net.channel("alice", "bob").shachain.revealed


async def test_what_is_revoked_while_the_tower_is_down_it_gets_later(tmp_path: Path) -> None:
    async with watched(tmp_path) as (net, guard):
        await watched_pair(net, guard)
        for _ in range(3):
            await net.pay("alice", "bob", HTLC_MSAT)
        await client_of(net["alice"]).wait_for_all()
        assert guard.tower.store.count == states(net) > 0
        await guard.stop()
        for _ in range(3):
            await net.pay("alice", "bob", HTLC_MSAT)
        assert client_of(net["alice"]).lacks(net.channel("alice", "bob"))
        await guard.start()
        await client_of(net["alice"]).wait_for_all()
        assert guard.tower.store.count == states(net)


async def test_a_client_that_is_killed_at_any_time_misses_nothing(tmp_path: Path) -> None:
    async with watched(tmp_path) as (net, guard):
        await watched_pair(net, guard)
        for number in range(4):
            if number == 2:
                await guard.stop()
            await net.pay("alice", "bob", HTLC_MSAT)
            await net.stop("alice")
            await net.start("alice", watchtowers=(guard.address,))
            await until(lambda: net.ids["alice", "bob"] in net["alice"].switch.live & net["bob"].switch.live)
        await net.wait_for_quiet()
        await guard.start()
        await client_of(net["alice"]).wait_for_all()
        assert guard.tower.store.count == states(net)


async def test_a_new_tower_gets_everything_since_there_was_one(tmp_path: Path) -> None:
    async with watched(tmp_path / "first") as (net, guard):
        await watched_pair(net, guard)
        await net.pay("alice", "bob", HTLC_MSAT)
        await client_of(net["alice"]).wait_for_all()
        async with another(net, tmp_path / "second") as second:
            await net.stop("alice")
            await net.start("alice", watchtowers=(guard.address, second.address))
            for client in net["alice"].tower_clients:
                await client.wait_for_all()
            assert second.tower.store.count == guard.tower.store.count == states(net)


async def test_a_channel_that_is_over_is_forgotten(tmp_path: Path) -> None:
    async with watched(tmp_path) as (net, guard):
        await watched_pair(net, guard)
        await net.pay("alice", "bob", HTLC_MSAT)
        await client_of(net["alice"]).wait_for_all()
        assert guard.tower.store.used_bytes > 0
        channel = net.channel("alice", "bob")
        await net["alice"].close_channel(channel.id)
        await net.chain.wait_for_mempool(lambda chain: chain.is_spent(channel.charter.funding_outpoint))
        await net.mine(IRREVOCABLE_BLOCKS + 1)
        await client_of(net["alice"]).wait_for_all()
        assert guard.tower.store.count == guard.tower.store.used_bytes == 0
        rows = net["alice"].store.db.execute("select count(*) from tower_states").fetchone()
        assert rows == (0,)


async def test_nothing_is_given_of_a_channel_in_which_nothing_can_be_won(tmp_path: Path) -> None:
    async with watched(tmp_path) as (net, guard):
        # Bob holds nothing, and what he is paid is dust
        await watched_pair(net, guard, push_msat=Msat(0))
        for _ in range(3):
            await net.pay("alice", "bob", 1000)
        await client_of(net["alice"]).wait_for_all()
        assert states(net) > 3
        assert guard.tower.store.count == 0


# --- towers that fail their clients


class Forgetful(Watchtower):
    """It acknowledges everything, and keeps nothing."""

    def _keep(self, node_id: Point, request: AddJustice | ForgetChannel) -> tuple[int, bytes]:
        return STORED, write_stored(request.request_id)


class Liar(Watchtower):
    """It acknowledges what nobody asked for."""

    def _keep(self, node_id: Point, request: AddJustice | ForgetChannel) -> tuple[int, bytes]:
        return STORED, write_stored(request.request_id + 77)


class Babbler(Watchtower):
    """Its answers are garbage."""

    def _keep(self, node_id: Point, request: AddJustice | ForgetChannel) -> tuple[int, bytes]:
        return REFUSED, b"garbage"


class Miser(Watchtower):
    """It refuses everything."""

    def _keep(self, node_id: Point, request: AddJustice | ForgetChannel) -> tuple[int, bytes]:
        return REFUSED, write_refused(Refused(request.request_id, Reason.FULL))


@pytest.mark.parametrize("kind", [Forgetful, Liar, Babbler, Miser])
@bolt("b5-on-chain.6")
async def test_a_bad_tower_costs_nothing_but_its_service(
    tmp_path: Path, kind: type[Watchtower], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(tmp_path) as (net, guard):
        await guard.stop()
        await guard.start(kind)
        await watched_pair(net, guard)
        old = net.channel("bob", "alice")
        for _ in range(3):
            await net.pay("alice", "bob", HTLC_MSAT)
        await net.wait_for_quiet()
        net.check_conserved()
        # the client is there, so it punishes by itself
        commitment = commitment_of(net["bob"], old)
        before_sat = net["alice"].balance_sat.confirmed_sat
        await net.stop("bob")
        await net.chain.broadcast(commitment)
        await net.mine()
        await net.chain.wait_for_mempool(lambda chain: len(chain.regtest.mempool) > 0)
        await until(lambda: not net["alice"].switch.to_broadcast)
        await net.mine()
        held_sat = sum(out.value_sat for out in commitment.outputs if out.value_sat != ANCHOR_SAT)
        assert held_sat - FEES_SAT < net["alice"].balance_sat.confirmed_sat - before_sat < held_sat


async def test_a_liar_is_left_at_once(tmp_path: Path) -> None:
    async with watched(tmp_path) as (net, guard):
        await guard.stop()
        await guard.start(Liar)
        await watched_pair(net, guard)
        await net.pay("alice", "bob", HTLC_MSAT)
        await until(lambda: not guard.tower.peers)
        client = client_of(net["alice"])
        assert client.lacks(net.channel("alice", "bob"))
        # an honest one in its place gets everything
        await guard.stop()
        await guard.start()
        await client.wait_for_all()
        assert guard.tower.store.count == states(net)
