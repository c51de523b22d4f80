"""`rill restore` and `rill seed`: a node that was lost begins again, and what it needs for that."""

from pathlib import Path
from typing import Annotated

import typer

from node.cli.places import DEFAULT_DIRECTORY, NETWORKS

Directory = Annotated[Path, typer.Option(metavar="DIR", help="Where the node lives.")]
Network = Annotated[str, typer.Option(metavar="NAME", help=f"One of {', '.join(NETWORKS)}.")]


def restore(
    seed: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="The seed: 12 to 24 words, its 32 bytes, or hex. -: from the terminal."
        ),
    ],
    backup: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The node's emergency.recover. Without: peers may give it back."),
    ] = None,
    from_height: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Read the chain from this block. Without: as the backup says, or from the first block.",
        ),
    ] = None,
    lightning_dir: Directory = DEFAULT_DIRECTORY,
    network: Network = "regtest",
) -> None:
    """Make a lost node anew from its seed and the backup of its channels.

    Then start it with `rill node`: it finds its wallet's money again, asks the peer of each channel to \
close it, and sweeps what is its own. It never closes a restored channel itself.
    """
    _check(network)
    from node.cli.restore_service import restore_node

    directory = lightning_dir.expanduser() / network
    raise typer.Exit(restore_node(directory, network, seed, backup, from_height))


def seed(lightning_dir: Directory = DEFAULT_DIRECTORY, network: Network = "regtest") -> None:
    """Show a node's seed as words (BIP 39) to be written down. Who has them has its money.

    Any wallet that takes such words finds the coins on chain. Channels need `rill restore`.
    """
    _check(network)
    from node.cli.restore_service import show_seed

    raise typer.Exit(show_seed(lightning_dir.expanduser() / network))


def _check(network: str) -> None:
    if network not in NETWORKS:
        raise typer.BadParameter(f"--network is {network!r}, not one of {', '.join(NETWORKS)}")
