"""Flow and real fidelity agree also where fees change, payees hold, and nodes and channels go."""

from random import Random

import pytest

from node.lab.flow.runs import run_scenario
from node.lab.scenario.model import (
    ChannelSpec,
    Close,
    Event,
    NodeSpec,
    Offline,
    Online,
    Pay,
    Policy,
    Scenario,
    SetPolicy,
)
from node.lab.scenario.reading import read_scenario
from tests.lab.agreement import assert_agree

# Bob and Carol are two ways from Alice to Diana, and each other's rivals
DIAMOND = """
[policy]
fee_base_msat = 100
fee_proportional_millionths = 500

[[node]]
name = "alice"
[[node]]
name = "bob"
BOB
[[node]]
name = "carol"
CAROL
[[node]]
name = "diana"

[[channel]]
nodes = ["alice", "bob"]
capacity_sat = 1_000_000
balance_sat = 950_000
[[channel]]
nodes = ["alice", "carol"]
capacity_sat = 1_000_000
balance_sat = 950_000
[[channel]]
nodes = ["bob", "diana"]
capacity_sat = 1_000_000
balance_sat = 900_000
policies = { bob = { fee_base_msat = 90 } }
[[channel]]
nodes = ["carol", "diana"]
capacity_sat = 1_000_000
balance_sat = 850_000
"""


def diamond(events: str, *, bob: str = "", carol: str = "", top: str = "") -> Scenario:
    return read_scenario(top + DIAMOND.replace("BOB", bob).replace("CAROL", carol) + events, "diamond")


