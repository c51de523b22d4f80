"""One suite for every backend: what the embedded chain does in process, it does served, and bitcoind does."""

from collections.abc import Callable, Sequence

import pytest
import trio

from node.chain.interface import (
    MIN_FEERATE_PER_KW,
    BlockConnected,
    BlockDisconnected,
    BlockEvent,
    Chain,
    Rejected,
    Tip,
    UnknownBlock,
)
from tests.node.backends import Backend
from tests.node.payer import SCRIPT, Payer
from wire.bitcoin.block import CHAIN_HASH
from wire.bitcoin.script import P2A
from wire.bitcoin.tx import OutPoint, Transaction, TxIn, TxOut
from wire.scid import scid
from wire.units import Sat

CHILD_FEE_SAT = 2_000


@pytest.fixture
def chain(backend: Backend) -> Chain:
    return backend.chain()


@pytest.fixture
def payer(backend: Backend) -> Payer:
    return Payer(backend)


async def take(
    chain: Chain, count: int, from_height: int, last_hash: bytes | None = None
) -> list[BlockEvent]:
    follower = chain.follow(from_height, last_hash)
    return [await anext(follower) for _ in range(count)]


async def one_block(chain: Chain, height: int) -> BlockConnected:
    [event] = await take(chain, 1, height)
    assert isinstance(event, BlockConnected)
    return event


# --- blocks


async def test_every_chain_begins_at_the_regtest_genesis(chain: Chain) -> None:
    events = await take(chain, 5, 0)
    assert [event.height for event in events] == [0, 1, 2, 3, 4]
    assert events[0].block_hash == CHAIN_HASH["regtest"]


async def test_the_tip_is_what_was_mined_last(backend: Backend, chain: Chain) -> None:
    height = await backend.mine(3)
    last = await one_block(chain, height)
    assert await chain.tip() == Tip(height, last.block_hash)


async def test_a_follower_gets_each_block_as_it_comes(backend: Backend, chain: Chain) -> None:
    tip = await chain.tip()
    follower = chain.follow(tip.height + 1, tip.block_hash)
    for number in (1, 2, 3):
        await backend.mine()
        event = await anext(follower)
        assert (type(event), event.height) == (BlockConnected, tip.height + number)


async def test_a_follower_waits_for_a_height_that_is_yet_to_come(backend: Backend, chain: Chain) -> None:
    height = (await chain.tip()).height
    seen: list[BlockEvent] = []

    async def watch() -> None:
        seen.extend(await take(chain, 2, height + 3))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        for _ in range(4):
            await backend.mine()
    assert [event.height for event in seen] == [height + 3, height + 4]


async def test_a_follower_walks_back_through_a_reorganisation(backend: Backend, chain: Chain) -> None:
    height = await backend.mine(6)
    follower = chain.follow(height - 5)
    first = [await anext(follower) for _ in range(6)]
    await backend.reorganise(6)
    second = [await anext(follower) for _ in range(13)]
    lost, found = second[:6], second[6:]
    assert all(isinstance(event, BlockDisconnected) for event in lost)
    assert [event.block_hash for event in lost] == [event.block_hash for event in reversed(first)]
    assert all(isinstance(event, BlockConnected) for event in found)
    assert [event.height for event in found] == list(range(height - 5, height + 2))


async def test_a_follower_in_the_middle_of_a_replaced_branch_turns_around(
    backend: Backend, chain: Chain
) -> None:
    height = await backend.mine(4)
    follower = chain.follow(height - 2)
    seen = await anext(follower)
    await backend.reorganise(4)
    lost, base, *connected = [await anext(follower) for _ in range(7)]
    assert lost == BlockDisconnected(seen.height, seen.block_hash)
    assert isinstance(base, BlockDisconnected)
    assert [event.height - height for event in connected] == [-3, -2, -1, 0, 1]


async def test_a_follower_resumes_from_a_block_that_was_replaced_while_it_was_away(
    backend: Backend, chain: Chain
) -> None:
    await backend.mine(2)
    old = await chain.tip()
    await backend.reorganise(2)
    first, second, third = await take(chain, 3, old.height + 1, old.block_hash)
    assert first == BlockDisconnected(old.height, old.block_hash)
    assert isinstance(second, BlockDisconnected)
    assert (type(third), third.height) == (BlockConnected, old.height - 1)


