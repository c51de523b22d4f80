"""BOLT 12 as bytes and text: the specification's figures, and the law of every decoder."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bolt import bolt
from wire.bolt12.errors import BadSignature, NotText, Unacceptable, WrongPrefix
from wire.bolt12.forms import (
    Form,
    Invoice,
    InvoiceError,
    InvoiceRequest,
    Offer,
    decode_form,
    encode_form,
    fields_of,
    read_form,
    records_of,
)
from wire.bolt12.merkle import check_signature, merkle_root, signed
from wire.bolt12.rules import BITCOIN, check_offer, check_request
from wire.bolt12.text import decode_text, encode_text, is_bolt12
from wire.codec import DecodeError
from wire.crypto.secp256k1 import point_of
from wire.tlv import read_records, write_records

FIGURES: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "bolt12.json").read_text()
)
NOW = 1_790_000_000.0
FORMS = (Offer, InvoiceRequest, Invoice, InvoiceError)


def by_label(case: dict[str, Any]) -> str:
    return str(case["label"])


@bolt("b12-offers.1")
@pytest.mark.parametrize("case", FIGURES["format_strings"], ids=by_label)
def test_a_text_is_read_as_the_specification_says(case: dict[str, Any]) -> None:
    if case["valid"]:
        assert read_form(Offer, case["string"]) == read_form(Offer, FIGURES["format_strings"][0]["string"])
        assert is_bolt12(case["string"])
    else:
        with pytest.raises((NotText, WrongPrefix)):
            read_form(Offer, case["string"])


@bolt("b12-offers.1", "b12-offers.3", "b12-offers.6")
@pytest.mark.parametrize("case", FIGURES["offers"], ids=by_label)
def test_an_offer_is_answered_or_not_as_the_specification_says(case: dict[str, Any]) -> None:
    def answered() -> Offer:
        offer = read_form(Offer, case["bolt12"])
        check_offer(offer, (offer.offer_chains or (BITCOIN,))[-1], NOW)
        return offer

    if not case["valid"]:
        with pytest.raises(Unacceptable) as refused:
            answered()
        assert str(refused.value)
        return
    offer = answered()
    assert offer.text == case["bolt12"]
    fields = [(field["type"], bytes.fromhex(field["hex"])) for field in case["fields"]]
    assert records_of(offer) == fields


@bolt("b12-offers.2")
@pytest.mark.parametrize("case", FIGURES["signatures"], ids=by_label)
def test_a_root_is_that_of_the_specification(case: dict[str, Any]) -> None:
    records = [read_records(bytes.fromhex(leaf["tlv"]))[0] for leaf in case["leaves"]]
    assert merkle_root(records).hex() == case["merkle_root"]
    # signatures are no leaves
    assert merkle_root([*records, (240, bytes(64)), (1000, b"")]).hex() == case["merkle_root"]


@bolt("b12-offers.2")
def test_a_signature_holds_for_what_was_signed_alone() -> None:
    [case] = [each for each in FIGURES["signatures"] if "bolt12" in each]
    request = read_form(InvoiceRequest, case["bolt12"])
    assert request.signature is not None
    assert request.signature.hex() == case["signature"]
    assert request.invreq_payer_id is not None
    check_signature(request, request.invreq_payer_id)
    check_request(request, BITCOIN)
    again = signed(request, bytes.fromhex(case["payer_privkey"]))
    check_signature(again, request.invreq_payer_id)
    for other in (
        InvoiceRequest(**{**fields(request), "invreq_metadata": b"other"}),
        InvoiceRequest(**{**fields(request), "signature": None}),
        InvoiceRequest(**{**fields(request), "unknown": ((77, b""),)}),
        # the same fields as another form are another message
        Invoice(**fields(request)),
    ):
        with pytest.raises(BadSignature):
            check_signature(other, request.invreq_payer_id)


def fields(form: Form) -> dict[str, Any]:
    return {name: getattr(form, name) for name in form.__struct_fields__}


def test_a_text_of_another_kind_is_refused_by_name() -> None:
    offer = FIGURES["format_strings"][0]["string"]
    with pytest.raises(WrongPrefix, match="lni"):
        read_form(Invoice, offer)
    assert not is_bolt12("lnbc1qq")


@settings(max_examples=100)
@given(st.binary(max_size=60), st.data())
def test_a_text_comes_back_however_it_is_broken_up(raw: bytes, data: st.DataObject) -> None:
    text = encode_text("lno", raw)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=4)))
    broken = "+ \n".join(text[a:b] for a, b in pairwise([0, *cuts, len(text)]))
    assert decode_text(broken.upper()) == decode_text("lightning:" + broken) == ("lno", raw)


# --- the law: any bytes are refused as DecodeError, or are a form whose bytes they are


def assert_refused_or_comes_back(cls: type[Form], raw: bytes) -> None:
    try:
        form = decode_form(cls, raw)
    except DecodeError:
        return
    assert encode_form(form) == raw


@settings(max_examples=300)
@given(st.sampled_from(FORMS), st.binary(max_size=200))
def test_any_bytes_are_refused_or_come_back(cls: type[Form], raw: bytes) -> None:
    assert_refused_or_comes_back(cls, raw)


@settings(max_examples=500)
@given(st.sampled_from(FORMS), st.data())
def test_any_contents_of_known_records_are_refused_or_come_back(cls: type[Form], data: st.DataObject) -> None:
    point = point_of(bytes(31) + b"\1")
    contents = st.one_of(
        st.binary(max_size=40),
        st.sampled_from([point, point + point + b"\1" + point + b"\0\1x", bytes(9) + point + b"\1" + point]),
        st.binary(min_size=28, max_size=90),
    )
    numbers = st.one_of(st.sampled_from(sorted(fields_of(cls))), st.integers(0, 300))
    records = data.draw(st.dictionaries(numbers, contents, max_size=5))
    assert_refused_or_comes_back(cls, write_records(records.items()))
