"""The page in a real browser: a film is watched and paid for, and no other site has a part in it."""

import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from node.daemon.web import serve_web
from node.lab.demo import announced_address
from node.lab.network import Network, running_network
from node.stream.files import FileSource
from node.stream.gateway import Gateway
from node.stream.library import Library
from node.stream.link import Address, Link
from node.stream.manifest import Manifest
from node.stream.orders import Patience
from node.stream.provider import Provider
from node.stream.snapshot import Snapshot, alias_of
from wire.units import Msat, Sat

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--host-resolver-rules=MAP rebound.example 127.0.0.1",
)
ATTACK = Path(__file__).with_name("attack.html")
PRICE = Msat(100_000)
PATIENCE_SECONDS = 60


class Cinema:
    """Alice's page, and Eric's film that it shows."""

    def __init__(self, network: Network, gateway: Gateway, url: str, shut: trio.CancelScope) -> None:
        self.network, self.gateway, self.url, self.shut = network, gateway, url, shut
        self.ended = trio.Event()

    @property
    def shown(self) -> Snapshot:
        assert self.gateway.title is not None
        return self.gateway.title.snapshot()

    async def visit(self, act: Callable[["Page"], None], *, width: int = 1280) -> None:
        """Let somebody act on the page, in a browser of their own."""
        await trio.to_thread.run_sync(_visit, self.url, act, width)


def _visit(url: str, act: Callable[["Page"], None], width: int) -> None:
    with browsing(width) as page:
        page.goto(url)
        act(page)


@contextmanager
def browsing(width: int) -> Iterator["Page"]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    if CHROMIUM is None:
        pytest.skip("no chromium here")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        yield page
        browser.close()


@asynccontextmanager
async def cinema(directory: Path) -> AsyncIterator[Cinema]:
    """Three nodes in a line, the last of which sells the film that comes with Rill."""
    async with running_network(1, names=("alice", "bob", "eric")) as network, trio.open_nursery() as nursery:
        await network.fund()
        await network.open_line(Sat(1_000_000), Msat(500_000_000))
        await network.wait_for_gossip()
        provider, shut = Provider(network.nodes["eric"]), trio.CancelScope()
        with FileSource(Path(str(files("node.stream.film") / "rill.mp4"))) as source:
            manifest = await provider.publish(source, title="The rill", price_msat=PRICE, chunk_size=65536)

            async def serve() -> None:
                with shut:
                    await provider.serve()

            nursery.start_soon(serve)
            yield await _open(network, nursery, manifest, directory, shut)
            nursery.cancel_scope.cancel()


async def _open(
    network: Network, nursery: trio.Nursery, manifest: Manifest, directory: Path, shut: trio.CancelScope
) -> Cinema:
    alice, eric = network.nodes["alice"], network.nodes["eric"]
    library = Library(alice, directory, Patience(silence_seconds=1, requests=2))
    await nursery.start(library.run)
    address = Address(eric.node_id, *announced_address(alice, eric.node_id))
    name_of = partial(alias_of, alice.graph)
    ended = trio.Event()
    gateway = Gateway(library, "alice", [address], name_of, on_finish=ended.set)
    await gateway.show(Link(manifest.root, (address,)))
    at = Cinema(network, gateway, await nursery.start(gateway.run), shut)
    at.ended = ended
    return at


def play(page: "Page") -> None:
    """Press the space bar on the film, as a person without a mouse does."""
    wait(page, "video.src")
    page.focus("#video")
    page.keyboard.press("Space")


def wait(page: "Page", condition: str) -> None:
    # the page's own rules forbid a test that is evaluated in it again and again by itself
    until = time.monotonic() + PATIENCE_SECONDS
    while not page.evaluate(f"(video => {condition})(document.getElementById('video'))"):
        assert time.monotonic() < until, f"it never became true that {condition}"
        page.wait_for_timeout(50)


async def test_a_person_presses_play_and_watches_it_being_paid_for(tmp_path: Path) -> None:
    async with cinema(tmp_path) as at:
        said: dict[str, object] = {}

        def act(page: "Page") -> None:
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            page.reload()
            page.wait_for_selector("text=The rill")
            said["before"] = page.inner_text("#spent")
            play(page)
            wait(page, "video.currentTime > 1")
            said["early"] = page.inner_text("#bought-words")
            wait(page, "video.ended")
            said["after"], said["route"] = page.inner_text("#spent"), page.inner_text("#route")
            said["foreign"] = [url for url in asked if not url.startswith(at.url)]
            said["wide"] = page.evaluate("document.documentElement.scrollWidth")
            page.click("text=Close the channels and settle")
            page.wait_for_selector("#lost:not([hidden])")

        await at.visit(act, width=375)
        assert said["before"] == "0", "nothing is bought before somebody presses play"
        assert said["early"] != "15 of 15 chunks", "it is bought as it is watched"
        assert said["after"] == "1,515.015", "15 chunks of 100 sat, and one hop's fees"
        assert str(said["route"]).split()[::4][:1] == ["alice"]
        assert "keeps 1.001 sat" in str(said["route"])
        assert said["foreign"] == []
        assert said["wide"] == 375, "it fits a phone"
        assert at.ended.is_set()
        assert (at.shown.spent_msat, at.shown.fee_msat) == (15 * PRICE, 15_015)


