"""Metered services: paid for as they are given, by the second or by the unit."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from node.chain.interface import BlockConnected
from node.lab.audit import audit
from node.stream import meter_messages as messages
from node.stream import numbers
from node.stream.meter_messages import (
    AskUnits,
    BadMeterField,
    Bill,
    GetTariff,
    NoService,
    Tariff,
    TariffReply,
)
from node.stream.meter_server import MOST_OPEN_REQUESTS, MeterServer
from node.stream.meter_user import Limits, Meter, MeterUser
from tests.node.joined import JoinedNode, joined
from tests.node.line import FEES_SAT, network
from wire.codec import DecodeError
from wire.units import Msat, Sat, msat

PRICE = Msat(1_000_000)
BY_TIME = Tariff(PRICE, credit_units=2, is_by_time=True)


@dataclass
class Service:
    """A server, a user, and the time of both."""

    user_node: JoinedNode
    server_node: JoinedNode
    server: MeterServer
    users: MeterUser
    now: list[float]

    def use(self, most_units: int | None = None, most_msat: int = 10**9) -> Meter:
        return self.users.use(self.server_node.node_id, "wifi", Limits(Msat(most_msat), most_units))


@asynccontextmanager
async def service(tariff: Tariff = BY_TIME) -> AsyncIterator[Service]:
    now = [1_700_000_000.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds
        await trio.lowlevel.checkpoint()

    async with joined(b"\x0a" * 32, b"\x0e" * 32) as ([user, serving], nursery):
        server = MeterServer(serving, clock=lambda: now[0])
        server.serve("wifi", tariff)
        await nursery.start(server.run)
        yield Service(user, serving, server, MeterUser(user, lambda: now[0], sleep), now)


@pytest.mark.slow
async def test_the_books_example_an_hour_of_deposit_and_ten_minutes_of_use(tmp_path: Path) -> None:
    """1,000 sat a second, 3,600,000 for an hour, stopped after 600 s: 600,000 paid, 3,000,000 left."""
    deposit_sat = Sat(3_600_000)
    async with network(tmp_path, "alice eric") as net:
        await net.join([("alice", "eric")], capacity_sat=deposit_sat, push_msat=Msat(0))
        height = (await net.chain.tip()).height

        async def pass_time(seconds: float) -> None:
            net.clock.seconds += seconds
            await trio.lowlevel.checkpoint()

        server = MeterServer(net["eric"], net.clock)
        server.serve("wifi", Tariff(msat(Sat(1_000)), credit_units=20, is_by_time=True))
        users = MeterUser(net["alice"], net.clock, pass_time)
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            began = net.clock.seconds
            meter = users.use(net["eric"].node_id, "wifi", Limits(msat(deposit_sat), most_units=600))
            await meter.run()
            assert net.clock.seconds - began == 600
            [usage] = server.usages()
            assert (usage.paid_units, usage.used_units, usage.is_on) == (600, 600, True)
            net.clock.seconds += 20
            assert not server.usages()[0].is_on, "nobody pays any more, and the credit is used up"
            nursery.cancel_scope.cancel()
        spent = meter.metered()
        assert spent.units == 600
        assert (spent.paid_msat, spent.fee_msat, spent.left_msat) == (600_000_000, 0, 3_000_000_000)
        await net.wait_for_quiet()
        settled = net.channel("alice", "eric").settled_msat
        assert (settled.local, settled.remote) == (3_000_000_000, 600_000_000)

        await net["alice"].close_channel(net.ids["alice", "eric"])
        closing_ready = net.channel("alice", "eric").charter.funding_outpoint
        await net.chain.wait_for_mempool(lambda chain: chain.is_spent(closing_ready))
        await net.mine(1)
        await net.wait_for_closed()
        blocks, tip = [], (await net.chain.tip()).height
        async for event in net.chain.follow(height - 10):
            assert isinstance(event, BlockConnected)
            blocks.append(event.transactions)
            if event.height == tip:
                break
        found = audit(blocks, [closing_ready])
        assert found.transactions_per_channel == (2,)
        on_chain_sat = sum(net[name].balance_sat.confirmed_sat for name in net.nodes)
        closing_fees_sat = deposit_sat + FEES_SAT - on_chain_sat
        assert 600_000 - closing_fees_sat <= net["eric"].balance_sat.confirmed_sat <= 600_000
        assert closing_fees_sat < 2_000


async def test_a_user_that_stops_paying_is_cut_off_after_the_credit() -> None:
    async with service() as each:
        meter = each.use(most_units=5)
        await meter.run()
        assert meter.metered().paid_msat == 5 * PRICE
        assert each.server.usages()[0].is_on
        each.now[0] += 1.5
        assert each.server.usages()[0].is_on, "within the credit"
        each.now[0] += 0.5
        [usage] = each.server.usages()
        assert not usage.is_on
        assert usage.used_units - usage.paid_units == BY_TIME.credit_units
        again = each.use(most_units=3)
        await again.run()
        assert each.server.usages()[0].received_msat == 8 * PRICE


async def test_the_deposit_is_never_passed() -> None:
    async with service() as each:
        meter = each.use(most_msat=3 * PRICE + 999)
        await meter.run()
        assert meter.metered().paid_msat == 3 * PRICE
        assert "used up" in meter.metered().why


async def test_a_slow_payment_is_followed_by_one_for_all_that_began_meanwhile() -> None:
    async with service(Tariff(PRICE, credit_units=10, is_by_time=True)) as each:

        async def linger() -> None:
            each.now[0] += 2.5

        each.server_node.on_htlc = linger
        meter = each.use(most_units=20)
        await meter.run()
        spent = meter.metered()
        assert spent.paid_msat == 20 * PRICE
        assert spent.payments < 10


async def test_units_that_the_server_counts() -> None:
    async with service(Tariff(PRICE, credit_units=1, is_by_time=False)) as each:
        user = each.user_node.node_id
        assert not each.server.use("wifi", user, 1), "nobody has paid"
        await each.users.pay(each.server_node.node_id, "wifi", 4, Msat(4 * PRICE), Msat(0))
        assert each.server.use("wifi", user, 4)
        assert not each.server.use("wifi", user, 1)
        assert each.server.usages()[0].used_units == 5


async def test_what_is_not_served_or_billed_otherwise_is_not_paid() -> None:
    async with service() as each:
        meter = each.users.use(each.server_node.node_id, "power", Limits(Msat(10**9), 1))
        await meter.run()
        assert "no service 'power'" in meter.metered().why

        def dearer(type: int, payload: bytes) -> bytes:
            if type != numbers.BILL:
                return payload
            bill = messages.read_bill(payload)
            return messages.write_bill(msgspec.structs.replace(bill, amount_msat=Msat(bill.amount_msat + 1)))

        each.server_node.bend = dearer
        meter = each.use(most_units=1)
        await meter.run()
        assert "its bill is over 1000001 msat, not 1000000" in meter.metered().why
        each.server_node.is_cut = True
        meter = each.use(most_units=1)
        await meter.run()
        assert meter.metered().why
        assert not each.user_node.payments


async def test_bills_that_nobody_pays_are_bounded() -> None:
    async with service() as each:
        for number in range(200):
            payload = messages.write_ask_units(AskUnits(number, 1, "wifi"))
            await each.user_node.send_custom(each.server_node.node_id, numbers.ASK_UNITS, payload)
        await trio.testing.wait_all_tasks_blocked()
        assert len(each.server_node.invoices) == 64


async def test_a_stranger_that_does_not_read_holds_up_nobody_and_is_forgotten() -> None:
    async with service() as each:
        stranger, send, stuck = b"\x02" * 33, each.server_node.send_custom, list[int]()

        async def send_unless_unread(peer_id: bytes, type: int, payload: bytes) -> None:
            if peer_id == stranger:
                stuck.append(type)
                await trio.sleep_forever()
            await send(peer_id, type, payload)

        each.server_node.send_custom = send_unless_unread  # type: ignore[method-assign]
        for number in range(50):
            payload = messages.write_ask_units(AskUnits(number, 1, "wifi"))
            await each.server_node.handlers[numbers.ASK_UNITS](stranger, payload)
        await trio.testing.wait_all_tasks_blocked()
        assert 0 < len(stuck) <= MOST_OPEN_REQUESTS
        meter = each.use(most_units=2)
        await meter.run()
        assert meter.metered().paid_msat == 2 * PRICE
        assert [usage.user for usage in each.server.usages()] == [each.user_node.node_id.hex()]


READERS: list[Callable[[bytes], object]] = [
    messages.read_get_tariff,
    messages.read_tariff,
    messages.read_ask_units,
    messages.read_bill,
    messages.read_no_service,
]


@given(st.binary(max_size=120))
def test_any_bytes_are_refused_or_read(raw: bytes) -> None:
    for read in READERS:
        with suppress(DecodeError):
            read(raw)


def test_messages_come_back_as_they_were() -> None:
    ask, bill = AskUnits(3, 7, "wifi"), Bill(4, 5, Msat(6), b"\1" * 32, b"\2" * 32)
    assert messages.read_get_tariff(messages.write_get_tariff(GetTariff(1, "wifi"))) == GetTariff(1, "wifi")
    assert messages.read_tariff(messages.write_tariff(TariffReply(2, BY_TIME))) == TariffReply(2, BY_TIME)
    assert messages.read_ask_units(messages.write_ask_units(ask)) == ask
    assert messages.read_bill(messages.write_bill(bill)) == bill
    assert messages.read_no_service(messages.write_no_service(NoService(8))) == NoService(8)
    for name in ("", "a" * 65, "\n"):
        with pytest.raises(BadMeterField):
            messages.checked_name(name)
