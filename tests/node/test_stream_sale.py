"""A provider and a viewer, joined: a whole content is bought, and what goes wrong ends well."""

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
import trio
import trio.testing

from node.stream import messages, numbers
from node.stream.budget import Budget, OverBudget
from node.stream.content import ContentChanged
from node.stream.library import Library, NobodySells
from node.stream.link import Address, Link
from node.stream.manifest import Manifest, ManifestNotSigned
from node.stream.merkle import BLOCK_BYTES, EmptyContent, Layout
from node.stream.messages import Reason, Refusal, RequestChunk
from node.stream.offer import (
    Defrauded,
    InvalidOffer,
    Offer,
    OfferExpired,
    OfferNotProven,
    OfferNotSigned,
    OfferReused,
    WrongCiphertext,
    WrongOffer,
    is_fraud,
    read_offer,
    seal_chunk,
)
from node.stream.orders import NoAnswer, Patience, ProviderRefused
from node.stream.pace import Window
from node.stream.provider import Provider
from node.stream.receipt import ChunkBought
from node.stream.seller import MOST_STRIKES
from node.stream.till import ChunkNotPaid
from node.stream.vendor import Policy
from tests.node.joined import JoinedNode, joined
from tests.node.test_stream_merkle import content_of
from wire.crypto import secp256k1
from wire.units import Msat

PRICE = Msat(100_000)
AMPLE = Budget(per_chunk_msat=PRICE, per_title_msat=Msat(10**9), fee_per_chunk_msat=Msat(5_000))
LENGTH = 9 * BLOCK_BYTES + 5


@dataclass
class Memory:
    """A source and a sink in memory."""

    content: bytearray

    @property
    def length(self) -> int:
        return len(self.content)

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self.content[offset : offset + size])

    def write(self, offset: int, content: bytes) -> None:
        self.content[offset : offset + len(content)] = content


@dataclass
class Shop:
    """A content on sale, and someone who wants it."""

    alice: JoinedNode
    eric: JoinedNode
    provider: Provider
    library: Library
    source: Memory
    manifest: Manifest
    directory: Path
    now: list[float]
    bought: list[ChunkBought]
    skew: list[float]
    """How far the viewer's clock goes ahead."""

    @property
    def address(self) -> Address:
        return Address(self.eric.node_id, "127.0.0.1", 9735)

    @property
    def link(self) -> Link:
        return Link(self.manifest.root, (self.address,))

    async def buy(self, budget: Budget = AMPLE, window: int = 4) -> bytes:
        out = self.directory / "copy"
        title = await self.library.open(self.link, budget, out=out, window=Window(window))
        await title.wait_until_delivered()
        if title.is_stopped:
            assert title.failure is not None
            raise title.failure
        return out.read_bytes()


@asynccontextmanager
async def shop(length: int = LENGTH, chunk_size: int = BLOCK_BYTES, **policy: int) -> AsyncIterator[Shop]:
    now, skew = [1_700_000_000.0], [0.0]
    with ExitStack() as kept:
        async with joined(b"\x0a" * 32, b"\x0e" * 32) as ([alice, eric], nursery):
            provider = Provider(eric, Policy(**policy), clock=lambda: now[0])
            patience = Patience(silence_seconds=1, requests=3, payments=3)
            directory, bought = Path(kept.enter_context(TemporaryDirectory())), list[ChunkBought]()
            library = Library(
                alice, directory / "library", patience, clock=lambda: now[0] + skew[0], on_chunk=bought.append
            )
            await nursery.start(library.run)
            nursery.start_soon(provider.serve)
            source = Memory(bytearray(content_of(length)))
            manifest = await provider.publish(source, title="A film", price_msat=PRICE, chunk_size=chunk_size)
            yield Shop(alice, eric, provider, library, source, manifest, directory, now, bought, skew)


def on_type(type: int, change: Callable[[bytes], bytes | None]) -> Callable[[int, bytes], bytes | None]:
    """What becomes of the messages of one type; the others pass."""
    return lambda sent, payload: change(payload) if sent == type else payload


