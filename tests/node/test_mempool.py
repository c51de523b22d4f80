"""What the embedded mempool lets in: every verdict here is bitcoind's, and is compared with it.

The cases run twice, on the embedded chain alone and beside a bitcoind that follows its blocks; the
second run is skipped where no bitcoind is installed.
"""

import pytest

from node.chain.policy import dust_limit_sat, is_push_only, script_type
from tests.node.payer import PUBKEY, SCRIPT
from tests.node.relay_ground import Ground, family
from wire.bitcoin.script import (
    OP_1,
    OP_CHECKSEQUENCEVERIFY,
    OP_DROP,
    OP_ENDIF,
    OP_IF,
    P2A,
    op_return,
    p2pkh,
    p2sh,
    p2tr,
    p2wsh,
    push_number,
    script,
)
from wire.bitcoin.tx import FINAL_SEQUENCE, OutPoint, Transaction, TxIn, TxOut
from wire.crypto.hashes import hash160
from wire.units import Sat

ANYBODY = script(OP_1)
DUST_LIMITS_SAT = [
    (p2wsh(b""), 330),
    (SCRIPT, 294),
    (p2tr(bytes(32)), 330),
    (p2pkh(bytes(20)), 546),
    (p2sh(bytes(20)), 540),
]


def spend_to(ground: Ground, *outputs: TxOut) -> Transaction:
    [coin] = ground.coins()
    return ground.payer.spend(coin, outputs=[*outputs, TxOut(Sat(90_000), SCRIPT)])


# --- consensus


def test_a_signed_spend_is_accepted_and_hearing_it_again_is_no_error(ground: Ground) -> None:
    [coin] = ground.coins()
    spend = ground.payer.spend(coin)
    ground.accepts(spend)
    ground.accepts(spend)


def test_a_mined_transaction_may_be_told_again(ground: Ground) -> None:
    [coin] = ground.coins()
    spend = ground.payer.spend(coin)
    ground.accepts(spend)
    ground.mine()
    ground.chain.regtest.submit(spend)
    assert len(ground.chain.regtest.mempool) == 0


def test_a_wrong_signature_is_refused(ground: Ground) -> None:
    coin, other = ground.coins(2)
    borrowed = ground.payer.spend(other).inputs[0].witness
    ground.refuses("mandatory-script-verify-flag", ground.payer.spend(coin).with_witness(0, borrowed))
    ground.refuses("mandatory-script-verify-flag", ground.payer.spend(coin).with_witness(0, ()))


def test_an_output_that_is_not_there_cannot_be_spent(ground: Ground) -> None:
    [coin] = ground.coins()
    for missing in (OutPoint(b"\x11" * 32, 0), OutPoint(coin.txid, 77)):
        ground.payer.values[missing] = Sat(100_000)
        ground.refuses("bad-txns-inputs-missingorspent", ground.payer.spend(missing))


def test_no_output_is_spent_again_after_a_block(ground: Ground) -> None:
    [coin] = ground.coins()
    ground.accepts(ground.payer.spend(coin))
    ground.mine()
    ground.refuses("bad-txns-inputs-missingorspent", ground.payer.spend(coin, fee_sat=5000))


def test_nothing_is_created_out_of_nothing(ground: Ground) -> None:
    [coin] = ground.coins()
    ground.refuses("bad-txns-in-belowout", ground.payer.spend(coin, fee_sat=-1))
    outputs = [TxOut(Sat(21_000_001 * 100_000_000), SCRIPT)]
    ground.refuses("bad-txns-vout-toolarge", ground.payer.spend(coin, outputs=outputs))
    ground.refuses("bad-txns-vout-empty", ground.payer.spend(coin, outputs=[]))
    twice = Transaction(2, (TxIn(coin), TxIn(coin)), (TxOut(Sat(1000), SCRIPT),))
    ground.refuses("bad-txns-inputs-duplicate", ground.payer.signed(twice))


