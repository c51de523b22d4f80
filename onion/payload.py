"""What one hop is told (BOLT 4, payload format).

Four shapes share one stream: a hop or the last node, outside or inside a blinded path. A shape
is the records it must have and the records it may have; every record with a number of its own
is even, so a known record in the wrong shape is refused as an unknown even one would be.

Rejected: one class for each shape. A node that relays treats all hops alike once a blinded
hop's amounts are filled in (`onion.blinded`), and would branch on the class everywhere.
"""

from collections.abc import Callable, Collection
from typing import Any

from msgspec import Struct

from onion.failures import Failure, FailureCode
from wire.codec import DecodeError, WrongLength
from wire.crypto.secp256k1 import Point, is_point
from wire.tlv import read_bigsize, read_tu32, read_tu64, write_records, write_truncated
from wire.units import Msat

AMT_TO_FORWARD = 2
OUTGOING_CLTV_VALUE = 4
SHORT_CHANNEL_ID = 6
PAYMENT_DATA = 8
ENCRYPTED_RECIPIENT_DATA = 10
CURRENT_PATH_KEY = 12
PAYMENT_METADATA = 16
TOTAL_AMOUNT_MSAT = 18
KEYSEND_PREIMAGE = 5482373484
FIRST_CUSTOM_TYPE = 65536

_PAYMENT_SECRET_SIZE = 32


class HopPayload(Struct, frozen=True, gc=False):
    """The payload of a hop or of the last node.

    Inside a blinded path a hop finds neither amount nor expiry here: both are 0 until
    `onion.blinded` computes them. A decoded payload of the last node always has a `total_msat`.
    """

    amt_to_forward: Msat = Msat(0)
    outgoing_cltv_value: int = 0
    short_channel_id: int | None = None
    payment_secret: bytes | None = None
    total_msat: Msat | None = None
    encrypted_recipient_data: bytes | None = None
    current_path_key: Point | None = None
    payment_metadata: bytes | None = None
    keysend_preimage: bytes | None = None
    custom_records: dict[int, bytes] = {}


class InvalidPayload(ValueError):
    """The payload is no valid stream, or lacks or has a record against the rules.

    `type` is the record that is wrong or missing, 0 if none could be read; `offset` is where it
    starts in the payload, 0 if it is missing.
    """

    def __init__(self, type: int, offset: int) -> None:
        self.type, self.offset = type, offset
        self.is_blinded = False  # whether it belongs to a blinded path, of which nothing is told
        super().__init__(f"the onion's payload is wrong at byte {offset}, record {type}")

    @property
    def failure(self) -> Failure:
        """What the sender is told of it."""
        return Failure(FailureCode.invalid_onion_payload, type=self.type, offset=self.offset)


class _Shape(Struct, frozen=True):
    required: tuple[int, ...]
    allowed: frozenset[int]
    only: bool
    """Whether even odd records that we could ignore are forbidden."""


# payload.1: a hop that finds the secret of the payment must not guess that it is the last
_HOP = _Shape(
    (AMT_TO_FORWARD, OUTGOING_CLTV_VALUE, SHORT_CHANNEL_ID),
    frozenset({AMT_TO_FORWARD, OUTGOING_CLTV_VALUE, SHORT_CHANNEL_ID}),
    only=False,
)
# payload.2: whether the secret must be there is up to the invoice, and is asked where it is known
_LAST = _Shape(
    (AMT_TO_FORWARD, OUTGOING_CLTV_VALUE),
    _HOP.allowed | {PAYMENT_DATA, PAYMENT_METADATA, TOTAL_AMOUNT_MSAT, KEYSEND_PREIMAGE},
    only=False,
)
# blinded-paths.3: inside a blinded path nothing but what the recipient and the rules put there
_BLINDED_HOP = _Shape((), frozenset({ENCRYPTED_RECIPIENT_DATA, CURRENT_PATH_KEY}), only=True)
_BLINDED_LAST = _Shape(
    (AMT_TO_FORWARD, OUTGOING_CLTV_VALUE, TOTAL_AMOUNT_MSAT),
    _BLINDED_HOP.allowed | {AMT_TO_FORWARD, OUTGOING_CLTV_VALUE, TOTAL_AMOUNT_MSAT},
    only=True,
)


def decode_payload(raw: bytes, is_final: bool, understood: Collection[int] = ()) -> HopPayload:
    """What the peeled payload says (BOLT 4, payload format).

    Args:
        raw: without its length.
        is_final: whether the packet had no further hop.
        understood: even custom records that whoever takes the payment knows.

    Raises:
        InvalidPayload: the rules for a reader are broken.
    """
    records = _records(raw)
    try:
        return _shaped(records, is_final, understood)
    except InvalidPayload as invalid:
        invalid.is_blinded = ENCRYPTED_RECIPIENT_DATA in records
        raise


