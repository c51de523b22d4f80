"""Commands about the node itself, its peers and the network it knows."""

from pathlib import Path
from typing import Any

import msgspec
import trio

from gossip.graph import Channel as GraphChannel
from gossip.graph import Node as GraphNode
from gossip.graph import Policy
from htlc.channel import Channel, Phase
from node.daemon.node import Node
from node.daemon.peer import PeerGone
from node.daemon.reconnect import Unreachable
from node.daemon.rpc import Command, Commands
from node.daemon.rpc_parameters import (
    INVALID_PARAMETERS,
    Boolean,
    CommandFailed,
    Integer,
    NodeId,
    ShortChannelId,
    Text,
)
from node.daemon.rpc_views import is_over, policy_view
from node.daemon.version import VERSION
from wire.crypto.secp256k1 import Point, is_point
from wire.features import INVOICE, NODE_ANNOUNCEMENT, OUR_INIT
from wire.node_address import Address, Dns, Ipv4, Ipv6, TorV3, read_addresses
from wire.scid import text_of
from wire.units import msat

NO_KNOWN_ADDRESS = 400
ALL_ADDRESSES_FAILED = 401
DISCONNECTED_DURING = 402
UNKNOWN_PEER = -1

DEFAULT_PORTS = {"bitcoin": 9735, "testnet": 19735, "testnet4": 49735, "signet": 39735, "regtest": 19846}


class Identity(msgspec.Struct, frozen=True):
    """What `getinfo` says beside what the node itself knows."""

    directory: Path
    alias: str
    configs: dict[str, dict[str, Any]] = {}  # what it was started with, as `listconfigs` shows it


class GeneralCommands:
    """The node, its peers, the graph."""

    def __init__(self, node: Node, identity: Identity) -> None:
        self._node, self._identity = node, identity
        self._network = node.chain.network
        self.stopped = trio.Event()
        self.commands: Commands | None = None

    async def getinfo(self) -> dict[str, Any]:
        """Who this node is, and how it is."""
        node = self._node
        open_channels = [channel for channel in node.channels() if not is_over(node, channel)]
        pending = [
            c for c in open_channels if c.phase in (Phase.AWAITING_FUNDING, Phase.NORMAL) and not c.is_usable
        ]
        active = [c for c in open_channels if c.is_usable]
        return {
            "id": node.node_id.hex(),
            "alias": self._identity.alias,
            "color": node.gossiper.rgb_color.hex(),
            "num_peers": len(node.switch.peers),
            "num_pending_channels": len(pending),
            "num_active_channels": len(active),
            "num_inactive_channels": len(open_channels) - len(pending) - len(active),
            "address": [_announced_view(address) for address in node.gossiper.addresses],
            "binding": [_address_view(host, port) for host, port in node.bindings],
            "version": VERSION,
            "blockheight": node.switch.height,
            "network": self._network,
            "fees_collected_msat": node.switch.ledger.fees_msat,
            "lightning-dir": str(self._identity.directory),
            "our_features": {
                "init": OUR_INIT.to_bytes().hex(),
                "node": NODE_ANNOUNCEMENT.to_bytes().hex(),
                "channel": "",
                "invoice": INVOICE.to_bytes().hex(),
            },
        }

    async def stop(self) -> dict[str, Any]:
        """End the node."""
        self.stopped.set()
        return {"result": "Shutdown complete"}

    async def help(self, command: Text | None = None) -> dict[str, Any]:
        """The commands, or one of them, and what they take."""
        assert self.commands is not None, "the table is made before it is asked"
        found = [self.commands.find(command)] if command else self.commands.by_name.values()
        return {"help": [_help_of(each) for each in found]}

    # --- peers

    async def connect(
        self, id: Text, host: Text | None = None, port: Integer | None = None
    ) -> dict[str, Any]:
        """Be connected to a node: its id, or all in one as ID@HOST:PORT."""
        node_id, host, port = _where(id, host, port, DEFAULT_PORTS[self._network])
        node = self._node
        if host is None and node_id not in node.switch.peers:
            host, port = self._known_address(node_id)
        try:
            await node.connect(node_id, host or "", port)
        except Unreachable as away:
            raise CommandFailed(ALL_ADDRESSES_FAILED, f"All addresses failed: {away}") from None
        except PeerGone as gone:
            raise CommandFailed(DISCONNECTED_DURING, str(gone)) from None
        peer = node.switch.peers.get(node_id)
        if peer is None:
            raise CommandFailed(DISCONNECTED_DURING, "the peer disconnected at once")
        address = _address_view(host, port) if host else {"type": "local socket", "socket": ""}
        features = peer.features.to_bytes().hex()
        return {"id": node_id.hex(), "features": features, "direction": "out", "address": address}

    def _known_address(self, node_id: Point) -> tuple[str, int]:
        """Where a node was reached before, or says that it is."""
        known = self._node.address_of(node_id)
        if known is not None:
            return known
        raise CommandFailed(NO_KNOWN_ADDRESS, f"Unable to connect, no address known for peer {node_id.hex()}")

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
        return view if peer is None else {**view, "netaddr": [], "features": peer.features.to_bytes().hex()}

    def _channels_with(self, node_id: Point) -> list[Channel]:
        return [channel for channel in self._node.channels() if channel.charter.peer_id == node_id]

    # --- the network

    async def listchannels(
        self,
        short_channel_id: ShortChannelId | None = None,
        source: NodeId | None = None,
        destination: NodeId | None = None,
    ) -> dict[str, Any]:
        """The channels that we know of, each direction for itself."""
        found: list[dict[str, Any]] = []
        graph = self._node.graph
        for channel in graph.channels.values():
            if short_channel_id not in (None, channel.short_channel_id):
                continue
            for direction in (0, 1):
                ends = channel.end(direction), channel.end(1 - direction)
                policy = graph.policy(channel.short_channel_id, direction)
                if policy is not None and source in (None, ends[0]) and destination in (None, ends[1]):
                    found.append(_edge_view(channel, direction, policy))
        return {"channels": found}

    async def listnodes(self, id: NodeId | None = None) -> dict[str, Any]:
        """The nodes that we know of."""
        graph = self._node.graph
        known = [node_id for node_id in graph.index if id in (None, node_id)]
        return {"nodes": [_node_view(node_id, graph.nodes.get(node_id)) for node_id in known]}


