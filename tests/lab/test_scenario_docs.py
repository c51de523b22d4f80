"""The page about scenario files: every example of it runs, and it leaves out nothing."""

import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from node.lab.flow.runs import run_scenario
from node.lab.plugins import FEES, TRAFFIC
from node.lab.scenario.model import ChannelSpec, Event, NodeSpec, Policy, Scenario
from node.lab.scenario.reading import house_scenarios, read_scenario
from tests.lab.agreement import assert_agree

PAGE = (Path(__file__).parents[2] / "docs" / "scenarios.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_every_example_runs(number: int) -> None:
    report = run_scenario(read_scenario(EXAMPLES[number], "example"))
    assert all(payment.is_paid or payment.amount_msat > 50_000_000 for payment in report.payments)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_every_example_gives_the_same_books_on_real_nodes(number: int) -> None:
    assert_agree(read_scenario(EXAMPLES[number], "example"))


def test_the_first_example_earns_what_the_page_says() -> None:
    report = run_scenario(read_scenario(EXAMPLES[0], "corner"))
    assert [payment.fee_msat for payment in report.payments] == [5_500, 150_500]


def test_the_example_of_jamming_jams() -> None:
    [jam] = [text for text in EXAMPLES if "Mallory" in text]
    report = run_scenario(read_scenario(jam, "jam"))
    assert [payment.is_paid for payment in report.payments] == [False, False, True]


def test_the_page_names_every_key_event_plug_in_and_option() -> None:
    kinds = (Scenario, NodeSpec, ChannelSpec, Policy, *get_args(Event))
    wanted = {field.name for kind in kinds for field in msgspec.structs.fields(kind)}
    wanted |= set(house_scenarios())
    for group in (FEES, TRAFFIC):
        # those of other packages have pages of their own
        for entry in entry_points(group=group):
            if entry.value.startswith("node.lab."):
                wanted |= {f'"{entry.name}"', *entry.load().__struct_fields__}
    wanted |= {f'"{kind.__struct_config__.tag}"' for kind in get_args(Event)}
    named = set(re.findall(r"`([^`\n]+)`", PAGE)) | set(re.findall(r"\[\[?(\w+)\]\]?", PAGE))
    assert wanted <= named
