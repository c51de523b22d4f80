"""A scenario at real fidelity: every byte of the protocol, on nodes in this process, in virtual time.

The clock stands while any node has something to do, and jumps to the next event when none has: a
scenario of hours takes as long as its payments take to compute. Sockets are the system's own, which
does not tell when a byte is on its way, so the clock waits a moment of real time before it jumps.
"""

from collections.abc import Iterator
from functools import partial
from heapq import merge
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from trio.testing import MockClock

from htlc.channel import Channel
from node.daemon.node import Node
from node.daemon.paying import PaymentFailed
from node.lab.flow.engine import SECOND_US, Outcome, Wish
from node.lab.flow.network import FlowNetwork, network_of
from node.lab.flow.runs import Report, last_us, wishes_of
from node.lab.scenario.model import Event, Offline, Online, Pay, Scenario, SetPolicy
from node.lab.testnet.fleet import Fleet, together
from node.lab.testnet.grounds import embedded_ground
from node.lab.testnet.members import NodeHere
from node.lab.testnet.place import Place, Setup
from wire.units import Msat

IDLE_SECONDS = 0.03
SETTLE_SECONDS = 1.0


class OnlyFlow(Exception):
    """The scenario asks for what only flow fidelity can do."""


def run_real(scenario: Scenario) -> Report:
    """Run it on real nodes.

    Raises:
        OnlyFlow: it needs what real nodes do not do.
        BadPlugin, UnknownPerson: it names what there is not.
    """
    if any(node.fees is not None for node in scenario.node):
        raise OnlyFlow("fee policies are plug-ins of flow fidelity: real nodes ask what their policy says")
    if any(isinstance(event, Pay) and event.hold_seconds for event in scenario.event):
        raise OnlyFlow("a payee that holds an HTLC is for flow fidelity: real nodes settle at once")
    return trio.run(_run, scenario, clock=MockClock(autojump_threshold=IDLE_SECONDS))


async def _run(scenario: Scenario) -> Report:
    with TemporaryDirectory(prefix="rill-real-") as folder:
        place = Place(Path(folder) / "net")
        place.make(scenario, Setup())
        async with embedded_ground(place.chain_directory) as ground, trio.open_nursery() as nursery:
            nodes = {
                name: NodeHere(name, place.node_directory(name), ground.chain(), scenario.seed, 0)
                for name in scenario.names
            }
            fleet = Fleet(place, scenario, ground, dict(nodes))
            await fleet.raise_all(nursery, lambda _: None)
            stage = Stage(scenario, fleet, nodes, nursery)
            await stage.play()
            report = stage.report()
            nursery.cancel_scope.cancel()
    return report


class Stage:
    """The nodes, and what is to happen on them."""

    def __init__(
        self, scenario: Scenario, fleet: Fleet, nodes: dict[str, NodeHere], nursery: trio.Nursery
    ) -> None:
        self._scenario, self._fleet, self._nodes, self._nursery = scenario, fleet, nodes, nursery
        self._model: FlowNetwork = network_of(scenario)  # traffic is drawn from the same town
        self._channel_ids = [bytes.fromhex(each) for each in fleet.place.setup().channel_ids]
        self._began = trio.current_time()
        self._outcomes: list[Outcome] = []
        self._number = 0

    def _script(self) -> Iterator[tuple[int, int, Event | Wish]]:
        """Events and payments in order of time; of two at one time the event comes first."""
        timed = [(round(event.at * SECOND_US), event) for event in self._scenario.event]
        events = sorted((at_us, number, event) for number, (at_us, event) in enumerate(timed))
        numbered = enumerate(wishes_of(self._scenario, self._model), len(events))
        wishes = ((wish.at_us, number, wish) for number, wish in numbered)
        yield from merge(events, wishes, key=lambda each: each[:2])

    async def play(self) -> None:
        """Let everything happen, and return when nothing is on its way any more."""
        async with trio.open_nursery() as payments:
            for at_us, _, each in self._script():
                await trio.sleep_until(self._began + at_us / SECOND_US)
                if isinstance(each, Wish):
                    self._begin(payments, each)
                elif isinstance(each, Pay):
                    places = self._model.place[each.payer], self._model.place[each.payee]
                    self._begin(payments, Wish(at_us, *places, each.amount_msat))
                else:
                    await self._change(each)
            await trio.sleep_until(self._began + last_us(self._scenario) / SECOND_US + SETTLE_SECONDS)
        present = [each.node for each in self._nodes.values() if each.is_up and each.node is not None]
        await together(partial(node.wait_for_channels, _are_quiet) for node in present)

    def _begin(self, payments: trio.Nursery, wish: Wish) -> None:
        payments.start_soon(self._pay, self._number, wish)
        self._number += 1

    async def _pay(self, number: int, wish: Wish) -> None:
        payer, payee = self._node(wish.payer), self._node(wish.payee)
        amount_msat = Msat(wish.amount_msat)
        row = await payee.add_invoice(amount_msat)
        fee_msat, hops, attempts, is_paid, why = 0, 0, 0, False, ""
        try:
            paid = await payer.pay(payee.node_id, row.payment_hash, row.payment_secret, amount_msat)
        except PaymentFailed as failed:
            attempts, why = failed.attempts, failed.reason
        else:
            fee_msat, hops, attempts, is_paid = paid.fee_msat, len(paid.route), paid.attempts, True
        done_us = round((trio.current_time() - self._began) * SECOND_US)
        whom_and_what = wish.payer, wish.payee, wish.amount_msat
        self._outcomes.append(
            Outcome(number, wish.at_us, done_us, *whom_and_what, fee_msat, hops, attempts, is_paid, why)
        )

    async def _change(self, event: SetPolicy | Offline | Online) -> None:
        member = self._nodes[event.node]
        match event:
            case SetPolicy():
                for channel_id, spec in zip(self._channel_ids, self._scenario.channel, strict=True):
                    ends = set(spec.nodes)
                    if event.node in ends and (event.peer is None or event.peer in ends):
                        switch = self._node(self._model.place[event.node]).switch
                        toll = event.policy.over(switch.tolls[channel_id])
                        await member.set_toll(channel_id.hex(), toll)
            case Offline():
                await member.stop()
            case Online():
                await member.start(self._nursery)
                for spec in self._scenario.channel:
                    if event.node in spec.nodes and all(self._nodes[name].is_up for name in spec.nodes):
                        await self._fleet.connect(*spec.nodes)
        await trio.sleep(SETTLE_SECONDS / 10)

    def _node(self, place: int) -> Node:
        node = self._nodes[self._model.names[place]].node
        assert node is not None, "it was started"
        return node

    def report(self) -> Report:
        """What has come of it."""
        balances = []
        for channel_id, spec in zip(self._channel_ids, self._scenario.channel, strict=True):
            settled = self._node(self._model.place[spec.nodes[0]]).switch.channels[channel_id].settled_msat
            balances.append((int(settled.local), int(settled.remote)))
        places = self._model.place
        earned = {name: int(self._node(places[name]).switch.ledger.fees_msat) for name in self._nodes}
        payments = sorted(self._outcomes, key=lambda outcome: outcome.number)
        return Report(tuple(payments), earned, tuple(balances))


def _are_quiet(channels: list[Channel]) -> bool:
    return not any(channel.htlcs.local or channel.htlcs.remote for channel in channels)
