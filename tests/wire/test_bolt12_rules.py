"""BOLT 12's rules for readers, each broken by itself: its class, and a sentence."""

from typing import Any, TypeAlias

import pytest

from tests.bolt import bolt
from wire.bitcoin.block import CHAIN_HASH
from wire.blinded_path import BlindedHop, BlindedPath
from wire.bolt12 import errors
from wire.bolt12.forms import Invoice, InvoiceRequest, Offer, offer_of, read_form, widened
from wire.bolt12.kinds import DnsName, PayInfo
from wire.bolt12.merkle import signed
from wire.bolt12.rules import (
    check_answer,
    check_invoice,
    check_offer,
    check_request,
    expected_amount,
    offer_id_of,
    request_id_of,
)
from wire.crypto.secp256k1 import point_of
from wire.units import MAX_MSAT, Msat

Changes: TypeAlias = dict[str, Any]

REGTEST = CHAIN_HASH["regtest"]
NOW = 1_790_000_000
ISSUER, PAYER, OTHER = (bytes(31) + bytes([n]) for n in (1, 2, 3))
PATH = BlindedPath(point_of(ISSUER), point_of(OTHER), (BlindedHop(point_of(PAYER), b"told"),))
PRICE = PayInfo(Msat(1), 2, 3, Msat(4), Msat(5))

OFFER = Offer(
    offer_chains=(REGTEST,),
    offer_amount=1000,
    offer_description="tea",
    offer_quantity_max=5,
    offer_issuer_id=point_of(ISSUER),
    unknown=((77, b"odd"),),
)
REQUEST = widened(
    InvoiceRequest,
    OFFER,
    invreq_metadata=b"nobody knows",
    invreq_chain=REGTEST,
    invreq_quantity=3,
    invreq_payer_id=point_of(PAYER),
)
INVOICE = widened(
    Invoice,
    REQUEST,
    invoice_paths=(PATH,),
    invoice_blindedpay=(PRICE,),
    invoice_created_at=NOW,
    invoice_payment_hash=bytes(32),
    invoice_amount=Msat(3000),
    invoice_node_id=point_of(ISSUER),
)


def request(**changes: Any) -> InvoiceRequest:
    """The request with some fields changed, signed all the same."""
    return signed(widened(InvoiceRequest, REQUEST, **changes), PAYER)


def invoice(**changes: Any) -> Invoice:
    return signed(widened(Invoice, INVOICE, **changes), ISSUER)


def test_what_keeps_the_rules_is_accepted() -> None:
    check_offer(OFFER, REGTEST, NOW)
    check_request(request(), REGTEST)
    check_invoice(invoice(), REGTEST, NOW + 7200)
    check_answer(invoice(), request(), ())
    assert expected_amount(request()) == 3000
    # what is repeated is repeated whole
    assert offer_of(invoice()) == OFFER
    assert offer_id_of(OFFER) == offer_id_of(request()) == offer_id_of(invoice())
    assert request_id_of(request()) == request_id_of(invoice())


@bolt("b12-offers.3", "b12-offers.6")
@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({"unknown": ((81, b""),)}, errors.OutOfRange),
        ({"unknown": ((2_000_000_001, b""),)}, errors.OutOfRange),
        ({"offer_features": b"\1"}, errors.FeatureRequired),
        ({"offer_chains": (bytes(32),)}, errors.WrongChain),
        ({"offer_chains": None}, errors.WrongChain),
        ({"offer_description": None}, errors.FieldMissing),
        ({"offer_amount": 0}, errors.NothingToPay),
        ({"offer_amount": None, "offer_currency": "EUR"}, errors.FieldMissing),
        ({"offer_issuer_id": None}, errors.FieldMissing),
        ({"offer_paths": ()}, errors.FieldMissing),
        ({"offer_absolute_expiry": NOW - 1}, errors.Expired),
    ],
)
def test_an_offer_that_breaks_a_rule_is_not_answered(
    changes: dict[str, Any], broken: type[Exception]
) -> None:
    with pytest.raises(broken, match=" "):
        check_offer(widened(Offer, OFFER, **changes), REGTEST, NOW)


def test_an_offer_may_be_of_any_amount_and_its_issuer_hidden() -> None:
    hidden = {
        "offer_issuer_id": None,
        "offer_paths": (PATH,),
        "offer_amount": None,
        "offer_description": None,
    }
    check_offer(widened(Offer, OFFER, **hidden), REGTEST, NOW)
    check_offer(widened(Offer, OFFER, offer_features=b"\2", offer_absolute_expiry=NOW), REGTEST, NOW)


