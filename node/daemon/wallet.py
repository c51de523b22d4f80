"""The node's money on the chain: what pays its scripts, and transactions that spend it.

One truth: the transactions that concern us, each with the height of its block, or none while it
waits. Coins and balances follow from them, so a block is undone by forgetting a height. The
wallet is told of blocks and of what the node broadcasts; it asks nobody and waits for nothing.
What it holds in memory goes to disk by `save`, inside the caller's database transaction.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import apsw
import msgspec

from node.daemon.coin_selection import (
    CHANGE_DUST_SAT,
    CHANGE_WEIGHT,
    INPUT_WEIGHT,
    TAPROOT_INPUT_WEIGHT,
    Target,
    select,
)
from node.daemon.reservations import SCHEMA as RESERVATIONS_SCHEMA
from node.daemon.reservations import Reservations
from node.daemon.wallet_keys import CHANGE, RECEIVE, KeyPath, WalletKeys
from wire.bitcoin.sighash import p2wpkh_script_code, segwit_v0_sighash, witness_signature
from wire.bitcoin.taproot import key_path_sighash, output_secret
from wire.bitcoin.tx import OutPoint, Transaction, TxIn, TxOut, parse_transaction
from wire.crypto import secp256k1
from wire.crypto.hashes import hash160
from wire.units import Sat

SCHEMA = f"""{RESERVATIONS_SCHEMA}
create table if not exists wallet_transactions(txid blob primary key, height integer, raw blob not null)
    without rowid;
create table if not exists wallet_positions(txid blob primary key, position integer not null) without rowid;
create table if not exists wallet_remainders(txid blob primary key, position integer not null) without rowid;
create table if not exists wallet_numbers(name text primary key, value integer not null) without rowid;
"""

COINBASE_MATURITY_BLOCKS = 100
MIN_OUTPUT_SAT = Sat(546)
"""No standard output of this value is dust, whatever its script."""

_SEGWIT_MARKER_WEIGHT = 2
_BRANCH_NAMES = ("receive", "change")


class InsufficientFunds(Exception):
    """The coins that may be spent now do not cover a transaction and its fee."""

    def __init__(self, need_sat: int, have_sat: int) -> None:
        super().__init__(f"this takes {need_sat} sat on chain, fee included; {have_sat} sat can be spent")
        self.need_sat = need_sat
        self.have_sat = have_sat


class Balance(msgspec.Struct, frozen=True, gc=False):
    """What is ours and not spent, by whether a block says so."""

    confirmed_sat: Sat
    unconfirmed_sat: Sat


class Descriptor(msgspec.Struct, frozen=True):
    """The scripts of one branch of one account, for other wallets."""

    text: str
    next_index: int
    is_change: bool


class WalletCoin(msgspec.Struct, frozen=True, gc=False):
    """An output of ours that nothing known spends. Without a height it waits for a block."""

    outpoint: OutPoint
    value_sat: Sat
    script: bytes
    height: int | None
    is_reserved: bool
    reserved_until: int = 0  # the height at which it may be free again


class ForeignInput(msgspec.Struct, frozen=True, gc=False):
    """An input that somebody else signs, such as a channel's anchor."""

    txin: TxIn
    spent: TxOut
    witness_weight: int


class Means(msgspec.Struct, frozen=True):
    """Which coins may pay."""

    coins: tuple[OutPoint, ...] = ()  # if there are any: these, all of them
    minimum_depth: int | None = None  # None: unconfirmed ones that are all ours, if nothing else is enough


ANY_COINS = Means()


class FundedTransaction(msgspec.Struct, frozen=True):
    """A transaction with our inputs signed and reserved. Nobody has been told of it yet."""

    transaction: Transaction
    fee_sat: Sat
    reserved: tuple[OutPoint, ...]
    remainder: int | None = None  # the output that takes whatever the fee leaves, if one does


class Known(msgspec.Struct, frozen=True):
    """A transaction that concerns us, and where it is in the best chain, if it is."""

    transaction: Transaction
    height: int | None
    position: int | None = None


