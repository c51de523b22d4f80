"""The node's RPC: framing, parameters, and the replies' fields as Core Lightning documents them."""

import json
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from node.daemon.rpc import NoJson, RpcServer, Splitter, class_at, commands_in, filtered, short_name
from node.daemon.rpc_client import NodeClient, NodeUnreachable
from node.daemon.rpc_parameters import AmountMsat, CommandFailed, Kind
from node.daemon.rpc_table import OF_THE_IDENTITY, ROOMS
from node.stream.rpc_rooms import ROOMS as STREAM_ROOMS
from tests.node.line import Network, network
from tests.node.rpc_fields import check
from tests.node.rpc_stage import STRANGER, Client, clients, commands_for
from wire.bitcoin.address import script_of
from wire.units import Sat

# --- framing


@given(st.lists(st.dictionaries(st.text(), st.text() | st.lists(st.integers())), max_size=5), st.data())
def test_requests_are_cut_apart_wherever_they_are_cut(
    objects: Sequence[dict[str, Any]], data: st.DataObject
) -> None:
    gap = data.draw(st.sampled_from(["", " ", "\n", "\n\n"]))
    stream = gap.join(json.dumps(each, ensure_ascii=False) for each in objects).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    splitter, found = Splitter(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += list(splitter.feed(stream[start:end]))
    assert [json.loads(raw) for raw in found] == list(objects)


@pytest.mark.parametrize("stream", [b"3", b"[]", b'"x"', b"{}x"])
def test_what_is_no_object_ends_the_connection(stream: bytes) -> None:
    with pytest.raises(NoJson):
        list(Splitter().feed(stream))


def test_a_filter_keeps_what_it_names() -> None:
    result = {"channels": [{"state": "A", "peer": {"id": 1, "x": 2}}, {"state": "B"}], "more": 1}
    wanted = {"channels": [{"state": True, "peer": {"id": True}}], "missing": True}
    assert filtered(result, wanted) == {"channels": [{"state": "A", "peer": {"id": 1}}, {"state": "B"}]}


@pytest.mark.parametrize(
    ("place", "names"), [*ROOMS.items(), *OF_THE_IDENTITY.items(), *STREAM_ROOMS.items()]
)
def test_the_table_names_what_is_in_its_rooms(place: str, names: str) -> None:
    assert names.split() == commands_in(class_at(place))


async def test_the_socket_is_its_owners_alone_and_goes_with_the_node(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        path = tmp_path / ("d" * 90) / "lightning-rpc"
        path.parent.mkdir()
        path.touch()
        async with trio.open_nursery() as nursery:
            await nursery.start(RpcServer(path, commands_for(net["alice"])).run)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            stream = connected(path)
            await stream.send_all(b'{"jsonrpc":"2.0","id":1,"method":"getinfo","params":[]}{"id":"2",')
            await stream.send_all(b'"jsonrpc":"2.0","method":"nosuch","params":{}}')
            raw = b""
            while raw.count(b"\n\n") < 2:
                raw += await stream.receive_some()
            replies = {reply["id"]: reply for reply in map(json.loads, raw.split(b"\n\n")[:2])}
            assert replies[1]["result"]["id"] == net["alice"].node_id.hex()
            assert replies["2"]["error"]["code"] == -32601
            await stream.send_all(b"no json")
            assert await stream.receive_some() == b""
            nursery.cancel_scope.cancel()
        assert not path.exists()


def connected(path: Path) -> trio.SocketStream:
    unconnected = socket.socket(socket.AF_UNIX)
    with short_name(path) as name:
        unconnected.connect(name)
    return trio.SocketStream(trio.socket.from_stdlib_socket(unconnected))


async def test_a_client_calls_and_is_told_what_went_wrong(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        client = NodeClient(tmp_path)
        with pytest.raises(NodeUnreachable):
            await client.call("getinfo")
        async with trio.open_nursery() as nursery:
            await nursery.start(RpcServer(client.path, commands_for(net["alice"])).run)
            assert (await client.call("getinfo"))["id"] == net["alice"].node_id.hex()
            with pytest.raises(CommandFailed) as refused:
                await client.call("connect", id=STRANGER)
            assert refused.value.code == 400
            nursery.cancel_scope.cancel()


# --- parameters


async def test_parameters_come_by_position_or_name(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        client = Client(net["alice"])
        for number, params in enumerate(
            ([1000, "a", "x"], {"amount_msat": "1sat", "label": "b", "description": "x"})
        ):
            reply = await client.reply("invoice", params)
            assert reply["result"]["created_index"] == number + 1
        assert await client.code("invoice", [1]) == -32602
        assert await client.code("invoice", [1, 2, 3, 4, 5, 6, 7, 8]) == -32602
        assert await client.code("invoice", {"amount": 1}) == -32602
        assert await client.code("getinfo", {"x": 1}) == -32602
        assert await client.code("get_nothing") == -32601
        assert await client.call("getinfo") == await client.call("getinfo", nothing=None)


@pytest.mark.parametrize(
    ("text", "amount_msat"),
    [
        (5, 5),
        ("5", 5),
        ("5msat", 5),
        ("5sat", 5000),
        ("1.5sat", 1500),
        ("0.00000001btc", 1000),
        ("2btc", 2 * 10**11),
    ],
)
def test_amounts_are_read_in_every_unit(text: Any, amount_msat: int) -> None:
    assert kind(AmountMsat).of("amount_msat", text) == amount_msat


@pytest.mark.parametrize(
    "text",
    [
        -1,
        1.5,
        "",
        "x",
        "1.5",
        "0.1msat",
        "-1sat",
        "sat",
        True,
        None,
        [],
        "1e3btc",
        "infsat",
        "nanmsat",
        10**20,
    ],
)
def test_what_is_no_amount_is_refused(text: Any) -> None:
    with pytest.raises(CommandFailed) as refused:
        kind(AmountMsat).of("amount_msat", text)
    assert (refused.value.code, refused.value.message[:11]) == (-32602, "amount_msat")


def kind(annotated: Any) -> Kind:
    found = annotated.__metadata__[0]
    assert isinstance(found, Kind)
    return found


async def test_check_and_help_know_every_command(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        client = Client(net["alice"])
        shown = (await client.call("help"))["help"]
        assert "connect id [host] [port]" in [each["command"] for each in shown]
        assert len(shown) >= 20
        [alone] = (await client.call("help", command="pay"))["help"]
        assert alone["command"].startswith("pay bolt11 [amount_msat]")
        assert await client.call("check", command_to_check="newaddr") == {"command_to_check": "newaddr"}
        assert await client.code("check", {"command_to_check": "pay"}) == -32602
        [alone] = (await client.call("help", command="check"))["help"]
        assert alone in shown
        assert alone["command"] == "check command_to_check"
        checked = await client.reply("check", ["check", "newaddr"])
        assert checked["result"] == {"command_to_check": "check"}


# --- replies


async def test_a_network_is_opened_paid_over_and_closed_by_commands(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob") as net:
        alice, bob = Client(net["alice"]), Client(net["bob"])
        await fund(net, alice)
        await open_channel(net, alice, bob)
        await pay(alice, bob)
        await read_everything(alice, bob)
        await close(net, alice, bob)


async def fund(net: Network, client: Client) -> None:
    address = check("newaddr", await client.call("newaddr"))["bech32"]
    await net.chain.fund(script_of(address, "regtest"), Sat(11_000_000))
    await net.follow()
    [coin] = (await client.call("listfunds"))["outputs"]
    assert check("outputs", coin)["amount_msat"] == 11_000_000_000


async def open_channel(net: Network, alice: Client, bob: Client) -> None:
    him = check("getinfo", await bob.call("getinfo"))
    assert await alice.code("fundchannel", {"id": him["id"], "amount": "all"}) == 306
    port = him["binding"][0]["port"]
    reached = check("connect", await alice.call("connect", id=f"{him['id']}@127.0.0.1:{port}"))
    assert (reached["id"], reached["direction"]) == (him["id"], "out")
    assert await alice.code("fundchannel", {"id": him["id"], "amount": "1btc"}) == 301
    opened = check(
        "fundchannel", await alice.call("fundchannel", id=him["id"], amount="all", push_msat="1000000sat")
    )
    assert opened["channel_type"]["names"] == ["static_remotekey/even", "anchors/even"]
    await net.chain.wait_for_mempool(lambda chain: len(chain.regtest.mempool) == 1)
    [waiting] = (await alice.call("listpeerchannels"))["channels"]
    assert waiting["state"] == "CHANNELD_AWAITING_LOCKIN"
    await net.mine(6)
    await net.wait_for_usable()
    await net.wait_for_gossip()
    [channel] = (await alice.call("listpeerchannels", id=him["id"]))["channels"]
    check("listpeerchannels", channel)
    assert (channel["state"], channel["opener"]) == ("CHANNELD_NORMAL", "local")
    assert channel["to_us_msat"] == channel["total_msat"] - 1_000_000_000
    [funds] = (await bob.call("listfunds"))["channels"]
    assert check("channels", funds)["our_amount_msat"] == 1_000_000_000


async def pay(alice: Client, bob: Client) -> None:
    asked = check("invoice", await bob.call("invoice", amount_msat=50_000, label="one", description="a film"))
    assert await bob.code("invoice", [1, "one", "again"]) == 900
    read = check("decode", await alice.call("decode", string=asked["bolt11"]))
    assert (read["amount_msat"], read["description"], read["payee"]) == (
        50_000,
        "a film",
        bob.node.node_id.hex(),
    )
    async with trio.open_nursery() as nursery:
        waited: list[Any] = []

        async def wait() -> None:
            waited.append(await bob.call("waitinvoice", label="one"))

        nursery.start_soon(wait)
        paid = check("pay", await alice.call("pay", bolt11=asked["bolt11"], label="mine"))
    assert (paid["status"], paid["amount_sent_msat"]) == ("complete", 50_000)
    again = await alice.call("pay", bolt11=asked["bolt11"])
    assert again["payment_preimage"] == paid["payment_preimage"]
    [row] = (await bob.call("listinvoices", label="one"))["invoices"]
    assert check("listinvoices", row)["status"] == "paid"
    assert waited == [row] == [await bob.call("waitanyinvoice")]
    [mine] = (await alice.call("listpays", bolt11=asked["bolt11"]))["pays"]
    assert check("listpays", mine)["preimage"] == row["payment_preimage"] == paid["payment_preimage"]
    sent = check("keysend", await alice.call("keysend", destination=read["payee"], amount_msat=1234))
    assert sent["amount_msat"] == 1234
    assert len((await bob.call("listinvoices"))["invoices"]) == 2


async def read_everything(alice: Client, bob: Client) -> None:
    him = bob.node.node_id.hex()
    [hop] = (await alice.call("getroute", id=him, amount_msat=1000, riskfactor=1))["route"]
    assert (check("getroute", hop)["id"], hop["amount_msat"], hop["delay"]) == (him, 1000, 9)
    assert await alice.code("getroute", [STRANGER, 1000, 1]) == 205
    edges = (await bob.call("listchannels"))["channels"]
    assert len([check("listchannels", edge) for edge in edges]) == 2
    nodes = (await bob.call("listnodes", id=him))["nodes"]
    assert [check("listnodes", node)["alias"] for node in nodes] == ["bob"]
    [peer] = (await alice.call("listpeers"))["peers"]
    assert check("listpeers", peer)["num_channels"] == 1
    reply = await alice.reply("getinfo", filter={"alias": True})
    assert reply["result"] == {"alias": "alice"}
    assert await alice.code("disconnect", [him]) == -1


async def close(net: Network, alice: Client, bob: Client) -> None:
    [channel] = (await alice.call("listpeerchannels"))["channels"]
    closed = check("close", await alice.call("close", id=channel["short_channel_id"]))
    assert closed["type"] == "mutual"
    await net.chain.wait_for_mempool(lambda chain: chain.has(bytes.fromhex(closed["txids"][0])[::-1]))
    await net.mine()
    await net.wait_for_closed()
    assert [c["state"] for c in (await bob.call("listpeerchannels"))["channels"]] == ["ONCHAIN"]
    check("stop", await alice.call("stop"))


async def test_a_silent_peer_is_left_alone_after_the_time_that_its_user_gives(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob") as (net, [alice, bob]):
        await net.stop("bob")
        closed = await alice.call("close", id=bob.node.node_id.hex(), unilateraltimeout=1)
        assert closed["type"] == "unilateral"
        assert len(closed["txids"]) == 1
        [channel] = (await alice.call("listpeerchannels"))["channels"]
        assert channel["state"] == "AWAITING_UNILATERAL"
        assert await alice.code("close", {"id": STRANGER}) == -32602


async def test_payments_that_cannot_be_are_told_why(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob") as (net, [alice, bob]):
        expired = await bob.call("invoice", amount_msat=1000, label="old", description="x", expiry=1)
        anything = await bob.call("invoice", amount_msat="any", label="any", description="x")
        much = await bob.call("invoice", amount_msat="1btc", label="much", description="x")
        net.clock.seconds += 2
        assert await alice.code("pay", {"bolt11": expired["bolt11"]}) == 207
        assert await alice.code("pay", {"bolt11": anything["bolt11"]}) == -32602
        assert await alice.code("pay", {"bolt11": "lnbcrt1"}) == -32602
        assert await alice.code("pay", {"bolt11": much["bolt11"]}) == 205
        assert await alice.code("keysend", [STRANGER, 1000]) == 205
        paid = await alice.call("pay", bolt11=anything["bolt11"], amount_msat=777)
        assert paid["amount_msat"] == 777
        [row] = (await bob.call("listinvoices", label="old"))["invoices"]
        assert row["status"] == "expired"
        assert await bob.code("waitinvoice", ["old"]) == 903
        assert await bob.code("waitinvoice", ["nosuch"]) == -1


# --- whatever is asked

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
LIKELY = st.sampled_from(
    [
        "",
        "any",
        "all",
        "1sat",
        "true",
        1,
        0,
        -1,
        2**70,
        STRANGER,
        STRANGER[2:],
        "539268x845x1",
        "lnbcrt1",
        "x",
    ]
)
NOT_TRIED = {"stop", "waitanyinvoice", "waitinvoice"}


@settings(max_examples=15)
@given(data=st.data())
def test_no_request_brings_a_node_down(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    async def ask() -> None:
        async with network(tmp_path_factory.mktemp("any"), "alice") as net:
            commands = commands_for(net["alice"])
            for name in sorted({command.name for command in await commands.all()} - NOT_TRIED):
                kinds = (await commands.find(name)).kinds
                params = data.draw(st.lists(LIKELY | JSON, max_size=len(kinds) + 1), label=name)
                raw = await commands.answer(json.dumps({"id": 1, "method": name, "params": params}).encode())
                assert raw is not None
                assert b"internal error" not in raw

    trio.run(ask)
