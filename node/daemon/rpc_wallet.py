"""Commands about the money on the chain: coins, payments, and their fees."""

from typing import Any

from node.daemon import bumping
from node.daemon.bumping import CannotBump
from node.daemon.node import Node
from node.daemon.outlays import DUST, UNSPECIFIED, Outlays, script_at
from node.daemon.rpc_feerates import NORMAL, Feerate
from node.daemon.rpc_parameters import (
    INVALID_PARAMETERS,
    AmountSatOrAll,
    Array,
    Boolean,
    CommandFailed,
    Hash,
    Integer,
    Text,
)
from node.daemon.rpc_views import channel_funds_view, coin_view, is_over
from node.daemon.turn import Turn
from node.daemon.wallet import MIN_OUTPUT_SAT, FundedTransaction, Known, Means
from wire.bitcoin.address import address_of
from wire.bitcoin.tx import OutPoint, TxOut, txid_hex, txid_of_hex
from wire.units import msat


class WalletCommands:
    """Coins, and what is paid with them."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._network = node.chain.network
        self._outlays = Outlays(node)

    async def listfunds(self, spent: Boolean = False) -> dict[str, Any]:
        """What is ours on chain and in channels."""
        node = self._node
        open_channels = [channel for channel in node.channels() if not is_over(node, channel)]
        coins = [coin_view(coin, self._network, node.wallet.is_mature(coin)) for coin in node.wallet.coins()]
        return {
            "outputs": [*coins, *(self._spent() if spent else ())],
            "channels": [channel_funds_view(node, channel) for channel in open_channels],
        }

    def _spent(self) -> list[dict[str, Any]]:
        """Outputs that were ours."""
        return [
            {
                "txid": txid_hex(txin.outpoint.txid),
                "output": txin.outpoint.index,
                "amount_msat": msat(output.value_sat),
                "scriptpubkey": output.script.hex(),
                "address": address_of(output.script, self._network),
                "status": "spent",
                "reserved": False,
            }
            for transaction in (known.transaction for known in self._node.wallet.transactions())
            for txin, output in zip(transaction.inputs, self._node.wallet.spent_by(transaction), strict=True)
            if output is not None
        ]

    async def listtransactions(self) -> dict[str, Any]:
        """Every transaction that touches the wallet."""
        return {"transactions": [_transaction_view(known) for known in self._node.wallet.transactions()]}

    async def withdraw(
        self,
        destination: Text,
        satoshi: AmountSatOrAll,
        feerate: Feerate = NORMAL,
        minconf: Integer = 1,
        utxos: Array | None = None,
    ) -> dict[str, Any]:
        """Pay an address on the chain, some satoshis or all but what channels with anchors may need."""
        script = script_at("destination", destination, self._network)
        rate = await feerate.per_kw(self._node.chain)
        means = means_of(minconf, utxos)
        if satoshi is not None and satoshi < MIN_OUTPUT_SAT:
            raise CommandFailed(DUST, f"{satoshi} sat would be dust: the least is {MIN_OUTPUT_SAT}")

        def act(turn: Turn) -> FundedTransaction:
            if satoshi is None:
                kept = self._outlays.kept_back(means)
                funded = self._node.wallet.fund_all(script, rate, means, kept)
            else:
                funded = self._node.wallet.fund((TxOut(satoshi, script),), rate, means=means)
            self._outlays.keep(turn, funded.transaction, funded.remainder)
            return funded

        return await self._outlays.make(act)

    async def bumpfee(self, txid: Hash, feerate: Feerate | None = None) -> dict[str, Any]:
        """Pay more for a transaction of ours that waits: replace it, or pull it with a child."""
        node, name = self._node, txid[::-1]
        funds_channel = any(c.charter.funding_outpoint.txid == name for c in node.channels())
        raise_fee = bumping.pull if funds_channel else bumping.replace
        rate = await (feerate or NORMAL).per_kw(node.chain)
        if feerate is None:
            rate = max(rate, self._usual_step(name))

        def act(turn: Turn) -> FundedTransaction:
            funded = raise_fee(node.wallet, name, rate)
            self._outlays.keep(turn, funded.transaction)
            if not funds_channel:
                turn.write(lambda: node.store.forget_broadcast(name))
            return funded

        sent = await self._outlays.make(act)
        return {**sent, "method": "child" if funds_channel else "replacement"}

    def _usual_step(self, txid: bytes) -> int:
        """Half more than it pays now."""
        try:
            transaction, fee_sat = bumping.waiting(self._node.wallet, txid)
        except CannotBump as cannot:
            raise CommandFailed(UNSPECIFIED, str(cannot)) from None
        return 3 * fee_sat * 1000 // (2 * transaction.weight) + bumping.RELAY_PER_KW


def means_of(minconf: int, utxos: list[Any] | None) -> Means:
    """Which coins may pay, as `minconf` and `utxos` say.

    Raises:
        CommandFailed: what they say cannot be meant.
    """
    try:
        named = tuple([_outpoint(str(text)) for text in utxos or ()])
    except ValueError:
        why = f"utxos: should be an array of txid:output: invalid token '{utxos}'"
        raise CommandFailed(INVALID_PARAMETERS, why) from None
    if utxos is not None and len(set(named)) != max(1, len(utxos)):
        raise CommandFailed(INVALID_PARAMETERS, "utxos: should name some outputs, and each once")
    return Means(named, minconf)


def _outpoint(text: str) -> OutPoint:
    txid, _, index = text.partition(":")
    if len(txid) != 64:
        raise ValueError
    return OutPoint(txid_of_hex(txid), int(index))


def _transaction_view(known: Known) -> dict[str, Any]:
    transaction = known.transaction
    return {
        "hash": txid_hex(transaction.txid),
        "rawtx": transaction.serialize().hex(),
        "blockheight": known.height or 0,
        "txindex": known.position or 0,
        "locktime": transaction.locktime,
        "version": transaction.version,
        "inputs": [
            {
                "txid": txid_hex(txin.outpoint.txid),
                "index": txin.outpoint.index,
                "sequence": txin.sequence,
            }
            for txin in transaction.inputs
        ],
        "outputs": [
            {"index": index, "amount_msat": msat(output.value_sat), "scriptPubKey": output.script.hex()}
            for index, output in enumerate(transaction.outputs)
        ],
    }