def _shaped(records: dict[int, tuple[int, bytes]], is_final: bool, understood: Collection[int]) -> HopPayload:
    if ENCRYPTED_RECIPIENT_DATA in records:
        shape = _BLINDED_LAST if is_final else _BLINDED_HOP
    else:
        shape = _LAST if is_final else _HOP
    for type, (offset, _) in records.items():
        may_ignore = type & 1 or (is_final and type in understood)
        if type not in shape.allowed and (shape.only or not may_ignore):
            raise InvalidPayload(type, offset)
    for type in shape.required:
        if type not in records:
            raise InvalidPayload(type, 0)
    fields = _fields(records)
    if is_final:
        # payload.2: without a total, this part is the whole payment
        fields.setdefault("total_msat", fields["amt_to_forward"])
    return HopPayload(**fields)


def _records(raw: bytes) -> dict[int, tuple[int, bytes]]:
    """Each record's offset and value, in the order of the stream."""
    found: dict[int, tuple[int, bytes]] = {}
    at, previous = 0, -1
    while at < len(raw):
        start, type = at, 0
        try:
            type, at = read_bigsize(raw, at)
            length, at = read_bigsize(raw, at)
        except DecodeError:
            raise InvalidPayload(type, start) from None
        if type <= previous or at + length > len(raw):
            raise InvalidPayload(type, start)
        found[type] = start, raw[at : at + length]
        previous, at = type, at + length
    return found


def _fields(records: dict[int, tuple[int, bytes]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    custom: dict[int, bytes] = {}
    for type, (offset, value) in records.items():
        try:
            if type in _READERS:
                name, read = _READERS[type]
                fields[name] = read(value)
            elif type == PAYMENT_DATA:
                fields["payment_secret"] = _exactly(value[:_PAYMENT_SECRET_SIZE], _PAYMENT_SECRET_SIZE)
                fields["total_msat"] = read_tu64(value[_PAYMENT_SECRET_SIZE:])
            elif type >= FIRST_CUSTOM_TYPE:
                custom[type] = value
        except DecodeError:
            raise InvalidPayload(type, offset) from None
    return {**fields, "custom_records": custom}


def _exactly(value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise WrongLength("a record of the payload", len(value))
    return value


def _read_point(value: bytes) -> Point:
    return _exactly(value, 33 if is_point(value) else -1)


_READERS: dict[int, tuple[str, Callable[[bytes], Any]]] = {
    AMT_TO_FORWARD: ("amt_to_forward", read_tu64),
    OUTGOING_CLTV_VALUE: ("outgoing_cltv_value", read_tu32),
    SHORT_CHANNEL_ID: ("short_channel_id", lambda value: int.from_bytes(_exactly(value, 8), "big")),
    ENCRYPTED_RECIPIENT_DATA: ("encrypted_recipient_data", bytes),
    CURRENT_PATH_KEY: ("current_path_key", _read_point),
    PAYMENT_METADATA: ("payment_metadata", bytes),
    TOTAL_AMOUNT_MSAT: ("total_msat", read_tu64),
    KEYSEND_PREIMAGE: ("keysend_preimage", lambda value: _exactly(value, 32)),
}


def encode_payload(payload: HopPayload) -> bytes:
    """The payload as `onion.sphinx.build` takes it, without its length."""
    records = dict(payload.custom_records)
    # blinded-paths.3: a hop inside the path gets its amount and expiry from the recipient
    if payload.encrypted_recipient_data is None or payload.total_msat is not None:
        records[AMT_TO_FORWARD] = write_truncated(payload.amt_to_forward)
        records[OUTGOING_CLTV_VALUE] = write_truncated(payload.outgoing_cltv_value)
    if payload.short_channel_id is not None:
        records[SHORT_CHANNEL_ID] = payload.short_channel_id.to_bytes(8, "big")
    if payload.payment_secret is not None:
        total_msat = payload.amt_to_forward if payload.total_msat is None else payload.total_msat
        records[PAYMENT_DATA] = payload.payment_secret + write_truncated(total_msat)
    elif payload.total_msat is not None and _needs_total(payload):
        records[TOTAL_AMOUNT_MSAT] = write_truncated(payload.total_msat)
    optional = {
        ENCRYPTED_RECIPIENT_DATA: payload.encrypted_recipient_data,
        CURRENT_PATH_KEY: payload.current_path_key,
        PAYMENT_METADATA: payload.payment_metadata,
        KEYSEND_PREIMAGE: payload.keysend_preimage,
    }
    records |= {type: value for type, value in optional.items() if value is not None}
    return write_records(records.items())


def _needs_total(payload: HopPayload) -> bool:
    """Whether the total of a payment without a secret must be told apart from this part."""
    return payload.encrypted_recipient_data is not None or payload.total_msat != payload.amt_to_forward
