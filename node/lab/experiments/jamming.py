"""(e) Slots filled by slow HTLCs, and what upfront fees or reputation would change.

The attacker is two nodes with a channel to either side of a line of routers. Each of its HTLCs holds a
slot at every hop until its payee fails it, and costs nothing. With upfront fees each attempt pays every
hop a little, whatever becomes of it. With reputation the first router endorses what comes from a neighbour
whose HTLCs have earned more than the time of their slots is worth; what is not endorsed shares half of the
slots, there and further on.
"""

from collections import Counter
from random import Random
from typing import ClassVar

from htlc.relay import Toll
from node.lab.experiments.model import Experiment, Figure, Findings, Line, Table, share, started
from node.lab.flow.engine import SECOND_US, Engine, Payment, Wish
from node.lab.flow.network import FlowChannel, FlowNetwork
from node.lab.flow.runs import chance
from wire.units import Msat, Sat

DEFENCES = ("nothing", "upfront fees", "reputation")
CAPACITY_SAT, JAM_MSAT, AMOUNT_MSAT = Sat(50_000_000), 1_000_000, 5_000_000
GENERAL_SHARE = 0.5
SLOT_SECOND_MSAT = 100


class Jamming(Experiment, frozen=True, kw_only=True):
    """Honest people on both ends of a line of routers, and one who fills its slots."""

    question: ClassVar[str] = "What does slot jamming do, and what would upfront fees or reputation change?"

    routers: int = 4
    people: int = 10
    slots: int = 60
    rates: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # the attacker's HTLCs a second
    hold_seconds: float = 60.0
    upfront_millionths: int = 10_000  # of the usual fee's size: one percent of it, paid at once
    per_second: float = 2.0
    seconds: float = 600.0

    def run(self, seed: int) -> Findings:
        rows, lines, answers, summary = [], [], [], dict[str, float]()
        for defence in DEFENCES:
            ratios = []
            for rate in self.rates:
                row = _Siege(self, seed, defence, rate).measured()
                rows.append((defence, rate, *row))
                ratios.append(row[0])
            lines.append(Line(defence, self.rates, tuple(ratios)))
            _, rate, success, fees_sat, upfront_sat, attacker_sat = rows[-1]
            answers.append(
                f"Under {rate:g} slow HTLCs a second with {defence}: {success:.0%} of honest payments arrive "
                f"(without attack {ratios[0]:.0%}), the routers earn {fees_sat:,.0f} sat of fees and "
                f"{upfront_sat:,.1f} sat upfront, of which the attacker paid {attacker_sat:,.1f}."
            )
            key = defence.replace(" ", "_")
            summary |= {f"success_{key}": success, f"attacker_paid_sat_{key}": attacker_sat}
        columns = ("defence", "jams_per_second", "success", "fees_sat", "upfront_sat", "attacker_paid_sat")
        title = "Honest payments that arrive"
        figure = Figure("success", title, "slow HTLCs a second", "share", tuple(lines))
        table = Table("jamming", columns, tuple(rows))
        return Findings(tuple(answers), summary, (table,), (figure,))


