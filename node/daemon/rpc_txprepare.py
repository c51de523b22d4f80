"""Commands that pay several addresses at once: at one go, or prepared first and sent later."""

from collections.abc import Callable, Sequence
from typing import Any

from node.daemon.node import Node
from node.daemon.outlays import DUST, Outlays, script_at
from node.daemon.psbt import psbt_of, signed_psbt, unsigned
from node.daemon.rpc_feerates import NORMAL, Feerate, FeerateWish
from node.daemon.rpc_parameters import (
    INVALID_PARAMETERS,
    AmountSatOrAll,
    Array,
    CommandFailed,
    Hash,
    Integer,
    Kind,
)
from node.daemon.rpc_wallet import means_of
from node.daemon.turn import Turn
from node.daemon.wallet import MIN_OUTPUT_SAT, FundedTransaction
from wire.bitcoin.tx import Transaction, TxOut, txid_hex
from wire.units import Sat

_AMOUNT: Kind = AmountSatOrAll.__metadata__[0]  # type: ignore[attr-defined]


class TxprepareCommands:
    """Payments on the chain with more than one output."""

    def __init__(self, node: Node) -> None:
        self._node, self._outlays = node, Outlays(node)
        self._prepared: dict[bytes, FundedTransaction] = {}

    async def multiwithdraw(
        self, outputs: Array, feerate: Feerate = NORMAL, minconf: Integer = 1, utxos: Array | None = None
    ) -> dict[str, Any]:
        """Pay several addresses in one transaction, one of them perhaps `all` that is left."""
        fund = await self._funding(outputs, feerate, minconf, utxos)

        def act(turn: Turn) -> FundedTransaction:
            funded = fund(turn)
            self._outlays.keep(turn, funded.transaction, funded.remainder)
            return funded

        sent = await self._outlays.make(act)
        return {"tx": sent["tx"], "txid": sent["txid"]}

    async def txprepare(
        self, outputs: Array, feerate: Feerate = NORMAL, minconf: Integer = 1, utxos: Array | None = None
    ) -> dict[str, Any]:
        """Make a transaction and keep its coins for it, until it is sent or discarded, or the node stops."""
        funded: FundedTransaction = await self._outlays.ask(
            await self._funding(outputs, feerate, minconf, utxos)
        )
        transaction = funded.transaction
        self._prepared[transaction.txid] = funded
        spent = self._node.wallet.spent_by(transaction)
        return {**_unsigned(transaction), "psbt": psbt_of(transaction, spent).text}

    async def txsend(self, txid: Hash) -> dict[str, Any]:
        """Publish a transaction that was prepared."""
        funded = self._taken(txid)
        transaction = funded.transaction
        spent = self._node.wallet.spent_by(transaction)
        await self._node.switch.ask(lambda turn: self._outlays.keep(turn, transaction, funded.remainder))
        await self._outlays.publish(transaction)
        return {
            "tx": transaction.serialize().hex(),
            "txid": txid_hex(transaction.txid),
            "psbt": signed_psbt(transaction, spent),
        }

    async def txdiscard(self, txid: Hash) -> dict[str, Any]:
        """Give up a transaction that was prepared; its coins are free again."""
        funded = self._taken(txid)
        await self._node.switch.ask(lambda _: self._node.wallet.release(funded))
        return _unsigned(funded.transaction)

    def _taken(self, txid: bytes) -> FundedTransaction:
        funded = self._prepared.pop(txid[::-1], None)
        if funded is None:
            raise CommandFailed(INVALID_PARAMETERS, f"not an unreleased txid {txid.hex()}")
        return funded

    async def _funding(
        self, outputs: Sequence[Any], feerate: FeerateWish, minconf: int, utxos: list[Any] | None
    ) -> Callable[[Turn], FundedTransaction]:
        """What a turn does to pay these from the wallet; nobody has been told of it then."""
        rest, others = self._read(outputs)
        rate, means = await feerate.per_kw(self._node.chain), means_of(minconf, utxos)

        def act(_: Turn) -> FundedTransaction:
            wallet = self._node.wallet
            if rest is not None:
                return wallet.fund_all(rest, rate, means, [*others, *self._outlays.kept_back(means)])
            return wallet.fund(others, rate, means=means)

        return act

    def _read(self, outputs: Sequence[Any]) -> tuple[bytes | None, list[TxOut]]:
        """Where all the rest goes, if anywhere, and the outputs that say how much."""
        rest, others = list[bytes](), list[TxOut]()
        for each in outputs:
            if not isinstance(each, dict) or len(each) != 1:
                why = "outputs: should be an array of objects with one address and its amount each"
                raise CommandFailed(INVALID_PARAMETERS, why)
            [(address, value)] = each.items()
            script = script_at("outputs", str(address), self._node.chain.network)
            amount_sat: Sat | None = _AMOUNT.of("outputs", value)
            if amount_sat is None:
                rest.append(script)
            elif amount_sat < MIN_OUTPUT_SAT:
                raise CommandFailed(DUST, f"{amount_sat} sat would be dust: the least is {MIN_OUTPUT_SAT}")
            else:
                others.append(TxOut(amount_sat, script))
        if len(rest) > 1 or not outputs:
            raise CommandFailed(INVALID_PARAMETERS, "outputs: should be some, and one at most for 'all'")
        return (rest[0] if rest else None), others


def _unsigned(transaction: Transaction) -> dict[str, Any]:
    raw = unsigned(transaction).serialize_stripped().hex()
    return {"unsigned_tx": raw, "txid": txid_hex(transaction.txid)}
