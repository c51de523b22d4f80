"""The window of a viewer over HTTP: who is let in, which part is sent, what a page may ask."""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from node.stream.gateway import Gateway
from node.stream.library import Library
from node.stream.link import Address, Link
from node.stream.merkle import BLOCK_BYTES
from node.stream.orders import Patience
from node.stream.playhead import START_BYTES, Playhead
from node.stream.ranges import Unsatisfiable, part_of
from tests.node.test_stream_sale import PRICE, Shop, shop

HOST, PORT = "127.0.0.1", 8080
COUNT = 40
LENGTH = COUNT * BLOCK_BYTES
JSON = {"content-type": "application/json"}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Window:
    """A gateway, asked as a browser would ask it."""

    deal: Shop
    gateway: Gateway
    app: Any

    async def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"", **change: str
    ) -> Answer:
        """The whole answer to one request; `change` replaces the host or the secret of the link."""
        given = {"host": change.get("host", f"{HOST}:{PORT}"), "content-length": str(len(body))}
        sent: list[dict[str, Any]] = []
        scope = {
            "type": "http",
            "method": method,
            "path": f"/{change.get('secret', self.gateway.secret)}{path.partition('?')[0]}",
            "query_string": path.partition("?")[2].encode(),
            "headers": [(k.encode(), v.encode()) for k, v in {**given, **(headers or {})}.items()],
            "server": (HOST, PORT),
        }
        asked: Iterator[dict[str, Any]] = iter([{"type": "http.request", "body": body}])

        async def receive() -> dict[str, Any]:
            for message in asked:
                return message
            await trio.sleep_forever()
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        start, *rest = sent
        found = {key.decode().lower(): value.decode() for key, value in start["headers"]}
        return Answer(start["status"], found, b"".join(each.get("body", b"") for each in rest))

    async def post(self, path: str, **said: Any) -> Answer:
        return await self.ask("POST", path, JSON, msgspec.json.encode(said))

    @property
    def film(self) -> str:
        return f"/content/{self.deal.manifest.root.hex()}"

    @property
    def spent_msat(self) -> int:
        assert self.gateway.title is not None
        return self.gateway.title.snapshot().spent_msat


@asynccontextmanager
async def window(directory: Path) -> AsyncIterator[Window]:
    async with shop(LENGTH) as deal, trio.open_nursery() as nursery:
        library = Library(deal.alice, directory, Patience(silence_seconds=1), clock=lambda: deal.now[0])
        await nursery.start(library.run)
        gateway = Gateway(library, "alice")
        await gateway.show(Link(deal.manifest.root, (Address(deal.eric.node_id, "127.0.0.1", 9735),)))
        yield Window(deal, gateway, gateway.app())
        nursery.cancel_scope.cancel()


# Who is let in


async def test_the_page_is_for_whoever_has_the_link(tmp_path: Path, autojump_clock: object) -> None:
    async with window(tmp_path) as at:
        page = await at.ask("GET", "/")
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        for found in re.findall(rb'(?:src|href)="([^"#]+)"', page.body):
            part = await at.ask("GET", "/" + found.decode())
            assert part.status == 200, f"the page needs {found!r}"
        assert b"//" not in re.sub(rb"<!--.*?-->", b"", page.body), "it asks nobody else for anything"


@pytest.mark.parametrize(
    ("headers", "change", "status"),
    [
        pytest.param({}, {"secret": "0" * 32}, 404, id="another secret"),
        pytest.param({}, {"secret": ""}, 404, id="no secret"),
        pytest.param({}, {"host": f"rebound.example:{PORT}"}, 421, id="a name that points here"),
        pytest.param({}, {"host": "127.0.0.1"}, 421, id="another port"),
        pytest.param({}, {"host": ""}, 421, id="no host"),
        pytest.param({"origin": "http://evil.example"}, {}, 403, id="a foreign page"),
        pytest.param({"origin": "null"}, {}, 403, id="a page without an origin"),
        pytest.param({"origin": f"http://127.0.0.1:{PORT + 1}"}, {}, 403, id="a neighbour's page"),
        pytest.param({"sec-fetch-site": "cross-site"}, {}, 403, id="a picture on a foreign page"),
        pytest.param({"sec-fetch-site": "same-site"}, {}, 403, id="a picture on one"),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "film"), ("POST", "/buying")])
