"""The viewer's window: a page and a film over HTTP, while both are paid for.

`/TOKEN/` is the page, `/TOKEN/content/ROOT` the film for any player: a Range of it is read from its
title, which buys what is missing. When a title stops, because the money is used up or its providers
are gone, a response waits; it goes on when the title does. `/TOKEN/state` tells a page of every
change. Who may ask at all is the guard's to say.
"""

import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from importlib.resources import files
from typing import TypeVar

import msgspec
import trio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from node.daemon.peer import PeerGone
from node.daemon.reconnect import Unreachable
from node.daemon.web import serve_web
from node.stream.guard import LOOPBACK_NAMES, Guard
from node.stream.library import Library
from node.stream.link import Address, Link
from node.stream.manifest import InvalidManifest
from node.stream.orders import Catalogue, PurchaseFailed
from node.stream.playhead import Playhead
from node.stream.ranges import Unsatisfiable, part_of
from node.stream.snapshot import Snapshot
from node.stream.title import Title, TitleStopped
from wire.codec import DecodeError
from wire.units import MAX_MSAT, Msat

log = logging.getLogger("rill.stream")

T = TypeVar("T")
SLICE_BYTES = 64 << 10
MOST_BROWSED = 50
UNKNOWN_KIND = "application/octet-stream"
LEAST_SECONDS_BETWEEN_WORDS = 0.1
MOST_SECONDS_BETWEEN_WORDS = 5.0
SECONDS_BETWEEN_BROWSING = 30.0
SEEK_SECONDS = 1.0

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_MAGIC = (
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
    (0, b"OggS", "video/ogg"),
    (0, b"ID3", "audio/mpeg"),
)
_NOT_TO_BE_HAD = (PurchaseFailed, Unreachable, PeerGone, InvalidManifest, DecodeError)


class Entry(msgspec.Struct, frozen=True):
    """A content that a provider says it sells."""

    root: str
    title: str
    length: int
    total_msat: Msat
    provider: str
    provider_name: str


class View(msgspec.Struct, frozen=True):
    """What the page shows."""

    node: str
    catalogue: tuple[Entry, ...]
    film: Snapshot | None
    may_finish: bool


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A content of the catalogue."""

    root: str
    provider: str


class Buying(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether to buy."""

    is_paused: bool


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the title may cost."""

    title_sat: int


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the film plays."""

    seconds: float
    duration: float
    is_playing: bool


