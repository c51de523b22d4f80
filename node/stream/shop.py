"""What this node sells: files that stay where they are, found again after a restart.

A share is a row in the books and a tree file beside it. A file that was changed since it was put
on sale is not sold, and says so, because its root is no longer what was promised.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import msgspec
import trio

from node.daemon.invoices import InvoiceRow
from node.stream.content import Content, ContentChanged, Proofs, manifest_of
from node.stream.files import FileSource
from node.stream.manifest import Manifest, read_manifest
from node.stream.merkle import Layout, WrongChunkLength
from node.stream.ports import Node
from node.stream.provider import Provider
from node.stream.purchase_book import BoughtProofs, PurchaseBook
from node.stream.sales_book import Sale, SalesBook, Share
from node.stream.torrent import write_torrent
from node.stream.tree_file import TreeFile, WrongTreeFile, plant_file
from node.stream.vendor import Policy, read_sale_text
from wire.units import Msat

log = logging.getLogger("rill.stream")


class Wish(msgspec.Struct, frozen=True):
    """How a file shall be sold."""

    path: Path
    price_msat: Msat
    chunk_size: int
    title: str
    free_chunks: int = 0
    torrent: Path | None = None


class Shown(msgspec.Struct, frozen=True):
    """A share as its owner sees it; `problem` says why it is not sold, if it is not."""

    path: str
    manifest: Manifest
    problem: str


class Shop:
    """The files that one node sells. Start `run` in a nursery."""

    def __init__(
        self,
        node: Node,
        directory: Path,
        purchases: PurchaseBook,
        policy: Policy | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`directory` is where the book and the trees are kept; it is made if it is not there.

        `purchases` proves what was bought and is sold on.

        Raises:
            DatabaseInUse, Damaged: the book cannot be opened.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self.book = SalesBook(directory / "sales.sqlite")
        self._node, self._directory, self._purchases = node, directory, purchases
        self.provider = Provider(node, policy, on_sale=self.book.note_sale, clock=clock)
        self.shares: dict[bytes, Shown] = {}
        self._open: dict[bytes, ExitStack] = {}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Sell until cancelled; started once everything that was on sale is so again."""
        try:
            for share in self.book.shares():
                self._take_up(share)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.book.run)
                task_status.started()
                await self.provider.serve()
        finally:
            self.book.close()
            for root in list(self._open):
                self._close(root)

    async def share(self, wish: Wish) -> Manifest:
        """Put a file on sale; reads it once from end to end, a megabyte at a time.

        Raises:
            InvalidLayout, BadManifestRecord: it cannot be sold so.
            ContentChanged: it became shorter meanwhile.
            OSError: it cannot be read, or its tree not be written.
        """
        layout = Layout(wish.path.stat().st_size, wish.chunk_size).checked()
        manifest_of(self._node, bytes(32), layout, wish.price_msat, wish.title, wish.free_chunks)
        modified_ns = wish.path.stat().st_mtime_ns
        tree = await self._plant(wish.path, layout)
        if wish.torrent is not None:
            write_torrent(wish.torrent, wish.path.name, tree)
        terms = (wish.price_msat, wish.title, wish.free_chunks)
        manifest = manifest_of(self._node, tree.root, layout, *terms)
        tree.close()
        share = Share(str(wish.path), manifest.raw, modified_ns)
        self.book.put_share(manifest.root, share)
        self._take_up(share)
        return manifest

    def resell(self, bought: Manifest, path: Path, price_msat: Msat) -> Manifest:
        """Sell on what was bought of a content, and what will be.

        Raises:
            BadManifestRecord: it cannot have this price.
        """
        manifest = manifest_of(self._node, bought.root, bought.layout, price_msat, bought.title)
        share = Share(str(path), manifest.raw, 0, is_bought=True)
        self.book.put_share(manifest.root, share)
        self._take_up(share)
        return manifest

    def unshare(self, root: bytes) -> bool:
        """Sell it no more; whether it was on sale. The file itself stays."""
        shown = self.shares.pop(root, None)
        if shown is None:
            return False
        self.provider.withdraw(root)
        self._close(root)
        self.book.drop_share(root)
        self._tree_path(root).unlink(missing_ok=True)
        return True

    def book_again(self, invoices: Iterable[InvoiceRow]) -> int:
        """Enter the sales that were paid before a crash and not booked; how many there were."""
        found = 0
        for row in invoices:
            sale = read_sale_text(row.description) if row.is_paid else None
            if sale is None or self.book.has_sale(row.payment_hash):
                continue
            root, index, buyer = sale
            received, paid_at = row.received_msat or Msat(0), row.paid_at or 0
            self.book.note_sale(Sale(row.payment_hash, root, index, buyer, received, paid_at))
            found += 1
        return found

    async def _plant(self, path: Path, layout: Layout) -> TreeFile:
        """The file's tree, under its root's name; raises ContentChanged, OSError."""
        draft = self._directory / f".{os.getpid()}-{id(layout)}.tree"
        try:
            with FileSource(path) as source:
                tree = await plant_file(draft, source, layout)
            draft.replace(self._tree_path(tree.root))
        except WrongChunkLength:
            raise ContentChanged from None
        finally:
            draft.unlink(missing_ok=True)
        return tree

    def _take_up(self, share: Share) -> None:
        """Sell what the books say, if it is still what it was."""
        from_books = read_manifest(share.manifest)
        self._close(from_books.root)
        problem = ""
        try:
            self._put_on_sale(share, from_books)
        except (OSError, WrongTreeFile, ContentChanged) as trouble:
            problem = trouble.strerror or str(trouble) if isinstance(trouble, OSError) else str(trouble)
            log.warning("%s is not sold: %s", share.path, problem)
        self.shares[from_books.root] = Shown(share.path, from_books, problem)

    def _put_on_sale(self, share: Share, manifest: Manifest) -> None:
        path, root = Path(share.path), manifest.root
        kept = self._purchases.title(root) if share.is_bought else None
        if kept is not None:
            path = Path(kept.path)  # a download takes its name only when it is whole
        with ExitStack() as opened:
            source = opened.enter_context(FileSource(path))
            if share.is_bought:
                proofs: Proofs = BoughtProofs(self._purchases, root, manifest.layout)
            else:
                if path.stat().st_mtime_ns != share.modified_ns or source.length != manifest.layout.length:
                    raise ContentChanged
                proofs = tree = TreeFile(self._tree_path(root), manifest.layout)
                opened.callback(tree.close)
            self._open[root] = opened.pop_all()
        self.provider.put_on_sale(Content(source, proofs, manifest))

    def _close(self, root: bytes) -> None:
        opened = self._open.pop(root, None)
        if opened is not None:
            opened.close()

    def _tree_path(self, root: bytes) -> Path:
        return self._directory / f"{root.hex()}.tree"
