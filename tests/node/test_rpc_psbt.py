"""Transactions that are put together by hand: PSBTs, coins kept for them, several addresses at once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from embit.psbt import PSBT

from node.daemon.node import Node, NodeConfig
from tests.node.backends import Backend
from tests.node.line import network
from tests.node.payer import SCRIPT
from tests.node.rpc_fields import check
from tests.node.rpc_stage import Client
from tests.node.test_rpc_wallet import fund
from wire.bitcoin.address import address_of, script_of
from wire.bitcoin.script import p2wsh
from wire.bitcoin.tx import Transaction, TxOut, parse_transaction, txid_of_hex
from wire.units import Sat

ADDRESS = address_of(SCRIPT, "regtest")
OTHER = address_of(p2wsh(b"\x51"), "regtest")
PATIENCE_SECONDS = 60


class Holder:
    """A node with coins on any backend."""

    def __init__(self, backend: Backend, node: Node) -> None:
        self.backend, self.node, self.client = backend, node, Client(node)

    async def call(self, method: str, **params: Any) -> Any:
        return await self.client.call(method, **params)

    async def mine(self, count: int = 1) -> None:
        await self.follow(await self.backend.mine(count))

    async def follow(self, height: int) -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            await self.node.watcher.wait_for_height(height)

    async def fund(self, *amounts_sat: int) -> None:
        outputs = []
        for number, amount_sat in enumerate(amounts_sat):
            form = ("bech32", "p2tr")[number % 2]
            address = (await self.call("newaddr", addresstype=form))[form]
            outputs.append(TxOut(Sat(amount_sat), script_of(address, "regtest")))
        await self.backend.fund_many(outputs)
        await self.mine()

    async def free_sat(self) -> list[int]:
        """The values of the coins that may be spent."""
        outputs = (await self.call("listfunds"))["outputs"]
        return sorted(coin["amount_msat"] // 1000 for coin in outputs if not coin["reserved"])


@asynccontextmanager
async def holder(backend: Backend, directory: Path) -> AsyncIterator[Holder]:
    async with trio.open_nursery() as nursery:
        node = Node(NodeConfig(directory / "alice"), backend.chain())
        await nursery.start(node.run)
        yield Holder(backend, node)
        nursery.cancel_scope.cancel()


def paid(raw: str) -> dict[bytes, int]:
    """What a transaction pays, by script."""
    return {output.script: output.value_sat for output in parse_transaction(bytes.fromhex(raw)).outputs}


@pytest.mark.slow
async def test_a_transaction_is_made_by_hand_and_mined(backend: Backend, tmp_path: Path) -> None:
    """Coins of both forms, an output added later, signatures, and off it goes, on every chain."""
    async with holder(backend, tmp_path) as alice:
        await alice.fund(100_000, 200_000, 300_000)
        weight = 4 * (10 + 31) + 2
        funded = await alice.call(
            "fundpsbt", satoshi=450_000, feerate="2000perkw", startweight=weight, excess_as_change=True
        )
        check("fundpsbt", funded)
        assert [check("reservation", each)["reserved"] for each in funded["reservations"]] == [True, True]
        assert await alice.free_sat() == [100_000]
        added = await alice.call(
            "addpsbtoutput", satoshi=450_000, initialpsbt=funded["psbt"], destination=ADDRESS
        )
        assert (added["outnum"], added["estimated_added_weight"]) == (1, 4 * 31)
        signed = (await alice.call("signpsbt", psbt=added["psbt"]))["signed_psbt"]
        sent = await alice.call("sendpsbt", psbt=signed)
        assert txid_of_hex(sent["txid"]) in await backend.waiting()
        assert paid(sent["tx"])[SCRIPT] == 450_000
        assert funded["excess_msat"] == 0
        transaction = parse_transaction(bytes.fromhex(sent["tx"]))
        fee_sat = 500_000 - sum(output.value_sat for output in transaction.outputs)
        # of one output of 31 bytes and of the change, which the estimate knows
        assert abs(funded["estimated_final_weight"] - transaction.weight) <= 8
        assert 2 * transaction.weight <= fee_sat <= 2 * (transaction.weight + 8)
        await alice.mine()
        assert await alice.free_sat() == [500_000 - 450_000 - fee_sat, 100_000]


@pytest.mark.slow
async def test_several_addresses_are_paid_at_once(backend: Backend, tmp_path: Path) -> None:
    async with holder(backend, tmp_path) as alice:
        await alice.fund(100_000, 200_000, 20_000)
        coins = (await alice.call("listfunds"))["outputs"]
        utxos = [f"{coin['txid']}:{coin['output']}" for coin in coins if coin["amount_msat"] > 20_000_000]
        wish = {"outputs": [{ADDRESS: 50_000}, {OTHER: 249_000}], "feerate": "slow", "utxos": utxos}
        sent = check("multiwithdraw", await alice.call("multiwithdraw", **wish))
        assert txid_of_hex(sent["txid"]) in await backend.waiting()
        shares = paid(sent["tx"])
        assert shares == {SCRIPT: 50_000, script_of(OTHER, "regtest"): 249_000}
        # and faster, by one in its place with another coin for the fee
        raised = await alice.call("bumpfee", txid=sent["txid"], feerate="40000perkb")
        assert raised["method"] == "replacement"
        assert await backend.waiting() == {txid_of_hex(raised["txid"])}
        await alice.mine()
        left_sat = await alice.free_sat()
        assert {*paid(raised["tx"]).values()} == {*shares.values(), *left_sat}
        assert sum(paid(raised["tx"]).values()) == 320_000 - raised["fee_msat"] // 1000


@pytest.mark.slow
async def test_all_of_it_is_paid_out_faster_with_less(backend: Backend, tmp_path: Path) -> None:
    """There is no other coin for the fee: what takes the rest takes less, after a restart too."""
    async with holder(backend, tmp_path) as alice:
        await alice.fund(100_000, 200_000)
        outputs = [{ADDRESS: 50_000}, {OTHER: "all"}]
        sent = await alice.call("multiwithdraw", outputs=outputs, feerate="minimum")
    async with holder(backend, tmp_path) as alice:
        for rate in (2000, 5000):
            sent = await alice.call("bumpfee", txid=sent["txid"], feerate=f"{rate}perkw")
            assert await backend.waiting() == {txid_of_hex(sent["txid"])}
            shares = paid(sent["tx"])
            assert shares[SCRIPT] == 50_000
            assert shares[script_of(OTHER, "regtest")] == 250_000 - sent["fee_msat"] // 1000
            weight = parse_transaction(bytes.fromhex(sent["tx"])).weight
            assert sent["fee_msat"] // weight in range(rate, rate + 20)
        assert await alice.client.code("bumpfee", [sent["txid"], "400000perkw"]) == 301
        assert await backend.waiting() == {txid_of_hex(sent["txid"])}
        await alice.mine()
        assert await alice.free_sat() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "feerate", ["slow", "normal", "urgent", "minimum", "3000perkw", "9000perkb", 8000, "6blocks"]
)
async def test_every_way_to_say_a_feerate_is_understood(tmp_path: Path, feerate: str | int) -> None:
    async with network(tmp_path, "alice") as net:
        alice = Client(net["alice"])
        await fund(net, alice, 100_000)
        sent = await alice.call("withdraw", destination=ADDRESS, satoshi="all", feerate=feerate)
        transaction = parse_transaction(bytes.fromhex(sent["tx"]))
        per_kw = {"minimum": 253, "3000perkw": 3000, "9000perkb": 2250, 8000: 2000}.get(feerate, 1000)
        assert sent["fee_msat"] // transaction.weight in range(per_kw - 2, per_kw + 20)


async def test_what_is_kept_is_free_again_after_so_many_blocks(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        alice = Client(net["alice"])
        await fund(net, alice, 100_000, 200_000)
        funded = await alice.call("fundpsbt", satoshi="all", feerate=1000, startweight=0, reserve=2)
        height = net.chain.regtest.height
        assert {each["reserved_to_block"] for each in funded["reservations"]} == {height + 2}
        assert await alice.code("withdraw", [ADDRESS, 50_000]) == 301
        coins = (await alice.call("listfunds"))["outputs"]
        assert {coin["reserved_to_block"] for coin in coins} == {height + 2}
        # for somebody else it is taken, and for the same longer
        assert await alice.code("reserveinputs", {"psbt": funded["psbt"]}) == -1
        more = await alice.call("reserveinputs", psbt=funded["psbt"], exclusive=False, reserve=3)
        assert {each["reserved_to_block"] for each in more["reservations"]} == {height + 5}
        await net.stop("alice")
        await net.start("alice")
        alice = Client(net["alice"])
        less = await alice.call("unreserveinputs", psbt=funded["psbt"], reserve=4)
        assert {each["reserved_to_block"] for each in less["reservations"]} == {height + 1}
        assert await alice.code("withdraw", [ADDRESS, 50_000]) == 301
        await net.mine()
        await alice.call("withdraw", destination=ADDRESS, satoshi=50_000)
        gone = await alice.call("unreserveinputs", psbt=funded["psbt"])
        assert not any(each["reserved"] for each in gone["reservations"])


async def test_coins_are_named_for_a_psbt(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        alice = Client(net["alice"])
        await fund(net, alice, 100_000, 200_000)
        coins = (await alice.call("listfunds"))["outputs"]
        [utxo] = [f"{coin['txid']}:{coin['output']}" for coin in coins if coin["amount_msat"] == 100_000_000]
        wish = {"satoshi": 90_000, "feerate": "1000perkw", "startweight": 0, "utxos": [utxo]}
        made = check("fundpsbt", await alice.call("utxopsbt", **wish))
        [txin] = PSBT.from_string(made["psbt"]).inputs
        assert f"{txin.txid.hex()}:{txin.vout}" == utxo
        assert made["excess_msat"] == 10_000_000 - made["estimated_final_weight"] * 1000
        assert await alice.code("utxopsbt", wish) == -32602
        again = await alice.call("utxopsbt", **wish, reservedok=True, reserve=0)
        assert again["psbt"] == made["psbt"]
        wrongs: list[dict[str, Any]] = [{"satoshi": 100_000}]
        wrongs += [{"utxos": utxos} for utxos in (["00" * 32 + ":0"], [], ["x"])]
        for wrong in wrongs:
            code = await alice.code("utxopsbt", {**wish, "reservedok": True, **wrong})
            assert code == (301 if "satoshi" in wrong else -32602)


async def test_only_what_is_ours_and_kept_is_signed(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob") as net:
        alice, bob = Client(net["alice"]), Client(net["bob"])
        await fund(net, alice, 100_000, 200_000)
        await fund(net, bob, 300_000)
        rate = {"feerate": "1000perkw", "startweight": 0}
        loose = await alice.call("fundpsbt", satoshi="all", reserve=0, **rate)
        assert "not reserved" in (await alice.error("signpsbt", psbt=loose["psbt"]))["message"]
        assert await bob.code("signpsbt", [loose["psbt"]]) == -1
        assert await alice.code("signpsbt", ["no psbt"]) == -32602
        assert await alice.code("signpsbt", ["cHNidP8BAA=="]) == -32602
        await alice.call("reserveinputs", psbt=loose["psbt"])
        # one of ours first, which is not enough to send it
        half = (await alice.call("signpsbt", psbt=loose["psbt"], signonly=[0]))["signed_psbt"]
        assert "not finalizeable" in (await alice.error("sendpsbt", psbt=half))["message"]
        assert await alice.code("signpsbt", {"psbt": half, "signonly": [7]}) == -1
        assert not net.chain.regtest.mempool


async def test_two_wallets_pay_together(tmp_path: Path) -> None:
    """A transaction with coins of both, taproot among them: each signs its own."""
    async with network(tmp_path, "alice bob") as net:
        alice, bob = Client(net["alice"]), Client(net["bob"])
        for client in (alice, bob):
            await fund(net, client, 100_000, 200_000)
        parts = [
            PSBT.from_string(
                (await client.call("fundpsbt", satoshi="all", feerate="2000perkw", startweight=100))["psbt"]
            )
            for client in (alice, bob)
        ]
        joint = parts[0]
        joint.inputs.extend(parts[1].inputs)
        whole = await alice.call(
            "addpsbtoutput", satoshi=590_000, initialpsbt=joint.to_string(), destination=ADDRESS
        )
        by_alice = (await alice.call("signpsbt", psbt=whole["psbt"]))["signed_psbt"]
        by_both = (await bob.call("signpsbt", psbt=by_alice))["signed_psbt"]
        sent = check("sendpsbt", await bob.call("sendpsbt", psbt=by_both))
        assert len(parse_transaction(bytes.fromhex(sent["tx"])).inputs) == 4
        await net.mine(1)
        for client in (alice, bob):
            assert (await client.call("listfunds"))["outputs"] == []


async def test_what_is_prepared_is_sent_or_given_up(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        alice = Client(net["alice"])
        await fund(net, alice, 100_000, 200_000)
        outputs = [{ADDRESS: "50000sat"}, {OTHER: 60_000}]
        first = check("txprepare", await alice.call("txprepare", outputs=outputs))
        second = await alice.call("txprepare", outputs=[{ADDRESS: 90_000}])
        assert await alice.code("txprepare", [[{ADDRESS: 90_000}]]) == 301
        given_up = check("txdiscard", await alice.call("txdiscard", txid=first["txid"]))
        assert given_up == {name: first[name] for name in ("txid", "unsigned_tx")}
        assert await alice.code("txsend", [first["txid"]]) == -32602
        again = await alice.call("txprepare", outputs=outputs)
        sent = [check("txsend", await alice.call("txsend", txid=each["txid"])) for each in (second, again)]
        assert [each["txid"] for each in sent] == [second["txid"], again["txid"]]
        bare = parse_transaction(bytes.fromhex(again["unsigned_tx"]))
        assert isinstance(bare, Transaction)
        assert not any(txin.witness for txin in bare.inputs)
        assert len(net.chain.regtest.mempool) == 2
        await net.mine(1)
        assert len((await alice.call("listfunds"))["outputs"]) == 2


@pytest.mark.parametrize(
    ("outputs", "code"),
    [
        ([], -32602),
        ([{ADDRESS: 50_000, OTHER: 50_000}], -32602),
        ([{ADDRESS: "all"}, {OTHER: "all"}], -32602),
        ([{"bcrt1": 50_000}], -32602),
        ([{ADDRESS: "much"}], -32602),
        ([ADDRESS], -32602),
        ([{ADDRESS: 100}], 302),
        ([{ADDRESS: 99_999}], 301),
        ([{ADDRESS: 99_999}, {OTHER: "all"}], 301),
    ],
)
async def test_outputs_that_cannot_be_meant_are_refused(
    tmp_path: Path, outputs: list[Any], code: int
) -> None:
    async with network(tmp_path, "alice") as net:
        alice = Client(net["alice"])
        await fund(net, alice, 100_000)
        for method in ("multiwithdraw", "txprepare"):
            assert await alice.code(method, {"outputs": outputs}) == code
        assert not net.chain.regtest.mempool
        [coin] = (await alice.call("listfunds"))["outputs"]
        assert not coin["reserved"]
