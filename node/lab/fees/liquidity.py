"""The less is left on our side, the dearer."""

from node.lab.fees.model import Asked, Every, FeePolicy, Millionths, MsatFee, View, priced


class Liquidity(FeePolicy, frozen=True, kw_only=True):
    """From `low` with all on our side to `high` with nothing, in steps so that gossip stays quiet."""

    every_seconds: Every = 60.0
    base_msat: MsatFee = 0
    low: Millionths = 20
    high: Millionths = 1000
    steps: int = 10

    def ask(self, view: View) -> Asked:
        missing = round((1 - view.share) * self.steps) / self.steps
        return Asked(priced(view, self.base_msat, round(self.low + (self.high - self.low) * missing**2)))
