"""Commands about the node itself, its peers and the network it knows."""

from pathlib import Path
from typing import Any

import msgspec
import trio

from gossip.graph import Channel as GraphChannel
from gossip.graph import Node as GraphNode
from gossip.graph import Policy
from htlc.channel import Phase
from node.daemon.node import Node
from node.daemon.rpc import Command, Commands
from node.daemon.rpc_parameters import (
    NodeId,
    ShortChannelId,
    Text,
    at_most_one,
)
from node.daemon.rpc_peers import address_view
from node.daemon.rpc_views import is_over, policy_view
from node.daemon.version import VERSION
from wire.crypto.secp256k1 import Point
from wire.features import INVOICE, NODE_ANNOUNCEMENT, OUR_INIT
from wire.node_address import Address, Dns, Ipv4, Ipv6, TorV3, read_addresses
from wire.scid import text_of
from wire.units import msat


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
        self.stopped, self.ended = trio.Event(), trio.Event()
        self.is_ended_by_others = False  # who sets `ended`
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
            "binding": [address_view(host, port) for host, port in node.bindings],
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
        if self.is_ended_by_others:
            await self.ended.wait()
        return {"result": "Shutdown complete"}

    async def help(self, command: Text | None = None) -> dict[str, Any]:
        """The commands, or one of them, and what they take."""
        assert self.commands is not None, "the table is made before it is asked"
        found = [await self.commands.find(command)] if command else await self.commands.all()
        return {"help": [_help_of(each) for each in found]}

    # --- the network

    async def listchannels(
        self,
        short_channel_id: ShortChannelId | None = None,
        source: NodeId | None = None,
        destination: NodeId | None = None,
    ) -> dict[str, Any]:
        """The channels that we know of, each direction for itself."""
        found: list[dict[str, Any]] = []
        at_most_one(short_channel_id=short_channel_id, source=source, destination=destination)
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
