"""Why there is no route: one class for each wish that may stand in the way."""

from wire.crypto.secp256k1 import Point
from wire.units import Msat


class NoRoute(Exception):
    """No route fulfils what was asked; the class says which wish was in the way."""


class GivenUp(NoRoute):
    """The search was not carried to its end."""

    def __str__(self) -> str:
        return "the search was given up"


class TargetIsSource(NoRoute):
    """The payee is the payer."""

    def __str__(self) -> str:
        return "the payee is this node itself"


class UnknownTarget(NoRoute):
    """The payee has no channel in the graph."""

    def __init__(self, target: Point) -> None:
        super().__init__(target)
        self.target = target

    def __str__(self) -> str:
        return f"no channel of {self.target.hex()} is known"


class IncompatibleTarget(UnknownTarget):
    """The payee requires features that we do not know (validation.2)."""

    def __str__(self) -> str:
        return f"{self.target.hex()} requires features unknown to us"


class NoOutgoingCapacity(NoRoute):
    """None of our own channels can send this amount at once."""

    def __init__(self, amount_msat: int, largest_msat: int) -> None:
        super().__init__(amount_msat, largest_msat)
        self.amount_msat, self.largest_msat = Msat(amount_msat), Msat(largest_msat)

    def __str__(self) -> str:
        return f"{self.amount_msat} msat to send, but our channels can send {self.largest_msat} msat at most"


class AmountTooLarge(NoOutgoingCapacity):
    """Some channel on every way is too small; `largest_msat` is a bound, fees not counted."""

    def __str__(self) -> str:
        return f"{self.amount_msat} msat to pay, but no way there carries more than {self.largest_msat} msat"


class FeeTooHigh(NoRoute):
    """There is a route, but not within the fee budget."""

    def __init__(self, fee_msat: int, max_fee_msat: int) -> None:
        super().__init__(fee_msat, max_fee_msat)
        self.fee_msat, self.max_fee_msat = Msat(fee_msat), Msat(max_fee_msat)

    def __str__(self) -> str:
        return f"the route costs {self.fee_msat} msat in fees, the budget is {self.max_fee_msat} msat"


class CltvTooFar(NoRoute):
    """There is a route, but it may lock the money for too long."""

    def __init__(self, cltv_blocks: int, max_cltv_blocks: int) -> None:
        super().__init__(cltv_blocks, max_cltv_blocks)
        self.cltv_blocks, self.max_cltv_blocks = cltv_blocks, max_cltv_blocks

    def __str__(self) -> str:
        return f"the route may lock money for {self.cltv_blocks} blocks, the limit is {self.max_cltv_blocks}"


class Unreachable(NoRoute):
    """No way of usable channels leads to the payee."""

    def __init__(self, target: Point) -> None:
        super().__init__(target)
        self.target = target

    def __str__(self) -> str:
        return f"no way of usable channels leads to {self.target.hex()}"
