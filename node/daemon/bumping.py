"""Making a transaction of the wallet's confirm sooner: in its place, or by a child that pays for it.

A transaction that nothing depends on is replaced by one that pays more (BIP 125). One that funds a
channel must keep its name, so its change is spent in a hurry, and a miner who wants that fee has to
take both.
"""

from collections.abc import Sequence

from node.daemon.coin_selection import Target
from node.daemon.wallet import FundedTransaction, InsufficientFunds, Means, Wallet
from wire.bitcoin.tx import OutPoint, Transaction, TxOut, txid_hex

RELAY_PER_KW = 250
"""What a replacement must pay beyond what it replaces: a satoshi for each of its virtual bytes."""


class CannotBump(Exception):
    """Our user wants a transaction to be faster which we cannot help."""

    def __init__(self, txid: bytes, why: str) -> None:
        super().__init__(f"the fee of {txid_hex(txid)} cannot be raised: {why}")
        self.txid, self.why = txid, why


def waiting(wallet: Wallet, txid: bytes) -> tuple[Transaction, int]:
    """An unconfirmed transaction that we alone have paid for, and its fee in satoshi.

    Raises:
        CannotBump: it is none.
    """
    found = [known for known in wallet.transactions() if known.transaction.txid == txid]
    if not found:
        raise CannotBump(txid, "the wallet knows no such transaction")
    transaction, height = found[0].transaction, found[0].height
    if height is not None:
        raise CannotBump(txid, f"it is in block {height} already")
    spent = wallet.spent_by(transaction)
    paid_sat = sum(output.value_sat for output in spent if output is not None)
    if any(output is None for output in spent):
        raise CannotBump(txid, "others pay for it, too")
    return transaction, paid_sat - sum(output.value_sat for output in transaction.outputs)


def replace(wallet: Wallet, txid: bytes, feerate_per_kw: int) -> FundedTransaction:
    """A transaction with the same payments and a higher fee, already in the place of the other.

    Raises:
        CannotBump: it must stay as it is, or the feerate is not enough.
        InsufficientFunds: the wallet cannot pay for it.
    """
    before, fee_sat = waiting(wallet, txid)
    if _spent_outputs(wallet, before):
        raise CannotBump(txid, "another transaction spends its change already")
    outputs = [output for output in before.outputs if not wallet.is_change(output.script)]
    remainder = wallet.remainders.get(txid)
    wallet.forget(txid)
    try:
        if remainder is None:
            after = _funded(wallet, before, outputs, feerate_per_kw)
        else:
            after = _with_less_left(wallet, before, remainder, feerate_per_kw)
        least_sat = fee_sat + -(-after.transaction.weight * RELAY_PER_KW // 1000)
        if after.fee_sat < least_sat or feerate_per_kw * before.weight <= fee_sat * 1000:
            wallet.release(after)
            least_per_kw = -(-least_sat * 1000 // after.transaction.weight) + 1
            raise CannotBump(txid, f"that takes at least {least_per_kw}perkw")
    except (CannotBump, InsufficientFunds):
        wallet.add(before, remainder)
        raise
    wallet.add(after.transaction, after.remainder)
    return after


def _with_less_left(
    wallet: Wallet, before: Transaction, remainder: int, feerate_per_kw: int
) -> FundedTransaction:
    """From the same coins, with the fee taken from the output that was to take what is left."""
    others = [output for index, output in enumerate(before.outputs) if index != remainder]
    coins = tuple([txin.outpoint for txin in before.inputs])
    return wallet.fund_all(before.outputs[remainder].script, feerate_per_kw, Means(coins), others)


def pull(wallet: Wallet, txid: bytes, feerate_per_kw: int) -> FundedTransaction:
    """A child that spends a transaction's change, and pays for both at this feerate.

    Raises:
        CannotBump: there is no change, or both pay that much already.
        InsufficientFunds: the change is not worth it.
    """
    parent, fee_sat = waiting(wallet, txid)
    spent = _spent_outputs(wallet, parent)
    change = [
        parent.outpoint(index)
        for index, output in enumerate(parent.outputs)
        if wallet.is_change(output.script) and parent.outpoint(index) not in spent
    ]
    if not change:
        raise CannotBump(txid, "it has to keep its name, and has no change to spend")
    missing_sat = Target(0, 0, feerate_per_kw, needs_change=True).fee_sat(parent.weight) - fee_sat
    if missing_sat <= 0:
        raise CannotBump(txid, "it pays that much already")
    child = wallet.fund((), feerate_per_kw, also_pay_sat=missing_sat, means=Means(tuple(change)))
    wallet.add(child.transaction)
    return child


def _spent_outputs(wallet: Wallet, transaction: Transaction) -> set[OutPoint]:
    """Those of its outputs that a transaction we know of spends."""
    spent = {txin.outpoint for known in wallet.transactions() for txin in known.transaction.inputs}
    return spent & {transaction.outpoint(index) for index in range(len(transaction.outputs))}


def _funded(
    wallet: Wallet, before: Transaction, outputs: Sequence[TxOut], feerate_per_kw: int
) -> FundedTransaction:
    """With the coins that it had before, and more if they are not enough."""
    coins = tuple([txin.outpoint for txin in before.inputs])
    more = sorted(
        (coin for coin in wallet.coins() if coin.height is not None and not coin.is_reserved),
        key=lambda coin: -coin.value_sat,
    )
    extra = [coin.outpoint for coin in more if coin.outpoint not in coins]
    for count in range(len(extra) + 1):
        try:
            return wallet.fund(outputs, feerate_per_kw, means=Means(coins + tuple(extra[:count])))
        except InsufficientFunds:
            if count == len(extra):
                raise
    raise AssertionError("the last round returns or raises")
