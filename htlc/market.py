"""What the chain asks for a confirmation."""

import msgspec

LOWEST_FEERATE_PER_KW = 253
"""What is relayed at all, a satoshi for a virtual byte rounded up."""


class Market(msgspec.Struct, frozen=True, gc=False):
    """What a confirmation costs now: within a block or two, and within a day."""

    soon_per_kw: int = 1000
    later_per_kw: int = LOWEST_FEERATE_PER_KW
