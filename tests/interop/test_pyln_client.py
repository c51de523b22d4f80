"""Core Lightning's own client drives a network of ours through its sockets, and finds what it expects."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pyln.client import Gossmap, LightningRpc, Millisatoshi, RpcError

from node.lab.daemons import free_port
from tests.node.backends import RillChain
from tests.node.processes import READY, RillNode
from tests.node.reply_table import faults
from tests.node.rpc_fields import check

pytestmark = pytest.mark.slow

NAMES = ("alice", "bob", "carol")
PATIENCE_SECONDS = 60
LOOK_SECONDS = 0.05


def until(is_so: Callable[[], Any]) -> None:
    """Return once something is so."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < end, "it never was so"
        time.sleep(LOOK_SECONDS)


class Hand:
    """Mines, and waits until all have followed."""

    def __init__(self, chain: RillChain, clients: list[LightningRpc]) -> None:
        self._chain, self._clients = chain, clients

    def mine(self, count: int = 1, waiting: str | None = None) -> None:
        if waiting is not None:
            until(lambda: waiting in self._chain.call("getrawmempool"))
        self._chain.call("generatetoaddress", count, self._chain.call("getnewaddress"))
        height = self._chain.call("getblockcount")
        for client in self._clients:
            assert check("waitblockheight", client.waitblockheight(height, 60))["blockheight"] >= height

    def pay(self, address: str, bitcoin: str) -> None:
        self._chain.call("sendtoaddress", address, bitcoin)
        self.mine()


class Client(LightningRpc):  # type: ignore[misc]
    """Holds every reply to the table of Core Lightning's."""

    def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        result = super().call(method, *arguments, **named)
        # a filter leaves out what belongs there, and amounts are objects of the client's own
        found = [] if self._filter else faults(method, json.loads(json.dumps(result, default=int)))
        assert not found, found
        return result


@contextmanager
def three(directory: Path) -> Iterator[tuple[Hand, list[LightningRpc]]]:
    """A chain, three nodes on it, and a client for each."""
    chain = RillChain(directory / "chain", free_port())
    nodes = [RillNode(directory / name, chain.port) for name in NAMES]
    try:
        for node in nodes:
            node.wait_for(READY)
        clients = [Client(str(node.client.path)) for node in nodes]
        yield Hand(chain, clients), clients
        for node, client in zip(nodes, clients, strict=True):
            check("stop", client.stop())
            assert node.code() == 0
    finally:
        for node in nodes:
            node.end()
        chain.close()


def test_a_network_is_driven_by_the_client_that_people_have(tmp_path: Path) -> None:
    with three(tmp_path) as (hand, [alice, bob, carol]):
        fund(hand, alice)
        join(hand, alice, bob, carol)
        pay(alice, bob, carol)
        keep_and_sign(alice)
        withdraw(hand, alice)
        close(hand, alice, bob)


def fund(hand: Hand, alice: LightningRpc) -> None:
    hand.pay(check("newaddr", alice.newaddr("all"))["p2tr"], "0.5")
    [coin] = alice.listfunds()["outputs"]
    assert check("outputs", coin)["amount_msat"] == Millisatoshi("0.5btc")
    [received] = alice.listtransactions()["transactions"]
    check("listtransactions", received)


def join(hand: Hand, alice: LightningRpc, bob: LightningRpc, carol: LightningRpc) -> None:
    """Channels from alice to bob and from bob to carol; bob's money comes from alice."""
    ids = []
    for client in (alice, bob, carol):
        known = check("getinfo", client.getinfo())
        assert (known["network"], known["version"][0]) == ("regtest", "v")
        ids.append(known["id"])
    port = bob.getinfo()["binding"][0]["port"]
    assert check("connect", alice.connect(ids[1], "127.0.0.1", port))["id"] == ids[1]
    port = carol.getinfo()["binding"][0]["port"]
    bob.connect(f"{ids[2]}@127.0.0.1:{port}")
    assert check("listpeers", alice.listpeers(ids[1])["peers"][0])["connected"] is True
    assert check("ping", alice.ping(ids[1], 10, 20))["totlen"] == 24
    with pytest.raises(RpcError) as refused:
        alice.fundchannel(ids[1], "100btc")
    assert refused.value.error["code"] == 301
    opened = check("fundchannel", alice.fundchannel(ids[1], 1_000_000, announce=True, push_msat=500_000_000))
    hand.mine(1, opened["txid"])
    address = bob.newaddr("bech32")["bech32"]
    sent = check("withdraw", alice.withdraw(address, 2_000_000))
    hand.mine(1, sent["txid"])
    many = check("multifundchannel", bob.multifundchannel([{"id": ids[2], "amount": 1_000_000}]))
    hand.mine(6, many["txid"])
    for client in (alice, bob, carol):
        until(partial(knows_everybody, client))
        for channel in client.listpeerchannels()["channels"]:
            assert check("listpeerchannels", channel)["state"] == "CHANNELD_NORMAL"
    check("listchannels", alice.listchannels()["channels"][0])
    check("listnodes", alice.listnodes(ids[2])["nodes"][0])
    check("channels", alice.listfunds()["channels"][0])