async def test_a_follower_from_another_chain_is_told_so(chain: Chain) -> None:
    with pytest.raises(UnknownBlock):
        await take(chain, 1, 100, b"\x11" * 32)


async def test_every_backend_gives_the_same_transactions(
    backend: Backend, chain: Chain, payer: Payer
) -> None:
    [coin] = await payer.coins(1)
    spend = payer.spend(coin)
    await chain.broadcast(spend)
    block = await one_block(chain, await backend.mine())
    assert block.transactions[1:] == (spend,)


# --- outputs


async def test_a_funding_output_is_found_by_its_short_channel_id(
    backend: Backend, chain: Chain, payer: Payer
) -> None:
    [outpoint] = await payer.coins(1, 70_000)
    height = (await chain.tip()).height
    unspent = await chain.output(outpoint)
    assert unspent is not None
    assert (unspent.value_sat, unspent.script, unspent.height) == (70_000, SCRIPT, height)
    await backend.mine(5)
    found = await chain.funding_output(scid(height, 1, outpoint.index))
    assert found is not None
    assert found.outpoint == outpoint
    assert (found.script, found.value_sat, found.is_unspent, found.depth) == (SCRIPT, 70_000, True, 6)


async def test_a_spent_funding_output_is_still_found(backend: Backend, chain: Chain, payer: Payer) -> None:
    [outpoint] = await payer.coins(1, 70_000)
    height = (await chain.tip()).height
    await chain.broadcast(payer.spend(outpoint))
    assert await chain.output(outpoint) is not None, "it is not mined yet"
    await backend.mine()
    found = await chain.funding_output(scid(height, 1, outpoint.index))
    assert found is not None
    assert (found.value_sat, found.is_unspent, found.depth) == (70_000, False, 2)
    assert await chain.output(outpoint) is None


@pytest.mark.parametrize("missing", [scid(100_000, 1, 0), scid(1, 7, 0), scid(1, 0, 9)])
async def test_a_short_channel_id_may_name_nothing(chain: Chain, missing: int) -> None:
    assert await chain.funding_output(missing) is None


async def test_an_unknown_output_is_none(chain: Chain) -> None:
    assert await chain.output(OutPoint(b"\x11" * 32, 0)) is None


async def test_a_feerate_is_never_below_the_floor(chain: Chain) -> None:
    assert [await chain.feerate_per_kw(target) >= MIN_FEERATE_PER_KW for target in (0, 1, 6, 5000)] == 4 * [
        True
    ]


# --- transactions


async def test_telling_what_is_known_is_no_error(backend: Backend, chain: Chain, payer: Payer) -> None:
    [coin] = await payer.coins(1)
    spend = payer.spend(coin)
    await chain.broadcast(spend)
    await chain.broadcast(spend)
    assert spend.txid in await backend.waiting()
    await backend.mine()
    await chain.broadcast(spend)
    assert spend.txid not in await backend.waiting()


async def test_a_reorganisation_returns_transactions_to_the_mempool_or_a_block(
    backend: Backend, chain: Chain, payer: Payer
) -> None:
    [coin] = await payer.coins(1)
    spend = payer.spend(coin)
    await chain.broadcast(spend)
    await backend.mine()
    await backend.reorganise(1)
    assert await chain.output(spend.outpoint(0)) is not None


def unsigned(payer: Payer, coin: OutPoint) -> Transaction:
    return payer.spend(coin).with_witness(0, (b"\x30" * 71, b"\x02" * 33))


def missing(payer: Payer, coin: OutPoint) -> Transaction:
    payer.values[OutPoint(b"\x11" * 32, 0)] = Sat(50_000)
    return payer.spend(OutPoint(b"\x11" * 32, 0))


def made_of_nothing(payer: Payer, coin: OutPoint) -> Transaction:
    return payer.spend(coin, outputs=[TxOut(Sat(200_000), SCRIPT)])


