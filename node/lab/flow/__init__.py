"""Flow fidelity: balances, policies, HTLC slots and time locks on a virtual-time heap."""
