"""Transactions of ours that no claim makes again: fundings, closings, payments of the wallet.

Nobody promises to remember what it was given, so what waits is given to the chain again at every
block. It is kept until a block that spends what it spends is irrevocable: its own, or a rival's.
"""

from typing import TYPE_CHECKING

from node.chain.interface import BlockConnected

if TYPE_CHECKING:
    from node.daemon.turn import Turn

IRREVOCABLE_BLOCKS = 100


def connect(turn: "Turn", block: BlockConnected, *, is_tip: bool) -> None:
    """A block: what it settles waits no longer, and at the tip the rest is published again."""
    store = turn.switch.store
    waiting = store.waiting_broadcasts()
    spent = {txin.outpoint for tx in block.transactions for txin in tx.inputs} if waiting else set()
    for transaction in waiting:
        if any(txin.outpoint in spent for txin in transaction.inputs):
            txid = transaction.txid
            turn.write(lambda txid=txid: store.settle_broadcast(txid, block.height))  # type: ignore[misc]
        elif is_tip:
            turn.publish(transaction)
    turn.write(lambda: store.forget_broadcasts(block.height - IRREVOCABLE_BLOCKS))


def disconnect(turn: "Turn", height: int) -> None:
    """The last block, of this height, is undone: what it had settled waits again."""
    turn.write(lambda: turn.switch.store.unsettle_broadcasts(height))
