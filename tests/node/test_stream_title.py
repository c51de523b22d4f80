"""A title that is watched while it is bought: reading, seeking, pausing, stopping and going on."""

from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from node.stream.budget import Budget
from node.stream.library import Library, NobodySells
from node.stream.link import Address, Link, NotALink, read_link
from node.stream.merkle import BLOCK_BYTES
from node.stream.title import Title, TitleStopped, price_note
from tests.node.test_stream_sale import AMPLE, LENGTH, PRICE, Memory, Shop, shop
from wire.units import Msat

COUNT = 10


def title_of(deal: Shop, budget: Budget = AMPLE, *, wants_all: bool = False) -> Title:
    return deal.viewer.open_title(
        [deal.manifest], Memory(bytearray(deal.manifest.layout.length)), budget, wants_all=wants_all
    )


async def quiet(title: Title) -> None:
    """Nothing more is bought without somebody asking for it."""
    while title.snapshot().on_the_way:
        await title.wait_changed(title.snapshot().version)
    await trio.testing.wait_all_tasks_blocked()


async def test_what_is_read_is_bought_and_a_little_ahead(autojump_clock: object) -> None:
    async with shop(40 * BLOCK_BYTES) as deal, trio.open_nursery() as nursery:
        title = title_of(deal)
        nursery.start_soon(title.run)
        offset = 20 * BLOCK_BYTES - 3
        assert await title.read(offset, 10) == deal.source.read(offset, 10)
        await quiet(title)
        shown = title.snapshot()
        assert shown.playhead == 19
        assert {index for first, after in shown.bought for index in range(first, after)} >= {19, 20}
        assert shown.chunks_bought < 20, "a title that is not read on is not bought on"
        assert shown.spent_msat == shown.chunks_bought * PRICE
        assert shown.left_msat == AMPLE.per_title_msat - shown.spent_msat
        assert shown.providers[0].chunks == shown.chunks_bought
        nursery.cancel_scope.cancel()


async def test_a_download_ends_when_everything_is_here(autojump_clock: object) -> None:
    async with shop() as deal:
        title = title_of(deal, wants_all=True)
        await title.run()
        assert title.is_complete
        assert await title.read(0, LENGTH + 5) == deal.source.content
        assert await title.read(LENGTH, 1) == b""
        assert title.snapshot().bought == ((0, COUNT),)


async def test_a_seek_is_served_before_the_rest(autojump_clock: object) -> None:
    async with shop(200 * BLOCK_BYTES) as deal, trio.open_nursery() as nursery:
        title = title_of(deal, wants_all=True)
        nursery.start_soon(title.run)
        await title.read(0, 1)
        await title.read(150 * BLOCK_BYTES, BLOCK_BYTES)
        shown = title.snapshot()
        assert shown.chunks_bought < 60
        title.prefer(199 * BLOCK_BYTES)
        assert title.snapshot().playhead == 199
        nursery.cancel_scope.cancel()


async def test_a_paused_title_buys_nothing_and_shows_what_it_has(autojump_clock: object) -> None:
    async with shop(40 * BLOCK_BYTES) as deal, trio.open_nursery() as nursery:
        title = title_of(deal)
        nursery.start_soon(title.run)
        await title.read(0, 1)
        title.pause()
        await quiet(title)
        spent = title.snapshot().spent_msat
        assert await title.read(0, 5) == deal.source.read(0, 5)
        got: list[bytes] = []

        async def read_on() -> None:
            got.append(await title.read(39 * BLOCK_BYTES, 7))

        nursery.start_soon(read_on)
        await trio.sleep(60)
        assert not got
        assert title.snapshot().spent_msat == spent
        assert title.snapshot().is_paused
        title.resume()
        await trio.sleep(5)
        assert got == [deal.source.read(39 * BLOCK_BYTES, 7)]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("limit", "chunks"),
    [
        ({"per_title_msat": 3 * PRICE}, 3),
        ({"per_hour_msat": 2 * PRICE}, 2),
        ({"per_chunk_msat": PRICE - 1}, 0),
    ],
    ids=str,
)
async def test_over_budget_it_stops_and_says_so(
    limit: dict[str, Msat], chunks: int, autojump_clock: object
) -> None:
    async with shop() as deal, trio.open_nursery() as nursery:
        title = title_of(deal, msgspec.structs.replace(AMPLE, **limit), wants_all=True)
        nursery.start_soon(title.run)
        with pytest.raises(TitleStopped, match="over the budget"):
            await title.read(0, LENGTH)
        await quiet(title)
        shown = title.snapshot()
        assert shown.is_stopped
        assert "over the budget" in shown.problem
        assert (shown.chunks_bought, shown.spent_msat) == (chunks, chunks * PRICE)
        title.allow(AMPLE)
        assert await title.read(0, LENGTH) == deal.source.content
        assert len(deal.alice.payments) == COUNT, "what was paid is not paid again"
        nursery.cancel_scope.cancel()


async def test_a_provider_that_is_gone_is_named_and_comes_back(autojump_clock: object) -> None:
    async with shop() as deal, trio.open_nursery() as nursery:
        title = title_of(deal, wants_all=True)
        deal.alice.is_cut = True
        nursery.start_soon(title.run)
        with pytest.raises(TitleStopped, match="no answer"):
            await title.read(0, LENGTH)
        assert title.snapshot().providers[0].state == "out"
        deal.alice.is_cut = False
        title.resume()
        assert await title.read(0, LENGTH) == deal.source.content
        assert not title.snapshot().problem
        nursery.cancel_scope.cancel()


async def test_a_catalogue_is_browsed_page_by_page(autojump_clock: object) -> None:
    async with shop() as deal:
        for number in range(300):
            source = Memory(bytearray(number.to_bytes(2, "big")))
            await deal.provider.publish(source, title="film " * 40, price_msat=PRICE, chunk_size=BLOCK_BYTES)
        found = await deal.viewer.browse(deal.eric.node_id)
        assert len(found.manifests) == 301
        assert found.missing == 0
        assert found.manifests[0] == deal.manifest


def test_a_price_below_the_dust_limit_is_explained() -> None:
    assert "353.999 sat" in price_note(Msat(353_999))
    assert price_note(Msat(354_000)) == ""


async def test_a_library_opens_a_link_once(tmp_path: Path, autojump_clock: object) -> None:
    async with shop() as deal, trio.open_nursery() as nursery:
        library = Library(deal.alice, tmp_path, clock=lambda: deal.now[0])
        await nursery.start(library.run)
        address = Address(deal.eric.node_id, "127.0.0.1", 9735)
        link = read_link(str(Link(deal.manifest.root, (address,))))
        title = await library.open(link)
        assert await library.open(link) is title
        assert await title.read(5, 20) == deal.source.read(5, 20)
        assert (await library.browse(address)).manifests == (deal.manifest,)
        with pytest.raises(NobodySells, match="unknown content"):
            await library.open(Link(bytes(32), (address,)))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("text", ["", "rill:", "rill:aa", f"http:{64 * '0'}", f"rill:{64 * '0'}/02ab@x:1"])
def test_what_is_no_link_is_named(text: str) -> None:
    with pytest.raises(NotALink):
        read_link(text)