@pytest.mark.parametrize("length", [1, BLOCK_BYTES, BLOCK_BYTES + 1, LENGTH])
@pytest.mark.parametrize("chunk_size", [BLOCK_BYTES, 4 * BLOCK_BYTES])
async def test_a_content_is_bought_chunk_by_chunk(
    length: int, chunk_size: int, autojump_clock: object
) -> None:
    async with shop(length, chunk_size) as deal:
        assert await deal.library.orders.manifest(deal.eric.node_id, deal.manifest.root) == deal.manifest
        assert await deal.buy() == deal.source.content
        count = deal.manifest.layout.chunk_count
        assert sorted(chunk.index for chunk in deal.bought) == list(range(count))
        assert len(deal.alice.payments) == len(set(deal.alice.payments)) == count
        assert (deal.provider.sold_chunks, deal.provider.earned_msat) == (count, count * PRICE)


async def test_a_window_larger_than_the_credit_waits_for_payments(autojump_clock: object) -> None:
    async with shop(credit_bytes=2 * BLOCK_BYTES) as deal:
        assert await deal.buy(window=9) == deal.source.content
        assert all(chunk.tries == 1 for chunk in deal.bought)


async def test_no_more_than_the_credit_leaves_unpaid(autojump_clock: object) -> None:
    async with shop(credit_bytes=3 * BLOCK_BYTES, resends=0) as deal:
        offers: list[int] = []

        async def note(peer: bytes, payload: bytes) -> None:
            offers.append(len(payload))

        deal.alice.on_custom(numbers.OFFER, note)
        for index in range(8):
            await request(deal, index)
        await trio.testing.wait_all_tasks_blocked()
        assert len(offers) == 3
        deal.now[0] += 900
        await request(deal, 8)
        await trio.testing.wait_all_tasks_blocked()
        assert len(offers) == 6, "an offer that ended unpaid frees its credit"


async def request(deal: Shop, index: int, root: bytes | None = None) -> None:
    payload = messages.write_request_chunk(RequestChunk(index, root or deal.manifest.root, index))
    await deal.alice.send_custom(deal.eric.node_id, numbers.REQUEST_CHUNK, payload)


async def test_an_unpaid_chunk_is_sent_again_but_not_forever(autojump_clock: object) -> None:
    async with shop(resends=1) as deal:
        offers: list[bytes] = []
        refusals: list[Reason] = []

        async def receive_offer(peer: bytes, payload: bytes) -> None:
            offers.append(payload)

        async def receive_refusal(peer: bytes, payload: bytes) -> None:
            refusals.append(messages.read_refusal(payload).reason)

        deal.alice.on_custom(numbers.OFFER, receive_offer)
        deal.alice.on_custom(numbers.REFUSAL, receive_refusal)
        for _ in range(3):
            await request(deal, 2)
            await trio.testing.wait_all_tasks_blocked()
        assert len(offers) == 2
        assert offers[0] == offers[1]
        assert refusals == [Reason.UNPAID]
        assert len(deal.eric.invoices) == 1


async def test_refusals_say_why(autojump_clock: object) -> None:
    async with shop() as deal:
        with pytest.raises(ProviderRefused) as caught:
            await deal.library.orders.manifest(deal.eric.node_id, bytes(32))
        assert caught.value.reason is Reason.UNKNOWN_CONTENT
        deal.manifest = msgspec.structs.replace(deal.manifest, root=bytes(32))
        with pytest.raises(NobodySells, match="unknown content"):
            await deal.buy()
        assert not deal.alice.payments


async def test_a_source_that_changed_is_not_sold(autojump_clock: object) -> None:
    async with shop() as deal:
        deal.source.content[0] ^= 1
        with pytest.raises(ProviderRefused) as caught:
            await deal.buy(window=1)
        assert caught.value.reason is Reason.UNAVAILABLE
        assert not deal.eric.invoices


