"""What `rill share`, `unshare` and `sales` do."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import typer

from node.cli.stream_calls import given, print_json, sat, size, wait_for_signal, with_node
from node.daemon.rpc_client import NodeClient
from node.stream.link import NotALink, read_link


class ShareWish(NamedTuple):
    """What the command line said."""

    files: list[Path]
    price_msat: int
    chunk_size: int
    title: str | None
    free_chunks: int
    torrent: Path | None


def share_files(directory: Path, wish: ShareWish, *, as_json: bool) -> int:
    """Put the files on sale and print their links; return the exit code."""

    async def act(node: NodeClient) -> int:
        shares = [await node.call("share", **each) for each in _calls(wish)]
        if as_json:
            print_json({"shares": shares})
            return 0
        for share in shares:
            typer.echo(_told(share))
        for note in {share["price_note"]: None for share in shares if share["price_note"]}:
            typer.echo(note, err=True)
        return 0

    return with_node(directory, act)


def _calls(wish: ShareWish) -> list[dict[str, Any]]:
    return [
        given(
            path=str(file.absolute()),
            price_msat=wish.price_msat,
            chunk_size=wish.chunk_size,
            title=wish.title,
            free_chunks=wish.free_chunks,
            torrent=None if wish.torrent is None else str(wish.torrent.absolute()),
        )
        for file in wish.files
    ]


def _told(share: dict[str, Any]) -> str:
    free = f", {share['free_chunks']} of them free" if share["free_chunks"] else ""
    return (
        f"{share['title']}: {size(share['length'])} in {share['chunks']} chunks{free}, "
        f"{sat(share['total_msat'])} in all\n{share['link']}"
    )


def keep_door(directory: Path, host: str, port: int) -> int:
    """Sell over HTTP until a signal; return the exit code."""

    async def act(node: NodeClient) -> int:
        opened = await node.call("opendoor", host=host, port=port)
        typer.echo(opened["url"])
        await wait_for_signal()
        await node.call("closedoor")
        return 0

    return with_node(directory, act)


def unshare_root(directory: Path, text: str) -> int:
    """Take a content off sale; return the exit code."""
    try:
        root = read_link(text).root.hex()
    except NotALink:
        root = text
    return with_node(directory, _unsharing(root))


def _unsharing(root: str) -> Callable[[NodeClient], Awaitable[int]]:
    async def act(node: NodeClient) -> int:
        await node.call("unshare", root=root)
        return 0

    return act


def show_sales(directory: Path, *, as_json: bool) -> int:
    """Print what is on sale, and what was sold; return the exit code."""

    async def act(node: NodeClient) -> int:
        shares, sales = await node.call("listshares"), await node.call("listsales")
        if as_json:
            print_json({**shares, **sales})
            return 0
        for share in shares["shares"]:
            typer.echo(_told(share) + (f"\n  not sold: {share['problem']}" if "problem" in share else ""))
        for sale in sales["sales"]:
            title = sale["title"] or sale["root"]
            typer.echo(f"{title} to {sale['buyer']}: {sale['chunks']} chunks, {sat(sale['received_msat'])}")
        spent = f"spent {sat(sales['spent_msat'])} and {sat(sales['fee_msat'])} of fees"
        typer.echo(f"Earned {sat(sales['earned_msat'])}; {spent}")
        return 0

    return with_node(directory, act)
