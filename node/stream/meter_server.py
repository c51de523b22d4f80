"""A metered service: Wi-Fi, power, computing, given as long as it is paid for.

A user pays unit by unit, so at any moment it has paid at most what it last paid too much, and the
server has given at most its credit. A unit is a second that passed since the first payment, or
whatever the server itself counts (`use`). Nothing is durable but the invoices: a server that
starts again begins to count again, and its users go on paying for the next unit.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable

import msgspec
import trio

from node.daemon.peer import PeerGone
from node.stream import meter_messages as messages
from node.stream import numbers
from node.stream.meter_messages import AskUnits, Bill, GetTariff, NoService, Tariff, TariffReply
from node.stream.ports import Node
from wire.codec import DecodeError
from wire.crypto.secp256k1 import Point
from wire.units import MAX_MSAT, Msat

log = logging.getLogger("rill.meter")

BILL_SECONDS = 120
MOST_USERS = 10_000
MOST_OPEN_BILLS = 64
MOST_OPEN_REQUESTS = 8
"""Of one peer: who does not read its answers gets no more of them, and holds up nobody else."""


class Usage(msgspec.Struct, frozen=True):
    """One user of one service at one moment."""

    name: str
    user: str
    is_on: bool
    paid_units: int
    used_units: int
    received_msat: Msat


class _Account(msgspec.Struct):
    """What a user has paid and used."""

    paid_units: int = 0
    counted_units: int = 0
    since: float | None = None
    received_msat: int = 0
    is_on: bool = False


class MeterServer:
    """The services of one node. Start `run` in a nursery."""

    def __init__(self, node: Node, clock: Callable[[], float] = time.time) -> None:
        self._node, self._clock = node, clock
        self.tariffs: dict[str, Tariff] = {}
        self._accounts: dict[tuple[str, Point], _Account] = {}
        self._bills: dict[bytes, tuple[str, Point, int, float]] = {}
        self._open_bills, self._open_requests = Counter[tuple[str, Point]](), Counter[Point]()
        self._nursery: trio.Nursery | None = None
        self._changed = trio.Event()
        node.on_custom(numbers.GET_TARIFF, self._receive_get_tariff)
        node.on_custom(numbers.ASK_UNITS, self._receive_ask_units)
        node.on_settled(self._settled)

    def serve(self, name: str, tariff: Tariff) -> None:
        """Offer a service from now on; one of that name is replaced, its users stay.

        Raises:
            BadMeterField: it cannot have this name.
        """
        self.tariffs[messages.checked_name(name)] = tariff
        self._note()

    def withdraw(self, name: str) -> bool:
        """End a service for everybody; whether there was one."""
        for key in [key for key in self._accounts if key[0] == name]:
            del self._accounts[key]
        self._note()
        return self.tariffs.pop(name, None) is not None

    def use(self, name: str, user: Point, units: int) -> bool:
        """A user took so many units of a service that is not counted by time; whether it may go on."""
        account = self._accounts.get((name, user))
        if account is None or name not in self.tariffs:
            return False
        account.counted_units += units
        self._look()
        return account.is_on

    def usages(self) -> list[Usage]:
        """All users of all services, as they stand now."""
        self._look()
        return [
            Usage(
                name,
                user.hex(),
                account.is_on,
                account.paid_units,
                self._used(name, account),
                Msat(account.received_msat),
            )
            for (name, user), account in self._accounts.items()
        ]

    async def wait_changed(self) -> list[Usage]:
        """All users, once one begins, pays, or is cut off."""
        await self._changed.wait()
        return self.usages()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer and look at the time until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                while True:
                    await trio.sleep(1)
                    self._look()
        finally:
            self._nursery = None

    # --- what users ask

    async def _receive_get_tariff(self, peer: Point, payload: bytes) -> None:
        self._enqueue(peer, messages.read_get_tariff, payload)

    async def _receive_ask_units(self, peer: Point, payload: bytes) -> None:
        self._enqueue(peer, messages.read_ask_units, payload)

    def _enqueue(self, peer: Point, read: Callable[[bytes], GetTariff | AskUnits], payload: bytes) -> None:
        if self._nursery is None or self._open_requests[peer] >= MOST_OPEN_REQUESTS:
            return
        try:
            request = read(payload)
        except DecodeError as reason:
            log.debug("a request is dropped: %s", reason)
            return
        self._open_requests[peer] += 1
        self._nursery.start_soon(self._answer_one, peer, request)

    async def _answer_one(self, peer: Point, request: GetTariff | AskUnits) -> None:
        try:
            await self._answer(peer, request)
        except PeerGone as gone:
            log.debug("a user left before its answer: %s", gone)
        finally:
            self._open_requests -= Counter([peer])

    async def _answer(self, peer: Point, request: GetTariff | AskUnits) -> None:
        tariff = self.tariffs.get(request.name)
        if tariff is None:
            refusal = messages.write_no_service(NoService(request.request_id))
            await self._node.send_custom(peer, numbers.NO_SERVICE, refusal)
        elif isinstance(request, GetTariff):
            reply = messages.write_tariff(TariffReply(request.request_id, tariff))
            await self._node.send_custom(peer, numbers.TARIFF, reply)
        else:
            await self._bill(peer, request, tariff)

    async def _bill(self, peer: Point, request: AskUnits, tariff: Tariff) -> None:
        user, amount_msat = (request.name, peer), Msat(request.units * tariff.price_msat)
        is_full = user not in self._accounts and len(self._accounts) >= MOST_USERS
        if is_full or self._open_bills[user] >= MOST_OPEN_BILLS or amount_msat > MAX_MSAT:
            refusal = messages.write_no_service(NoService(request.request_id))
            await self._node.send_custom(peer, numbers.NO_SERVICE, refusal)
            return
        text = f"{request.units} units of {request.name} for {peer.hex()}"
        self._open_bills[user] += 1
        invoice = await self._node.add_invoice(amount_msat, text, preimage=None, expiry_seconds=BILL_SECONDS)
        end = self._clock() + BILL_SECONDS
        self._bills[invoice.payment_hash] = (request.name, peer, request.units, end)
        tie = (invoice.payment_hash, invoice.payment_secret)
        bill = messages.write_bill(Bill(request.request_id, request.units, amount_msat, *tie))
        await self._node.send_custom(peer, numbers.BILL, bill)

    # --- what they pay and use

    def _settled(self, payment_hash: bytes, amount_msat: Msat) -> None:
        bill = self._bills.pop(payment_hash, None)
        if bill is None:
            return
        name, user, units, _ = bill
        self._open_bills -= Counter([(name, user)])
        if name not in self.tariffs:
            return
        # only who has paid has an account: strangers who ask could have any number
        account = self._accounts.setdefault((name, user), _Account())
        account.paid_units += units
        account.received_msat += amount_msat
        account.since = self._clock() if account.since is None else account.since
        self._look()
        self._note()

    def _used(self, name: str, account: _Account) -> int:
        tariff = self.tariffs.get(name)
        if tariff is None or not tariff.is_by_time:
            return account.counted_units
        return 0 if account.since is None else int(self._clock() - account.since)

    def _look(self) -> None:
        """Switch on who has paid, and off who has used up its credit; forget bills that ended."""
        for (name, _), account in self._accounts.items():
            credit = self.tariffs[name].credit_units if name in self.tariffs else 0
            is_on = account.since is not None and self._used(name, account) < account.paid_units + credit
            if is_on != account.is_on:
                account.is_on = is_on
                self._note()
        ended = [key for key, (*_, end) in self._bills.items() if end < self._clock()]
        for payment_hash in ended:
            name, user, _, _ = self._bills.pop(payment_hash)
            self._open_bills -= Counter([(name, user)])

    def _note(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
