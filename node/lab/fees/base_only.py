"""A fee for the work, none for the amount."""

from node.lab.fees.model import Asked, FeePolicy, MsatFee, View, priced


class BaseOnly(FeePolicy, frozen=True, kw_only=True):
    """Every payment costs the same."""

    base_msat: MsatFee = 1000

    def ask(self, view: View) -> Asked:
        return Asked(priced(view, self.base_msat, 0))
