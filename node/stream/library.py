"""What is watched and downloaded on this node: titles by their root, each bought while it is here.

The library finds the providers of a link, asks each for its manifest, and opens one title for all
those that sell the same content in the same chunks.
"""

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import trio

from node.daemon.peer import PeerGone
from node.daemon.reconnect import Unreachable
from node.stream.budget import Budget
from node.stream.files import PartFile
from node.stream.link import Address, Link
from node.stream.manifest import InvalidManifest, Manifest
from node.stream.orders import Catalogue, Orders, Patience, PurchaseFailed
from node.stream.ports import Node
from node.stream.till import Till
from node.stream.title import Title
from wire.codec import DecodeError
from wire.crypto.secp256k1 import Point
from wire.units import Msat

log = logging.getLogger("rill.stream")


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
    ) -> None:
        """`directory` is where what was bought is kept; it is made if it is not there."""
        directory.mkdir(parents=True, exist_ok=True)
        self._node, self._directory = node, directory
        patience = patience or Patience()
        self._orders = Orders(node, patience, call=self._call, clock=clock)
        self._till = Till(node, patience, clock=clock)
        self._addresses: dict[Point, Address] = {}
        self._files = ExitStack()
        self._nursery: trio.Nursery | None = None
        self.titles: dict[bytes, Title] = {}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Buy for all open titles until cancelled."""
        with self._files:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await trio.sleep_forever()

    async def browse(self, address: Address) -> Catalogue:
        """What a provider sells.

        Raises:
            Unreachable, PeerGone: there is no connection to be had.
            PurchaseFailed, InvalidManifest, DecodeError: it does not say.
        """
        self._addresses[address.node_id] = address
        await self._call(address.node_id)
        return await self._orders.catalogue(address.node_id)

    async def open(self, link: Link, budget: Budget | None = None, *, wants_all: bool = False) -> Title:
        """The title of a link, which is bought from now on; the one that is open already if there is.

        Without a budget it may cost what its manifest says.

        Raises:
            NobodySells: no provider has it.
            OSError: there is no place to keep it.
        """
        assert self._nursery is not None, "the library runs"
        known = self.titles.get(link.root)
        if known is not None:
            return known
        manifests = await self._manifests(link)
        first = manifests[0]
        store = self._files.enter_context(PartFile(self._directory / f"{link.root.hex()}.part"))
        title = Title(
            self._node,
            self._orders,
            self._till,
            manifests,
            store,
            budget or usual_budget(first),
            wants_all=wants_all,
        )
        self.titles[link.root] = title
        self._nursery.start_soon(title.run)
        return title

    async def _manifests(self, link: Link) -> list[Manifest]:
        """Those of all providers that sell it in the same chunks as the cheapest of them."""
        found: list[Manifest] = []
        reasons: dict[Address, str] = {}

        async def ask(address: Address) -> None:
            self._addresses[address.node_id] = address
            try:
                await self._call(address.node_id)
                found.append(await self._orders.manifest(address.node_id, link.root))
            except (Unreachable, PeerGone, PurchaseFailed, InvalidManifest, DecodeError) as why:
                log.info("%s does not sell %s: %s", address, link.root.hex(), why)
                reasons[address] = str(why)

        async with trio.open_nursery() as nursery:
            for address in link.providers:
                nursery.start_soon(ask, address)
        if not found:
            raise NobodySells(reasons)
        found.sort(key=lambda manifest: manifest.total_msat)
        return [manifest for manifest in found if manifest.layout == found[0].layout]

    async def _call(self, provider: Point) -> None:
        address = self._addresses[provider]
        await self._node.connect(provider, address.host, address.port)


def usual_budget(manifest: Manifest) -> Budget:
    """As much as the manifest asks for, and fees of a hundredth of it, or of 10 sat if that is more."""
    fee_msat = Msat(max(manifest.price_msat // 100, 10_000))
    return Budget(manifest.price_msat, manifest.total_msat, fee_msat)