async def test_a_source_that_shrinks_while_published_is_refused(autojump_clock: object) -> None:
    class Shrinking(Memory):
        def read(self, offset: int, size: int) -> bytes:
            return super().read(offset, size)[: BLOCK_BYTES // 2]

    async with shop() as deal:
        with pytest.raises(ContentChanged):
            await deal.provider.publish(
                Shrinking(deal.source.content), title="", price_msat=PRICE, chunk_size=BLOCK_BYTES
            )
        with pytest.raises(EmptyContent):
            await deal.provider.publish(
                Memory(bytearray()), title="", price_msat=PRICE, chunk_size=BLOCK_BYTES
            )


async def test_a_lost_answer_is_asked_for_again(autojump_clock: object) -> None:
    async with shop() as deal:
        lost = iter([None])
        deal.eric.bend = on_type(numbers.OFFER, lambda payload: next(lost, payload))
        assert await deal.buy(window=1) == deal.source.content
        assert deal.bought[0].tries == 2
        assert len(deal.eric.invoices) == deal.manifest.layout.chunk_count


async def test_a_purchase_survives_the_connection(autojump_clock: object) -> None:
    async with shop() as deal:
        calls: list[float] = []

        async def call_again(node_id: bytes, host: str, port: int) -> None:
            calls.append(trio.current_time())
            deal.alice.is_cut = False
            await trio.lowlevel.checkpoint()

        def lose(payload: bytes) -> None:
            deal.alice.is_cut = True
            deal.eric.bend = lambda _, payload: payload

        deal.alice.connect = call_again  # type: ignore[method-assign]
        deal.eric.bend = on_type(numbers.CIPHERTEXT, lose)
        assert await deal.buy() == deal.source.content
        assert calls


async def test_a_queue_that_moves_is_waited_for(autojump_clock: object) -> None:
    async with shop() as deal:
        send = deal.eric.send_custom

        async def send_slowly(peer_id: bytes, type: int, payload: bytes) -> None:
            await trio.sleep(0.4)
            await send(peer_id, type, payload)

        deal.eric.send_custom = send_slowly  # type: ignore[method-assign]
        assert await deal.buy(window=10) == deal.source.content
        assert all(chunk.tries == 1 for chunk in deal.bought)
        assert max(chunk.seconds for chunk in deal.bought) > 5


async def test_silence_ends_the_purchase(autojump_clock: object) -> None:
    async with shop(resends=99) as deal:
        deal.eric.bend = on_type(numbers.OFFER, lambda _: None)
        with pytest.raises(NoAnswer):
            await deal.buy()
        deal.eric.bend = lambda *_: None
        with pytest.raises(NoAnswer):
            await deal.library.orders.manifest(deal.eric.node_id, deal.manifest.root)


async def test_a_payment_without_a_route_is_tried_again(autojump_clock: object) -> None:
    async with shop() as deal:
        deal.alice.failures = 2
        assert await deal.buy(window=1) == deal.source.content


async def test_payments_that_never_go_through_end_the_purchase(autojump_clock: object) -> None:
    async with shop() as deal:
        deal.alice.failures = 10**6
        with pytest.raises(ChunkNotPaid) as caught:
            await deal.buy(window=1)
        assert caught.value.why == "no route just now"
        assert deal.alice.failed == 3 * MOST_STRIKES
        assert not deal.alice.payments


def resigned(**fields: object) -> Callable[[bytes], bytes]:
    """An offer whose terms are changed, and signed by the provider all the same."""

    def change(payload: bytes) -> bytes:
        terms = msgspec.structs.replace(read_offer(payload[8:]).terms, **fields)
        return payload[:8] + Offer(terms, secp256k1.sign(b"\x0e" * 32, terms.digest())).encode()

    return change


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        ({"price_msat": Msat(PRICE + 1)}, WrongOffer),
        ({"index": 1}, WrongOffer),
        ({"root": bytes(32)}, WrongOffer),
        ({"layout": Layout(LENGTH - 1, BLOCK_BYTES)}, WrongOffer),
        ({"provider": secp256k1.point_of(b"\x0d" * 32)}, WrongOffer),
        ({"expiry": 1_700_000_005}, OfferExpired),
        ({"subtree_hash": bytes(32)}, OfferNotProven),
        ({"proof": (bytes(32),) * 4}, OfferNotProven),
        ({"ciphertext_sha256": bytes(32)}, WrongCiphertext),
    ],
    ids=str,
)
async def test_an_offer_that_is_not_what_was_asked_for_is_not_paid(
    fields: dict[str, object], failure: type[InvalidOffer], autojump_clock: object
) -> None:
    async with shop() as deal:
        deal.eric.bend = on_type(numbers.OFFER, resigned(**fields))
        with pytest.raises(failure):
            await deal.buy(window=1)
        assert not deal.alice.payments


