"""What messages cost: encoded and decoded (BOLT 1, 2, 7).

The floor of a message is its `struct` call on bytes of the same layout, or for the ones with a
point the check that it lies on the curve.
"""

import struct
from functools import partial

from tests.bench.harness import Report
from wire.codec import Message
from wire.crypto import secp256k1
from wire.messages import catalogue, channel, gossip
from wire.units import Msat

CHANNEL_ID = bytes(range(32))
POINT = secp256k1.point_of(bytes([1]) * 32)
SIGNATURE = bytes(64)
ADD = channel.UpdateAddHtlc(CHANNEL_ID, 7, Msat(1_000_000), bytes(32), 800_000, bytes(1366))
FULFILL = channel.UpdateFulfillHtlc(CHANNEL_ID, 7, bytes(32))
REVOKE = channel.RevokeAndAck(CHANNEL_ID, bytes(32), POINT)
UPDATE = gossip.ChannelUpdate(SIGNATURE, bytes(32), 1 << 60, 1, 1, 0, 34, Msat(1), 1000, 10, Msat(10**9))
ADD_LAYOUT = struct.Struct(">H32sQQ32sI1366s")


def run(report: Report) -> None:
    """The messages of a payment, and the one that gossip is mostly made of."""
    raw = catalogue.encode(ADD)
    report.time("floor: one struct call", lambda: ADD_LAYOUT.unpack(raw))
    report.time("floor: a point is on the curve", lambda: secp256k1.is_point(POINT))
    for message in (ADD, FULFILL, signed(0), signed(50), UPDATE):
        both(report, message, "floor: one struct call")
    both(report, REVOKE, "floor: a point is on the curve")


def signed(htlcs: int) -> channel.CommitmentSigned:
    """A commitment_signed as it is sent today, with its funding_txid."""
    return channel.CommitmentSigned(CHANNEL_ID, SIGNATURE, (SIGNATURE,) * htlcs, bytes(32))


def both(report: Report, message: Message, floor: str) -> None:
    """Encode and decode one message."""
    raw, name = catalogue.encode(message), type(message).__name__
    if isinstance(message, channel.CommitmentSigned):
        name += f", {len(message.htlc_signature)} HTLCs"
    report.time(f"encode {name}", partial(catalogue.encode, message), floor=floor)
    report.time(f"decode {name}", partial(catalogue.decode, raw), floor=floor)
