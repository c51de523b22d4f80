"""Commands about transactions that our user puts together: coins that are kept for them, and PSBTs."""

from collections.abc import Callable
from typing import Any

from node.daemon.coin_selection import CHANGE_DUST_SAT, CHANGE_WEIGHT, INPUT_WEIGHT, Target
from node.daemon.node import Node
from node.daemon.outlays import UNSPECIFIED, Outlays, script_at
from node.daemon.psbt import BadPsbt, Psbt, psbt_of, read_psbt
from node.daemon.reservations import Reservation
from node.daemon.rpc_feerates import Feerate
from node.daemon.rpc_parameters import (
    INVALID_PARAMETERS,
    U32,
    AmountSat,
    AmountSatOrAll,
    Array,
    Boolean,
    CommandFailed,
    Integer,
    Text,
    none_of,
)
from node.daemon.rpc_wallet import means_of
from node.daemon.turn import Turn
from node.daemon.wallet import InsufficientFunds, Means, WalletCoin
from wire.bitcoin.tx import Transaction, TxIn, TxOut, txid_hex
from wire.units import Sat, msat

RESERVE_BLOCKS = 72  # half a day
USUAL_WITNESS_WEIGHT = 110  # of a P2WPKH input; what our inputs need is known anyhow


class PsbtCommands:
    """Coins for somebody else's transaction, and our signatures on it."""

    def __init__(self, node: Node) -> None:
        self._node, self._outlays = node, Outlays(node)

    async def fundpsbt(
        self,
        satoshi: AmountSatOrAll,
        feerate: Feerate,
        startweight: Integer,
        minconf: Integer = 1,
        reserve: U32 = RESERVE_BLOCKS,
        locktime: U32 = 0,
        min_witness_weight: U32 = 0,
        excess_as_change: Boolean = False,
        nonwrapped: Boolean = True,  # noqa: ARG002 - the wallet has no others
        opening_anchor_channel: Boolean = False,  # noqa: ARG002 - nothing is kept back for anchors
    ) -> dict[str, Any]:
        """A PSBT whose inputs bring so much beyond their fee, for outputs that are added later."""
        none_of(min_witness_weight=min_witness_weight > USUAL_WITNESS_WEIGHT)
        means, wallet = Means(minimum_depth=minconf), self._node.wallet
        rate = await feerate.per_kw(self._node.chain)

        def act(turn: Turn) -> dict[str, Any]:
            if satoshi is None:
                coins = wallet.all_coins(means)
            else:
                coins = wallet.select(Target(satoshi, startweight, rate, needs_change=False), means)
            bundle = _Bundle(coins, satoshi, startweight, rate)
            return self._funded(turn, bundle, reserve, locktime, with_change=excess_as_change)

        found: dict[str, Any] = await self._outlays.ask(act)
        return found

    async def utxopsbt(
        self,
        satoshi: AmountSatOrAll,
        feerate: Feerate,
        startweight: Integer,
        utxos: Array,
        reserve: U32 = RESERVE_BLOCKS,
        reservedok: Boolean = False,
        locktime: U32 = 0,
        min_witness_weight: U32 = 0,
        excess_as_change: Boolean = False,
        opening_anchor_channel: Boolean = False,  # noqa: ARG002 - nothing is kept back for anchors
    ) -> dict[str, Any]:
        """The same from the coins that are named, all of them."""
        none_of(min_witness_weight=min_witness_weight > USUAL_WITNESS_WEIGHT)
        named, wallet = means_of(0, utxos).coins, self._node.wallet
        rate = await feerate.per_kw(self._node.chain)

        def act(turn: Turn) -> dict[str, Any]:
            ours = {coin.outpoint: coin for coin in wallet.coins()}
            for outpoint in named:
                if outpoint not in ours:
                    raise CommandFailed(INVALID_PARAMETERS, f"utxos: unknown UTXO {outpoint}")
                if ours[outpoint].is_reserved and not reservedok:
                    raise CommandFailed(INVALID_PARAMETERS, f"utxos: UTXO {outpoint} already reserved")
            bundle = _Bundle([ours[outpoint] for outpoint in named], satoshi, startweight, rate)
            return self._funded(turn, bundle, reserve, locktime, with_change=excess_as_change)

        found: dict[str, Any] = await self._outlays.ask(act)
        return found

    def _funded(
        self, turn: Turn, bundle: "_Bundle", reserve: int, locktime: int, *, with_change: bool
    ) -> dict[str, Any]:
        """Reserve the coins, and show what spends them."""
        wallet, height = self._node.wallet, self._node.switch.height
        excess_sat, weight, outputs = bundle.excess_sat(wallet.input_weight), 0, tuple[TxOut, ...]()
        change_sat = excess_sat - bundle.fee_sat(CHANGE_WEIGHT)
        if with_change and change_sat >= CHANGE_DUST_SAT:
            outputs, weight = (TxOut(Sat(change_sat), wallet.new_change_script()),), CHANGE_WEIGHT
            excess_sat = 0
        transaction = Transaction(
            2, tuple([TxIn(coin.outpoint) for coin in bundle.coins]), outputs, locktime or height
        )
        spent = [TxOut(coin.value_sat, coin.script) for coin in bundle.coins]
        shown: dict[str, Any] = {
            "psbt": psbt_of(transaction, spent).text,
            "feerate_per_kw": bundle.feerate_per_kw,
            "estimated_final_weight": weight + bundle.weight(wallet.input_weight),
            "excess_msat": msat(Sat(excess_sat)),
        }
        if outputs:
            shown["change_outnum"] = 0
        if reserve:
            kept = [wallet.reservations.extend(coin.outpoint, reserve, height) for coin in bundle.coins]
            shown["reservations"] = [_reservation_view(each) for each in kept]
        self._outlays.save(turn)
        return shown

    async def addpsbtoutput(
        self,
        satoshi: AmountSat,
        initialpsbt: Text | None = None,
        locktime: U32 = 0,  # noqa: ARG002 - of a new PSBT
        destination: Text | None = None,
    ) -> dict[str, Any]:
        """Add an output to a PSBT: to an address, or to a fresh one of the wallet."""
        if initialpsbt is None:
            # a transaction without inputs reads as one with witnesses, and is no beginning
            raise CommandFailed(INVALID_PARAMETERS, "initialpsbt: should be a PSBT that has inputs")
        switch, network = self._node.switch, self._node.chain.network
        if destination is None:
            script = (await switch.ask(switch.new_scripts))[1]
        else:
            script = script_at("destination", destination, network)
        psbt = _read(initialpsbt)
        output = TxOut(satoshi, script)
        number = psbt.append(output)
        weight = 4 * len(output.serialize())
        return {"psbt": psbt.text, "estimated_added_weight": weight, "outnum": number}

    # --- reservations

    async def reserveinputs(
        self, psbt: Text, exclusive: Boolean = True, reserve: U32 = RESERVE_BLOCKS
    ) -> dict[str, Any]:
        """Keep those inputs of a PSBT that are ours for so many blocks."""
        read = _read(psbt)

        def act(turn: Turn) -> list[Reservation]:
            wallet, coins = self._node.wallet, self._ours(read)
            for coin in coins if exclusive else ():
                if coin.is_reserved:
                    raise CommandFailed(UNSPECIFIED, f"{coin.outpoint} already reserved")
            self._outlays.save(turn)
            return [wallet.reservations.extend(coin.outpoint, reserve, wallet.height) for coin in coins]

        kept = await self._outlays.ask(act)
        return {"reservations": [_reservation_view(each) for each in kept]}

    async def unreserveinputs(self, psbt: Text, reserve: U32 = RESERVE_BLOCKS) -> dict[str, Any]:
        """Keep those inputs of a PSBT that are ours so many blocks less."""
        read = _read(psbt)

        def act(turn: Turn) -> list[Reservation]:
            wallet = self._node.wallet
            self._outlays.save(turn)
            return [
                wallet.reservations.shorten(coin.outpoint, reserve, wallet.height)
                for coin in self._ours(read)
            ]

        kept = await self._outlays.ask(act)
        return {"reservations": [_reservation_view(each) for each in kept]}

    def _ours(self, psbt: Psbt) -> list[WalletCoin]:
        """The coins of ours that it spends."""
        spent = [txin.outpoint for txin in psbt.transaction.inputs]
        return [coin for coin in self._node.wallet.coins() if coin.outpoint in spent]

    # --- signatures

    async def signpsbt(self, psbt: Text, signonly: Array | None = None) -> dict[str, Any]:
        """Sign those inputs of a PSBT that are ours and kept for it, or of these only the ones named."""
        read = _read(psbt)
        ours = {coin.outpoint: coin for coin in self._ours(read)}
        inputs = read.transaction.inputs
        wanted = [at for at in range(len(inputs)) if signonly is None or at in signonly]
        mine = [at for at in wanted if inputs[at].outpoint in ours]
        if not mine or (signonly is not None and len(mine) < len(signonly)):
            raise CommandFailed(UNSPECIFIED, "No wallet inputs to sign")
        for at in mine:
            if not ours[inputs[at].outpoint].is_reserved:
                why = f"Aborting PSBT signing. UTXO {inputs[at].outpoint} is not reserved"
                raise CommandFailed(UNSPECIFIED, why)
        told = zip(inputs, read.spent, strict=True)
        others = {txin.outpoint: output for txin, output in told if output is not None}
        others |= {outpoint: TxOut(coin.value_sat, coin.script) for outpoint, coin in ours.items()}
        if any(txin.outpoint not in others for txin in inputs) and self._has_taproot(ours):
            raise CommandFailed(UNSPECIFIED, "a taproot input signs for what all others spend: it is missing")
        signed = self._node.wallet.sign(read.transaction, others)
        for at in mine:
            read.tell(at, others[inputs[at].outpoint])
            read.finish(at, signed.inputs[at].witness)
        return {"signed_psbt": read.text}

    def _has_taproot(self, ours: dict[Any, WalletCoin]) -> bool:
        return any(self._node.wallet.input_weight(coin) < INPUT_WEIGHT for coin in ours.values())

    async def sendpsbt(self, psbt: Text, reserve: U32 = RESERVE_BLOCKS) -> dict[str, Any]:  # noqa: ARG002 - what is spent needs no reservation
        """Publish a PSBT that everybody has signed."""
        try:
            transaction = _read(psbt).finished()
        except BadPsbt as unfinished:
            raise CommandFailed(UNSPECIFIED, str(unfinished)) from None
        await self._node.switch.ask(lambda turn: self._outlays.keep(turn, transaction))
        await self._outlays.publish(transaction)
        return {"tx": transaction.serialize().hex(), "txid": txid_hex(transaction.txid)}


