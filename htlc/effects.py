"""The closed set of what a channel may ask of the shell (DESIGN §3)."""

from typing import TypeAlias

import msgspec

from htlc.channel import Channel
from htlc.ladder import Htlc
from wire.bitcoin.tx import Transaction
from wire.codec import Message


class Save(msgspec.Struct, frozen=True, gc=False):
    """The new value must be durable before any message of this step leaves.

    `gone` are HTLCs that have left the ladder for good; what a revoked commitment needs to be
    punished is kept of them.
    """

    gone: tuple[Htlc, ...] = ()


class Send(msgspec.Struct, frozen=True, gc=False):
    """A message for the channel's peer."""

    message: Message


class Offer(msgspec.Struct, frozen=True, gc=False):
    """An HTLC of the peer is irrevocable: decide whether to pass it on, take it or fail it."""

    htlc: Htlc


class Settle(msgspec.Struct, frozen=True, gc=False):
    """An HTLC that we offered has its outcome: carry it to where the HTLC came from."""

    htlc: Htlc


class Broadcast(msgspec.Struct, frozen=True, gc=False):
    """A transaction for the chain."""

    transaction: Transaction


class Watch(msgspec.Struct, frozen=True, gc=False):
    """Tell the channel when its funding output is confirmed, and when it is spent."""


Effect: TypeAlias = Save | Send | Offer | Settle | Broadcast | Watch


class Step(msgspec.Struct, frozen=True, gc=False):
    """The new value and what follows from it, in order."""

    channel: Channel
    effects: tuple[Effect, ...] = ()


SAVE = Save()