async def test_nobody_else_is(
    method: str,
    path: str,
    headers: dict[str, str],
    change: dict[str, str],
    status: int,
    tmp_path: Path,
    autojump_clock: object,
) -> None:
    async with window(tmp_path) as at:
        path = at.film if path == "film" else path
        answer = await at.ask(method, path, {**JSON, **headers}, b'{"is_paused": true}', **change)
        assert answer.status == status
        assert "error" in msgspec.json.decode(answer.body)
        assert at.spent_msat == 0
        assert at.gateway.title is not None
        assert not at.gateway.title.snapshot().is_paused


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {**JSON, "content-length": "5000"},
        {**JSON, "content-length": "-1"},
    ],
)
async def test_a_form_of_another_page_is_not_heard(
    headers: dict[str, str], tmp_path: Path, autojump_clock: object
) -> None:
    async with window(tmp_path) as at:
        answer = await at.ask("POST", "/buying", headers, b'{"is_paused": true}')
        assert answer.status == 400


async def test_what_leaves_can_be_neither_framed_nor_kept(tmp_path: Path, autojump_clock: object) -> None:
    async with window(tmp_path) as at:
        for path in ("/", "/nothing", at.film):
            headers = (await at.ask("HEAD" if path == at.film else "GET", path)).headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cache-control"] == "no-store"


# The film


async def test_a_range_is_bought_and_sent(tmp_path: Path, autojump_clock: object) -> None:
    async with window(tmp_path) as at:
        head = await at.ask("HEAD", at.film)
        assert (head.status, head.headers["content-length"], head.body) == (200, str(LENGTH), b"")
        assert at.spent_msat == 0, "asking for the length costs nothing"
        part = await at.ask("GET", at.film, {"range": "bytes=100000-100009"})
        assert part.status == 206
        assert part.headers["content-range"] == f"bytes 100000-100009/{LENGTH}"
        assert part.body == at.deal.source.read(100_000, 10)
        assert 0 < at.spent_msat < COUNT * PRICE
        whole = await at.ask("GET", at.film)
        assert whole.status == 200
        assert whole.body == at.deal.source.content
        assert at.spent_msat == COUNT * PRICE


async def test_a_range_after_the_end_is_refused(tmp_path: Path, autojump_clock: object) -> None:
    async with window(tmp_path) as at:
        answer = await at.ask("GET", at.film, {"range": f"bytes={LENGTH}-"})
        assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{LENGTH}")
        assert (await at.ask("GET", "/content/" + "00" * 32)).status == 404
        assert (await at.ask("GET", "/content/nonsense")).status == 404