@bolt("b12-offers.4", "b12-offers.6", "b12-offers.7")
@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({"invreq_metadata": None}, errors.FieldMissing),
        ({"invreq_payer_id": None}, errors.FieldMissing),
        ({"unknown": ((161, b""),)}, errors.OutOfRange),
        ({"invreq_features": b"\1"}, errors.FeatureRequired),
        ({"invreq_chain": None}, errors.WrongChain),
        ({"invreq_paths": ()}, errors.FieldMissing),
        ({"invreq_payer_id": point_of(OTHER)}, errors.BadSignature),
        ({"invreq_quantity": None}, errors.FieldMissing),
        ({"invreq_quantity": 0}, errors.QuantityOutOfBounds),
        ({"invreq_quantity": 6}, errors.QuantityOutOfBounds),
        ({"offer_quantity_max": None}, errors.FieldForbidden),
        ({"invreq_amount": Msat(2999)}, errors.TooLittle),
        ({"offer_quantity_max": 0, "invreq_quantity": 2**64 - 1}, errors.TooMuch),
        ({"offer_amount": None}, errors.FieldMissing),
        ({"offer_amount": None, "invreq_amount": Msat(0)}, errors.NothingToPay),
        ({"invreq_bip_353_name": DnsName(b"ann", b"exa mple.org")}, errors.BadName),
        ({"offer_issuer_id": None}, errors.FieldForbidden),
        ({"offer_issuer_id": None, "offer_chains": None, "offer_quantity_max": None}, errors.FieldMissing),
    ],
)
def test_a_request_that_breaks_a_rule_gets_no_invoice(
    changes: dict[str, Any], broken: type[Exception]
) -> None:
    with pytest.raises(broken, match=" "):
        check_request(request(**changes), REGTEST)


@bolt("b12-offers.4")
def test_a_request_may_offer_more_and_ask_for_any_number() -> None:
    check_request(request(invreq_amount=Msat(3001)), REGTEST)
    check_request(request(offer_quantity_max=0, invreq_quantity=10**9), REGTEST)
    check_request(request(invreq_bip_353_name=DnsName(b"ann_1", b"example.org")), REGTEST)
    with pytest.raises(errors.CurrencyUnknown, match="EUR"):
        expected_amount(request(offer_currency="EUR"))


@bolt("b12-offers.5", "b12-offers.6")
@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({"invoice_amount": None}, errors.FieldMissing),
        ({"invoice_amount": Msat(0)}, errors.NothingToPay),
        ({"invoice_created_at": None}, errors.FieldMissing),
        ({"invoice_payment_hash": None}, errors.FieldMissing),
        ({"invoice_node_id": None}, errors.FieldMissing),
        ({"invoice_paths": None}, errors.FieldMissing),
        ({"invoice_paths": ()}, errors.FieldMissing),
        ({"invoice_blindedpay": None}, errors.FieldMissing),
        ({"invoice_blindedpay": (PRICE, PRICE)}, errors.PathsDoNotMatch),
        ({"invoice_blindedpay": (PayInfo(Msat(0), 0, 0, Msat(0), Msat(1), b"\1"),)}, errors.NoUsablePath),
        ({"invoice_features": b"\1"}, errors.FeatureRequired),
        ({"invreq_chain": CHAIN_HASH["signet"]}, errors.WrongChain),
        ({"invoice_node_id": point_of(OTHER)}, errors.BadSignature),
        ({"invoice_created_at": NOW - 7201}, errors.Expired),
        ({"invoice_created_at": NOW - 61, "invoice_relative_expiry": 60}, errors.Expired),
    ],
)
def test_an_invoice_that_breaks_a_rule_is_not_paid(changes: Changes, broken: type[Exception]) -> None:
    with pytest.raises(broken, match=" "):
        check_invoice(invoice(**changes), REGTEST, NOW)


@bolt("b12-offers.5")
@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({"invreq_payer_note": "other"}, errors.NotMirrored),
        ({"offer_description": "coffee"}, errors.NotMirrored),
        ({"unknown": ()}, errors.NotMirrored),
        ({"unknown": ((77, b"odd"), (79, b"more"))}, errors.NotMirrored),
        ({"invoice_node_id": point_of(OTHER)}, errors.WrongIssuer),
    ],
)
def test_an_invoice_for_something_else_is_no_answer(changes: Changes, broken: type[Exception]) -> None:
    with pytest.raises(broken, match=" "):
        check_answer(invoice(**changes), request(), ())


@bolt("b12-offers.5")
def test_an_answer_comes_from_the_end_of_a_path_and_asks_for_what_was_offered() -> None:
    hidden = {"offer_issuer_id": None, "offer_paths": (PATH,), "invreq_amount": Msat(4000)}
    ours = request(**hidden)
    end = PATH.hops[-1].blinded_node_id
    answer = {**hidden, "invoice_node_id": end, "invoice_amount": Msat(4000)}
    check_answer(invoice(**answer), ours, [end])
    with pytest.raises(errors.WrongIssuer):
        check_answer(invoice(**answer), ours, [point_of(OTHER)])
    with pytest.raises(errors.WrongAmount, match="4001"):
        check_answer(invoice(**{**answer, "invoice_amount": Msat(4001)}), ours, [end])


def test_what_must_move_money_is_no_more_than_all_bitcoin() -> None:
    with pytest.raises(errors.Malformed, match="all bitcoin"):
        read_form(InvoiceRequest, request(invreq_amount=Msat(MAX_MSAT + 1)).text)
