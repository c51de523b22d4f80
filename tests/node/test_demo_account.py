"""The numbers of the account, and what the chain tells of channels."""

from node.lab.account import BalanceSat, ChunkMs, chunk_ms, is_conserved
from node.lab.audit import Audit, audit
from wire.bitcoin.tx import OutPoint, Transaction, TxIn, TxOut
from wire.units import Sat


def spending(*outpoints: OutPoint, pays_sat: tuple[int, ...]) -> Transaction:
    outputs = tuple(TxOut(Sat(value), b"\x51") for value in pays_sat)
    return Transaction(2, tuple(TxIn(outpoint) for outpoint in outpoints), outputs)


COINS = spending(OutPoint(bytes(32), 0xFFFFFFFF), pays_sat=(1000, 2000))
FUNDING = spending(COINS.outpoint(0), pays_sat=(600, 390))
OTHER_FUNDING = spending(COINS.outpoint(1), FUNDING.outpoint(1), pays_sat=(2300, 80))
CHANNELS = [FUNDING.outpoint(0), OTHER_FUNDING.outpoint(0)]


def test_a_channel_that_was_closed_together_has_two_transactions() -> None:
    closing = spending(FUNDING.outpoint(0), pays_sat=(300, 293))
    blocks = [[COINS], [FUNDING, OTHER_FUNDING], [], [closing]]
    assert audit(blocks, CHANNELS) == Audit(Sat(10 + 10 + 7), (2, 1))


def test_whatever_a_commitment_leads_to_is_counted() -> None:
    commitment = spending(FUNDING.outpoint(0), pays_sat=(250, 300))
    sweep = spending(commitment.outpoint(1), COINS.outpoint(1), pays_sat=(2290,))
    assert audit([[COINS], [FUNDING, commitment, sweep]], CHANNELS[:1]) == Audit(Sat(10 + 50 + 10), (3,))


def test_one_transaction_may_fund_two_channels() -> None:
    funding = spending(COINS.outpoint(0), pays_sat=(400, 590))
    found = audit([[COINS, funding]], [funding.outpoint(0), funding.outpoint(1)])
    assert found == Audit(Sat(10), (1, 1))


def test_strangers_do_not_count() -> None:
    assert audit([[COINS], [spending(COINS.outpoint(1), pays_sat=(1,))]], CHANNELS) == Audit(Sat(0), (0, 0))


def test_satoshis_are_conserved_or_not() -> None:
    balances = {"alice": BalanceSat(100, 40), "eric": BalanceSat(0, 50)}
    assert is_conserved(balances, 10)
    assert not is_conserved(balances, 9)


def test_percentiles_are_of_the_chunks_themselves() -> None:
    assert chunk_ms([0.25]) == ChunkMs(250, 250)
    assert chunk_ms([0.004, 0.001, 0.002, 0.003]) == ChunkMs(2.5, 4)
    assert chunk_ms([n / 1000 for n in range(1, 101)]) == ChunkMs(50.5, 95)
