"""How long each hop held a payment, and who garbled a failure (BOLT 4, attributable failures)."""

from pathlib import Path

import msgspec
import pytest
import trio

from node.daemon.paying import PaymentFailed
from onion.attribution import ATTRIBUTION_SIZE
from tests.bolt import bolt
from tests.node.line import Held, Network, bent, line, network, sent_by
from tests.node.payments import AMOUNT, DETAILS, attempts, set_toll, settle
from tests.node.rpc_stage import Client
from tests.node.test_payments_refused import DEAR, diamond
from wire.codec import Message
from wire.features import ATTRIBUTION_DATA, OUR_INIT
from wire.messages.channel import UpdateFailHtlc, UpdateFulfillHtlc


async def pay_slowly(net: Network, held: Held, seconds: float, **options: object) -> str:
    """Let Alice pay Diana, who takes or fails it so much later; why it failed."""
    why = ""

    async def pay() -> None:
        nonlocal why
        try:
            await net.pay("alice", "diana", AMOUNT, **options)
        except PaymentFailed as failed:
            why = failed.reason

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pay)
        await held.wait_for(1)
        net.clock.seconds += seconds
        await held.release()
    await settle(net)
    return why


@bolt("failures.5")
@pytest.mark.parametrize("is_paid", [True, False])
async def test_the_payer_learns_how_long_each_hop_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_paid: bool
) -> None:
    async with line(tmp_path, "alice bob carol diana") as net:
        held = Held(net["diana"], monkeypatch)
        options = {} if is_paid else {"payment_secret": bytes(32)}
        why = await pay_slowly(net, held, 1.25, **options)
        assert why == ("" if is_paid else f"{DETAILS}, says hop 3")
        [attempt] = attempts(net["alice"])
        assert attempt.hold_times == (12, 12, 12)
        [shown] = (await Client(net["alice"]).call("listpays"))["pays"]
        assert [hop["hold_time_ms"] for hop in shown["attempts"][0]["route"]] == [1200, 1200, 1200]


@bolt("failures.5")
async def test_a_failure_on_the_way_tells_of_those_before_it(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol diana") as net:
        set_toll(net, "carol", "diana", DEAR)
        with pytest.raises(PaymentFailed, match="fee_insufficient, says hop 2"):
            await net.pay("alice", "diana", AMOUNT)
        [attempt] = attempts(net["alice"])
        assert attempt.hold_times == (0, 0)
        await settle(net)


def garbled(message: Message) -> Message:
    if not isinstance(message, UpdateFailHtlc):
        return message
    return msgspec.structs.replace(message, reason=bytes(len(message.reason)))


@bolt("failures.5", "failures.2")
async def test_who_garbles_a_failure_is_known_to_stand_behind_those_who_did_not(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol diana") as net:
        bent(net["carol"], garbled)
        with pytest.raises(PaymentFailed, match="nobody can read, garbled behind hop 1"):
            await net.pay("alice", "diana", AMOUNT, payment_secret=bytes(32))
        [attempt] = attempts(net["alice"])
        assert len(attempt.hold_times) == 1
        await settle(net)


def swollen(message: Message) -> Message:
    if not isinstance(message, UpdateFailHtlc):
        return message
    return msgspec.structs.replace(message, reason=bytes(65_400), attribution_data=None)


async def test_a_failure_that_fills_its_message_leaves_no_room_for_times(tmp_path: Path) -> None:
    async with line(tmp_path, "alice bob carol") as net:
        bent(net["carol"], swollen)
        with pytest.raises(PaymentFailed, match="nobody can read"):
            await net.pay("alice", "carol", AMOUNT, payment_secret=bytes(32))
        await settle(net)


async def test_a_garbler_is_gone_round(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        await diamond(net)
        bent(net["diana"], garbled)
        with pytest.raises(PaymentFailed) as failed:
            await net.pay("alice", "diana", AMOUNT, payment_secret=bytes(32))
        assert failed.value.attempts == 2
        first, second = attempts(net["alice"])
        assert first.short_channel_ids[1] != second.short_channel_ids[1]
        await settle(net)


@bolt("failures.5")
async def test_who_does_not_know_of_it_is_told_nothing(tmp_path: Path) -> None:
    async with network(tmp_path, "bob carol") as net:
        await net.start("alice", features=OUR_INIT.without(ATTRIBUTION_DATA))
        await net.join([("alice", "bob"), ("bob", "carol")])
        to_alice, to_bob = sent_by(net["bob"]), sent_by(net["carol"])
        await net.pay("alice", "carol", AMOUNT)
        await settle(net)
        [told] = [message for _, message in to_alice if isinstance(message, UpdateFulfillHtlc)]
        assert told.attribution_data is None
        [told] = [message for _, message in to_bob if isinstance(message, UpdateFulfillHtlc)]
        assert len(told.attribution_data or b"") == ATTRIBUTION_SIZE
        [attempt] = attempts(net["alice"])
        assert attempt.hold_times == ()
