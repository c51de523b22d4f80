"""Many payments at once, in all directions, up to every limit."""

from pathlib import Path

import msgspec
import pytest
import trio

from htlc.opening import ANCHORS_TYPE, STATIC_REMOTEKEY_TYPE
from node.daemon.paying import Payment, PaymentFailed
from tests.bolt import bolt
from tests.node.line import Held, Network, line, network, takes_at_most
from tests.node.payments import AMOUNT, failure_of, settle
from wire.units import Msat


async def many(net: Network, payer: str, payee: str, amounts: list[int]) -> list[Payment | PaymentFailed]:
    """Pay so many invoices at the same time; what becomes of each."""
    outcomes: list[Payment | PaymentFailed] = []

    async def pay(amount_msat: int) -> None:
        try:
            outcomes.append(await net.pay(payer, payee, amount_msat))
        except PaymentFailed as failed:
            outcomes.append(failed)

    async with trio.open_nursery() as nursery:
        for amount_msat in amounts:
            nursery.start_soon(pay, amount_msat)
    return outcomes


def arrived(outcomes: list[Payment | PaymentFailed]) -> list[Payment]:
    return [outcome for outcome in outcomes if isinstance(outcome, Payment)]


@bolt("update_add_htlc.2")
async def test_no_more_than_483_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with line(tmp_path, "alice bob") as net:
        held = Held(net["bob"], monkeypatch)
        outcomes: list[Payment | PaymentFailed] = []

        async def pay_all() -> None:
            outcomes.extend(await many(net, "alice", "bob", 600 * [1_000]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay_all)
            await held.wait_for(483)
            assert len(net.channel("alice", "bob").htlcs.local) == 483
            failed = await failure_of(net, "alice", "bob", 1_000)
            assert failed.attempts == 0
            # the other direction has slots of its own
            await net.pay("bob", "alice", 1_000)
            await held.release()
        assert len(arrived(outcomes)) == 483
        await settle(net)
        assert net["bob"].channel_balance_msat == 5_000_000_000 + 482 * 1_000


@bolt("update_add_htlc.2", "failures.4")
async def test_a_hop_without_slots_fails_what_it_cannot_pass_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network(tmp_path, "alice bob carol") as net:
        house = net["carol"].switch.house
        net["carol"].switch.house = msgspec.structs.replace(house, max_accepted_htlcs=3)
        await net.join([("alice", "bob"), ("bob", "carol")])
        held = Held(net["carol"], monkeypatch)
        outcomes: list[Payment | PaymentFailed] = []

        async def pay_all() -> None:
            outcomes.extend(await many(net, "alice", "carol", 20 * [AMOUNT]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay_all)
            await held.wait_for(3)
            failed = await failure_of(net, "alice", "carol")
            assert failed.reason == "temporary_channel_failure, says hop 1"
            await held.release()
        assert len(arrived(outcomes)) == 3
        await settle(net)


@bolt("update_add_htlc.2")
async def test_no_more_in_flight_than_the_peer_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network(tmp_path, "alice bob") as net:
        takes_at_most(net["bob"], 3 * AMOUNT)
        await net.join([("alice", "bob")])
        assert (await failure_of(net, "alice", "bob", 3 * AMOUNT + 1)).attempts == 0
        held = Held(net["bob"], monkeypatch)
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(net.pay, "alice", "bob", AMOUNT)
            await held.wait_for(2)
            assert net["alice"].spendable_msat == AMOUNT
            await failure_of(net, "alice", "bob", AMOUNT + 1)
            nursery.start_soon(net.pay, "alice", "bob", AMOUNT)
            await held.wait_for(3)
            assert net["alice"].spendable_msat == 0
            await held.release()
        await settle(net)


@bolt("update_add_htlc.3", "commitment_signed-revoke_and_ack.1", "commitment_signed-revoke_and_ack.4")
@pytest.mark.parametrize("channel_type", [STATIC_REMOTEKEY_TYPE, ANCHORS_TYPE])
async def test_payments_in_both_directions_at_once(tmp_path: Path, channel_type: bytes) -> None:
    async with line(tmp_path, "alice bob carol", channel_type=channel_type) as net:
        # some with an output in the commitment, some below the dust limit
        there, back = [[(AMOUNT, 1_001, 400_000)[i % 3] + 7 * i for i in range(60)] for _ in range(2)]
        outcomes: dict[str, list[Payment | PaymentFailed]] = {}

        async def run(payer: str, payee: str, amounts: list[int]) -> None:
            outcomes[payer] = await many(net, payer, payee, amounts)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, "alice", "carol", there)
            nursery.start_soon(run, "carol", "alice", [amount + 1 for amount in back])
            nursery.start_soon(run, "bob", "alice", back)
            nursery.start_soon(run, "carol", "bob", there)
        await settle(net)
        assert all(isinstance(outcome, Payment) for all_of in outcomes.values() for outcome in all_of)
        fees_msat = sum(
            outcome.fee_msat
            for all_of in outcomes.values()
            for outcome in all_of
            if isinstance(outcome, Payment)
        )
        assert net["bob"].switch.ledger.fees_msat == fees_msat
        assert net["alice"].channel_balance_msat == (
            5_000_000_000
            - sum(outcome.amount_msat + outcome.fee_msat for outcome in arrived(outcomes["alice"]))
            + sum(back)
            + sum(back)
            + 60
        )


@bolt("update_add_htlc.3")
async def test_two_payers_of_one_invoice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        invoice = await net["bob"].add_invoice(Msat(AMOUNT))
        held = Held(net["bob"], monkeypatch)
        outcomes: list[str] = []

        async def pay(payer: str) -> None:
            try:
                await net.pay_row(payer, "bob", invoice)
                outcomes.append("paid")
            except PaymentFailed:
                outcomes.append("failed")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay, "alice")
            nursery.start_soon(pay, "carol")
            await held.wait_for(2)
            await held.release()
        assert sorted(outcomes) == ["failed", "paid"]
        await settle(net)
        assert net["bob"].channel_balance_msat == 10_000_000_000 + AMOUNT


async def test_payments_while_blocks_come(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol diana") as net:
        async with trio.open_nursery() as nursery:

            async def pay_all() -> None:
                outcomes = await many(net, "alice", "diana", 30 * [AMOUNT])
                assert len(arrived(outcomes)) == 30

            nursery.start_soon(pay_all)
            for _ in range(3):
                await net.chain.mine(1)
        await settle(net)


@bolt("own-announcements.4")
async def test_an_unannounced_channel_carries_payments_of_its_two_ends(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob", is_announced=False) as net:
        await net.pay("alice", "bob", AMOUNT)
        await net.pay("bob", "alice", 2 * AMOUNT)
        await settle(net)
        await net.start("carol")
        await net.join([("bob", "carol")], is_announced=False)
        # nobody else knows of it
        failed = await failure_of(net, "alice", "carol")
        assert failed.attempts == 0
        assert all(len(net[name].graph) == count for name, count in (("alice", 1), ("bob", 2), ("carol", 1)))
