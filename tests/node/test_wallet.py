"""The on-chain wallet: what it counts, what it spends, and what a reorganisation does to it."""

from collections.abc import Iterator
from contextlib import suppress

import apsw
import pytest
import trio
from embit import bip39
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from node.chain.embedded import EmbeddedChain
from node.chain.interface import BlockConnected, Rejected
from node.daemon import bumping
from node.daemon.bumping import CannotBump
from node.daemon.coin_selection import INPUT_WEIGHT, Target, select
from node.daemon.wallet import SCHEMA, Balance, ForeignInput, InsufficientFunds, Means, Wallet, WalletCoin
from tests.node.payer import SCRIPT, Payer
from wire.bitcoin.address import address_of
from wire.bitcoin.script import p2wsh
from wire.bitcoin.taproot import output_key, output_secret
from wire.bitcoin.tx import OutPoint, Transaction, TxIn, TxOut
from wire.crypto import secp256k1
from wire.crypto.secp256k1 import Secret
from wire.units import Sat

SEED = bytes(range(32))
FEERATE_PER_KW = 1000
A_CHANNEL = p2wsh(b"\x51")


class Owner:
    """A wallet that follows a chain, as a node does for it."""

    def __init__(self, chain: EmbeddedChain, seed: bytes = SEED) -> None:
        self.chain = chain
        self.wallet = Wallet(seed, "regtest")
        self.follower = chain.follow(0)

    def catch_up(self) -> None:
        """Give the wallet every block that it has not seen."""
        while (event := self.follower.step()) is not None:
            if isinstance(event, BlockConnected):
                self.wallet.apply_block(event.height, event.transactions)
            else:
                self.wallet.undo_block(event.height)

    async def receive(self, *amounts_sat: int) -> list[OutPoint]:
        outputs = [TxOut(Sat(amount), self.wallet.new_script()) for amount in amounts_sat]
        paid = await self.chain.fund_many(outputs)
        self.catch_up()
        return paid

    async def broadcast(self, transaction: Transaction) -> None:
        await self.chain.broadcast(transaction)
        self.wallet.add(transaction)


@pytest.fixture
def owner() -> Iterator[Owner]:
    with EmbeddedChain() as chain:
        yield Owner(chain)


def test_keys_are_where_bip_84_puts_them() -> None:
    words = "abandon " * 11 + "about"
    wallet = Wallet(bip39.mnemonic_to_seed(words), "bitcoin")
    assert address_of(wallet.new_script(), "bitcoin") == "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu"
    assert address_of(wallet.new_script(), "bitcoin") == "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g"


def test_taproot_keys_are_where_bip_86_puts_them() -> None:
    wallet = Wallet(bip39.mnemonic_to_seed("abandon " * 11 + "about"), "bitcoin")
    assert [address_of(wallet.new_scripts()[1], "bitcoin") for _ in range(2)] == [
        "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr",
        "bc1p4qhjn9zdvkux4e44uhx8tc55attvtyu358kutcqkudyccelu0was9fqzwh",
    ]


@given(st.binary(min_size=32, max_size=32).filter(secp256k1.is_secret))
def test_the_secret_of_a_taproot_output_is_that_of_its_key(secret: bytes) -> None:
    shown = output_key(secp256k1.point_of(Secret(secret)))
    assert secp256k1.xonly_of(secp256k1.point_of(output_secret(Secret(secret)))) == shown


async def test_coins_of_both_forms_are_spent_together(owner: Owner) -> None:
    """The chain's own consensus code says whether the signatures hold."""
    scripts = [owner.wallet.new_scripts()[form] for form in (0, 1, 1, 0)]
    await owner.chain.fund_many([TxOut(Sat(20_000), script) for script in scripts])
    owner.catch_up()
    swept = owner.wallet.fund_all(SCRIPT, FEERATE_PER_KW)
    await owner.broadcast(swept.transaction)
    assert sorted(len(txin.witness) for txin in swept.transaction.inputs) == [1, 1, 2, 2]
    weight = swept.transaction.weight
    assert weight <= swept.fee_sat <= weight + 2 * 2 + 1


