"""Flow fidelity and real fidelity: the same scenario, the same payments, fees and balances.

Neither takes any time for a hop, a signature or a word of gossip; only payees that hold do.
"""

import json
from pathlib import Path

import msgspec
import pytest

from node.cli.main import run
from node.lab.flow.runs import run_scenario
from node.lab.scenario.model import Offline, Online, Pay, Scenario
from node.lab.scenario.reading import house_scenarios, load_scenario, read_scenario
from tests.lab.agreement import assert_agree

TROUBLE = """
name = "trouble"
about = "Channels run dry, a node goes and comes back, and a payment has to look for another way."

[policy]
fee_base_msat = 100
fee_proportional_millionths = 500

[[node]]
name = "alice"
[[node]]
name = "bob"
policy = { fee_base_msat = 900 }
[[node]]
name = "carol"
[[node]]
name = "diana"
policy = { fee_base_msat = 700 }

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
balance_sat = 600_000
[[channel]]
nodes = ["carol", "diana"]
capacity_sat = 1_000_000
balance_sat = 300_000

"""
PAYMENTS = (
    (1, "alice", "diana", 295_000_000),  # Carol, who is cheaper, cannot: over Bob
    (2, "alice", "diana", 150_000_000),  # over Carol, who can do that
    (3, "diana", "alice", 1_000),
    (5, "alice", "diana", 90_000_000),  # Carol is away
    (7, "alice", "diana", 50_000_000),  # and back
    (8, "bob", "carol", 100_000_000),  # over Alice, who is cheaper
    (9, "alice", "diana", 700_000_000),  # nobody can
)


def trouble() -> Scenario:
    scenario = read_scenario(TROUBLE, "trouble")
    pays = [Pay(float(at), payer, payee, amount_msat) for at, payer, payee, amount_msat in PAYMENTS]
    return msgspec.structs.replace(scenario, event=(*pays, Offline(4.0, "carol"), Online(6.0, "carol")))


@pytest.mark.slow
def test_both_agree_when_channels_run_dry_and_nodes_come_and_go() -> None:
    report = assert_agree(trouble())
    assert [payment.is_paid for payment in report.payments] == [True, True, True, True, True, True, False]
    assert report.payments[0].attempts == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(house_scenarios()))
def test_both_agree_on_every_house_scenario(name: str) -> None:
    assert assert_agree(load_scenario(name)).payments


def test_the_books_example_earns_what_the_book_says() -> None:
    report = run_scenario(load_scenario("book"))
    assert report.earned_msat == {
        "alice": 0,
        "bob": 100_000_000,
        "carol": 100_000_000,
        "diana": 100_000_000,
        "eric": 0,
    }
    assert report.balances_msat[0] == (99_700_000_000, 300_300_000_000)


@pytest.mark.parametrize("name", sorted(house_scenarios()))
def test_the_same_seed_gives_the_same_trace_and_another_one_another(name: str) -> None:
    scenario = load_scenario(name)
    first, second = run_scenario(scenario), run_scenario(scenario)
    assert first == second
    assert first.trace_hash
    if scenario.traffic:
        other = run_scenario(msgspec.structs.replace(scenario, seed=scenario.seed + 1))
        assert other.trace_hash != first.trace_hash


@pytest.mark.slow
def test_play_prints_the_same_books_at_both_fidelities(capsys: pytest.CaptureFixture[str]) -> None:
    books = []
    for fidelity in ("flow", "real"):
        assert run(["lab", "play", "book", f"--fidelity={fidelity}", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        books.append((told["earned_msat"], told["channels"]))
        assert [payment["payee"] for payment in told["payments"]] == ["eric"]
    assert books[0] == books[1]


def test_play_names_what_is_wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text('[[node]]\nname = "a"\n[[node]]\nname = "b"\n[[traffic]]\nmodel = "rush"\n')
    assert run(["lab", "play", str(broken)]) == 2
    assert "there is no traffic model 'rush'" in capsys.readouterr().err
    assert run(["lab", "play", "nowhere"]) == 2
    assert "no house scenario of that name" in capsys.readouterr().err
