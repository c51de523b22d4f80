"""What a fee policy is: from what a node sees of one of its channels to what it asks there."""

from collections.abc import Sequence
from random import Random
from typing import Annotated, Any

import msgspec

from htlc.relay import Toll
from wire.discount import Discount

Millionths = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
MsatFee = Annotated[int, msgspec.Meta(ge=0)]
Every = Annotated[float, msgspec.Meta(gt=0)]


class View(msgspec.Struct):
    """One channel, as the node that sends over it sees it."""

    toll: Toll  # what it asks now
    first_toll: Toll  # what it asked at first
    capacity_msat: int
    balance_msat: int  # its own side
    earned_msat: int  # since it looked last
    passed: int  # HTLCs passed on since it looked last
    rivals: Sequence[Toll]  # what others ask for passing on to the same peer
    memory: dict[str, Any]  # for the policy to keep what it likes, channel by channel
    random: Random

    @property
    def share(self) -> float:
        """Our part of the capacity, from 0 to 1."""
        return self.balance_msat / self.capacity_msat


class Asked(msgspec.Struct, frozen=True):
    """What a node asks over a channel, and gives back for what comes in over it."""

    toll: Toll
    inbound: Discount | None = None


class FeePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """A policy. Its fields are its options; it is asked for every channel, again and again."""

    every_seconds: Every = 600.0

    def ask(self, view: View) -> Asked:
        """What to ask from now on."""
        raise NotImplementedError


def priced(view: View, base_msat: int, millionths: int) -> Toll:
    """The toll with other fees."""
    return msgspec.structs.replace(view.toll, fee_base_msat=base_msat, fee_proportional_millionths=millionths)
