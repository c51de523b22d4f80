"""What was bought, chunk by chunk."""

import msgspec

from wire.crypto.secp256k1 import Point
from wire.units import Msat


class ChunkBought(msgspec.Struct, frozen=True, gc=False):
    """One chunk is paid, opened, verified and written."""

    index: int
    bytes: int
    price_msat: Msat
    fee_msat: Msat
    seconds: float
    route: tuple[Point, ...]
    tries: int


class Receipt(msgspec.Struct, frozen=True):
    """What a purchase came to; the chunks in the order in which they were done."""

    chunks: tuple[ChunkBought, ...]
    seconds: float

    @property
    def bytes(self) -> int:
        """The length of what was bought."""
        return sum(chunk.bytes for chunk in self.chunks)

    @property
    def paid_msat(self) -> Msat:
        """What the provider got."""
        return Msat(sum(chunk.price_msat for chunk in self.chunks))

    @property
    def fee_msat(self) -> Msat:
        """What the hops on the way got."""
        return Msat(sum(chunk.fee_msat for chunk in self.chunks))
