"""The user of a metered service: pays for units that have begun, and stops when it likes.

The first unit is paid ahead, so that is all it can lose to a server that gives nothing; the others
are paid together, as soon as half of the server's credit is used up, which makes fewer payments.
"""

import itertools
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec
import trio

from node.daemon.paying import PaymentFailed
from node.daemon.payments import AlreadyPaid
from node.daemon.peer import PeerGone
from node.stream import meter_messages as messages
from node.stream import numbers
from node.stream.meter_messages import AskUnits, Bill, GetTariff, NoService, Tariff, TariffReply
from node.stream.ports import Node
from wire.codec import DecodeError
from wire.crypto.secp256k1 import Point
from wire.units import Msat

ANSWER_SECONDS = 15.0
_Answer: TypeAlias = TariffReply | Bill | NoService


class ServiceEnded(Exception):
    """The service cannot be used any more; says why."""


class Limits(msgspec.Struct, frozen=True):
    """When a user stops."""

    most_msat: Msat
    """The deposit: no more is ever spent."""
    most_units: int | None = None
    fee_per_payment_msat: Msat = Msat(10_000)


class Metered(msgspec.Struct, frozen=True):
    """What a use came to, so far or at its end."""

    name: str
    provider: str
    price_msat: Msat
    units: int
    paid_msat: Msat
    fee_msat: Msat
    payments: int
    left_msat: Msat
    is_over: bool
    why: str


