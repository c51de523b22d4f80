"""Several providers of one content: the cheapest sells, the slow, the dead and the cheat are replaced."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
import trio.testing

from node.cli.main import run
from node.stream import numbers
from node.stream.budget import Budget
from node.stream.fraud import NotAProof, judge, read_fraud, write_fraud
from node.stream.library import Library
from node.stream.link import Address, Link
from node.stream.merkle import BLOCK_BYTES
from node.stream.offer import seal_chunk
from node.stream.orders import Patience
from node.stream.provider import Provider
from node.stream.shop import Shop
from node.stream.snapshot import SellerFigures
from node.stream.title import Title
from tests.node.joined import JoinedNode, joined
from tests.node.test_stream_merkle import content_of
from tests.node.test_stream_sale import Memory
from wire.units import Msat

COUNT = 60
CHEAP, FAIR, DEAR = Msat(50_000), Msat(70_000), Msat(90_000)
BUDGET = Budget(DEAR, Msat(10**9), Msat(5_000))
NOW = 1_700_000_000.0


@dataclass
class Swarm:
    """A viewer and three providers of one content, at three prices."""

    viewer: JoinedNode
    nodes: list[JoinedNode]
    library: Library
    link: Link
    content: bytes
    directory: Path
    title: Title | None = None

    async def fetch(self) -> Title:
        out = self.directory / "copy"
        self.title = title = await self.library.open(self.link, BUDGET, out=out)
        await title.wait_until_delivered()
        assert not title.is_stopped, title.snapshot().problem
        assert out.read_bytes() == self.content
        return title

    def figures(self, node: JoinedNode) -> SellerFigures:
        assert self.title is not None
        [found] = [each for each in self.title.snapshot().providers if each.node_id == node.node_id.hex()]
        return found

    def proof(self, cheat: JoinedNode) -> bytes:
        return Path(self.figures(cheat).fraud_proof).read_bytes()

    def check_bill(self, wasted_msat: int = 0) -> None:
        """What the title says it cost is what the payments were, to the msat."""
        assert self.title is not None
        shown = self.title.snapshot()
        paid = sum(state.amount_msat for state in self.viewer.states.values())
        assert shown.spent_msat == paid == sum(each.paid_msat for each in shown.providers)
        assert shown.reserved_msat == 0
        assert paid == wasted_msat + sum(each.chunks * each.price_msat for each in shown.providers)
        assert sum(each.chunks for each in shown.providers) == COUNT


@asynccontextmanager
async def swarm(directory: Path) -> AsyncIterator[Swarm]:
    content = content_of(COUNT * BLOCK_BYTES - 7)
    async with joined(b"\x0a" * 32, b"\x01" * 32, b"\x02" * 32, b"\x03" * 32) as ([viewer, *nodes], nursery):
        for node, price_msat in zip(nodes, (CHEAP, FAIR, DEAR), strict=True):
            provider = Provider(node, clock=lambda: NOW)
            source = Memory(bytearray(content))
            manifest = await provider.publish(
                source, title="A film", price_msat=price_msat, chunk_size=BLOCK_BYTES
            )
            nursery.start_soon(provider.serve)
        library = Library(viewer, directory / "library", Patience(reveal_seconds=20), clock=lambda: NOW)
        await nursery.start(library.run)
        addresses = tuple(Address(node.node_id, "127.0.0.1", 9735) for node in nodes)
        yield Swarm(viewer, nodes, library, Link(manifest.root, addresses), content, directory)


def slow_down(node: JoinedNode, seconds: float) -> None:
    """Let everything that a node sends wait for so long."""
    send = node.send_custom

    async def send_slowly(peer_id: bytes, type: int, payload: bytes) -> None:
        if type == numbers.CIPHERTEXT:
            await trio.sleep(seconds)
        await send(peer_id, type, payload)

    node.send_custom = send_slowly  # type: ignore[method-assign]


def sell_rubbish(node: JoinedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a node sell zeros, under offers that it signs."""

    def rubbish(preimage: bytes, root: bytes, index: int, chunk: bytes) -> bytes:
        is_its_own = any(sale.preimage == preimage for sale in provider_of(node).vendor.sales.values())
        return seal_chunk(preimage, root, index, bytes(len(chunk)) if is_its_own else chunk)

    monkeypatch.setattr("node.stream.vendor.seal_chunk", rubbish)


