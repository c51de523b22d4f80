"""Invoices (BOLT 11): the published ones byte for byte, the wrong ones by their fault, and any other."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bolt import bolt
from wire import scid
from wire.bitcoin.address import address_of
from wire.bitcoin.bech32 import (
    BadChecksum,
    Checksum,
    InvalidBech32,
    MixedCase,
    NoSeparator,
    words_of,
)
from wire.bitcoin.bech32 import decode as decode_bech32
from wire.bitcoin.bech32 import encode as encode_bech32
from wire.bolt11 import (
    CURRENCY,
    MAX_FIELD_BYTES,
    Fallback,
    Invoice,
    RouteHop,
    decode,
    encode,
    human_part,
    sign_fields,
    signed_digest,
    split_fields,
    tagged_fields,
)
from wire.bolt11_errors import (
    BadAmount,
    BadInvoiceSignature,
    BothDescriptions,
    HighSignature,
    InvalidInvoice,
    MalformedField,
    MissingFeatureDependency,
    MissingField,
    NotBech32,
    NotMinimalField,
    SubMillisatoshi,
    TruncatedInvoice,
    UnknownPrefix,
    UnknownRequiredFeature,
    UnwritableInvoice,
    WrongChecksumKind,
)
from wire.crypto.secp256k1 import GENERATOR, point_of, sign
from wire.features import BASIC_MPP, PAYMENT_METADATA, PAYMENT_SECRET, VAR_ONION, Features
from wire.units import MAX_MSAT, Msat

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors/bolt11.json").read_text())
SECRET = bytes.fromhex(VECTORS["signing_privkey"])
PAYEE = bytes.fromhex(VECTORS["node_id"])
BY_LABEL = {case["label"]: case for case in VECTORS["valid"] + VECTORS["invalid"]}
NETWORK = {"bc": "bitcoin", "tb": "testnet", "tbs": "signet", "bcrt": "regtest"}
# What a writer of ours would not write: one repeats ignored fields, one was signed by hand.
NOT_OF_OUR_WRITING = {"ignored_fields", "high_s_recovered_key"}
REFUSED: dict[str, type[InvalidInvoice]] = {
    "unknown_even_feature_100": UnknownRequiredFeature,
    "bad_checksum": NotBech32,
    "no_separator": NotBech32,
    "mixed_case": NotBech32,
    "signature_not_recoverable": BadInvoiceSignature,
    "too_short": TruncatedInvoice,
    "bad_multiplier": BadAmount,
    "sub_millisatoshi": SubMillisatoshi,
    "missing_payment_secret": MissingField,
    "high_s_with_node_id": HighSignature,
}
REFUSED_BY_BECH32: dict[str, type[InvalidBech32]] = {
    "bad_checksum": BadChecksum,
    "no_separator": NoSeparator,
    "mixed_case": MixedCase,
}


def label(case: dict[str, Any]) -> str:
    return str(case["label"])


def an_invoice(**changes: Any) -> Invoice:
    plain = Invoice(
        currency="bcrt",
        amount_msat=Msat(1000),
        timestamp=1_700_000_000,
        payment_hash=b"\x01" * 32,
        payment_secret=b"\x02" * 32,
        payee=PAYEE,
        description="a chunk of film",
        features=Features.of(VAR_ONION, PAYMENT_SECRET, optional=[BASIC_MPP]),
    )
    return msgspec.structs.replace(plain, **changes)


Fields = list[tuple[str, bytes]]


def with_fields(*, without: str = "", more: Fields | None = None, human: str | None = None) -> str:
    """A signed invoice with some fields left out and some put behind the others."""
    fields = [field for field in tagged_fields(an_invoice()) if field[0] not in without]
    return sign_fields(human or "lnbcrt10n", 1_700_000_000, fields + (more or []), SECRET)


def in_order(text: str) -> Fields:
    """The fields of a published invoice as they stand."""
    return split_fields(decode_bech32(text).words[7:-104])


def expected_invoice(expected: dict[str, Any]) -> Invoice:
    raw = {name: bytes.fromhex(expected[name]) for name in ("payment_hash", "payment_secret", "payee")}
    hashed, metadata = expected.get("description_hash"), expected.get("metadata")
    return Invoice(
        currency=expected["currency"],
        amount_msat=expected["amount_msat"],
        timestamp=expected["timestamp"],
        **raw,
        description=expected.get("description"),
        description_hash=bytes.fromhex(hashed) if hashed else None,
        expiry_seconds=expected["expiry"],
        min_final_cltv_expiry_delta=expected["min_final_cltv_expiry_delta"],
        route_hints=tuple(tuple(map(expected_hop, route)) for route in expected.get("routes", ())),
        fallbacks=tuple(
            Fallback(fallback["version"], bytes.fromhex(fallback["data"]))
            for fallback in expected.get("fallbacks", ())
        ),
        features=Features(sum(1 << bit for bit in expected["features"])),
        payment_metadata=bytes.fromhex(metadata) if metadata else None,
    )


def expected_hop(hop: dict[str, Any]) -> RouteHop:
    return RouteHop(
        pubkey=bytes.fromhex(hop["pubkey"]),
        short_channel_id=scid.parse(hop["scid"]),
        fee_base_msat=hop["fee_base_msat"],
        fee_proportional_millionths=hop["fee_proportional_millionths"],
        cltv_expiry_delta=hop["cltv_expiry_delta"],
    )


# ── the published invoices ───────────────────────────────────────────────────────────────────


@bolt("b11-invoices.1", "b11-invoices.3", "b11-invoices.4")
@pytest.mark.parametrize("case", VECTORS["valid"], ids=label)
def test_a_published_invoice_is_read_in_full(case: dict[str, Any]) -> None:
    assert decode(case["invoice"]) == expected_invoice(case["expected"])


@pytest.mark.parametrize("case", VECTORS["valid"], ids=label)
def test_the_signed_bytes_and_the_signature_are_the_published_ones(case: dict[str, Any]) -> None:
    words = decode_bech32(case["invoice"])
    signature = case["expected"]["signature"]
    assert signed_digest(words.prefix, words.words[:-104]).hex() == signature["sighash"]
    tail = words_of(bytes.fromhex(signature["compact"]) + bytes([signature["recovery_id"]]))
    assert words.words[-104:] == tail


@bolt("b11-invoices.2")
@pytest.mark.parametrize(
    "case", [case for case in VECTORS["valid"] if case["label"] not in NOT_OF_OUR_WRITING], ids=label
)
def test_a_published_invoice_is_written_byte_for_byte(case: dict[str, Any]) -> None:
    """Our fields in the order of the published text, which is free."""
    invoice = expected_invoice(case["expected"])
    ours = tagged_fields(invoice)
    if "c" not in dict(in_order(case["invoice"])):
        ours = [field for field in ours if field[0] != "c"]
    order = "".join(letter for letter, _ in in_order(case["invoice"]))
    ours.sort(key=lambda field: order.index(field[0]))
    written = sign_fields(human_part(invoice), invoice.timestamp, ours, SECRET)
    assert written == case["invoice"].lower()


@pytest.mark.parametrize(
    "case", [case for case in VECTORS["valid"] if case["expected"].get("fallbacks")], ids=label
)
def test_a_fallback_pays_to_the_published_address(case: dict[str, Any]) -> None:
    invoice = decode(case["invoice"])
    network = NETWORK[invoice.currency]
    assert [address_of(fallback.script(), network) for fallback in invoice.fallbacks] == [
        fallback["address"] for fallback in case["expected"]["fallbacks"]
    ]


@bolt("b11-invoices.3")
def test_a_hashed_description_is_compared_with_what_came_by_another_way() -> None:
    invoice = decode(BY_LABEL["hashed_description_20m"]["invoice"])
    description = VECTORS["description_hash_preimage"]
    assert invoice.is_about(description)
    assert not invoice.is_about(description + ".")
    plain = decode(BY_LABEL["coffee_2500u_expiry_60"]["invoice"])
    assert plain.is_about("1 cup coffee")
    assert not plain.is_about("2 cups coffee")
    assert plain.expires_at == plain.timestamp + 60


@bolt("b11-invoices.1", "b11-invoices.3", "b11-invoices.4")
@pytest.mark.parametrize("case", VECTORS["invalid"], ids=label)
def test_a_published_wrong_invoice_is_refused_by_its_fault(case: dict[str, Any]) -> None:
    with pytest.raises(InvalidInvoice) as refused:
        decode(case["invoice"])
    assert type(refused.value) is REFUSED[case["label"]]
    if isinstance(refused.value, NotBech32):
        assert type(refused.value.why) is REFUSED_BY_BECH32[case["label"]]


# ── reading ──────────────────────────────────────────────────────────────────────────────────


def test_the_uri_scheme_is_taken_off() -> None:
    text = encode(an_invoice(), SECRET)
    assert decode(f"lightning:{text}") == decode(f"LIGHTNING:{text.upper()}") == an_invoice()


@bolt("b11-invoices.1")
@pytest.mark.parametrize("human", ["lnxx", "ln", "lnbc2500u2", "bc", "lnbcs", "lnltc20m"])
def test_an_unknown_prefix_or_an_amount_that_is_none_is_refused(human: str) -> None:
    with pytest.raises((UnknownPrefix, BadAmount)):
        decode(with_fields(human=human))


@bolt("b11-invoices.1")
@pytest.mark.parametrize("amount", ["0", "01", "1x", "1mm", "m", "-1", "1.5m", "21000001", "9" * 30])
def test_an_amount_that_is_none_is_refused(amount: str) -> None:
    with pytest.raises((BadAmount, UnknownPrefix)):
        decode(with_fields(human=f"lnbc{amount}"))


@bolt("b11-invoices.1")
@pytest.mark.parametrize(
    ("amount", "amount_msat"),
    [("1", 10**11), ("1m", 10**8), ("1000u", 10**8), ("1n", 100), ("10p", 1), ("21000000", MAX_MSAT)],
)
def test_an_amount_may_use_any_multiplier(amount: str, amount_msat: int) -> None:
    assert decode(with_fields(human=f"lnbc{amount}")).amount_msat == amount_msat


@bolt("b11-invoices.1")
def test_the_other_bech32_is_refused() -> None:
    words = decode_bech32(encode(an_invoice(), SECRET)).words
    with pytest.raises(WrongChecksumKind):
        decode(encode_bech32("lnbcrt10n", words, Checksum.BECH32M))


@bolt("b11-invoices.3")
@pytest.mark.parametrize(("letter", "field"), [("p", "payment_hash"), ("s", "payment_secret")])
def test_no_hash_or_no_secret_is_refused(letter: str, field: str) -> None:
    for more in ([], [(letter, bytes(51))], [(letter, bytes(53))]):
        with pytest.raises(MissingField) as refused:
            decode(with_fields(without=letter, more=more))
        assert refused.value.field == field


@bolt("b11-invoices.3")
def test_exactly_one_description_is_needed() -> None:
    with pytest.raises(MissingField):
        decode(with_fields(without="d"))
    with pytest.raises(BothDescriptions):
        decode(with_fields(more=[("h", words_of(bytes(32)))]))
    assert decode(with_fields(without="d", more=[("h", words_of(bytes(32)))])).description_hash == bytes(32)


@bolt("b11-invoices.3")
def test_of_several_fields_the_first_counts() -> None:
    more = [("p", words_of(b"\x07" * 32)), ("x", b"\x01"), ("x", b"\x02"), ("y", b"\x03")]
    invoice = decode(with_fields(more=more))
    assert (invoice.payment_hash, invoice.expiry_seconds) == (b"\x01" * 32, 1)


@bolt("b11-invoices.3")
def test_defaults_stand_for_what_is_not_said() -> None:
    invoice = decode(with_fields(without="cx9"))
    assert (invoice.expiry_seconds, invoice.min_final_cltv_expiry_delta) == (3600, 18)
    assert (invoice.features, invoice.payment_metadata) == (Features(), None)


@bolt("b11-invoices.2")
@pytest.mark.parametrize("letter", ["x", "c", "9"])
def test_a_number_with_leading_zeros_is_refused(letter: str) -> None:
    with pytest.raises(NotMinimalField) as refused:
        decode(with_fields(without=letter, more=[(letter, b"\x00\x01")]))
    assert refused.value.letter == letter


@pytest.mark.parametrize(
    ("letter", "words"),
    [
        ("x", b"\x1f" * 13),
        ("c", b"\x1f" * 1023),
        ("d", words_of(b"\xff\xfe")),
        ("r", b""),
        ("r", words_of(GENERATOR + bytes(17))),
        ("r", words_of(GENERATOR + bytes(19))),
        ("r", words_of(bytes(51))),
    ],
    ids=range(7),
)
def test_a_malformed_field_is_refused(letter: str, words: bytes) -> None:
    with pytest.raises(MalformedField) as refused:
        decode(with_fields(without=letter, more=[(letter, words)]))
    assert refused.value.letter == letter


@bolt("b11-invoices.3")
@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"\x13" + words_of(bytes(20)),
        b"\x00" + words_of(bytes(21)),
        b"\x11" + words_of(bytes(19)),
        b"\x01\x00",
    ],
    ids=["empty", "unknown version", "v0 of 21", "short hash", "v1 of 0"],
)
def test_a_fallback_that_cannot_be_paid_to_is_skipped(words: bytes) -> None:
    good = Fallback(18, b"\x09" * 20)
    more = [("f", words), ("f", b"\x12" + words_of(good.program))]
    assert decode(with_fields(more=more)).fallbacks == (good,)


@bolt("b11-invoices.3")
def test_what_a_payer_must_understand_depends_on_the_payer() -> None:
    text = encode(an_invoice(features=Features(1 << 100)), SECRET)
    with pytest.raises(UnknownRequiredFeature) as refused:
        decode(text)
    assert refused.value.bit == 100
    with pytest.raises(UnknownRequiredFeature):
        decode(text, None)
    required = an_invoice(features=Features.of(PAYMENT_SECRET, PAYMENT_METADATA))
    assert decode(encode(required, SECRET), None) == required
    with pytest.raises(UnknownRequiredFeature):
        decode(encode(required, SECRET), Features.of(optional=[PAYMENT_SECRET]))
    assert decode(encode(an_invoice(features=Features(1 << 101)), SECRET)).features == Features(1 << 101)


@bolt("b11-invoices.3", "b9.1")
def test_a_feature_without_what_it_needs_is_refused() -> None:
    text = encode(an_invoice(features=Features.of(optional=["option_zeroconf"])), SECRET)
    with pytest.raises(MissingFeatureDependency) as refused:
        decode(text)
    assert (refused.value.feature, refused.value.needs) == ("option_zeroconf", "option_scid_alias")


@bolt("b11-invoices.4")
def test_a_named_payee_must_have_signed() -> None:
    assert decode(with_fields(more=[("n", words_of(PAYEE))])).payee == PAYEE
    for payee in (GENERATOR, bytes(33)):
        with pytest.raises(BadInvoiceSignature):
            decode(with_fields(more=[("n", words_of(payee))]))


@bolt("b11-invoices.4")
def test_the_recovery_id_is_not_asked_when_the_payee_is_named() -> None:
    decoded = decode_bech32(with_fields(more=[("n", words_of(PAYEE))]))
    signed = decoded.words[:-104]
    compact = sign(SECRET, signed_digest(decoded.prefix, signed))
    text = encode_bech32(decoded.prefix, signed + words_of(compact + b"\xff"), Checksum.BECH32)
    assert decode(text).payee == PAYEE
    unnamed = decode_bech32(encode(an_invoice(), SECRET)).words[:-104]
    with pytest.raises(BadInvoiceSignature):
        decode(encode_bech32("lnbcrt10n", unnamed + words_of(compact + b"\x04"), Checksum.BECH32))


@given(st.integers(0, 2**31), st.integers(1, 31))
def test_any_altered_word_changes_the_payee_or_is_refused(position: int, flip: int) -> None:
    decoded = decode_bech32(encode(an_invoice(), SECRET))
    words = bytearray(decoded.words)
    words[position % len(words)] ^= flip
    try:
        invoice = decode(encode_bech32(decoded.prefix, bytes(words), Checksum.BECH32))
    except InvalidInvoice:
        return
    assert invoice.payee != PAYEE


@given(st.text())
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidInvoice):
        decode(text)


@given(st.lists(st.tuples(st.sampled_from("psdhmnxcfr9z"), st.binary(max_size=80)), max_size=6))
def test_any_fields_make_an_invoice_or_are_refused(fields: list[tuple[str, bytes]]) -> None:
    """What is read is written back, and reads as the same value."""
    more = [(letter, words_of(content)) for letter, content in fields]
    try:
        invoice = decode(with_fields(without="m9", more=more), None)
    except InvalidInvoice:
        return
    assert decode(encode(invoice, SECRET), None) == invoice


@given(st.lists(st.integers(0, 31), max_size=300).map(bytes))
def test_any_words_are_refused_or_read(words: bytes) -> None:
    signed = bytes(7) + words
    try:
        decode(encode_bech32("lnbc", signed + words_of(bytes(64) + b"\x00"), Checksum.BECH32))
    except InvalidInvoice:
        return


# ── writing ──────────────────────────────────────────────────────────────────────────────────

points = st.binary(min_size=32, max_size=32).map(lambda secret: point_of(secret[:31] + b"\x01"))
hops = st.builds(
    RouteHop,
    pubkey=st.sampled_from([GENERATOR, PAYEE]),
    short_channel_id=st.integers(0, 2**64 - 1),
    fee_base_msat=st.integers(0, 2**32 - 1).map(Msat),
    fee_proportional_millionths=st.integers(0, 2**32 - 1),
    cltv_expiry_delta=st.integers(0, 2**16 - 1),
)
fallbacks = st.one_of(
    st.builds(Fallback, st.sampled_from([0, 17, 18]), st.binary(min_size=20, max_size=20)),
    st.builds(Fallback, st.integers(1, 16), st.binary(min_size=2, max_size=40)),
)
hashes = st.binary(min_size=32, max_size=32)
described = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=150).map(lambda text: (text, None)),
    hashes.map(lambda digest: (None, digest)),
)
invoices = st.builds(
    lambda about, **fields: Invoice(description=about[0], description_hash=about[1], payee=PAYEE, **fields),
    described,
    currency=st.sampled_from(sorted(set(CURRENCY.values()))),
    amount_msat=st.none() | st.integers(1, MAX_MSAT).map(Msat),
    timestamp=st.integers(0, 2**35 - 1),
    payment_hash=hashes,
    payment_secret=hashes,
    expiry_seconds=st.integers(0, 2**64 - 1),
    min_final_cltv_expiry_delta=st.integers(0, 2**64 - 1),
    route_hints=st.lists(st.lists(hops, min_size=1, max_size=3).map(tuple), max_size=2).map(tuple),
    fallbacks=st.lists(fallbacks, max_size=2).map(tuple),
    features=st.integers(0, 2**110)
    .map(lambda bits: Features(bits & int("a" * 28, 16)))
    .filter(lambda features: not features.missing_dependencies()),
    payment_metadata=st.none() | st.binary(max_size=100),
)


@bolt("b11-invoices.2")
@given(invoices)
def test_any_invoice_comes_back(invoice: Invoice) -> None:
    text = encode(invoice, SECRET)
    assert decode(text) == decode(text.upper()) == invoice


@bolt("b11-invoices.2")
@given(invoices)
def test_every_number_is_written_in_its_shortest_form(invoice: Invoice) -> None:
    fields = in_order(encode(invoice, SECRET))
    assert not any(words[:1] == b"\x00" for letter, words in fields if letter in "xc9")
    letters = [letter for letter, _ in fields]
    assert letters.count("p") == letters.count("s") == 1
    assert letters.count("d") + letters.count("h") == 1


@pytest.mark.parametrize(
    ("amount_msat", "human"),
    [
        (None, "lnbcrt"),
        (1, "lnbcrt10p"),
        (100, "lnbcrt1n"),
        (123_400, "lnbcrt1234n"),
        (10**11, "lnbcrt1"),
        (25 * 10**7, "lnbcrt2500u"),
        (10**8 * 12, "lnbcrt12m"),
        (MAX_MSAT, "lnbcrt21000000"),
    ],
)
def test_the_shortest_amount_is_written(amount_msat: int | None, human: str) -> None:
    assert human_part(an_invoice(amount_msat=amount_msat)) == human


def test_the_longest_description_is_written_and_a_longer_one_refused() -> None:
    longest = an_invoice(description="x" * MAX_FIELD_BYTES)
    assert decode(encode(longest, SECRET)) == longest


@pytest.mark.parametrize(
    "changes",
    [
        {"description": "x" * (MAX_FIELD_BYTES + 1)},
        {"description": None},
        {"description": "\ud800"},
        {"description_hash": bytes(32)},
        {"description": None, "description_hash": bytes(31)},
        {"payment_hash": bytes(31)},
        {"payment_secret": bytes(33)},
        {"amount_msat": 0},
        {"amount_msat": MAX_MSAT + 1},
        {"currency": "ltc"},
        {"timestamp": 2**35},
        {"timestamp": -1},
        {"expiry_seconds": 2**64},
        {"min_final_cltv_expiry_delta": -1},
        {"fallbacks": (Fallback(0, bytes(21)),)},
        {"route_hints": ((),)},
        {"route_hints": ((RouteHop(bytes(33), 1, Msat(1), 1, 1),),)},
        {"route_hints": ((RouteHop(GENERATOR, 1, Msat(2**32), 1, 1),),)},
        {"payment_metadata": bytes(640)},
        {"payee": GENERATOR},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_what_no_invoice_can_say_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UnwritableInvoice):
        encode(an_invoice(**changes), SECRET)