def test_a_young_coinbase_cannot_be_spent(ground: Ground) -> None:
    ground.chain.regtest.mine(1, SCRIPT)
    ground.mine(98)
    tip = ground.chain.regtest.height
    block_hash = ground.chain.regtest.block_hash(tip - 98)
    assert block_hash is not None
    coinbase = ground.chain.regtest.block(block_hash).transactions[0]
    ground.payer.values[coinbase.outpoint(0)] = coinbase.outputs[0].value_sat
    spend = ground.payer.spend(coinbase.outpoint(0))
    ground.refuses("bad-txns-premature-spend-of-coinbase", spend)
    ground.mine()
    ground.accepts(spend)


# --- time


def test_a_locktime_must_have_passed(ground: Ground) -> None:
    [coin] = ground.coins()
    height = ground.chain.regtest.height
    ground.refuses("non-final", ground.payer.spend(coin, locktime=height + 1))
    ground.accepts(ground.payer.spend(coin, locktime=height))


def test_final_sequences_ignore_the_locktime(ground: Ground) -> None:
    [coin] = ground.coins()
    height = ground.chain.regtest.height
    ground.accepts(ground.payer.spend(coin, locktime=height + 100, sequence=FINAL_SEQUENCE))


def test_a_locktime_in_seconds_is_measured_by_the_median_of_the_last_blocks(ground: Ground) -> None:
    [coin] = ground.coins()
    now = ground.chain.regtest.median_time_past(ground.chain.regtest.height)
    ground.refuses("non-final", ground.payer.spend(coin, locktime=now))
    ground.accepts(ground.payer.spend(coin, locktime=now - 1))


@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_a_relative_locktime_counts_from_the_block_of_the_output(ground: Ground, blocks: int) -> None:
    [coin] = ground.coins()
    spend = ground.payer.spend(coin, sequence=blocks)
    for _ in range(blocks - 1):
        ground.refuses("non-BIP68-final", spend)
        ground.mine()
    ground.accepts(spend)


def test_an_unconfirmed_output_has_no_age(ground: Ground) -> None:
    [coin] = ground.coins()
    parent = ground.payer.spend(coin)
    ground.accepts(parent)
    ground.refuses("non-BIP68-final", ground.payer.spend(parent.outpoint(0), sequence=1))
    ground.accepts(ground.payer.spend(parent.outpoint(0), sequence=0))


def test_a_relative_locktime_in_seconds(ground: Ground) -> None:
    [coin] = ground.coins()
    three_times_512_seconds = (1 << 22) | 3
    spend = ground.payer.spend(coin, sequence=three_times_512_seconds)
    ground.refuses("non-BIP68-final", spend)
    ground.mine()
    ground.refuses("non-BIP68-final", spend)
    ground.mine()
    ground.accepts(spend)


def test_version_1_knows_no_relative_locktime(ground: Ground) -> None:
    [coin] = ground.coins()
    ground.accepts(ground.payer.spend(coin, sequence=500, version=1))


def test_a_script_may_demand_an_age(ground: Ground) -> None:
    delayed = script(*[OP_CHECKSEQUENCEVERIFY, OP_DROP, OP_1])
    witness_script = push_number(3) + delayed
    [coin] = ground.coins(script=p2wsh(witness_script))
    for sequence, reason in ((2, "mandatory-script"), (3, None)):
        inputs = (TxIn(coin, sequence, (witness_script,)),)
        spend = Transaction(2, inputs, (TxOut(Sat(99_000), SCRIPT),))
        ground.mine()
        if reason:
            ground.refuses(reason, spend)
        else:
            ground.accepts(spend)


# --- standard forms


@pytest.mark.parametrize(("output_script", "limit_sat"), DUST_LIMITS_SAT)
def test_an_output_below_its_dust_limit_is_refused(
    ground: Ground, output_script: bytes, limit_sat: int
) -> None:
    assert dust_limit_sat(output_script) == limit_sat
    ground.refuses("dust", spend_to(ground, TxOut(Sat(limit_sat - 1), output_script)))
    ground.accepts(spend_to(ground, TxOut(Sat(limit_sat), output_script)))


