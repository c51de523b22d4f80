"""The embedded chain: blocks, followers, the faucet, reorganisations, and its life on disk."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from node.chain.embedded import PREMINED_BLOCKS, EmbeddedChain, Follower
from node.chain.faucet import FaucetEmpty
from node.chain.interface import (
    BlockConnected,
    BlockDisconnected,
    BlockEvent,
    Chain,
    ChainDirectoryInUse,
    Rejected,
    UnknownBlock,
    UnspentOutput,
)
from node.chain.kernel import ChainClosed
from node.chain.regtest import ReorganisationTooDeep
from tests.node.payer import SCRIPT, Payer
from wire.bitcoin.block import CHAIN_HASH
from wire.bitcoin.tx import OutPoint, TxOut
from wire.scid import scid
from wire.units import Sat


@pytest.fixture
def chain() -> Iterator[EmbeddedChain]:
    with EmbeddedChain() as opened:
        yield opened


@pytest.fixture
def payer(chain: EmbeddedChain) -> Payer:
    return Payer(chain)


async def take(follower: Follower, count: int) -> list[BlockEvent]:
    return [await anext(follower) for _ in range(count)]


def is_conforming(chain: EmbeddedChain) -> Chain:
    return chain


async def test_a_new_chain_starts_at_the_regtest_genesis(chain: EmbeddedChain) -> None:
    assert is_conforming(chain).network == "regtest"
    assert (await chain.tip()).height == PREMINED_BLOCKS
    [first] = await take(chain.follow(0), 1)
    assert first.block_hash == CHAIN_HASH["regtest"]


async def test_the_same_calls_give_the_same_blocks() -> None:
    with EmbeddedChain() as one, EmbeddedChain() as other:
        for chain in (one, other):
            await chain.fund(SCRIPT, Sat(70_000))
        assert await one.tip() == await other.tip()


async def test_a_funded_output_is_confirmed_and_found_by_its_short_channel_id(chain: EmbeddedChain) -> None:
    outpoint = await chain.fund(SCRIPT, Sat(70_000))
    height = (await chain.tip()).height
    assert await chain.output(outpoint) == UnspentOutput(Sat(70_000), SCRIPT, height)
    await chain.mine(5)
    found = await chain.funding_output(scid(height, 1, outpoint.index))
    assert found is not None
    assert (found.script, found.value_sat, found.is_unspent, found.depth) == (SCRIPT, 70_000, True, 6)


async def test_a_spent_funding_output_is_still_found(chain: EmbeddedChain, payer: Payer) -> None:
    [outpoint] = await payer.coins(1)
    height = (await chain.tip()).height
    await chain.broadcast(payer.spend(outpoint))
    await chain.mine()
    found = await chain.funding_output(scid(height, 1, outpoint.index))
    assert found is not None
    assert not found.is_unspent
    assert await chain.output(outpoint) is None


@pytest.mark.parametrize("missing", [scid(10_000, 1, 0), scid(1, 7, 0), scid(1, 0, 9)])
async def test_a_short_channel_id_may_name_nothing(chain: EmbeddedChain, missing: int) -> None:
    assert await chain.funding_output(missing) is None


async def test_the_faucet_pays_thousands_at_once(chain: EmbeddedChain) -> None:
    outputs = [TxOut(Sat(10_000 + index), SCRIPT) for index in range(2500)]
    paid = await chain.fund_many(outputs)
    for outpoint, output in zip(paid, outputs, strict=True):
        coin = await chain.output(outpoint)
        assert coin is not None
        assert coin.value_sat == output.value_sat


async def test_the_faucet_says_what_it_lacks() -> None:
    with EmbeddedChain(premined_blocks=100) as chain:
        with pytest.raises(FaucetEmpty) as refused:
            await chain.fund(SCRIPT, Sat(51 * 100_000_000))
        assert refused.value.have_sat == 50 * 100_000_000
        await chain.mine(1)
        await chain.fund(SCRIPT, Sat(51 * 100_000_000))


async def test_a_child_is_mined_after_its_parent(chain: EmbeddedChain, payer: Payer) -> None:
    [coin] = await payer.coins(1)
    family = [payer.spend(coin)]
    for _ in range(5):
        family.append(payer.spend(family[-1].outpoint(0)))
    for transaction in family:
        await chain.broadcast(transaction)
    tip = await chain.mine()
    [block] = await take(chain.follow(tip.height), 1)
    assert isinstance(block, BlockConnected)
    assert list(block.transactions[1:]) == family
    assert len(chain.regtest.mempool) == 0


async def test_a_block_may_pay_any_script(chain: EmbeddedChain) -> None:
    tip = await chain.mine(1, SCRIPT)
    [block] = await take(chain.follow(tip.height), 1)
    assert isinstance(block, BlockConnected)
    assert block.transactions[0].outputs[0].script == SCRIPT


# --- followers


async def test_a_late_follower_gets_every_block(chain: EmbeddedChain) -> None:
    await chain.mine(7)
    events = await take(chain.follow(3), PREMINED_BLOCKS + 5)
    assert [event.height for event in events] == list(range(3, PREMINED_BLOCKS + 8))


async def test_a_waiting_follower_wakes_for_each_block(chain: EmbeddedChain) -> None:
    follower = chain.follow(PREMINED_BLOCKS + 1)
    seen: list[BlockEvent] = []

    async def watch() -> None:
        seen.extend(await take(follower, 3))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await trio.testing.wait_all_tasks_blocked()
        assert seen == []
        await chain.mine(2)
        await trio.testing.wait_all_tasks_blocked()
        await chain.mine(1)
    assert [event.height for event in seen] == [PREMINED_BLOCKS + number for number in (1, 2, 3)]


async def test_a_follower_walks_back_through_a_reorganisation(chain: EmbeddedChain) -> None:
    tip = await chain.mine(3)
    follower = chain.follow(tip.height + 1)
    await chain.reorganise(2)
    kinds = [(type(event), event.height - tip.height) for event in await take(follower, 5)]
    assert kinds == [
        (BlockDisconnected, 0),
        (BlockDisconnected, -1),
        (BlockConnected, -1),
        (BlockConnected, 0),
        (BlockConnected, 1),
    ]


async def test_a_follower_in_the_middle_of_a_replaced_branch_turns_around(chain: EmbeddedChain) -> None:
    tip = await chain.mine(4)
    follower = chain.follow(tip.height - 2)
    [seen] = await take(follower, 1)
    await chain.reorganise(4)
    lost, base, *connected = await take(follower, 7)
    assert lost == BlockDisconnected(seen.height, seen.block_hash)
    assert isinstance(base, BlockDisconnected)
    assert [event.height - tip.height for event in connected] == [-3, -2, -1, 0, 1]


async def test_a_follower_resumes_from_a_block_that_was_replaced_while_it_was_away(
    tmp_path: Path,
) -> None:
    with EmbeddedChain(tmp_path) as chain:
        old = await chain.mine(2)
        await chain.reorganise(2)
    with EmbeddedChain(tmp_path) as chain:
        follower = chain.follow(old.height + 1, old.block_hash)
        first, second, third = await take(follower, 3)
        assert first == BlockDisconnected(old.height, old.block_hash)
        assert isinstance(second, BlockDisconnected)
        assert (type(third), third.height) == (BlockConnected, old.height - 1)


async def test_a_follower_from_another_chain_is_told_so(chain: EmbeddedChain) -> None:
    with pytest.raises(UnknownBlock):
        await anext(chain.follow(100, b"\x11" * 32))


# --- reorganisations


async def test_a_reorganisation_returns_transactions_to_the_mempool(
    chain: EmbeddedChain, payer: Payer
) -> None:
    coins = await payer.coins(2)
    spends = [payer.spend(coin) for coin in coins]
    await chain.broadcast(spends[0])
    await chain.mine()
    await chain.broadcast(spends[1])
    await chain.reorganise(1, confirm=[])
    assert {entry.txid for entry in chain.regtest.mempool} == {spend.txid for spend in spends}
    assert await chain.output(coins[0]) is not None
    await chain.mine()
    assert await chain.output(spends[0].outpoint(0)) is not None


async def test_a_reorganisation_may_confirm_a_double_spend(chain: EmbeddedChain, payer: Payer) -> None:
    [coin] = await payer.coins(1)
    first, second = payer.spend(coin), payer.spend(coin, fee_sat=5000)
    child = payer.spend(first.outpoint(0))
    await chain.broadcast(first)
    await chain.broadcast(child)
    await chain.mine(3)
    await chain.reorganise(3, confirm=[second])
    assert await chain.output(second.outpoint(0)) is not None
    assert await chain.output(child.outpoint(0)) is None
    assert len(chain.regtest.mempool) == 0


async def test_a_reorganisation_that_cannot_be_leaves_everything(chain: EmbeddedChain, payer: Payer) -> None:
    [coin] = await payer.coins(1)
    spend = payer.spend(coin)
    await chain.broadcast(spend)
    tip = await chain.tip()
    with pytest.raises(Rejected):
        await chain.reorganise(1, confirm=[spend])
    assert await chain.tip() == tip
    assert spend.txid in chain.regtest.mempool
    assert await chain.output(coin) is not None
    with pytest.raises(ReorganisationTooDeep):
        await chain.reorganise(tip.height + 1)
    await chain.mine()
    assert await chain.output(spend.outpoint(0)) is not None


# --- life


async def test_a_reopened_chain_goes_on(tmp_path: Path) -> None:
    with EmbeddedChain(tmp_path) as chain:
        outpoint = await chain.fund(SCRIPT, Sat(70_000))
        tip = await chain.tip()
        coins = dict(chain.regtest.coins)
    with EmbeddedChain(tmp_path) as chain:
        assert await chain.tip() == tip
        assert dict(chain.regtest.coins) == coins
        await chain.fund(SCRIPT, Sat(1_000_000))
        assert await chain.output(outpoint) is not None


def test_a_killed_process_loses_no_block(tmp_path: Path) -> None:
    script = """
