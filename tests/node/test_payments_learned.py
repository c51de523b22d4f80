"""What a payment learns of channels helps the next, steers it only, and fades (BOLT 4, failures)."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from gossip.beliefs import HALF_LIFE_SECONDS
from gossip.graph import directed
from htlc.relay import Toll
from node.daemon.paying import PaymentFailed
from node.daemon.payments import AttemptRow, Status
from node.daemon.planning import MOST_CHANNELS_BY_HAND
from tests.bolt import bolt
from tests.gossip.lines import a_policy, connect
from tests.node.line import ANNOUNCED_BLOCKS, CAPACITY_SAT, FEES_SAT, Network, line, network
from tests.node.payments import attempts, failure_of, set_toll, settle
from tests.node.test_payments_in_parts import diamond
from wire.units import Msat, Sat


@pytest.fixture(params=["by hand", "on a chart"])
def both_searches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a small network, and as in a large one."""
    if request.param == "on a chart":
        monkeypatch.setattr("node.daemon.planning.MOST_CHANNELS_BY_HAND", 0)
        monkeypatch.setattr("node.daemon.planning._PATIENCE", 0)


on_both = pytest.mark.usefixtures("both_searches")

DRAINED, AMOUNT = 4_500_000_000, 1_000_000_000


async def drained_diamond(net: Network) -> None:
    """Two ways from Alice to Diana; the cheaper, over Bob, has little left."""
    await diamond(net)
    await net.pay("bob", "diana", DRAINED)
    await net.wait_for_quiet()


