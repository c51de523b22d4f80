"""The commands that say something: pings, signed texts, waiting for blocks, settings, notifications."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from node.cli.logs import Lines
from node.daemon.log_book import LogBook
from node.daemon.rpc import RpcServer
from node.daemon.rpc_general import Identity
from node.daemon.rpc_table import commands_of
from node.daemon.rpc_talk import from_zbase32, zbase32
from tests.node.line import line, network, until
from tests.node.rpc_fields import check
from tests.node.rpc_stage import STRANGER, Client, clients, commands_for
from tests.node.test_rpc import connected


async def test_a_ping_is_answered_with_as_many_bytes_as_it_asks_for(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob") as net:
        alice, bob = Client(net["alice"]), net["bob"]
        assert await alice.code("ping", {"id": bob.node_id.hex()}) == -1
        await alice.node.connect(bob.node_id, "127.0.0.1", bob.port)
        assert check("ping", await alice.call("ping", id=bob.node_id.hex()))["totlen"] == 132
        for pongbytes, totlen in ((0, 4), (65531, 65535), (65532, 0)):
            answer = await alice.call("ping", id=bob.node_id.hex(), len=1000, pongbytes=pongbytes)
            assert answer == {"totlen": totlen}
        assert await alice.code("ping", {"id": bob.node_id.hex(), "len": 65532}) == -32602


async def test_a_height_is_waited_for(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        alice, height = Client(net["alice"]), net.chain.regtest.height
        assert await alice.code("waitblockheight", [height + 2, 0]) == 2000
        answers: list[object] = []

        async def wait() -> None:
            answer = await alice.call("waitblockheight", blockheight=height + 2)
            answers.append(check("waitblockheight", answer))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await net.mine(2)
        assert answers == [{"blockheight": height + 2}]


async def test_a_text_is_signed_and_checked(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob") as net:
        alice, bob = Client(net["alice"]), Client(net["bob"])
        us = alice.node.node_id.hex()
        signed = check("signmessage", await alice.call("signmessage", message="a film"))
        raw = from_zbase32(signed["zbase"])
        assert (raw[0] - 31, raw[1:].hex()) == (int(signed["recid"]), signed["signature"])
        for client in (alice, bob):
            told = await client.call("checkmessage", message="a film", zbase=signed["zbase"], pubkey=us)
            assert check("checkmessage", told) == {"verified": True, "pubkey": us}
        other = await bob.call("checkmessage", message="another film", zbase=signed["zbase"], pubkey=us)
        assert other["verified"] is False
        refused = await bob.reply("checkmessage", {"message": "a film", "zbase": signed["zbase"]})
        assert (refused["error"]["code"], refused["error"]["data"]) == (1301, {"claimed_key": us})
        assert await bob.code("checkmessage", ["a film", "0l"]) == -32602


@given(st.binary())
def test_zbase32_is_read_as_it_was_written(raw: bytes) -> None:
    assert from_zbase32(zbase32(raw)) == raw


async def test_there_are_no_plugins(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        alice = Client(net["alice"])
        assert check("plugin", await alice.call("plugin", subcommand="list"))["plugins"] == []
        assert await alice.code("plugin", ["start", "/usr/bin/true"]) == -1


async def test_the_settings_are_told(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        configs: dict[str, dict[str, Any]] = {
            "alias": {"value_str": "alice", "source": "cmdline"},
            "regtest": {"set": True, "source": "x"},
        }
        commands, _ = commands_of(net["alice"], Identity(tmp_path, "alice", configs))

        async def ask(params: object) -> dict[str, object]:
            asked = {"id": 1, "method": "listconfigs", "params": params}
            raw = await commands.answer(json.dumps(asked).encode())
            reply: dict[str, object] = json.loads(raw or b"")
            return reply

        assert (await ask({}))["result"] == {"configs": configs}
        assert (await ask(["alias"]))["result"] == {"configs": {"alias": configs["alias"]}}
        assert "error" in await ask(["nosuch"])


async def test_who_listens_hears_how_a_close_gets_on(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob") as net:
        alice, path = net["alice"], tmp_path / "socket"
        [channel] = alice.channels()
        async with trio.open_nursery() as nursery:
            await nursery.start(RpcServer(path, commands_for(alice)).run)
            stream = connected(path)
            asked = [
                {"id": "a", "method": "notifications", "params": {"enable": True}},
                {"id": "b", "method": "close", "params": [channel.id.hex()]},
            ]
            for each in asked:
                await stream.send_all(json.dumps(each).encode())
            raw = b""
            while raw.count(b"\n\n") < 3:
                raw += await stream.receive_some()
            first, told, closed = map(json.loads, raw.split(b"\n\n")[:3])
            assert (first["id"], first["result"]) == ("a", {})
            assert (told["method"], told["params"]["id"], told["params"]["level"]) == ("message", "b", "info")
            assert "shutdown" in told["params"]["message"]
            assert closed["result"]["type"] == "mutual"
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("params", [{}, ["maybe"]])
async def test_notifications_are_on_or_off(tmp_path: Path, params: object) -> None:
    async with network(tmp_path, "alice") as net:
        assert await Client(net["alice"]).code("notifications", params) == -32602


async def test_a_peer_hears_a_message_of_our_users(tmp_path: Path) -> None:
    async with clients(tmp_path, "alice bob") as (net, [alice, bob]):
        heard: list[tuple[bytes, bytes]] = []

        async def hear(peer_id: bytes, payload: bytes) -> None:
            heard.append((peer_id, payload))

        net["bob"].on_custom(0xFF99, hear)
        sent = check("sendcustommsg", await alice.call("sendcustommsg", node_id=bob.id, msg="ff99aabb"))
        assert "sent" in sent["status"]
        await until(lambda: bool(heard))
        assert heard == [(net["alice"].node_id, b"\xaa\xbb")]
        # a ping is the node's own business, and nobody else's
        for msg in ("0012aa", "", "ff"):
            assert await alice.code("sendcustommsg", {"node_id": bob.id, "msg": msg}) == -32600
        assert await alice.code("sendcustommsg", [STRANGER, "ff99"]) == -32600


async def test_a_secret_follows_from_the_seed_and_its_purpose(tmp_path: Path) -> None:
    async with network(tmp_path, "alice bob") as net:
        alice, bob = Client(net["alice"]), Client(net["bob"])
        made = check("makesecret", await alice.call("makesecret", string="a tool"))["secret"]
        assert (await alice.call("makesecret", hex=b"a tool".hex()))["secret"] == made
        others = [await alice.call("makesecret", string="b"), await bob.call("makesecret", string="a tool")]
        assert len({made, *(each["secret"] for each in others)}) == 3
        assert await alice.code("makesecret", {}) == -32602
        assert await alice.code("makesecret", {"hex": "00", "string": "x"}) == -32602


async def test_the_log_is_shown_from_its_level_on(tmp_path: Path) -> None:
    async with network(tmp_path, "alice") as net:
        alice, book = Client(net["alice"]), LogBook()
        book.setFormatter(Lines())
        logger = logging.getLogger("rill")
        logger.addHandler(book)
        try:
            logging.getLogger("rill.x").warning("odd", extra={"why": "so"})
            logging.getLogger("rill.y").error("broken")
            told = check("getlog", await alice.call("getlog"))
            shown = [(each["type"], each["source"], each["log"]) for each in told["log"]]
            assert shown == [("UNUSUAL", "x", "odd why=so"), ("BROKEN", "y", "broken")]
            [broken] = (await alice.call("getlog", level="broken"))["log"]
            assert check("getlog line", broken)["log"] == "broken"
            for _ in range(100):
                logging.getLogger("rill.z").warning("x" * 10_000)
            told = await alice.call("getlog")
            assert told["bytes_used"] <= told["bytes_max"]
            assert told["log"][0]["num_skipped"] + len(told["log"]) - 1 == 102
        finally:
            logger.removeHandler(book)


async def test_what_is_asked_first_begins_first(tmp_path: Path) -> None:
    """So that a client need not wait for each answer before it asks for more."""
    async with network(tmp_path, "alice") as net, trio.open_nursery() as nursery:
        path = tmp_path / "lightning-rpc"
        await nursery.start(RpcServer(path, commands_for(net["alice"])).run)
        stream = connected(path)
        asked = [
            {"id": f"{method} {number}", "method": method, "params": {"key": str(number), **more}}
            for number in range(30)
            for method, more in (("datastore", {"string": "x"}), ("listdatastore", {}))
        ]
        await stream.send_all("".join(map(json.dumps, asked)).encode())
        raw = b""
        while raw.count(b"\n\n") < len(asked):
            raw += await stream.receive_some()
        replies = [json.loads(each) for each in raw.split(b"\n\n")[:-1]]
        listed = [each["result"]["datastore"] for each in replies if each["id"].startswith("list")]
        assert [len(each) for each in listed] == 30 * [1]
        nursery.cancel_scope.cancel()
