"""Real fidelity: scenarios on real nodes, in virtual time."""
