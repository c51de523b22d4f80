"""Traffic models: who wants to pay whom, when, and how much."""
