"""Flow fidelity by itself: slots, holds, time locks, discounts, and what plug-ins see and do."""

from collections.abc import Callable
from random import Random

import pytest

from htlc.relay import Toll
from node.lab.fees.model import FeePolicy, View
from node.lab.flow.engine import SECOND_US, Engine, Outcome, Wish
from node.lab.flow.network import FlowChannel, FlowNetwork
from node.lab.flow.routing import ExactRouter
from node.lab.flow.runs import chance, run_scenario
from node.lab.plugins import FEES, TRAFFIC, BadPlugin, names_of, plugin
from node.lab.scenario.model import ChannelSpec, NodeSpec, Scenario
from node.lab.traffic.model import Town, TrafficModel, UnknownPerson
from wire.discount import Discount
from wire.units import Msat, Sat

TOLL = Toll(Msat(1000), 100)
CAPACITY_SAT = Sat(1_000_000)
HALF_MSAT = Msat(500_000_000)
AMOUNT_MSAT = 10_000_000


def line(count: int, *, slots: int = 483, toll: Toll = TOLL) -> Engine:
    """Nodes 0, 1, … in a line."""
    channels = [FlowChannel((at, at + 1), CAPACITY_SAT, HALF_MSAT, (toll, toll)) for at in range(count - 1)]
    network = FlowNetwork([f"n{at}" for at in range(count)], channels, slots)
    return Engine(network, ExactRouter(network))


def test_an_htlc_moves_hop_by_hop_and_its_outcome_back() -> None:
    engine = line(3)
    engine.wish(Wish(0, 0, 2, AMOUNT_MSAT, hold_us=5 * SECOND_US))
    engine.run(3 * SECOND_US)
    assert engine.network.pending == [1, 0, 1, 0]
    assert engine.network.in_flight_msat == [10_002_000, 0, 10_000_000, 0]
    assert engine.outcomes == []
    engine.run()
    [outcome] = engine.outcomes
    assert outcome.is_paid
    assert outcome.fee_msat == 2000
    assert outcome.done_us == 5 * SECOND_US + 3 * engine.pace.hop_us
    assert engine.network.earned_msat == [0, 2000, 0]
    assert engine.network.balance_msat == [489_998_000, 510_002_000, 490_000_000, 510_000_000]
    engine.network.check_conserved()


def test_slots_that_are_held_refuse_everybody_else() -> None:
    engine = line(3, slots=2)
    for _ in range(2):
        engine.wish(Wish(0, 0, 2, AMOUNT_MSAT, hold_us=100 * SECOND_US))
    engine.wish(Wish(SECOND_US, 0, 2, AMOUNT_MSAT))
    engine.wish(Wish(200 * SECOND_US, 0, 2, AMOUNT_MSAT))
    engine.run()
    assert [(o.number, o.is_paid) for o in engine.outcomes] == [(2, False), (0, True), (1, True), (3, True)]


def test_one_that_means_harm_takes_a_slot_and_gives_everything_back() -> None:
    engine = line(3, slots=1)
    before = list(engine.network.balance_msat)
    engine.send([0, 2], AMOUNT_MSAT, 50 * SECOND_US, is_griefing=True)
    engine.wish(Wish(SECOND_US, 0, 2, AMOUNT_MSAT))
    engine.run()
    assert [outcome.is_paid for outcome in engine.outcomes] == [False]
    assert engine.network.balance_msat == before
    assert engine.network.earned_msat == [0, 0, 0]


def test_what_is_in_the_channel_is_not_all_that_can_be_sent() -> None:
    """One percent is reserved, and the opener keeps the commitment's fee; as with real channels."""
    network = line(2).network
    assert network.room_msat(1) == 490_000_000
    assert network.room_msat(0) < 490_000_000
    network.lock(1, 400_000_000)
    assert network.room_msat(1) == 90_000_000


def test_a_time_lock_too_far_ahead_is_refused() -> None:
    engine = line(4, toll=Toll(Msat(0), 0, cltv_expiry_delta=1010))
    engine.wish(Wish(0, 0, 3, AMOUNT_MSAT))
    engine.wish(Wish(0, 0, 2, AMOUNT_MSAT))
    engine.run()
    assert [outcome.is_paid for outcome in engine.outcomes] == [False, True]


def test_a_discount_is_given_to_who_comes_in_over_that_channel() -> None:
    engine = line(3)
    engine.network.inbound[0] = Discount(millionths=50)
    engine.network.inbound[2 ^ 1] = Discount(millionths=5000)
    engine.wish(Wish(0, 0, 2, AMOUNT_MSAT))
    engine.wish(Wish(9 * SECOND_US, 2, 0, AMOUNT_MSAT))
    engine.run()
    assert [outcome.fee_msat for outcome in engine.outcomes] == [2000 - 500, 0]


def test_a_payment_that_fails_avoids_what_failed() -> None:
    ends = [(0, 1), (1, 3), (0, 2), (2, 3)]
    balances = [HALF_MSAT, Msat(1_000_000), HALF_MSAT, HALF_MSAT]
    dear = Toll(Msat(5000), 100)
    tolls = [TOLL, TOLL, dear, dear]
    channels = [
        FlowChannel(end, CAPACITY_SAT, balance, (toll, toll))
        for end, balance, toll in zip(ends, balances, tolls, strict=True)
    ]
    network = FlowNetwork("abcd", channels)
    engine = Engine(network, ExactRouter(network))
    engine.wish(Wish(0, 0, 3, AMOUNT_MSAT))
    engine.run()
    [outcome] = engine.outcomes
    assert (outcome.is_paid, outcome.attempts, outcome.fee_msat) == (True, 2, 6000)


