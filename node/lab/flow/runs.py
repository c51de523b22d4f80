"""A scenario at flow fidelity, from the first event to the last."""

from collections.abc import Iterator
from heapq import merge
from itertools import takewhile
from random import Random

import msgspec

from node.lab.fees.model import FeePolicy
from node.lab.flow.engine import SECOND_US, USUAL_PACE, Engine, Outcome, Pace, Wish
from node.lab.flow.governors import Governor
from node.lab.flow.network import FlowNetwork, network_of
from node.lab.flow.routing import ExactRouter
from node.lab.plugins import FEES, TRAFFIC, plugin
from node.lab.scenario.model import Event, Offline, Online, Pay, Scenario, SetPolicy
from node.lab.traffic.model import Town, TrafficModel


class Report(msgspec.Struct, frozen=True):
    """What came of a scenario, at whichever fidelity it was run."""

    payments: tuple[Outcome, ...]
    earned_msat: dict[str, int]
    balances_msat: tuple[tuple[int, int], ...]  # of every channel, in the scenario's order
    trace_hash: str = ""


def chance(seed: int, *purpose: object) -> Random:
    """Another source of chance for every purpose, from one seed."""
    return Random("/".join(map(str, (seed, *purpose))))


def wishes_of(scenario: Scenario, network: FlowNetwork) -> Iterator[Wish]:
    """All payments that the scenario's traffic asks for, in order of time.

    Raises:
        BadPlugin, UnknownPerson: the traffic is none that this network can have.
    """
    town, end_us = Town(network), round(scenario.seconds * SECOND_US)
    streams = []
    for number, table in enumerate(scenario.traffic):
        options = {name: value for name, value in table.items() if name != "model"}
        model = plugin(TRAFFIC, table["model"], options, TrafficModel)
        streams.append(model.wishes(town, chance(scenario.seed, "traffic", number)))
    return takewhile(lambda wish: wish.at_us <= end_us, merge(*streams))


def run_scenario(scenario: Scenario, pace: Pace = USUAL_PACE) -> Report:
    """Run it; the same scenario gives the same report.

    Raises:
        BadPlugin, UnknownPerson: it names what there is not.
    """
    network = network_of(scenario)
    engine = Engine(network, ExactRouter(network), pace)
    govern(engine, scenario)
    for event in scenario.event:
        engine.at(round(event.at * SECOND_US), _happen, engine, event)
    feed(engine, wishes_of(scenario, network))
    engine.run(last_us(scenario))
    # policies look again and again, so what is still under way is given an end
    engine.run(engine.now_us + 3600 * SECOND_US)
    network.check_conserved()
    return report_of(engine)


def last_us(scenario: Scenario) -> int:
    """When the last thing that the scenario names begins."""
    return round(max([scenario.seconds, *(event.at for event in scenario.event)]) * SECOND_US)


def govern(engine: Engine, scenario: Scenario) -> None:
    """Put the scenario's fee policies to work."""
    for node in scenario.node:
        if node.fees is not None:
            options = {name: value for name, value in node.fees.items() if name != "policy"}
            policy = plugin(FEES, str(node.fees.get("policy", "")), options, FeePolicy)
            random = chance(scenario.seed, "fees", node.name)
            Governor(engine, engine.network.place[node.name], policy, random)


def feed(engine: Engine, wishes: Iterator[Wish]) -> None:
    """Give the engine one payment after another, each when the one before it begins."""

    def begin(wish: Wish) -> None:
        feed(engine, wishes)
        engine.pay(wish)

    following = next(wishes, None)
    if following is not None:
        engine.at(following.at_us, begin, following)


def report_of(engine: Engine) -> Report:
    """What has come of it so far."""
    network = engine.network
    balance = network.balance_msat
    return Report(
        payments=tuple(sorted(engine.outcomes, key=lambda outcome: outcome.number)),
        earned_msat=dict(zip(network.names, network.earned_msat, strict=True)),
        balances_msat=tuple([(balance[2 * at], balance[2 * at + 1]) for at in range(len(network.ends))]),
        trace_hash=engine.trace_hash,
    )


def _happen(engine: Engine, event: Event) -> None:
    network = engine.network
    match event:
        case Pay():
            payer, payee = network.place[event.payer], network.place[event.payee]
            hold_us = round(event.hold_seconds * SECOND_US)
            engine.pay(Wish(engine.now_us, payer, payee, event.amount_msat, hold_us))
        case SetPolicy():
            for direction in network.out[network.place[event.node]]:
                peer = network.names[network.target[direction]]
                if event.peer in (None, peer):
                    network.tolls[direction] = event.policy.over(network.tolls[direction])
                    engine.changed(direction)
        case Offline() | Online():
            engine.set_online(network.place[event.node], isinstance(event, Online))
