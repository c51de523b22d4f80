"""Streams to other nodes: straight, or over a SOCKS5 proxy (RFC 1928), such as Tor's."""

import msgspec
import trio

from node.chain.hosts import resolvable

ONION_SUFFIX = ".onion"
PROXY_SECONDS = 60.0
_REPLIES = {
    1: "it failed",
    2: "its rules forbid it",
    3: "the network cannot be reached",
    4: "the host cannot be reached",
    5: "the connection was refused",
    6: "it took too long",
    7: "it cannot connect",
    8: "it does not know this kind of address",
}
_ADDRESS_BYTES = {1: 4, 4: 16}


class ProxyFailed(OSError):
    """The proxy makes no connection for us."""


class Proxy(msgspec.Struct, frozen=True):
    """Where a SOCKS5 proxy listens, and whether it is for every address or for Tor's alone."""

    host: str
    port: int
    is_for_all: bool = False

    def is_for(self, host: str) -> bool:
        """Whether this host is reached over it."""
        return self.is_for_all or host.endswith(ONION_SUFFIX)


async def open_stream(host: str, port: int, proxy: Proxy | None = None) -> trio.SocketStream:
    """A connection.

    Raises:
        OSError: there is none.
    """
    if proxy is None or not proxy.is_for(host):
        return await trio.open_tcp_stream(resolvable(host), port)
    stream = await trio.open_tcp_stream(resolvable(proxy.host), proxy.port)
    try:
        with trio.fail_after(PROXY_SECONDS):
            await _ask(stream, host, port)
    except (trio.TooSlowError, trio.BrokenResourceError):
        await trio.aclose_forcefully(stream)
        raise ProxyFailed(f"the proxy {proxy.host}:{proxy.port} does not answer") from None
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def _ask(stream: trio.SocketStream, host: str, port: int) -> None:
    """Name the host as text: the proxy looks it up, so that nobody else learns whom we call."""
    await stream.send_all(b"\x05\x01\x00")
    if await _exactly(stream, 2) != b"\x05\x00":
        raise ProxyFailed("the proxy wants a password")
    name = host.encode("idna")
    await stream.send_all(b"\x05\x01\x00\x03" + bytes((len(name),)) + name + port.to_bytes(2, "big"))
    _, reply, _, kind = await _exactly(stream, 4)
    if reply:
        raise ProxyFailed(f"the proxy says: {_REPLIES.get(reply, f'error {reply}')}")
    length = _ADDRESS_BYTES.get(kind) or (await _exactly(stream, 1))[0]
    await _exactly(stream, length + 2)


async def _exactly(stream: trio.SocketStream, size: int) -> bytes:
    received = b""
    while len(received) < size:
        more = await stream.receive_some(size - len(received))
        if not more:
            raise trio.BrokenResourceError
        received += more
    return received
