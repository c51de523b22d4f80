"""Everything that can be wrong with a purchase from outside has a sentence that names it."""

import errno
from collections.abc import Callable

import msgspec
import pytest
import trio

from node.daemon.payments import Status
from node.daemon.reconnect import Unreachable
from node.stream import numbers
from node.stream.library import NobodySells
from node.stream.link import Link
from node.stream.merkle import BLOCK_BYTES
from node.stream.record import Record
from node.stream.title import Title
from tests.node.test_stream_sale import AMPLE, PRICE, Shop, on_type, resigned, shop
from wire.units import Msat


async def stopped(deal: Shop) -> str:
    """What a fetch says when it stops."""
    title = await deal.library.open(deal.link, AMPLE, out=deal.directory / "copy")
    await title.wait_until_delivered()
    assert title.is_stopped
    return title.snapshot().problem


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda raw: raw[:-1], "manifest cannot be read: .*end inside|bytes"),
        (lambda raw: raw[:20], "manifest cannot be read: the bytes end inside"),
        (lambda raw: raw[:8] + b"rubbish", "manifest cannot be read: the bytes end inside"),
        (lambda raw: raw.replace(b"A film", b"A fish"), "not signed"),
    ],
    ids=["truncated", "cut short", "rubbish", "wrong"],
)
async def test_a_bad_manifest_is_named(
    change: Callable[[bytes], bytes], says: str, autojump_clock: object
) -> None:
    async with shop() as deal:
        deal.eric.bend = on_type(numbers.MANIFEST, change)
        with pytest.raises(NobodySells, match=says):
            await deal.library.open(deal.link)


async def test_an_unknown_root_is_named(autojump_clock: object) -> None:
    async with shop() as deal:
        with pytest.raises(NobodySells, match="refuses the manifest: unknown content"):
            await deal.library.open(Link(bytes(32), (deal.address,)))


async def test_a_provider_that_is_offline_is_named(autojump_clock: object) -> None:
    async with shop() as deal:

        async def refuse(node_id: bytes, host: str, port: int) -> None:
            await trio.lowlevel.checkpoint()
            raise Unreachable(host, port, "connection refused")

        deal.alice.connect = refuse  # type: ignore[method-assign]
        with pytest.raises(NobodySells, match=r"127.0.0.1:9735.*connection refused"):
            await deal.library.open(deal.link)


async def test_no_route_is_named(autojump_clock: object) -> None:
    async with shop() as deal:
        deal.alice.failures = 10**6
        assert "could not be paid in 3 tries: no route just now" in await stopped(deal)


async def test_no_funds_are_named(autojump_clock: object) -> None:
    async with shop() as deal:
        deal.alice.failures, deal.alice.spendable_msat = 10**6, Msat(PRICE - 1)
        assert f"can send {PRICE - 1} msat now" in await stopped(deal)


async def test_a_full_disk_is_named_and_nothing_is_lost(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop() as deal:
        with monkeypatch.context() as patch:

            def fill(record: Record, offset: int, content: bytes) -> None:
                raise OSError(errno.ENOSPC, "No space left on device")

            patch.setattr(Record, "write", fill)
            assert await stopped(deal) == "what was bought cannot be kept: No space left on device"
        title: Title = deal.library.titles[deal.manifest.root]
        paid = len(deal.alice.payments)
        deal.library.close(title.root)
        await trio.testing.wait_all_tasks_blocked()
        for payment_hash, state in list(deal.alice.states.items()):
            if state.status is Status.PENDING:
                deal.alice.complete(payment_hash)
        assert await deal.buy() == deal.source.content
        assert len(deal.alice.payments) == 10, f"the {paid} that were paid are opened from their ciphertexts"


async def test_a_disk_with_room_again_gets_what_was_paid(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop() as deal:
        with monkeypatch.context() as patch:

            def fill(record: Record, offset: int, content: bytes) -> None:
                raise OSError(errno.ENOSPC, "No space left on device")

            patch.setattr(Record, "write", fill)
            await stopped(deal)
            title = deal.library.titles[deal.manifest.root]
            title.resume()
            assert title.is_stopped, "there is still no room"
        title.resume()
        await title.wait_until_delivered()
        assert (deal.directory / "copy").read_bytes() == deal.source.content
        assert len(deal.alice.payments) == 10
        assert title.snapshot().spent_msat == 10 * PRICE


async def test_a_price_that_rises_beyond_the_budget_stops_the_title(autojump_clock: object) -> None:
    async with shop() as deal:

        async def raise_price() -> None:
            if len(deal.alice.payments) == 4:
                dearer = Msat(PRICE + 1)
                await deal.provider.publish(
                    deal.source, title="A film", price_msat=dearer, chunk_size=BLOCK_BYTES
                )

        deal.eric.on_htlc = raise_price
        assert f"{PRICE + 1} msat is over the budget of {PRICE} msat per chunk" in await stopped(deal)
        title = deal.library.titles[deal.manifest.root]
        title.allow(msgspec.structs.replace(AMPLE, per_chunk_msat=Msat(PRICE + 1)))
        await title.wait_until_delivered()
        assert (deal.directory / "copy").read_bytes() == deal.source.content


async def test_an_offer_at_another_price_than_the_manifest_is_not_paid(autojump_clock: object) -> None:
    async with shop() as deal:
        deal.eric.bend = on_type(numbers.OFFER, resigned(price_msat=Msat(PRICE + 1)))
        assert f"price_msat {PRICE + 1}, not {PRICE}" in await stopped(deal)
        assert not deal.alice.payments


@pytest.mark.parametrize("seconds", [-3600, 3600])
async def test_a_clock_that_is_wrong_is_named_or_does_no_harm(seconds: int, autojump_clock: object) -> None:
    async with shop() as deal:
        deal.skew[0] = seconds
        if seconds > 0:
            assert "one of the two clocks may be wrong" in await stopped(deal)
            assert not deal.alice.payments
        else:
            assert await deal.buy() == deal.source.content
