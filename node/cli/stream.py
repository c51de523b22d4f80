"""`rill share`, `fetch`, `watch` and their like: paid content from the command line."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_DIRECTORY = Path("~/.rill")

Directory = Annotated[
    Path,
    typer.Option(
        "--lightning-dir", metavar="DIR", help="Where the running node lives.", show_default="~/.rill"
    ),
]
Network = Annotated[str, typer.Option("--network", metavar="NAME", help="The network it is on.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")]
LinkText = Annotated[str, typer.Argument(metavar="LINK", help="rill:ROOT/ID@HOST:PORT/…")]
PerChunk = Annotated[
    int | None, typer.Option(metavar="N", help="The most for one chunk. Without: what it costs now.")
]
PerTitle = Annotated[
    int | None, typer.Option(metavar="N", help="The most for all of it. Without: what it costs now.")
]
PerHour = Annotated[int | None, typer.Option(metavar="N", help="The most in an hour, over all titles.")]
FeePerChunk = Annotated[
    int | None,
    typer.Option(metavar="N", help="The most for the nodes on the way, a chunk. Without: 1%, or 10 sat."),
]


def share(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="What is sold. It stays where it is.")],
    price_msat: Annotated[int, typer.Option(metavar="N", help="What a chunk costs.")] = 400_000,
    chunk_size: Annotated[
        int, typer.Option(metavar="BYTES", help="The size of a chunk: 16 KiB times a power of two.")
    ] = 262_144,
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="Without: the file's name.")] = None,
    free_chunks: Annotated[
        int, typer.Option(metavar="N", min=0, help="So many chunks at the beginning cost nothing.")
    ] = 0,
    torrent: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write a BitTorrent v2 file of the same root, too.")
    ] = None,
    lightning_dir: Directory = DEFAULT_DIRECTORY,
    network: Network = "regtest",
    as_json: AsJson = False,
) -> None:
    """Sell files, chunk by chunk, from a running node.

    Each gets a link for `rill watch` and `rill fetch`. It is sold until `rill unshare`, also after the \
node was started again. A file that is changed is sold no more.
    """
    if len(files) > 1 and (title is not None or torrent is not None):
        raise typer.BadParameter("--title and --torrent are for one FILE")
    from node.cli.stream_selling import ShareWish, share_files

    wish = ShareWish(files, price_msat, chunk_size, title, free_chunks, torrent)
    raise typer.Exit(share_files(_node(lightning_dir, network), wish, as_json=as_json))


def door(
    bind: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Listen there. Port 0: any that is free.")
    ] = "127.0.0.1:0",
    lightning_dir: Directory = DEFAULT_DIRECTORY,
    network: Network = "regtest",
) -> None:
    """Sell over HTTP, too, so that any Lightning wallet can buy; until interrupted.

    An unpaid chunk is answered with 402 and an invoice (L402), whose preimage decrypts it: \
see docs/l402_client.py.
    """
    from node.cli.places import bind_address
    from node.cli.stream_selling import keep_door

    host, port = bind_address(bind, "127.0.0.1", 0)
    raise typer.Exit(keep_door(_node(lightning_dir, network), host, port))


def unshare(
    root: Annotated[str, typer.Argument(metavar="ROOT", help="In hex, or a link.")],
    lightning_dir: Directory = DEFAULT_DIRECTORY,
    network: Network = "regtest",
) -> None:
    """Sell a content no more; the file stays."""
    from node.cli.stream_selling import unshare_root

    raise typer.Exit(unshare_root(_node(lightning_dir, network), root))


def sales(
    lightning_dir: Directory = DEFAULT_DIRECTORY, network: Network = "regtest", as_json: AsJson = False
) -> None:
    """What is on sale, what was sold to whom, and earnings against spending."""
    from node.cli.stream_selling import show_sales

    raise typer.Exit(show_sales(_node(lightning_dir, network), as_json=as_json))


def browse(
    provider: Annotated[str, typer.Argument(metavar="ID@HOST:PORT", help="A node that sells.")],
    lightning_dir: Directory = DEFAULT_DIRECTORY,
    network: Network = "regtest",
    as_json: AsJson = False,
) -> None:
    """What another node sells."""
    from node.cli.stream_buying import show_catalogue

    raise typer.Exit(show_catalogue(_node(lightning_dir, network), provider, as_json=as_json))


def fetch(
    link: LinkText,
    out: Annotated[Path, typer.Option(metavar="PATH", help="Where the file goes when it is whole.")],
    per_chunk_msat: PerChunk = None,
    per_title_msat: PerTitle = None,
    per_hour_msat: PerHour = None,
    fee_per_chunk_msat: FeePerChunk = None,
    reshare: Annotated[bool, typer.Option("--reshare", help="Sell on what is bought.")] = False,
    reshare_msat: Annotated[
        int | None, typer.Option(metavar="N", help="At this price a chunk. Without: the same.")
    ] = None,
    lightning_dir: Directory = DEFAULT_DIRECTORY,
    network: Network = "regtest",
    as_json: AsJson = False,
) -> None:
    """Buy a content and write it to PATH.

    Ends with 1 when the budget is used up or nobody sells any more; what was bought is kept, and the \
same command goes on from there without paying it again. So does an interruption.
    """
    from node.cli.stream_buying import Budgets, FetchWish, fetch_link

    budgets = Budgets(per_chunk_msat, per_title_msat, per_hour_msat, fee_per_chunk_msat)
    wish = FetchWish(link, out, budgets, reshare or reshare_msat is not None, reshare_msat)
    raise typer.Exit(fetch_link(_node(lightning_dir, network), wish, as_json=as_json))


def watch(
    link: LinkText,
    per_chunk_msat: PerChunk = None,
    per_title_msat: PerTitle = None,
    per_hour_msat: PerHour = None,
    fee_per_chunk_msat: FeePerChunk = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page, or only print where it is.")
    ] = True,
    lightning_dir: Directory = DEFAULT_DIRECTORY,
    network: Network = "regtest",
) -> None:
    """Watch a content while it is bought, on a page of the running node.

    The page's link holds a secret and works on this machine only. Ctrl-C ends the buying; what was \
bought is kept and never paid again.
    """
    from node.cli.stream_buying import Budgets, watch_link

    budgets = Budgets(per_chunk_msat, per_title_msat, per_hour_msat, fee_per_chunk_msat)
    raise typer.Exit(watch_link(_node(lightning_dir, network), link, budgets, opens_browser=browser))


def verify_fraud(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A proof that a viewer kept.")],
    as_json: AsJson = False,
) -> None:
    """Check the proof that a provider sold wrong bytes; needs no node and no network.

    Ends with 0 if the file convicts the provider that it names, and with 1 if it does not.
    """
    from node.cli.stream_fraud import verify

    raise typer.Exit(verify(file, as_json=as_json))


def _node(directory: Path, network: str) -> Path:
    return directory.expanduser() / network
