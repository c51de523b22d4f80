"""What a command answered, for a person: amounts in satoshi, lists as tables, the rest as lines.

On a terminal wide tables are folded into it; elsewhere nothing is broken, so that a line can be
searched and cut.
"""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

UNBROKEN_COLUMNS = 100_000
_TIMES = ("created_at", "expires_at", "paid_at", "completed_at", "last_update", "last_timestamp", "last_used")
_SHOW = {
    "help": "command description",
    "peers": "id connected num_channels",
    "outputs": "txid output amount_msat status reserved address",
    "channels": "short_channel_id state peer_id to_us_msat our_amount_msat total_msat amount_msat "
    "spendable_msat receivable_msat fee_base_msat fee_proportional_millionths source destination active "
    "base_fee_millisatoshi fee_per_millionth delay",
    "closedchannels": "short_channel_id channel_id peer_id total_msat final_to_us_msat close_cause",
    "nodes": "nodeid alias addresses",
    "invoices": "label status amount_msat amount_received_msat description expires_at",
    "pays": "payment_hash status amount_msat amount_sent_msat label created_at",
    "payments": "payment_hash status amount_msat amount_sent_msat partid groupid",
    "transactions": "hash blockheight txindex",
    "runes": "unique_id restrictions_as_english last_used rune",
    "estimates": "blockcount feerate",
    "addresses": "keyidx bech32 p2tr",
    "descriptors": "desc internal next_index",
    "datastore": "key string hex generation",
}
"""Of known lists, the columns that fit; all others are in the JSON."""


def show(result: Any) -> None:
    """Print it."""
    is_terminal = sys.stdout.isatty()
    console = Console(
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=not is_terminal,
        width=None if is_terminal else UNBROKEN_COLUMNS,
    )
    _print(console, result, "")


def _print(console: Console, result: Any, title: str) -> None:
    if isinstance(result, Mapping):
        lists = {name: value for name, value in result.items() if _is_table(value)}
        _print_lines(console, {n: v for n, v in result.items() if n not in lists}, title)
        for name, rows in lists.items():
            _print_rows(console, name, rows)
    elif _is_table(result):
        _print_rows(console, title, result)
    else:
        console.print(_shown(title, result))


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) for each in value)


def _print_lines(console: Console, fields: Mapping[str, Any], title: str) -> None:
    if not fields:
        return
    if title:
        console.print(f"{title}:")
    width = max(map(len, fields)) + 2
    for name, value in fields.items():
        if isinstance(value, Mapping):
            console.print(f"{_named(name)}:")
            for inner, each in value.items():
                console.print(f"  {_named(inner):{width}}{_shown(inner, each)}")
        else:
            console.print(f"{_named(name):{width}}{_shown(name, value)}")


def _print_rows(console: Console, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    found = list(dict.fromkeys(column for row in rows for column in row))
    wanted = [column for column in _SHOW.get(name, "").split() if column in found] or [
        column for column in found if not any(isinstance(row.get(column), Mapping | list) for row in rows)
    ]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in wanted:
        is_number = any(isinstance(row.get(column), int) for row in rows) and column not in _TIMES
        table.add_column(_named(column), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*[_shown(column, row.get(column)) for column in wanted])
    console.print(table)


def _named(name: str) -> str:
    """An amount is shown in satoshi, whatever it is called."""
    return name.removesuffix("_msat") + " sat" if name.endswith("_msat") else name


def _shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_msat") and isinstance(value, int):
        return f"{value / 1000:,.3f}".rstrip("0").rstrip(".")
    if name in _TIMES and isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, Mapping):
        return " ".join(f"{key}={_shown(key, each)}" for key, each in value.items())
    if isinstance(value, list):
        return ", ".join(_place(each) or _shown("", each) for each in value)
    return str(value)


def _place(value: Any) -> str:
    """An address as one writes it."""
    if not isinstance(value, Mapping) or "port" not in value:
        return ""
    return f"{value.get('address', '')}:{value['port']}"