async def test_a_taproot_coin_signs_for_what_others_bring(owner: Owner) -> None:
    payer = Payer(owner.chain)
    [theirs] = await payer.coins(1, 330)
    await owner.chain.fund_many([TxOut(Sat(50_000), owner.wallet.new_scripts()[1])])
    owner.catch_up()
    foreign = ForeignInput(TxIn(theirs), TxOut(Sat(330), SCRIPT), INPUT_WEIGHT - 164)
    child = owner.wallet.fund([], FEERATE_PER_KW, foreign=[foreign], also_pay_sat=5000)
    await owner.broadcast(payer.sign_input(child.transaction, 0))


async def test_the_coins_that_are_named_pay_all_of_them(owner: Owner) -> None:
    first, second, _ = await owner.receive(30_000, 40_000, 50_000)
    output = TxOut(Sat(10_000), A_CHANNEL)
    funded = owner.wallet.fund([output], FEERATE_PER_KW, means=Means((second, first)))
    assert {txin.outpoint for txin in funded.transaction.inputs} == {first, second}
    with pytest.raises(InsufficientFunds):
        owner.wallet.fund([output], FEERATE_PER_KW, means=Means((second,)))
    with pytest.raises(InsufficientFunds):
        owner.wallet.fund([output], FEERATE_PER_KW, means=Means(minimum_depth=2))
    await owner.chain.mine()
    owner.catch_up()
    funded = owner.wallet.fund([output], FEERATE_PER_KW, means=Means(minimum_depth=2))
    assert len(funded.transaction.inputs) == 1


async def test_a_payment_is_replaced_by_one_that_pays_more(owner: Owner) -> None:
    await owner.receive(100_000, 50_000)
    first = owner.wallet.fund([TxOut(Sat(60_000), SCRIPT)], FEERATE_PER_KW)
    await owner.broadcast(first.transaction)
    with pytest.raises(CannotBump, match="at least"):
        bumping.replace(owner.wallet, first.transaction.txid, FEERATE_PER_KW + 10)
    second = bumping.replace(owner.wallet, first.transaction.txid, 5 * FEERATE_PER_KW)
    await owner.chain.broadcast(second.transaction)
    assert TxOut(Sat(60_000), SCRIPT) in second.transaction.outputs
    assert len(owner.chain.regtest.mempool) == 1
    assert owner.wallet.balance_sat() == Balance(Sat(50_000), Sat(40_000 - second.fee_sat))
    # what its change cannot pay, another coin pays
    third = bumping.replace(owner.wallet, second.transaction.txid, 100 * FEERATE_PER_KW)
    await owner.chain.broadcast(third.transaction)
    assert len(third.transaction.inputs) == 2
    with pytest.raises(InsufficientFunds):
        bumping.replace(owner.wallet, third.transaction.txid, 500 * FEERATE_PER_KW)
    await owner.chain.mine()
    owner.catch_up()
    assert owner.wallet.balance_sat() == Balance(Sat(90_000 - third.fee_sat), Sat(0))
    with pytest.raises(CannotBump, match="in block"):
        bumping.replace(owner.wallet, third.transaction.txid, 500 * FEERATE_PER_KW)


async def test_a_child_pays_for_what_must_keep_its_name(owner: Owner) -> None:
    await owner.receive(100_000)
    parent = owner.wallet.fund([TxOut(Sat(60_000), A_CHANNEL)], FEERATE_PER_KW)
    await owner.broadcast(parent.transaction)
    child = bumping.pull(owner.wallet, parent.transaction.txid, 10 * FEERATE_PER_KW)
    await owner.chain.broadcast(child.transaction)
    together = parent.transaction.weight + child.transaction.weight
    assert 10 * together <= parent.fee_sat + child.fee_sat <= 10 * (together + 8)
    with pytest.raises(CannotBump, match="no change to spend"):
        bumping.pull(owner.wallet, parent.transaction.txid, 20 * FEERATE_PER_KW)
    with pytest.raises(CannotBump, match="spends its change already"):
        bumping.replace(owner.wallet, parent.transaction.txid, 20 * FEERATE_PER_KW)


