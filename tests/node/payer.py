"""A key with coins, for tests that need transactions of every kind."""

from collections.abc import Sequence
from typing import Protocol

from wire.bitcoin.script import p2wpkh
from wire.bitcoin.sighash import SIGHASH_ALL, p2wpkh_script_code, segwit_v0_sighash
from wire.bitcoin.tx import REPLACEABLE_SEQUENCE, OutPoint, Transaction, TxIn, TxOut
from wire.crypto import secp256k1
from wire.crypto.hashes import hash160
from wire.units import Sat

SECRET = bytes(31) + b"\x07"
PUBKEY = secp256k1.point_of(SECRET)
SCRIPT = p2wpkh(PUBKEY)
FEE_SAT = Sat(1000)


class Funder(Protocol):
    """A chain that mines and pays."""

    async def fund_many(self, outputs: Sequence[TxOut]) -> list[OutPoint]:
        """Pay all of these in a block."""


class Payer:
    """Spends outputs to SCRIPT, remembering what each of them is worth."""

    def __init__(self, chain: Funder) -> None:
        self.chain = chain
        self.values: dict[OutPoint, Sat] = {}

    async def coins(self, count: int, value_sat: int = 100_000) -> list[OutPoint]:
        """New confirmed outputs to spend."""
        outpoints = await self.chain.fund_many([TxOut(Sat(value_sat), SCRIPT)] * count)
        self.values |= dict.fromkeys(outpoints, Sat(value_sat))
        return outpoints

    def spend(
        self,
        *spent: OutPoint,
        fee_sat: int = FEE_SAT,
        script: bytes = SCRIPT,
        outputs: Sequence[TxOut] | None = None,
        sequence: int = REPLACEABLE_SEQUENCE,
        locktime: int = 0,
        version: int = 2,
    ) -> Transaction:
        """A signed transaction from these outputs to `outputs`, or all of it to `script`."""
        total_sat = sum(self.values[outpoint] for outpoint in spent)
        outputs = [TxOut(Sat(total_sat - fee_sat), script)] if outputs is None else outputs
        inputs = tuple([TxIn(outpoint, sequence) for outpoint in spent])
        transaction = self.signed(Transaction(version, inputs, tuple(outputs), locktime))
        for index, output in enumerate(transaction.outputs):
            self.values[transaction.outpoint(index)] = output.value_sat
        return transaction

    def signed(self, transaction: Transaction) -> Transaction:
        for index in range(len(transaction.inputs)):
            transaction = self.sign_input(transaction, index)
        return transaction

    def sign_input(self, transaction: Transaction, index: int) -> Transaction:
        script_code = p2wpkh_script_code(hash160(PUBKEY))
        value_sat = self.values[transaction.inputs[index].outpoint]
        digest = segwit_v0_sighash(transaction, index, script_code, value_sat)
        signature = secp256k1.der_of(secp256k1.sign(SECRET, digest)) + bytes((SIGHASH_ALL,))
        return transaction.with_witness(index, (signature, PUBKEY))
