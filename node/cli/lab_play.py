"""`rill lab play`: a scenario at either fidelity, and what came of it."""

import logging
from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from node.cli.testnet_calls import FAILED, USAGE, print_json, say_failed
from node.lab.flow.runs import Report, run_scenario
from node.lab.plugins import BadPlugin
from node.lab.real.stage import run_real
from node.lab.scenario.model import Misfit, Scenario
from node.lab.scenario.reading import (
    BadScenario,
    NoScenario,
    house_scenarios,
    load_scenario,
    located,
    read_scenario,
)


def play_scenario(name: str, seed: int | None, *, is_real: bool, as_json: bool) -> int:
    """Play it and print the books; return the exit code."""
    logging.getLogger("rill").addHandler(logging.NullHandler())
    try:
        scenario = load_scenario(name)
        if seed is not None:
            scenario = msgspec.structs.replace(scenario, seed=seed)
        with Console(stderr=True).status(scenario.name):
            report = run_real(scenario) if is_real else run_scenario(scenario)
    except Misfit as wrong:
        return say_failed(located(name, wrong), USAGE)
    except (BadScenario, NoScenario, BadPlugin) as wrong:
        return say_failed(wrong, USAGE)
    except OSError as failed:
        return say_failed(failed, FAILED)
    if as_json:
        print_json(_view(scenario, report))
    else:
        _print(scenario, report)
    return 0


def show_scenarios(name: str | None, *, as_json: bool) -> int:
    """Print the house scenarios, or one of them; return the exit code."""
    texts = house_scenarios()
    if name is not None and name not in texts:
        return say_failed(f"there is no house scenario {name}: there are {', '.join(sorted(texts))}", USAGE)
    if name is not None and not as_json:
        typer.echo(texts[name], nl=False)
        return 0
    about = {each: read_scenario(text, each).about for each, text in sorted(texts.items())}
    if as_json:
        print_json(about if name is None else {"name": name, "about": about[name], "toml": texts[name]})
        return 0
    for each, sentence in about.items():
        typer.echo(f"{each:<10}{sentence}")
    return 0


def _view(scenario: Scenario, report: Report) -> dict[str, Any]:
    names = scenario.names
    payments = [
        {**msgspec.structs.asdict(payment), "payer": names[payment.payer], "payee": names[payment.payee]}
        for payment in report.payments
    ]
    channels = [
        {"nodes": channel.nodes, "balances_msat": balances}
        for channel, balances in zip(scenario.channel, report.balances_msat, strict=True)
    ]
    return {
        "scenario": scenario.name,
        "payments": payments,
        "earned_msat": report.earned_msat,
        "channels": channels,
        "trace_hash": report.trace_hash,
    }


def _print(scenario: Scenario, report: Report) -> None:
    console = Console(highlight=False)
    paid = [payment for payment in report.payments if payment.is_paid]
    fees_msat = sum(payment.fee_msat for payment in paid)
    console.print(
        f"{scenario.name}: {len(paid)} of {len(report.payments)} payments arrived, "
        f"{sum(payment.amount_msat for payment in paid):,} msat, for {fees_msat:,} msat in fees"
    )
    table = Table(box=None, pad_edge=False)
    for heading in ("node", "earned, msat"):
        table.add_column(heading, justify="right" if "," in heading else "left")
    for name, earned_msat in report.earned_msat.items():
        table.add_row(name, f"{earned_msat:,}")
    console.print(table)
    for channel, (left_msat, right_msat) in zip(scenario.channel, report.balances_msat, strict=True):
        a, b = channel.nodes
        console.print(f"{a:>12} {left_msat:>18,} | {right_msat:<18,} {b}")
