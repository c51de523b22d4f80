"""The commands that open channels, one or several with one transaction."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from node.chain.interface import ChainUnavailable
from tests.node.line import Network, network
from tests.node.payer import SCRIPT
from tests.node.rpc_fields import check
from tests.node.rpc_stage import STRANGER, Client
from wire.bitcoin.address import address_of
from wire.bitcoin.tx import Transaction, parse_transaction

FUNDS_SAT = 5_000_000


@asynccontextmanager
async def rich(directory: Path, peers: str) -> AsyncIterator[tuple[Network, Client, list[str]]]:
    """Alice with money and a connection to each of these."""
    async with network(directory, f"alice {peers}") as net:
        await net.fund([("alice", FUNDS_SAT)])
        for peer in peers.split():
            await net.connect("alice", peer)
        yield net, Client(net["alice"]), [net[peer].node_id.hex() for peer in peers.split()]


async def test_one_transaction_opens_channels_with_several_peers(tmp_path: Path) -> None:
    async with rich(tmp_path, "bob carol") as (net, alice, [bob, carol]):
        await net.start("dave")
        dave = net["dave"]
        destinations = [
            {"id": bob, "amount": "1000000sat", "push_msat": "1000sat"},
            {"id": carol, "amount": "all", "announce": False},
            {"id": f"{dave.node_id.hex()}@127.0.0.1:{dave.port}", "amount": 200_000},
        ]
        opened = check("multifundchannel", await alice.call("multifundchannel", destinations=destinations))
        assert opened["failed"] == []
        for channel in opened["channel_ids"]:
            check("multifundchannel channel", channel)
        funding = parse_transaction(bytes.fromhex(opened["tx"]))
        assert len(funding.outputs) == 3
        assert [output.value_sat for output in funding.outputs[::2]] == [1_000_000, 200_000]
        paid_sat = sum(output.value_sat for output in funding.outputs)
        assert 0 < FUNDS_SAT - paid_sat <= 2 * funding.weight
        await net.chain.wait_for_mempool(lambda chain: len(chain.regtest.mempool) == 1)
        await net.mine(6)
        await net.wait_for_usable()
        channels = (await alice.call("listpeerchannels"))["channels"]
        assert {channel["funding_txid"] for channel in channels} == {opened["txid"]}
        assert sorted(channel["private"] for channel in channels) == [False, False, True]


async def test_the_answer_comes_once_the_chain_has_the_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rich(tmp_path, "bob") as (net, alice, [bob]):
        broadcast = net["alice"].chain.broadcast

        async def slowly(*transactions: Transaction) -> None:
            await trio.sleep(0.3)
            await broadcast(*transactions)

        monkeypatch.setattr(net["alice"].chain, "broadcast", slowly)
        await alice.call("fundchannel", id=bob, amount=200_000)
        assert len(net.chain.regtest.mempool) == 1


async def test_a_chain_that_is_away_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rich(tmp_path, "bob") as (net, alice, [bob]):
        broadcast, is_back = net["alice"].chain.broadcast, trio.Event()

        async def not_now(*transactions: Transaction) -> None:
            if not is_back.is_set():
                raise ChainUnavailable("away")
            await broadcast(*transactions)

        monkeypatch.setattr(net["alice"].chain, "broadcast", not_now)
        await alice.call("fundchannel", id=bob, amount=200_000)
        assert len(net.chain.regtest.mempool) == 0
        is_back.set()
        await net.chain.wait_for_mempool(lambda chain: len(chain.regtest.mempool) == 1)


async def test_if_one_peer_refuses_none_is_opened(tmp_path: Path) -> None:
    async with rich(tmp_path, "bob") as (net, alice, [bob]):
        await net.start("carol", smallest_channel_sat=1_000_000)
        await net.connect("alice", "carol")
        carol = net["carol"].node_id.hex()
        destinations = [{"id": bob, "amount": 500_000}, {"id": carol, "amount": 500_000}]
        assert await alice.code("multifundchannel", {"destinations": destinations}) == -1
        assert net["alice"].channels() == net["bob"].channels() == []
        assert not any(coin["reserved"] for coin in (await alice.call("listfunds"))["outputs"])
        opened = await alice.call("multifundchannel", destinations=destinations, minchannels=1)
        assert [each["id"] for each in opened["channel_ids"]] == [bob]
        [failure] = opened["failed"]
        assert check("multifundchannel failure", failure)["id"] == carol
        assert "is too small" in failure["error"]["message"]


async def test_if_one_peer_goes_away_none_is_opened(tmp_path: Path) -> None:
    async with rich(tmp_path, "bob") as (net, alice, [bob]):
        (tmp_path / "disconnect").write_text("-WIRE_FUNDING_SIGNED")
        await net.start("carol", sabotage=tmp_path / "disconnect")
        await net.connect("alice", "carol")
        carol = net["carol"].node_id.hex()
        destinations = [{"id": bob, "amount": 500_000}, {"id": carol, "amount": 500_000}]
        assert await alice.code("multifundchannel", {"destinations": destinations}) == -1
        assert net["alice"].channels() == []
        assert len(net.chain.regtest.mempool) == 0
        assert not any(coin["reserved"] for coin in (await alice.call("listfunds"))["outputs"])


async def test_a_channel_is_as_its_opener_wishes(tmp_path: Path) -> None:
    async with rich(tmp_path, "bob") as (net, alice, [bob]):
        to = address_of(SCRIPT, "regtest")
        [coin] = (await alice.call("listfunds"))["outputs"]
        opened = await alice.call(
            "fundchannel",
            id=bob,
            amount="0.01btc",
            feerate="2000perkw",
            announce=False,
            push_msat="5000sat",
            close_to=to,
            utxos=[f"{coin['txid']}:{coin['output']}"],
            mindepth=5,
            reserve="20000sat",
            channel_type=[12],
        )
        assert check("fundchannel", opened)["channel_type"]["names"] == ["static_remotekey/even"]
        assert (opened["mindepth"], opened["close_to"]) == (5, SCRIPT.hex())
        [channel] = (await alice.call("listpeerchannels"))["channels"]
        assert (channel["feerate"]["perkw"], channel["private"]) == (2000, True)
        assert channel["their_reserve_msat"] == 20_000_000
        assert channel["to_us_msat"] == 995_000_000
        await net.chain.wait_for_mempool(lambda chain: len(chain.regtest.mempool) == 1)
        await net.mine(4)
        [channel] = (await alice.call("listpeerchannels"))["channels"]
        assert channel["state"] == "CHANNELD_AWAITING_LOCKIN"
        await net.mine(1)
        await net.wait_for_usable()
        closed = await alice.call("close", id=bob)
        [raw] = closed["txs"]
        assert SCRIPT in [output.script for output in parse_transaction(bytes.fromhex(raw)).outputs]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"amount": "1btc"}, 301),
        ({"amount": 100}, -1),
        ({"amount": 1_000_000, "id": STRANGER}, 306),
        ({"amount": 1_000_000, "request_amt": 5}, -32602),
        ({"amount": 1_000_000, "close_to": "nowhere"}, -32602),
        ({"amount": 1_000_000, "channel_type": [99]}, -32602),
        ({"amount": 1_000_000, "minconf": 100}, 301),
        ({"amount": 1_000_000, "push_msat": "2000000sat"}, -1),
    ],
)
async def test_a_channel_that_cannot_be_is_refused(tmp_path: Path, params: dict[str, Any], code: int) -> None:
    async with rich(tmp_path, "bob") as (net, alice, [bob]):
        assert await alice.code("fundchannel", {"id": bob, **params}) == code
        assert net["alice"].channels() == []
        assert not any(coin["reserved"] for coin in (await alice.call("listfunds"))["outputs"])


@pytest.mark.parametrize("destinations", [[], ["x"], [{"id": STRANGER}], [{"amount": 5}]])
async def test_destinations_that_cannot_be_meant_are_refused(tmp_path: Path, destinations: Any) -> None:
    async with network(tmp_path, "alice") as net:
        assert await Client(net["alice"]).code("multifundchannel", [destinations]) == -32602
