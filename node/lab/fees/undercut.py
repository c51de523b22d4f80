"""Ask a little less than the cheapest rival."""

from node.lab.fees.model import Asked, Every, FeePolicy, Millionths, View, priced


class Undercut(FeePolicy, frozen=True, kw_only=True):
    """Below the cheapest other way to the same peer by `step`, but never below `least`."""

    every_seconds: Every = 120.0
    least: Millionths = 10
    most: Millionths = 1000
    step: Millionths = 5

    def ask(self, view: View) -> Asked:
        cheapest = min((toll.fee_proportional_millionths for toll in view.rivals), default=self.most)
        return Asked(priced(view, 0, max(self.least, min(self.most, cheapest - self.step))))