class Gateway:
    """One page, and the title that it shows."""

    def __init__(
        self,
        library: Library,
        node_name: str,
        providers: Iterable[Address] = (),
        name_of: Callable[[bytes], str] = bytes.hex,
        on_finish: Callable[[], None] | None = None,
    ) -> None:
        """`providers` are browsed for what they sell; `on_finish` is what the page's last button does."""
        self._library, self._node_name, self._name_of = library, node_name, name_of
        self._providers = {address.node_id: address for address in providers}
        self._on_finish = on_finish
        self._entries: tuple[Entry, ...] = ()
        self._playhead, self._moved = Playhead(), trio.Event()
        self._changed = trio.Event()
        self.title: Title | None = None
        self.secret = secrets.token_urlsafe(24)

    async def run(
        self,
        host: str = LOOPBACK_NAMES[0],
        port: int = 0,
        *,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled; started with the link to the page.

        Raises:
            WebPortTaken: it cannot listen there.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._browse_forever)
            taken = await nursery.start(serve_web, self.app(host), host, port)
            shown = f"[{host}]" if ":" in host else host
            task_status.started(f"http://{shown}:{taken}/{self.secret}/")

    def app(self, host: str = LOOPBACK_NAMES[0]) -> Guard:
        """The web application, behind its guard."""
        asked = (self._open, self._buying, self._budget, self._position, self._finish)
        routes = [
            Route("/", self._page),
            Route("/page/{name}", self._page),
            Route("/state", self._state),
            Route("/content/{root}", self._content),
            *(Route(f"/{act.__name__.strip('_')}", act, methods=["POST"]) for act in asked),
        ]
        return Guard(Starlette(routes=routes), self.secret, host)

    async def show(self, link: Link) -> Title:
        """Open a link and show it.

        Raises:
            NobodySells: no provider has it.
            OSError: there is no place to keep it.
        """
        self._providers |= {address.node_id: address for address in link.providers}
        self.title = await self._library.open(link)
        self._playhead = Playhead()
        self._note()
        return self.title

    def _note(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    # --- what is on sale

    async def _browse_forever(self) -> None:
        while True:
            found: list[Entry] = []
            for address in list(self._providers.values())[:MOST_BROWSED]:
                try:
                    found += self._entries_of(await self._library.browse(address))
                except _NOT_TO_BE_HAD as why:
                    log.debug("%s cannot be browsed: %s", address, why)
            self._entries = tuple(found)
            self._note()
            await trio.sleep(SECONDS_BETWEEN_BROWSING)

    def _entries_of(self, catalogue: Catalogue) -> list[Entry]:
        provider, name = catalogue.provider.hex(), self._name_of(catalogue.provider)
        return [
            Entry(each.root.hex(), each.title, each.layout.length, each.total_msat, provider, name)
            for each in catalogue.manifests[:MOST_BROWSED]
        ]

    # --- the page

    async def _page(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        file = files("node.stream") / "page" / name
        kind = _KINDS.get(f".{name.rpartition('.')[2]}")
        if kind is None or not file.is_file():
            return JSONResponse({"error": "there is no such part of the page"}, 404)
        return Response(file.read_bytes(), media_type=kind)

    async def _state(self, _: Request) -> Response:
        return StreamingResponse(self._words(), media_type="text/event-stream")

    async def _words(self) -> AsyncIterator[bytes]:
        """An event for every change, a few in a second at most, and a sign of life in between."""
        while True:
            changed, title = self._changed, self.title
            film = title.snapshot() if title else None
            view = View(self._node_name, self._entries, film, self._on_finish is not None)
            yield b"data: " + msgspec.json.encode(view) + b"\n\n"
            await trio.sleep(LEAST_SECONDS_BETWEEN_WORDS)
            with trio.move_on_after(MOST_SECONDS_BETWEEN_WORDS):
                await _either(changed, title, film)

    async def _open(self, request: Request) -> Response:
        wanted = await _read(request, Wanted)
        address = self._providers.get(_bytes(wanted.provider)) if wanted else None
        if wanted is None or address is None or len(_bytes(wanted.root)) != 32:
            return _wrong("the catalogue has no such content")
        try:
            await self.show(Link(_bytes(wanted.root), (address,)))
        except (*_NOT_TO_BE_HAD, OSError) as why:
            return _wrong(f"it cannot be bought: {why}", 502)
        return JSONResponse({})

    async def _buying(self, request: Request) -> Response:
        wish = await _read(request, Buying)
        if wish is None or self.title is None:
            return _wrong("nothing is being bought")
        if wish.is_paused:
            self.title.pause()
        else:
            self.title.resume()
        return JSONResponse({})

    async def _budget(self, request: Request) -> Response:
        limit = await _read(request, Limit)
        if limit is None or self.title is None or not 0 < limit.title_sat <= MAX_MSAT // 1000:
            return _wrong("a budget is a whole number of satoshi above zero")
        self.title.allow(
            msgspec.structs.replace(self.title.snapshot().budget, per_title_msat=Msat(limit.title_sat * 1000))
        )
        return JSONResponse({})

    async def _position(self, request: Request) -> Response:
        position = await _read(request, Position)
        if position is None or self.title is None:
            return _wrong("nothing plays")
        self._playhead.move(position.seconds, position.duration)
        self.title.prefer(self._playhead.offset(self.title.layout.length))
        moved, self._moved = self._moved, trio.Event()
        moved.set()
        return JSONResponse({})

    async def _finish(self, _: Request) -> Response:
        if self._on_finish is None:
            return _wrong("there is nothing to end")
        self._on_finish()
        return JSONResponse({})

    # --- the film

    async def _content(self, request: Request) -> Response:
        title = self._library.titles.get(_bytes(request.path_params["root"]))
        if title is None:
            return _wrong("this content is not open", 404)
        length = title.layout.length
        headers = {"Accept-Ranges": "bytes", "Content-Length": str(length)}
        try:
            part = part_of(request.headers.get("range"), length)
        except Unsatisfiable:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{length}"})
        if part is not None:
            headers["Content-Length"] = str(len(part))
            headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{length}"
        status, kind = (200 if part is None else 206), await self._kind(title, request)
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers, media_type=kind)
        is_paced = "paced" in request.query_params
        body = self._bytes_of(title, part or range(length), is_paced)
        return StreamingResponse(body, status, headers, kind)

    async def _kind(self, title: Title, request: Request) -> str:
        """What its first bytes say that it is, if they are here; asking alone buys nothing."""
        bought = title.snapshot().bought
        if request.method == "HEAD" and not (bought and bought[0][0] == 0):
            return UNKNOWN_KIND
        first = await _read_when_bought(title, 0, 16)
        return next((kind for at, magic, kind in _MAGIC if first[at:].startswith(magic)), UNKNOWN_KIND)

    async def _bytes_of(self, title: Title, part: range, is_paced: bool) -> AsyncIterator[bytes]:
        try:
            jumps = self._playhead.jumps
            for offset in range(part.start, part.stop, SLICE_BYTES):
                while is_paced and not self._playhead.may_have(offset, part.start, title.layout.length):
                    await self._moved.wait()
                if is_paced and jumps != self._playhead.jumps:
                    # after a seek a player asks anew, and drops what would be bought for nothing
                    jumps = self._playhead.jumps
                    await trio.sleep(SEEK_SECONDS)
                yield await _read_when_bought(title, offset, min(SLICE_BYTES, part.stop - offset))
        except OSError as error:
            log.warning("what was bought cannot be read: %s", error)


async def _read_when_bought(title: Title, offset: int, size: int) -> bytes:
    """Bytes of a title, however long it is stopped meanwhile."""
    while True:
        try:
            return await title.read(offset, size)
        except TitleStopped:
            snapshot = title.snapshot()
            while snapshot.is_stopped:
                snapshot = await title.wait_changed(snapshot.version)


async def _either(changed: trio.Event, title: Title | None, film: Snapshot | None) -> None:
    """Return when there is something new to show."""
    async with trio.open_nursery() as nursery:

        async def until_changed() -> None:
            await changed.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(until_changed)
        if title is not None and film is not None:
            await title.wait_changed(film.version)
            nursery.cancel_scope.cancel()


async def _read(request: Request, kind: type[T]) -> T | None:
    """What the page says, or None if it is not that."""
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except (msgspec.DecodeError, ClientDisconnect):
        return None


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _wrong(sentence: str, status: int = 400) -> Response:
    return JSONResponse({"error": sentence}, status)
