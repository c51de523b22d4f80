"""`rill testnet`: networks on this machine that stay until they are taken down."""

from pathlib import Path
from typing import Annotated

import typer

testnet = typer.Typer(help="Networks on this machine that stay until taken down.", no_args_is_help=True)

Directory = Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where the network lives.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")]
DEFAULT = Path("~/.rill-testnet")
BACKENDS = ("embedded", "bitcoind")


@testnet.command()
def up(
    topology: Annotated[
        str | None,
        typer.Option(
            metavar="SHAPE|FILE", help="line, ring, star, grid, tree, small-world, a scenario's file or name."
        ),
    ] = None,
    nodes: Annotated[int | None, typer.Option(metavar="N", help="How many nodes.", show_default="5")] = None,
    capacity: Annotated[
        int | None,
        typer.Option(
            metavar="SAT", min=20_000, max=10**12, help="The size of each channel.", show_default="10000000"
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Where keys and chance come from.", show_default="0"),
    ] = None,
    processes: Annotated[bool, typer.Option("--processes", help="A process for each node.")] = False,
    chain: Annotated[
        str | None,
        typer.Option(metavar="|".join(BACKENDS), help="What they settle on.", show_default=BACKENDS[0]),
    ] = None,
    directory: Directory = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Start a network, and return when every node can route to every other.

    It goes on in the background. If DIR holds a network already, that one is started again, with its \
channels and balances as they were. Each node answers to `rill cli --lightning-dir DIR/NAME`; \
`rill testnet info` says how else.
    """
    if chain is not None and chain not in BACKENDS:
        raise typer.BadParameter(f"--chain {chain!r} is not one of {', '.join(BACKENDS)}")
    from node.cli.testnet_up import UpWish, bring_up

    wish = UpWish(topology, nodes, capacity, seed, processes, chain)
    raise typer.Exit(bring_up(directory.expanduser(), wish, as_json=as_json))


@testnet.command()
def status(directory: Directory = DEFAULT, as_json: AsJson = False) -> None:
    """The nodes, the channels, and what is on each side."""
    from node.cli.testnet_calls import show_status

    raise typer.Exit(show_status(directory.expanduser(), as_json=as_json))


@testnet.command()
def info(
    node: Annotated[str | None, typer.Argument(metavar="[NODE]", help="Without: all.")] = None,
    directory: Directory = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """How to reach the nodes and the chain: id@host:port, socket, command line, pyln-client, JSON-RPC."""
    from node.cli.testnet_info import show_info

    raise typer.Exit(show_info(directory.expanduser(), node, as_json=as_json))


@testnet.command()
def env(directory: Directory = DEFAULT, as_json: AsJson = False) -> None:
    """Shell functions for this network: `eval "$(rill testnet env)"` gives NAME-cli, NAME-log, btc-cli."""
    from node.cli.testnet_info import show_env

    raise typer.Exit(show_env(directory.expanduser(), as_json=as_json))


@testnet.command()
def down(
    remove: Annotated[bool, typer.Option("--remove", help="Forget the network, too.")] = False,
    directory: Directory = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Stop the network. What it is stays in DIR, for the next `up`."""
    from node.cli.testnet_calls import take_down

    raise typer.Exit(take_down(directory.expanduser(), remove=remove, as_json=as_json))


@testnet.command()
def pay(
    payer: Annotated[str, typer.Argument(metavar="A")],
    payee: Annotated[str, typer.Argument(metavar="B")],
    amount: Annotated[str, typer.Argument(metavar="MSAT", help="5000, 5000msat, 5sat.")],
    directory: Directory = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Let node A pay a new invoice of node B."""
    from node.cli.testnet_calls import make_payment

    raise typer.Exit(make_payment(directory.expanduser(), payer, payee, amount, as_json=as_json))


@testnet.command()
def mine(
    count: Annotated[int, typer.Argument(metavar="N", help="How many blocks.")] = 1,
    directory: Directory = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Mine blocks; every node has read them when this returns."""
    from node.cli.testnet_calls import mine_blocks

    raise typer.Exit(mine_blocks(directory.expanduser(), count, as_json=as_json))


@testnet.command()
def fund(
    node: Annotated[str, typer.Argument(metavar="NODE")],
    amount_sat: Annotated[int, typer.Argument(metavar="SAT", min=546)],
    directory: Directory = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Give a node's wallet coins, confirmed when this returns: for channels of your own."""
    from node.cli.testnet_calls import fund_node

    raise typer.Exit(fund_node(directory.expanduser(), node, amount_sat, as_json=as_json))


@testnet.command(name="exec")
def execute(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Its name in the network.")],
    method: Annotated[str, typer.Argument(metavar="METHOD", help="Such as getinfo, listfunds, or help.")],
    parameters: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PARAMETER]…", help="By position, or each as name=value."),
    ] = None,
    directory: Directory = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """One command of one node, as `rill cli` makes it."""
    from node.cli.testnet_calls import execute_on

    raise typer.Exit(execute_on(directory.expanduser(), node, method, parameters or [], as_json=as_json))


@testnet.command()
def logs(
    node: Annotated[str | None, typer.Argument(metavar="[NODE]", help="Without: of all.")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", metavar="N", min=1, help="The last so many.")] = 100,
    is_followed: Annotated[
        bool, typer.Option("--follow", "-f", help="And what comes, until Ctrl-C.")
    ] = False,
    directory: Directory = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """What the nodes have said."""
    from node.cli.testnet_calls import follow_logs, show_logs

    if is_followed:
        raise typer.Exit(follow_logs(directory.expanduser(), node, lines, as_json=as_json))
    raise typer.Exit(show_logs(directory.expanduser(), node, lines, as_json=as_json))


@testnet.command(name="export")
def export_to(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Such as network.tar.gz.")],
    directory: Directory = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Write a network that is down into one file: chain, nodes, channels, balances."""
    from node.cli.testnet_calls import export_network

    raise typer.Exit(export_network(directory.expanduser(), file, as_json=as_json))


@testnet.command(name="import")
def import_from(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `export` wrote.")],
    directory: Directory = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Unpack an exported network into an empty DIR, for `up`."""
    from node.cli.testnet_calls import import_network

    raise typer.Exit(import_network(directory.expanduser(), file, as_json=as_json))


@testnet.command()
def view(
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65_535, help="Serve it there. 0: at any that is free.")
    ] = 0,
    is_opened: Annotated[bool, typer.Option("--open/--no-open", help="Open it in a browser.")] = True,
    directory: Directory = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """A page that shows the network: balances, payments as they move, fees as they are earned.

    It is served on this machine only, to whoever has the link that is printed.
    """
    from node.cli.testnet_calls import view_network

    raise typer.Exit(view_network(directory.expanduser(), port, is_opened=is_opened, as_json=as_json))


@testnet.command(hidden=True)
def keep(directory: Directory = DEFAULT) -> None:
    """What `up` leaves in the background."""
    from node.cli.testnet_up import keep_up

    raise typer.Exit(keep_up(directory.expanduser()))