async def test_a_seek_buys_what_is_there_and_not_what_was_passed_over(tmp_path: Path) -> None:
    async with cinema(tmp_path) as at:
        places: list[float] = []

        def act(page: "Page") -> None:
            play(page)
            wait(page, "video.currentTime > 0.2")
            page.evaluate("document.getElementById('video').pause()")
            page.evaluate("document.getElementById('video').currentTime = 11.5")
            wait(page, "!video.seeking && video.readyState >= 2")
            places.append(page.evaluate("document.getElementById('video').currentTime"))

        await at.visit(act)
        assert places == [11.5]
        bought = {chunk for first, after in at.shown.bought for chunk in range(first, after)}
        assert {0, 12} <= bought
        assert len(bought) < 15, "the middle was never played, and not bought"


async def test_a_pause_buys_nothing_more(tmp_path: Path) -> None:
    async with cinema(tmp_path) as at:

        def act(page: "Page") -> None:
            play(page)
            wait(page, "video.currentTime > 0.2")
            page.click("text=Stop buying")
            page.wait_for_selector("text=Go on buying")
            wait(page, "video.readyState < 3 || video.ended")
            spent.append(trio.from_thread.run_sync(lambda: at.shown.spent_msat))
            page.click("text=Go on buying")
            wait(page, "video.ended")

        spent: list[int] = []
        await at.visit(act)
        assert spent[0] < 15 * PRICE, "the film stands still where the money was stopped"
        assert at.shown.spent_msat == 15 * PRICE


async def test_a_budget_that_is_used_up_is_said_and_can_be_raised(tmp_path: Path) -> None:
    async with cinema(tmp_path) as at:
        said: list[str] = []

        def act(page: "Page") -> None:
            wait(page, "document.getElementById('budget').value === '1500'")
            page.fill("#budget", "500")
            page.click("text=Set")
            play(page)
            page.wait_for_selector("#problem:not([hidden])")
            said.append(page.inner_text("#problem"))
            page.fill("#budget", "2000")
            page.keyboard.press("Enter")
            wait(page, "video.ended")
            said.append(page.inner_text("#left"))

        await at.visit(act)
        assert "budget" in said[0]
        assert said[1] == "500 sat"


async def test_a_provider_that_is_gone_is_said(tmp_path: Path) -> None:
    async with cinema(tmp_path) as at:
        said: list[str] = []

        def act(page: "Page") -> None:
            play(page)
            wait(page, "video.currentTime > 0.2")
            trio.from_thread.run_sync(at.shut.cancel)
            page.wait_for_selector("#problem:not([hidden])")
            said.append(page.inner_text("#problem"))
            said.append(page.inner_text("#providers"))

        await at.visit(act)
        assert said[0]
        assert "eric" in said[1]
        assert at.shown.spent_msat < 15 * PRICE


async def test_a_page_of_another_site_can_neither_spend_nor_read(tmp_path: Path) -> None:
    """Even one that has learnt the link; without its secret there is not even anything to refuse."""
    async with cinema(tmp_path) as at, trio.open_nursery() as nursery:
        attack = ATTACK.read_text().replace("LINK", at.url).replace("ROOT", at.shown.root)

        async def show(_: object) -> HTMLResponse:
            return HTMLResponse(attack)

        evil = await nursery.start(partial(serve_web, Starlette(routes=[Route("/", show)]), "127.0.0.1", 0))
        found: list[object] = []

        def act(page: "Page") -> None:
            page.goto(f"http://localhost:{evil}/")
            found.append(page.evaluate("window.done"))
            page.wait_for_timeout(500)
            found.append(page.title())
            rebound = at.url.replace("127.0.0.1", "rebound.example")
            answer = page.goto(rebound)
            assert answer is not None
            found.append((answer.status, "Rill" in page.content()))

        await at.visit(act)
        fetched, title, rebound = found
        assert isinstance(fetched, list)
        assert fetched[0] == "refused"
        assert fetched[1] in ("opaque", "refused")
        assert fetched[2] == "refused"
        assert title == "evil"
        assert rebound == (421, False)
        after = at.shown
        assert (after.spent_msat, after.left_msat, after.is_paused) == (0, 15 * PRICE, False)
        nursery.cancel_scope.cancel()
