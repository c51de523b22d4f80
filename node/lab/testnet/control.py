"""What may be asked of a running testnet, over its control socket."""

import os
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from node.daemon.rpc_parameters import AmountMsat, CommandFailed, Integer, Text
from node.lab.testnet.fleet import Fleet
from node.lab.testnet.members import Member

UNKNOWN_NODE, NOT_READY, BAD_COUNT = -1, -2, -3
MOST_BLOCKS = 10_000
PAY_SECONDS = 60
MOST_FEE_MSAT = 1_000_000_000
SHOWN_PAYMENTS = 12


class Control:
    """The commands of the control socket; nodes are named."""

    def __init__(self) -> None:
        self.stage = "starting"
        self.fleet: Fleet | None = None
        self.stopped = trio.Event()
        self.paid: deque[dict[str, Any]] = deque(maxlen=SHOWN_PAYMENTS)  # the last that were asked for here
        self.on_view: Callable[[int], Awaitable[str]] | None = None

    async def status(self) -> dict[str, Any]:
        """Whether the network is up, and its nodes and channels."""
        if self.fleet is None:
            return {"ready": False, "stage": self.stage, "pid": os.getpid()}
        return {"ready": True, "pid": os.getpid(), **await overview(self.fleet)}

    async def pay(self, payer: Text, payee: Text, amount_msat: AmountMsat) -> dict[str, Any]:
        """Pay a new invoice of one node from another."""
        if payer == payee:
            raise CommandFailed(UNKNOWN_NODE, f"{payer} cannot pay itself")
        sender, receiver = self._member(payer), self._member(payee)
        label = f"testnet {secrets.token_hex(8)}"
        began = trio.current_time()
        try:
            invoice = await receiver.call(
                "invoice", amount_msat=amount_msat, label=label, description="testnet"
            )
            # on a network of one's own no fee is too high; what it was is told
            most_msat = amount_msat + MOST_FEE_MSAT
            paid = await sender.call("pay", bolt11=invoice["bolt11"], retry_for=PAY_SECONDS, maxfee=most_msat)
        except OSError as gone:
            raise CommandFailed(NOT_READY, str(gone)) from None
        told = {
            "payer": payer,
            "payee": payee,
            "amount_msat": amount_msat,
            "fee_msat": paid["amount_sent_msat"] - amount_msat,
            "seconds": round(trio.current_time() - began, 3),
        }
        self.paid.append(told)
        return {**told, "payment_preimage": paid["payment_preimage"]}

    async def mine(self, count: Integer = 1) -> dict[str, Any]:
        """Mine blocks; every node has read them when it answers."""
        if not 1 <= count <= MOST_BLOCKS:
            raise CommandFailed(BAD_COUNT, f"{count} is not between 1 and {MOST_BLOCKS} blocks")
        return {"height": await self._ready().mine(count)}

    async def view(self, port: Integer = 0) -> dict[str, Any]:
        """Serve the page, if it is not served yet; where it is."""
        self._ready()
        assert self.on_view is not None, "a network that is ready can be viewed"
        return {"url": await self.on_view(port)}

    async def down(self) -> dict[str, Any]:
        """End all nodes; what they are is kept."""
        self.stopped.set()
        return {"result": "going down"}

    def _ready(self) -> Fleet:
        if self.fleet is None:
            raise CommandFailed(NOT_READY, f"the network is not up yet: {self.stage}")
        return self.fleet

    def _member(self, name: str) -> Member:
        fleet = self._ready()
        if name not in fleet.members:
            raise CommandFailed(UNKNOWN_NODE, f"there is no node called {name}: there are {_some(fleet)}")
        return fleet.members[name]


def _some(fleet: Fleet) -> str:
    names = list(fleet.members)
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


async def overview(fleet: Fleet) -> dict[str, Any]:
    """Nodes and channels as they are now; of a node that is down only its name."""
    seen: dict[str, dict[str, dict[str, Any]]] = {}
    nodes = []
    for name, member in fleet.members.items():
        directory = str(fleet.place.node_directory(name))
        node: dict[str, Any] = {"name": name, "up": member.is_up, "directory": directory}
        try:
            about = await member.call("getinfo")
            channels = (await member.call("listpeerchannels"))["channels"]
        except OSError:
            node["up"] = False
        else:
            seen[name] = {channel["channel_id"]: channel for channel in channels}
            node |= {
                "id": member.node_id,
                "port": member.port,
                "fees_earned_msat": about["fees_collected_msat"],
                "balance_msat": sum(channel["to_us_msat"] for channel in channels),
            }
        nodes.append(node)
    return {
        "name": fleet.scenario.name,
        "height": await fleet.ground.height(),
        "nodes": nodes,
        "channels": _channels(fleet, seen),
    }


def _channels(fleet: Fleet, seen: dict[str, dict[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """The scenario's channels, as whichever end is up sees them."""
    shown = []
    for channel_id, spec in zip(fleet.place.setup().channel_ids, fleet.scenario.channel, strict=False):
        sides = [seen.get(name, {}).get(channel_id) for name in spec.nodes]
        view: dict[str, Any] = {
            "nodes": list(spec.nodes),
            "channel_id": channel_id,
            "capacity_sat": spec.capacity_sat,
        }
        known = next((side for side in sides if side is not None), None)
        if known is not None:
            ours = known["to_us_msat"]
            pair = [ours, known["total_msat"] - ours]
            view |= {
                "short_channel_id": known.get("short_channel_id"),
                "state": known["state"],
                "connected": known["peer_connected"],
                "balances_msat": pair if sides[0] is not None else pair[::-1],
                "htlcs": len(known.get("htlcs", [])),
                "fees": [_fees(side) for side in sides],
            }
        shown.append(view)
    return shown


def _fees(side: dict[str, Any] | None) -> dict[str, int] | None:
    if side is None:
        return None
    terms = side.get("updates", {}).get("local", side)
    return {name: terms[name] for name in ("fee_base_msat", "fee_proportional_millionths") if name in terms}