class _Bundle:
    """Coins that shall bring an amount beyond their fee and that of so much weight; or all there is."""

    def __init__(
        self, coins: list[WalletCoin], amount_sat: Sat | None, start_weight: int, feerate_per_kw: int
    ) -> None:
        self.coins, self._amount_sat = coins, amount_sat
        self._start_weight, self.feerate_per_kw = start_weight, feerate_per_kw

    def fee_sat(self, weight: int) -> int:
        return -(-weight * self.feerate_per_kw // 1000)

    def weight(self, of: Callable[[WalletCoin], int]) -> int:
        """What the transaction weighs with them."""
        return self._start_weight + sum(map(of, self.coins))

    def excess_sat(self, of: Callable[[WalletCoin], int]) -> int:
        """What they bring beyond what is wanted.

        Raises:
            InsufficientFunds: it is less.
        """
        have_sat = sum(coin.value_sat for coin in self.coins)
        need_sat = (self._amount_sat or 0) + self.fee_sat(self.weight(of))
        if have_sat < need_sat or not self.coins:
            raise InsufficientFunds(need_sat, have_sat)
        return have_sat - need_sat


def _read(text: str) -> Psbt:
    try:
        return read_psbt(text)
    except BadPsbt as bad:
        raise CommandFailed(INVALID_PARAMETERS, f"psbt: {bad}") from None


def _reservation_view(each: Reservation) -> dict[str, Any]:
    view: dict[str, Any] = {
        "txid": txid_hex(each.outpoint.txid),
        "vout": each.outpoint.index,
        "was_reserved": bool(each.before),
        "reserved": bool(each.until),
    }
    return {**view, "reserved_to_block": each.until} if each.until else view
