"""A swarm over real channels: three providers behind a hub, one slow, one cheating, and who got what."""

from pathlib import Path

import pytest
import trio

from htlc.relay import Toll
from node.stream import numbers
from node.stream.budget import Budget
from node.stream.files import FileSource
from node.stream.fraud import judge
from node.stream.library import Library
from node.stream.link import Address, Link
from node.stream.merkle import BLOCK_BYTES
from node.stream.offer import seal_chunk
from node.stream.provider import Provider
from tests.node.line import HOST, Network, network
from tests.node.test_stream_merkle import content_of
from wire.units import Msat

SELLERS = ("slow", "cheat", "fair")
PRICES = {"slow": Msat(400_000), "cheat": Msat(500_000), "fair": Msat(600_000)}
COUNT = 40
TOLL = Toll(fee_base_msat=Msat(1000), fee_proportional_millionths=10)


def earned(net: Network, name: str) -> int:
    """What a provider got over its channel, which was empty on its side."""
    return net.channel(name, "hub").settled_msat.local


@pytest.mark.slow
async def test_a_swarm_over_channels_one_slow_one_cheating(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = tmp_path / "film"
    await trio.to_thread.run_sync(film.write_bytes, content_of(COUNT * BLOCK_BYTES - 9))
    async with network(tmp_path, "alice hub slow cheat fair", toll=TOLL) as net:
        pairs = [("alice", "hub"), *(("hub", name) for name in SELLERS)]
        await net.join(pairs, push_msat=Msat(0))
        providers = {name: Provider(net[name], clock=net.clock) for name in SELLERS}
        monkeypatch.setattr("node.stream.vendor.seal_chunk", rubbish_of(providers["cheat"]))
        make_slow(net, monkeypatch)
        async with trio.open_nursery() as nursery:
            with FileSource(film) as source:
                for name, provider in providers.items():
                    nursery.start_soon(provider.serve)
                    manifest = await provider.publish(
                        source, title="A film", price_msat=PRICES[name], chunk_size=BLOCK_BYTES
                    )
                library = Library(net["alice"], tmp_path / "library", clock=net.clock)
                await nursery.start(library.run)
                addresses = [Address(net[name].node_id, HOST, net[name].port) for name in SELLERS]
                budget = Budget(PRICES["fair"], Msat(10**9), Msat(5_000))
                title = await library.open(
                    Link(manifest.root, tuple(addresses)), budget, out=tmp_path / "copy"
                )
                await title.wait_until_delivered()
                await net.wait_for_quiet()
                shown = title.snapshot()
            nursery.cancel_scope.cancel()
        copy = await trio.to_thread.run_sync((tmp_path / "copy").read_bytes)
        assert copy == content_of(COUNT * BLOCK_BYTES - 9)
        figures = {name: each for each in shown.providers for name in SELLERS if each.alias == name}
        assert sum(each.chunks for each in figures.values()) == COUNT
        assert figures["cheat"].state == "cheated"
        proof = await trio.to_thread.run_sync(Path(figures["cheat"].fraud_proof).read_bytes)
        assert judge(proof).provider == net["cheat"].node_id.hex()
        assert figures["fair"].chunks > figures["slow"].chunks

        # the bill is what the channels say, to the msat
        for name in SELLERS:
            assert earned(net, name) == figures[name].paid_msat == paid_msat(name, figures[name].paid_msat)
        spent = 10_000_000_000 - net.channel("alice", "hub").settled_msat.local
        assert spent == shown.spent_msat + shown.fee_msat
        payments = sum(each.paid_msat // PRICES[name] for name, each in figures.items())
        least_fee = 1000 + PRICES["slow"] * 10 // 1_000_000
        assert shown.fee_msat >= payments * least_fee
        assert [hop.alias for hop in shown.route] == ["hub", "fair"]


def paid_msat(name: str, amount_msat: int) -> int:
    """The amount, if it is a whole number of chunks."""
    return amount_msat // PRICES[name] * PRICES[name]


def rubbish_of(cheat: Provider) -> object:
    """A `seal_chunk` that seals zeros for one provider."""

    def seal(preimage: bytes, root: bytes, index: int, chunk: bytes) -> bytes:
        is_its_own = any(sale.preimage == preimage for sale in cheat.vendor.sales.values())
        return seal_chunk(preimage, root, index, bytes(len(chunk)) if is_its_own else chunk)

    return seal


def make_slow(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a node's ciphertexts take their time."""
    send = net["slow"].send_custom

    async def send_slowly(peer_id: bytes, type: int, payload: bytes) -> None:
        if type == numbers.CIPHERTEXT:
            await trio.sleep(5)
        await send(peer_id, type, payload)

    monkeypatch.setattr(net["slow"], "send_custom", send_slowly)