async def test_a_film_whose_money_is_used_up_waits_for_more(tmp_path: Path, autojump_clock: object) -> None:
    async with window(tmp_path) as at, trio.open_nursery() as nursery:
        assert (await at.post("/budget", title_sat=3 * PRICE // 1000)).status == 200
        got: list[Answer] = []

        async def play() -> None:
            got.append(await at.ask("GET", at.film))

        nursery.start_soon(play)
        await trio.sleep(30)
        assert at.gateway.title is not None
        shown = at.gateway.title.snapshot()
        assert (got, shown.is_stopped, at.spent_msat) == ([], True, 3 * PRICE)
        assert "budget" in shown.problem
        await at.post("/budget", title_sat=COUNT * PRICE // 1000)
        await trio.sleep(30)
        assert got[0].body == at.deal.source.content


async def test_a_paced_film_is_sent_as_it_is_played(tmp_path: Path, autojump_clock: object) -> None:
    async with window(tmp_path) as at, trio.open_nursery() as nursery:
        got: list[Answer] = []

        async def play() -> None:
            got.append(await at.ask("GET", at.film + "?paced"))

        nursery.start_soon(play)
        await trio.sleep(30)
        bought = at.spent_msat // PRICE
        assert START_BYTES // BLOCK_BYTES <= bought < COUNT // 2
        for second in range(101):
            await at.post("/position", seconds=second, duration=100, is_playing=True)
            await trio.sleep(1)
        assert got[0].body == at.deal.source.content


# What the page may ask


async def test_buying_is_stopped_and_taken_up(tmp_path: Path, autojump_clock: object) -> None:
    async with window(tmp_path) as at:
        title = at.gateway.title
        assert title is not None
        assert (await at.post("/buying", is_paused=True)).status == 200
        assert title.snapshot().is_paused
        await at.post("/buying", is_paused=False)
        assert not title.snapshot().is_paused


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/buying", {"is_paused": "yes"}),
        ("/buying", {}),
        ("/budget", {"title_sat": 0}),
        ("/budget", {"title_sat": 10**19}),
        ("/budget", {"title_sat": 1.5}),
        ("/position", {"seconds": 1}),
        ("/open", {"root": "00" * 32, "provider": "02" * 33}),
        ("/open", {"root": "zz", "provider": "zz"}),
        ("/finish", {}),
    ],
)
async def test_nonsense_gets_a_sentence(
    path: str, said: dict[str, Any], tmp_path: Path, autojump_clock: object
) -> None:
    async with window(tmp_path) as at:
        answer = await at.post(path, **said)
        assert answer.status == 400
        assert msgspec.json.decode(answer.body)["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 4000, b"\xff"])
async def test_what_is_no_json_gets_one_too(body: bytes, tmp_path: Path, autojump_clock: object) -> None:
    async with window(tmp_path) as at:
        assert (await at.ask("POST", "/position", JSON, body)).status == 400


async def test_the_catalogue_is_shown_and_opened(tmp_path: Path, autojump_clock: object) -> None:
    async with window(tmp_path) as at, trio.open_nursery() as nursery:
        nursery.start_soon(at.gateway._browse_forever)
        await trio.sleep(1)
        words = at.gateway._words()
        view = msgspec.json.decode((await anext(words)).removeprefix(b"data: "))
        assert view["node"] == "alice"
        [entry] = view["catalogue"]
        assert (entry["title"], entry["total_msat"]) == ("A film", COUNT * PRICE)
        assert view["film"]["chunk_count"] == COUNT
        opened = await at.post("/open", root=entry["root"], provider=entry["provider"])
        assert opened.status == 200
        await words.aclose()  # type: ignore[attr-defined]
        nursery.cancel_scope.cancel()


# Pure parts


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-", range(100)),
        ("bytes=5-9", range(5, 10)),
        ("bytes=99-", range(99, 100)),
        ("bytes=90-1000", range(90, 100)),
        ("bytes=-10", range(90, 100)),
        ("bytes=-1000", range(100)),
        ("bytes=9-5", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("lines=0-1", None),
        ("bytes=1e3-", None),
        ("bytes=" + "9" * 30 + "-", None),
    ],
)
def test_a_range_header_is_read_as_rfc_9110_says(header: str | None, part: range | None) -> None:
    assert part_of(header, 100) == part


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_without_a_byte_is_unsatisfiable(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        part_of(header, 100)


def test_a_film_is_handed_out_some_seconds_ahead() -> None:
    playhead, length = Playhead(), 100_000_000
    reach: Callable[[int], int] = lambda start: max(  # noqa: E731
        offset for offset in range(0, length, 10_000) if playhead.may_have(offset, start, length)
    )
    assert reach(0) < START_BYTES, "before it plays, only the beginning"
    playhead.move(0, 1000)
    first = reach(0)
    playhead.move(500, 1000)
    assert reach(0) - first == pytest.approx(length / 2, rel=0.01)
    for seconds, duration in ((-1, 10), (11, 10), (1, 0), (float("nan"), 10), (1, float("inf"))):
        playhead.move(seconds, duration)
        assert playhead.offset(length) == length // 2, "a place that no film has is not heard"
