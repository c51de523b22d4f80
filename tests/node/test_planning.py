"""A payer against networks whose balances it does not know: whatever it is told, it plans well and ends."""

from collections import Counter
from random import Random

import msgspec
import pytest
import trio

from gossip.asked import MOST_PARTS, Asked
from gossip.beliefs import Beliefs
from gossip.graph import Graph, directed
from gossip.no_route import NoRoute
from gossip.routes import Hop, Route
from node.daemon.errand import Errand
from node.daemon.lessons import Lessons
from node.daemon.payments import Attempt, AttemptRow
from node.daemon.planning import Planner
from onion.failures import Attributed, Failure, FailureCode
from tests.gossip.lines import a_policy, connect, node_id
from wire.units import Msat, Sat

A, B = node_id(0), node_id(1)
NODES = 12
SIZES_SAT = (1_000_000, 3_000_000, 10_000_000)


class Town:
    """A network, and how its channels are divided, which only they know."""

    def __init__(self, chance: Random) -> None:
        self.graph = Graph()
        self.balance_msat: dict[int, int] = {}
        for scid in range(1, 4 * NODES):
            ends = (0, chance.randrange(2, NODES)) if scid < 5 else chance.sample(range(1, NODES), 2)
            capacity_msat = chance.choice(SIZES_SAT) * 1000
            policy = a_policy(
                fee_base_msat=chance.randrange(1000),
                fee_proportional_millionths=chance.randrange(500),
                htlc_maximum_msat=chance.choice((capacity_msat, capacity_msat // 2)),
            )
            connect(self.graph, scid, ends[0], ends[1], policy)
            channel = self.graph.channels[scid]
            self.graph.add_channel(msgspec.structs.replace(channel, capacity_sat=Sat(capacity_msat // 1000)))
            self.balance_msat[directed(scid, 0)] = chance.randrange(capacity_msat)
            self.balance_msat[directed(scid, 1)] = capacity_msat - self.balance_msat[directed(scid, 0)]

    def own_msat(self) -> dict[int, int]:
        channels = list(self.graph.channels_of(A))
        return {
            each.short_channel_id: self.balance_msat[directed(each.short_channel_id, each.direction_from(A))]
            for each in channels
        }

    def send(self, route: Route) -> int | None:
        """Lock what the route locks; or the place of the hop that could not."""
        for place, hop in enumerate(route.hops):
            if self.balance_msat[number(hop)] < hop.amount_msat:
                self.settle(Route(route.hops[:place]), -1)
                return place
            self.balance_msat[number(hop)] -= hop.amount_msat
        return None

    def settle(self, route: Route, sign: int = 1) -> None:
        """What was locked comes to the other side, or goes back."""
        for hop in route.hops:
            self.balance_msat[number(hop) ^ (sign > 0)] += hop.amount_msat


def number(hop: Hop) -> int:
    return directed(hop.short_channel_id, hop.direction)


class Payer:
    """One who pays again and again."""

    def __init__(self, town: Town) -> None:
        self.town, self.beliefs = town, Beliefs()
        self.planner = Planner(town.graph, A, lambda: 0.0)
        self.lessons = Lessons(self.beliefs, town.graph, lambda: 0.0)
        self.ids = 0

    async def pay(self, amount_msat: int, most_parts: int) -> tuple[bool, int]:
        """Whether it arrived, and after how many attempts."""
        errand, failed = Errand(), set[tuple[int, ...]]()
        while errand.promised_msat < amount_msat:
            assert errand.made < 100, "it comes to an end"
            missing = Msat(amount_msat - errand.promised_msat)
            asked = Asked(
                A,
                B,
                missing,
                18,
                own_msat=self.town.own_msat(),
                room_msat=errand.room_msat(self.town.graph),
                most_parts=max(1, most_parts - len(errand.flying)),
            )
            try:
                routes = await self.planner.routes(asked, self.beliefs)
            except NoRoute:
                break
            assert sum(route.amount_msat for route in routes) == missing
            tries = {(route.amount_msat, *(hop.short_channel_id for hop in route.hops)) for route in routes}
            assert not tries & failed, "what has failed is not tried again"
            for route in routes:
                if not self.send(route, errand):
                    failed.add((route.amount_msat, *(hop.short_channel_id for hop in route.hops)))
        is_paid = errand.promised_msat == amount_msat
        for attempt, route in errand.flying.values():
            attempt.preimage = bytes(32) if is_paid else None
            attempt.attributed = None if is_paid else told(len(route.hops) - 1, FailureCode.mpp_timeout)
            self.town.settle(route, 1 if is_paid else -1)
            self.lessons.end(self.lessons.of(route), attempt)
        return is_paid, errand.made

    def send(self, route: Route, errand: Errand) -> bool:
        """Whether an HTLC comes to the payee, who waits for the others."""
        errand.made, self.ids = errand.made + 1, self.ids + 1
        sent = [hop.amount_msat for hop in route.hops]
        row = AttemptRow(self.ids, bytes(32), bytes(32), (), (), sent[0], sent[-1])
        attempt, lesson = Attempt(row, ()), self.lessons.of(route)
        self.lessons.begin(lesson)
        errand.flying[self.ids] = attempt, route
        place = self.town.send(route)
        if place is None:
            return True
        assert place > 0, "what our own channels hold is known"
        attempt.is_over, attempt.attributed = True, told(place - 1, FailureCode.temporary_channel_failure)
        self.lessons.end(lesson, attempt)
        errand.land()
        errand.learn(attempt, route, self.town.graph, 0)
        return False


def told(place: int, code: FailureCode) -> Attributed:
    return Attributed(place, Failure(code))


@pytest.mark.parametrize("most_parts", [1, MOST_PARTS])
def test_a_payer_ends_repeats_nothing_and_is_spared_attempts_by_memory(most_parts: int) -> None:
    attempts, paid = Counter[str](), Counter[str]()
    for seed in range(16):
        for kind in ("remembers", "forgets"):
            chance = Random(seed)
            payer = Payer(Town(chance))
            capacity_msat = sum(payer.town.balance_msat.values())
            for _ in range(6):
                amount_msat = chance.choice((10_000_000, 300_000_000, 1_500_000_000))
                is_paid, made = trio.run(payer.pay, amount_msat, most_parts)
                paid[kind] += is_paid
                attempts[kind] += made
                assert sum(payer.town.balance_msat.values()) == capacity_msat
                if kind == "forgets":
                    payer = Payer(payer.town)
    assert attempts["remembers"] < attempts["forgets"]
    assert paid["remembers"] >= paid["forgets"] > 60
