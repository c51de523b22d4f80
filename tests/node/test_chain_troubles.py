"""A chain backend that is missing, wrong, or goes away and returns: one sentence each, and nothing lost."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from node.chain.bitcoind import BitcoindChain, ChainRefused, Pruned, StillSyncing, WrongNetwork, cookie_path
from node.chain.embedded import EmbeddedChain
from node.chain.http import Credentials, Reply, Request, serve_connection
from node.chain.interface import BlockConnected, ChainPortTaken, ChainTrouble, ChainUnavailable
from node.chain.rpc_client import ChainUnreachable, NoCookie, StartingUp, WrongCredentials
from node.chain.served import ServedChain
from tests.node.payer import Payer
from wire.bitcoin.block import CHAIN_HASH
from wire.bitcoin.tx import txid_hex

CREDENTIALS = Credentials("user", "password")
GENESIS = {name: txid_hex(block_hash) for name, block_hash in CHAIN_HASH.items()}
OVERVIEW = {"chain": "main", "blocks": 900, "headers": 900, "bestblockhash": 64 * "0"}


@asynccontextmanager
async def served(
    chain: EmbeddedChain,
    port: int = 0,
    cookie: Path | None = None,
    credentials: Credentials | None = CREDENTIALS,
) -> AsyncIterator[ServedChain]:
    async with trio.open_nursery() as nursery:
        server = ServedChain(chain, cookie, credentials)
        await nursery.start(server.run, port)
        yield server
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def answering(answer: Callable[[str, list[Any]], object]) -> AsyncIterator[int]:
    """A server on which every call gets what `answer` says: a result, or an error."""

    async def reply(request: Request) -> Reply:
        asked = msgspec.json.decode(request.body)
        result = answer(asked["method"], asked["params"])
        error = result if isinstance(result, dict) and "code" in result else None
        return Reply(200, msgspec.json.encode({"result": None if error else result, "error": error, "id": 0}))

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, partial(serve_connection, answer=reply), [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@pytest.fixture
def chain() -> Any:
    with EmbeddedChain() as opened:
        yield opened


async def sentence_of(chain: BitcoindChain, error: type[ChainTrouble]) -> str:
    with pytest.raises(error) as trouble:
        await chain.check()
    assert "\n" not in str(trouble.value)
    return str(trouble.value)


# --- what cannot work


async def test_nobody_answers() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    text = await sentence_of(BitcoindChain(CREDENTIALS, port=port), ChainUnreachable)
    assert f"127.0.0.1:{port}" in text
    assert "refused" in text


async def test_there_is_no_cookie(tmp_path: Path) -> None:
    text = await sentence_of(BitcoindChain(cookie_path(tmp_path, "regtest")), NoCookie)
    assert str(tmp_path / "regtest" / ".cookie") in text


async def test_the_password_is_wrong(chain: EmbeddedChain) -> None:
    async with served(chain) as server:
        stranger = BitcoindChain(Credentials("user", "guess"), port=server.port)
        assert "password" in await sentence_of(stranger, WrongCredentials)


async def test_the_cookie_is_anothers(chain: EmbeddedChain, tmp_path: Path) -> None:
    cookie = tmp_path / ".cookie"
    cookie.write_text("__cookie__:guess")
    async with served(chain) as server:
        assert str(cookie) in await sentence_of(BitcoindChain(cookie, port=server.port), WrongCredentials)


async def test_it_follows_another_network(chain: EmbeddedChain) -> None:
    async with served(chain) as server:
        node = BitcoindChain(CREDENTIALS, "bitcoin", port=server.port)
        text = await sentence_of(node, WrongNetwork)
        assert "bitcoin" in text
        assert "regtest" in text


async def test_it_is_still_syncing() -> None:
    behind = {**OVERVIEW, "blocks": 17, "initialblockdownload": True}
    answers = {"getblockhash": GENESIS["bitcoin"], "getblockchaininfo": behind}
    async with answering(lambda method, _: answers[method]) as port:
        text = await sentence_of(BitcoindChain(CREDENTIALS, "bitcoin", port=port), StillSyncing)
        assert "17 of 900" in text


async def test_it_has_pruned_what_is_needed() -> None:
    pruned = {**OVERVIEW, "pruneheight": 500}
    answers = {"getblockhash": GENESIS["bitcoin"], "getblockchaininfo": pruned}
    async with answering(lambda method, _: answers[method]) as port:
        node = BitcoindChain(CREDENTIALS, "bitcoin", port=port)
        with pytest.raises(Pruned) as trouble:
            await node.check(needed_height=499)
        assert "499" in str(trouble.value)


async def test_it_is_starting_up() -> None:
    async with answering(lambda *_: {"code": -28, "message": "Loading block index…"}) as port:
        assert "Loading" in await sentence_of(BitcoindChain(CREDENTIALS, port=port), StartingUp)


async def test_it_does_not_know_a_method() -> None:
    async with answering(lambda *_: {"code": -32601, "message": "Method not found"}) as port:
        node = BitcoindChain(CREDENTIALS, port=port)
        assert "Method not found" in await sentence_of(node, ChainRefused)
        with pytest.raises(ChainRefused):
            await node.tip()


async def test_what_answers_is_no_bitcoind() -> None:
    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 mail.example.org ESMTP\r\n\r\n")

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, greet, [listener])
        port = listener.socket.getsockname()[1]
        await sentence_of(BitcoindChain(CREDENTIALS, port=port), ChainUnreachable)
        nursery.cancel_scope.cancel()


async def test_a_port_is_served_once(chain: EmbeddedChain) -> None:
    async with served(chain) as server:
        with pytest.raises(ChainPortTaken):
            await ServedChain(chain, None, CREDENTIALS).run(server.port)


# --- what passes


async def test_a_follower_goes_on_when_the_chain_returns(
    chain: EmbeddedChain, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(chain) as server:
        port = server.port
        node = BitcoindChain(CREDENTIALS, port=port)
        tip = await node.tip()
        follower = node.follow(tip.height + 1, tip.block_hash)
        await chain.mine()
        first = await anext(follower)
    await chain.mine(2)
    seen, done = [first], trio.Event()

    async def follow() -> None:
        seen.extend([await anext(follower), await anext(follower)])
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await trio.sleep(30)
        assert len(seen) == 1
        async with served(chain, port):
            await done.wait()
    assert [event.height - tip.height for event in seen] == [1, 2, 3]


async def test_questions_wait_for_the_chain_to_return(
    chain: EmbeddedChain, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(chain) as server:
        port = server.port
        node = BitcoindChain(CREDENTIALS, port=port)
        rate = await node.feerate_per_kw(6)
    assert await node.feerate_per_kw(6) == rate, "the last one known serves meanwhile"
    tips: list[object] = []
    done = trio.Event()

    async def ask() -> None:
        tips.append(await node.tip())
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.sleep(30)
        assert tips == []
        async with served(chain, port):
            await done.wait()
    assert tips == [await chain.tip()]


async def test_a_broadcast_may_be_repeated_when_the_chain_returns(chain: EmbeddedChain) -> None:
    payer = Payer(chain)
    [coin] = await payer.coins(1)
    spend = payer.spend(coin)
    async with served(chain) as server:
        port = server.port
        node = BitcoindChain(CREDENTIALS, port=port)
        await node.tip()
    with pytest.raises(ChainUnavailable):
        await node.broadcast(spend)
    async with served(chain, port):
        await node.broadcast(spend)
    assert spend.txid in chain.regtest.mempool


async def test_a_cookie_that_was_written_anew_is_read_anew(chain: EmbeddedChain, tmp_path: Path) -> None:
    cookie = tmp_path / ".cookie"
    async with served(chain, cookie=cookie, credentials=None) as server:
        port = server.port
        node = BitcoindChain(cookie, port=port)
        before = cookie.read_text()
        await node.check()
    async with served(chain, port, cookie, None):
        assert cookie.read_text() != before
        await node.check()


async def test_a_served_chain_tells_of_a_block_at_once(chain: EmbeddedChain) -> None:
    async with served(chain) as server:
        node = BitcoindChain(CREDENTIALS, port=server.port, poll_seconds=3600)
        tip = await node.tip()
        follower = node.follow(tip.height + 1, tip.block_hash)
        seen: list[object] = []

        async def follow() -> None:
            seen.append(await anext(follower))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked(0.05)
            await chain.mine()
        [event] = seen
        assert isinstance(event, BlockConnected)


async def test_many_ask_at_once(chain: EmbeddedChain) -> None:
    async with served(chain) as server:
        node = BitcoindChain(CREDENTIALS, port=server.port)
        tips: list[object] = []

        async def ask() -> None:
            tips.append(await node.tip())

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(ask)
        assert tips == 50 * [await chain.tip()]


async def test_a_call_that_is_given_up_leaves_no_answer_for_the_next(chain: EmbeddedChain) -> None:
    async with served(chain) as server:
        client = BitcoindChain(CREDENTIALS, port=server.port).client
        with trio.move_on_after(0.05):
            await client.wait("waitfornewblock", 10_000, type=object)
        assert await client.call("getblockcount", type=int) == (await chain.tip()).height
