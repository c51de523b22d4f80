"""Who may enter the mempool: bitcoind's rules for one transaction, and for a parent with its child.

A conflict must be outbid (BIP 125; no opt-in is asked for, as bitcoind stopped asking), a chain of
unconfirmed transactions is at most 25 long, and every transaction pays a minimum feerate. A child
may pay for its one parent (a 1p1c package): for one of version 3 that pays nothing itself (BIP 431),
or for one that could not outbid its conflict alone.
"""

from collections.abc import Sequence

import msgspec

from node.chain import truc
from node.chain.coins import Coin
from node.chain.interface import Rejected
from node.chain.kernel import first_unsigned_input
from node.chain.locks import NextBlock, check_locks
from node.chain.mempool import Entry, Mempool, unconfirmed_coin
from node.chain.policy import check_form, check_inputs
from node.chain.script_policy import broken_rule
from wire.bitcoin.tx import OutPoint, Transaction, TxOut
from wire.units import Sat

MIN_RELAY_SAT_PER_KVB = 1000
MAX_CHAIN = 25
MAX_CHAIN_VSIZE = 101_000
CARVE_OUT_VSIZE = 10_000
MAX_REPLACED = 100


class Underpaid(Rejected):
    """Nothing is wrong with it but its fee, so a child may yet pay for it."""


class Arrival(msgspec.Struct, frozen=True):
    """What asks to enter together: one transaction, or an unpaid parent and its child."""

    entries: tuple[Entry, ...]
    ancestors: frozenset[bytes]
    conflicts: frozenset[bytes]
    evicted: frozenset[bytes]

    @property
    def last(self) -> Entry:
        return self.entries[-1]

    @property
    def fee_sat(self) -> int:
        return sum(entry.fee_sat for entry in self.entries)

    @property
    def vsize(self) -> int:
        return sum(entry.vsize for entry in self.entries)


