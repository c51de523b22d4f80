"""A scenario at real fidelity: every byte of the protocol, on nodes in this process, in virtual time.

The clock stands while any node has something to do, and jumps to the next event when none has: a
scenario of hours takes as long as its payments take to compute. Sockets are the system's own, which
does not tell when a byte is on its way, so the clock waits a moment of real time before it jumps. So a
message, a signature and a block take no time, and neither does gossip: a new fee is known to everybody
before anything else happens, as at flow fidelity.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeAlias

import trio
from trio.testing import MockClock

from htlc.channel import Phase
from node.daemon.node import Node
from node.lab.fees.advice import Adviser
from node.lab.flow.engine import BEGINNING, HAPPENING, LOOKING, SECOND_US, Wish
from node.lab.flow.network import FlowNetwork, network_of
from node.lab.flow.payers import START_SECONDS
from node.lab.flow.runs import Report, channels_between, end_us, last_us, policy_of, wish_of, wishes_of
from node.lab.real.agenda import TICK_SECONDS, Agenda
from node.lab.real.payments import Desk, Release
from node.lab.real.steward import Steward
from node.lab.scenario.model import Close, Event, Offline, Online, Pay, Scenario, SetPolicy
from node.lab.testnet.fleet import Fleet
from node.lab.testnet.grounds import embedded_ground
from node.lab.testnet.members import NodeHere
from node.lab.testnet.place import Place, Setup

IDLE_SECONDS = 0.03


class Look(NamedTuple):
    """A node asks its fee policy."""

    steward: Steward


Item: TypeAlias = Event | Wish | Look | Release


def run_real(scenario: Scenario) -> Report:
    """Run it on real nodes.

    Raises:
        BadPlugin, Misfit: it names what there is not.
    """
    for node in scenario.node:
        policy_of(scenario, node)
    try:
        return trio.run(_run, scenario, clock=MockClock(autojump_threshold=IDLE_SECONDS))
    except ExceptionGroup as group:
        raise _first(group) from None


def _first(group: ExceptionGroup[Exception]) -> Exception:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first


async def _run(scenario: Scenario) -> Report:
    with TemporaryDirectory(prefix="rill-real-") as folder:
        place = Place(Path(folder) / "net")
        place.make(scenario, Setup())
        async with embedded_ground(place.chain_directory) as ground, trio.open_nursery() as nursery:
            nodes = {
                name: NodeHere(name, place.node_directory(name), ground.chain(), scenario.seed, 0, _now)
                for name in scenario.names
            }
            fleet = Fleet(place, scenario, ground, dict(nodes))
            await fleet.raise_all(nursery, lambda _: None)
            stage = Stage(scenario, fleet, nodes, nursery)
            await stage.play()
            report = stage.report()
            nursery.cancel_scope.cancel()
    return report


def _now() -> float:
    """What the nodes' clocks show: virtual time, too."""
    return START_SECONDS + trio.current_time()