REFUSED: dict[str, Callable[[Payer, OutPoint], Transaction]] = {
    "bad-txns-inputs-missingorspent": missing,
    "bad-txns-in-belowout": made_of_nothing,
    "script-verify-flag-failed": unsigned,
    "min relay fee not met": lambda payer, coin: payer.spend(coin, fee_sat=50),
    "dust": lambda payer, coin: payer.spend(coin, outputs=[TxOut(Sat(293), SCRIPT)]),
    "non-final": lambda payer, coin: payer.spend(coin, locktime=400_000_000),
    "non-BIP68-final": lambda payer, coin: payer.spend(coin, sequence=1000),
    "version": lambda payer, coin: payer.spend(coin, version=4),
    "scriptpubkey": lambda payer, coin: payer.spend(coin, script=b"\x51" * 30),
}


@pytest.mark.parametrize("reason", REFUSED)
async def test_every_backend_refuses_for_the_same_reason(
    backend: Backend, chain: Chain, payer: Payer, reason: str
) -> None:
    [coin] = await payer.coins(1)
    transaction = REFUSED[reason](payer, coin)
    with pytest.raises(Rejected) as refused:
        await chain.broadcast(transaction)
    assert reason in refused.value.reason
    assert refused.value.txid == transaction.txid
    assert transaction.txid not in await backend.waiting()


async def test_a_replacement_must_pay_more(backend: Backend, chain: Chain, payer: Payer) -> None:
    [coin] = await payer.coins(1)
    first, second = payer.spend(coin), payer.spend(coin, fee_sat=5000)
    await chain.broadcast(second)
    with pytest.raises(Rejected) as refused:
        await chain.broadcast(first)
    assert refused.value.reason.startswith("insufficient fee")
    assert await backend.waiting() == {second.txid}
    await backend.mine()


def package(payer: Payer, coin: OutPoint, child_fee_sat: int = CHILD_FEE_SAT) -> Sequence[Transaction]:
    """A parent of version 3 that pays nothing, and the child that pays for it through its anchor."""
    payer_sat = payer.values[coin]
    parent = payer.spend(coin, outputs=[TxOut(Sat(payer_sat - 240), SCRIPT), TxOut(Sat(240), P2A)], version=3)
    spent = (TxIn(parent.outpoint(0)), TxIn(parent.outpoint(1)))
    child = Transaction(3, spent, (TxOut(Sat(payer_sat - child_fee_sat), SCRIPT),))
    return parent, payer.sign_input(child, 0)


async def test_a_child_pays_for_its_parent(backend: Backend, chain: Chain, payer: Payer) -> None:
    [coin] = await payer.coins(1)
    parent, child = package(payer, coin)
    with pytest.raises(Rejected) as refused:
        await chain.broadcast(parent)
    assert refused.value.reason.startswith("min relay fee not met")
    await chain.broadcast(parent, child)
    assert await backend.waiting() == {parent.txid, child.txid}
    await chain.broadcast(parent, child)
    block = await one_block(chain, await backend.mine())
    assert block.transactions[1:] == (parent, child)


async def test_a_child_that_pays_too_little_is_refused_with_its_parent(
    backend: Backend, chain: Chain, payer: Payer
) -> None:
    [coin] = await payer.coins(1)
    with pytest.raises(Rejected):
        await chain.broadcast(*package(payer, coin, child_fee_sat=20))
    assert await backend.waiting() == set()


async def test_a_child_follows_a_parent_that_was_mined(backend: Backend, chain: Chain, payer: Payer) -> None:
    [coin] = await payer.coins(1)
    parent = payer.spend(coin)
    child = payer.spend(parent.outpoint(0))
    await chain.broadcast(parent)
    await backend.mine()
    await chain.broadcast(parent, child)
    assert await backend.waiting() == {child.txid}
    await backend.mine()


async def test_a_parent_enters_even_if_its_child_is_refused(
    backend: Backend, chain: Chain, payer: Payer
) -> None:
    [coin] = await payer.coins(1)
    parent = payer.spend(coin)
    child = payer.spend(parent.outpoint(0), fee_sat=10)
    with pytest.raises(Rejected) as refused:
        await chain.broadcast(parent, child)
    assert refused.value.txid == child.txid
    assert await backend.waiting() == {parent.txid}
    await backend.mine()
