"""Experiments with fees, at flow fidelity: each asks one question and ends with an answer."""
