"""`rill node`: one node in the foreground, with Core Lightning's names for what both have."""

import textwrap
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from node.cli.words import complain, say

if TYPE_CHECKING:
    from node.cli.options import Settings

PURPOSE = """One Lightning node, on a bitcoind or on the chain of `rill chain`.

It is driven over the socket DIR/NETWORK/lightning-rpc, as Core Lightning is, and its options are \
called as there. SIGTERM, SIGINT or the command `stop` end it."""
USAGE, INTERRUPTED = 2, 130
PUT_OFF = ("ssl", "shutil", "tempfile", "locale", "idna", "msgspec.inspect", "tokenize", "traceback")
"""What trio, msgspec and the standard library import for encrypted streams, other programs, names beyond
ASCII, schemas and the text of tracebacks: two megabytes."""
_NAME_COLUMNS, _MOST_COLUMNS = 38, 110


def run_node(arguments: Sequence[str]) -> int:
    """Run a node, or say what was asked about it; the exit code."""
    from node.cli.node_options import read_settings
    from node.cli.options import BadOption

    try:
        settings = read_settings(arguments)
    except BadOption as bad:
        complain(bad)
        return USAGE
    if settings.has("help"):
        say(_help())
    elif settings.has("version"):
        from node.daemon.version import VERSION

        say(VERSION)
    elif settings.has("list-features-only"):
        say("\n".join(_features()))
    else:
        return _serve(settings)
    return 0


def service() -> ModuleType:
    """What runs a node, read without what a node may never need."""
    from node.daemon.later import put_off

    put_off(*PUT_OFF)
    from node.cli import node_service

    return node_service


def _serve(settings: "Settings") -> int:
    try:
        code: int = service().serve_node(settings)
        return code
    except KeyboardInterrupt:
        # before the node listens for signals itself
        complain("interrupted")
        return INTERRUPTED


def _help() -> str:
    import shutil

    from node.cli.node_options import GROUPS, IGNORED

    width = min(shutil.get_terminal_size().columns, _MOST_COLUMNS)
    purpose = PURPOSE.split("\n\n")
    lines = ["Usage: rill node [OPTION]…", "", *purpose[:1], "", *textwrap.wrap(purpose[1], width)]
    for title, options in GROUPS.items():
        lines += ["", f"{title}:"]
        for option in options:
            name = f"  --{option.name}" + (f"={option.metavar}" if option.metavar else "")
            more = " Repeatable." if option.is_repeated else ""
            text = textwrap.wrap(option.help + more, max(20, width - _NAME_COLUMNS), break_on_hyphens=False)
            first, *rest = text if len(name) < _NAME_COLUMNS else ["", *text]
            lines.append(f"{name:{_NAME_COLUMNS}}{first}".rstrip())
            lines += [" " * _NAME_COLUMNS + line for line in rest]
    ignored = f"Accepted and ignored: {', '.join(f'--{option.name}' for option in IGNORED)}."
    return "\n".join([*lines, "", *textwrap.wrap(ignored, width, break_on_hyphens=False)])


def _features() -> list[str]:
    """One in a line, as the tools that test protocols read them."""
    from wire.features import OUR_INIT

    names = [
        f"option_{name.removeprefix('option_')}/{'even' if OUR_INIT.requires(name) else 'odd'}"
        for name in OUR_INIT.names()
    ]
    return [*names, "supports_open_accept_channel_type"]