import os, signal, sys, trio
from pathlib import Path
from node.chain.embedded import EmbeddedChain
chain = EmbeddedChain(Path(sys.argv[1]))
trio.run(chain.mine, 7)
trio.run(chain.reorganise, 3)
print(chain.regtest.block_hash(chain.regtest.height).hex(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False
    )
    with EmbeddedChain(tmp_path) as chain:
        assert chain.regtest.height == PREMINED_BLOCKS + 8
        assert trio.run(chain.tip).block_hash.hex() == killed.stdout.strip()


async def test_a_directory_serves_one_chain_at_a_time(tmp_path: Path) -> None:
    with EmbeddedChain(tmp_path), pytest.raises(ChainDirectoryInUse):
        EmbeddedChain(tmp_path)


async def test_chains_of_one_process_are_apart() -> None:
    with EmbeddedChain() as one, EmbeddedChain() as other:
        outpoint = await one.fund(SCRIPT, Sat(70_000))
        assert await other.output(outpoint) is None
        assert (await other.tip()).height == PREMINED_BLOCKS


async def test_a_closed_chain_refuses_and_a_temporary_one_leaves_nothing() -> None:
    chain = EmbeddedChain()
    chain.close()
    chain.close()
    assert not chain.directory.exists()
    with pytest.raises(ChainClosed):
        await chain.mine()


def test_the_interpreter_ends_cleanly_with_chains_open() -> None:
    script = "from node.chain.embedded import EmbeddedChain as C; kept = [C(), C()]; C().close()"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


async def test_an_unknown_output_is_none(chain: EmbeddedChain) -> None:
    assert await chain.output(OutPoint(b"\x11" * 32, 0)) is None