async def test_money_counts_when_a_block_has_it(owner: Owner) -> None:
    await owner.receive(70_000, 30_000)
    assert owner.wallet.balance_sat() == Balance(Sat(100_000), Sat(0))


async def test_a_channel_is_funded_before_anybody_knows(owner: Owner) -> None:
    await owner.receive(100_000)
    funded = owner.wallet.fund([TxOut(Sat(60_000), A_CHANNEL)], FEERATE_PER_KW)
    assert funded.transaction.outputs[0] == TxOut(Sat(60_000), A_CHANNEL)
    assert len(owner.chain.regtest.mempool) == 0
    await owner.broadcast(funded.transaction)
    change_sat = Sat(40_000 - funded.fee_sat)
    assert owner.wallet.balance_sat() == Balance(Sat(0), change_sat)
    await owner.chain.mine()
    owner.catch_up()
    assert owner.wallet.balance_sat() == Balance(change_sat, Sat(0))


async def test_the_fee_is_what_the_feerate_says(owner: Owner) -> None:
    await owner.receive(50_000, 60_000, 70_000)
    funded = owner.wallet.fund([TxOut(Sat(150_000), A_CHANNEL)], 2500)
    weight = funded.transaction.weight
    assert 2500 * weight // 1000 <= funded.fee_sat <= 2500 * (weight + 3 * 2) // 1000 + 1


async def test_reserved_coins_are_not_spent_twice(owner: Owner) -> None:
    await owner.receive(100_000)
    outputs = [TxOut(Sat(60_000), A_CHANNEL)]
    funded = owner.wallet.fund(outputs, FEERATE_PER_KW)
    with pytest.raises(InsufficientFunds) as refused:
        owner.wallet.fund(outputs, FEERATE_PER_KW)
    assert refused.value.have_sat == 0
    assert owner.wallet.balance_sat().confirmed_sat == 100_000
    owner.wallet.release(funded)
    assert owner.wallet.fund(outputs, FEERATE_PER_KW).transaction.inputs


async def test_too_little_money_is_said_in_one_sentence(owner: Owner) -> None:
    await owner.receive(10_000)
    with pytest.raises(InsufficientFunds, match="10000 sat can be spent"):
        owner.wallet.fund([TxOut(Sat(10_000), A_CHANNEL)], FEERATE_PER_KW)
    assert not any(coin.is_reserved for coin in owner.wallet.coins())


async def test_our_own_change_may_be_spent_before_it_confirms(owner: Owner) -> None:
    await owner.receive(100_000)
    for _ in range(3):
        funded = owner.wallet.fund([TxOut(Sat(20_000), A_CHANNEL)], FEERATE_PER_KW)
        await owner.broadcast(funded.transaction)
    await owner.chain.mine()
    owner.catch_up()
    assert owner.wallet.balance_sat().unconfirmed_sat == 0


async def test_what_others_send_is_not_spent_before_it_confirms(owner: Owner) -> None:
    payer = Payer(owner.chain)
    [coin] = await payer.coins(1)
    gift = payer.spend(coin, script=owner.wallet.new_script())
    await owner.broadcast(gift)
    assert owner.wallet.balance_sat() == Balance(Sat(0), gift.outputs[0].value_sat)
    with pytest.raises(InsufficientFunds):
        owner.wallet.fund([TxOut(Sat(1000), A_CHANNEL)], FEERATE_PER_KW)


async def test_everything_can_be_paid_out(owner: Owner) -> None:
    await owner.receive(*[10_000] * 30)
    swept = owner.wallet.fund_all(SCRIPT, FEERATE_PER_KW)
    await owner.broadcast(swept.transaction)
    assert owner.wallet.balance_sat() == Balance(Sat(0), Sat(0))
    assert swept.transaction.outputs == (TxOut(Sat(300_000 - swept.fee_sat), SCRIPT),)