async def test_an_offer_that_the_provider_did_not_sign_is_not_paid(autojump_clock: object) -> None:
    async with shop() as deal:
        deal.eric.bend = on_type(numbers.OFFER, lambda payload: payload[:-1] + bytes([payload[-1] ^ 1]))
        with pytest.raises(OfferNotSigned):
            await deal.buy(window=1)
        assert not deal.alice.payments


async def test_a_payment_hash_serves_for_one_chunk(autojump_clock: object) -> None:
    async with shop() as deal:
        deal.provider = Provider(deal.eric, clock=lambda: deal.now[0], entropy=bytes)
        await deal.provider.publish(deal.source, title="A film", price_msat=PRICE, chunk_size=BLOCK_BYTES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deal.provider.serve)
            with pytest.raises(OfferReused):
                await deal.buy(window=1)
            nursery.cancel_scope.cancel()
        assert len(deal.alice.payments) == 1


async def test_a_forged_manifest_is_refused(autojump_clock: object) -> None:
    async with shop() as deal:
        deal.eric.bend = on_type(numbers.MANIFEST, lambda payload: payload.replace(b"A film", b"A fish"))
        with pytest.raises(ManifestNotSigned):
            await deal.library.orders.manifest(deal.eric.node_id, deal.manifest.root)


async def test_a_provider_that_sells_rubbish_convicts_itself(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rubbish(preimage: bytes, root: bytes, index: int, chunk: bytes) -> bytes:
        return seal_chunk(preimage, root, index, bytes(len(chunk)))

    monkeypatch.setattr("node.stream.vendor.seal_chunk", rubbish)
    async with shop() as deal:
        with pytest.raises(Defrauded) as caught:
            await deal.buy(window=1)
        assert is_fraud(caught.value.evidence)
        assert len(deal.alice.payments) == 1, "the viewer loses one chunk and no more"


@pytest.mark.parametrize(
    ("budget", "chunks"),
    [
        (Budget(Msat(PRICE - 1), Msat(10**9), Msat(0)), 0),
        (Budget(PRICE, Msat(3 * PRICE), Msat(0)), 3),
        (Budget(PRICE, Msat(10**9), Msat(0), per_hour_msat=Msat(2 * PRICE)), 2),
    ],
    ids=["per chunk", "per title", "per hour"],
)
async def test_a_budget_is_never_passed(budget: Budget, chunks: int, autojump_clock: object) -> None:
    async with shop() as deal:
        with pytest.raises(OverBudget):
            await deal.buy(budget, window=1)
        assert len(deal.alice.payments) == chunks


async def test_an_hour_later_there_is_money_again(autojump_clock: object) -> None:
    async with shop(length=2 * BLOCK_BYTES) as deal:
        budget = msgspec.structs.replace(AMPLE, per_hour_msat=Msat(2 * PRICE))
        await deal.buy(budget, window=1)
        source = Memory(bytearray(b"another film"))
        deal.manifest = await deal.provider.publish(
            source, title="Another", price_msat=PRICE, chunk_size=BLOCK_BYTES
        )
        with pytest.raises(OverBudget):
            await deal.buy(budget, window=1)
        deal.now[0] += 3600
        assert await deal.buy(budget, window=1) == source.content


async def test_a_stranger_cannot_answer_for_the_provider(autojump_clock: object) -> None:
    async with shop() as deal:
        deal.eric.bend = lambda *_: None
        answer = deal.alice.handlers[numbers.REFUSAL]
        refusal = messages.write_refusal(Refusal(1, Reason.UNPAID))

        async def meddle() -> None:
            await trio.testing.wait_all_tasks_blocked()
            await answer(b"\x02" * 33, refusal)
            await answer(deal.eric.node_id, b"")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(meddle)
            with pytest.raises(NoAnswer):
                await deal.library.orders.manifest(deal.eric.node_id, deal.manifest.root)


async def test_a_buyer_that_floods_is_not_heard(autojump_clock: object) -> None:
    async with shop(requests_per_buyer=5, credit_bytes=BLOCK_BYTES, resends=0) as deal:
        for index in range(9):
            await request(deal, index)
        await deal.alice.send_custom(deal.eric.node_id, numbers.REQUEST_CHUNK, b"?")
        await trio.testing.wait_all_tasks_blocked()
        assert len(deal.eric.invoices) == 1