class Wallet:
    """The on-chain wallet of one node, from a seed of 16 to 64 bytes (BIP 39 gives 64)."""

    def __init__(self, seed: bytes, network: str, path: str | None = None) -> None:
        self.height = 0
        self._keys = WalletKeys(seed, network, path)
        self._known: dict[bytes, Known] = {}
        self._own: dict[OutPoint, TxOut] = {}
        self._claims: dict[OutPoint, bytes] = {}
        self._reserved: set[OutPoint] = set()
        self.reservations = Reservations()
        self._unsaved: set[bytes] = set()
        self.remainders: dict[bytes, int] = {}
        """By transaction: the output that takes whatever the fee leaves."""

    # --- receiving

    def new_script(self) -> bytes:
        """A script to be paid at, never given out before."""
        return self.new_scripts()[0]

    def new_scripts(self) -> tuple[bytes, bytes]:
        """Two scripts to be paid at, of segwit's first version and of taproot, never given out before."""
        return self._keys.new_scripts(RECEIVE)

    def apply_block(self, height: int, transactions: Iterable[Transaction]) -> None:
        """Learn what a new block of the best chain does to us. Hearing it twice changes nothing."""
        self.height = height
        for position, transaction in enumerate(transactions):
            self._drop_conflicts(transaction)
            if self._concerns_us(transaction):
                self._remember(transaction, height, position)

    def undo_block(self, height: int) -> None:
        """The block at this height, the last one applied, is no longer in the best chain.

        Its transactions wait again; its coinbase never was.
        """
        self.height = height - 1
        for known in [known for known in self._known.values() if known.height == height]:
            if _is_coinbase(known.transaction):
                self.forget(known.transaction.txid)
            else:
                self._remember(known.transaction, None)

    def add(self, transaction: Transaction, remainder: int | None = None) -> None:
        """The node broadcasts this: its inputs are gone, and what it pays us is on the way.

        It takes the place of an earlier one that it conflicts with, unless a block has that.
        """
        if transaction.txid in self._known or not self._concerns_us(transaction):
            return
        rivals = [self._known[txid] for txid in self._conflicts(transaction)]
        if all(rival.height is None for rival in rivals):
            self._drop_conflicts(transaction)
            self._remember(transaction, None)
            if remainder is not None:
                self.remainders[transaction.txid] = remainder

    def forget(self, txid: bytes) -> None:
        """An unconfirmed transaction will never confirm, and so neither will what spends it."""
        known = self._known.pop(txid, None)
        if known is None:
            return
        self._unsaved.add(txid)
        self.remainders.pop(txid, None)
        for outpoint in _spends(known.transaction):
            self._claims.pop(outpoint, None)
        for outpoint in _outpoints(known.transaction):
            self._own.pop(outpoint, None)
            if outpoint in self._claims:
                self.forget(self._claims[outpoint])

    def _concerns_us(self, transaction: Transaction) -> bool:
        spends = any(txin.outpoint in self._own for txin in transaction.inputs)
        return spends or any(self.is_ours(output.script) for output in transaction.outputs)

    def _conflicts(self, transaction: Transaction) -> set[bytes]:
        claimants = {self._claims.get(outpoint) for outpoint in _spends(transaction)}
        return {txid for txid in claimants if txid is not None and txid != transaction.txid}

    def _drop_conflicts(self, transaction: Transaction) -> None:
        for txid in self._conflicts(transaction):
            self.forget(txid)

    def _remember(self, transaction: Transaction, height: int | None, position: int | None = None) -> None:
        self._known[transaction.txid] = Known(transaction, height, position)
        self._unsaved.add(transaction.txid)
        for outpoint in _spends(transaction):
            self._claims[outpoint] = transaction.txid
            self._reserved.discard(outpoint)
            self.reservations.forget(outpoint)
        for outpoint, output in zip(_outpoints(transaction), transaction.outputs, strict=True):
            path = self._keys.path_of(output.script)
            if path is not None:
                self._keys.use(path.branch, path.index + 1)
                self._own[outpoint] = output

    def given_scripts(self) -> list[tuple[bytes, bytes]]:
        """Every pair that `new_scripts` has given, by its number."""
        return self._keys.given(RECEIVE)

    def descriptors(self) -> list[Descriptor]:
        """What another wallet has to watch to see this one's money, as BIP 380 says it."""
        return [
            Descriptor(
                self._keys.descriptor(branch, is_taproot=is_taproot),
                self._keys.next_index[branch],
                is_change=branch == CHANGE,
            )
            for is_taproot in (False, True)
            for branch in (RECEIVE, CHANGE)
        ]

    # --- what there is

    @property
    def key_indexes(self) -> tuple[int, int]:
        """How many scripts were handed out, to receive and for change."""
        receive, change = self._keys.next_index
        return receive, change

    def is_ours(self, script: bytes) -> bool:
        """Whether an output script pays this wallet."""
        return self._keys.path_of(script) is not None

    def is_change(self, script: bytes) -> bool:
        """Whether an output script was never given to anybody else."""
        path = self._keys.path_of(script)
        return path is not None and path.branch == CHANGE

    def coins(self) -> Iterator[WalletCoin]:
        """Every output of ours that nothing known spends."""
        for outpoint, output in self._own.items():
            if outpoint not in self._claims:
                height = self._known[outpoint.txid].height
                until = self.reservations.until(outpoint, self.height)
                if outpoint in self._reserved:
                    # until it is spent or given up, and nobody knows when that is
                    until = max(until, self.height + 1)
                yield WalletCoin(outpoint, output.value_sat, output.script, height, bool(until), until)

    def balance_sat(self) -> Balance:
        """What is ours, reserved coins included."""
        confirmed_sat = unconfirmed_sat = 0
        for coin in self.coins():
            if coin.height is None:
                unconfirmed_sat += coin.value_sat
            else:
                confirmed_sat += coin.value_sat
        return Balance(Sat(confirmed_sat), Sat(unconfirmed_sat))

    def _spendable(self, means: Means = ANY_COINS) -> tuple[list[WalletCoin], list[WalletCoin]]:
        """Confirmed coins, and those that wait but depend on nobody else."""
        free = [coin for coin in self.coins() if not coin.is_reserved]
        if means.coins:
            return [coin for coin in free if coin.outpoint in means.coins], []
        least = means.minimum_depth
        confirmed = [coin for coin in free if coin.height is not None and self.is_mature(coin)]
        deep = [coin for coin in confirmed if self.height + 1 - (coin.height or 0) >= (least or 0)]
        if least:
            return deep, []
        return deep, [coin for coin in free if coin.height is None and self._is_all_ours(coin.outpoint)]

    def is_mature(self, coin: WalletCoin) -> bool:
        """Whether it may be spent by now: new money has to wait."""
        known = self._known[coin.outpoint.txid]
        age = self.height + 1 - (known.height or 0)
        return age >= COINBASE_MATURITY_BLOCKS or not _is_coinbase(known.transaction)

    def _is_all_ours(self, outpoint: OutPoint) -> bool:
        """Whether nobody but us could make this output disappear, once its confirmed past stays."""
        known = self._known.get(outpoint.txid)
        if known is None or outpoint not in self._own:
            return False
        return known.height is not None or all(
            self._is_all_ours(txin.outpoint) for txin in known.transaction.inputs
        )

    # --- spending

    def fund(
        self,
        outputs: Sequence[TxOut],
        feerate_per_kw: int,
        *,
        foreign: Sequence[ForeignInput] = (),
        also_pay_sat: int = 0,
        locktime: int = 0,
        means: Means = ANY_COINS,
    ) -> FundedTransaction:
        """A transaction with these outputs first, in this order, and change last if it is worth it.

        All our inputs are native segwit, so its txid is final although it was not broadcast. The
        inputs are reserved until `add` or `release`. `foreign` inputs come first and add their
        value; `also_pay_sat` is fee beyond the transaction's own, for a parent that pays too little.

        Raises:
            InsufficientFunds: no coins are reserved.
        """
        stripped = Transaction(2, tuple([each.txin for each in foreign]), tuple(outputs)).serialize_stripped()
        base_weight = 4 * len(stripped) + _SEGWIT_MARKER_WEIGHT + sum(each.witness_weight for each in foreign)
        amount_sat = sum(output.value_sat for output in outputs) + also_pay_sat
        amount_sat -= sum(each.spent.value_sat for each in foreign)
        target = Target(amount_sat, base_weight, feerate_per_kw, needs_change=not outputs)
        coins = self.select(target, means)
        return self._reserve(foreign, coins, self._with_change(outputs, coins, target), locktime)

    def fund_all(
        self,
        script: bytes,
        feerate_per_kw: int,
        means: Means = ANY_COINS,
        others: Sequence[TxOut] = (),
    ) -> FundedTransaction:
        """A transaction that pays every confirmed coin to one script, less the fee and other outputs.

        With means, the coins that they name, or those that are as deep as they say.

        Raises:
            InsufficientFunds: nothing would be left.
        """
        coins = self.all_coins(means)
        total_sat = sum(coin.value_sat for coin in coins) - sum(output.value_sat for output in others)
        stripped = Transaction(2, (), (*others, TxOut(Sat(0), script))).serialize_stripped()
        weight = 4 * len(stripped) + _SEGWIT_MARKER_WEIGHT + sum(map(self.input_weight, coins))
        fee_sat = Target(0, weight, feerate_per_kw, needs_change=False).fee_sat(weight)
        if total_sat - fee_sat < MIN_OUTPUT_SAT:
            raise InsufficientFunds(fee_sat + MIN_OUTPUT_SAT, total_sat)
        funded = self._reserve((), coins, (*others, TxOut(Sat(total_sat - fee_sat), script)))
        return msgspec.structs.replace(funded, remainder=len(others))

    def all_coins(self, means: Means = ANY_COINS) -> list[WalletCoin]:
        """Every coin that `means` let be spent: without any, every confirmed one."""
        coins, waiting = self._spendable(means)
        return [*coins, *waiting] if means.minimum_depth == 0 else coins

    def release(self, funded: FundedTransaction) -> None:
        """The transaction will not be broadcast: its inputs may be used again."""
        self._reserved.difference_update(funded.reserved)

    def sign(self, transaction: Transaction, others: Mapping[OutPoint, TxOut] | None = None) -> Transaction:
        """The same transaction with a witness on every input that spends an output of ours.

        `others` are the outputs that its other inputs spend: taproot signs for them, too.
        """
        known = {**(others or {}), **self._own}
        spent = [known.get(txin.outpoint) for txin in transaction.inputs]
        for index, output in enumerate(spent):
            path = self._keys.path_of(output.script) if output else None
            if output and path and transaction.inputs[index].outpoint in self._own:
                witness = self._witness(transaction, index, spent, path)
                transaction = transaction.with_witness(index, witness)
        return transaction

    def _witness(
        self, transaction: Transaction, index: int, spent: Sequence[TxOut | None], path: KeyPath
    ) -> tuple[bytes, ...]:
        output = spent[index]
        assert output is not None, "it is one of ours"
        if path.is_taproot:
            all_spent = [each for each in spent if each is not None]
            assert len(all_spent) == len(spent), "taproot signs for what every input spends"
            digest = key_path_sighash(transaction, index, all_spent)
            return (secp256k1.sign_schnorr(output_secret(self._keys.secret(path)), digest),)
        pubkey = self._keys.pubkey(path)
        digest = segwit_v0_sighash(transaction, index, p2wpkh_script_code(hash160(pubkey)), output.value_sat)
        return witness_signature(secp256k1.sign(self._keys.secret(path), digest)), pubkey

    def select(self, target: Target, means: Means) -> list[WalletCoin]:
        """Coins that cover a target and what it costs to spend them.

        Raises:
            InsufficientFunds: all together do not.
        """
        confirmed, waiting = self._spendable(means)
        if means.coins:
            chosen = confirmed if len(confirmed) == len(set(means.coins)) else None
            weight = target.base_weight + sum(map(self.input_weight, confirmed))
            have_sat = sum(coin.value_sat for coin in confirmed)
            need_sat = target.amount_sat + target.fee_sat(weight)
            need_sat += target.change_need_sat if target.needs_change else 0
            if chosen is None or have_sat < need_sat:
                raise InsufficientFunds(need_sat, have_sat)
            return chosen
        chosen = select(confirmed, target)
        if chosen is None and waiting:
            chosen = select([*confirmed, *waiting], target)
        if chosen is None:
            have_sat = sum(coin.value_sat for coin in (*confirmed, *waiting))
            raise InsufficientFunds(target.need_sat(1), have_sat)
        return chosen

    def input_weight(self, coin: WalletCoin) -> int:
        """What an input that spends it weighs, witness included."""
        path = self._keys.path_of(coin.script)
        return TAPROOT_INPUT_WEIGHT if path is not None and path.is_taproot else INPUT_WEIGHT

    def new_change_script(self) -> bytes:
        """A script for what is left over, which nobody else is ever given."""
        return self._keys.new_scripts(CHANGE)[0]

    def _with_change(
        self, outputs: Sequence[TxOut], coins: Sequence[WalletCoin], target: Target
    ) -> tuple[TxOut, ...]:
        weight = target.base_weight + sum(map(self.input_weight, coins)) + CHANGE_WEIGHT
        value_sat = sum(coin.value_sat for coin in coins) - target.amount_sat - target.fee_sat(weight)
        if value_sat < CHANGE_DUST_SAT:
            return tuple(outputs)
        return *outputs, TxOut(Sat(value_sat), self.new_change_script())

    def _reserve(
        self,
        foreign: Sequence[ForeignInput],
        coins: Sequence[WalletCoin],
        outputs: tuple[TxOut, ...],
        locktime: int = 0,
    ) -> FundedTransaction:
        inputs = (*(each.txin for each in foreign), *(TxIn(coin.outpoint) for coin in coins))
        brought_sat = sum(each.spent.value_sat for each in foreign) + sum(coin.value_sat for coin in coins)
        fee_sat = Sat(brought_sat - sum(output.value_sat for output in outputs))
        reserved = tuple([coin.outpoint for coin in coins])
        self._reserved.update(reserved)
        others = {each.txin.outpoint: each.spent for each in foreign}
        signed = self.sign(Transaction(2, inputs, outputs, locktime), others)
        return FundedTransaction(signed, fee_sat, reserved)

    # --- what was done

    def transactions(self) -> Iterable[Known]:
        """Every transaction that concerns us."""
        return self._known.values()

    def spent_by(self, transaction: Transaction) -> list[TxOut | None]:
        """Of each input the output of ours that it spends, if it spends one."""
        return [self._own.get(txin.outpoint) for txin in transaction.inputs]

    # --- on disk

    def save(self, db: apsw.Connection) -> None:
        """Write what changed since the last time; the caller begins and commits."""
        for txid in self._unsaved:
            known = self._known.get(txid)
            if known is None:
                db.execute("delete from wallet_transactions where txid = ?", (txid,))
                continue
            row = (txid, known.height, known.transaction.serialize())
            db.execute("insert or replace into wallet_transactions values(?, ?, ?)", row)
            if known.position is not None:
                db.execute("insert or replace into wallet_positions values(?, ?)", (txid, known.position))
            if txid in self.remainders:
                place = (txid, self.remainders[txid])
                db.execute("insert or replace into wallet_remainders values(?, ?)", place)
        self._unsaved.clear()
        self.reservations.save(db)
        numbers = [("height", self.height), *zip(_BRANCH_NAMES, self._keys.next_index, strict=True)]
        db.executemany("insert or replace into wallet_numbers values(?, ?)", numbers)

    def load(self, db: apsw.Connection) -> None:
        """Take back everything that was saved, into a wallet that is new."""
        numbers: dict[str, int] = dict(db.execute("select name, value from wallet_numbers"))
        self.height = numbers.get("height", 0)
        for branch, name in enumerate(_BRANCH_NAMES):
            self._keys.use(branch, numbers.get(name, 0))
        self.reservations.load(db)
        rows = "select height, raw, position from wallet_transactions left join wallet_positions using (txid)"
        for height, raw, position in db.execute(rows):
            self._remember(parse_transaction(raw), height, position)
        self._unsaved.clear()
        self.remainders = {
            txid: position
            for txid, position in db.execute("select txid, position from wallet_remainders")
            if txid in self._known
        }


def _is_coinbase(transaction: Transaction) -> bool:
    return transaction.inputs[0].outpoint.txid == bytes(32)


def _spends(transaction: Transaction) -> list[OutPoint]:
    """What the inputs spend: of a coinbase nothing, though all coinbases name the same outpoint."""
    return [] if _is_coinbase(transaction) else [txin.outpoint for txin in transaction.inputs]


def _outpoints(transaction: Transaction) -> list[OutPoint]:
    return [transaction.outpoint(index) for index in range(len(transaction.outputs))]
