"""The page of a testnet, in a real browser: what is shown is what is, and nobody else may look."""

import shutil
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.lab.test_testnet import Testnet

pytestmark = pytest.mark.slow

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE_SECONDS = 60


@pytest.fixture
def net(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Testnet]:
    net = Testnet(tmp_path / "net", capsys)
    net("up", "--topology=ring", "--nodes=4", "--capacity=1000000")
    yield net
    net.try_to("down")


def until(is_so: Callable[[], bool]) -> None:
    patience = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < patience
        time.sleep(0.05)


def test_the_page_shows_balances_payments_and_fees(net: Testnet, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    if CHROMIUM is None:
        pytest.skip("no chromium here")
    url = net("view", "--no-open")["url"]
    assert net("view", "--no-open")["url"] == url
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        asked: list[str] = []
        troubles: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(url)

        def shown(selector: str) -> list[str]:
            texts: list[str] = page.locator(selector).all_text_contents()
            return texts

        until(lambda: len(shown(".node")) == 4)
        assert "4 nodes, 4 channels" in shown("#facts")[0]
        halves = page.locator(".channel").evaluate_all("all => all.map(each => each.dataset.balances)")
        assert halves == 4 * ["500000000 500000000"]

        page.evaluate(
            "window.sparks = 0; new MutationObserver(all => window.sparks += all.length)"
            ".observe(document.getElementById('sparks'), {childList: true})"
        )
        paid = net("pay", "alice", "carol", 50_000_000)
        until(lambda: bool(shown("#payments li")))
        assert shown("#payments li")[0].startswith("alice → carol: 50,000 satfees ")
        until(lambda: bool(page.evaluate("window.sparks")))
        earned = f"{paid['fee_msat']:,}"
        until(lambda: any(earned in row for row in shown("#nodes tr")))
        until(lambda: any(f"+{earned} msat" in text for text in shown(".node .earned")))
        assert page.locator("#none").is_hidden()

        page.screenshot(path=tmp_path / "view.png")
        assert all(each.startswith(url) for each in asked)
        assert not troubles
        browser.close()


def test_the_page_is_used_with_the_keyboard_alone_and_shows_what_changes(net: Testnet) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    if CHROMIUM is None:
        pytest.skip("no chromium here")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        page = browser.new_page(viewport={"width": 420, "height": 800}, color_scheme="dark")
        page.goto(net("view", "--no-open")["url"])
        page.wait_for_selector(".node")
        assert page.locator("#legend dd").count() == 5

        def background() -> str:
            return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

        dark = background()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.locator("#scheme").text_content() == "light"
        assert background() != dark

        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.locator("#chosen-title").text_content() == "alice — bob"
        assert "500,000 sat" in str(page.locator("#details").text_content())
        assert "1,000 msat + 10 ppm" in str(page.locator("#details").text_content())
        page.keyboard.press("Escape")
        assert page.locator("#chosen").is_hidden()
        page.locator(".node").last.focus()
        page.keyboard.press("Space")
        assert "lightning-rpc" in str(page.locator("#details").text_content())

        net("exec", "bob", "stop")
        page.wait_for_selector(".node.down")
        page.wait_for_selector(".channel.gone")
        assert "down" in page.locator("#nodes tr", has_text="bob").inner_text()
        net("up")
        page.wait_for_selector(".node.down", state="detached", timeout=PATIENCE_SECONDS * 1000)
        browser.close()


def test_nobody_without_the_link_may_look(net: Testnet) -> None:
    address = urlsplit(net("view", "--no-open")["url"])
    assert address.hostname == "127.0.0.1"
    assert address.port is not None

    def status(path: str, **fields: str) -> int:
        connection = HTTPConnection("127.0.0.1", address.port, timeout=PATIENCE_SECONDS)
        connection.request("GET", path, headers=fields)
        answer = connection.getresponse()
        connection.close()
        return answer.status

    state = f"{address.path}state"
    assert status(state) == 200
    assert status("/state") == 404
    assert status("/" + "x" * len(address.path.strip("/")) + "/state") == 404
    assert status(state, Host=f"rebound.example:{address.port}") == 421
    assert status(state, Origin="http://elsewhere.example") == 403
    assert status(f"{address.path}serving.py") == 404
