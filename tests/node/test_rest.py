"""The commands over HTTP: only a rune lets anyone in, and then as far as it says."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from node.daemon.metrics import metrics_of
from node.daemon.rest import MOST_BODY_BYTES, rest_app
from node.daemon.web import serve_web
from tests.node.line import line, network
from tests.node.processes import READY, RillNode
from tests.node.rpc_stage import Client, commands_for
from wire.units import Msat


class Web:
    """Asks a node over HTTP."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def ask(
        self, path: str, body: bytes = b"", http_method: str = "POST", **fields: str
    ) -> tuple[int, bytes]:
        """The status and the body of what comes back."""
        lines = [f"{http_method} {path} HTTP/1.1", "Host: x", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        lines += [f"Content-Length: {len(body)}", "", ""]
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            await stream.send_all("\r\n".join(lines).encode() + body)
            answer = b"".join([part async for part in stream])
        head, _, content = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), content

    async def call(self, method: str, rune: str, params: Any = None) -> tuple[int, Any]:
        body = b"" if params is None else json.dumps(params).encode()
        status, content = await self.ask(f"/v1/{method}", body, Rune=rune)
        return status, json.loads(content)


async def rune_of(client: Client, *restrictions: list[str]) -> str:
    made = await client.call("createrune", restrictions=list(restrictions))
    return str(made["rune"])


@asynccontextmanager
async def served(directory: Path) -> AsyncIterator[tuple[Client, Web]]:
    async with network(directory, "alice") as net, trio.open_nursery() as nursery:
        alice, commands = net["alice"], commands_for(net["alice"])
        app = rest_app(commands, lambda: metrics_of(alice))
        port = await nursery.start(partial(serve_web, app, "127.0.0.1", 0))
        yield Client(alice), Web(port)
        nursery.cancel_scope.cancel()


async def test_a_rune_opens_what_it_allows(tmp_path: Path) -> None:
    async with served(tmp_path) as (alice, web):
        rune = await rune_of(alice, ["method=getinfo", "method=newaddr"])
        status, told = await web.call("getinfo", rune)
        assert (status, told["id"]) == (201, alice.node.node_id.hex())
        for params in ({"addresstype": "p2tr"}, ["p2tr"]):
            status, told = await web.call("newaddr", rune, params)
            assert (status, told.keys()) == (201, {"p2tr"})
        status, told = await web.call("stop", rune)
        assert (status, told["code"]) == (401, 1502)
        assert "method is not equal to" in told["message"]


async def test_without_a_rune_of_ours_nobody_is_let_in(tmp_path: Path) -> None:
    async with served(tmp_path) as (alice, web):
        for path, http_method in (("/v1/getinfo", "POST"), ("/metrics", "GET")):
            status, content = await web.ask(path, http_method=http_method)
            assert (status, json.loads(content)["code"]) == (403, 1501)
        rune = await rune_of(alice)
        forged = rune[:5] + ("A" if rune[5] != "A" else "B") + rune[6:]
        assert (await web.call("getinfo", forged))[0] == 401
        assert (await web.call("getinfo", "nonsense"))[0] == 401


async def test_failures_have_their_numbers(tmp_path: Path) -> None:
    async with served(tmp_path) as (alice, web):
        rune = await rune_of(alice)
        status, told = await web.call("newaddr", rune, {"addresstype": "p2x"})
        assert (status, told["code"]) == (500, -32602)
        status, told = await web.call("nosuch", rune)
        assert (status, told["code"]) == (404, -32601)
        status, content = await web.ask("/v1/getinfo", b"no json", Rune=rune)
        assert (status, json.loads(content)["code"]) == (400, -32700)
        assert (await web.ask("/v1/getinfo", http_method="GET", Rune=rune))[0] == 405
        assert (await web.ask("/getinfo", Rune=rune))[0] == 404
        assert (await web.ask("/v1/getinfo", b" " * (MOST_BODY_BYTES + 1), Rune=rune))[0] == 400


async def test_figures_are_served_as_prometheus_reads_them(tmp_path: Path) -> None:
    async with served(tmp_path) as (alice, web):
        rune = await rune_of(alice, ["method^list", "method^get"])
        status, content = await web.ask("/metrics", http_method="GET", Authorization=f"Bearer {rune}")
        assert status == 200
        lines = content.decode().splitlines()
        assert f"rill_block_height {alice.node.switch.height}" in lines
        assert any(line.startswith('rill_info{version="v') for line in lines)
        for text in lines:
            assert text.startswith(("# HELP rill_", "# TYPE rill_")) or float(text.rsplit(" ", 1)[1]) >= 0


async def test_figures_follow_what_happens(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        invoice = await net["carol"].add_invoice(Msat(1_000_000))
        await net["alice"].pay_invoice(net["carol"].bolt11(invoice))
        await net.wait_for_quiet()
        shown = metrics_of(net["bob"])
        assert "\nrill_forwards_total 1\n" in shown
        assert '\nrill_channels{state="CHANNELD_NORMAL"} 2\n' in shown
        assert '\nrill_payments{status="complete"} 1\n' in metrics_of(net["alice"])


@pytest.mark.slow
async def test_a_node_serves_it_where_it_is_told_to(tmp_path: Path) -> None:
    node = RillNode(tmp_path / "alice", 0, "--chain=embedded", "--clnrest-port=0", "--clnrest-protocol=http")
    node.wait_for(READY)
    [said] = [line for line in node.said if "served over HTTP" in line]
    port = int(said.rpartition(":")[2].partition("/")[0])
    rune = (await node.call("createrune"))["rune"]
    web = Web(port)
    assert (await web.call("getinfo", rune))[0] == 201
    assert (await web.call("stop", rune))[0] == 201
    assert node.code() == 0