def test_data_is_carried_in_one_short_output(ground: Ground) -> None:
    ground.accepts(spend_to(ground, TxOut(Sat(0), op_return(bytes(80)))))
    ground.refuses("scriptpubkey", spend_to(ground, TxOut(Sat(0), op_return(bytes(84)))))
    twice = [TxOut(Sat(0), op_return(b"a"))] * 2
    ground.refuses("multi-op-return", spend_to(ground, *twice))


@pytest.mark.parametrize("version", [0, 4])
def test_only_known_versions_are_relayed(ground: Ground, version: int) -> None:
    [coin] = ground.coins()
    ground.refuses("version", ground.payer.spend(coin, version=version))


def test_an_output_script_of_no_known_type_is_refused(ground: Ground) -> None:
    ground.refuses("scriptpubkey", spend_to(ground, TxOut(Sat(1000), ANYBODY)))
    ground.accepts(spend_to(ground, TxOut(Sat(1000), P2A)))
    ground.accepts(spend_to(ground, TxOut(Sat(1000), b"\x52\x03abc")))


def test_a_script_of_the_future_is_not_spent_today(ground: Ground) -> None:
    [coin] = ground.coins(script=b"\x53\x03abc")
    spend = Transaction(2, (TxIn(coin),), (TxOut(Sat(99_000), SCRIPT),))
    ground.refuses("bad-txns-nonstandard-inputs", spend)


@pytest.mark.parametrize(("size", "reason"), [(3600, None), (3601, "bad-witness-nonstandard")])
def test_a_witness_script_is_at_most_3600_bytes(ground: Ground, size: int, reason: str | None) -> None:
    witness_script = _padded(size)
    [coin] = ground.coins(script=p2wsh(witness_script))
    spend = Transaction(2, (TxIn(coin, witness=(b"", witness_script)),), (TxOut(Sat(90_000), SCRIPT),))
    if reason:
        ground.refuses(reason, spend)
    else:
        ground.accepts(spend)


def _padded(size: int) -> bytes:
    """A script of this size, mostly keys in a branch that an empty witness item does not take."""
    keys, rest = divmod(size - 3, 34)
    branch = script(*[PUBKEY] * keys) + bytes((OP_DROP,)) * rest
    return script(OP_IF) + branch + script(OP_ENDIF, OP_1)


@pytest.mark.parametrize(("size", "reason"), [(80, None), (81, "bad-witness-nonstandard")])
def test_a_witness_item_is_at_most_80_bytes(ground: Ground, size: int, reason: str | None) -> None:
    witness_script = script(OP_DROP, OP_1)
    [coin] = ground.coins(script=p2wsh(witness_script))
    spend = Transaction(
        2, (TxIn(coin, witness=(bytes(size), witness_script)),), (TxOut(Sat(90_000), SCRIPT),)
    )
    if reason:
        ground.refuses(reason, spend)
    else:
        ground.accepts(spend)


def test_a_transaction_weighs_at_most_400_000(ground: Ground) -> None:
    [coin] = ground.coins(value_sat=50_000_000)
    outputs = [TxOut(Sat(1000), SCRIPT)] * 3300
    ground.refuses("tx-size", ground.payer.spend(coin, outputs=outputs))
    ground.accepts(ground.payer.spend(coin, outputs=outputs[:3100], fee_sat=0))


def test_a_legacy_input_only_pushes(ground: Ground) -> None:
    [coin] = ground.coins(script=p2sh(hash160(ANYBODY)))
    outputs = (TxOut(Sat(99_000), SCRIPT),)
    ground.refuses(
        "scriptsig-not-pushonly", Transaction(2, (TxIn(coin, script_sig=b"\x61\x01\x51"),), outputs)
    )
    ground.accepts(Transaction(2, (TxIn(coin, script_sig=b"\x01\x51"),), outputs))


# --- fees, replacement, families


