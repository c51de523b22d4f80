"""Commands about peers: to be connected to them, and to be so no longer."""

from typing import Any

from htlc.channel import Channel
from node.daemon.node import Node
from node.daemon.peer import Peer, PeerGone
from node.daemon.reconnect import Unreachable
from node.daemon.rpc_parameters import INVALID_PARAMETERS, Boolean, CommandFailed, Integer, NodeId, Text
from node.daemon.rpc_views import is_over
from wire.crypto.secp256k1 import Point, is_point

NO_KNOWN_ADDRESS = 400
ALL_ADDRESSES_FAILED = 401
DISCONNECTED_DURING = 402
UNKNOWN_PEER = -1

DEFAULT_PORTS = {"bitcoin": 9735, "testnet": 19735, "testnet4": 49735, "signet": 39735, "regtest": 19846}


class PeerCommands:
    """Who we are connected to."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def connect(
        self, id: Text, host: Text | None = None, port: Integer | None = None
    ) -> dict[str, Any]:
        """Be connected to a node: its id, or all in one as ID@HOST:PORT."""
        peer, address = await reach(self._node, id, host, port)
        return {
            "id": peer.node_id.hex(),
            "features": peer.features.to_bytes().hex(),
            "direction": "out" if peer.we_called else "in",
            "address": address_view(*address) if address else {"type": "local socket", "socket": ""},
        }

    async def disconnect(self, id: NodeId, force: Boolean = False) -> dict[str, Any]:
        """Close the connection to a peer; with channels only if it is forced."""
        if id not in self._node.switch.peers:
            raise CommandFailed(UNKNOWN_PEER, "Peer not connected")
        if not force and any(not is_over(self._node, c) for c in self._channels_with(id)):
            raise CommandFailed(
                UNKNOWN_PEER, "Peer has (at least one) channel: force=true disconnects anyway"
            )
        await self._node.disconnect(id)
        return {}

    async def listpeers(self, id: NodeId | None = None, level: Text = "") -> dict[str, Any]:  # noqa: ARG002
        """The peers that are connected or have channels with us."""
        node = self._node
        known = {channel.charter.peer_id for channel in node.channels() if not is_over(node, channel)}
        shown = sorted(known | node.switch.peers.keys())
        return {"peers": [self._peer_view(Point(each)) for each in shown if id in (None, each)]}

    def _peer_view(self, node_id: Point) -> dict[str, Any]:
        count = sum(not is_over(self._node, channel) for channel in self._channels_with(node_id))
        peer = self._node.switch.peers.get(node_id)
        view = {"id": node_id.hex(), "connected": peer is not None, "num_channels": count}
        if peer is None:
            return view
        netaddr = [] if peer.address is None else [_joined(*peer.address)]
        return {**view, "netaddr": netaddr, "features": peer.features.to_bytes().hex()}

    def _channels_with(self, node_id: Point) -> list[Channel]:
        return [channel for channel in self._node.channels() if channel.charter.peer_id == node_id]


async def reach(
    node: Node, id: str, host: str | None = None, port: int | None = None
) -> tuple[Peer, tuple[str, int] | None]:
    """A connection to a node, made if there is none, and where it was called if that is known.

    Raises:
        CommandFailed: it cannot be reached, or the parameters cannot be meant.
    """
    node_id, host, port = _where(id, host, port, DEFAULT_PORTS[node.chain.network])
    address = None if host is None else (host, port)
    if address is None:
        address = node.address_of(node_id)
    if node_id not in node.switch.peers:
        if address is None:
            why = f"Unable to connect, no address known for peer {node_id.hex()}"
            raise CommandFailed(NO_KNOWN_ADDRESS, why)
        try:
            await node.connect(node_id, *address)
        except Unreachable as away:
            raise CommandFailed(ALL_ADDRESSES_FAILED, f"All addresses failed: {away}") from None
        except PeerGone as gone:
            raise CommandFailed(DISCONNECTED_DURING, str(gone)) from None
    peer = node.switch.peers.get(node_id)
    if peer is None:
        raise CommandFailed(DISCONNECTED_DURING, "the peer disconnected at once")
    return peer, peer.address or address


def _where(id: str, host: str | None, port: int | None, default_port: int) -> tuple[Point, str | None, int]:
    """The parts of ID, ID@HOST, ID@HOST:PORT, given alone or with a host and a port beside it."""
    text, _, rest = id.partition("@")
    if rest and host is None:
        host, colon, digits = rest.rpartition(":")
        if not colon or not digits.isdigit():
            host, digits = rest, ""
        port = int(digits) if digits else port
    try:
        node_id = bytes.fromhex(text)
    except ValueError:
        node_id = b""
    if len(node_id) != 33 or not is_point(node_id):
        raise CommandFailed(INVALID_PARAMETERS, f"id: should be a node id: invalid token '{text}'")
    return Point(node_id), host and host.strip("[]"), default_port if port is None else port


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def address_view(host: str, port: int) -> dict[str, Any]:
    is_ip = host.replace(".", "").isdigit() or ":" in host
    kind = "ipv6" if ":" in host else "ipv4" if is_ip else "dns"
    return {"type": kind, "address": host, "port": port}
