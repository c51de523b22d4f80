"""A real node whose fees a policy sets: what it sees is its own ledger and what gossip has told it."""

from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec

from gossip.graph import Policy
from htlc.channel import Channel, Phase
from htlc.relay import Toll
from node.daemon.node import Node
from node.lab.fees.advice import Adviser, Sight
from node.lab.flow.engine import SECOND_US
from node.lab.testnet.members import NodeHere
from wire.discount import NO_DISCOUNT
from wire.units import Msat, msat

SETTLED = "settled"


class Steward:
    """One node's policy at work. A node that is away asks nothing; nobody asks for a closed channel."""

    def __init__(self, member: NodeHere, adviser: Adviser, channels: Mapping[bytes, int]) -> None:
        """The channels are all of the network, in the scenario's order, with their short_channel_ids."""
        self._member, self._adviser = member, adviser
        self._channels = channels
        self._order = {name: place for place, name in enumerate(channels.values())}
        self.every_us = round(adviser.policy.every_seconds * SECOND_US)
        self._read = 0  # the last passage that was counted
        self._fees_msat, self._forwarded = Counter[int](), Counter[int]()

    async def look(self) -> None:
        """Ask the policy for every channel, and say what is new."""
        node = self._member.node
        if node is None or not self._member.is_up:
            return
        self._count(node)
        for channel_id in self._channels:
            channel = node.switch.channels.get(channel_id)
            if channel is None or channel.phase is not Phase.NORMAL:
                continue
            asked = self._adviser.ask(channel_id, self._sight(node, channel))
            toll = node.switch.toll_of(channel)
            inbound = toll.inbound if asked.inbound is None else asked.inbound
            wanted = msgspec.structs.replace(asked.toll, inbound=inbound)
            if wanted != toll:
                await self._member.set_toll(channel_id.hex(), wanted)

    def _count(self, node: Node) -> None:
        """Add up what was passed on since the last look, by the channel that it left over."""
        for passage in node.switch.ledger.passages():
            if passage.created_index > self._read and passage.status == SETTLED:
                self._fees_msat[passage.out_channel] += passage.in_msat - passage.out_msat
                self._forwarded[passage.out_channel] += 1
            self._read = max(self._read, passage.created_index)

    def _sight(self, node: Node, channel: Channel) -> Sight:
        name = self._channels[channel.id]
        flying_msat = sum(htlc.amount_msat for htlc in channel.htlcs.local.values())
        return Sight(
            msgspec.structs.replace(node.switch.toll_of(channel), inbound=NO_DISCOUNT),
            msat(channel.charter.funding_sat),
            channel.settled_msat.local - flying_msat,
            self._fees_msat[name],
            self._forwarded[name],
            list(self._rivals(node, channel)),
        )

    def _rivals(self, node: Node, channel: Channel) -> Iterator[Toll]:
        """What others ask for passing on to the same peer, over channels that are open, as gossip has it."""
        graph, peer = node.graph, channel.charter.peer_id
        for rival in sorted(graph.channels_of(peer), key=lambda each: self._order[each.short_channel_id]):
            other = rival.other_end(peer)
            policy = graph.policy(rival.short_channel_id, rival.direction_from(other))
            if other != node.node_id and policy is not None and not policy.is_disabled:
                yield _toll(policy, msat(rival.capacity_sat))


def _toll(policy: Policy, capacity_msat: Msat) -> Toll:
    """What a policy asks; a limit that only the channel's size sets is none."""
    most_msat = policy.htlc_maximum_msat
    return Toll(
        policy.fee_base_msat,
        policy.fee_proportional_millionths,
        policy.cltv_expiry_delta,
        policy.htlc_minimum_msat,
        Msat(0) if most_msat >= capacity_msat else most_msat,
    )
