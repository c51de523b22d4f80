"""Scripts: minimal pushes, numbers, and the forms of output scripts."""

import embit.ec
import embit.script
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bolt import bolt
from wire.bitcoin.script import (
    OP_CHECKSIG,
    OP_RETURN,
    P2A,
    funding_script,
    op_return,
    p2pkh,
    p2sh,
    p2tr,
    p2wpkh,
    p2wsh,
    push,
    push_number,
    script,
    script_number,
    witness_program,
)
from wire.crypto.hashes import hash160, sha256
from wire.crypto.secp256k1 import point_of

KEY = point_of(sha256(b"key"))
OTHER_KEY = point_of(sha256(b"other key"))


@pytest.mark.parametrize(
    ("length", "head"),
    [(0, "00"), (1, "01"), (75, "4b"), (76, "4c4c"), (255, "4cff"), (256, "4d0001"), (520, "4d0802")],
)
def test_a_push_takes_the_shortest_opcode(length: int, head: str) -> None:
    assert push(bytes(length)).hex() == head + "00" * length


@pytest.mark.parametrize(
    ("number", "encoded"),
    [
        (0, ""),
        (1, "01"),
        (-1, "81"),
        (127, "7f"),
        (128, "8000"),
        (-128, "8080"),
        (144, "9000"),
        (255, "ff00"),
        (256, "0001"),
        (500, "f401"),
        (32767, "ff7f"),
        (32768, "008000"),
        (65535, "ffff00"),
        (800_000, "00350c"),
        (8_388_608, "00008000"),
    ],
)
def test_numbers_are_little_endian_with_a_sign_bit(number: int, encoded: str) -> None:
    assert script_number(number).hex() == encoded


@given(st.integers(-(2**31) + 1, 2**31 - 1))
def test_numbers_read_back(number: int) -> None:
    encoded = bytearray(script_number(number))
    sign = 1
    if encoded and encoded[-1] & 0x80:
        sign, encoded[-1] = -1, encoded[-1] & 0x7F
    assert sign * int.from_bytes(encoded, "little") == number
    assert len(script_number(number)) == 0 or number != 0


def test_small_numbers_are_opcodes() -> None:
    assert [push_number(number).hex() for number in (0, 1, 16, 17)] == ["00", "51", "60", "0111"]


def test_a_script_is_opcodes_and_pushes() -> None:
    assert script(KEY, OP_CHECKSIG).hex() == "21" + KEY.hex() + "ac"
    assert op_return(b"hello").hex() == "6a0568656c6c6f"
    assert script(OP_RETURN).hex() == "6a"


def test_output_scripts_are_those_of_embit() -> None:
    key = embit.ec.PublicKey.parse(KEY)
    inner = script(KEY, OP_CHECKSIG)
    assert p2wpkh(KEY) == embit.script.p2wpkh(key).data
    assert p2pkh(hash160(KEY)) == embit.script.p2pkh(key).data
    assert p2sh(hash160(inner)) == embit.script.p2sh(embit.script.Script(inner)).data
    assert p2wsh(inner) == embit.script.p2wsh(embit.script.Script(inner)).data


@bolt("b3-transactions.2")
def test_the_funding_keys_are_sorted_whoever_comes_first() -> None:
    assert funding_script(KEY, OTHER_KEY) == funding_script(OTHER_KEY, KEY)
    low, high = sorted((KEY, OTHER_KEY))
    assert funding_script(KEY, OTHER_KEY).hex() == f"5221{low.hex()}21{high.hex()}52ae"


@pytest.mark.parametrize(
    ("output_script", "version", "length"),
    [
        (p2wpkh(KEY), 0, 20),
        (p2wsh(b"\x51"), 0, 32),
        (p2tr(bytes(32)), 1, 32),
        (P2A, 1, 2),
        (bytes((0x60, 40)) + bytes(40), 16, 40),
    ],
)
def test_a_witness_program_has_a_version(output_script: bytes, version: int, length: int) -> None:
    assert witness_program(output_script) == (version, output_script[-length:])


@pytest.mark.parametrize(
    "output_script",
    [
        b"",
        b"\x00",
        p2pkh(bytes(20)),
        p2sh(bytes(20)),
        b"\x61\x02ab",
        b"\x51\x01a",
        b"\x51\x03ab",
        b"\x60\x29" + bytes(41),
    ],
)
def test_other_scripts_are_no_witness_program(output_script: bytes) -> None:
    assert witness_program(output_script) is None
