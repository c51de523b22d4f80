"""Scenario files: what they say comes back, and what is wrong with them is said with its line."""

from pathlib import Path
from random import Random

import pytest

from htlc.relay import Toll
from node.cli.main import run
from node.lab.scenario.model import Scenario
from node.lab.scenario.reading import (
    BadScenario,
    NoScenario,
    house_scenarios,
    load_scenario,
    read_scenario,
    written,
)
from node.lab.scenario.shapes import SHAPES, WrongShape, shaped
from wire.units import Msat

TWO = '[[node]]\nname = "ann"\n[[node]]\nname = "ben"\n'
JOINED = TWO + '[[channel]]\nnodes = ["ann", "ben"]\n'
PAY = TWO + '[[event]]\ndo = "pay"\nat = 1\npayer = "ann"\n'


@pytest.mark.parametrize("name", sorted(house_scenarios()))
def test_every_house_scenario_is_read_and_written_without_loss(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    assert scenario.about
    assert read_scenario(written(scenario), "again") == scenario


def test_the_closest_policy_counts() -> None:
    text = """
        policy = { fee_base_msat = 7, cltv_expiry_delta = 40 }
        [[node]]
        name = "ann"
        policy = { fee_base_msat = 8, fee_proportional_millionths = 5 }
        [[node]]
        name = "ben"
        [[channel]]
        nodes = ["ann", "ben"]
        policies = { ann = { fee_base_msat = 9 } }
    """
    scenario = read_scenario(text, "here")
    [channel] = scenario.channel
    assert scenario.toll_of(channel, "ann") == Toll(Msat(9), 5, 40)
    assert scenario.toll_of(channel, "ben") == Toll(Msat(7), Toll().fee_proportional_millionths, 40)


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("seed = \n", 1, "invalid value"),
        (TWO + 'name = "x', 5, "unterminated string"),
        (TWO + "weight = 3\n", 5, "unknown field `weight`"),
        (JOINED + 'capacity_sat = "much"\n', 7, "capacity_sat: expected `int`"),
        (JOINED + "capacity_sat = 5\n", 7, "capacity_sat: expected `int` >= 20000"),
        (TWO + '[[channel]]\nnodes = ["ann", "zoe"]\n', 6, "there is no node called zoe"),
        (TWO + '[[channel]]\nnodes = ["ann", "ann"]\n', 6, "cannot have a channel with itself"),
        (JOINED + "balance_sat = 90_000_000\n", 7, "more than the channel"),
        (TWO + '[[event]]\nat = 1\ndo = "fly"\n', 7, "do: invalid value 'fly'"),
        (PAY + 'payee = "zoe"\namount_msat = 1\n', 9, "no node called zoe"),
        (TWO + '[[node]]\nname = "ann"\n', 6, "two nodes called ann"),
        (TWO + "[[traffic]]\nper_second = 1\n", 5, "traffic needs a model: by-capacity, circular"),
        (TWO + '[[traffic]]\nmodel = "uniform"\n', 5, "`seconds` at the top of the file does not say"),
        (TWO + '[[traffic]]\nmodel = "rush"\n', 6, "there is no traffic model 'rush'"),
        (TWO + '[[traffic]]\nmodel = "uniform"\nspeed = 2\n', 7, "has no option 'speed'"),
        (TWO + '[[traffic]]\nmodel = "uniform"\n\nper_second = 0\n', 8, "per_second: expected `float` > 0"),
        (TWO + "fees = { every_seconds = 3 }\n", 5, "fees needs a policy: base-only, inbound"),
        (TWO + 'fees = { policy = "greed" }\n', 5, "there is no fee policy 'greed'"),
        (TWO + 'fees = { policy = "static", base_msat = -1 }\n', 5, "base_msat: expected `int` >= 0"),
        (JOINED + "balance_sat = 0\n", 7, "ann opens this channel, and needs 1784 sat of it for its fees"),
        (TWO + '[[event]]\ndo = "close"\nat = 1\nnodes = ["ann", "ben"]\n', 8, "ann has no channel with ben"),
        (TWO + '[[event]]\ndo = "close"\nat = 1\nnodes = ["ann", "zoe"]\n', 8, "no node called zoe"),
        (TWO + '[[event]]\nat = -1\ndo = "offline"\nnode = "ann"\n', 6, "at: expected `float` >= 0"),
        ("", None, "at least one [[node]]"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, line: int | None, why: str) -> None:
    with pytest.raises(BadScenario) as caught:
        read_scenario(text, "net.toml")
    assert caught.value.line == line
    assert why in str(caught.value)
    assert str(caught.value).startswith("net.toml, line " if line else "net.toml: ")


@pytest.mark.parametrize(
    ("traffic", "why"),
    [
        ('model = "merchants"\nmerchants = ["zoe"]', "traffic names zoe, and there is no node of that name"),
        ('model = "uniform"', "traffic needs somebody who pays and somebody else who is paid"),
        ('model = "streaming"\nviewers = 0\nproviders = ["ann"]', "traffic needs somebody who pays"),
    ],
)
@pytest.mark.parametrize("fidelity", ["flow", pytest.param("real", marks=pytest.mark.slow)])
def test_traffic_that_cannot_be_is_said_with_its_line(
    traffic: str, why: str, fidelity: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.toml"
    path.write_text(f"seconds = 5\n{TWO}[[traffic]]\n{traffic}\n")
    assert run(["lab", "play", str(path), f"--fidelity={fidelity}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"rill: {path}, line 6: {why}")
    assert said.count("\n") == 1


def test_house_scenarios_are_listed_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lab", "scenarios"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == set(house_scenarios())
    assert run(["lab", "scenarios", "ring"]) == 0
    assert read_scenario(capsys.readouterr().out, "ring") == load_scenario("ring")
    assert run(["lab", "scenarios", "zoe"]) == 2
    assert "there is no house scenario zoe" in capsys.readouterr().err


def test_a_scenario_that_is_not_there_is_named() -> None:
    with pytest.raises(NoScenario, match=r"no file nowhere\.toml, .* there are book, content"):
        load_scenario(Path("nowhere.toml"))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [2, 3, 5, 12, 50])
def test_everybody_can_reach_everybody_in_every_shape(shape: str, count: int) -> None:
    scenario = shaped(shape, count, seed=count)
    assert len(scenario.node) == count
    assert len({frozenset(channel.nodes) for channel in scenario.channel}) == len(scenario.channel)
    assert reached(scenario) == set(scenario.names)


def reached(scenario: Scenario) -> set[str]:
    """The nodes that channels lead to from the first."""
    found, waiting = {scenario.names[0]}, [scenario.names[0]]
    while waiting:
        here = waiting.pop()
        for channel in scenario.channel:
            for other in set(channel.nodes) - found if here in channel.nodes else ():
                found.add(other)
                waiting.append(other)
    return found


def test_shapes_have_the_channels_that_their_names_say() -> None:
    assert {shape: len(build(16, Random(1))) for shape, build in SHAPES.items()} == {
        "line": 15,
        "ring": 16,
        "star": 15,
        "grid": 24,
        "tree": 15,
        "small-world": 32,
    }


def test_a_shape_that_is_none_is_refused() -> None:
    with pytest.raises(WrongShape, match="no topology 'torus': there are line, ring"):
        shaped("torus", 5)
    with pytest.raises(WrongShape, match="--nodes 1 is not between 2 and 500"):
        shaped("line", 1)