def relay_fee_sat(vsize: int) -> int:
    """What bitcoind wants at least for so many virtual bytes, and for replacing as many."""
    return -(-vsize * MIN_RELAY_SAT_PER_KVB // 1000)


def is_known(mempool: Mempool, transaction: Transaction) -> bool:
    """Whether it waits already, or is confirmed with an output still unspent."""
    outpoints = map(transaction.outpoint, range(len(transaction.outputs)))
    return transaction.txid in mempool or any(map(mempool.confirmed.find, outpoints))


def submit(mempool: Mempool, transactions: Sequence[Transaction], block: NextBlock) -> None:
    """Admit one transaction, or a parent and then its child.

    A parent that pays enough enters for itself, even if the child is refused.

    Raises:
        Rejected: by consensus or policy; the refused one did not enter.
    """
    parent: Entry | None = None
    for transaction in transactions:
        if is_known(mempool, transaction):
            continue
        entry = _examine(mempool, transaction, parent, block)
        try:
            _admit(mempool, (entry,) if parent is None else (parent, entry))
        except Underpaid:
            if transaction is transactions[-1]:
                raise
            parent = entry


def _examine(mempool: Mempool, transaction: Transaction, parent: Entry | None, block: NextBlock) -> Entry:
    """Every rule that looks at one transaction and what it spends."""
    check_form(transaction)
    spent = _spent_coins(mempool, transaction, parent)
    check_locks(transaction, spent, block)
    fee_sat = sum(coin.value_sat for coin in spent) - sum(output.value_sat for output in transaction.outputs)
    if fee_sat < 0:
        raise Rejected(transaction.txid, "bad-txns-in-belowout")
    check_inputs(transaction, spent)
    _check_scripts(transaction, [coin.output() for coin in spent])
    return Entry(transaction, transaction.vsize, Sat(fee_sat), spent)


def _check_scripts(transaction: Transaction, spent: Sequence[TxOut]) -> None:
    unsigned = first_unsigned_input(transaction, spent)
    if unsigned is not None:
        raise Rejected(transaction.txid, f"mandatory-script-verify-flag-failed, input {unsigned}")
    for index, output in enumerate(spent):
        rule = broken_rule(transaction, index, output)
        if rule is not None:
            raise Rejected(transaction.txid, f"non-mandatory-script-verify-flag ({rule}), input {index}")


def _spent_coins(mempool: Mempool, transaction: Transaction, parent: Entry | None) -> tuple[Coin, ...]:
    def find(outpoint: OutPoint) -> Coin | None:
        if parent is not None and outpoint.txid == parent.txid:
            return unconfirmed_coin(parent.transaction, outpoint.index)
        return mempool.find(outpoint)

    found = [find(txin.outpoint) for txin in transaction.inputs]
    spent = tuple([coin for coin in found if coin is not None])
    if len(spent) < len(found):
        raise Rejected(transaction.txid, "bad-txns-inputs-missingorspent")
    return spent


def _admit(mempool: Mempool, entries: tuple[Entry, ...]) -> None:
    """Compare fees and sizes, replace what conflicts, and keep the entries."""
    arrival = _arrival(mempool, entries)
    if arrival.conflicts & arrival.ancestors:
        raise Rejected(arrival.last.txid, "bad-txns-spends-conflicting-tx")
    truc.check(mempool, entries, arrival.ancestors, arrival.conflicts)
    _check_chain(mempool, arrival)
    _check_relay_fee(arrival)
    if arrival.conflicts:
        _check_replacement(mempool, arrival)
    for txid in arrival.evicted:
        mempool.remove(txid)
    for entry in entries:
        mempool.insert(entry)


def _arrival(mempool: Mempool, entries: tuple[Entry, ...]) -> Arrival:
    transactions = [entry.transaction for entry in entries]
    ancestors = frozenset[bytes]().union(*map(mempool.ancestors, transactions))
    conflicts = frozenset[bytes]().union(*map(mempool.conflicts, transactions))
    conflicts |= truc.sibling(mempool, entries[-1].transaction)
    evicted = conflicts.union(*map(mempool.descendants, conflicts))
    return Arrival(entries, ancestors, conflicts, evicted)


def _check_chain(mempool: Mempool, arrival: Arrival) -> None:
    refused = Rejected(arrival.last.txid, "too-long-mempool-chain")
    above = [mempool[txid] for txid in arrival.ancestors]
    count, vsize = len(arrival.entries), arrival.vsize
    if len(above) + count > MAX_CHAIN or vsize + sum(entry.vsize for entry in above) > MAX_CHAIN_VSIZE:
        raise refused
    # one small child more than the limit, so that neither side of a channel can use up all the
    # places under a commitment and keep the other from paying for it (the CPFP carve-out)
    is_carved_out = len(above) == count == 1 and vsize <= CARVE_OUT_VSIZE
    for ancestor in above:
        below = [mempool[txid].vsize for txid in mempool.descendants(ancestor.txid) - arrival.evicted]
        is_long = 1 + len(below) + count > MAX_CHAIN + is_carved_out
        if is_long or ancestor.vsize + sum(below) + vsize > MAX_CHAIN_VSIZE + is_carved_out * CARVE_OUT_VSIZE:
            raise refused


def _check_relay_fee(arrival: Arrival) -> None:
    for entry in arrival.entries:
        # only a version 3 parent may pay nothing: of any other, the child that pays for it could
        # be replaced away and leave it waiting unpaid
        if entry.transaction.version != truc.VERSION and entry.fee_sat < relay_fee_sat(entry.vsize):
            why = f"min relay fee not met, {entry.fee_sat} < {relay_fee_sat(entry.vsize)}"
            raise Rejected(entry.txid, why)
    if arrival.fee_sat < relay_fee_sat(arrival.vsize):
        why = f"min relay fee not met, {arrival.fee_sat} < {relay_fee_sat(arrival.vsize)}"
        raise Underpaid(arrival.last.txid, why)


def _check_replacement(mempool: Mempool, arrival: Arrival) -> None:
    """BIP 125, rules 2 to 5, and that the feerate rises."""
    txid = arrival.last.txid
    if len(arrival.evicted) > MAX_REPLACED:
        raise Rejected(txid, "too many potential replacements")
    if _adds_unconfirmed(mempool, arrival):
        raise Rejected(txid, "replacement-adds-unconfirmed")
    for entry in map(mempool.__getitem__, arrival.conflicts):
        if arrival.fee_sat * entry.vsize <= entry.fee_sat * arrival.vsize:
            raise Underpaid(txid, "insufficient fee, rejecting replacement: the feerate is not higher")
    replaced_sat = sum(mempool[evicted].fee_sat for evicted in arrival.evicted)
    if arrival.fee_sat < replaced_sat + relay_fee_sat(arrival.vsize):
        why = f"insufficient fee, rejecting replacement: {arrival.fee_sat} adds too little to {replaced_sat}"
        raise Underpaid(txid, why)


def _adds_unconfirmed(mempool: Mempool, arrival: Arrival) -> bool:
    """Whether an input is unconfirmed that no replaced transaction spent (rule 2)."""
    if len(arrival.entries) > 1:
        # a package that replaces may have no ancestors in the mempool at all
        return bool(arrival.ancestors)
    replaced = [mempool[txid].transaction for txid in arrival.conflicts]
    known = {txin.outpoint.txid for transaction in replaced for txin in transaction.inputs}
    needed = {txin.outpoint.txid for txin in arrival.last.transaction.inputs}
    return any(txid in mempool and txid not in known for txid in needed)