def test_a_virtual_byte_costs_a_satoshi(ground: Ground) -> None:
    [coin] = ground.coins()
    vsize = ground.payer.spend(coin).vsize
    ground.refuses("min relay fee not met", ground.payer.spend(coin, fee_sat=vsize - 2))
    ground.accepts(ground.payer.spend(coin, fee_sat=vsize + 1))


def test_a_conflict_must_pay_for_itself_and_for_what_it_replaces(ground: Ground) -> None:
    [coin] = ground.coins()
    first = ground.payer.spend(coin, fee_sat=1000, sequence=FINAL_SEQUENCE)
    ground.accepts(first)
    ground.refuses("insufficient fee", ground.payer.spend(coin, fee_sat=1000, script=p2tr(bytes(32))))
    ground.refuses("insufficient fee", ground.payer.spend(coin, fee_sat=1000 + first.vsize - 5))
    ground.accepts(ground.payer.spend(coin, fee_sat=1000 + first.vsize + 1))


def test_a_replacement_pays_for_the_children_that_it_takes_along(ground: Ground) -> None:
    [coin] = ground.coins()
    lineage = family(ground.payer, coin, 3)
    for transaction in lineage:
        ground.accepts(transaction)
    ground.refuses("insufficient fee", ground.payer.spend(coin, fee_sat=2500))
    ground.accepts(ground.payer.spend(coin, fee_sat=3500))
    assert len(ground.chain.regtest.mempool) == 1


def test_a_replacement_adds_no_unconfirmed_input(ground: Ground) -> None:
    coin, other = ground.coins(2)
    parent = ground.payer.spend(other)
    ground.accepts(parent)
    ground.accepts(ground.payer.spend(coin))
    ground.refuses("replacement-adds-unconfirmed", ground.payer.spend(coin, parent.outpoint(0), fee_sat=9000))


def test_a_transaction_cannot_replace_its_own_parent(ground: Ground) -> None:
    [coin] = ground.coins()
    parent = ground.payer.spend(coin)
    ground.accepts(parent)
    ground.refuses(
        "bad-txns-spends-conflicting-tx", ground.payer.spend(coin, parent.outpoint(0), fee_sat=50_000)
    )


def test_a_family_has_at_most_25_generations(ground: Ground) -> None:
    [coin] = ground.coins()
    lineage = family(ground.payer, coin, 26)
    for transaction in lineage[:25]:
        ground.accepts(transaction)
    ground.refuses("too-long-mempool-chain", lineage[25])
    ground.mine()
    ground.accepts(lineage[25])


def test_a_parent_has_at_most_24_descendants_and_one_small_child_more(ground: Ground) -> None:
    [coin] = ground.coins()
    parent = ground.payer.spend(coin, outputs=[TxOut(Sat(3000), SCRIPT)] * 26)
    ground.accepts(parent)
    children = [ground.payer.spend(parent.outpoint(index)) for index in range(26)]
    for child in children[:24]:
        ground.accepts(child)
    ground.refuses("too-long-mempool-chain", ground.payer.spend(children[0].outpoint(0)))
    ground.accepts(children[24])
    ground.refuses("too-long-mempool-chain", children[25])


# --- a parent and its child


def test_a_parent_and_child_enter_together(ground: Ground) -> None:
    [coin] = ground.coins()
    ground.accepts(*family(ground.payer, coin, 2))


def test_a_child_cannot_pay_for_a_version_2_parent_below_the_minimum(ground: Ground) -> None:
    [coin] = ground.coins()
    parent = ground.payer.spend(coin, fee_sat=0)
    child = ground.payer.spend(parent.outpoint(0), fee_sat=5000)
    ground.refuses("min relay fee not met", parent, child)


def test_a_child_pays_for_a_version_3_parent_without_fee(ground: Ground) -> None:
    [coin] = ground.coins()
    parent = ground.payer.spend(coin, fee_sat=0, version=3)
    child = ground.payer.spend(parent.outpoint(0), fee_sat=5000, version=3)
    ground.refuses("min relay fee not met", parent)
    ground.refuses(
        "min relay fee not met", parent, ground.payer.spend(parent.outpoint(0), fee_sat=100, version=3)
    )
    ground.accepts(parent, child)


