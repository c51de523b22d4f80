"""Where the socket of a node is, from what the command line and the node's configuration say."""

from collections.abc import Mapping
from pathlib import Path

import typer

from node.cli.node_options import directory_of, network_of, read_settings
from node.cli.options import BadOption
from node.daemon.rpc import SOCKET_NAME


def socket_of(said: Mapping[str, object], flags: Mapping[str, bool]) -> Path:
    """The socket of the node that these options of `rill node` would start.

    Raises:
        typer.BadParameter: they cannot be meant.
    """
    arguments = [f"--{name}={value}" for name, value in said.items() if value is not None]
    # what its configuration has for tests is for the node to judge
    arguments += ["--developer", *(f"--{name}" for name, is_set in flags.items() if is_set)]
    try:
        settings = read_settings(arguments)
    except BadOption as bad:
        raise typer.BadParameter(str(bad)) from None
    return directory_of(settings) / network_of(settings) / settings.get("rpc-file", Path(SOCKET_NAME))