def knows_everybody(client: LightningRpc) -> bool:
    nodes = client.listnodes()["nodes"]
    return len(client.listchannels()["channels"]) == 4 and all("alias" in node for node in nodes)


def pay(alice: LightningRpc, bob: LightningRpc, carol: LightningRpc) -> None:
    asked = check("invoice", carol.invoice(Millisatoshi("25sat"), "coffee", "a coffee"))
    assert check("decode", alice.call("decode", [asked["bolt11"]]))["amount_msat"] == 25_000
    paid = check("pay", alice.pay(asked["bolt11"]))
    assert (paid["status"], paid["amount_msat"]) == ("complete", Millisatoshi(25_000))
    [row] = carol.listinvoices("coffee")["invoices"]
    assert check("listinvoices", row)["status"] == "paid"
    assert check("listinvoices", carol.waitanyinvoice(0))["label"] == "coffee"
    check("listpays", alice.listpays(asked["bolt11"])["pays"][0] | {"label": ""})
    check("listsendpays", alice.listsendpays()["payments"][0])
    check("keysend", alice.keysend(carol.getinfo()["id"], 1000))
    asked = carol.invoice(10_000, "tea", "a tea")
    delta = alice.call("decode", [asked["bolt11"]])["min_final_cltv_expiry"]
    route = alice.getroute(carol.getinfo()["id"], 10_000, 1, cltv=delta)["route"]
    assert len([check("getroute", hop) for hop in route]) == 2
    check("sendpay", alice.sendpay(route, asked["payment_hash"], payment_secret=asked["payment_secret"]))
    check("waitsendpay", alice.waitsendpay(asked["payment_hash"]))
    assert bob.getinfo()["fees_collected_msat"] > 0
    check("setchannel", bob.setchannel("all", 1000, 10)["channels"][0])


def keep_and_sign(alice: LightningRpc) -> None:
    check("datastore", alice.datastore(["a", "b"], "one"))
    check("datastore", alice.listdatastore(["a", "b"])["datastore"][0])
    check("datastore", alice.deldatastore(["a", "b"]))
    signed = check("signmessage", alice.signmessage("words"))
    assert check("checkmessage", alice.checkmessage("words", signed["zbase"]))["verified"] is True
    check("feerates", alice.feerates("perkw")["perkw"])
    check("feerates", alice.feerates("perkb")["perkb"])
    assert check("plugin", alice.plugin_list())["plugins"] == []
    assert check("listconfigs", alice.listconfigs())["configs"]["alias"]["value_str"] == "alice"
    assert any(each["command"].startswith("pay ") for each in alice.help()["help"])
    assert alice.check("getinfo") == {"command_to_check": "getinfo"}
    check("createrune", alice.call("createrune", {"restrictions": "readonly"}))
    with alice.reply_filter({"id": True}):
        assert alice.getinfo().keys() == {"id"}
    heard: list[str] = []
    with alice.notify(lambda **told: heard.append(told["message"])):
        alice.getinfo()


def withdraw(hand: Hand, alice: LightningRpc) -> None:
    sent = check("withdraw", alice.withdraw(alice.newaddr("bech32")["bech32"], "all"))
    hand.mine(1, sent["txid"])
    # all of it, in two outputs: one is what a channel with anchors may need
    assert [coin["txid"] for coin in alice.listfunds()["outputs"]] == 2 * [sent["txid"]]


def close(hand: Hand, alice: LightningRpc, bob: LightningRpc) -> None:
    closed = check("close", alice.close(bob.getinfo()["id"]))
    assert closed["type"] == "mutual"
    hand.mine(1, closed["txids"][0])
    until(lambda: len(alice.listfunds()["outputs"]) == 3)
    with pytest.raises(RpcError) as refused:
        alice.disconnect("02" * 33)
    assert refused.value.error["code"] in (-1, -32602)
    hand.mine(110)
    until(lambda: alice.call("listclosedchannels")["closedchannels"])
    check("listclosedchannels", alice.call("listclosedchannels")["closedchannels"][0])


def test_the_networks_file_is_read_by_the_tools_that_people_have(tmp_path: Path) -> None:
    with three(tmp_path) as (hand, [alice, bob, carol]):
        fund(hand, alice)
        join(hand, alice, bob, carol)
        path = tmp_path / "carol" / "regtest" / "gossip_store"
        found = Gossmap(str(path))

        def is_complete() -> bool:
            found.refresh()
            return len(found.channels) == 2 and all(
                len(c.half_channels) == 2 for c in found.channels.values()
            )

        until(is_complete)
        assert {channel.satoshis for channel in found.channels.values()} == {1_000_000}
        assert {str(node_id) for node_id in found.nodes} == {
            client.getinfo()["id"] for client in (alice, bob, carol)
        }
        until(lambda: found.refresh() or all(node.announced for node in found.nodes.values()))
