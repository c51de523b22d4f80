"""The commands about channels: what they ask for, how they are closed, and what is left of them."""

from pathlib import Path

import pytest

from tests.node.line import line
from tests.node.payer import SCRIPT
from tests.node.rpc_fields import check
from tests.node.rpc_stage import Client
from wire.bitcoin.address import address_of
from wire.bitcoin.tx import parse_transaction
from wire.scid import text_of


async def test_a_new_toll_is_told_asked_and_kept(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        alice, bob, carol = (Client(net[name]) for name in ("alice", "bob", "carol"))
        [channel] = [c for c in bob.node.channels() if c.charter.peer_id == carol.node.node_id]
        scid = text_of(channel.short_channel_id or 0)
        wish = {"feebase": "5sat", "feeppm": 100, "htlcmin": 2000, "enforcedelay": 0}
        [shown] = (await bob.call("setchannel", id=scid, **wish))["channels"]
        check("setchannel", shown)
        assert (shown["fee_base_msat"], shown["minimum_htlc_out_msat"]) == (5000, 2000)

        def is_told(_: object) -> bool:
            direction = int(bob.node.node_id > carol.node.node_id)
            edge = alice.node.graph.policy(channel.short_channel_id or 0, direction)
            return edge is not None and edge.fee_base_msat == 5000

        await alice.node.gossiper.wait_for_graph(is_told)
        asked = await carol.call("invoice", amount_msat=10_000_000, label="x", description="x")
        paid = await alice.call("pay", bolt11=asked["bolt11"])
        assert paid["amount_sent_msat"] - paid["amount_msat"] == 6000
        await net.stop("bob")
        await net.start("bob")
        again = Client(net["bob"])
        [kept] = (await again.call("listpeerchannels", short_channel_id=scid))["channels"]
        assert kept["fee_base_msat"] == 5000


async def test_what_is_not_said_of_a_toll_stays(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        bob = Client(net["bob"])
        wish = {"feebase": 7, "feeppm": 8, "htlcmin": 9, "htlcmax": 10_000}
        [before] = (await bob.call("setchannel", id="all", **wish))["channels"]
        assert list(wish.values()) == [
            before[name]
            for name in (
                "fee_base_msat",
                "fee_proportional_millionths",
                "minimum_htlc_out_msat",
                "maximum_htlc_out_msat",
            )
        ]
        [after] = (await bob.call("setchannel", id="all"))["channels"]
        assert after == before
        [after] = (await bob.call("setchannel", id="all", feeppm=0))["channels"]
        assert after == {**before, "fee_proportional_millionths": 0}


async def test_a_lower_toll_is_enough_for_a_while(tmp_path: Path) -> None:
    """Senders have not heard of the higher one yet."""
    async with line(tmp_path, "alice bob carol") as net:
        bob = Client(net["bob"])
        [channel] = [c for c in bob.node.channels() if c.charter.peer_id == net["carol"].node_id]
        before = bob.node.switch.toll_of(channel)
        await bob.call("setchannel", id="all", feebase="7sat", enforcedelay=600)
        assert bob.node.switch.lowest_toll_of(channel) == before
        net.clock.seconds += 601
        assert bob.node.switch.lowest_toll_of(channel).fee_base_msat == 7000


async def test_a_channel_is_closed_to_an_address_and_remembered(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        alice, [channel] = Client(net["alice"]), net["alice"].channels()
        name = channel.id.hex()
        assert (await alice.call("listclosedchannels"))["closedchannels"] == []
        for params in ({"destination": "bcrt1q"}, {"feerange": ["slow"]}, {"feerange": ["slow", "soon"]}):
            assert await alice.code("close", {"id": name, **params}) == -32602
        to = address_of(SCRIPT, "regtest")
        closed = await alice.call("close", id=name, destination=to, feerange=["253perkw", "2000perkw"])
        assert check("close", closed)["type"] == "mutual"
        [raw] = closed["txs"]
        assert SCRIPT in [output.script for output in parse_transaction(bytes.fromhex(raw)).outputs]
        await net.chain.wait_for_mempool(lambda chain: len(chain.regtest.mempool) == 1)
        await net.mine(110)
        [past] = (await alice.call("listclosedchannels"))["closedchannels"]
        assert check("listclosedchannels", past)["close_cause"] == "user"
        assert past["total_msat"] == channel.charter.funding_sat * 1000
        assert await alice.code("close", {"id": "1x2x3"}) == -32602


@pytest.mark.parametrize("name", ["1x1x1", "00" * 32, "nobody"])
async def test_a_channel_that_is_not_there_is_said(tmp_path: Path, name: str) -> None:
    async with line(tmp_path, "alice bob") as net:
        assert await Client(net["alice"]).code("setchannel", [name]) == -32602


async def test_a_channel_answers_to_its_alias_too(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob", is_announced=False, channel_type=None) as net:
        alice = Client(net["alice"])
        [shown] = (await alice.call("listpeerchannels"))["channels"]
        assert set(shown["alias"]) == {"local", "remote"}
        for name in (shown["alias"]["local"], shown["short_channel_id"], shown["channel_id"]):
            [changed] = (await alice.call("setchannel", id=name, feebase=7))["channels"]
            assert changed["channel_id"] == shown["channel_id"]