async def test_a_foreign_input_is_left_for_its_owner_to_sign(owner: Owner) -> None:
    payer = Payer(owner.chain)
    [theirs] = await payer.coins(1, 330)
    await owner.receive(50_000)
    foreign = ForeignInput(TxIn(theirs), TxOut(Sat(330), SCRIPT), INPUT_WEIGHT - 164)
    child = owner.wallet.fund([], FEERATE_PER_KW, foreign=[foreign], also_pay_sat=5000)
    assert child.transaction.inputs[0].witness == ()
    assert child.fee_sat >= 5000 + FEERATE_PER_KW * 600 // 1000
    complete = owner.wallet.sign(payer.sign_input(child.transaction, 0))
    await owner.broadcast(complete)


async def test_dust_never_becomes_change(owner: Owner) -> None:
    await owner.receive(100_000)
    for spare_sat in range(400, 1000, 50):
        funded = owner.wallet.fund([TxOut(Sat(100_000 - spare_sat), A_CHANNEL)], 253)
        assert all(output.value_sat >= 294 for output in funded.transaction.outputs)
        owner.wallet.release(funded)


async def test_a_coinbase_waits_for_its_maturity(owner: Owner) -> None:
    await owner.chain.mine(1, owner.wallet.new_script())
    await owner.chain.mine(98)
    owner.catch_up()
    with pytest.raises(InsufficientFunds):
        owner.wallet.fund([TxOut(Sat(1000), A_CHANNEL)], FEERATE_PER_KW)
    await owner.chain.mine()
    owner.catch_up()
    await owner.broadcast(owner.wallet.fund([TxOut(Sat(1000), A_CHANNEL)], FEERATE_PER_KW).transaction)


async def test_a_wallet_comes_back_from_its_seed_alone(owner: Owner) -> None:
    await owner.receive(10_000, 20_000, 30_000)
    restored = Owner(owner.chain)
    restored.catch_up()
    assert restored.wallet.balance_sat() == owner.wallet.balance_sat()
    assert restored.wallet.new_script() == owner.wallet.new_script()


async def test_a_deposit_that_is_double_spent_is_gone(owner: Owner) -> None:
    payer = Payer(owner.chain)
    [coin] = await payer.coins(1)
    gift = payer.spend(coin, script=owner.wallet.new_script())
    await owner.chain.broadcast(gift)
    await owner.chain.mine()
    owner.catch_up()
    onward = owner.wallet.fund([TxOut(Sat(50_000), A_CHANNEL)], FEERATE_PER_KW).transaction
    await owner.broadcast(onward)
    await owner.chain.reorganise(1, confirm=[payer.spend(coin)])
    owner.catch_up()
    assert owner.wallet.balance_sat() == Balance(Sat(0), Sat(0))


def test_a_rival_of_a_confirmed_transaction_changes_nothing() -> None:
    wallet = Wallet(SEED, "regtest")
    source = OutPoint(b"\x22" * 32, 0)
    script = wallet.new_script()
    confirmed, rival = (Transaction(2, (TxIn(source),), (TxOut(Sat(v), script),)) for v in (1000, 2000))
    wallet.apply_block(1, [confirmed])
    wallet.add(rival)
    assert wallet.balance_sat() == Balance(Sat(1000), Sat(0))


# --- selection


@given(
    values=st.lists(st.integers(300, 200_000), max_size=12),
    amount_sat=st.integers(1000, 400_000),
    feerate_per_kw=st.integers(253, 20_000),
)
def test_selected_coins_cover_what_they_must(values: list[int], amount_sat: int, feerate_per_kw: int) -> None:
    coins = [WalletCoin(OutPoint(bytes(32), at), Sat(v), b"", 1, False) for at, v in enumerate(values)]
    target = Target(amount_sat, 500, feerate_per_kw, needs_change=False)
    chosen = select(coins, target)
    worth = [coin for coin in coins if coin.value_sat > target.fee_sat(INPUT_WEIGHT)]
    total_sat = sum(coin.value_sat for coin in worth)
    if chosen is None:
        assert total_sat < target.need_sat(len(worth)) + len(worth)
    else:
        assert sum(coin.value_sat for coin in chosen) >= target.need_sat(len(chosen))
        assert len({coin.outpoint for coin in chosen}) == len(chosen)


