"""`rill route`: the way a payment would take through a network, and why."""

from pathlib import Path
from typing import Annotated

import typer


def route(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The payer: a node's id, alias or index.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The payee.")],
    amount_msat: Annotated[int, typer.Argument(metavar="MSAT", help="What shall arrive.")],
    graph: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A network: a table of edges (CSV), Core Lightning's listchannels (a second --graph: its "
            "listnodes), LND's describegraph, or a gossip_store; also packed with xz or gzip; or the "
            "directory of a running node. Without it, a network like mainnet from seed 1.",
        ),
    ] = None,
    cheapest: Annotated[
        bool, typer.Option("--cheapest", help="Least fees alone: time lock and length cost nothing.")
    ] = False,
    max_fee_msat: Annotated[int | None, typer.Option(metavar="MSAT", help="The fee budget.")] = None,
    max_cltv: Annotated[
        int, typer.Option(metavar="BLOCKS", help="How long the first HTLC may lock the money.")
    ] = 2016,
    final_cltv: Annotated[
        int, typer.Option(metavar="BLOCKS", help="How long the payee wants the last HTLC to last.")
    ] = 18,
    explain: Annotated[
        bool, typer.Option("--explain", help="What each hop costs, and why the next best way is worse.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")] = False,
) -> None:
    """Find the route of a payment through a network.

    A hop's amount is what its HTLC carries to the hop's `to`, as in Core Lightning's getroute: the \
last is MSAT, the first what the payer sends, the difference the fee. `cltv_delta` is what the owner of \
the hop asks for; the payer's own channel costs neither fee nor time. The exit code is 1 if there is no route.
    """
    if not 0 < amount_msat <= 21_000_000 * 10**11:
        raise typer.BadParameter(f"{amount_msat} msat is no amount that can be paid")
    if final_cltv < 0 or max_cltv < 0 or (max_fee_msat is not None and max_fee_msat < 0):
        raise typer.BadParameter("a limit cannot be negative")
    if len(graph or ()) > 2:
        raise typer.BadParameter("--graph can be given twice: listchannels, then listnodes")
    from node.cli.route_view import Asked, show_route

    asked = Asked(graph or [], source, target, amount_msat, cheapest, max_fee_msat, max_cltv, final_cltv)
    raise typer.Exit(show_route(asked, explain=explain, as_json=as_json))
