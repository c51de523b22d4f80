"""Money for a test network: coins that its own miner has mined, paid to whoever asks."""

from collections.abc import Sequence

from node.chain.admission import relay_fee_sat
from node.chain.coins import COINBASE_MATURITY_BLOCKS, Coin
from node.chain.regtest import Regtest
from wire.bitcoin.script import p2wpkh
from wire.bitcoin.sighash import SIGHASH_ALL, p2wpkh_script_code, segwit_v0_sighash
from wire.bitcoin.tx import OutPoint, Transaction, TxIn, TxOut
from wire.crypto import secp256k1
from wire.crypto.hashes import hash160, sha256
from wire.units import Sat

_SECRET = sha256(b"the miner of every embedded chain")
_PUBKEY = secp256k1.point_of(_SECRET)
_OUTPUTS_PER_TRANSACTION = 1000
_INPUT_VSIZE = 68
_FEE_MULTIPLE = 4


class FaucetEmpty(Exception):
    """The miner's matured coins do not cover a payment."""

    def __init__(self, need_sat: int, have_sat: int) -> None:
        super().__init__(f"the faucet needs {need_sat} sat but has {have_sat} matured: mine more blocks")
        self.need_sat = need_sat
        self.have_sat = have_sat


class Faucet:
    """Pays from the coinbases of blocks that were mined to its script, and from its own change."""

    script = p2wpkh(_PUBKEY)

    def __init__(self, chain: Regtest) -> None:
        self._chain = chain

    def pay(self, outputs: Sequence[TxOut]) -> list[OutPoint]:
        """Put payments into the mempool, in as few transactions as fit; return the new outputs.

        Raises:
            FaucetEmpty: nothing was paid by the transaction that lacked coins.
        """
        paid: list[OutPoint] = []
        for start in range(0, len(outputs), _OUTPUTS_PER_TRANSACTION):
            batch = outputs[start : start + _OUTPUTS_PER_TRANSACTION]
            transaction = self._payment(batch)
            self._chain.submit(transaction)
            paid += map(transaction.outpoint, range(len(batch)))
        return paid

    def _payment(self, outputs: Sequence[TxOut]) -> Transaction:
        base_vsize = Transaction(2, (), (*outputs, TxOut(Sat(0), self.script))).vsize
        need_sat = sum(output.value_sat for output in outputs) + _fee_sat(base_vsize)
        chosen: list[tuple[OutPoint, Coin]] = []
        have_sat = 0
        for outpoint, coin in self._spendable():
            chosen.append((outpoint, coin))
            have_sat += coin.value_sat
            need_sat += _fee_sat(_INPUT_VSIZE)
            # the change must not be dust
            if have_sat >= need_sat + 1000:
                change = TxOut(Sat(have_sat - need_sat), self.script)
                return _signed(chosen, (*outputs, change))
        raise FaucetEmpty(need_sat, have_sat)

    def _spendable(self) -> list[tuple[OutPoint, Coin]]:
        """The miner's coins that the next block may spend, the largest first."""
        chain = self._chain
        newest_mature = chain.height + 1 - COINBASE_MATURITY_BLOCKS
        found = [
            (outpoint, coin)
            for outpoint, coin in chain.coins
            if coin.script == self.script and not chain.mempool.is_spent(outpoint)
            if not coin.is_coinbase or (coin.height is not None and coin.height <= newest_mature)
        ]
        return sorted(found, key=lambda pair: (-pair[1].value_sat, pair[0]))


def _fee_sat(vsize: int) -> int:
    return _FEE_MULTIPLE * relay_fee_sat(vsize)


def _signed(spent: Sequence[tuple[OutPoint, Coin]], outputs: tuple[TxOut, ...]) -> Transaction:
    transaction = Transaction(2, tuple([TxIn(outpoint) for outpoint, _ in spent]), outputs)
    script_code = p2wpkh_script_code(hash160(_PUBKEY))
    for index, (_, coin) in enumerate(spent):
        digest = segwit_v0_sighash(transaction, index, script_code, coin.value_sat)
        signature = secp256k1.der_of(secp256k1.sign(_SECRET, digest)) + bytes((SIGHASH_ALL,))
        transaction = transaction.with_witness(index, (signature, _PUBKEY))
    return transaction
