"""Commands as Core Lightning has them: their parameters, the fields of their replies in every state of a
node, and the numbers of their refusals.

The replies of all other tests of the RPC are held to the same table.
"""

from pathlib import Path
from typing import Any

import pytest
import trio

from tests.node.line import Held, Network, network, until
from tests.node.payments import settle
from tests.node.reply_table import faults, table
from tests.node.rpc_stage import STRANGER, Client, clients
from wire.bitcoin.address import script_of
from wire.crypto.hashes import sha256
from wire.units import Msat, Sat

LISTS = (
    "getinfo listpeers listpeerchannels listclosedchannels listfunds listtransactions listinvoices listpays "
    "listsendpays listforwards listhtlcs listchannels listnodes staticbackup listoffers getlog"
)


# --- parameters


async def test_parameters_are_called_and_ordered_as_there(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        shown = (await Client(net["alice"]).call("help"))["help"]
        ours = {name: parameters for name, *parameters in (each["command"].split() for each in shown)}
        known = table()
        assert not known.keys() - ours.keys()
        for name in known:
            assert tuple(ours[name]) == known[name].parameters, name


def test_a_table_that_nothing_breaks_would_be_none() -> None:
    good = {"type": "mutual", "txs": ["00"], "txids": ["ab" * 32]}
    assert faults("close", good) == []
    assert faults("close", {**good, "txid": "ab" * 32}) == ["close has txid, of which nobody knows"]
    assert faults("close", {**good, "txids": ["ab"]}) == ["close.txids[] is 'ab', not hex32"]
    assert faults("close", {"type": "mutual", "txs": []}) == ["close lacks txids"]
    assert faults("close", {**good, "type": "unopened"})[0].endswith("which it may not have now")
    assert "close.type is 'odd', not mutual|unilateral|unopened" in faults("close", {**good, "type": "odd"})
    assert faults("makesecret", {"secret": 5}) == ["makesecret.secret is 5, not hex32"]


# --- replies


async def look(*clients: Client) -> None:
    """Ask for everything there is to list; each reply is checked as it comes."""
    for client in clients:
        for method in LISTS.split():
            await client.call(method)
        await client.call("listfunds", spent=True)


async def test_replies_have_their_fields_in_every_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network(tmp_path, "alice bob carol") as net:
        alice, bob, carol = everybody = [Client(net[name]) for name in ("alice", "bob", "carol")]
        await look(*everybody)
        await open_channels(net, alice, bob, carol)
        await ask_and_pay(net, alice, carol)
        await fail(net, alice, carol)
        await close(net, monkeypatch, alice, bob, carol)


async def open_channels(net: Network, alice: Client, bob: Client, carol: Client) -> None:
    for opener in (alice, bob):
        script = script_of((await opener.call("newaddr"))["bech32"], "regtest")
        await net.chain.fund(script, Sat(2_000_000))
    await net.follow()
    for opener, other in ((alice, bob), (bob, carol)):
        await opener.call("connect", id=other.id, host="127.0.0.1", port=net[other.node.alias].port)
        await other.call("connect", id=opener.id)
        wish = {"id": other.id, "amount": "1000000sat", "push_msat": "250000sat"}
        if opener is alice:
            await alice.call("fundchannel", **wish, mindepth=1)
        else:
            await bob.call("multifundchannel", destinations=[wish])
    await until(lambda: len(net.chain.regtest.mempool) == 2)
    await look(alice, bob, carol)
    await net.mine(6)
    await net.wait_for_usable()
    await net.wait_for_gossip()
    await look(alice, bob, carol)


async def ask_and_pay(net: Network, alice: Client, carol: Client) -> None:
    asked = [
        await carol.call("invoice", amount_msat=amount, label=amount, description="", expiry=60)
        for amount in (5_000, 7_000_000, "any")
    ]
    await alice.call("pay", bolt11=asked[0]["bolt11"], label="mine")
    await alice.call("xpay", invstring=asked[1]["bolt11"])
    await alice.call("keysend", destination=carol.id, amount_msat=5)
    await carol.call("holdinvoice", payment_hash=sha256(b"x").hex(), amount=5)
    net.clock.seconds += 100
    for each in asked:
        await alice.call("decode", string=each["bolt11"])
    await look(alice, carol)
    await carol.call("delinvoice", label="any", status="expired")
    await carol.call("waitanyinvoice", lastpay_index=1)
    await alice.call("delpay", payment_hash=asked[0]["payment_hash"], status="complete")


async def fail(net: Network, alice: Client, carol: Client) -> None:
    asked = await carol.call("invoice", amount_msat=5_000_000, label="gone", description="")
    await carol.call("delinvoice", label="gone", status="unpaid")
    assert await alice.code("pay", [asked["bolt11"]]) == 203
    await look(alice, carol)
    await settle(net)


async def close(
    net: Network, monkeypatch: pytest.MonkeyPatch, alice: Client, bob: Client, carol: Client
) -> None:
    """One channel while HTLCs are on it, together; the other alone."""
    held = Held(net["carol"], monkeypatch)
    async with trio.open_nursery() as nursery:
        for amount_msat in (40_000, 5_000_000):
            nursery.start_soon(net.pay, "alice", "carol", Msat(amount_msat))
        await held.wait_for(2)
        await look(alice, bob, carol)
        nursery.start_soon(shut, bob, carol)
        await until(lambda: any(not c.is_usable for c in net["carol"].channels()))
        await look(bob, carol)
        await held.release()
    await until(lambda: bool(net.chain.regtest.mempool))
    await look(bob, carol)
    await net.mine()
    await look(bob, carol)
    await net.part("alice", "bob")
    await alice.call("close", id=bob.id, unilateraltimeout=1)
    await look(alice, bob)
    for count in (1, 10, 150):
        await net.mine(count)
        await look(alice, bob, carol)
    assert (await bob.call("listclosedchannels", id=carol.id))["closedchannels"]


async def shut(client: Client, other: Client) -> None:
    await client.call("close", id=other.id)


# --- refusals

REFUSED: list[tuple[str, Any, int]] = [
    ("nosuch", {}, -32601),
    ("help", ["nosuch"], -32601),
    ("check", ["nosuch"], -32601),
    ("getinfo", [1], -32602),
    ("connect", [STRANGER], 400),
    ("connect", [STRANGER, "127.0.0.1", 1], 401),
    ("connect", ["x"], -32602),
    ("disconnect", [STRANGER], -1),
    ("ping", [STRANGER], -1),
    ("ping", [STRANGER, 65_530], -32602),
    ("fundchannel", [STRANGER, 100_000], 306),
    ("close", [STRANGER], -32602),
    ("close", ["1x1x1"], -32602),
    ("setchannel", ["00" * 32], -32602),
    ("listpeerchannels", {"id": STRANGER, "channel_id": "00" * 32}, -32602),
    ("listchannels", {"source": STRANGER, "destination": STRANGER}, -32602),
    ("newaddr", ["p2sh"], -32602),
    ("withdraw", ["nowhere", 1000], -32602),
    ("feerates", [], -32602),
    ("feerates", ["perkg"], -32602),
    ("invoice", [0, "label", ""], -32602),
    ("listinvoices", {"label": "a", "payment_hash": "00" * 32}, -32602),
    ("listinvoices", {"start": 1}, -32602),
    ("listinvoices", {"index": "deleted"}, -32602),
    ("delinvoice", ["nosuch", "paid"], 905),
    ("delinvoice", ["nosuch", "odd"], -32602),
    ("waitinvoice", ["nosuch"], -1),
    ("waitanyinvoice", [0, 0], 904),
    ("pay", ["lnbc1"], -32602),
    ("keysend", [STRANGER, 1000], 205),
    ("getroute", [STRANGER, 1000, 1], 205),
    ("listpays", {"status": "odd"}, -32602),
    ("listpays", {"limit": 1}, -32602),
    ("listsendpays", {"status": "paid"}, -32602),
    ("listforwards", {"status": "odd"}, -32602),
    ("delforward", ["1x1x1", 1, "settled"], 1401),
    ("waitsendpay", ["00" * 32], 208),
    ("delpay", ["00" * 32, "complete"], 208),
    ("delpay", ["00" * 32, "pending"], -32602),
    ("delpay", ["00" * 32, "failed", 1], -32602),
    ("sendpay", [[], "00" * 32], -32602),
    ("wait", ["invoices", "odd", 0], -32602),
    ("waitblockheight", [10**6, 0], 2000),
    ("signmessage", ["x" * 65_536], -32602),
    ("checkmessage", ["a", "!"], -32602),
    ("datastore", ["key"], -32602),
    ("datastore", {"key": "k", "string": "v", "mode": "must-replace"}, 1203),
    ("deldatastore", ["nosuch"], 1200),
    ("checkrune", ["no rune"], -32602),
    ("listconfigs", ["nosuch"], -32602),
    ("plugin", ["start"], -32602),
    ("plugin", [], -32602),
    ("recoverchannel", [["00"]], -32602),
    ("parsefeerate", ["soon"], -32602),
    ("makesecret", [], -32602),
    ("sendcustommsg", [STRANGER, "ff99"], -32600),
    ("getlog", ["loud"], -32602),
    ("addpsbtoutput", [1000], -32602),
    ("offer", {"amount": 5, "description": "", "recurrence": "1day"}, -32602),
    # numbers for which a message, or the database, has no room
    ("setchannel", {"id": "all", "feeppm": 1 << 32}, -32602),
    ("setchannel", {"id": "all", "feebase": "1btc"}, -32602),
    ("invoice", {"amount_msat": 1, "label": "x", "description": "", "expiry": 1 << 32}, -32602),
    ("waitanyinvoice", [1 << 63], -32602),
    ("parsefeerate", ["4294967296perkw"], -32602),
    ("keysend", {"destination": STRANGER, "amount_msat": 1, "maxfeepercent": "nan"}, -32602),
]


async def test_refusals_have_their_numbers(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob") as (net, [alice, bob]):
        told = [(method, params, await alice.code(method, params)) for method, params, _ in REFUSED]
        assert told == REFUSED
        one = {"amount_msat": 1, "label": "one", "description": "", "preimage": "11" * 32}
        await alice.call("invoice", **one)
        again = {**one, "label": "two"}
        assert await alice.code("invoice", [1, "one", ""]) == 900
        assert await alice.code("invoice", again) == 901
        assert await alice.code("delinvoice", ["one", "paid"]) == 906
        assert await alice.code("delinvoice", ["one", "unpaid", True]) == 908
        assert await alice.code("disconnect", [bob.id]) == -1
        assert await alice.code("fundchannel", [bob.id, "21000000btc"]) == 301
        await settle(net)
