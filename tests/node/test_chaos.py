"""Chaos among processes: nothing is stuck, nothing is missing, and a cheat loses everything."""

import signal
import subprocess

import msgspec
import pytest

from node.cli.main import run
from tests.node.processes import Program


@pytest.mark.slow
def test_every_satoshi_survives_kills_cuts_reorganisations_and_a_cheat(
    capfd: pytest.CaptureFixture[str],
) -> None:
    code = run(["lab", "chaos", "--seed", "3", "--minutes", "0.2", "--nodes", "3", "--json"])
    report = msgspec.json.decode(capfd.readouterr().out)
    assert code == 0, report
    assert report["conserved"]
    assert report["difference_sat"] == 0
    assert report["payments"]["stuck"] == 0
    assert report["payments"]["sent"] > 0
    assert set(report["payments"]) == {"sent", "failed", "stuck"}
    assert report["breaches_punished"] == 1
    assert report["kills"] > 0 <= report["reorgs"]
    accounted = ("end_sat", "onchain_fees_sat", "anchors_left_sat", "dust_left_sat")
    assert report["start_sat"] == sum(report[each] for each in accounted)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_has_seen_enough_of_it_may_end_it(number: signal.Signals) -> None:
    program = Program("lab", "chaos", "--minutes", "5")
    pid = program._process.pid
    while not has_nodes(pid):
        assert program._process.poll() is None
    assert program.end(number) == 130
    assert "".join(program.said) == ""
    assert not has_nodes(pid)


def has_nodes(pid: int) -> bool:
    """Whether a process has nodes for children."""
    asked = ["pgrep", "-P", str(pid), "-f", "lightning-dir"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(("option", "value"), [("--nodes", "1"), ("--nodes", "99"), ("--minutes", "0")])
def test_a_wrong_wish_is_one_sentence(option: str, value: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["lab", "chaos", option, value]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.startswith("rill: ")
    assert said.err.count("\n") == 1
