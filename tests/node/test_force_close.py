"""BOLT 5 with real nodes: channels that end on the chain, with what they carried for others."""

from contextlib import suppress
from pathlib import Path

import pytest
import trio

from htlc.channel import Phase
from htlc.effects import Save, Step
from htlc.errors import ChannelError
from htlc.ladder import LOCAL, Htlc
from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE
from htlc.resolution import Resolution
from node.daemon.paying import PaymentFailed
from node.daemon.payments import Status
from node.daemon.turn import Turn
from tests.bolt import bolt
from tests.node.line import CAPACITY_SAT, PUSH_MSAT, Held, Network, line, until
from wire.units import Msat

both_formats = pytest.mark.parametrize(
    "channel_type", [ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE], ids=["anchors", "static_remotekey"]
)

FEES_SAT = 20_000
"""More than all transactions of a story cost together."""
AMOUNT_MSAT = 1_000_000_000
TOLL_MSAT = 1000 + AMOUNT_MSAT * 10 // 1_000_000


def confirmed_sat(net: Network, name: str) -> int:
    return net[name].balance_sat.confirmed_sat


def resolution(net: Network, name: str, peer: str) -> Resolution:
    return net[name].switch.resolver.resolutions[net.ids[name, peer]]


async def mine(net: Network, count: int) -> None:
    """Mine blocks one by one, each with what the nodes make of the one before."""
    for _ in range(count):
        await net.mine()
        for node in net.nodes.values():
            await until(lambda switch=node.switch: not switch.to_broadcast)  # type: ignore[misc]


async def close_alone(net: Network, a: str, b: str) -> None:
    """One side goes to chain, and its commitment is mined."""
    funding = net.channel(a, b).charter.funding_outpoint
    await net[a].force_close(net.ids[a, b])
    await net.chain.wait_for_mempool(lambda chain: chain.is_spent(funding))
    await mine(net, 1)


async def start_paying(net: Network, nursery: trio.Nursery, payer: str, payee: str) -> bytes:
    """Begin a payment; its hash."""
    invoice = await net[payee].add_invoice(Msat(AMOUNT_MSAT))

    async def pay() -> None:
        with suppress(PaymentFailed):
            await net.pay_row(payer, payee, invoice)

    nursery.start_soon(pay)
    return invoice.payment_hash


@both_formats
@bolt("b5-on-chain.2", "b5-on-chain.3")
async def test_a_unilateral_close_pays_both_sides(tmp_path: Path, channel_type: bytes) -> None:
    async with line(tmp_path, "alice bob", channel_type=channel_type) as net:
        before = {name: confirmed_sat(net, name) for name in net.nodes}
        channel = net.channel("alice", "bob")
        await close_alone(net, "alice", "bob")
        assert net.channel("alice", "bob").phase is net.channel("bob", "alice").phase is Phase.FAILED
        # Bob's balance is his after a block, Alice's after the delay that he asked for
        await mine(net, channel.charter.terms.remote.to_self_delay_blocks + 6)
        await net.wait_for_closed()
        gained = {name: confirmed_sat(net, name) - before[name] for name in net.nodes}
        assert 0 <= PUSH_MSAT // 1000 - gained["bob"] <= FEES_SAT
        assert 0 <= CAPACITY_SAT - PUSH_MSAT // 1000 - gained["alice"] <= FEES_SAT


