"""Give back to those who bring what we lack."""

from node.lab.fees.model import Asked, Every, FeePolicy, Millionths, MsatFee, View, priced
from wire.discount import Discount


class InboundDiscount(FeePolicy, frozen=True, kw_only=True):
    """A fixed fee on the way out, and a discount for coming in over a channel whose side of ours is empty."""

    every_seconds: Every = 60.0
    base_msat: MsatFee = 0
    millionths: Millionths = 300
    discount: Millionths = 250
    steps: int = 10

    def ask(self, view: View) -> Asked:
        missing = round((1 - view.share) * self.steps) / self.steps
        discount = Discount(millionths=round(self.discount * max(0.0, 2 * missing - 1)))
        return Asked(priced(view, self.base_msat, self.millionths), discount)
