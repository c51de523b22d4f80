"""The commands over HTTP: only a rune lets anyone in, and then as far as it says."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from node.daemon.certificates import certificates_in
from node.daemon.metrics import metrics_of
from node.daemon.rest import CONTENT_POLICY, EVERY_ORIGIN, MOST_BODY_BYTES, rest_app
from node.daemon.web import BadCertificates, serve_web
from tests.node.line import line, network
from tests.node.processes import READY, RillNode
from tests.node.rpc_stage import Client, commands_for
from wire.units import Msat


class Web:
    """Asks a node over HTTP."""

    def __init__(self, port: int, trusting: ssl.SSLContext | None = None) -> None:
        self.port, self._trusting = port, trusting

    async def ask(
        self, path: str, body: bytes = b"", http_method: str = "POST", **fields: str
    ) -> tuple[int, bytes]:
        """The status and the body of what comes back."""
        head, content = await self.exchange(path, body, http_method, **fields)
        return int(head.split()[1]), content

    async def exchange(self, path: str, body: bytes, http_method: str, **fields: str) -> tuple[str, bytes]:
        """The head and the body of what comes back."""
        lines = [f"{http_method} {path} HTTP/1.1", "Host: x", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        lines += [f"Content-Length: {len(body)}", "", ""]
        async with await self._connect() as stream:
            await stream.send_all("\r\n".join(lines).encode() + body)
            answer = b"".join([part async for part in stream])
        head, _, content = answer.partition(b"\r\n\r\n")
        return head.decode(), content

    async def _connect(self) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
        plain = await trio.open_tcp_stream("127.0.0.1", self.port)
        if self._trusting is None:
            return plain
        return trio.SSLStream(plain, self._trusting, server_hostname="127.0.0.1", https_compatible=True)

    async def call(self, method: str, rune: str, params: Any = None) -> tuple[int, Any]:
        body = b"" if params is None else json.dumps(params).encode()
        status, content = await self.ask(f"/v1/{method}", body, Rune=rune)
        return status, json.loads(content)


async def rune_of(client: Client, *restrictions: list[str]) -> str:
    made = await client.call("createrune", restrictions=list(restrictions))
    return str(made["rune"])


@asynccontextmanager
async def served(directory: Path, *origins: str) -> AsyncIterator[tuple[Client, Web]]:
    async with network(directory, "alice") as net, trio.open_nursery() as nursery:
        alice, commands = net["alice"], commands_for(net["alice"])
        app = rest_app(commands, lambda: metrics_of(alice), origins or EVERY_ORIGIN)
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
        for path, body, http_method, refusal in (
            ("/v1/getinfo", b"no json", "POST", (500, -32700)),
            ("/v1/getinfo", b" " * (MOST_BODY_BYTES + 1), "POST", (413, -32700)),
            ("/v1/getinfo", b"", "GET", (405, -32601)),
            ("/getinfo", b"", "POST", (404, -32601)),
        ):
            status, content = await web.ask(path, body, http_method, Rune=rune)
            assert (status, json.loads(content)["code"]) == refusal
        status, content = await web.ask("/v1/getinfo", b"<x/>", Rune=rune, Content_Type="application/xml")
        assert status == 406
        assert json.loads(content)["message"] == "Unsupported content-type header: application/xml"


async def test_a_form_names_parameters_as_json_does(tmp_path: Path) -> None:
    async with served(tmp_path) as (alice, web):
        rune, form = await rune_of(alice), "application/x-www-form-urlencoded"
        body = b"amount_msat=21000&label=a+film&description=two%20words"
        status, content = await web.ask("/v1/invoice", body, Rune=rune, Content_Type=form)
        assert status == 201
        [made] = (await alice.call("listinvoices", label="a film"))["invoices"]
        assert (made["bolt11"], made["description"]) == (json.loads(content)["bolt11"], "two words")
        # a rune that restricts a parameter looks at those of a form, too
        narrow = await rune_of(alice, ["pnamelabel=another"])
        assert (await web.ask("/v1/invoice", body, Rune=narrow, Content_Type=form))[0] == 401


async def test_anybody_may_read_what_the_commands_are_called(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, web):
        status, content = await web.ask("/v1/list-methods", http_method="GET")
        assert status == 200
        shown = [line for line in content.decode().splitlines() if line.startswith("Command: ")]
        assert "Command: newaddr [addresstype]" in shown


async def test_pages_of_the_origins_that_are_named_may_ask(tmp_path: Path) -> None:
    async with served(tmp_path, "https://a.example", "https://b.example") as (_, web):
        asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "rune"}
        for origin, is_let_in in (("https://b.example", True), ("https://c.example", False)):
            head, _ = await web.exchange("/v1/getinfo", b"", "OPTIONS", Origin=origin, **asked)
            assert (f"access-control-allow-origin: {origin}" in head) is is_let_in
        head, _ = await web.exchange("/v1/getinfo", b"", "POST", Origin="https://a.example")
        assert "access-control-allow-origin: https://a.example" in head
        assert f"content-security-policy: {CONTENT_POLICY}" in head
    async with served(tmp_path / "open") as (_, web):
        head, _ = await web.exchange("/v1/getinfo", b"", "POST", Origin="https://c.example")
        assert "access-control-allow-origin: *" in head


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


def test_certificates_are_made_once_and_for_their_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "certs"
    made = certificates_in(directory, "127.0.0.1")
    before = {path: path.read_bytes() for path in directory.iterdir()}
    assert {path.name for path in before} == {
        f"{name}{ending}.pem" for name in ("ca", "server", "client") for ending in ("", "-key")
    }
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in before)
    assert certificates_in(directory, "127.0.0.1") == made
    assert {path: path.read_bytes() for path in directory.iterdir()} == before
    made.key.write_bytes(before[directory / "client-key.pem"])
    with pytest.raises(BadCertificates, match="cannot be used"):
        certificates_in(directory, "127.0.0.1")
    with pytest.raises(BadCertificates, match="File exists"):
        certificates_in(made.key, "127.0.0.1")


def served_at(node: RillNode) -> int:
    """The port at which a node says that it serves."""
    node.wait_for(READY)
    [said] = [line for line in node.said if "served over HTTP" in line]
    return int(said.rpartition(":")[2].partition("/")[0])


@pytest.mark.slow
async def test_a_node_serves_it_where_it_is_told_to(tmp_path: Path) -> None:
    node = RillNode(tmp_path / "alice", 0, "--chain=embedded", "--clnrest-port=0", "--clnrest-protocol=http")
    web = Web(served_at(node))
    rune = (await node.call("createrune"))["rune"]
    assert (await web.call("getinfo", rune))[0] == 201
    assert (await web.call("stop", rune))[0] == 201
    assert node.code() == 0
    assert not list((tmp_path / "alice" / "regtest").glob("*.pem"))


@pytest.mark.slow
@pytest.mark.parametrize("place", ["usual", "chosen"])
async def test_a_node_encrypts_unless_it_is_told_not_to(tmp_path: Path, place: str) -> None:
    """As Zeus and its like expect: the client trusts the root that the node made, and no other."""
    directory = tmp_path / "alice" / "regtest" if place == "usual" else tmp_path / "certs"
    more = [] if place == "usual" else [f"--clnrest-certs={directory}"]
    node = RillNode(tmp_path / "alice", 0, "--chain=embedded", "--clnrest-port=0", *more)
    port = served_at(node)
    rune = (await node.call("createrune"))["rune"]
    web = Web(port, ssl.create_default_context(cafile=directory / "ca.pem"))
    status, told = await web.call("getinfo", rune)
    assert (status, told["alias"]) == (201, "alice")
    with pytest.raises(trio.BrokenResourceError):
        await Web(port, ssl.create_default_context()).call("getinfo", rune)
    # who does not speak TLS hears nothing
    with pytest.raises((IndexError, trio.BrokenResourceError)):
        await Web(port).call("getinfo", rune)
    assert (await web.call("getinfo", rune))[0] == 201
    assert node.end() == 0
