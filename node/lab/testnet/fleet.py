"""All nodes of a testnet together: from nothing, or from what was there, to routable."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any

import msgspec
import trio

from node.lab.daemons import HOST
from node.lab.scenario.model import ChannelSpec, Scenario
from node.lab.testnet.grounds import LOOK_SECONDS, Ground
from node.lab.testnet.members import Member
from node.lab.testnet.place import OPEN, Place
from wire.bitcoin.address import script_of
from wire.bitcoin.tx import TxOut
from wire.units import Sat

CONFIRMATIONS = 6
FUNDING_FEES_SAT = 100_000
STARTED_AT_ONCE = 8

Say = Callable[[str], None]


class Fleet:
    """The nodes of one network by their names, on one chain."""

    def __init__(self, place: Place, scenario: Scenario, ground: Ground, members: dict[str, Member]) -> None:
        self.place, self.scenario, self.ground, self.members = place, scenario, ground, members

    async def raise_all(self, nursery: trio.Nursery, say: Say) -> None:
        """Start every node, open what is not open yet, and return when all are routable.

        Raises:
            CommandFailed, OSError, DaemonFailed: a node does not do what it should.
        """
        say(f"starting {len(self.members)} nodes")
        limit = trio.CapacityLimiter(STARTED_AT_ONCE)
        await together(partial(_within, limit, partial(m.start, nursery)) for m in self.members.values())
        self._keep_ports()
        if not self.scenario.channel:
            return
        if not self.place.setup().channel_ids:
            say("giving coins to those who open channels")
            await self._fund()
            say(f"opening {len(self.scenario.channel)} channels")
            opened = await self._open_all()
            channel_ids = tuple([channel["channel_id"] for channel in opened])
            self.place.keep(msgspec.structs.replace(self.place.setup(), channel_ids=channel_ids))
            await self._set_tolls(channel_ids)
            await self._bury([channel["txid"] for channel in opened])
            standing = [channel.nodes for channel in self.scenario.channel]
        else:
            say("connecting the nodes")
            standing = await self._standing()
            await together(partial(self.connect, *nodes) for nodes in set(standing))
        say("waiting until every node knows every channel")
        await self._wait_until_routable(standing)

    async def revive(self, nursery: trio.Nursery) -> list[str]:
        """Start the nodes that have ended, and return their names once all are routable again.

        Raises:
            CommandFailed, OSError, DaemonFailed: a node does not do what it should.
        """
        gone = [name for name, member in self.members.items() if not await _answers(member)]
        limit = trio.CapacityLimiter(STARTED_AT_ONCE)
        await together(partial(_within, limit, partial(self.members[n].start, nursery)) for n in gone)
        self._keep_ports()
        if gone:
            standing = await self._standing()
            torn = [nodes for nodes in set(standing) if not set(nodes).isdisjoint(gone)]
            await together(partial(self.connect, *nodes) for nodes in torn)
            await self._wait_until_routable(standing)
        return gone

    async def _standing(self) -> list[tuple[str, str]]:
        """The ends of all public channels between our nodes that are open now."""
        names = {member.node_id: name for name, member in self.members.items()}
        found: dict[str, tuple[str, str]] = {}
        for name, member in self.members.items():
            for channel in (await member.call("listpeerchannels"))["channels"]:
                peer = names.get(channel["peer_id"])
                if peer is not None and channel["state"] == OPEN and not channel["private"]:
                    found.setdefault(channel["channel_id"], (name, peer))
        return list(found.values())

    async def _wait_until_routable(self, standing: Sequence[tuple[str, str]]) -> None:
        """Return once these channels are usable, and every node at one of them knows of all."""
        counts = Counter(name for nodes in standing for name in nodes)
        await together(partial(self.members[name].wait_for_usable, counts[name]) for name in counts)
        await together(
            partial(self.members[name].wait_for_graph, len(standing), len(counts)) for name in counts
        )

    async def connect(self, a: str, b: str) -> None:
        """Be connected."""
        other = self.members[b]
        await self.members[a].call("connect", id=other.node_id, host=HOST, port=other.port)

    def _keep_ports(self) -> None:
        ports = {name: member.port for name, member in self.members.items()}
        self.place.keep(msgspec.structs.replace(self.place.setup(), ports=ports))

    async def _fund(self) -> None:
        """One coin for every channel, so that no opening waits for another's change."""
        outputs = []
        for channel in self.scenario.channel:
            address = (await self.members[channel.nodes[0]].call("newaddr"))["bech32"]
            outputs.append(TxOut(Sat(channel.capacity_sat + FUNDING_FEES_SAT), script_of(address, "regtest")))
        await self.ground.fund(outputs)
        await self.follow()

    async def _open_all(self) -> list[dict[str, Any]]:
        opened: dict[int, dict[str, Any]] = {}
        turns = {name: trio.Lock() for name in self.members}

        async def open_one(number: int, channel: ChannelSpec) -> None:
            opener, accepter = channel.nodes
            async with turns[opener]:
                await self.connect(opener, accepter)
                opened[number] = await self.members[opener].call(
                    "fundchannel",
                    id=self.members[accepter].node_id,
                    amount=channel.capacity_sat,
                    push_msat=channel.push_msat,
                )

        # of one node's channels the largest is opened first, or a smaller one might take its coin
        numbered = sorted(enumerate(self.scenario.channel), key=lambda each: -each[1].capacity_sat)
        await together(partial(open_one, *each) for each in numbered)
        return [opened[number] for number in sorted(opened)]

    async def _set_tolls(self, channel_ids: Iterable[str]) -> None:
        for channel_id, channel in zip(channel_ids, self.scenario.channel, strict=True):
            for name in channel.nodes:
                await self.members[name].set_toll(channel_id, self.scenario.toll_of(channel, name))

    async def _bury(self, txids: list[str]) -> None:
        # a miner learns of transactions by looking: the chain tells of blocks only
        while not await self.ground.is_waiting(txids):  # noqa: ASYNC110
            await trio.sleep(LOOK_SECONDS)
        await self.mine(CONFIRMATIONS)

    async def mine(self, count: int) -> int:
        """Mine, and return the height once every node that is up has read it."""
        height = await self.ground.mine(count)
        await self.follow()
        return height

    async def follow(self) -> None:
        """Return once every node that is up has read the chain to its tip."""
        height = await self.ground.height()
        await together(partial(m.wait_for_height, height) for m in self.members.values() if m.is_up)

    async def stop(self) -> None:
        """End every node."""
        await together(member.stop for member in self.members.values())


async def _answers(member: Member) -> bool:
    try:
        await member.call("getinfo")
    except OSError:
        return False
    return True


async def together(acts: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Do all of these at once; what one raises comes alone."""
    try:
        async with trio.open_nursery() as nursery:
            for act in acts:
                nursery.start_soon(act)
    except ExceptionGroup as group:
        raise _first(group) from None


def _first(group: ExceptionGroup[Exception]) -> Exception:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first


async def _within(limit: trio.CapacityLimiter, act: Callable[[], Awaitable[None]]) -> None:
    async with limit:
        await act()