class Stage:
    """The nodes, and what is to happen on them."""

    def __init__(
        self, scenario: Scenario, fleet: Fleet, nodes: dict[str, NodeHere], nursery: trio.Nursery
    ) -> None:
        self._scenario, self._fleet, self._nodes, self._nursery = scenario, fleet, nodes, nursery
        self._model: FlowNetwork = network_of(scenario)  # traffic is drawn from the same town
        self._channel_ids = [bytes.fromhex(each) for each in fleet.place.setup().channel_ids]
        self._agenda: Agenda[Item] = Agenda()
        self._desk = Desk(self._agenda, [nodes[name] for name in scenario.names])
        self._wishes = wishes_of(scenario, self._model)
        self._last_us, self._end_us = last_us(scenario), end_us(scenario)
        self._late: defaultdict[str, list[SetPolicy | Close]] = defaultdict(list)  # for who is away

    def _plan(self) -> None:
        """Put all that is known beforehand on the agenda."""
        numbers = {
            channel_id: self._node(spec.nodes[0]).switch.channels[channel_id].short_channel_id or 0
            for channel_id, spec in zip(self._channel_ids, self._scenario.channel, strict=True)
        }
        for node in self._scenario.node:
            governed = policy_of(self._scenario, node)
            if governed is not None:
                steward = Steward(self._nodes[node.name], Adviser(*governed), numbers)
                self._agenda.add(0, LOOKING, Look(steward))
        for event in self._scenario.event:
            self._agenda.add(round(event.at * SECOND_US), HAPPENING, event)
        self._draw()

    def _draw(self) -> None:
        """Put the next payment of the traffic on the agenda."""
        wish = next(self._wishes, None)
        if wish is not None:
            self._agenda.add(wish.at_us, BEGINNING, wish)

    async def play(self) -> None:
        """Let everything happen, and return when nothing is on its way any more.

        Raises:
            Misfit: something in the scenario cannot be.
        """
        self._plan()
        async with trio.open_nursery() as payments:
            while (item := await self._agenda.next(self._end_us, self._is_over)) is not None:
                await self._do(item, payments)
            # what has arrived has still to leave the channels that it came through
            await trio.sleep(TICK_SECONDS)
            payments.cancel_scope.cancel()
        if any(isinstance(event, Close) for event in self._scenario.event):
            await self._settle()
        self._desk.look_up()

    def _is_over(self) -> bool:
        agenda, next_us = self._agenda, self._agenda.next_us
        is_late = next_us is None or next_us > self._last_us
        return agenda.now_us >= self._end_us or (is_late and not self._desk.is_busy)

    async def _do(self, item: Item, payments: trio.Nursery) -> None:
        match item:
            case Look(steward):
                await steward.look()
                self._agenda.add(self._agenda.now_us + steward.every_us, LOOKING, item)
            case Release():
                await self._desk.release(item)
            case Wish():
                self._desk.begin(item, payments)
                self._draw()
            case Pay():
                self._desk.begin(wish_of(item, self._model), payments)
            case Offline():
                self._desk.leave(self._model.place[item.node])
                await self._nodes[item.node].stop()
            case Online():
                await self._come_back(item.node)
            case SetPolicy() | Close():
                await self._change(item)

    async def _come_back(self, name: str) -> None:
        if self._nodes[name].is_up:
            return
        await self._nodes[name].start(self._nursery)
        await self._desk.welcome(self._nodes[name])
        for spec in self._scenario.channel:
            if name in spec.nodes and all(self._nodes[each].is_up for each in spec.nodes):
                await self._fleet.connect(*spec.nodes)
        for event in self._late.pop(name, []):
            await self._change(event)

    async def _change(self, event: SetPolicy | Close) -> None:
        """Do what a node is told; one that is away is told when it is back."""
        name = event.node if isinstance(event, SetPolicy) else event.nodes[0]
        if not self._nodes[name].is_up:
            self._late[name].append(event)
        elif isinstance(event, SetPolicy):
            await self._set_policy(event)
        else:
            for channel_id in [self._channel_ids[number] for number in channels_between(self._model, event)]:
                if self._node(name).switch.channels[channel_id].phase is Phase.NORMAL:
                    await self._node(name).close_channel(channel_id)
            await self._settle()

    async def _set_policy(self, event: SetPolicy) -> None:
        for channel_id, spec in zip(self._channel_ids, self._scenario.channel, strict=True):
            ends = set(spec.nodes)
            if event.node in ends and (event.peer is None or event.peer in ends):
                toll = event.policy.over(self._node(event.node).switch.tolls[channel_id])
                await self._nodes[event.node].set_toll(channel_id.hex(), toll)

    async def _settle(self) -> None:
        """Confirm the closings that have been agreed on."""
        await trio.sleep(TICK_SECONDS)
        await self._fleet.mine(1)

    def _node(self, name: str) -> Node:
        node = self._nodes[name].node
        assert node is not None, "it was started"
        return node

    def report(self) -> Report:
        """What has come of it."""
        earned = {name: int(self._node(name).switch.ledger.fees_msat) for name in self._nodes}
        return Report(self._desk.outcomes(), earned, tuple(self._balances()))

    def _balances(self) -> Iterator[tuple[int, int]]:
        for channel_id, (a, b) in zip(
            self._channel_ids, [spec.nodes for spec in self._scenario.channel], strict=True
        ):
            is_ours = self._nodes[a].is_up or not self._nodes[b].is_up
            channel = self._node(a if is_ours else b).switch.channels[channel_id]
            settled, flying = channel.settled_msat, channel.htlcs
            ours, theirs = (
                balance - sum(htlc.amount_msat for htlc in under_way.values())
                for balance, under_way in ((settled.local, flying.local), (settled.remote, flying.remote))
            )
            yield (ours, theirs) if is_ours else (theirs, ours)
