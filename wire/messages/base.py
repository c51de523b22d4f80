"""The messages of BOLT 1: setup, control, peer storage; and those that we do not know."""

from typing import Annotated

import msgspec

from wire.codec import BYTES32, U16, ChannelId, CountedBytes, Message, Record, Rest
from wire.features import Features

MOST_SAID_BYTES = 1000


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """A message of a type that we do not know, as it came.

    framing-tlv.3: an odd one is to be ignored, an even one costs the peer its connection.
    """

    type: int
    payload: bytes

    @property
    def is_even(self) -> bool:
        """Whether it must be understood."""
        return not self.type & 1


def printable(data: bytes) -> str:
    """What a peer wrote to us, safe to show: as it is if all of it is printable ASCII, else in hex."""
    # error-warning.3: a terminal obeys control characters, whoever wrote them
    if all(0x20 <= byte < 0x7F for byte in data):
        return data.decode("ascii")
    return data.hex()


def said(text: str) -> bytes:
    """What we say to a peer in an error or warning: cut, so that it fits whatever it quotes."""
    return text.encode(errors="replace")[:MOST_SAID_BYTES]


class Warning(Message, frozen=True):
    """`warning`: something is wrong, no channel fails for it."""

    TYPE = 1
    channel_id: ChannelId
    data: CountedBytes = b""

    @property
    def text(self) -> str:
        """What it says, safe to show."""
        return printable(self.data)


class PeerStorage(Message, frozen=True):
    """`peer_storage`: the sender's blob for us to keep."""

    TYPE = 7
    blob: CountedBytes


class PeerStorageRetrieval(Message, frozen=True):
    """`peer_storage_retrieval`: the latest blob, given back."""

    TYPE = 9
    blob: CountedBytes


class Init(Message, frozen=True):
    """`init`: the first message in each direction; the two feature fields are to be ORed."""

    TYPE = 16
    globalfeatures: CountedBytes = b""
    features: CountedBytes = b""
    networks: Annotated[tuple[bytes, ...] | None, Record(1, Rest(BYTES32))] = None
    remote_addr: Annotated[bytes | None, Record(3, Rest())] = None

    def all_features(self) -> Features:
        """What the sender supports: both fields together."""
        # init.2: the split into global and local features is history
        return Features.from_bytes(self.globalfeatures) | Features.from_bytes(self.features)


class Error(Message, frozen=True):
    """`error`: the channel fails, or with an all-zero id every channel with the peer."""

    TYPE = 17
    channel_id: ChannelId
    data: CountedBytes = b""

    @property
    def text(self) -> str:
        """What it says, safe to show."""
        return printable(self.data)


class Ping(Message, frozen=True):
    """`ping`: asks for a pong of so many bytes, or for none from 65532 up."""

    TYPE = 18
    num_pong_bytes: U16
    ignored: CountedBytes = b""


class Pong(Message, frozen=True):
    """`pong`: as many bytes as the ping asked for."""

    TYPE = 19
    ignored: CountedBytes = b""
