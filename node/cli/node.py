"""`rill node`: one node in the foreground, with Core Lightning's names for what both have."""

import shutil
import textwrap

import typer

OPTIONS_OF_ITS_OWN = {"allow_extra_args": True, "ignore_unknown_options": True}
FAILED, USAGE = 1, 2
_NAME_COLUMNS, _MOST_COLUMNS = 38, 110


def node(context: typer.Context) -> None:
    """One Lightning node, on a bitcoind or on the chain of `rill chain`.

    It is driven over the socket DIR/NETWORK/lightning-rpc, as Core Lightning is, and its options are \
called as there. SIGTERM, SIGINT or the command `stop` end it.
    """
    from node.cli.node_options import read_settings
    from node.cli.options import BadOption

    try:
        settings = read_settings(context.args)
    except BadOption as bad:
        raise typer.BadParameter(str(bad)) from None
    if settings.has("help"):
        typer.echo(_help())
    elif settings.has("version"):
        from node.daemon.version import VERSION

        typer.echo(VERSION)
    elif settings.has("list-features-only"):
        typer.echo("\n".join(_features()))
    else:
        from node.cli.node_service import serve_node

        raise typer.Exit(serve_node(settings))


def _help() -> str:
    from node.cli.node_options import GROUPS, IGNORED

    width = min(shutil.get_terminal_size().columns, _MOST_COLUMNS)
    purpose = [" ".join(part.split()) for part in (node.__doc__ or "").split("\n\n")]
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
