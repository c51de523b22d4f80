"""Commands of metered services: give one, and use one."""

from itertools import count
from typing import Any

import msgspec
import trio

from node.daemon.peer import PeerGone
from node.daemon.reconnect import Unreachable
from node.daemon.rpc_parameters import (
    INVALID_PARAMETERS,
    AmountMsat,
    CommandFailed,
    Integer,
    NodeId,
    Number,
    Text,
)
from node.stream.link import NotALink, read_address
from node.stream.meter_messages import BadMeterField, Tariff
from node.stream.meter_user import Limits, Meter
from node.stream.service import Stream
from wire.units import MAX_MSAT, Msat

NO_METER = 1321
UNREACHABLE = 1322
LONGEST_WAIT_SECONDS = 60.0
MOST_CREDIT_UNITS = 255
USUAL_FEE_MSAT = Msat(10_000)


class MeterCommands:
    """Metered services."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._server = stream, stream.meter_server
        self._meters: dict[int, Meter] = {}
        self._numbers = count(1)

    # --- giving

    async def meterserve(
        self, name: Text, price_msat: AmountMsat, per: Text = "second", credit_units: Integer = 10
    ) -> dict[str, Any]:
        """Give a service for so much a second, or a unit that `meteruse` counts."""
        if per not in ("second", "unit"):
            raise CommandFailed(INVALID_PARAMETERS, f"per: should be 'second' or 'unit', not {per!r}")
        if not 1 <= price_msat <= MAX_MSAT or credit_units > MOST_CREDIT_UNITS:
            raise CommandFailed(INVALID_PARAMETERS, "price_msat or credit_units: out of range")
        try:
            self._server.serve(name, Tariff(price_msat, credit_units, per == "second"))
        except BadMeterField as wrong:
            raise CommandFailed(INVALID_PARAMETERS, str(wrong)) from None
        return {"name": name, "address": str(self._stream.address)}

    async def meterwithdraw(self, name: Text) -> dict[str, Any]:
        """Give a service no more."""
        if not self._server.withdraw(name):
            raise CommandFailed(NO_METER, f"no service {name!r} is given here")
        return {"name": name}

    async def meterusages(self, timeout: Number = 0) -> dict[str, Any]:
        """Who uses what; after so many seconds, or once something changes."""
        with trio.move_on_after(min(timeout, LONGEST_WAIT_SECONDS)):
            await self._server.wait_changed()
        return {"usages": self._server.usages()}

    async def meteruse(self, name: Text, user: NodeId, units: Integer) -> dict[str, Any]:
        """Count units that a user took of a service; whether it may have more."""
        return {"is_on": self._server.use(name, user, units)}

    # --- using

    async def meterbuy(
        self,
        provider: Text,
        name: Text,
        most_msat: AmountMsat,
        units: Integer | None = None,
        fee_per_payment_msat: AmountMsat = USUAL_FEE_MSAT,
    ) -> dict[str, Any]:
        """Begin to use a service of ID@HOST:PORT. See waitmeter and meterstop."""
        try:
            address = read_address(provider)
            await self._stream.node.connect(address.node_id, address.host, address.port)
        except NotALink as wrong:
            raise CommandFailed(INVALID_PARAMETERS, str(wrong)) from None
        except (Unreachable, PeerGone) as why:
            raise CommandFailed(UNREACHABLE, f"{provider}: {why}") from None
        limits = Limits(most_msat, units, fee_per_payment_msat)
        number = next(self._numbers)
        meter = self._meters[number] = self._stream.meter_users.use(address.node_id, name, limits)
        self._stream.start(meter.run)
        return {"id": number}

    async def waitmeter(self, id: Integer, version: Integer = 0, timeout: Number = 30) -> dict[str, Any]:
        """What a use came to, once it is newer than this version, or after so many seconds."""
        meter = self._meter(id)
        with trio.move_on_after(min(timeout, LONGEST_WAIT_SECONDS)):
            await meter.wait_changed(version)
        shown = {"id": id, "version": meter.version, **msgspec.structs.asdict(meter.metered())}
        if meter.is_over:
            del self._meters[id]
        return shown

    async def meterstop(self, id: Integer) -> dict[str, Any]:
        """Use a service no more; what has begun is paid."""
        self._meter(id).stop()
        return {"id": id}

    def _meter(self, id: int) -> Meter:
        meter = self._meters.get(id)
        if meter is None:
            raise CommandFailed(NO_METER, f"there is no meter {id}")
        return meter
