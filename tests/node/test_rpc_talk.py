"""The commands that say something: pings, signed texts, waiting for blocks, settings, notifications."""

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from node.daemon.rpc import RpcServer
from node.daemon.rpc_general import Identity
from node.daemon.rpc_table import commands_of
from node.daemon.rpc_talk import from_zbase32, zbase32
from tests.node.line import line, network
from tests.node.rpc_fields import check
from tests.node.rpc_stage import Client, commands_for
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
