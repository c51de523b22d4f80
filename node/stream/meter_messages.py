"""What the two sides of a metered service say to each other (BOLT 8 custom messages, odd numbers).

The user asks for the tariff of a service by its name, then for a bill over so many units, again and
again; the payment of a bill is all that the server hears of it.
"""

from struct import Struct as Layer

from msgspec import Struct

from wire.codec import DecodeError, Truncated, WrongLength
from wire.units import MAX_MSAT, Msat

MAX_NAME_BYTES = 64
MAX_UNITS = 1 << 20

_tariff = Layer(">QQB?")
_ask = Layer(">QI")
_bill = Layer(">QIQ32s32s")
_request_id = Layer(">Q")


class BadMeterField(DecodeError):
    """A field of a message is out of its range."""

    def __init__(self, field: str) -> None:
        self.field = field
        super().__init__(f"the {field} of a metered service is out of range")


class Tariff(Struct, frozen=True, gc=False):
    """What a service costs: so much a second, or so much a unit that the server counts."""

    price_msat: Msat
    credit_units: int
    """How many units are given before they are paid."""
    is_by_time: bool


class GetTariff(Struct, frozen=True, gc=False):
    """Ask what a service costs."""

    request_id: int
    name: str


class TariffReply(Struct, frozen=True, gc=False):
    """The tariff asked for."""

    request_id: int
    tariff: Tariff


class AskUnits(Struct, frozen=True, gc=False):
    """Ask for a bill."""

    request_id: int
    units: int
    name: str


class Bill(Struct, frozen=True, gc=False):
    """What to pay for so many units more."""

    request_id: int
    units: int
    amount_msat: Msat
    payment_hash: bytes
    payment_secret: bytes


class NoService(Struct, frozen=True, gc=False):
    """There is no service of that name, or none for this user now."""

    request_id: int


def write_get_tariff(message: GetTariff) -> bytes:
    """The payload of a `get_tariff`."""
    return _request_id.pack(message.request_id) + message.name.encode()


def read_get_tariff(payload: bytes) -> GetTariff:
    """Raises DecodeError."""
    request_id, name = _named(_request_id, payload)
    return GetTariff(request_id[0], name)


def write_tariff(message: TariffReply) -> bytes:
    """The payload of a `tariff`."""
    tariff = message.tariff
    return _tariff.pack(message.request_id, tariff.price_msat, tariff.credit_units, tariff.is_by_time)


def read_tariff(payload: bytes) -> TariffReply:
    """Raises DecodeError."""
    if len(payload) != _tariff.size:
        raise WrongLength("a tariff", len(payload))
    request_id, price_msat, credit_units, is_by_time = _tariff.unpack(payload)
    return TariffReply(request_id, Tariff(_amount(price_msat), credit_units, is_by_time))


def write_ask_units(message: AskUnits) -> bytes:
    """The payload of an `ask_units`."""
    return _ask.pack(message.request_id, message.units) + message.name.encode()


def read_ask_units(payload: bytes) -> AskUnits:
    """Raises DecodeError."""
    (request_id, units), name = _named(_ask, payload)
    return AskUnits(request_id, _units(units), name)


def write_bill(message: Bill) -> bytes:
    """The payload of a `bill`."""
    numbers = (message.request_id, message.units, message.amount_msat)
    return _bill.pack(*numbers, message.payment_hash, message.payment_secret)


def read_bill(payload: bytes) -> Bill:
    """Raises DecodeError."""
    if len(payload) != _bill.size:
        raise WrongLength("a bill", len(payload))
    request_id, units, amount_msat, payment_hash, payment_secret = _bill.unpack(payload)
    return Bill(request_id, _units(units), _amount(amount_msat), payment_hash, payment_secret)


def write_no_service(message: NoService) -> bytes:
    """The payload of a `no_service`."""
    return _request_id.pack(message.request_id)


def read_no_service(payload: bytes) -> NoService:
    """Raises DecodeError."""
    if len(payload) != _request_id.size:
        raise WrongLength("a refusal", len(payload))
    return NoService(*_request_id.unpack(payload))


def checked_name(name: str) -> str:
    """The name, if a service may have it.

    Raises:
        BadMeterField: it is empty, too long, or cannot be shown.
    """
    if not name.isprintable() or not 1 <= len(name.encode()) <= MAX_NAME_BYTES:
        raise BadMeterField("name")
    return name


def _named(layer: Layer, payload: bytes) -> tuple[tuple[int, ...], str]:
    if len(payload) <= layer.size:
        raise Truncated("a request for a metered service")
    try:
        name = payload[layer.size :].decode()
    except UnicodeDecodeError:
        raise BadMeterField("name") from None
    return layer.unpack_from(payload), checked_name(name)


def _amount(amount_msat: int) -> Msat:
    if not 1 <= amount_msat <= MAX_MSAT:
        raise BadMeterField("price")
    return Msat(amount_msat)


def _units(units: int) -> int:
    if not 1 <= units <= MAX_UNITS:
        raise BadMeterField("number of units")
    return units
