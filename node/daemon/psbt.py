"""Transactions of the wallet as PSBTs, for the tools that want or bring one (BIP 174).

embit reads and writes them, and is imported when the first of them is asked for.
"""

import struct
from collections.abc import Sequence
from typing import Any

from wire.bitcoin.tx import Transaction, TxIn, TxOut, parse_transaction
from wire.units import Sat


class BadPsbt(Exception):
    """What our user brings is no PSBT, or cannot be used for what is asked."""


def psbt_of(transaction: Transaction, spent: Sequence[TxOut | None]) -> "Psbt":
    """The transaction without its witnesses, and the outputs that it spends as far as they are known."""
    from embit.psbt import PSBT
    from embit.transaction import Transaction as EmbitTransaction

    psbt = Psbt(PSBT(EmbitTransaction.parse(unsigned(transaction).serialize_stripped())))
    for index, output in enumerate(spent):
        if output is not None:
            psbt.tell(index, output)
    return psbt


def signed_psbt(transaction: Transaction, spent: Sequence[TxOut | None]) -> str:
    """The transaction with its final witnesses and the outputs that it spends, in base64."""
    psbt = psbt_of(transaction, spent)
    for index, txin in enumerate(transaction.inputs):
        psbt.finish(index, txin.witness)
    return psbt.text


def unsigned(transaction: Transaction) -> Transaction:
    """The same without any witness."""
    bare = tuple([TxIn(txin.outpoint, txin.sequence) for txin in transaction.inputs])
    return Transaction(transaction.version, bare, transaction.outputs, transaction.locktime)


def read_psbt(text: str) -> "Psbt":
    """A PSBT in base64.

    Raises:
        BadPsbt: it is none.
    """
    from embit.base import EmbitError
    from embit.psbt import PSBT

    try:
        return Psbt(PSBT.from_string(text))
    except (EmbitError, ValueError, KeyError, IndexError, TypeError, RuntimeError, struct.error) as error:
        raise BadPsbt(f"that is no PSBT: {error}") from None


class Psbt:
    """One that is being filled."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.transaction: Transaction = parse_transaction(bytes(raw.tx.serialize()))
        """Without any witness."""

    @property
    def text(self) -> str:
        """It in base64."""
        shown: str = self._raw.to_string()
        return shown

    @property
    def spent(self) -> list[TxOut | None]:
        """Of each input the output that it spends, if the PSBT tells."""
        told = [each.witness_utxo or self._in_full(each) for each in self._raw.inputs]
        return [None if each is None else TxOut(Sat(each.value), each.script_pubkey.data) for each in told]

    @staticmethod
    def _in_full(place: Any) -> Any:
        """The output, if the whole transaction that it is of is there, and is that."""
        whole = place.non_witness_utxo
        if whole is None or whole.txid() != place.txid or place.vout >= len(whole.vout):
            return None
        return whole.vout[place.vout]

    def tell(self, index: int, output: TxOut) -> None:
        """Say what an input spends."""
        from embit.script import Script
        from embit.transaction import TransactionOutput

        self._raw.inputs[index].witness_utxo = TransactionOutput(output.value_sat, Script(output.script))

    def append(self, output: TxOut) -> int:
        """Add an output; its number."""
        from embit.script import Script
        from embit.transaction import TransactionOutput

        place = self._raw.PSBTOUT_CLS(vout=TransactionOutput(output.value_sat, Script(output.script)))
        self._raw.outputs.append(place)
        return len(self._raw.outputs) - 1

    def finish(self, index: int, witness: Sequence[bytes]) -> None:
        """Give an input its final witness."""
        from embit.script import Witness

        self._raw.inputs[index].final_scriptwitness = Witness(list(witness))

    def finished(self) -> Transaction:
        """The transaction with all its witnesses.

        Raises:
            BadPsbt: some input has none.
        """
        from embit.finalizer import finalize_psbt

        complete = finalize_psbt(self._raw)
        if complete is None:
            raise BadPsbt(f"PSBT not finalizeable {self.text}")
        return parse_transaction(bytes(complete.serialize()))
