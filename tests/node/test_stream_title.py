"""A title that is watched while it is bought: reading, seeking, pausing, stopping and going on."""

from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from node.daemon.payments import Status
from node.stream.budget import Budget
from node.stream.content import Content, manifest_of, plant_source
from node.stream.library import Library, NobodySells
from node.stream.link import Link, NotALink, read_link
from node.stream.merkle import BLOCK_BYTES
from node.stream.record import SPARE, Record
from node.stream.snapshot import price_note
from node.stream.title import Title, TitleStopped
from tests.node.test_stream_sale import AMPLE, LENGTH, PRICE, Memory, Shop, shop
from wire.units import Msat

COUNT = 10


async def title_of(deal: Shop, budget: Budget = AMPLE, *, wants_all: bool = False) -> Title:
    return await deal.library.open(deal.link, budget, out=deal.directory / "copy" if wants_all else None)


async def quiet(title: Title) -> None:
    """Nothing more is bought without somebody asking for it."""
    while title.snapshot().on_the_way:
        await title.wait_changed(title.snapshot().version)
    await trio.testing.wait_all_tasks_blocked()


async def test_what_is_read_is_bought_and_a_little_ahead(autojump_clock: object) -> None:
    async with shop(40 * BLOCK_BYTES) as deal:
        title = await title_of(deal)
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


async def test_a_download_ends_when_everything_is_here(autojump_clock: object) -> None:
    async with shop() as deal:
        title = await title_of(deal, wants_all=True)
        await title.wait_until_delivered()
        assert title.is_complete
        assert await title.read(0, LENGTH + 5) == deal.source.content
        assert await title.read(LENGTH, 1) == b""
        assert title.snapshot().bought == ((0, COUNT),)


async def test_a_seek_is_served_before_the_rest(autojump_clock: object) -> None:
    async with shop(200 * BLOCK_BYTES) as deal:
        title = await title_of(deal, wants_all=True)
        await title.read(0, 1)
        await title.read(150 * BLOCK_BYTES, BLOCK_BYTES)
        shown = title.snapshot()
        assert shown.chunks_bought < 60
        title.prefer(199 * BLOCK_BYTES)
        assert title.snapshot().playhead == 199


async def test_a_paused_title_buys_nothing_and_shows_what_it_has(autojump_clock: object) -> None:
    async with shop(40 * BLOCK_BYTES) as deal:
        title = await title_of(deal)
        await title.read(0, 1)
        title.pause()
        await quiet(title)
        spent = title.snapshot().spent_msat
        assert await title.read(0, 5) == deal.source.read(0, 5)
        got: list[bytes] = []

        async def read_on() -> None:
            got.append(await title.read(39 * BLOCK_BYTES, 7))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_on)
            await trio.sleep(60)
            assert not got
            assert title.snapshot().spent_msat == spent
            assert title.snapshot().is_paused
            title.resume()
        assert got == [deal.source.read(39 * BLOCK_BYTES, 7)]


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
    async with shop() as deal:
        title = await title_of(deal, msgspec.structs.replace(AMPLE, **limit), wants_all=True)
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


async def test_a_provider_that_is_gone_is_named_and_comes_back(autojump_clock: object) -> None:
    async with shop() as deal:
        title = await title_of(deal, wants_all=True)
        deal.alice.is_cut = True
        with pytest.raises(TitleStopped, match="no answer"):
            await title.read(0, LENGTH)
        assert title.snapshot().providers[0].state == "out"
        deal.alice.is_cut = False
        title.resume()
        assert await title.read(0, LENGTH) == deal.source.content
        assert not title.snapshot().problem


async def test_a_catalogue_is_browsed_page_by_page(autojump_clock: object) -> None:
    async with shop() as deal:
        for number in range(300):
            source = Memory(bytearray(number.to_bytes(2, "big")))
            await deal.provider.publish(source, title="film " * 40, price_msat=PRICE, chunk_size=BLOCK_BYTES)
        found = await deal.library.browse(deal.address)
        assert len(found.manifests) == 301
        assert found.missing == 0
        assert found.manifests[0] == deal.manifest


def test_a_price_below_the_dust_limit_is_explained() -> None:
    assert "353.999 sat" in price_note(Msat(353_999))
    assert price_note(Msat(354_000)) == ""


