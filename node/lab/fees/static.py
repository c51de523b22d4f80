"""Ask the same, always."""

from node.lab.fees.model import Asked, FeePolicy, Millionths, MsatFee, View, priced


class Static(FeePolicy, frozen=True, kw_only=True):
    """A base fee and a proportional fee that never change."""

    base_msat: MsatFee = 1000
    millionths: Millionths = 100

    def ask(self, view: View) -> Asked:
        return Asked(priced(view, self.base_msat, self.millionths))