def _help_of(command: Command) -> dict[str, str]:
    return {
        "command": command.usage,
        "category": "rill",
        "description": command.purpose,
        "verbose": command.purpose,
    }


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


def _address_view(host: str, port: int) -> dict[str, Any]:
    is_ip = host.replace(".", "").isdigit() or ":" in host
    kind = "ipv6" if ":" in host else "ipv4" if is_ip else "dns"
    return {"type": kind, "address": host, "port": port}


def _announced_view(address: Address) -> dict[str, Any]:
    kinds = {Ipv4: "ipv4", Ipv6: "ipv6", TorV3: "torv3", Dns: "dns"}
    assert isinstance(address, Ipv4 | Ipv6 | TorV3 | Dns), "the others cannot be shown"
    return {"type": kinds[type(address)], "address": address.host, "port": address.port}


def _edge_view(channel: GraphChannel, direction: int, policy: Policy) -> dict[str, Any]:
    terms = policy_view(policy)
    return {
        "source": channel.end(direction).hex(),
        "destination": channel.end(1 - direction).hex(),
        "short_channel_id": text_of(channel.short_channel_id),
        "direction": direction,
        "public": channel.is_announced,
        "amount_msat": msat(channel.capacity_sat),
        "message_flags": 1,
        "channel_flags": direction | policy.is_disabled << 1,
        "active": not policy.is_disabled,
        "last_update": policy.timestamp,
        "base_fee_millisatoshi": terms["fee_base_msat"],
        "fee_per_millionth": terms["fee_proportional_millionths"],
        "delay": terms["cltv_expiry_delta"],
        "htlc_minimum_msat": terms["htlc_minimum_msat"],
        "htlc_maximum_msat": terms["htlc_maximum_msat"],
        "features": "",
    }


def _node_view(node_id: Point, announced: GraphNode | None) -> dict[str, Any]:
    if announced is None:
        return {"nodeid": node_id.hex()}
    return {
        "nodeid": node_id.hex(),
        "alias": announced.alias.rstrip(b"\0").decode(errors="replace"),
        "color": announced.rgb_color.hex(),
        "last_timestamp": announced.timestamp,
        "features": announced.features.hex(),
        "addresses": [
            _announced_view(address)
            for address in read_addresses(announced.addresses)
            if isinstance(address, Ipv4 | Ipv6 | TorV3 | Dns)
        ],
    }