class _Siege:
    """One run."""

    def __init__(self, plan: Jamming, seed: int, defence: str, rate: float) -> None:
        self._plan, self._defence = plan, defence
        self._engine: Engine = started(self._line())
        self._engine.may_pass = self._may_pass
        self._engine.on_passed = self._passed
        self._gained_msat: dict[int, float] = {}  # by the channel that it came in over
        self._endorsed: set[int] = set()
        self._general: Counter[int] = Counter()  # slots that those who are not endorsed hold
        self._upfront_msat = self._attacker_paid_msat = 0.0
        self._attack(chance(seed, "attack"), rate)
        self._live(chance(seed, "people"))

    def measured(self) -> tuple[float, float, float, float]:
        """Success of the honest, fees and upfront fees of the routers, what the attacker paid."""
        engine = self._engine
        engine.run()
        engine.network.check_conserved()
        paid = sum(outcome.is_paid for outcome in engine.outcomes)
        fees_msat = sum(engine.network.earned_msat)
        return (
            share(paid, len(engine.outcomes)),
            fees_msat / 1000,
            self._upfront_msat / 1000,
            self._attacker_paid_msat / 1000,
        )

    def _line(self) -> FlowNetwork:
        """Routers 0 … n-1; then the people, half on either end; then the attacker's two nodes."""
        plan, toll = self._plan, Toll(Msat(1000), 100)
        last, names = plan.routers - 1, [f"router{at}" for at in range(plan.routers)]
        pairs = [(at, at + 1) for at in range(last)]
        for person in range(plan.people):
            names.append(f"p{person}")
            pairs.append((last if person % 2 else 0, plan.routers + person))
        names += ["mallory", "mallet"]
        pairs += [(plan.routers + plan.people, 0), (last, plan.routers + plan.people + 1)]
        half = Msat(CAPACITY_SAT * 500)
        channels = [FlowChannel(pair, CAPACITY_SAT, half, (toll, toll)) for pair in pairs]
        return FlowNetwork(names, channels, plan.slots)

    def _attack(self, random: Random, rate: float) -> None:
        """Attempts of a small amount over the whole line, one after another."""
        network, plan = self._engine.network, self._plan
        middle = [2 * at for at in range(plan.routers - 1)]
        way = [2 * (len(network.ends) - 2), *middle, 2 * (len(network.ends) - 1)]
        now, hold_us = 0.0, round(plan.hold_seconds * SECOND_US)
        while rate and (now := now + random.expovariate(rate)) < plan.seconds:
            self._engine.at(round(now * SECOND_US), self._jam, way, hold_us)

    def _jam(self, way: list[int], hold_us: int) -> None:
        self._engine.send(way, JAM_MSAT, hold_us, is_griefing=True)

    def _live(self, random: Random) -> None:
        """Honest payments from one end to the other, both ways."""
        plan, now = self._plan, 0.0
        while (now := now + random.expovariate(plan.per_second)) < plan.seconds:
            payer, payee = random.sample(range(plan.people), 2)
            if payer % 2 != payee % 2:
                wish = Wish(round(now * SECOND_US), plan.routers + payer, plan.routers + payee, AMOUNT_MSAT)
                self._engine.wish(wish)

    # --- what a router does beside the usual

    def _may_pass(self, payment: Payment, at: int) -> bool:
        incoming, outgoing = payment.path[at - 1], payment.path[at]
        if self._defence == "upfront fees":
            fee_msat = payment.amounts_msat[at - 1] - payment.amounts_msat[at]
            upfront_msat = fee_msat * self._plan.upfront_millionths / 1_000_000
            self._upfront_msat += upfront_msat
            self._attacker_paid_msat += upfront_msat * payment.is_griefing
        return self._defence != "reputation" or self._has_slot(payment, incoming, outgoing, is_first=at == 1)

    def _has_slot(self, payment: Payment, incoming: int, outgoing: int, *, is_first: bool) -> bool:
        """Whoever is endorsed may have any slot; all others share a part of them."""
        if is_first and self._gained_msat.get(incoming, 0.0) > 0:
            self._endorsed.add(payment.number)
        if payment.number in self._endorsed:
            return True
        if self._general[outgoing] >= self._plan.slots * GENERAL_SHARE:
            return False
        self._general[outgoing] += 1
        return True

    def _passed(self, payment: Payment, at: int, is_paid: bool) -> None:
        """An HTLC that we passed on has ended: what it earned, less what its time was worth."""
        incoming, outgoing = payment.path[at - 1], payment.path[at]
        if self._defence == "reputation" and payment.number not in self._endorsed:
            self._general[outgoing] -= 1
        if at == 1:
            fee_msat = payment.amounts_msat[at - 1] - payment.amounts_msat[at]
            seconds = (self._engine.now_us - payment.wish.at_us) / SECOND_US
            gained_msat = fee_msat * is_paid - seconds * SLOT_SECOND_MSAT
            self._gained_msat[incoming] = self._gained_msat.get(incoming, 0.0) + gained_msat
