"""A fee for the amount, none for the work."""

from node.lab.fees.model import Asked, FeePolicy, Millionths, View, priced


class Proportional(FeePolicy, frozen=True, kw_only=True):
    """Every millisatoshi costs the same."""

    millionths: Millionths = 100

    def ask(self, view: View) -> Asked:
        return Asked(priced(view, 0, self.millionths))
