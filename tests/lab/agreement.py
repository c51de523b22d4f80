"""Running a scenario at both fidelities, and what must be the same."""

from node.lab.flow.runs import Report, run_scenario
from node.lab.real.stage import run_real
from node.lab.scenario.model import Scenario


def settled(report: Report) -> list[tuple[int, int, int, bool, int, int]]:
    """Who was paid, for how much, over how many hops."""
    return [(p.payer, p.payee, p.amount_msat, p.is_paid, p.fee_msat, p.hops) for p in report.payments]


def assert_agree(scenario: Scenario) -> Report:
    """Who was paid, who earned what, and the final balance of every channel; flow's report of it."""
    flow, real = run_scenario(scenario), run_real(scenario)
    assert settled(flow) == settled(real)
    assert flow.earned_msat == real.earned_msat
    assert flow.balances_msat == real.balances_msat
    return flow
