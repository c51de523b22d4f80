"""A node's stream begins with the first command or request for it, or where it was used before."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from node.daemon.node import Node
from node.daemon.rpc import Commands
from node.daemon.rpc_general import Identity
from node.daemon.rpc_table import commands_of
from node.stream import messages, numbers
from node.stream.messages import CatalogueReply, GetCatalogue
from node.stream.opening import LaterStream
from node.stream.rpc_rooms import rooms_of
from tests.node.line import Network, network
from wire.crypto.secp256k1 import Point

PATIENCE_SECONDS = 60


@asynccontextmanager
async def streaming(net: Network, name: str, directory: Path) -> AsyncIterator[tuple[LaterStream, Commands]]:
    """A node's stream that has not begun, and all commands."""
    later = LaterStream(net[name], directory)
    commands, _ = commands_of(net[name], Identity(directory, name), *rooms_of(later))
    async with trio.open_nursery() as nursery:
        await nursery.start(later.run)
        yield later, commands
        nursery.cancel_scope.cancel()


async def asked_for_its_catalogue(buyer: Node, provider: Node) -> CatalogueReply:
    send, receive = trio.open_memory_channel[bytes](1)

    async def hear(_: Point, payload: bytes) -> None:
        send.send_nowait(payload)

    buyer.on_custom(numbers.CATALOGUE, hear)
    payload = messages.write_get_catalogue(GetCatalogue(7, 0))
    await buyer.send_custom(provider.node_id, numbers.GET_CATALOGUE, payload)
    with trio.fail_after(PATIENCE_SECONDS):
        return messages.read_catalogue_reply(await receive.receive())


async def test_a_request_of_a_peer_begins_it(tmp_path: Path) -> None:
    books = tmp_path / "stream"
    async with network(tmp_path, "alice bob") as net, streaming(net, "bob", books):
        assert not books.exists(), "nobody has used it"
        await net["alice"].connect(net["bob"].node_id, "127.0.0.1", net["bob"].port)
        for _ in range(2):
            assert await asked_for_its_catalogue(net["alice"], net["bob"]) == CatalogueReply(7, 0, ())
        assert books.exists()


async def test_every_request_is_taken_by_what_has_begun(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net, streaming(net, "alice", tmp_path / "stream") as (later, _):
        await later.stream()
        for type in numbers.REQUESTS:
            # malformed, from nobody: it is ignored, and does not come around to who waits for the first
            with trio.fail_after(PATIENCE_SECONDS):
                await net["alice"].hear_custom(type, bytes(33), b"")


async def test_a_command_begins_it_and_what_was_on_sale_is_so_at_the_next_start(tmp_path: Path) -> None:
    film, books = tmp_path / "film", tmp_path / "stream"
    film.write_bytes(bytes(range(256)) * 256)
    async with network(tmp_path, "alice bob") as net:
        async with streaming(net, "bob", books) as (_, commands):
            shared = await commands.call("share", {"path": str(film), "price_msat": 1000})
            assert (await commands.call("listshares", None))["shares"][0]["root"] == shared["root"]
        async with streaming(net, "bob", books):
            await net["alice"].connect(net["bob"].node_id, "127.0.0.1", net["bob"].port)
            assert (await asked_for_its_catalogue(net["alice"], net["bob"])).total == 1
