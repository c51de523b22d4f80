"""What `rill node` does for tests of the protocol: keys that are given, connections that break on order."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from node.daemon.dialing import Proxy, ProxyFailed, open_stream
from node.daemon.peer import PeerGone
from node.daemon.saboteur import BadSabotage, Fate, Saboteur, name_of
from node.daemon.signer import ForcedKeys, Signer
from tests.node.backends import RillChain
from tests.node.caller import Caller, HungUp, calling
from tests.node.line import network
from tests.node.processes import READY, RillNode
from wire.crypto import secp256k1
from wire.messages.base import Ping, Pong
from wire.messages.catalogue import MESSAGES, encode

ONE = bytes(31) + b"\x01"
PING, PONG = encode(Ping(num_pong_bytes=1)), encode(Pong(ignored=b"\0"))


def saboteur(directory: Path, *lines: str) -> Saboteur:
    path = directory / "disconnect"
    path.write_text("\n".join(lines))
    return Saboteur(path)


def test_messages_are_named_as_lightningd_names_them() -> None:
    names = {name_of(number.to_bytes(2, "big")) for number in MESSAGES}
    assert {"WIRE_INIT", "WIRE_UPDATE_ADD_HTLC", "WIRE_REVOKE_AND_ACK", "WIRE_CHANNEL_REESTABLISH"} <= names
    assert name_of(b"\xff\xff") == ""


def test_each_line_waits_for_its_message(tmp_path: Path) -> None:
    orders = saboteur(tmp_path, "-WIRE_PONG*2", "=WIRE_PONG", "<WIRE_PING", "+WIRE_PONG")
    assert [orders.fate_of_sent(PONG) for _ in range(4)] == [
        Fate.PASSED,
        Fate.CUT_BEFORE,
        Fate.PASSED,
        Fate.PASSED,
    ]
    assert orders.fate_of_sent(PING) is Fate.PASSED
    assert orders.fate_of_received(PING) is Fate.CUT_AFTER_RECEIVED
    assert [orders.fate_of_sent(PONG) for _ in range(2)] == [Fate.CUT_AFTER, Fate.PASSED]


@pytest.mark.parametrize("line", ["WIRE_PONG", "?WIRE_PONG", "-wire_pong", "-WIRE_PONG*0", "-WIRE_PONG*x"])
def test_a_line_that_cannot_be_meant_is_told(tmp_path: Path, line: str) -> None:
    with pytest.raises(BadSabotage, match="is not"):
        saboteur(tmp_path, line)


@asynccontextmanager
async def sabotaged(directory: Path, line: str) -> AsyncIterator[tuple[Caller, Path]]:
    """Somebody connected to a node whose file has this line."""
    path = directory / "disconnect"
    path.write_text(line)
    async with network(directory) as net:
        await net.start("alice", sabotage=path)
        async with calling(net["alice"]) as caller:
            yield caller, path


async def pongs(caller: Caller, *sizes: int) -> list[int]:
    """What comes until one of the last size, or until the end."""
    found: list[int] = []
    try:
        await caller.send(*(Ping(num_pong_bytes=size) for size in sizes))
        while not found or found[-1] != sizes[-1]:
            found.append(len((await caller.expect(Pong)).ignored))
    except (HungUp, trio.BrokenResourceError):
        found.append(0)
    return found


@pytest.mark.parametrize(
    ("line", "answers"),
    [
        ("", [1, 2, 3]),
        ("=WIRE_PONG", [1, 2, 3]),
        ("$WIRE_PONG*2", [1, 3]),
        ("-WIRE_PONG*2", [1, 0]),
        ("@WIRE_PONG*2", [1, 0]),
        ("+WIRE_PONG*2", [1, 2, 0]),
        ("<WIRE_PING*2", [1, 2, 0]),
    ],
)
async def test_a_connection_breaks_where_it_is_told_to(tmp_path: Path, line: str, answers: list[int]) -> None:
    async with sabotaged(tmp_path, line) as (caller, _):
        assert await pongs(caller, 1, 2, 3) == answers


@pytest.mark.parametrize(("line", "count"), [("0WIRE_PONG*2", 1), ("xWIRE_PONG*2", 2)])
async def test_a_deaf_connection_stays_until_the_file_is_emptied(
    tmp_path: Path, line: str, count: int
) -> None:
    async with sabotaged(tmp_path, line) as (caller, path):
        await caller.send(Ping(num_pong_bytes=1), Ping(num_pong_bytes=2))
        assert [len((await caller.expect(Pong)).ignored) for _ in range(count)] == [1, 2][:count]
        path.write_text("")
        assert await pongs(caller, 3) == [0]


async def test_even_init_may_be_withheld(tmp_path: Path) -> None:
    (tmp_path / "disconnect").write_text("-WIRE_INIT")
    async with network(tmp_path, "bob") as net:
        await net.start("alice", sabotage=tmp_path / "disconnect")
        alice, bob = net["alice"], net["bob"]
        with pytest.raises(PeerGone):
            await alice.connect(bob.node_id, "127.0.0.1", bob.port)


def test_forced_keys_take_the_place_of_the_seeds() -> None:
    usual = Signer(bytes(32))
    secrets = usual.channel_secrets(7)
    forced = Signer(bytes(32), ForcedKeys(ONE, ONE, secrets))
    assert forced.node_id == secp256k1.point_of(ONE) != usual.node_id
    assert forced.channel_secrets(1) == forced.channel_secrets(2) == secrets != usual.channel_secrets(1)
    assert forced.wallet_seed == ONE != usual.wallet_seed


async def test_what_is_reached_over_a_proxy_is_named_to_it() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    asked: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        asked.append(await stream.receive_some(3))
        await stream.send_all(b"\x05\x00")
        asked.append(await stream.receive_some(300))
        refused = b"x.onion" not in asked[-1]
        await stream.send_all(bytes((5, 5 if refused else 0, 0, 1)) + bytes(6))
        await stream.send_all(b"there")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        stream = await open_stream("x.onion", 9735, Proxy("127.0.0.1", port))
        assert await stream.receive_some(5) == b"there"
        assert asked == [b"\x05\x01\x00", b"\x05\x01\x00\x03\x07x.onion" + (9735).to_bytes(2, "big")]
        with pytest.raises(ProxyFailed, match="refused"):
            await open_stream("bob.example", 9735, Proxy("127.0.0.1", port, is_for_all=True))
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_node_starts_as_the_tools_of_protocol_tests_start_it(tmp_path: Path) -> None:
    """With every key forced, its socket elsewhere, its log in its directory."""
    chain = RillChain(tmp_path / "chain", _free_port())
    secrets = "/".join((ONE.hex(),) * 6)
    node = RillNode(
        tmp_path / "alice",
        chain.port,
        "--developer",
        f"--dev-force-privkey={ONE.hex()}",
        f"--dev-force-bip32-seed={ONE.hex()}",
        f"--dev-force-channel-secrets={secrets}",
        "--dev-bitcoind-poll=1",
        "--dev-fast-gossip",
        "--dev-allow-localhost",
        "--addr=127.0.0.1:0",
        "--log-file=-",
        "--log-file=log",
        "--rescan=1",
    )
    node.wait_for(READY)
    shown = await node.call("getinfo")
    assert shown["id"] == secp256k1.point_of(ONE).hex()
    assert len(shown["binding"]) == 2
    log = (tmp_path / "alice" / "regtest" / "log").read_text()
    assert READY in log
    assert "--rescan has no meaning here" in log
    assert node.end() == 0
    chain.close()


@pytest.mark.slow
async def test_a_node_may_bring_its_own_chain(tmp_path: Path) -> None:
    port = _free_port()
    node = RillNode(tmp_path / "alice", port, "--chain=embedded")
    node.wait_for(READY)
    assert (await node.call("getinfo"))["blockheight"] == 150
    other = RillNode(tmp_path / "bob", port)
    other.wait_for(READY)
    assert [program.end() for program in (other, node)] == [0, 0]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
