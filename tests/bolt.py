"""The marker that ties a test to the requirements it shows.

    @bolt("update_add_htlc.1")
    def test_a_zero_amount_costs_the_peer_its_connection(): ...

The ids are those of tests/BOLT.md. `make bolt-coverage` lists the ids that no test names; a house
test refuses an id that is not in the ledger.
"""

import pytest


def bolt(*requirements: str) -> pytest.MarkDecorator:
    """Mark a test with the ids of tests/BOLT.md that it shows."""
    return pytest.mark.bolt(*requirements)
