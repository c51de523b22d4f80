"""What `rill cli` prints: for a person, and with --json for a program."""

import json
from pathlib import Path
from typing import Any

import pytest

from node.cli.client_call import flat
from node.cli.main import run
from node.cli.tables import show
from tests.node.processes import READY, RillNode


def shown(capsys: pytest.CaptureFixture[str], result: Any) -> list[str]:
    show(result)
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_fields_are_lines_and_amounts_are_satoshi(capsys: pytest.CaptureFixture[str]) -> None:
    amount_msat = 1_234_567_890
    result = {"id": "02" * 33, "fees_collected_msat": amount_msat, "is_so": True, "of": {"a": 1}, "none": []}
    assert shown(capsys, result) == [
        "id                   " + "02" * 33,
        "fees_collected sat   1,234,567.89",
        "is_so                yes",
        "of:",
        "  a                    1",
        "none",
    ]


def test_lists_are_tables_with_the_columns_that_matter(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"label": "one", "status": "paid", "amount_msat": 5000, "bolt11": "lnbc" + "x" * 300, "paid_at": 0},
        {"label": "[red]", "status": "unpaid", "amount_msat": 1_500_000, "expires_at": 1_790_000_000},
    ]
    head, first, second = shown(capsys, {"invoices": rows})
    assert head.split() == ["label", "status", "amount", "sat", "expires_at"]
    assert first.split() == ["one", "paid", "5"]
    assert second.split() == ["[red]", "unpaid", "1,500", "2026-09-21", "14:13:20"]


def test_a_value_is_never_broken_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    [_, row] = shown(capsys, [{"bolt11": "ln" + "x" * 2000, "n": 1}])
    assert "ln" + "x" * 2000 in row


@pytest.mark.slow
def test_a_node_is_asked_and_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node = RillNode(tmp_path / "alice", 0, "--chain=embedded", "--rpc-file=a-socket")
    node.wait_for(READY)
    ask = ["cli", f"--lightning-dir={tmp_path / 'alice'}", "--rpc-file=a-socket"]
    assert run([*ask, "getinfo"]) == 0
    assert "blockheight" in capsys.readouterr().out
    assert run([*ask, "--json", "invoice", "amount_msat=5sat", "label=7", "description=a film"]) == 0
    assert json.loads(capsys.readouterr().out)["bolt11"].startswith("lnbcrt50n1")
    assert run([*ask, "listinvoices"]) == 0
    assert " unpaid " in capsys.readouterr().out
    assert run([*ask, "getinf"]) == 1
    assert "did you mean 'getinfo'? (-32601)" in capsys.readouterr().err
    assert run([*ask, "--json", "newaddr", "p2x"]) == 1
    assert json.loads(capsys.readouterr().out)["code"] == -32602
    assert run([*ask, "help"]) == 0
    assert "fundchannel id amount" in capsys.readouterr().out
    ask_as_lightning_cli(ask, capsys)
    assert run([*ask, "stop"]) == 0
    assert node.code() == 0
    assert run([*ask, "getinfo"]) == 2
    assert "no node answers" in capsys.readouterr().err


def ask_as_lightning_cli(ask: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With the options that lightning-cli has."""
    capsys.readouterr()
    assert run([*ask, "-F", "listinvoices"]) == 0
    assert "invoices[0].label=7" in capsys.readouterr().out.splitlines()
    assert run([*ask, "-J", "-l", '{"alias": true, "blockheight": true}', "getinfo"]) == 0
    assert json.loads(capsys.readouterr().out).keys() == {"alias", "blockheight"}
    assert run([*ask, "--regtest", "-R", "-k", "invoice", "label=8", "amount_msat=1", "description=12"]) == 0
    assert "payment_hash" in json.loads(capsys.readouterr().out)
    # digits are whatever is wanted there: here a label and a description
    assert run([*ask, "-o", "-H", "invoice", "any", "a=b", "0012"]) == 0
    assert run([*ask, "-J", "listinvoices", "a=b"]) == 1
    assert run([*ask, "-J", "-o", "listinvoices", "a=b"]) == 0
    assert '"description":"0012"' in capsys.readouterr().out
    for wrong in ("-k listinvoices 9", "-J -F getinfo", "-l x getinfo", "-N x stop"):
        assert run([*ask, *wrong.split()]) == 2
    capsys.readouterr()


def test_each_value_has_a_line_with_its_way() -> None:
    result = {"help": [{"command": "a b"}, {"n": 1}], "is_so": True, "none": []}
    assert list(flat("", result)) == ["help[0].command=a b", "help[1].n=1", "is_so=true"]
