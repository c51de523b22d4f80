"""One payment under way: what it has sent, and what it has learned from what came back (BOLT 4).

Everything learned here ends with the payment. A channel_update inside a failure may be a lie told
to us alone, to recognise us by what we do with it, so it changes this payment's routes and
nothing that anybody else can see (failures.2). What later payments may know is in `lessons`.
"""

from collections import Counter

import msgspec
import trio

from gossip.errors import BadGossip
from gossip.graph import Graph, Policy, directed, directed_parts
from gossip.no_route import NoRoute
from gossip.private import Hint, private_view
from gossip.routes import Hop, Route
from gossip.validation import DIRECTION, check_channel_update, policy_of
from node.daemon.blinded_ways import Blinded
from node.daemon.payments import Attempt
from onion.failures import Failure, FailureCode
from wire.codec import DecodeError
from wire.crypto.secp256k1 import Point
from wire.messages.catalogue import decode_as
from wire.messages.gossip import ChannelUpdate
from wire.units import MAX_MSAT, msat

_TYPE = b"\x01\x02"  # channel_update; some nodes leave it out
_WRONG_HTLC = (FailureCode.final_incorrect_cltv_expiry, FailureCode.final_incorrect_htlc_amount)


class Errand:
    """What one payment knows, and which of its HTLCs are on their way."""

    def __init__(self, hints: tuple[Hint, ...] = (), blinded: Blinded | None = None) -> None:
        self.is_over = False  # nobody waits for it any more
        self.is_hopeless = False  # no further attempt makes sense
        self.is_payees_wish = False
        self.why = ""
        self.no_route: NoRoute | None = None
        self.made = 0
        self.flying: dict[int, tuple[Attempt, Route]] = {}
        self.arrived: list[Attempt] = []
        self._news = trio.Event()
        self.hints, self._blinded = hints, blinded
        self.policies: dict[int, Policy] = {}  # by the number of the directed channel
        self.nodes: set[Point] = set()  # to go round
        self._ceilings: dict[int, int] = {}  # what a directed channel could not carry for us

    # --- what is on its way

    @property
    def carried_msat(self) -> Counter[int]:
        """What is on its way over each directed channel, by its number."""
        carried: Counter[int] = Counter()
        for _, route in self.flying.values():
            for hop in route.hops:
                carried[_number(hop)] += hop.amount_msat
        return carried

    @property
    def promised_msat(self) -> int:
        """What the payee gets if all that is on its way arrives."""
        return sum(route.amount_msat for _, route in self.flying.values())

    @property
    def fees_msat(self) -> int:
        return sum(route.fee_msat for _, route in self.flying.values())

    def tell(self) -> None:
        """Some attempt has ended."""
        self._news.set()

    async def wait_for_news(self) -> None:
        """Return once some attempt has ended."""
        await self._news.wait()
        self._news = trio.Event()

    def land(self) -> list[tuple[Attempt, Route]]:
        """The attempts that have ended since the last time."""
        ended = [pair for pair in self.flying.values() if pair[0].is_over]
        for attempt, _ in ended:
            del self.flying[attempt.row.id]
            if attempt.preimage is not None:
                self.arrived.append(attempt)
        return ended

    # --- where to go

    def view(self, graph: Graph) -> Graph:
        """The graph as this payment sees it."""
        return private_view(graph, self.hints, self.policies)

    def room_msat(self, graph: Graph) -> dict[int, int]:
        """What directed channels may carry on top of what they carry, where this payment knows."""
        carried, room = self.carried_msat, dict[int, int]()
        for number in {*carried, *self._ceilings}:
            channel = graph.channels.get(directed_parts(number)[0])
            most_msat = MAX_MSAT if channel is None else int(msat(channel.capacity_sat))
            if number in self._ceilings:
                most_msat = min(most_msat, self._ceilings[number] - 1)
            room[number] = max(0, most_msat - carried[number])
        return room

    # --- what is learned

    def cap(self, hop: Hop, amount_msat: int) -> None:
        """This hop's channel did not carry so much on top of what it carries."""
        ceiling = amount_msat + self.carried_msat[_number(hop)]
        self._ceilings[_number(hop)] = min(ceiling, self._ceilings.get(_number(hop), ceiling))

    def avoid(self, hop: Hop) -> None:
        """Do not use this hop's channel."""
        self._ceilings[_number(hop)] = 0

    def learn(self, attempt: Attempt, route: Route, graph: Graph, now_seconds: int) -> None:
        """Avoid what failed, or find that nothing helps."""
        hops, attributed = route.hops, attempt.attributed
        if attributed is None:
            self._learn_from_nothing(hops, len(attempt.hold_times))
            return
        index, failure = attributed.hop_index, attributed.failure
        if self._blinded is not None and index >= len(hops) - 2:
            self._learn_from_blinded(self._blinded, failure, route)
        elif index == len(hops) - 1:
            self._learn_from_payee(failure, hops)
        elif failure is None or failure.is_node or failure.is_bad_onion:
            self.nodes.add(hops[index].node_id)
        else:
            after = hops[index + 1]
            is_corrected = self._corrects(failure, after, graph, now_seconds)
            if failure.code == FailureCode.temporary_channel_failure:
                self.cap(after, route.amount_msat)
            elif not is_corrected:
                self.avoid(after)

    def _learn_from_nothing(self, hops: tuple[Hop, ...], proved_hops: int) -> None:
        """Nobody can read the failure; so many hops have proved that they did not garble it."""
        if 0 < proved_hops < len(hops):
            # failures.5: the last of them, or the one behind it
            self.avoid(hops[proved_hops])
            return
        # anybody but our peer may have done it: avoid what comes after the first hop
        for hop in hops[1:]:
            self.avoid(hop)
        self.is_hopeless |= len(hops) == 1

    def _learn_from_payee(self, failure: Failure | None, hops: tuple[Hop, ...]) -> None:
        """It answers for others on the way only if they gave it the wrong HTLC."""
        if failure is not None and failure.code in _WRONG_HTLC and len(hops) > 1:
            self.nodes.add(hops[-2].node_id)
            return
        self.is_hopeless = True
        self.is_payees_wish = failure is None or failure.code != FailureCode.mpp_timeout

    def _learn_from_blinded(self, blinded: Blinded, failure: Failure | None, route: Route) -> None:
        """The first node of a blinded path answers for all of it, and does not say why."""
        if blinded.is_at_its_end(route):
            self._learn_from_payee(failure, route.hops[:-1])
        else:
            # it may be the payee's word as well as want of money: the next try shall tell them apart
            self.cap(route.hops[-1], route.amount_msat // 2 + 1)

    def _corrects(self, failure: Failure, hop: Hop, graph: Graph, now_seconds: int) -> bool:
        """Whether the failure brings other terms for the hop's channel than we knew; they count now."""
        policy = _policy_in(failure, hop, graph, now_seconds)
        number = _number(hop)
        known = self.policies.get(number) or graph.policies.get(number)
        if policy is None or known is None or policy.timestamp < known.timestamp:
            return False
        is_new = _terms(policy) != _terms(known)
        if is_new:
            self.policies[number] = policy
        return is_new and not policy.is_disabled


def _number(hop: Hop) -> int:
    return directed(hop.short_channel_id, hop.direction)


def _terms(policy: Policy) -> Policy:
    return msgspec.structs.replace(policy, timestamp=0)


def _policy_in(failure: Failure, hop: Hop, graph: Graph, now_seconds: int) -> Policy | None:
    """What the owner of the hop's channel asks for, if the failure proves it."""
    raw, channel = failure.channel_update, graph.channels.get(hop.short_channel_id)
    if channel is None or not raw:
        return None
    raw = raw if raw.startswith(_TYPE) else _TYPE + raw
    try:
        update = decode_as(ChannelUpdate, raw)
        check_channel_update(update, raw, channel, None, now_seconds)
    except (DecodeError, BadGossip):
        return None
    named = update.short_channel_id, update.channel_flags & DIRECTION
    return policy_of(update) if named == (hop.short_channel_id, hop.direction) else None
