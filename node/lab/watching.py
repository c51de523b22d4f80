"""The demo's film on a page: a person presses play, and the chunks are bought as they are watched."""

from pathlib import Path
from typing import Protocol

import trio

from node.daemon.node import Node
from node.stream.gateway import Gateway
from node.stream.library import Library
from node.stream.link import Link
from node.stream.receipt import ChunkBought, Receipt
from node.stream.snapshot import alias_of
from node.stream.title import Title


class Host(Protocol):
    """Who brings the person to the page, and is told what they buy."""

    def page(self, url: str) -> None:
        """The film waits here."""

    def bought(self, chunk: ChunkBought) -> None:
        """One chunk more."""


async def watch(buyer: Node, link: Link, directory: Path, out: Path, host: Host) -> Receipt:
    """Serve the page until the person ends it; a film that was bought whole is copied to `out`.

    Raises:
        NobodySells: the provider does not have it.
        WebPortTaken, OSError: the page cannot be served, or the film not be kept.
    """
    chunks: list[ChunkBought] = []

    def note(chunk: ChunkBought) -> None:
        chunks.append(chunk)
        host.bought(chunk)

    library, ended = Library(buyer, directory, on_chunk=note), trio.Event()
    gateway = Gateway(
        library,
        buyer.config.alias,
        link.providers,
        name_of=lambda node_id: alias_of(buyer.graph, node_id),
        on_finish=ended.set,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(library.run)
        title = await gateway.show(link)
        host.page(await nursery.start(gateway.run))
        began = trio.current_time()
        await ended.wait()
        seconds = trio.current_time() - began
        await _settle(title)
        if title.is_complete:
            await library.open(link, out=out)
            await title.wait_until_delivered()
        nursery.cancel_scope.cancel()
    return Receipt(tuple(chunks), seconds)


async def _settle(title: Title) -> None:
    """Buy no more, and return when nothing is on its way."""
    title.pause()
    snapshot = title.snapshot()
    while snapshot.on_the_way:
        snapshot = await title.wait_changed(snapshot.version)