class Meter:
    """One use of one service; `run` pays."""

    def __init__(self, users: "MeterUser", provider: Point, name: str, limits: Limits) -> None:
        self._users, self._provider, self._name, self.limits = users, provider, name, limits
        self._tariff: Tariff | None = None
        self._units = self._payments = 0
        self._paid_msat = self._fee_msat = 0
        self._why, self._is_over = "", False
        self._stop, self._changed = trio.Event(), trio.Event()
        self.version = 0

    def stop(self) -> None:
        """Pay for nothing more."""
        self._stop.set()

    @property
    def is_over(self) -> bool:
        return self._is_over

    def metered(self) -> Metered:
        """What it came to."""
        return Metered(
            self._name,
            self._provider.hex(),
            self._tariff.price_msat if self._tariff else Msat(0),
            self._units,
            Msat(self._paid_msat),
            Msat(self._fee_msat),
            self._payments,
            Msat(self.limits.most_msat - self._paid_msat),
            self._is_over,
            self._why,
        )

    async def wait_changed(self, version: int) -> None:
        """Return once it is newer than this version."""
        while self.version <= version:
            await self._changed.wait()

    async def run(self) -> None:
        """Use the service until stopped, or until a limit, or the server ends it."""
        try:
            self._tariff = await self._users.tariff(self._provider, self._name)
            await self._pay_on(self._tariff)
        except (ServiceEnded, PeerGone) as why:
            self._why = str(why)
        self._is_over = True
        self._note()

    async def _pay_on(self, tariff: Tariff) -> None:
        users, most, batch = self._users, self.limits.most_units, max(1, tariff.credit_units // 2)
        began = users.clock()
        while True:
            begun = int(users.clock() - began) + 1
            last = begun if most is None else min(begun, most)
            due, is_last = last - self._units, self._stop.is_set() or last == most
            if due > 0 and (due >= batch or is_last or not self._units):
                await self._pay(tariff, min(due, max(1, tariff.credit_units)))
            elif is_last:
                # the last unit is paid: let it pass
                await self._wait_until(began + self._units)
                return
            else:
                next_at = self._units + batch - 1
                await self._wait_until(began + (next_at if most is None else min(next_at, most - 1)))

    async def _wait_until(self, at: float) -> None:
        async with trio.open_nursery() as nursery:

            async def stop() -> None:
                await self._stop.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(stop)
            await self._users.sleep(max(0.0, at - self._users.clock()))
            nursery.cancel_scope.cancel()

    async def _pay(self, tariff: Tariff, units: int) -> None:
        amount_msat = units * tariff.price_msat
        if self._paid_msat + amount_msat > self.limits.most_msat:
            raise ServiceEnded(f"the deposit of {self.limits.most_msat} msat is used up")
        paid_msat, fee_msat = await self._users.pay(
            self._provider, self._name, units, Msat(amount_msat), self.limits.fee_per_payment_msat
        )
        self._units, self._payments = self._units + units, self._payments + 1
        self._paid_msat, self._fee_msat = self._paid_msat + paid_msat, self._fee_msat + fee_msat
        self._note()

    def _note(self) -> None:
        self.version += 1
        changed, self._changed = self._changed, trio.Event()
        changed.set()


class MeterUser:
    """Asks for tariffs and bills, and pays them, for all meters of one node."""

    def __init__(
        self,
        node: Node,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = trio.sleep,
    ) -> None:
        self._node, self.clock, self.sleep = node, clock, sleep
        self._numbers = itertools.count(1)
        self._answers: dict[int, tuple[Point, trio.Event, list[_Answer]]] = {}
        for type, read in (
            (numbers.TARIFF, messages.read_tariff),
            (numbers.BILL, messages.read_bill),
            (numbers.NO_SERVICE, messages.read_no_service),
        ):
            self._hear(type, read)

    def use(self, provider: Point, name: str, limits: Limits) -> Meter:
        """A use of a service; nothing is paid until it runs."""
        return Meter(self, provider, name, limits)

    async def tariff(self, provider: Point, name: str) -> Tariff:
        """What a service costs; raises ServiceEnded, PeerGone."""
        number = next(self._numbers)
        payload = messages.write_get_tariff(GetTariff(number, name))
        reply = await self._ask(provider, number, numbers.GET_TARIFF, payload)
        if not isinstance(reply, TariffReply):
            raise ServiceEnded(f"it gives no service {name!r}")
        return reply.tariff

    async def pay(
        self, provider: Point, name: str, units: int, amount_msat: Msat, max_fee_msat: Msat
    ) -> tuple[Msat, Msat]:
        """Pay for units; the amount and the fee. Raises ServiceEnded, PeerGone."""
        number = next(self._numbers)
        payload = messages.write_ask_units(AskUnits(number, units, name))
        bill = await self._ask(provider, number, numbers.ASK_UNITS, payload)
        if not isinstance(bill, Bill):
            raise ServiceEnded(f"it gives no more of {name!r}")
        if (bill.units, bill.amount_msat) != (units, amount_msat):
            raise ServiceEnded(f"its bill is over {bill.amount_msat} msat, not {amount_msat}")
        try:
            payment = await self._node.pay(
                provider, bill.payment_hash, bill.payment_secret, amount_msat, max_fee_msat=max_fee_msat
            )
        except (PaymentFailed, AlreadyPaid) as failed:
            raise ServiceEnded(str(failed)) from None
        return payment.amount_msat, payment.fee_msat

    async def _ask(self, provider: Point, number: int, type: int, payload: bytes) -> _Answer:
        arrived, answers = trio.Event(), list[_Answer]()
        self._answers[number] = (provider, arrived, answers)
        try:
            await self._node.send_custom(provider, type, payload)
            with trio.move_on_after(ANSWER_SECONDS):
                await arrived.wait()
        finally:
            del self._answers[number]
        if not answers:
            raise ServiceEnded("it does not answer")
        return answers[0]

    def _hear(self, type: int, read: Callable[[bytes], _Answer]) -> None:
        async def receive(peer: Point, payload: bytes) -> None:
            try:
                answer = read(payload)
            except DecodeError:
                return
            provider, arrived, answers = self._answers.get(answer.request_id, (b"", None, []))
            if provider == peer and arrived is not None and not arrived.is_set():
                answers.append(answer)
                arrived.set()

        self._node.on_custom(type, receive)
