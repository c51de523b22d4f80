"""A transaction of the wallet as a PSBT, for the tools that want one (BIP 174)."""

from collections.abc import Sequence

from wire.bitcoin.tx import Transaction, TxIn, TxOut


def signed_psbt(transaction: Transaction, spent: Sequence[TxOut | None]) -> str:
    """The transaction with its final witnesses and the outputs that it spends, in base64."""
    from embit.psbt import PSBT
    from embit.script import Script, Witness
    from embit.transaction import Transaction as EmbitTransaction
    from embit.transaction import TransactionOutput

    bare = tuple([TxIn(txin.outpoint, txin.sequence) for txin in transaction.inputs])
    unsigned = Transaction(transaction.version, bare, transaction.outputs, transaction.locktime)
    psbt = PSBT(EmbitTransaction.parse(unsigned.serialize()))
    for place, txin, output in zip(psbt.inputs, transaction.inputs, spent, strict=True):
        place.final_scriptwitness = Witness(list(txin.witness))
        if output is not None:
            place.witness_utxo = TransactionOutput(output.value_sat, Script(output.script))
    shown: str = psbt.to_string()
    return shown
