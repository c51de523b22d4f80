"""What an invoice costs to write and to read (BOLT 11): the floor is its signature."""

import json
from pathlib import Path

from tests.bench.harness import Report
from wire import bolt11
from wire.crypto.secp256k1 import recover, sign_recoverable

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/bolt11.json").read_text())
SECRET = bytes.fromhex(VECTORS["signing_privkey"])
DIGEST = bytes([9]) * 32


def run(report: Report) -> None:
    """A plain one, and one with a route hint of two channels."""
    signature = sign_recoverable(SECRET, DIGEST)
    report.time("floor: sign", lambda: sign_recoverable(SECRET, DIGEST))
    report.time("floor: recover", lambda: recover(DIGEST, signature))
    for case in VECTORS["valid"]:
        if case["label"] in ("coffee_2500u_expiry_60", "fallback_p2pkh_two_hop_route"):
            both(report, case["label"].replace("_", " "), case["invoice"])


def both(report: Report, label: str, text: str) -> None:
    """Write and read one invoice."""
    invoice = bolt11.decode(text)
    report.time(f"encode, {label}", lambda: bolt11.encode(invoice, SECRET), floor="floor: sign")
    report.time(f"decode, {label}", lambda: bolt11.decode(text), floor="floor: recover")
