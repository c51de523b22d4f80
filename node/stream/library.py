"""What is watched and downloaded on this node: titles by their root, each bought while it is here.

The library finds the providers of a link, asks each for its manifest, and opens one title for all
those that sell the same content in the same chunks.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import trio

from node.daemon.peer import PeerGone
from node.daemon.reconnect import Unreachable
from node.stream.budget import Budget
from node.stream.link import Address, Link
from node.stream.manifest import InvalidManifest, Manifest, read_manifest
from node.stream.merkle import Layout
from node.stream.orders import Catalogue, Orders, Patience, PurchaseFailed
from node.stream.pace import Window
from node.stream.ports import Node
from node.stream.purchase_book import Kept, PurchaseBook
from node.stream.receipt import ChunkBought
from node.stream.record import Record
from node.stream.till import Till
from node.stream.title import Title
from node.stream.trade import Desk
from wire.codec import DecodeError
from wire.crypto.secp256k1 import Point
from wire.units import Msat

HOUR_SECONDS = 3600


class NobodySells(PurchaseFailed):
    """No provider of the link sells its content; each says why."""

    def __init__(self, reasons: dict[Address, str]) -> None:
        self.reasons = reasons
        super().__init__("; ".join(f"{each}: {why}" for each, why in reasons.items()))


class Library:
    """The titles of one viewer's node. Start `run` in a nursery, then open titles."""

    def __init__(
        self,
        node: Node,
        directory: Path,
        patience: Patience | None = None,
        *,
        clock: Callable[[], float] = time.time,
        on_chunk: Callable[[ChunkBought], None] | None = None,
    ) -> None:
        """`directory` is where what was bought is kept; it is made if it is not there.

        Raises:
            DatabaseInUse, Damaged: its book cannot be opened.
        """
        self._parts, self._sealed = directory / "parts", directory / "sealed"
        self._parts.mkdir(parents=True, exist_ok=True)
        self._node, self._clock = node, clock
        self.book = PurchaseBook(directory / "purchases.sqlite")
        patience = patience or Patience()
        self.orders = Orders(node, patience, call=self._call, clock=clock)
        till = Till(node, patience, clock=clock)
        till.remember(self.book.spent_since(int(clock()) - HOUR_SECONDS))
        self._desk = Desk(node, self.orders, till, patience, directory / "frauds", clock)
        self._addresses: dict[Point, Address] = {}
        self._on_chunk = on_chunk
        self._outs: dict[bytes, Path] = {}
        self._scopes: dict[bytes, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        self.titles: dict[bytes, Title] = {}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Buy for all open titles until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self.book.run)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self.book.close()

    async def browse(self, address: Address) -> Catalogue:
        """What a provider sells.

        Raises:
            Unreachable, PeerGone: there is no connection to be had.
            PurchaseFailed, InvalidManifest, DecodeError: it does not say.
        """
        self._addresses[address.node_id] = address
        await self._call(address.node_id)
        return await self.orders.catalogue(address.node_id)

    async def open(
        self,
        link: Link,
        budget: Budget | None = None,
        *,
        out: Path | None = None,
        window: Window | None = None,
    ) -> Title:
        """The title of a link, which is bought from now on; the one that is open already if there is.

        With `out` it is a download, and the file takes that name when it is whole. Without a budget
        it may cost what its manifest says. What was bought of it before is taken up again.

        Raises:
            NobodySells: no provider has it.
            OSError: there is no place to keep it.
        """
        assert self._nursery is not None, "the library runs"
        title = self.titles.get(link.root)
        if title is None:
            manifests = await self._sold(link)
            title = self.titles.get(link.root)
        if title is None:
            record = self._record(manifests[0], out)
            budget = budget or usual_budget(manifests[0])
            title = Title(self._desk, manifests, record, budget, window=window, on_chunk=self._on_chunk)
            self.titles[link.root] = title
            self._nursery.start_soon(self._keep, title)
        elif budget is not None:
            title.allow(budget)
        if out is not None:
            self._outs[link.root] = out
            title.want_all()
        return title

    def close(self, root: bytes) -> None:
        """Buy no more of a title, and forget that it is open; what was bought stays."""
        scope = self._scopes.get(root)
        if scope is not None:
            scope.cancel()

    async def _keep(self, title: Title) -> None:
        """Buy a title, and keep its file open for its readers, until it is closed or the library ends."""
        root = title.root
        try:
            with trio.CancelScope() as self._scopes[root]:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(title.run)
                    while True:
                        await title.wait_until_whole()
                        version = title.snapshot().version
                        if root in self._outs and await self._proven(title):
                            self._deliver(title, self._outs.pop(root))
                        else:
                            await title.wait_changed(version)
        finally:
            del self.titles[root], self._scopes[root]
            title.record.close()

    async def _proven(self, title: Title) -> bool:
        """Whether a title is whole; what was bought long ago is looked at again."""
        try:
            return await title.prove_all()
        except OSError as error:
            title.stop(f"what was bought cannot be read: {error.strerror or error}")
            return False

    def _deliver(self, title: Title, out: Path) -> None:
        """A download is whole: give it its name, or a copy if it has one already."""
        record = title.record
        try:
            record.sync()
            if record.path in (self._part(title.root), hidden_part(out)):
                record.move(out)
                self.book.put_title(title.root, Kept(str(out), title.manifest.raw))
            elif record.path != out:
                shutil.copyfile(record.path, out)
            title.deliver(out)
        except OSError as error:
            title.stop(f"{out} cannot be written: {error.strerror or error}")

    def _record(self, manifest: Manifest, out: Path | None) -> Record:
        """The record of a title, which may have been begun before; raises OSError."""
        kept = self.book.title(manifest.root)
        path = Path(kept.path) if kept else self._part(manifest.root)
        if not path.exists() and out is not None:
            path = hidden_part(out)
        self.book.put_title(manifest.root, Kept(str(path), manifest.raw))
        return Record(self.book, manifest.root, path, self._sealed)

    def _part(self, root: bytes) -> Path:
        return self._parts / f"{root.hex()}.part"

    async def _sold(self, link: Link) -> list[Manifest]:
        """The manifests to buy by; nobody is asked for a title that is here as a whole."""
        kept = self.book.title(link.root)
        if kept is None:
            return await self._manifests(link, None)
        manifest = read_manifest(kept.manifest)
        chunks = sum(1 for _ in self.book.purchases(link.root))
        if chunks == manifest.layout.chunk_count and is_there(kept.path):
            return [manifest]
        return await self._manifests(link, manifest.layout if chunks else None)

    async def _manifests(self, link: Link, layout: Layout | None) -> list[Manifest]:
        """Those of all providers that sell it in these chunks, or in those of the cheapest."""
        found: list[Manifest] = []
        reasons: dict[Address, str] = {}

        async def ask(address: Address) -> None:
            self._addresses[address.node_id] = address
            try:
                await self._call(address.node_id)
                found.append(await self.orders.manifest(address.node_id, link.root))
            except (Unreachable, PeerGone, PurchaseFailed, InvalidManifest) as why:
                reasons[address] = str(why)
            except DecodeError as why:
                reasons[address] = f"its manifest cannot be read: {why}"

        async with trio.open_nursery() as nursery:
            for address in link.providers:
                nursery.start_soon(ask, address)
        found.sort(key=lambda manifest: manifest.total_msat)
        layout = layout or (found[0].layout if found else None)
        for other in [manifest for manifest in found if manifest.layout != layout]:
            reasons[self._addresses[other.provider]] = "it sells it in chunks of another size"
            found.remove(other)
        if not found:
            raise NobodySells(reasons)
        return found

    async def _call(self, provider: Point) -> None:
        address = self._addresses[provider]
        await self._node.connect(provider, address.host, address.port)


def hidden_part(out: Path) -> Path:
    """Where a download lies until it is whole."""
    return out.with_name(f".{out.name}.part")


def is_there(path: str) -> bool:
    """Whether there is such a file."""
    return Path(path).is_file()


def usual_budget(manifest: Manifest) -> Budget:
    """As much as the manifest asks for, and fees of a hundredth of it, or of 10 sat if that is more."""
    fee_msat = Msat(max(manifest.price_msat // 100, 10_000))
    return Budget(manifest.price_msat, manifest.total_msat, fee_msat)