def provider_of(node: JoinedNode) -> Provider:
    bound = node.handlers[numbers.REQUEST_CHUNK]
    provider = getattr(bound, "__self__", None)
    assert isinstance(provider, Provider)
    return provider


async def test_the_cheapest_sells_if_it_can(tmp_path: Path, autojump_clock: object) -> None:
    async with swarm(tmp_path) as market:
        await market.fetch()
        assert [market.figures(node).chunks for node in market.nodes] == [COUNT, 0, 0]
        market.check_bill()


async def test_three_providers_one_slow_one_cheating(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with swarm(tmp_path) as market:
        slow, cheat, honest = market.nodes
        slow_down(slow, 30)
        sell_rubbish(cheat, monkeypatch)
        await market.fetch()
        assert market.figures(cheat).state == "cheated"
        assert market.figures(cheat).chunks == 0
        assert market.figures(honest).chunks > market.figures(slow).chunks
        wasted = market.figures(cheat).paid_msat
        # what was on its way when the cheat was found out is lost, at most the first window
        assert FAIR <= wasted <= 4 * FAIR
        market.check_bill(wasted)
        proof = market.proof(cheat)
        verdict = judge(proof)
        assert (verdict.provider, verdict.root) == (cheat.node_id.hex(), market.link.root.hex())
        assert verdict.is_of_content


async def test_one_that_dies_is_replaced(tmp_path: Path, autojump_clock: object) -> None:
    async with swarm(tmp_path) as market:
        first, second, _ = market.nodes
        sent = [0]

        def die(type: int, payload: bytes) -> bytes:
            sent[0] += type == numbers.CIPHERTEXT
            first.is_cut = first.is_cut or sent[0] > 20
            return payload

        first.bend = die
        await market.fetch()
        assert 0 < market.figures(first).chunks <= 21
        assert market.figures(second).chunks == COUNT - market.figures(first).chunks
        market.check_bill()


async def test_one_that_never_reveals_costs_only_time(tmp_path: Path, autojump_clock: object) -> None:
    async with swarm(tmp_path) as market:
        miser, second, _ = market.nodes
        miser.on_htlc = trio.sleep_forever
        await market.fetch()
        assert (market.figures(miser).chunks, market.figures(miser).paid_msat) == (0, 0)
        assert market.figures(second).chunks == COUNT
        held = [each for each in market.viewer.states.values() if each.payment_preimage is None]
        assert 1 <= len(held) <= 4, "no more is asked of it than the first window"


async def test_a_key_that_comes_late_is_accounted_for(tmp_path: Path, autojump_clock: object) -> None:
    async with swarm(tmp_path) as market:
        late, _, _ = market.nodes
        slow_down(market.nodes[1], 2)

        async def linger() -> None:
            await trio.sleep(25)

        late.on_htlc = linger
        title = await market.fetch()
        while title.snapshot().reserved_msat:
            await title.wait_changed(title.snapshot().version)
        shown = title.snapshot()
        assert shown.spent_msat == sum(state.amount_msat for state in market.viewer.states.values())


async def test_a_price_that_changes_in_mid_film_is_paid_within_the_budget(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with swarm(tmp_path) as market:
        first, _, _ = market.nodes
        provider, sold = provider_of(first), [0]
        source = Memory(bytearray(market.content))

        async def raise_price() -> None:
            sold[0] += 1
            if sold[0] == 10:
                await provider.publish(source, title="A film", price_msat=FAIR, chunk_size=BLOCK_BYTES)

        first.on_htlc = raise_price
        await market.fetch()
        figures = market.figures(first)
        assert figures.price_msat == FAIR
        assert figures.chunks + market.figures(market.nodes[1]).chunks == COUNT
        assert figures.paid_msat < figures.chunks * FAIR


async def test_what_was_bought_is_sold_on(tmp_path: Path, autojump_clock: object) -> None:
    async with swarm(tmp_path) as market, trio.open_nursery() as nursery:
        title = await market.fetch()
        [seller] = [market.viewer]
        shop = Shop(seller, tmp_path / "shop", market.library.book, clock=lambda: NOW)
        await nursery.start(shop.run)
        shop.resell(title.manifest, title.record.path, Msat(10_000))
        buyer = market.nodes[2]
        library = Library(buyer, tmp_path / "other", clock=lambda: NOW)
        await nursery.start(library.run)
        link = Link(title.root, (Address(seller.node_id, "127.0.0.1", 9735),))
        bought = await library.open(link, BUDGET, out=tmp_path / "second")
        await bought.wait_until_delivered()
        assert (tmp_path / "second").read_bytes() == market.content
        shop.book.flush()
        assert shop.book.earned_msat() == COUNT * 10_000
        assert market.library.book.spent_msat() == (COUNT * CHEAP, 0)
        nursery.cancel_scope.cancel()


async def test_who_has_half_sells_half(tmp_path: Path, autojump_clock: object) -> None:
    """A reseller that is still buying sells what it has; the rest comes from the dearer origin."""
    async with swarm(tmp_path) as market, trio.open_nursery() as nursery:
        seller, buyer = market.viewer, market.nodes[2]
        title = await market.library.open(market.link, BUDGET)
        half = COUNT // 2 * BLOCK_BYTES
        assert await title.read(0, half) == market.content[:half]
        title.pause()
        await trio.sleep(1)  # what was bought is entered now and then
        shop = Shop(seller, tmp_path / "shop", market.library.book, clock=lambda: NOW)
        await nursery.start(shop.run)
        shop.resell(title.manifest, title.record.path, Msat(10_000))
        library = Library(buyer, tmp_path / "other", clock=lambda: NOW)
        await nursery.start(library.run)
        sellers = (seller, market.nodes[1])
        link = Link(title.root, tuple(Address(node.node_id, "127.0.0.1", 9735) for node in sellers))
        bought = await library.open(link, BUDGET, out=tmp_path / "second")
        await bought.wait_until_delivered()
        assert (tmp_path / "second").read_bytes() == market.content
        from_reseller, from_origin = bought.snapshot().providers
        assert from_reseller.chunks >= COUNT // 2
        assert from_origin.chunks == COUNT - from_reseller.chunks > 0
        assert not from_reseller.failures, "what it does not have yet is no failure"
        nursery.cancel_scope.cancel()


async def test_what_nobody_has_yet_holds_up_nothing_else(tmp_path: Path, autojump_clock: object) -> None:
    async with swarm(tmp_path) as market, trio.open_nursery() as nursery:
        title = await market.library.open(market.link, BUDGET)
        later = 40 * BLOCK_BYTES
        await title.read(later, len(market.content))
        title.pause()
        await trio.sleep(1)
        shop = Shop(market.viewer, tmp_path / "shop", market.library.book, clock=lambda: NOW)
        await nursery.start(shop.run)
        shop.resell(title.manifest, title.record.path, Msat(10_000))
        library = Library(market.nodes[2], tmp_path / "other", clock=lambda: NOW)
        await nursery.start(library.run)
        link = Link(title.root, (Address(market.viewer.node_id, "127.0.0.1", 9735),))
        bought = await library.open(link, BUDGET, out=tmp_path / "second")
        while bought.snapshot().chunks_bought < 20:
            await bought.wait_changed(bought.snapshot().version)
        assert not bought.snapshot().is_stopped
        title.want_all()
        title.resume()
        await bought.wait_until_delivered()
        assert (tmp_path / "second").read_bytes() == market.content
        nursery.cancel_scope.cancel()


async def test_a_proof_convicts_and_convicts_nobody_if_it_was_touched(
    tmp_path: Path,
    autojump_clock: object,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with swarm(tmp_path) as market:
        sell_rubbish(market.nodes[0], monkeypatch)
        await market.fetch()
        proof = market.proof(market.nodes[0])
    (tmp_path / "proof").write_bytes(proof)
    assert run(["verify-fraud", str(tmp_path / "proof")]) == 0
    assert "Fraud. The node 031b84c5" in capfd.readouterr().out
    claim = read_fraud(proof)
    assert write_fraud(claim) == proof
    for at in range(0, len(proof), 97):
        touched = proof[:at] + bytes([proof[at] ^ 1]) + proof[at + 1 :]
        with pytest.raises(NotAProof):
            judge(touched)
    for cut in (0, 1, 100, len(proof) - 1):
        with pytest.raises(NotAProof):
            judge(proof[:cut])
