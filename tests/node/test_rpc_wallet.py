"""The commands about the money on the chain."""

from pathlib import Path
from typing import Any

import pytest
from embit.psbt import PSBT

from tests.node.line import Network, network
from tests.node.payer import SCRIPT
from tests.node.rpc_fields import check
from tests.node.rpc_stage import Client
from wire.bitcoin.address import address_of, script_of
from wire.bitcoin.tx import parse_transaction, txid_hex
from wire.units import Sat

ADDRESS = address_of(SCRIPT, "regtest")


async def fund(net: Network, client: Client, *amounts_sat: int) -> None:
    """Pay the wallet in one block, half of it to the one form of addresses and half to the other."""
    for number, amount_sat in enumerate(amounts_sat):
        form = ("bech32", "p2tr")[number % 2]
        address = (await client.call("newaddr", addresstype=form))[form]
        await net.chain.fund(script_of(address, "regtest"), Sat(amount_sat))
    await net.follow()


async def test_addresses_have_the_form_that_is_wished(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        alice = Client(net["alice"])
        assert (await alice.call("newaddr", addresstype="p2tr"))["p2tr"].startswith("bcrt1p")
        assert (await alice.call("newaddr", addresstype="bech32")).keys() == {"bech32"}
        check("newaddr", await alice.call("newaddr", addresstype="all"))
        assert await alice.code("newaddr", ["p2sh-segwit"]) == -32602


async def test_a_withdrawal_pays_is_raised_and_confirms(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        alice = Client(net["alice"])
        await fund(net, alice, 100_000, 200_000)
        sent = check("withdraw", await alice.call("withdraw", destination=ADDRESS, satoshi=250_000))
        psbt = PSBT.from_string(sent["psbt"])
        assert psbt.tx.txid().hex() == sent["txid"]
        assert sum(each.utxo.value for each in psbt.inputs) == 300_000
        raised = check("bumpfee", await alice.call("bumpfee", txid=sent["txid"], feerate="5000perkw"))
        assert raised["method"] == "replacement"
        assert raised["fee_msat"] > sent["fee_msat"]
        [waiting] = net.chain.regtest.mempool
        assert txid_hex(waiting.transaction.txid) == raised["txid"]
        outputs = parse_transaction(bytes.fromhex(raised["tx"])).outputs
        assert (Sat(250_000), SCRIPT) in [(output.value_sat, output.script) for output in outputs]
        again = await alice.call("bumpfee", txid=raised["txid"])
        assert again["fee_msat"] > raised["fee_msat"]
        await net.mine(1)
        listed = (await alice.call("listtransactions"))["transactions"]
        [mined] = [each for each in listed if each["hash"] == again["txid"]]
        check("listtransactions", mined)
        assert (mined["blockheight"], mined["txindex"]) == (net.chain.regtest.height, 1)
        check("transaction input", mined["inputs"][0])
        check("transaction output", mined["outputs"][0])
        assert sent["txid"] not in [each["hash"] for each in listed]
        spent = (await alice.call("listfunds", spent=True))["outputs"]
        assert sorted(coin["status"] for coin in spent) == ["confirmed", "spent", "spent"]


async def test_everything_is_withdrawn_or_the_coins_that_are_named(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        alice = Client(net["alice"])
        await fund(net, alice, 100_000, 200_000, 300_000)
        coins = (await alice.call("listfunds"))["outputs"]
        [named] = [coin for coin in coins if coin["amount_msat"] == 200_000_000]
        utxos = [f"{named['txid']}:{named['output']}"]
        sent = await alice.call("withdraw", destination=ADDRESS, satoshi="all", utxos=utxos)
        [txin] = parse_transaction(bytes.fromhex(sent["tx"])).inputs
        assert f"{txin.outpoint}" == utxos[0]
        await net.mine(1)
        await alice.call("withdraw", destination=ADDRESS, satoshi="all", minconf=2)
        assert (await alice.call("listfunds"))["outputs"] == []


@pytest.mark.parametrize("emergency_sat", [25_000, 0])
async def test_all_leaves_what_a_channel_with_anchors_may_need(tmp_path: Path, emergency_sat: int) -> None:
    async with network(tmp_path, "bob") as net:
        await net.start("alice", emergency_sat=Sat(emergency_sat))
        alice = Client(net["alice"])
        await net.fund([("alice", 1_100_000)])
        await net.join([("alice", "bob")])
        await fund(net, alice, 100_000, 200_000)
        coins = (await alice.call("listfunds"))["outputs"]
        # of coins that are named, all is paid out if the others are enough
        [named] = [coin for coin in coins if coin["amount_msat"] == 200_000_000]
        utxos = [f"{named['txid']}:{named['output']}"]
        first = await alice.call("withdraw", destination=ADDRESS, satoshi="all", utxos=utxos)
        assert len(parse_transaction(bytes.fromhex(first["tx"])).outputs) == 1
        await net.mine(1)
        second = await alice.call("withdraw", destination=ADDRESS, satoshi="all")
        raised = await alice.call("bumpfee", txid=second["txid"], feerate="5000perkw")
        await net.mine(1)
        left = [coin["amount_msat"] // 1000 for coin in (await alice.call("listfunds"))["outputs"]]
        assert left == ([emergency_sat] if emergency_sat else [])
        assert raised["fee_msat"] > second["fee_msat"]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ([ADDRESS, 200_000], 301),
        ([ADDRESS, 100], 302),
        (["bcrt1qqqq", 50_000], -32602),
        (["bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu", 50_000], -32602),
        ([ADDRESS, 50_000, "fast"], -32602),
        ([ADDRESS, 50_000, "normal", 2], 301),
        ([ADDRESS, 50_000, "normal", 0, ["xx:1"]], -32602),
        ([ADDRESS, 50_000, "normal", 0, ["00" * 32 + ":1"]], 301),
    ],
)
async def test_a_bad_withdrawal_is_refused(tmp_path: Path, params: list[Any], code: int) -> None:
    async with network(tmp_path, "alice") as net:
        alice = Client(net["alice"])
        await fund(net, alice, 100_000)
        assert await alice.code("withdraw", params) == code
        assert not net.chain.regtest.mempool
        [coin] = (await alice.call("listfunds"))["outputs"]
        assert not coin["reserved"]


async def test_feerates_are_told_in_both_units(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        alice = Client(net["alice"])
        told = {style: await alice.call("feerates", style=style) for style in ("perkw", "perkb")}
        for style, shown in told.items():
            check("feerates", shown[style])
            check("onchain_fee_estimates", shown["onchain_fee_estimates"])
            check("feerate estimate", shown[style]["estimates"][0])
        assert told["perkb"]["perkb"]["opening"] == 4 * told["perkw"]["perkw"]["opening"]
        assert await alice.code("feerates", ["perkg"]) == -32602


@pytest.mark.parametrize(
    ("text", "per_kw"), [("1000perkw", 1000), ("4000perkb", 1000), (8000, 2000), ("minimum", 253), ("1", 253)]
)
async def test_a_feerate_is_what_it_is_written_as(tmp_path: Path, text: Any, per_kw: int) -> None:
    async with network(tmp_path, "alice") as net:
        alice = Client(net["alice"])
        assert check("parsefeerate", await alice.call("parsefeerate", feerate_str=text)) == {"perkw": per_kw}
        assert await alice.code("parsefeerate", ["soon"]) == -32602
