"""What a scenario says: nodes, channels with balances and policies, traffic, events at times.

Plain values with no behaviour but their defaults. Names are the BOLTs' own, and a unit ends every
number. The first node of a channel opens it; `balance_sat` is what stays on its side.
"""

from typing import Annotated, Any, TypeAlias

import msgspec

from htlc.relay import Toll
from wire.units import MAX_SAT, Msat, Sat, msat

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_-]{0,31}$")]
Capacity = Annotated[int, msgspec.Meta(ge=20_000, le=MAX_SAT)]
Amount = Annotated[int, msgspec.Meta(ge=1)]
Natural = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]

DEFAULT_CAPACITY_SAT = 10_000_000


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a node asks for forwarding. What it leaves out is as its surroundings say."""

    fee_base_msat: Natural | None = None
    fee_proportional_millionths: Natural | None = None
    cltv_expiry_delta: Annotated[int, msgspec.Meta(ge=1, le=2016)] | None = None
    htlc_minimum_msat: Natural | None = None
    htlc_maximum_msat: Natural | None = None

    def over(self, toll: Toll) -> Toll:
        """The toll with what this policy names put in its place."""
        named = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        return msgspec.structs.replace(toll, **named)


class NodeSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A node: its name, what it asks by default, and the plug-in that sets its fees, if one does."""

    name: Name
    policy: Policy = Policy()
    fees: dict[str, Any] | None = None  # the plug-in's name as `policy`, and its options


class ChannelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A channel between two nodes."""

    nodes: tuple[Name, Name]
    capacity_sat: Capacity = DEFAULT_CAPACITY_SAT
    balance_sat: Natural | None = None
    policies: dict[str, Policy] = {}

    @property
    def balance_msat(self) -> Msat:
        """What the opener has at first: half, if nothing is said."""
        return msat(Sat(self.capacity_sat // 2 if self.balance_sat is None else self.balance_sat))

    @property
    def push_msat(self) -> Msat:
        """What the other end has at first."""
        return Msat(msat(Sat(self.capacity_sat)) - self.balance_msat)


class Pay(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="pay", tag_field="do"):
    """One payment."""

    at: Seconds
    payer: Name
    payee: Name
    amount_msat: Amount
    hold_seconds: Seconds = 0.0  # how long the payee keeps the HTLC before it decides
    cancel: bool = False  # whether it gives the payment back then, instead of taking it


class SetPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="policy", tag_field="do"):
    """A node asks something else from now on, on one channel or on all of its own."""

    at: Seconds
    node: Name
    policy: Policy
    peer: Name | None = None


class Offline(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="offline", tag_field="do"):
    """A node is gone: its channels carry nothing."""

    at: Seconds
    node: Name


class Online(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="online", tag_field="do"):
    """A node is back."""

    at: Seconds
    node: Name


class Close(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="close", tag_field="do"):
    """Two nodes close what they have between them: what is on its way there ends, nothing new begins."""

    at: Seconds
    nodes: tuple[Name, Name]


Event: TypeAlias = Pay | SetPolicy | Offline | Online | Close


class Misfit(Exception):
    """Something in a scenario is not as it must be: where, as names and numbers, and why."""

    def __init__(self, place: tuple[str | int, ...], why: str) -> None:
        super().__init__(why)
        self.place, self.why = place, why


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A network and what happens on it."""

    name: str = "network"
    about: str = ""
    seed: Natural = 0
    seconds: Seconds = 0.0  # how long traffic lasts
    policy: Policy = Policy()
    node: tuple[NodeSpec, ...] = ()
    channel: tuple[ChannelSpec, ...] = ()
    traffic: tuple[dict[str, Any], ...] = ()
    event: tuple[Event, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes' names, in their order."""
        return tuple([node.name for node in self.node])

    def toll_of(self, channel: ChannelSpec, name: str) -> Toll:
        """What a node asks for passing HTLCs on over a channel: the closest that was said counts."""
        own = next(node.policy for node in self.node if node.name == name)
        return channel.policies.get(name, Policy()).over(own.over(self.policy.over(Toll())))