# --- plug-ins


def wishes(name: str, count: int, **options: object) -> list[Wish]:
    """The first payments of a model among ten nodes in a ring, where node 0 has most."""
    ring = [
        FlowChannel((at, (at + 1) % 10), Sat(10_000_000 if at in (0, 9) else 100_000), Msat(0), (TOLL, TOLL))
        for at in range(10)
    ]
    town = Town(FlowNetwork([f"n{at}" for at in range(10)], ring))
    stream = plugin(TRAFFIC, name, options, TrafficModel).wishes(town, chance(7, name))
    return [next(stream) for _ in range(count)]


@pytest.mark.parametrize("name", names_of(TRAFFIC))
def test_every_traffic_model_goes_on_in_order_of_time(name: str) -> None:
    made = wishes(name, 500)
    assert [wish.at_us for wish in made] == sorted(wish.at_us for wish in made)
    assert all(wish.payer != wish.payee and wish.amount_msat > 0 for wish in made)
    assert made == wishes(name, 500)


def test_models_choose_as_they_say() -> None:
    def share_of_first(made: list[Wish]) -> float:
        return sum(wish.payer == 0 for wish in made) / len(made)

    assert share_of_first(wishes("uniform", 1000)) == pytest.approx(0.1, abs=0.05)
    assert share_of_first(wishes("by-capacity", 1000)) > 0.3
    assert {wish.payee for wish in wishes("merchants", 100, merchants=["n3", "n4"])} == {3, 4}
    viewers = wishes("streaming", 40, providers=["n0"], viewers=["n5", "n6"], chunk_seconds=3)
    assert {wish.payer for wish in viewers} == {5, 6}
    assert viewers[2].at_us - viewers[0].at_us == 3 * SECOND_US
    assert len({(wish.payer, wish.payee) for wish in wishes("circular", 500)}) == 10
    assert len({wish.amount_msat for wish in wishes("uniform", 50, spread=1)}) > 40


def a_view(**options: object) -> View:
    usual: dict[str, object] = {
        "toll": TOLL,
        "first_toll": TOLL,
        "capacity_msat": 1_000_000,
        "balance_msat": 500_000,
        "earned_msat": 0,
        "passed": 0,
        "rivals": [],
        "memory": {},
        "random": Random(1),
    }
    return View(**{**usual, **options})  # type: ignore[arg-type]


def millionths(policy: FeePolicy, **options: object) -> int:
    return policy.ask(a_view(**options)).toll.fee_proportional_millionths


@pytest.mark.parametrize("name", names_of(FEES))
def test_every_fee_policy_asks_something(name: str) -> None:
    asked = plugin(FEES, name, {}, FeePolicy).ask(a_view())
    assert asked.toll.fee_base_msat >= 0
    assert asked.toll.cltv_expiry_delta == TOLL.cltv_expiry_delta


def test_policies_do_what_their_names_say() -> None:
    made: Callable[..., FeePolicy] = lambda name, **options: plugin(FEES, name, options, FeePolicy)  # noqa: E731
    liquidity = made("liquidity", low=10, high=1010)
    assert millionths(liquidity, balance_msat=1_000_000) == 10
    assert millionths(liquidity, balance_msat=0) == 1010
    rivals = [Toll(Msat(0), 300), Toll(Msat(0), 80)]
    assert millionths(made("undercut", step=5), rivals=rivals) == 75
    assert millionths(made("undercut", least=90), rivals=rivals) == 90
    discount = made("inbound").ask(a_view(balance_msat=0)).inbound
    assert discount is not None
    assert discount.millionths == 250


def test_the_learner_turns_when_it_earned_less() -> None:
    learner = plugin(FEES, "learner", {"start": 100, "factor": 2}, FeePolicy)
    memory: dict[str, object] = {}
    asked = [
        learner.ask(a_view(earned_msat=earned, memory=memory)).toll.fee_proportional_millionths
        for earned in (0, 500, 900, 100)
    ]
    first, *rest = asked
    assert first == 100
    way = rest[0] / first
    assert way in (0.5, 2)
    assert rest == [round(100 * way), round(100 * way**2), round(100 * way)]


def test_a_governed_node_changes_what_it_asks_while_money_moves() -> None:
    channels = (ChannelSpec(("ann", "hub")), ChannelSpec(("hub", "ben")))
    fees = {"policy": "liquidity", "every_seconds": 10}
    traffic = {"model": "merchants", "merchants": ["ben"], "consumers": ["ann"], "amount_msat": 90_000_000}
    scenario = Scenario(
        node=(NodeSpec("ann"), NodeSpec("hub", fees=fees), NodeSpec("ben")),
        channel=channels,
        seconds=60.0,
        traffic=(traffic,),
    )
    report = run_scenario(scenario)
    paid: list[Outcome] = [payment for payment in report.payments if payment.is_paid]
    assert paid[-1].fee_msat > 2 * paid[0].fee_msat


def test_plug_ins_that_are_not_there_or_take_no_such_option_are_named() -> None:
    with pytest.raises(BadPlugin, match=r"no fee policy 'greed': there are .*learner"):
        plugin(FEES, "greed", {}, FeePolicy)
    with pytest.raises(BadPlugin, match=r"static has no option 'zeal': it has .*millionths"):
        plugin(FEES, "static", {"zeal": 3}, FeePolicy)
    with pytest.raises(BadPlugin, match="uniform: per_second: expected `float` > 0"):
        plugin(TRAFFIC, "uniform", {"per_second": 0}, TrafficModel)
    with pytest.raises(UnknownPerson, match="traffic names zoe"):
        wishes("merchants", 1, merchants=["zoe"])
