"""Every decoder that reads a stranger's bytes, and the errors that it declares.

The law: any bytes give a value or a declared error. For messages also: the value's encoding
decodes to the same value.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from htlc.backup import BadBackup, decode_entry, encode_entry, unseal
from htlc.watchtower import HINT_BYTES, Unreadable, unsealed
from node.daemon.tower_messages import TAG_BYTES, AddJustice, read_add, read_refused, write_add, write_stored
from node.stream import fraud, manifest, messages, meter_messages, offer
from onion.blinded import InvalidBlinding, decode_recipient_data
from onion.failures import attribute, decode_failure
from onion.message import open_message
from onion.payload import InvalidPayload, decode_payload
from onion.sphinx import BadOnion, peel
from tests.htlc.test_backup import an_entry
from wire import bolt11, node_address, tlv
from wire.bitcoin.address import InvalidAddress, script_of
from wire.bitcoin.block import parse_block
from wire.bitcoin.tx import MalformedTransaction, parse_transaction
from wire.blinded_path import decode_path
from wire.bolt12.errors import Unacceptable
from wire.bolt12.forms import (
    Form,
    Invoice,
    InvoiceError,
    InvoiceRequest,
    Offer,
    decode_form,
    encode_form,
    read_form,
)
from wire.bolt12.rules import BITCOIN, check_invoice, check_offer, check_request
from wire.bolt12.text import decode_text
from wire.codec import DecodeError
from wire.crypto.secp256k1 import point_of
from wire.messages.base import Unknown
from wire.messages.catalogue import decode, encode
from wire.noise import BadFrame, HandshakeFailed, Initiator, Responder, Transport

VECTORS = Path(__file__).parents[1] / "vectors"
SECRET, OTHER_SECRET = b"\x11" * 32, b"\x22" * 32


class BrokenLaw(Exception):
    """A value did not survive its own encoding."""


class Target(NamedTuple):
    """What is fed, which errors it may raise, and where to begin."""

    feed: Callable[[bytes], object]
    declared: tuple[type[Exception], ...]
    seeds: list[bytes]


def _message(raw: bytes) -> None:
    message = decode(raw)
    if not isinstance(message, Unknown) and decode(encode(message)) != message:
        raise BrokenLaw(raw.hex())


def _invoice(raw: bytes) -> None:
    bolt11.decode(raw.decode("latin-1"), None)


def _bolt12(raw: bytes) -> None:
    for cls in (Offer, InvoiceRequest, Invoice, InvoiceError):
        try:
            form = decode_form(cls, raw)
        except DecodeError:
            continue
        if encode_form(form) != raw:
            raise BrokenLaw(raw.hex())
        _judge(form)


def _judge(form: Form) -> None:
    """Every rule is for whatever can be read."""
    with suppress(Unacceptable):
        if isinstance(form, Invoice):
            check_invoice(form, BITCOIN, 0)
        elif isinstance(form, InvoiceRequest):
            check_request(form, BITCOIN)
        elif isinstance(form, Offer):
            check_offer(form, BITCOIN, 0)


def _bolt12_text(raw: bytes) -> None:
    read_form(Offer, raw.decode("latin-1"))


def _transport(raw: bytes) -> None:
    Transport(SECRET, OTHER_SECRET, SECRET).feed(raw)


def _responder(raw: bytes) -> None:
    responder = Responder(SECRET, OTHER_SECRET)
    responder.receive_act_one(raw[:50])
    responder.receive_act_three(raw[50:])


def _initiator(raw: bytes) -> None:
    initiator = Initiator(SECRET, bytes.fromhex(_bolt8()["initiator"][0]["rs_pub"]), OTHER_SECRET)
    initiator.act_one()
    initiator.receive_act_two(raw)


def _bolt8() -> dict[str, list[dict[str, str]]]:
    figures: dict[str, list[dict[str, str]]] = json.loads((VECTORS / "bolt8.json").read_text())
    return figures


def _hexes(name: str) -> list[bytes]:
    """Every longer hex value of a file of figures."""

    def walk(value: object) -> list[bytes]:
        if isinstance(value, dict):
            return [found for each in value.values() for found in walk(each)]
        if isinstance(value, list):
            return [found for each in value for found in walk(each)]
        if isinstance(value, str) and len(value) > 8 and len(value) % 2 == 0:
            try:
                return [bytes.fromhex(value)]
            except ValueError:
                return []
        return []

    return walk(json.loads((VECTORS / name).read_text()))


def _invoices() -> list[bytes]:
    figures = json.loads((VECTORS / "bolt11.json").read_text())
    return [case["invoice"].encode() for case in figures["valid"] + figures["invalid"]]


def _bolt12_texts() -> list[bytes]:
    figures = json.loads((VECTORS / "bolt12.json").read_text())
    valid = [case for case in figures["offers"] if case["valid"]]
    return [case["bolt12"].encode() for case in valid + figures["signatures"][-1:]]


def targets() -> dict[str, Target]:
    """All targets by name."""
    onions, chain = _hexes("bolt4.json"), _hexes("bolt3.json")
    gossip = _hexes("bolt7.json") + _hexes("bolt1.json")
    packet = max(onions, key=len)[:1366]
    entries = [encode_entry(an_entry(number)) for number in range(3)]
    asked = [write_add(AddJustice(1, bytes(TAG_BYTES), bytes(HINT_BYTES), 0, bytes(600)))]
    texts = _bolt12_texts()
    stream_errors = (DecodeError, manifest.InvalidManifest, offer.InvalidOffer)
    return {
        "message": Target(_message, (DecodeError,), gossip),
        "tlv": Target(tlv.read_records, (DecodeError,), gossip),
        "addresses": Target(node_address.read_addresses, (DecodeError,), gossip),
        "invoice": Target(_invoice, (bolt11.InvalidInvoice,), _invoices()),
        "bolt12": Target(_bolt12, (), [decode_text(text.decode())[1] for text in texts]),
        "bolt12 text": Target(_bolt12_text, (Unacceptable,), texts),
        "transaction": Target(parse_transaction, (MalformedTransaction,), chain),
        "block": Target(parse_block, (MalformedTransaction,), chain),
        "address": Target(
            lambda raw: script_of(raw.decode("latin-1"), "regtest"), (InvalidAddress,), _invoices()
        ),
        "onion": Target(lambda raw: peel(SECRET, raw, b""), (BadOnion,), [packet]),
        "payload": Target(lambda raw: decode_payload(raw, is_final=True), (InvalidPayload,), onions),
        "hop payload": Target(lambda raw: decode_payload(raw, is_final=False), (InvalidPayload,), onions),
        "failure": Target(decode_failure, (DecodeError,), onions),
        "failure packet": Target(lambda raw: attribute((SECRET, OTHER_SECRET), raw), (), onions),
        "blinded path": Target(decode_path, (DecodeError, InvalidBlinding), onions),
        "recipient data": Target(decode_recipient_data, (DecodeError, InvalidBlinding), onions),
        "onion message": Target(lambda raw: open_message(SECRET, point_of(OTHER_SECRET), raw), (), [packet]),
        "backup": Target(decode_entry, (BadBackup,), entries),
        "sealed backup": Target(lambda raw: unseal(raw, SECRET), (BadBackup,), entries),
        "asked of a tower": Target(read_add, (DecodeError,), asked),
        "answer of a tower": Target(read_refused, (DecodeError,), [write_stored(1) + b"\0\1"]),
        "justice": Target(lambda raw: unsealed(bytes(32), raw), (Unreadable,), asked),
        "frames": Target(_transport, (BadFrame,), _hexes("bolt8.json")),
        "act one and three": Target(_responder, (HandshakeFailed,), _hexes("bolt8.json")),
        "act two": Target(_initiator, (HandshakeFailed,), _hexes("bolt8.json")),
        "manifest": Target(manifest.read_manifest, stream_errors, gossip),
        "offer": Target(offer.read_offer, stream_errors, gossip),
        "offer reply": Target(messages.read_offer_reply, stream_errors, gossip),
        "proof of fraud": Target(fraud.read_fraud, (fraud.NotAProof,), gossip),
        "tariff": Target(meter_messages.read_tariff, (DecodeError,), gossip),
        "bill": Target(meter_messages.read_bill, (DecodeError,), gossip),
        "fragment": Target(messages.read_fragment, stream_errors, gossip),
    }
