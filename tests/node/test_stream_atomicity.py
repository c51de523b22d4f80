"""Either side of a sale stops, lies or crashes at each of its steps: nobody loses more than the window."""

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from starlette.requests import Request

from node.daemon.payments import Status
from node.stream import messages, numbers
from node.stream.door import Door
from node.stream.library import Library
from node.stream.merkle import BLOCK_BYTES
from node.stream.orders import Orders
from node.stream.provider import Provider
from node.stream.purchase_book import PurchaseBook
from node.stream.record import Record
from node.stream.till import Till
from node.stream.trade import Trade
from node.stream.vendor import Policy, Refused
from tests.node.test_stream_sale import AMPLE, PRICE, Shop, on_type, request, shop

COUNT = 10
AT = 3
"""The call at which a step ends in a crash."""


class Killed(BaseException):
    """The process is gone: nothing of it runs any more, not even its tidying up."""


class Death:
    """Ends a process before or after a step, and keeps it from writing anything afterwards."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self.is_dead = False
        for owner, name in ((Record, "sync"), (Record, "drop"), (Record, "enter"), (PurchaseBook, "flush")):
            self._mute(owner, name)

    def at(self, owner: type, name: str, *, is_after: bool) -> None:
        """Die at a call of this method."""
        calls, act = [0], getattr(owner, name)

        def step(*arguments: Any, **named: Any) -> Any:
            calls[0] += 1
            if calls[0] == AT and not is_after:
                self.die()
            result = act(*arguments, **named)
            if calls[0] == AT and is_after:
                self.die()
            return result

        self._patch.setattr(owner, name, step)

    def at_async(self, owner: type, name: str, *, is_after: bool) -> None:
        """Die at a call of this method, which waits."""
        calls, act = [0], getattr(owner, name)

        async def step(*arguments: Any, **named: Any) -> Any:
            calls[0] += 1
            number = calls[0]
            if number == AT and not is_after:
                self.die()
            result = await act(*arguments, **named)
            if number == AT and is_after:
                self.die()
            return result

        self._patch.setattr(owner, name, step)

    def die(self) -> None:
        self.is_dead = True
        raise Killed

    def _mute(self, owner: type, name: str) -> None:
        act = getattr(owner, name)
        self._patch.setattr(owner, name, lambda *arguments: None if self.is_dead else act(*arguments))


STEPS: list[tuple[type, str, bool]] = [
    (Orders, "chunk", True),
    (Record, "seal", False),
    (Record, "seal", False),
    (Till, "pay", True),
    (Till, "pay", True),
    (Trade, "_open", False),
    (Record, "write", False),
    (Record, "enter", False),
    (PurchaseBook, "enter", False),
]


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("owner", "name", "waits"), dict.fromkeys(STEPS), ids=lambda value: getattr(value, "__name__", str(value))
)
async def test_a_viewer_that_crashes_pays_nothing_twice(
    owner: type,
    name: str,
    waits: bool,
    is_after: bool,
    tmp_path: Path,
    autojump_clock: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with shop() as deal:
        if name == "enter" and owner is PurchaseBook:
            monkeypatch.setattr(f"{__name__}.AT", 1)
        with monkeypatch.context() as patch:
            death = Death(patch)
            (death.at_async if waits else death.at)(owner, name, is_after=is_after)
            await fetch_until_dead(deal, tmp_path)
            assert death.is_dead
        for payment_hash, state in list(deal.alice.states.items()):
            if state.status is Status.PENDING:
                deal.alice.complete(payment_hash)
        async with trio.open_nursery() as nursery:
            library = Library(deal.alice, tmp_path, clock=lambda: deal.now[0])
            await nursery.start(library.run)
            title = await library.open(deal.link, AMPLE, out=tmp_path / "copy")
            await title.wait_until_delivered()
            assert (tmp_path / "copy").read_bytes() == deal.source.content
            assert len(deal.alice.payments) == COUNT
            assert title.snapshot().spent_msat == COUNT * PRICE
            nursery.cancel_scope.cancel()


async def fetch_until_dead(deal: Shop, directory: Path) -> None:
    """Fetch, in a process that dies on the way."""
    try:
        async with trio.open_nursery() as nursery:
            library = Library(deal.alice, directory, clock=lambda: deal.now[0])
            await nursery.start(library.run)
            title = await library.open(deal.link, AMPLE, out=directory / "copy")
            await title.wait_until_delivered()
            nursery.cancel_scope.cancel()
    except* Killed:
        pass


@pytest.mark.parametrize("type", [numbers.OFFER, numbers.CIPHERTEXT, "key"])
async def test_a_provider_that_crashes_is_paid_for_what_it_sold(
    type: int | str, tmp_path: Path, autojump_clock: object
) -> None:
    """It comes back with its invoices, which are durable, and without its memory of who owes what."""
    async with shop() as deal, trio.open_nursery() as nursery:
        seen = [0]

        async def crash() -> None:
            seen[0] += 1
            if seen[0] == AT:
                await restart_provider(deal, nursery)

        def count(payload: bytes) -> bytes | None:
            seen[0] += 1
            if seen[0] == AT:
                nursery.start_soon(restart_provider, deal, nursery)
                return None
            return payload

        if type == "key":
            deal.eric.on_htlc = crash
        else:
            assert isinstance(type, int)
            deal.eric.bend = on_type(type, count)
        assert await deal.buy() == deal.source.content
        assert len(deal.alice.payments) == COUNT
        nursery.cancel_scope.cancel()


async def restart_provider(deal: Shop, nursery: trio.Nursery) -> None:
    deal.eric.settled.clear()
    deal.provider = Provider(deal.eric, clock=lambda: deal.now[0])
    await deal.provider.publish(deal.source, title="A film", price_msat=PRICE, chunk_size=BLOCK_BYTES)
    nursery.start_soon(deal.provider.serve)


async def test_a_viewer_that_takes_and_never_pays_gets_the_credit_window_and_no_more(
    autojump_clock: object,
) -> None:
    async with shop(credit_bytes=3 * BLOCK_BYTES, resends=1) as deal:
        got = [0]

        async def take(peer: bytes, payload: bytes) -> None:
            got[0] += len(messages.read_fragment(payload).ciphertext)

        deal.alice.on_custom(numbers.CIPHERTEXT, take)
        for _ in range(5):
            for index in range(COUNT):
                await request(deal, index)
            await trio.testing.wait_all_tasks_blocked()
        once = 3 * (BLOCK_BYTES + 16)
        assert got[0] <= 2 * once, "each of the window's chunks once, and once more"
        assert deal.provider.earned_msat == 0


async def test_many_viewers_that_never_pay_get_no_more_together_than_all_credit(
    autojump_clock: object,
) -> None:
    async with shop(credit_of_all_bytes=4 * BLOCK_BYTES) as deal:
        refusals: list[messages.Reason] = []

        async def note(peer: bytes, payload: bytes) -> None:
            refusals.append(messages.read_refusal(payload).reason)

        deal.alice.on_custom(numbers.REFUSAL, note)
        for index in range(COUNT):
            await request(deal, index)
        await trio.testing.wait_all_tasks_blocked()
        assert len(deal.eric.invoices) == 4
        assert refusals == [messages.Reason.UNPAID] * (COUNT - 4)


async def test_viewers_that_never_come_back_hold_no_credit_of_others(autojump_clock: object) -> None:
    async with shop(credit_of_all_bytes=4 * BLOCK_BYTES) as deal:
        vendor, root = deal.provider.vendor, deal.manifest.root
        for stranger in range(4):
            await vendor.sell(bytes([2, stranger]), root, 0)
        with pytest.raises(Refused):
            await vendor.sell(b"another", root, 0)
        deal.now[0] += 900
        assert (await vendor.sell(b"another", root, 0)).ciphertext
        assert len(vendor.sales) == 1


async def test_the_door_has_no_chunk_of_any_larger_number(autojump_clock: object) -> None:
    async with shop() as deal:
        door = Door(deal.eric, deal.provider.vendor)  # type: ignore[arg-type]
        for index in (COUNT, 1 << 63, 1 << 64, 1 << 300):
            place = {"root": deal.manifest.root.hex(), "index": index}
            asked = Request({"type": "http", "headers": [], "client": None, "path_params": place})
            assert (await door._sell(asked)).status_code == 404


async def test_a_viewer_risks_no_more_than_its_window(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that takes payments and reveals nothing, until it is found out."""
    async with shop() as deal:
        deal.eric.on_htlc = trio.sleep_forever
        title = await deal.library.open(deal.link, AMPLE, out=deal.directory / "copy")
        await trio.sleep(600)
        shown = title.snapshot()
        held = len([state for state in deal.alice.states.values() if state.status is Status.PENDING])
        assert 1 <= held <= shown.window
        assert shown.reserved_msat == held * PRICE
        assert "does not come" in shown.problem


async def test_a_payment_hash_of_a_paid_chunk_does_not_replace_what_it_paid_for(
    tmp_path: Path, autojump_clock: object
) -> None:
    """A provider that offers the same hash again cannot make the viewer forget its ciphertext."""
    async with shop() as deal:
        sealed: list[str] = []

        async def look() -> None:
            kept = (deal.directory / "library/sealed").rglob("*")
            sealed.extend(path.name for path in kept if path.is_file())

        deal.alice.on_offered = look
        deal.provider = Provider(deal.eric, Policy(), clock=lambda: deal.now[0], entropy=bytes)
        await deal.provider.publish(deal.source, title="A film", price_msat=PRICE, chunk_size=BLOCK_BYTES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deal.provider.serve)
            title = await deal.library.open(deal.link, AMPLE, out=deal.directory / "copy")
            await title.wait_until_delivered()
            nursery.cancel_scope.cancel()
        assert title.is_stopped
        assert len(deal.alice.payments) == 1
        assert title.snapshot().chunks_bought == 1