def test_coins_that_fit_exactly_are_preferred() -> None:
    values = (90_000, 50_000, 30_300, 20_000)
    coins = [WalletCoin(OutPoint(bytes(32), at), Sat(v), b"", 1, False) for at, v in enumerate(values)]
    target = Target(80_000, 400, 253, needs_change=False)
    chosen = select(coins, target)
    assert chosen is not None
    assert [coin.value_sat for coin in chosen] == [50_000, 30_300]


# --- any history


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens, the wallet says what the chain and the mempool say of its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.chain = EmbeddedChain()
        self.owner = Owner(self.chain)
        self.payer = Payer(self.chain)
        self.db = apsw.Connection(":memory:")
        self.db.execute(SCHEMA)
        self.gifts: list[tuple[OutPoint, int]] = []

    def teardown(self) -> None:
        self.chain.close()

    @initialize()
    def payer_has_coins(self) -> None:
        self.unspent = trio.run(self.payer.coins, 20)
        self.owner.catch_up()

    @rule(amount_sat=st.integers(1000, 500_000), is_mined=st.booleans())
    def receive(self, amount_sat: int, is_mined: bool) -> None:
        self.chain.faucet.pay([TxOut(Sat(amount_sat), self.owner.wallet.new_script())])
        if is_mined:
            self.mine()

    @precondition(lambda self: self.unspent)
    @rule()
    def receive_from_somebody(self) -> None:
        coin = self.unspent.pop()
        self.chain.regtest.submit(self.payer.spend(coin, script=self.owner.wallet.new_script()))
        self.mine()
        self.gifts.append((coin, self.chain.regtest.height))

    @rule(amount_sat=st.integers(1000, 500_000), feerate_per_kw=st.integers(253, 3000), is_sent=st.booleans())
    def spend(self, amount_sat: int, feerate_per_kw: int, is_sent: bool) -> None:
        try:
            funded = self.owner.wallet.fund([TxOut(Sat(amount_sat), A_CHANNEL)], feerate_per_kw)
        except InsufficientFunds:
            return
        if is_sent:
            trio.run(self.owner.broadcast, funded.transaction)
        else:
            self.owner.wallet.release(funded)

    @rule()
    def mine(self) -> None:
        trio.run(self.chain.mine)

    @rule()
    def mine_for_ourselves(self) -> None:
        trio.run(self.chain.mine, 1, self.owner.wallet.new_script())

    @rule(depth=st.integers(1, 4), is_empty=st.booleans())
    def reorganise(self, depth: int, is_empty: bool) -> None:
        trio.run(self.chain.reorganise, depth, [] if is_empty else None)

    @precondition(lambda self: self.gifts)
    @rule()
    def double_spend_a_gift(self) -> None:
        coin, height = self.gifts.pop()
        depth = self.chain.regtest.height - height + 1
        if self.chain.regtest.coins.find(coin) is None and depth < 5:
            # an earlier reorganisation may have moved the gift below what is replaced
            with suppress(Rejected):
                trio.run(self.chain.reorganise, depth, [self.payer.spend(coin, fee_sat=7000)])

    @rule()
    def restart(self) -> None:
        with self.db:
            self.owner.wallet.save(self.db)
        self.owner.wallet = Wallet(SEED, "regtest")
        self.owner.wallet.load(self.db)

    @invariant()
    def the_wallet_agrees_with_the_chain(self) -> None:
        self.owner.catch_up()
        for entry in self.chain.regtest.mempool:
            self.owner.wallet.add(entry.transaction)
        assert self.owner.wallet.balance_sat() == self.expected()

    def expected(self) -> Balance:
        regtest, ours = self.chain.regtest, self.owner.wallet.is_ours
        confirmed = {outpoint: coin.output() for outpoint, coin in regtest.coins}
        waiting = {
            entry.transaction.outpoint(index): output
            for entry in regtest.mempool
            for index, output in enumerate(entry.transaction.outputs)
        }
        totals = [
            Sat(
                sum(
                    output.value_sat
                    for outpoint, output in outputs.items()
                    if ours(output.script) and not regtest.mempool.is_spent(outpoint)
                )
            )
            for outputs in (confirmed, waiting)
        ]
        return Balance(*totals)


AnyHistory.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
test_any_history = AnyHistory.TestCase
