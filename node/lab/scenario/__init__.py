"""A network and what happens on it, described once and run at any fidelity."""
