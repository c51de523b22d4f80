"""A fee policy of somebody else's: one file with one class, found by its entry point."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.lab import plugins
from node.lab.experiments.network_policy import NetworkPolicy
from node.lab.flow.runs import run_scenario
from node.lab.plugins import FEES, names_of
from node.lab.scenario.model import ChannelSpec, NodeSpec, Scenario

GREEDY = '''
from node.lab.fees.model import Asked, FeePolicy, Millionths, View, priced


class Greedy(FeePolicy, frozen=True, kw_only=True):
    """Dearer while payments come, cheaper while none do."""

    every_seconds: float = 30.0
    start: Millionths = 100

    def ask(self, view: View) -> Asked:
        fee = view.memory.get("fee", self.start) * (1.2 if view.passed else 0.8)
        view.memory["fee"] = min(5000.0, max(1.0, fee))
        return Asked(priced(view, 0, round(view.memory["fee"])))
'''


@pytest.fixture
def greedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The policy, installed as a package of its own."""
    (tmp_path / "greedy_policy.py").write_text(GREEDY)
    about = tmp_path / "greedy_policy-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: greedy-policy\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{FEES}]\ngreedy = greedy_policy:Greedy\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins._shelf.cache_clear()
    yield
    plugins._shelf.cache_clear()


@pytest.mark.usefixtures("greedy")
def test_it_is_found_and_sets_fees_in_a_scenario_and_in_an_experiment() -> None:
    assert "greedy" in names_of(FEES)
    traffic = {"model": "circular", "per_second": 2, "amount_msat": 5_000_000}
    scenario = Scenario(
        node=(NodeSpec("ann"), NodeSpec("hub", fees={"policy": "greedy", "start": 50}), NodeSpec("ben")),
        channel=(ChannelSpec(("ann", "hub")), ChannelSpec(("hub", "ben"))),
        seconds=300.0,
        traffic=(traffic,),
    )
    fees = [payment.fee_msat for payment in run_scenario(scenario).payments if payment.fee_msat]
    assert fees[-1] > 2 * fees[0] > 0
    found = NetworkPolicy(graph="town", hours=0.05, policies=("greedy",)).run(1)
    assert "success_greedy" in found.summary
