"""Random transactions, and the vectors' real ones, for the tests of wire/bitcoin."""

import json
from pathlib import Path

from hypothesis import strategies as st

from wire.bitcoin.tx import OutPoint, Transaction, TxIn, TxOut
from wire.units import MAX_SAT, Sat

BOLT3 = json.loads((Path(__file__).parents[1] / "vectors" / "bolt3.json").read_text())

u32 = st.integers(0, 2**32 - 1)
hashes = st.binary(min_size=32, max_size=32)
outpoints = st.builds(OutPoint, hashes, u32)
witnesses = st.lists(st.binary(max_size=300), max_size=4).map(tuple)
inputs = st.builds(TxIn, outpoints, u32, witnesses, st.binary(max_size=120))
amounts_sat = st.integers(0, MAX_SAT).map(Sat)
outputs = st.builds(TxOut, amounts_sat, st.binary(max_size=300))
transactions = st.builds(
    Transaction,
    st.sampled_from([1, 2, 3]),
    st.lists(inputs, min_size=1, max_size=4).map(tuple),
    st.lists(outputs, min_size=1, max_size=4).map(tuple),
    u32,
)


def real_transactions() -> list[str]:
    """The hex of every transaction that the vectors of BOLT 3 print."""
    found = [BOLT3["funding"]["funding_tx"], BOLT3["funding"]["block1_coinbase_tx"]]
    for kind in ("static_remotekey", "anchors_zero_fee_htlc"):
        for case in BOLT3["commitment"][kind]:
            found += [case["commit_tx"], *(second["tx"] for second in case["htlc_txs"])]
    return found
