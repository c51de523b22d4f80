"""What a node gives back for HTLCs that come in over a channel (bLIP 18, as LND and eclair have it).

It stands in the node's channel_update for that channel, in an odd record, which who does not know it
may skip: who pays the whole fee pays enough. The record holds a fee, base and rate as signed
integers; below zero it is a discount. A surcharge is read as nothing, since those who do not know
the record could not pay it.
"""

from struct import Struct

import msgspec

from wire.codec import DecodeError
from wire.tlv import read_records, write_bigsize

RECORD = 55_555
_fees = Struct(">ii")
_MOST = 2**31 - 1
_MILLION = 1_000_000


class Discount(msgspec.Struct, frozen=True, gc=False):
    """A fixed part and a part of the amount, both at least zero."""

    base_msat: int = 0
    millionths: int = 0

    def off(self, amount_msat: int, fee_msat: int) -> int:
        """What it takes off the fee for passing an amount on; never more than all of it."""
        return min(fee_msat, self.base_msat + (amount_msat + fee_msat) * self.millionths // _MILLION)


NO_DISCOUNT = Discount()


def discount_record(discount: Discount) -> bytes:
    """The record for the end of a channel_update; nothing if nothing is given back."""
    if discount == NO_DISCOUNT:
        return b""
    fees = _fees.pack(-min(discount.base_msat, _MOST), -min(discount.millionths, _MOST))
    return write_bigsize(RECORD) + write_bigsize(len(fees)) + fees


def discount_in(extension: bytes) -> Discount:
    """What the end of a channel_update gives back; nothing if it cannot be read."""
    if not extension:
        return NO_DISCOUNT
    try:
        records = dict(read_records(extension))
    except DecodeError:
        return NO_DISCOUNT
    value = records.get(RECORD, b"")
    if len(value) != _fees.size:
        return NO_DISCOUNT
    base_msat, millionths = _fees.unpack(value)
    return Discount(max(0, -base_msat), max(0, -millionths))