def pays(*payments: tuple[float, str, str, int, str]) -> str:
    return "".join(
        f'[[event]]\ndo = "pay"\nat = {at}\npayer = "{a}"\npayee = "{b}"\namount_msat = {msat}\n{more}\n'
        for at, a, b, msat, more in payments
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bob", "carol"),
    [
        ('"liquidity", every_seconds = 1', '"learner", every_seconds = 2'),
        ('"undercut", every_seconds = 1', '"proportional", millionths = 300'),
        ('"base-only", base_msat = 20000', '"static", millionths = 350'),
        ('"inbound", every_seconds = 1', '"inbound", every_seconds = 1, millionths = 400, discount = 380'),
    ],
)
def test_both_agree_while_policies_change_what_nodes_ask(bob: str, carol: str) -> None:
    bob, carol = (f"fees = {{ policy = {each} }}" for each in (bob, carol))
    traffic = '[[traffic]]\nmodel = "merchants"\nmerchants = ["diana"]\nconsumers = ["alice"]\n'
    traffic += "amount_msat = 60_000_000\nspread = 0.8\n"
    back = pays((7, "diana", "alice", 300_000_000, ""), (11, "diana", "alice", 200_000_000, ""))
    report = assert_agree(diamond(back + traffic, bob=bob, carol=carol, top="seconds = 14\n"))
    per_million = {p.fee_msat * 1_000_000 // p.amount_msat for p in report.payments if p.is_paid}
    assert len(per_million) > 2
    assert report.earned_msat["bob"]
    assert report.earned_msat["carol"]


@pytest.mark.slow
def test_both_agree_while_payees_hold_what_others_need() -> None:
    events = pays(
        (1, "alice", "diana", 880_000_000, "hold_seconds = 5"),  # fills the way over Bob
        (2, "alice", "diana", 830_000_000, "hold_seconds = 60\ncancel = true"),  # and that over Carol
        (3, "alice", "diana", 50_000_000, ""),  # nobody has that much left
        (4, "alice", "diana", 1_000_000, ""),
        (6, "alice", "diana", 50_000_000, ""),  # Bob's is settled, and drained
        (62, "alice", "diana", 50_000_000, ""),  # Carol's is given back in the same moment
        (63, "alice", "diana", 10_000_000, "cancel = true"),
    )
    report = assert_agree(diamond(events))
    assert [each.is_paid for each in report.payments] == [True, False, False, True, False, True, False]
    assert report.payments[0].done_us == 6_000_000
    assert report.payments[1].done_us == 62_000_000


@pytest.mark.slow
def test_both_agree_when_a_channel_closes_under_a_payment_that_is_held() -> None:
    events = pays(
        (1, "alice", "diana", 200_000_000, "hold_seconds = 4"),
        (3, "alice", "diana", 100_000_000, ""),  # over Carol: the other takes nothing new
        (4, "alice", "bob", 100_000_000, ""),
        (6, "diana", "bob", 100_000_000, ""),  # round by Carol and Alice
    )
    events += '[[event]]\ndo = "close"\nat = 2\nnodes = ["diana", "bob"]\n'
    report = assert_agree(diamond(events))
    assert all(each.is_paid for each in report.payments)
    assert [each.hops for each in report.payments] == [2, 2, 1, 3]
    assert report.balances_msat[2] == (700_000_000, 300_000_000)


@pytest.mark.slow
def test_both_agree_when_somebody_goes_with_a_payment_in_hand() -> None:
    events = pays(
        (1, "alice", "diana", 100_000_000, "hold_seconds = 2"),  # over Bob, who is away when it is settled
        (4, "alice", "diana", 100_000_000, "hold_seconds = 2"),  # over Carol, who never comes back
        (8, "alice", "diana", 70_000_000, "hold_seconds = 3"),  # and here the payer itself goes
        (9.5, "alice", "diana", 1_000_000, ""),
    )
    for at, do, name in (
        (2, "offline", "bob"),
        (5, "offline", "carol"),
        (7, "online", "bob"),
        (9, "offline", "alice"),
        (12, "online", "alice"),
    ):
        events += f'[[event]]\ndo = "{do}"\nat = {at}\nnode = "{name}"\n'
    report = assert_agree(diamond(events))
    assert [each.is_paid for each in report.payments] == [True, False, True, False]
    assert report.payments[1].why == "still under way"


# of two ways that cost the same either may be taken, so no two nodes have the same policy
FEES = (
    {"policy": "liquidity", "every_seconds": 1, "low": 10, "high": 3000},
    {"policy": "learner", "every_seconds": 2},
    {"policy": "undercut", "every_seconds": 1.5},
    {"policy": "inbound", "every_seconds": 1, "base_msat": 77, "discount": 280},
    None,
    None,
)


def by_chance(seed: int) -> Scenario:
    """A scenario in which much happens, at times that often coincide."""
    random = Random(seed)
    names = ["ann", "ben", "cleo", "dan", "eva"][: random.randint(3, 5)]
    fees = random.sample(FEES, len(names))
    nodes = tuple([NodeSpec(name, fees=each) for name, each in zip(names, fees, strict=True)])
    ends = list(zip(names, names[1:] + names[:1], strict=True))
    channels = tuple([a_channel(pair, random) for pair in ends])
    events: list[Event] = [a_payment(names, random) for _ in range(14)]
    gone, closed, dear = random.choice(names), random.choice(ends), random.choice(names)
    events += Offline(3.0, gone), Online(5.5, gone), Close(random.randint(4, 9), closed)
    events += (SetPolicy(6.0, dear, Policy(fee_base_msat=3000)),)
    return Scenario(seed=seed, node=nodes, channel=channels, event=tuple(events))


def a_channel(pair: tuple[str, str], random: Random) -> ChannelSpec:
    capacity_sat = random.choice((200_000, 1_000_000))
    # nobody asks the same as another: of two ways that cost the same either may be taken
    terms = {name: Policy(random.randrange(2000), random.randrange(1000)) for name in pair}
    return ChannelSpec(pair, capacity_sat, random.randint(capacity_sat // 10, capacity_sat), terms)


def a_payment(names: list[str], random: Random) -> Pay:
    payer, payee = random.sample(names, 2)
    at, hold_seconds = random.randint(0, 10), random.choice((0, 0, 1, 4))
    amount_msat = random.choice((1000, 200_000, 50_000_000, random.randint(1, 600_000_000)))
    return Pay(at, payer, payee, amount_msat, hold_seconds, cancel=random.random() < 0.2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 37, 42, 56])
def test_both_agree_whatever_happens(seed: int) -> None:
    report = assert_agree(by_chance(seed))
    assert sum(each.is_paid for each in report.payments) > 0


def test_a_hold_that_nobody_can_end_is_said_to_be_under_way() -> None:
    events = pays((1, "alice", "diana", 100_000_000, "hold_seconds = 100_000"))
    [payment] = run_scenario(diamond(events)).payments
    assert payment.is_paid
    away = '[[event]]\ndo = "offline"\nat = 2\nnode = "diana"\n'
    [payment] = run_scenario(diamond(events + away)).payments
    assert (payment.is_paid, payment.why) == (False, "still under way")
