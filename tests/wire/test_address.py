"""Bech32, bech32m and addresses, against the figures of BIP 173 and BIP 350 and another library."""

import pytest
from embit import base58 as embit_base58
from embit import bech32 as embit_bech32
from embit import script as embit_script
from embit.networks import NETWORKS
from hypothesis import given
from hypothesis import strategies as st

from tests.bolt import bolt
from wire.bitcoin.address import (
    PREFIXES,
    BadWitnessProgram,
    InvalidAddress,
    MalformedAddress,
    NoAddressForm,
    WrongChecksumKind,
    WrongNetwork,
    address_of,
    base58_check,
    base58_payload,
    script_of,
    witness_script_pubkey,
)
from wire.bitcoin.bech32 import (
    LETTERS,
    BadChecksum,
    BadPadding,
    Checksum,
    InvalidBech32,
    MixedCase,
    NoSeparator,
    TooManyCharacters,
    UnknownCharacter,
    bytes_of,
    bytes_padded,
    bytes_within,
    decode,
    encode,
    letters_of,
    words_of,
    words_of_letters,
)
from wire.bitcoin.script import P2A, op_return, p2pkh, p2sh, p2tr

LONG_BECH32 = "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs"
LONG_BECH32M = "an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6"
VALID = {
    Checksum.BECH32: [
        "A12UEL5L",
        "a12uel5l",
        LONG_BECH32,
        "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw",
        "11" + "q" * 82 + "c8247j",
        "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w",
        "?1ezyfcl",
    ],
    Checksum.BECH32M: [
        "A1LQFN3A",
        "a1lqfn3a",
        LONG_BECH32M,
        "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx",
        "11" + "l" * 82 + "ludsr8",
        "split1checkupstagehandshakeupstreamerranterredcaperredlc445v",
        "?1v759aa",
    ],
}
INVALID: list[tuple[str, type[InvalidBech32]]] = [
    ("\x201nwldj5", UnknownCharacter),
    ("\x7f1axkwrx", UnknownCharacter),
    ("\x801eym55h", UnknownCharacter),
    ("pzry9x0s0muk", NoSeparator),
    ("1pzry9x0s0muk", NoSeparator),
    ("x1b4n0q5v", UnknownCharacter),
    ("li1dgmt3", NoSeparator),
    ("de1lg7wt\xff", UnknownCharacter),
    ("A1G7SGD8", BadChecksum),
    ("10a06t8", NoSeparator),
    ("1qzzfhee", NoSeparator),
    ("a12UEL5L", MixedCase),
    ("y1b0jsk6g", UnknownCharacter),
    ("lt1igcx5c0", UnknownCharacter),
    ("in1muywd", NoSeparator),
    ("mm1crxm3i", UnknownCharacter),
    ("au1s5cgom", UnknownCharacter),
    ("M1VUXWEZ", BadChecksum),
    ("16plkw9", NoSeparator),
    ("1p2gdwpf", NoSeparator),
    ("", NoSeparator),
]
PROGRAM_OF_ONE_KEY = "751e76e8199196d454941c45d1b3a323f1433bd6"
ADDRESSES = [
    ("BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4", "bitcoin", "0014" + PROGRAM_OF_ONE_KEY),
    (
        "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7",
        "testnet",
        "00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262",
    ),
    (
        "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y",
        "bitcoin",
        "5128" + PROGRAM_OF_ONE_KEY * 2,
    ),
    ("BC1SW50QGDZ25J", "bitcoin", "6002751e"),
    ("bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs", "bitcoin", "5210751e76e8199196d454941c45d1b3a323"),
    (
        "tb1qqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesrxh6hy",
        "signet",
        "0020000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
    ),
    (
        "tb1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesf3hn0c",
        "testnet4",
        "5120000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
    ),
    (
        "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
        "bitcoin",
        "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
    ),
]
NO_ADDRESSES: list[tuple[str, type[InvalidAddress]]] = [
    ("tc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq5zuyut", WrongNetwork),
    ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd", WrongChecksumKind),
    ("BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL", WrongChecksumKind),
    ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh", WrongChecksumKind),
    ("bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4", MalformedAddress),
    ("BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R", BadWitnessProgram),
    ("bc1pw5dgrnzv", BadWitnessProgram),
    (
        "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v8n0nx0muaewav253zgeav",
        BadWitnessProgram,
    ),
    ("BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P", BadWitnessProgram),
    ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf", MalformedAddress),
    ("bc1gmk9yu", BadWitnessProgram),
    ("tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7", WrongNetwork),
    ("mk2QpYatsKicvFVuTAQLBryyccRXMUaGHP", WrongNetwork),
    ("1RustyRX2oai4EYYDpQGWvEL62BBGqN9V", MalformedAddress),
    ("1RustyRX2oai4EYYDpQGWvEL62BBGqN9", MalformedAddress),
    ("5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ", MalformedAddress),
    ("not an address", MalformedAddress),
    ("", MalformedAddress),
]
EMBIT_NETWORK = {"bitcoin": "main", "testnet": "test", "signet": "signet", "regtest": "regtest"}

words = st.lists(st.integers(0, 31), max_size=400).map(bytes)
prefixes = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20).map(str.lower)


# ── bech32 ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("text", "checksum"), [(text, kind) for kind in VALID for text in VALID[kind]])
def test_a_correct_string_is_read_and_written_back(text: str, checksum: Checksum) -> None:
    decoded = decode(text, 90)
    assert decoded.checksum is checksum
    assert encode(decoded.prefix, decoded.words, checksum) == text.lower()


@bolt("b11-invoices.1")
@pytest.mark.parametrize(("text", "error"), INVALID)
def test_a_wrong_string_is_refused_by_its_fault(text: str, error: type[InvalidBech32]) -> None:
    with pytest.raises(error):
        decode(text)


