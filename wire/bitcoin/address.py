"""Addresses: the output scripts that people can type (BIP 13, BIP 173, BIP 350).

Two alphabets live on: base58 with a double SHA-256 checksum for P2PKH and P2SH, bech32 and
bech32m for witness programs. Both directions take the network, because an address of another
one must never be paid; testnet, testnet4 and signet share their prefixes and cannot be told apart.
"""

from typing import Final

import msgspec

from wire.bitcoin.bech32 import (
    ADDRESS_MAX_CHARACTERS,
    Bech32,
    Checksum,
    InvalidBech32,
    bytes_of,
    decode,
    encode,
    words_of,
)
from wire.bitcoin.script import OP_1, p2pkh, p2sh, witness_program
from wire.crypto.hashes import sha256d

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGIT_OF_BASE58 = {letter: digit for digit, letter in enumerate(_BASE58)}
_BASE58_MAX_CHARACTERS = 50
_CHECKSUM_BYTES = 4
_HASH_BYTES = 20


class Prefixes(msgspec.Struct, frozen=True):
    """What the addresses of a network begin with."""

    witness: str
    p2pkh: int
    p2sh: int


_TEST = Prefixes("tb", 0x6F, 0xC4)
PREFIXES: Final[dict[str, Prefixes]] = {
    "bitcoin": Prefixes("bc", 0x00, 0x05),
    "testnet": _TEST,
    "testnet4": _TEST,
    "signet": _TEST,
    "regtest": Prefixes("bcrt", 0x6F, 0xC4),
}
"""By the names of the networks that `wire.bitcoin.block` uses."""


class InvalidAddress(ValueError):
    """The text is no address."""


class MalformedAddress(InvalidAddress):
    """The text is in neither alphabet, or mistyped; `why` says how, when it was meant as bech32."""

    def __init__(self, why: InvalidBech32 | None = None) -> None:
        self.why = why
        super().__init__(f"not an address: {why}" if why else "not an address: the base58 form is wrong")


class WrongNetwork(InvalidAddress):
    """An address, but of another network."""

    def __init__(self, network: str) -> None:
        self.network = network
        super().__init__(f"the address is not one of {network}")


class BadWitnessProgram(InvalidAddress):
    """The length is not one that the witness version allows."""

    def __init__(self, version: int, length: int) -> None:
        self.version, self.length = version, length
        super().__init__(f"witness version {version} with a program of {length} bytes")


class WrongChecksumKind(InvalidAddress):
    """Version 0 takes bech32, all later ones bech32m."""

    def __init__(self, version: int, checksum: Checksum) -> None:
        self.version, self.checksum = version, checksum
        super().__init__(f"witness version {version} under a {checksum.name.lower()} checksum")


class NoAddressForm(ValueError):
    """No address stands for this output script."""

    def __init__(self, script: bytes) -> None:
        self.script = script
        super().__init__(f"no address stands for the script {script.hex()}")


def address_of(script: bytes, network: str) -> str:
    """The address that pays to an output script.

    Raises:
        NoAddressForm: the script is none of P2PKH, P2SH or a witness program.
    """
    prefixes = PREFIXES[network]
    program = witness_program(script)
    if program is not None and is_witness_program(*program):
        return _segwit_address(prefixes.witness, *program)
    if script == p2pkh(script[3:23]):
        return base58_check(bytes([prefixes.p2pkh]) + script[3:23])
    if script == p2sh(script[2:22]):
        return base58_check(bytes([prefixes.p2sh]) + script[2:22])
    raise NoAddressForm(script)


def script_of(address: str, network: str) -> bytes:
    """The output script that an address of this network stands for.

    Raises:
        InvalidAddress: one of its subclasses, by what is wrong.
    """
    try:
        decoded = decode(address, ADDRESS_MAX_CHARACTERS)
    except InvalidBech32 as why:
        return _base58_script(address, network, why)
    if decoded.prefix != PREFIXES[network].witness:
        raise WrongNetwork(network)
    return _segwit_script(decoded)


def is_witness_program(version: int, program: bytes) -> bool:
    """Whether the lengths of BIP 141 allow it."""
    if version == 0:
        return len(program) in (20, 32)
    return version <= 16 and 2 <= len(program) <= 40


def witness_script_pubkey(version: int, program: bytes) -> bytes:
    """The output script of a witness program."""
    return bytes((OP_1 + version - 1 if version else 0, len(program))) + program


def _segwit_address(prefix: str, version: int, program: bytes) -> str:
    return encode(prefix, bytes([version]) + words_of(program), _checksum_of(version))


def _checksum_of(version: int) -> Checksum:
    return Checksum.BECH32M if version else Checksum.BECH32


def _segwit_script(decoded: Bech32) -> bytes:
    try:
        program = bytes_of(decoded.words[1:])
    except InvalidBech32 as why:
        raise MalformedAddress(why) from None
    version = decoded.words[0] if decoded.words else 0
    if not is_witness_program(version, program):
        raise BadWitnessProgram(version, len(program))
    if decoded.checksum is not _checksum_of(version):
        raise WrongChecksumKind(version, decoded.checksum)
    return witness_script_pubkey(version, program)


def _base58_script(address: str, network: str, why: InvalidBech32) -> bytes:
    versioned = base58_payload(address)
    prefixes = PREFIXES[network]
    if versioned is None or len(versioned) != 1 + _HASH_BYTES:
        is_meant_as_bech32 = address.lower().startswith(f"{prefixes.witness}1")
        raise MalformedAddress(why if is_meant_as_bech32 else None)
    version, payload = versioned[:1], versioned[1:]
    if version == bytes([prefixes.p2pkh]):
        return p2pkh(payload)
    if version == bytes([prefixes.p2sh]):
        return p2sh(payload)
    raise WrongNetwork(network)


def base58_check(payload: bytes) -> str:
    """The payload and its checksum in base58."""
    checked = payload + sha256d(payload)[:_CHECKSUM_BYTES]
    number, letters = int.from_bytes(checked, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        letters = _BASE58[digit] + letters
    return "1" * (len(checked) - len(checked.lstrip(b"\x00"))) + letters


def base58_payload(text: str) -> bytes | None:
    """What `base58_check` was given, or None when the text is not its work."""
    if len(text) > _BASE58_MAX_CHARACTERS or any(letter not in _DIGIT_OF_BASE58 for letter in text):
        return None
    number = 0
    for letter in text:
        number = number * 58 + _DIGIT_OF_BASE58[letter]
    zeros = len(text) - len(text.lstrip("1"))
    checked = bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    payload = checked[:-_CHECKSUM_BYTES]
    return payload if sha256d(payload)[:_CHECKSUM_BYTES] == checked[-_CHECKSUM_BYTES:] else None
