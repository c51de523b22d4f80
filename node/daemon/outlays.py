"""What commands pay on the chain: made in a turn, durable, and then given to the chain, or undone."""

from collections.abc import Callable
from typing import Any

from htlc.channel import Phase
from htlc.transactions import ChannelFormat
from node.chain.interface import Rejected
from node.daemon.bumping import CannotBump
from node.daemon.node import Node
from node.daemon.psbt import signed_psbt
from node.daemon.rpc_parameters import INVALID_PARAMETERS, CommandFailed
from node.daemon.turn import Turn
from node.daemon.wallet import MIN_OUTPUT_SAT, FundedTransaction, InsufficientFunds, Means
from wire.bitcoin.address import InvalidAddress, script_of
from wire.bitcoin.tx import Transaction, TxOut, txid_hex
from wire.units import msat

UNSPECIFIED = -1
CANNOT_AFFORD, DUST = 301, 302


class Outlays:
    """Transactions of the wallet on their way out."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def make(self, act: Callable[[Turn], FundedTransaction]) -> dict[str, Any]:
        """Make a transaction in a turn, in which `act` keeps it, and publish it once that is durable.

        Raises:
            CommandFailed: the wallet or the chain refuses; nothing was spent.
        """
        funded = await self.ask(act)
        await self.publish(funded.transaction)
        transaction = funded.transaction
        return {
            "tx": transaction.serialize().hex(),
            "txid": txid_hex(transaction.txid),
            "psbt": signed_psbt(transaction, self._node.wallet.spent_by(transaction)),
            "fee_msat": msat(funded.fee_sat),
        }

    async def ask(self, act: Callable[[Turn], Any]) -> Any:
        """What a turn makes of the wallet.

        Raises:
            CommandFailed: the wallet refuses.
        """
        try:
            return await self._node.switch.ask(act)
        except InsufficientFunds as short:
            raise CommandFailed(CANNOT_AFFORD, str(short)) from None
        except CannotBump as cannot:
            raise CommandFailed(UNSPECIFIED, str(cannot)) from None

    async def publish(self, transaction: Transaction) -> None:
        """Give the chain what was kept, or drop it again.

        Raises:
            CommandFailed: the chain refuses it.
        """
        try:
            await self._node.chain.broadcast(transaction)
        except Rejected as rejected:
            await self._node.switch.ask(lambda turn: self._drop(turn, transaction))
            raise CommandFailed(UNSPECIFIED, f"Error broadcasting transaction: {rejected.reason}") from None

    def keep(self, turn: Turn, transaction: Transaction, remainder: int | None = None) -> None:
        """From now on it is spent."""
        wallet, store = self._node.wallet, self._node.store
        wallet.add(transaction, remainder)
        turn.write(lambda: store.put_broadcast(transaction))
        self.save(turn)

    def kept_back(self, means: Means) -> list[TxOut]:
        """What paying out `all` leaves in the wallet: a channel with anchors may have to close in a hurry.

        Nothing, if the coins that these means leave alone are enough for that.
        """
        wallet, emergency_sat = self._node.wallet, self._node.config.emergency_sat
        is_needed = any(
            channel.charter.format is ChannelFormat.ANCHORS and channel.phase is not Phase.CLOSED
            for channel in self._node.channels()
        )
        used = {coin.outpoint for coin in wallet.all_coins(means)}
        others = [coin for coin in wallet.coins() if coin.outpoint not in used and not coin.is_reserved]
        is_there = sum(coin.value_sat for coin in others) >= emergency_sat
        if is_there or not is_needed or emergency_sat < MIN_OUTPUT_SAT:
            return []
        return [TxOut(emergency_sat, wallet.new_change_script())]

    def save(self, turn: Turn) -> None:
        """Let what the wallet knows be durable with the turn."""
        wallet, store = self._node.wallet, self._node.store
        turn.writes_once[b"wallet"] = lambda: wallet.save(store.db)

    def _drop(self, turn: Turn, transaction: Transaction) -> None:
        store = self._node.store
        self._node.wallet.forget(transaction.txid)
        turn.write(lambda: store.forget_broadcast(transaction.txid))
        self.save(turn)


def script_at(name: str, address: str, network: str) -> bytes:
    """The output script of an address that is given for a parameter of this name.

    Raises:
        CommandFailed: it is no address of this network.
    """
    try:
        return script_of(address, network)
    except InvalidAddress as bad:
        raise CommandFailed(INVALID_PARAMETERS, f"{name}: {bad}: invalid token '{address}'") from None
