"""Commands of a viewer: catalogues, downloads, and what has become of them."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio

from node.daemon.peer import PeerGone
from node.daemon.reconnect import Unreachable
from node.daemon.rpc_parameters import (
    INVALID_PARAMETERS,
    AmountMsat,
    CommandFailed,
    Hash,
    Integer,
    Number,
    Text,
)
from node.daemon.web import WebPortTaken
from node.stream.budget import Budget
from node.stream.library import NobodySells, usual_budget
from node.stream.link import Address, Link, NotALink, read_address, read_link
from node.stream.manifest import InvalidManifest, manifest_view
from node.stream.orders import PurchaseFailed
from node.stream.service import Stream
from node.stream.title import Title
from wire.codec import DecodeError
from wire.units import Msat

T = TypeVar("T")
NOBODY_SELLS = 1311
NOT_OPEN = 1312
CANNOT_BE_KEPT = 1313
LONGEST_WAIT_SECONDS = 60.0


class BuyingCommands:
    """Titles that are bought."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._library = stream, stream.library

    async def catalogue(self, provider: Text) -> dict[str, Any]:
        """What a provider sells: ID@HOST:PORT."""
        try:
            found = await self._library.browse(self._address(provider))
        except (Unreachable, PeerGone, PurchaseFailed, InvalidManifest, DecodeError) as why:
            raise CommandFailed(NOBODY_SELLS, f"{provider}: {why}") from None
        links = [str(Link(each.root, (self._address(provider),))) for each in found.manifests]
        titles = [
            {**manifest_view(each), "link": link} for each, link in zip(found.manifests, links, strict=True)
        ]
        return {"titles": titles, "missing": found.missing}

    async def fetch(
        self,
        link: Text,
        out: Text | None = None,
        per_chunk_msat: AmountMsat | None = None,
        per_title_msat: AmountMsat | None = None,
        per_hour_msat: AmountMsat | None = None,
        fee_per_chunk_msat: AmountMsat | None = None,
        reshare_msat: AmountMsat | None = None,
    ) -> Any:
        """Begin to buy a content, or go on; with `out` all of it, into that file. See waittitle."""
        wanted = self._link(link)
        if out is not None and not Path(out).is_absolute():
            raise CommandFailed(INVALID_PARAMETERS, "out: should be absolute")
        path = None if out is None else Path(out)
        title = await self._opened(partial(self._library.open, wanted, out=path))
        _allow(title, per_chunk_msat, per_title_msat, per_hour_msat, fee_per_chunk_msat)
        if reshare_msat is not None:
            self._stream.shop.resell(title.manifest, title.record.path, reshare_msat)
        return title.snapshot()

    async def watch(
        self,
        link: Text,
        per_chunk_msat: AmountMsat | None = None,
        per_title_msat: AmountMsat | None = None,
        per_hour_msat: AmountMsat | None = None,
        fee_per_chunk_msat: AmountMsat | None = None,
    ) -> Any:
        """Show a content on this node's page, which only this machine can open; it is bought as it plays."""
        title, url = await self._opened(partial(self._stream.show, self._link(link)))
        _allow(title, per_chunk_msat, per_title_msat, per_hour_msat, fee_per_chunk_msat)
        return {"url": url, "title": title.snapshot()}

    async def listtitles(self) -> dict[str, Any]:
        """The titles that are open."""
        return {"titles": [title.snapshot() for title in self._library.titles.values()]}

    async def waittitle(self, root: Hash, version: Integer = 0, timeout: Number = 30) -> Any:
        """A title's next state after this version, or the same one after so many seconds."""
        title = self._title(root)
        with trio.move_on_after(min(timeout, LONGEST_WAIT_SECONDS)):
            return await title.wait_changed(version)
        return title.snapshot()

    async def pausetitle(self, root: Hash) -> Any:
        """Buy no more of a title until it is resumed."""
        self._title(root).pause()
        return self._title(root).snapshot()

    async def resumetitle(self, root: Hash) -> Any:
        """Go on with a title that is paused or has stopped."""
        self._title(root).resume()
        return self._title(root).snapshot()

    async def closetitle(self, root: Hash) -> dict[str, Any]:
        """Buy no more of a title; what was bought stays, and is not paid again when it is fetched."""
        self._title(root)
        self._library.close(root)
        return {"root": root.hex()}

    async def _opened(self, opening: Callable[[], Awaitable[T]]) -> T:
        try:
            return await opening()
        except (NobodySells, WebPortTaken) as why:
            raise CommandFailed(NOBODY_SELLS, str(why)) from None
        except OSError as error:
            text = f"{error.filename or error}: {(error.strerror or str(error)).lower()}"
            raise CommandFailed(CANNOT_BE_KEPT, text) from None

    def _title(self, root: bytes) -> Title:
        title = self._library.titles.get(root)
        if title is None:
            raise CommandFailed(NOT_OPEN, f"{root.hex()} is not open here")
        return title

    def _link(self, text: str) -> Link:
        try:
            return read_link(text)
        except NotALink as wrong:
            raise CommandFailed(INVALID_PARAMETERS, str(wrong)) from None

    def _address(self, text: str) -> Address:
        try:
            return read_address(text)
        except NotALink as wrong:
            raise CommandFailed(INVALID_PARAMETERS, str(wrong)) from None


def _allow(
    title: Title,
    per_chunk_msat: Msat | None,
    per_title_msat: Msat | None,
    per_hour_msat: Msat | None,
    fee_per_chunk_msat: Msat | None,
) -> None:
    """Set a title's budget: what was not said is what the content costs now."""
    usual = usual_budget(title.manifest)
    title.allow(
        Budget(
            usual.per_chunk_msat if per_chunk_msat is None else per_chunk_msat,
            usual.per_title_msat if per_title_msat is None else per_title_msat,
            usual.fee_per_chunk_msat if fee_per_chunk_msat is None else fee_per_chunk_msat,
            per_hour_msat,
        )
    )
