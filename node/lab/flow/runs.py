"""A scenario at flow fidelity, from the first event to the last."""

from collections.abc import Iterator
from heapq import merge
from itertools import takewhile
from random import Random

import msgspec

from node.lab.fees.model import FeePolicy
from node.lab.flow.engine import AT_ONCE, BEGINNING, HAPPENING, SECOND_US, Engine, Outcome, Pace, Wish
from node.lab.flow.governors import Governor
from node.lab.flow.network import FlowNetwork, network_of
from node.lab.flow.payers import START_SECONDS, PayersRouter
from node.lab.plugins import FEES, TRAFFIC, plugin
from node.lab.scenario.model import (
    Close,
    Event,
    Misfit,
    NodeSpec,
    Offline,
    Online,
    Pay,
    Scenario,
    SetPolicy,
)
from node.lab.traffic.model import ImpossibleTraffic, Town, TrafficModel

PATIENCE_SECONDS = 120.0


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
        BadPlugin, Misfit: the traffic is none that this network can have.
    """
    town, end_us = Town(network), round(scenario.seconds * SECOND_US)
    streams = []
    for number, table in enumerate(scenario.traffic):
        options = {name: value for name, value in table.items() if name != "model"}
        model = plugin(TRAFFIC, table["model"], options, TrafficModel)
        wishes = model.wishes(town, chance(scenario.seed, "traffic", number))
        streams.append(_placed(wishes, ("traffic", number)))
    return takewhile(lambda wish: wish.at_us <= end_us, merge(*streams))


def _placed(wishes: Iterator[Wish], place: tuple[str | int, ...]) -> Iterator[Wish]:
    """The wishes; what is wrong with them is said with the place in the scenario that they come from."""
    try:
        yield from wishes
    except ImpossibleTraffic as wrong:
        raise Misfit(place, str(wrong)) from None


def run_scenario(scenario: Scenario, pace: Pace = AT_ONCE) -> Report:
    """Run it; the same scenario gives the same report.

    Raises:
        BadPlugin, Misfit: it names what there is not.
    """
    network = network_of(scenario)
    router = PayersRouter(network, lambda: START_SECONDS + engine.now_us / SECOND_US)
    engine = Engine(network, router, pace)
    engine.memory = router
    govern(engine, scenario)
    for event in scenario.event:
        engine.at(round(event.at * SECOND_US), _happen, engine, event, rank=HAPPENING)
    feed(engine, wishes_of(scenario, network))
    engine.run_out(last_us(scenario), end_us(scenario))
    network.check_conserved()
    return report_of(engine)


def last_us(scenario: Scenario) -> int:
    """When the last thing that the scenario names begins."""
    return round(max([scenario.seconds, *(event.at for event in scenario.event)]) * SECOND_US)


def end_us(scenario: Scenario) -> int:
    """When everything that can end has ended: what is under way then waits for somebody who is away."""
    holds = [event.hold_seconds for event in scenario.event if isinstance(event, Pay)]
    return last_us(scenario) + round((PATIENCE_SECONDS + max(holds, default=0.0)) * SECOND_US)


def wish_of(event: Pay, network: FlowNetwork) -> Wish:
    """The payment of an event."""
    return Wish(
        round(event.at * SECOND_US),
        network.place[event.payer],
        network.place[event.payee],
        event.amount_msat,
        round(event.hold_seconds * SECOND_US),
        is_refused=event.cancel,
    )


def policy_of(scenario: Scenario, node: NodeSpec) -> tuple[FeePolicy, Random] | None:
    """The plug-in that sets a node's fees, if one does, and its chance.

    Raises:
        BadPlugin: there is none of that name, or not with these options.
    """
    if node.fees is None:
        return None
    options = {name: value for name, value in node.fees.items() if name != "policy"}
    policy = plugin(FEES, str(node.fees.get("policy", "")), options, FeePolicy)
    return policy, chance(scenario.seed, "fees", node.name)


def govern(engine: Engine, scenario: Scenario) -> None:
    """Put the scenario's fee policies to work."""
    for node in scenario.node:
        governed = policy_of(scenario, node)
        if governed is not None:
            Governor(engine, engine.network.place[node.name], *governed)


def feed(engine: Engine, wishes: Iterator[Wish]) -> None:
    """Give the engine one payment after another, each when the one before it begins."""

    def begin(wish: Wish) -> None:
        feed(engine, wishes)
        engine.pay(wish)

    following = next(wishes, None)
    if following is not None:
        engine.at(following.at_us, begin, following, rank=BEGINNING)


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
            engine.pay(wish_of(event, network))
        case SetPolicy():
            for direction in network.out[network.place[event.node]]:
                peer = network.names[network.target[direction]]
                if event.peer in (None, peer):
                    network.tolls[direction] = event.policy.over(network.tolls[direction])
                    engine.changed(direction)
        case Offline() | Online():
            engine.set_online(network.place[event.node], isinstance(event, Online))
        case Close():
            for channel in channels_between(network, event):
                engine.close(channel)


def channels_between(network: FlowNetwork, event: Close) -> list[int]:
    """The numbers of the channels that an event closes."""
    ends = {network.place[name] for name in event.nodes}
    return [number for number, pair in enumerate(network.ends) if set(pair) == ends]