@on_both
async def test_what_one_payment_learned_spares_the_next_its_attempt(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        await drained_diamond(net)
        first = await net.pay("alice", "diana", AMOUNT)
        assert first.attempts == 2
        second = await net.pay("alice", "diana", AMOUNT - 1_000_000)
        assert (second.attempts, second.route[0]) == (1, net["carol"].node_id)
        # a small one still takes the cheaper way
        third = await net.pay("alice", "diana", 100_000)
        assert (third.attempts, third.route[0]) == (1, net["bob"].node_id)
        await settle(net)


async def test_what_was_learned_fades(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        await drained_diamond(net)
        await net.pay("alice", "diana", AMOUNT)
        await net.wait_for_quiet()
        net.clock.seconds += 20 * HALF_LIFE_SECONDS
        again = await net.pay("alice", "diana", AMOUNT)
        assert again.attempts == 2
        await settle(net)


@on_both
async def test_what_is_believed_only_steers(tmp_path: Path) -> None:
    """Money has come back to Bob meanwhile, of which Alice cannot know."""
    async with line(tmp_path, "alice bob carol") as net:
        await net.pay("bob", "carol", DRAINED)
        await failure_of(net, "alice", "carol", AMOUNT)
        with pytest.raises(PaymentFailed) as failed:
            await net.pay("alice", "carol", AMOUNT)
        # tried once more, since nothing else is left to try, and no oftener
        assert failed.value.attempts == 1
        await net.pay("carol", "bob", DRAINED)
        assert (await net.pay("alice", "carol", AMOUNT)).attempts == 1
        await settle(net)


@bolt("failures.2")
async def test_only_a_want_of_balance_is_remembered(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        await diamond(net)
        set_toll(net, "bob", "diana", Toll(fee_base_msat=Msat(4000)))
        for _ in range(2):
            # each payment finds out for itself what Bob asks of it
            payment = await net.pay("alice", "diana", AMOUNT)
            assert payment.attempts == 2
            await net.wait_for_quiet()
        number = over(net, "bob", "diana")
        assert net["alice"].payer.beliefs.bounds(number, CAPACITY_SAT * 1000, net.clock())[0] == 0
        await settle(net)


async def test_what_was_paid_has_moved(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        beliefs, number = net["alice"].payer.beliefs, over(net, "bob", "carol")
        await net.pay("alice", "carol", AMOUNT)
        await net.wait_for_quiet()
        assert beliefs.bounds(number, CAPACITY_SAT * 1000, net.clock()) == (0, CAPACITY_SAT * 1000 - AMOUNT)
        assert len(beliefs) == 1


def over(net: Network, a: str, b: str) -> int:
    """The number of their channel, from `a` on."""
    return directed(net.short_channel_id(a, b), int(net[a].node_id > net[b].node_id))


# --- parts of any size

MIDDLES = {"bob": 1_500_000, "carol": 4_000_000, "diana": 9_000_000}


async def unequal(net: Network) -> None:
    """Alice and Eric, joined over three others by channels of three sizes."""
    await net.start("alice", "eric", *MIDDLES)
    pairs = {pair: size for name, size in MIDDLES.items() for pair in (("alice", name), (name, "eric"))}
    await net.fund([(opener, capacity_sat + FEES_SAT) for (opener, _), capacity_sat in pairs.items()])
    for (opener, other), capacity_sat in pairs.items():
        await net.connect(opener, other)
        await net.open(opener, other, capacity_sat=Sat(capacity_sat), push_msat=Msat(0))
    await net.mine(ANNOUNCED_BLOCKS)
    await net.wait_for_usable()
    await net.wait_for_gossip()


def tries(rows: list[AttemptRow]) -> Counter[tuple[tuple[int, ...], int]]:
    """How often each amount was tried over each way."""
    return Counter((row.short_channel_ids, row.delivered_msat) for row in rows)


@on_both
async def test_three_unequal_channels_get_one_part_each(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        await unequal(net)
        amount_msat = sum(net["alice"].payer.spendable().values()) * 97 // 100
        payment = await net.pay("alice", "eric", amount_msat, may_split=True)
        # halves of halves would have been six
        rows = [row for row in attempts(net["alice"]) if row.status is Status.COMPLETE]
        assert sum(row.delivered_msat for row in rows) == amount_msat == payment.amount_msat
        sizes = {row.nodes[0]: row.delivered_msat for row in rows}
        assert payment.parts == len(rows) == len({*sizes.values()}) == 3
        assert max(tries(attempts(net["alice"])).values()) == 1
        await settle(net)


@on_both
async def test_parts_learn_from_one_another_and_never_try_the_same_twice(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        await unequal(net)
        # nobody tells Alice that Diana has less to pass on than her channel holds
        await net.pay("diana", "eric", 5_000_000_000)
        await net.wait_for_quiet()
        amount_msat = 7_000_000_000
        payment = await net.pay("alice", "eric", amount_msat, may_split=True)
        rows = attempts(net["alice"])
        assert any(row.status is Status.FAILED for row in rows)
        assert sum(row.delivered_msat for row in rows if row.status is Status.COMPLETE) == amount_msat
        assert payment.attempts == len(rows)
        assert max(tries(rows).values()) == 1
        await net.pay("eric", "alice", 6_500_000_000, may_split=True)
        await net.wait_for_quiet()
        before = len(attempts(net["alice"]))
        again = await net.pay("alice", "eric", 5_000_000_000, may_split=True)
        assert again.attempts == len(attempts(net["alice"])) - before < payment.attempts
        await settle(net)


async def test_a_large_network_is_no_hindrance_nor_that_it_changes(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        await unequal(net)
        graph = net["alice"].graph
        for number in range(MOST_CHANNELS_BY_HAND):
            connect(graph, 1000 + number, 100 + number, 101 + number, a_policy())
        for step in range(2):
            before = len(attempts(net["alice"]))
            amount_msat = sum(net["alice"].payer.spendable().values()) * 60 // 100
            payment = await net.pay("alice", "eric", amount_msat, may_split=True)
            assert payment.parts == payment.attempts == len(attempts(net["alice"])) - before > 1
            # the largest channel is not to be had any more, as gossip tells
            scid = net.short_channel_id("diana", "eric")
            for direction in (0, 1):
                policy = graph.policy(scid, direction)
                assert policy is not None
                graph.apply_policy(scid, direction, msgspec.structs.replace(policy, is_disabled=True))
            graph.remove_channel(1000 + step)
            await settle(net)
        with pytest.raises(PaymentFailed, match="our channels can send") as failed:
            await net.pay("alice", "eric", 4_500_000_000, may_split=True)
        assert failed.value.attempts == 0
