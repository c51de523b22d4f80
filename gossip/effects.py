"""What the router asks its shell to do (BOLT 7); a closed set."""

from typing import TypeAlias

import msgspec

from gossip.errors import BadGossip
from wire.crypto.secp256k1 import Point


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send this message to the peer."""

    peer: Point
    raw: bytes


class SendWarning(msgspec.Struct, frozen=True, gc=False):
    """Tell the peer what was wrong with its message; the connection may be closed."""

    peer: Point
    why: BadGossip


class LookUp(msgspec.Struct, frozen=True, gc=False):
    """Find this output and answer with `found_output`, in any case."""

    short_channel_id: int


class Watch(msgspec.Struct, frozen=True, gc=False):
    """Say `closed` when the funding output of this channel is spent."""

    short_channel_id: int


class GraphChanged(msgspec.Struct, frozen=True, gc=False):
    """The graph is not what it was."""


Effect: TypeAlias = Send | SendWarning | LookUp | Watch | GraphChanged
