"""What may be asked of a running testnet, over its control socket."""

import os
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from node.daemon.rpc import SOCKET_NAME
from node.daemon.rpc_parameters import AmountMsat, CommandFailed, Integer, Text
from node.lab.daemons import HOST, PASSWORD, USER, DaemonFailed
from node.lab.testnet.fleet import Fleet
from node.lab.testnet.grounds import PoorMiner
from node.lab.testnet.members import Member
from node.lab.testnet.place import NETWORK
from wire.bitcoin.address import script_of
from wire.bitcoin.tx import TxOut
from wire.units import MAX_SAT, Sat

UNKNOWN_NODE, NOT_READY, BAD_COUNT = -1, -2, -3
MOST_BLOCKS = 10_000
DUST_SAT = 546
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
        self.on_revive: Callable[[], Awaitable[list[str]]] | None = None
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
        if not amount_msat:
            raise CommandFailed(BAD_COUNT, "there is nothing to pay")
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

    async def fund(self, node: Text, amount_sat: Integer) -> dict[str, Any]:
        """Give a node's wallet coins from the miner's, confirmed."""
        member = self._member(node)
        if not DUST_SAT <= amount_sat <= MAX_SAT:
            raise CommandFailed(BAD_COUNT, f"{amount_sat} sat is not between {DUST_SAT} and {MAX_SAT}")
        try:
            address = (await member.call("newaddr"))["bech32"]
            await self._ready().ground.fund([TxOut(Sat(amount_sat), script_of(address, NETWORK))])
            await self._ready().follow()
        except OSError as gone:
            raise CommandFailed(NOT_READY, str(gone)) from None
        except PoorMiner as poor:
            raise CommandFailed(BAD_COUNT, str(poor)) from None
        return {"node": node, "amount_sat": amount_sat, "address": address}

    async def view(self, port: Integer = 0) -> dict[str, Any]:
        """Serve the page, if it is not served yet; where it is."""
        self._ready()
        assert self.on_view is not None, "a network that is ready can be viewed"
        return {"url": await self.on_view(port)}

    async def revive(self) -> dict[str, Any]:
        """Start the nodes that have ended; who they were."""
        self._ready()
        assert self.on_revive is not None, "a network that is ready can be revived"
        try:
            return {"revived": await self.on_revive()}
        except (OSError, DaemonFailed) as failed:
            raise CommandFailed(NOT_READY, str(failed)) from None

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
    seen: dict[str, list[dict[str, Any]]] = {}
    nodes = []
    for name, member in fleet.members.items():
        directory = fleet.place.node_directory(name)
        node: dict[str, Any] = {"name": name, "up": member.is_up, "directory": str(directory)}
        try:
            about = await member.call("getinfo")
            channels = (await member.call("listpeerchannels"))["channels"]
        except OSError:
            node["up"] = False
        else:
            seen[name] = channels
            node |= {
                "id": member.node_id,
                "host": HOST,
                "port": member.port,
                "socket": str(directory / NETWORK / SOCKET_NAME),
                "fees_earned_msat": about["fees_collected_msat"],
                "balance_msat": sum(channel["to_us_msat"] for channel in channels),
            }
        nodes.append(node)
    return {
        "name": fleet.scenario.name,
        "height": await fleet.ground.height(),
        "chain": {
            "network": NETWORK,
            "backend": fleet.place.setup().backend,
            "host": HOST,
            "rpcport": fleet.ground.rpc_port,
            "rpcuser": USER,
            "rpcpassword": PASSWORD,
        },
        "nodes": nodes,
        "channels": _channels(fleet, seen),
    }


def _channels(fleet: Fleet, seen: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The scenario's channels and then whatever was opened since, as whichever ends are up see them."""
    names = {member.node_id: name for name, member in fleet.members.items()}
    specs = zip(fleet.place.setup().channel_ids, fleet.scenario.channel, strict=False)
    ends = {channel_id: (*spec.nodes, spec.capacity_sat) for channel_id, spec in specs}
    sides: dict[str, dict[str, dict[str, Any]]] = {}
    for name, channels in seen.items():
        for channel in channels:
            # a peer that is none of ours goes by its id
            peer = names.get(channel["peer_id"], channel["peer_id"])
            ends.setdefault(channel["channel_id"], (name, peer, channel["total_msat"] // 1000))
            sides.setdefault(channel["channel_id"], {})[name] = channel
    return [
        {
            "nodes": [a, b],
            "channel_id": channel_id,
            "capacity_sat": capacity_sat,
            **_view([sides.get(channel_id, {}).get(name) for name in (a, b)]),
        }
        for channel_id, (a, b, capacity_sat) in ends.items()
    ]


def _view(sides: list[dict[str, Any] | None]) -> dict[str, Any]:
    """What both ends of a channel say of it, as far as they are there."""
    known = next((side for side in sides if side is not None), None)
    if known is None:
        return {}
    ours = known["to_us_msat"]
    pair = [ours, known["total_msat"] - ours]
    return {
        "short_channel_id": known.get("short_channel_id"),
        "state": known["state"],
        "connected": known["peer_connected"],
        "balances_msat": pair if sides[0] is not None else pair[::-1],
        "htlcs": len(known.get("htlcs", [])),
        "fees": [_fees(side) for side in sides],
    }


def _fees(side: dict[str, Any] | None) -> dict[str, int] | None:
    if side is None:
        return None
    terms = side.get("updates", {}).get("local", side)
    return {name: terms[name] for name in ("fee_base_msat", "fee_proportional_millionths") if name in terms}
