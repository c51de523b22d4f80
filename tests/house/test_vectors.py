"""The protocol's figures are test data that nobody edits: each file is the one that was checked in."""

import hashlib

from tests.house.sources import HOUSE

VECTORS = HOUSE / "tests" / "vectors"


def test_the_figures_are_unchanged() -> None:
    lines = (VECTORS / "SHA256SUMS").read_text().splitlines()
    expected = {name: digest for digest, name in (line.split() for line in lines)}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VECTORS.glob("*.json")}
    assert found == expected
