"""Try another fee; keep going while it pays."""

from node.lab.fees.model import Asked, Every, FeePolicy, Millionths, View, priced


class Learner(FeePolicy, frozen=True, kw_only=True):
    """Seeks revenue without knowing anything: a step up or down each time, turned when it earned less."""

    every_seconds: Every = 300.0
    start: Millionths = 200
    factor: float = 1.25
    least: Millionths = 1
    most: Millionths = 10_000

    def ask(self, view: View) -> Asked:
        memory = view.memory
        if not memory:
            memory |= {"fee": float(self.start), "way": view.random.choice((1, -1)), "earned": -1}
            return Asked(priced(view, 0, self.start))
        if view.earned_msat < memory["earned"] or (view.earned_msat == 0 and memory["way"] > 0):
            memory["way"] = -memory["way"]
        memory["earned"] = view.earned_msat
        memory["fee"] = min(self.most, max(self.least, memory["fee"] * self.factor ** memory["way"]))
        return Asked(priced(view, 0, round(memory["fee"])))