def test_a_limit_on_the_length_holds_only_where_it_is_asked_for() -> None:
    longer = encode("an84", bytes(100), Checksum.BECH32M)
    assert decode(longer).words == bytes(100)
    with pytest.raises(TooManyCharacters):
        decode(longer, 90)


def test_the_place_of_a_wrong_character_is_told() -> None:
    with pytest.raises(UnknownCharacter) as refused:
        decode("split1cheo2y9e2w")
    assert refused.value.position == 9
    with pytest.raises(UnknownCharacter) as refused:
        decode("split1che\u00e92y9e2w")
    assert refused.value.position == 9


@given(prefixes, words, st.sampled_from(Checksum))
def test_any_words_come_back(prefix: str, some: bytes, checksum: Checksum) -> None:
    for text in (encode(prefix, some, checksum), encode(prefix, some, checksum).upper()):
        decoded = decode(text)
        assert (decoded.prefix, decoded.words, decoded.checksum) == (prefix, some, checksum)


@given(words.filter(lambda some: len(some) < 80), st.data())
def test_up_to_four_wrong_letters_are_always_found(some: bytes, data: st.DataObject) -> None:
    letters = list(encode("bc", some, Checksum.BECH32M))
    places = data.draw(st.lists(st.integers(3, len(letters) - 1), min_size=1, max_size=4, unique=True))
    for place in places:
        letters[place] = data.draw(st.sampled_from(LETTERS.replace(letters[place], "")))
    try:
        found = decode("".join(letters)).checksum is not Checksum.BECH32M
    except BadChecksum:
        found = True
    assert found


@given(st.text())
def test_any_text_is_a_string_or_refused(text: str) -> None:
    try:
        decoded = decode(text)
    except InvalidBech32:
        return
    assert encode(decoded.prefix, decoded.words, decoded.checksum) == text.lower()


@given(st.binary(max_size=100))
def test_bytes_come_back_from_their_words(content: bytes) -> None:
    some = words_of(content)
    assert list(some) == embit_bech32.convertbits(content, 8, 5)
    assert bytes_of(some) == bytes_within(some) == content
    assert words_of_letters(letters_of(some)) == some


@given(words)
def test_words_fill_up_to_bytes_like_everywhere_else(some: bytes) -> None:
    assert list(bytes_padded(some)) == embit_bech32.convertbits(some, 5, 8)
    strict = embit_bech32.convertbits(some, 5, 8, False)
    if strict is None:
        with pytest.raises(BadPadding):
            bytes_of(some)
    else:
        assert list(bytes_of(some)) == strict


# ── addresses ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("address", "network", "script"), ADDRESSES)
def test_a_witness_address_stands_for_its_script(address: str, network: str, script: str) -> None:
    assert script_of(address, network).hex() == script
    assert address_of(bytes.fromhex(script), network) == address.lower()


@pytest.mark.parametrize(("address", "error"), NO_ADDRESSES)
def test_what_is_no_address_of_the_network_is_refused(address: str, error: type[InvalidAddress]) -> None:
    with pytest.raises(error):
        script_of(address, "bitcoin")


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("tb1z0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqglt7rf", WrongChecksumKind),
        ("tb1q0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq24jc47", WrongChecksumKind),
        ("tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq47Zagq", MalformedAddress),
        ("tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vpggkg4j", MalformedAddress),
    ],
)
def test_what_is_no_address_of_testnet_is_refused(address: str, error: type[InvalidAddress]) -> None:
    with pytest.raises(error):
        script_of(address, "testnet")


def test_a_mistyped_address_says_what_is_wrong_with_it() -> None:
    with pytest.raises(MalformedAddress) as refused:
        script_of("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5", "bitcoin")
    assert isinstance(refused.value.why, BadChecksum)
    assert str(refused.value) == "not an address: the checksum is wrong"


@pytest.mark.parametrize("network", EMBIT_NETWORK)
@given(twenty=st.binary(min_size=20, max_size=20), thirty_two=st.binary(min_size=32, max_size=32))
def test_every_form_agrees_with_another_library(network: str, twenty: bytes, thirty_two: bytes) -> None:
    scripts = [p2pkh(twenty), p2sh(twenty), p2tr(thirty_two)]
    scripts += [witness_script_pubkey(0, twenty), witness_script_pubkey(0, thirty_two)]
    for script in scripts:
        address = address_of(script, network)
        assert address == embit_script.Script(script).address(NETWORKS[EMBIT_NETWORK[network]])
        assert script_of(address, network) == script


@given(st.integers(1, 16), st.binary(min_size=2, max_size=40))
def test_every_later_witness_version_has_an_address(version: int, program: bytes) -> None:
    script = witness_script_pubkey(version, program)
    for network in PREFIXES:
        assert script_of(address_of(script, network), network) == script


def test_the_anchor_that_anyone_can_spend_has_an_address() -> None:
    assert address_of(P2A, "bitcoin") == "bc1pfeessrawgf"


@pytest.mark.parametrize("script", [b"", op_return(b"hello"), b"\x00\x03abc", b"\x51\x01a", b"\xac" * 25])
def test_other_scripts_have_no_address(script: bytes) -> None:
    with pytest.raises(NoAddressForm):
        address_of(script, "bitcoin")


@given(st.binary(max_size=30))
def test_base58_agrees_with_another_library(payload: bytes) -> None:
    text = base58_check(payload)
    assert text == embit_base58.encode_check(payload)
    assert base58_payload(text) == payload


@given(st.text(max_size=60) | st.text(LETTERS, max_size=60).map("bc1".__add__))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        script = script_of(text, "bitcoin")
    except InvalidAddress:
        return
    assert address_of(script, "bitcoin").lower() == text.lower()