def test_a_child_pays_for_its_parent_to_replace(ground: Ground) -> None:
    [coin] = ground.coins()
    theirs = ground.payer.spend(coin, fee_sat=3000)
    ground.accepts(theirs)
    ours = ground.payer.spend(coin, fee_sat=1000)
    ground.refuses("insufficient fee", ours, ground.payer.spend(ours.outpoint(0), fee_sat=1500))
    ground.accepts(ours, ground.payer.spend(ours.outpoint(0), fee_sat=9000))
    assert theirs.txid not in ground.chain.regtest.mempool


def test_a_child_that_pays_for_a_replacement_has_no_other_unconfirmed_parent(ground: Ground) -> None:
    coin, other = ground.coins(2)
    theirs, waiting = ground.payer.spend(coin, fee_sat=3000), ground.payer.spend(other)
    ground.accepts(theirs)
    ground.accepts(waiting)
    ours = ground.payer.spend(coin, fee_sat=1000)
    child = ground.payer.spend(ours.outpoint(0), waiting.outpoint(0), fee_sat=9000)
    ground.refuses("replacement-adds-unconfirmed", ours, child)


def test_a_good_parent_stays_when_its_child_is_refused(ground: Ground) -> None:
    [coin] = ground.coins()
    parent, child = family(ground.payer, coin, 2)
    ground.refuses("mandatory-script", parent, child.with_witness(0, parent.inputs[0].witness))
    assert parent.txid in ground.chain.regtest.mempool


def test_version_3_does_not_mix_and_has_one_child(ground: Ground) -> None:
    coin, other = ground.coins(2)
    parent = ground.payer.spend(coin, version=3, outputs=[TxOut(Sat(40_000), SCRIPT)] * 2)
    ground.accepts(parent)
    ground.refuses("TRUC-violation", ground.payer.spend(parent.outpoint(0), version=2))
    child = ground.payer.spend(parent.outpoint(0), version=3)
    ground.accepts(child)
    ground.refuses("TRUC-violation", ground.payer.spend(child.outpoint(0), version=3))
    ground.refuses("insufficient fee", ground.payer.spend(parent.outpoint(1), version=3))
    ground.accepts(ground.payer.spend(parent.outpoint(1), version=3, fee_sat=2000))
    assert child.txid not in ground.chain.regtest.mempool
    unconfirmed = ground.payer.spend(other)
    ground.accepts(unconfirmed)
    ground.refuses("TRUC-violation", ground.payer.spend(unconfirmed.outpoint(0), version=3))


def test_a_version_3_child_is_small(ground: Ground) -> None:
    [coin] = ground.coins()
    parent = ground.payer.spend(coin, version=3)
    ground.accepts(parent)
    outputs = [TxOut(Sat(1000), SCRIPT)] * 40
    ground.refuses("TRUC-violation", ground.payer.spend(parent.outpoint(0), version=3, outputs=outputs))


def test_script_types_have_names() -> None:
    scripts = [
        SCRIPT,
        *(output_script for output_script, _ in DUST_LIMITS_SAT),
        P2A,
        op_return(b"x"),
        ANYBODY,
    ]
    kinds = ["p2wpkh", "p2wsh", "p2wpkh", "p2tr", "p2pkh", "p2sh", "anchor", "nulldata", "nonstandard"]
    assert [script_type(each) for each in scripts] == kinds


@pytest.mark.parametrize("pushes", [b"", b"\x51", b"\x02ab", b"\x4c\x01a", b"\x4d\x01\x00a"])
def test_pushes_are_told_from_other_opcodes(pushes: bytes) -> None:
    assert is_push_only(pushes)
    assert not is_push_only(pushes + b"\x75")
    assert not is_push_only(pushes + b"\x05abc")