@both_formats
@bolt("forwarding-safety.1", "forwarding-safety.4", "b5-on-chain.3")
async def test_an_htlc_that_nobody_answers_for_is_taken_back_and_failed_upstream(
    tmp_path: Path, channel_type: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with line(tmp_path, "alice bob carol", channel_type=channel_type) as net:
        held = Held(net["carol"], monkeypatch)
        await net.fund([("bob", 1_000_000)])
        payment_hash = await start_paying(net, net._nursery, "alice", "carol")
        await held.wait_for(1)
        [htlc] = net.channel("bob", "carol").htlcs.local.values()
        await net.part("bob", "carol")
        [upstream] = net.channel("alice", "bob").htlcs.local.values()
        height = (await net.chain.tip()).height
        await mine(net, htlc.cltv_expiry + 2 - height)
        assert net.channel("bob", "carol").phase is Phase.FAILED
        # commitment, HTLC-timeout, and five blocks on top: well before the incoming HTLC's own expiry
        await mine(net, 7)
        await until(lambda: net["alice"].switch.payments.rows[payment_hash].status is Status.FAILED)
        assert (await net.chain.tip()).height < upstream.cltv_expiry
        await until(lambda: not net.channel("alice", "bob").htlcs.local)
        assert net.channel("alice", "bob").phase is Phase.NORMAL
        assert net.channel("alice", "bob").settled_msat.remote == PUSH_MSAT


@both_formats
@bolt("forwarding-safety.2", "forwarding-safety.4", "b5-on-chain.4")
async def test_a_preimage_from_the_chain_pays_the_node_upstream(
    tmp_path: Path, channel_type: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with line(tmp_path, "alice bob carol", channel_type=channel_type) as net:
        held = Held(net["carol"], monkeypatch)
        await net.fund([("carol", 1_000_000)])
        payment_hash = await start_paying(net, net._nursery, "alice", "carol")
        await held.wait_for(1)
        [htlc] = net.channel("bob", "carol").htlcs.local.values()
        await net.part("carol", "bob")
        await held.release()
        height = (await net.chain.tip()).height
        # Carol goes to chain while she is sure to be in time
        await mine(net, htlc.cltv_expiry - 18 - height)
        assert net.channel("carol", "bob").phase is Phase.FAILED
        await mine(net, 2)
        await until(lambda: net["alice"].switch.payments.rows[payment_hash].status is Status.COMPLETE)
        await until(lambda: not net.channel("alice", "bob").htlcs.local)
        paid_msat = net.channel("alice", "bob").settled_msat.remote - PUSH_MSAT
        assert paid_msat == AMOUNT_MSAT + TOLL_MSAT
        before_sat = confirmed_sat(net, "carol")
        await mine(net, 150)
        assert confirmed_sat(net, "carol") - before_sat > (PUSH_MSAT + AMOUNT_MSAT) // 1000 - FEES_SAT


@both_formats
@bolt("forwarding-safety.2", "b5-on-chain.4")
async def test_a_preimage_from_downstream_claims_the_htlc_that_is_on_chain(
    tmp_path: Path, channel_type: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with line(tmp_path, "alice bob carol", channel_type=channel_type) as net:
        held = Held(net["carol"], monkeypatch)
        payment_hash = await start_paying(net, net._nursery, "alice", "carol")
        await held.wait_for(1)
        before_sat = confirmed_sat(net, "bob")
        await close_alone(net, "alice", "bob")
        await mine(net, 2)
        await held.release()
        [htlc] = [o for o in resolution(net, "bob", "alice").outputs if o.is_htlc]
        await net.chain.wait_for_mempool(lambda chain: chain.is_spent(htlc.outpoint))
        await mine(net, 1)
        gained_sat = confirmed_sat(net, "bob") - before_sat
        assert gained_sat > (PUSH_MSAT + AMOUNT_MSAT + TOLL_MSAT) // 1000 - FEES_SAT
        # and to Alice the chain shows that she has paid
        assert net["alice"].switch.payments.rows[payment_hash].status is Status.COMPLETE


@bolt("b5-on-chain.1")
async def test_a_node_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        before_sat = confirmed_sat(net, "alice")
        delay = net.channel("alice", "bob").charter.terms.remote.to_self_delay_blocks
        await close_alone(net, "alice", "bob")
        await net.stop("alice")
        await mine(net, delay)
        await net.start("alice")
        await net.follow()
        await mine(net, 7)
        assert net.channel("alice", "bob").phase is Phase.CLOSED
        gained_sat = confirmed_sat(net, "alice") - before_sat
        assert 0 <= CAPACITY_SAT - PUSH_MSAT // 1000 - gained_sat <= FEES_SAT


@bolt("b5-on-chain.6")
async def test_a_peer_that_comes_back_with_an_old_database_loses_it_all(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        old = net.channel("alice", "bob")
        await net.pay("alice", "bob", AMOUNT_MSAT)
        await net.wait_for_quiet()
        before_sat = confirmed_sat(net, "bob")
        net["alice"].switch.channels[old.id] = old
        await close_alone(net, "alice", "bob")
        await mine(net, 2)
        assert 0 <= CAPACITY_SAT - (confirmed_sat(net, "bob") - before_sat) <= FEES_SAT


async def test_only_a_channel_that_is_there_can_be_closed_alone(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        with pytest.raises(ChannelError):
            await net["alice"].force_close(bytes(32))
        await close_alone(net, "alice", "bob")
        with pytest.raises(ChannelError):
            await net["bob"].force_close(net.ids["alice", "bob"])


@bolt("b5-on-chain.6", "commitment_signed-revoke_and_ack.5")
async def test_what_a_turn_has_just_settled_is_already_known_to_it(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        channel_id = net.ids["alice", "bob"]
        gone = Htlc(LOCAL, 7, Msat(1_000_000), bytes(32), 500, entered=3, left=5)

        def act(turn: Turn) -> list[list[Htlc]]:
            turn.take(Step(net.channel("alice", "bob"), (Save((gone,)),)))
            return [turn.past_htlcs(channel_id, number) for number in (2, 3, 4, 5)]

        assert await net["alice"].switch.ask(act) == [[], [gone], [gone], []]
        assert net["alice"].store.past_htlcs(channel_id, 4) == [gone]


@bolt("b5-on-chain.1")
async def test_a_close_that_a_reorganisation_undoes_is_made_again(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        before_sat = {name: confirmed_sat(net, name) for name in net.nodes}
        await close_alone(net, "alice", "bob")
        await mine(net, 1)
        for depth in (2, 6):
            await net.chain.reorganise(depth, confirm=[])
            await net.follow()
            await mine(net, 4)
        await mine(net, 150)
        await net.wait_for_closed()
        gained_sat = [confirmed_sat(net, name) - before_sat[name] for name in net.nodes]
        assert all(0 <= 5_000_000 - sat <= FEES_SAT for sat in gained_sat)