async def test_a_library_opens_a_link_once(autojump_clock: object) -> None:
    async with shop() as deal:
        title = await deal.library.open(read_link(str(deal.link)))
        assert await deal.library.open(deal.link) is title
        assert await title.read(5, 20) == deal.source.read(5, 20)
        with pytest.raises(NobodySells, match="unknown content"):
            await deal.library.open(Link(bytes(32), (deal.address,)))


@pytest.mark.parametrize("text", ["", "rill:", "rill:aa", f"http:{64 * '0'}", f"rill:{64 * '0'}/02ab@x:1"])
def test_what_is_no_link_is_named(text: str) -> None:
    with pytest.raises(NotALink):
        read_link(text)


async def test_what_was_paid_is_not_paid_again_after_a_kill(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends with nothing entered; the node's payments tell what they came to."""
    async with shop() as deal:
        is_down = trio.Event()

        async def hang() -> None:
            if len(deal.alice.payments) > 3:
                is_down.set()
                await trio.sleep_forever()

        deal.alice.on_offered = hang
        async with trio.open_nursery() as nursery:
            library = Library(deal.alice, tmp_path, clock=lambda: deal.now[0])
            await nursery.start(library.run)
            await library.open(deal.link, AMPLE, out=tmp_path / "copy")
            with monkeypatch.context() as patch:
                patch.setattr(Record, "sync", lambda _: None)
                await is_down.wait()
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await trio.testing.wait_all_tasks_blocked()
        # the HTLCs that were on their way arrive while nobody looks
        under_way = [each for each, state in deal.alice.states.items() if state.status is Status.PENDING]
        assert under_way
        for payment_hash in under_way:
            deal.alice.complete(payment_hash)
        deal.alice.on_offered = trio.lowlevel.checkpoint
        async with trio.open_nursery() as nursery:
            library = Library(deal.alice, tmp_path, clock=lambda: deal.now[0])
            await nursery.start(library.run)
            title = await library.open(deal.link, AMPLE, out=tmp_path / "copy")
            await title.wait_until_delivered()
            assert (tmp_path / "copy").read_bytes() == deal.source.content
            shown = title.snapshot()
            assert shown.spent_msat == COUNT * PRICE == len(deal.alice.payments) * PRICE
            kept = [path for path in (tmp_path / "sealed").rglob("*") if path.is_file()]
            assert all(path.name.startswith(SPARE) for path in kept), "nothing waits any more"
            nursery.cancel_scope.cancel()


async def test_a_title_that_is_whole_is_opened_without_asking_anybody(autojump_clock: object) -> None:
    async with shop() as deal:
        title = await title_of(deal, wants_all=True)
        await title.wait_until_delivered()
        deal.library.close(title.root)
        await trio.testing.wait_all_tasks_blocked()
        deal.alice.is_cut = True
        again = await deal.library.open(deal.link)
        assert again is not title
        assert await again.read(0, LENGTH) == deal.source.content
        assert again.snapshot().spent_msat == COUNT * PRICE


async def test_the_first_chunks_may_be_free(autojump_clock: object) -> None:
    async with shop() as deal:
        content = Content(deal.source, await plant_source(deal.source, deal.manifest.layout), deal.manifest)
        manifest = manifest_of(deal.eric, deal.manifest.root, deal.manifest.layout, PRICE, "A film", 3)
        deal.provider.put_on_sale(msgspec.structs.replace(content, manifest=manifest))
        assert await deal.buy() == deal.source.content
        assert len(deal.alice.payments) == COUNT - 3
        assert sorted(chunk.price_msat for chunk in deal.bought) == 3 * [0] + 7 * [PRICE]


async def test_a_file_that_somebody_changed_is_noticed_and_mended(autojump_clock: object) -> None:
    async with shop() as deal:
        title = await title_of(deal, wants_all=True)
        await title.wait_until_delivered()
        copy = deal.directory / "copy"
        deal.library.close(title.root)
        await trio.testing.wait_all_tasks_blocked()
        changed = bytearray(copy.read_bytes())
        changed[5:14] = b"somebody "
        copy.write_bytes(changed)
        assert copy.read_bytes() != deal.source.content
        again = await deal.library.open(deal.link, AMPLE)
        assert await again.read(0, LENGTH) == deal.source.content
        assert len(deal.alice.payments) == COUNT + 1
        assert copy.read_bytes() == deal.source.content
