"""Bech32 and bech32m (BIP 173, BIP 350): text that catches its own typing errors.

Five bits to a letter; a string of such 5-bit values is called words here and kept as bytes, each
below 32. Addresses are at most 90 characters, invoices (BOLT 11) have no such limit, and BOLT 12
uses the letters without any checksum, so the three concerns are separate functions.
"""

from base64 import b32encode
from enum import IntEnum

import msgspec

LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
CHECKSUM_WORDS = 6
ADDRESS_MAX_CHARACTERS = 90

_NO_WORD = 0xFF
_WORD_OF_LETTER = bytes(LETTERS.find(chr(code)) & _NO_WORD for code in range(256))
_LETTER_OF_WORD = LETTERS.encode().ljust(256, b"?")
# The same five-bit grouping as RFC 4648, which the standard library does fast, in other letters.
_BASE32 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_WORD_OF_BASE32 = bytes(_BASE32.find(code) & _NO_WORD for code in range(256))
# And `int` reads base 32 in linear time, in the digits that Python counts with.
_DIGIT_OF_WORD = b"0123456789abcdefghijklmnopqrstuv".ljust(256, b"?")

_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


class Checksum(IntEnum):
    """Which of the two codes; the value is what a correct string's remainder equals."""

    BECH32 = 1
    BECH32M = 0x2BC830A3


class InvalidBech32(ValueError):
    """The text breaks a rule of the encoding."""


class MixedCase(InvalidBech32):
    """Upper and lower case letters in one string."""

    def __init__(self) -> None:
        super().__init__("upper and lower case are mixed")


class NoSeparator(InvalidBech32):
    """No `1` with a prefix before it and room for a checksum after it."""

    def __init__(self) -> None:
        super().__init__("no separator between a prefix and a checksum")


class UnknownCharacter(InvalidBech32):
    """A character that cannot stand where it stands."""

    def __init__(self, position: int) -> None:
        self.position = position
        super().__init__(f"character {position + 1} is not allowed there")


class BadChecksum(InvalidBech32):
    """Mistyped or cut: the remainder is that of neither code."""

    def __init__(self) -> None:
        super().__init__("the checksum is wrong")


class TooManyCharacters(InvalidBech32):
    """Longer than the checksum can protect."""

    def __init__(self, length: int, limit: int) -> None:
        self.length, self.limit = length, limit
        super().__init__(f"{length} characters are more than {limit}")


class BadPadding(InvalidBech32):
    """The bits after the last whole byte are too many, or not zero."""

    def __init__(self) -> None:
        super().__init__("the padding is not the least number of zero bits")


class Bech32(msgspec.Struct, frozen=True):
    """A decoded string: the prefix in lower case, the words without their checksum."""

    prefix: str
    words: bytes
    checksum: Checksum


def _step_table() -> tuple[int, ...]:
    """What each value of the five highest bits leaves behind when they are divided away."""
    table = []
    for top in range(32):
        remainder = 0
        for bit, generator in enumerate(_GENERATORS):
            remainder ^= generator if top >> bit & 1 else 0
        table.append(remainder)
    return tuple(table)


_STEP = _step_table()


def _remainder(words: bytes) -> int:
    step, remainder = _STEP, 1
    for word in words:
        remainder = (remainder & 0x1FFFFFF) << 5 ^ word ^ step[remainder >> 25]
    return remainder


def _expanded(prefix: str) -> bytes:
    codes = prefix.encode()
    return bytes(code >> 5 for code in codes) + b"\x00" + bytes(code & 31 for code in codes)


def encode(prefix: str, words: bytes, checksum: Checksum) -> str:
    """The string in lower case. The prefix must be lower case ASCII without spaces."""
    remainder = _remainder(_expanded(prefix) + words + bytes(CHECKSUM_WORDS)) ^ checksum
    tail = bytes(remainder >> shift & 31 for shift in range(25, -1, -5))
    return f"{prefix}1{letters_of(words + tail)}"


def decode(text: str, max_characters: int | None = None) -> Bech32:
    """The prefix, the words, and which checksum held.

    Raises:
        InvalidBech32: one of its subclasses, by the rule that is broken.
    """
    if max_characters is not None and len(text) > max_characters:
        raise TooManyCharacters(len(text), max_characters)
    _check_characters(text)
    if text != text.lower() and text != text.upper():
        raise MixedCase
    prefix, separator, letters = text.lower().rpartition("1")
    if not separator or not prefix or len(letters) < CHECKSUM_WORDS:
        raise NoSeparator
    words = _words_at(letters, len(prefix) + 1)
    remainder = _remainder(_expanded(prefix) + words)
    if remainder not in (Checksum.BECH32, Checksum.BECH32M):
        raise BadChecksum
    return Bech32(prefix, words[:-CHECKSUM_WORDS], Checksum(remainder))


def _check_characters(text: str) -> None:
    """Printable ASCII only, so that changing the case cannot change the length."""
    if text.isascii() and text.isprintable() and " " not in text:
        return
    raise UnknownCharacter(next(at for at, letter in enumerate(text) if not "!" <= letter <= "~"))


def letters_of(words: bytes) -> str:
    """The letters that write these words."""
    return words.translate(_LETTER_OF_WORD).decode()


def words_of_letters(letters: str) -> bytes:
    """The words that lower case letters stand for.

    Raises:
        UnknownCharacter: one of them is not among the 32.
    """
    return _words_at(letters, 0)


def _words_at(letters: str, offset: int) -> bytes:
    words = letters.encode("latin-1", "replace").translate(_WORD_OF_LETTER)
    if _NO_WORD in words:
        raise UnknownCharacter(offset + words.index(_NO_WORD))
    return words


def words_of(content: bytes) -> bytes:
    """The words of some bytes, the last one filled up with zero bits."""
    return b32encode(content).rstrip(b"=").translate(_WORD_OF_BASE32)


def number_of(words: bytes) -> int:
    """The words as one big-endian number; zero for none."""
    return int(words.translate(_DIGIT_OF_WORD), 32) if words else 0


def bytes_padded(words: bytes) -> bytes:
    """The bits of the words, filled up with zero bits to whole bytes."""
    bits = len(words) * 5
    return (number_of(words) << -bits % 8).to_bytes((bits + 7) // 8, "big")


def bytes_within(words: bytes) -> bytes:
    """The whole bytes in the words; the bits after them are not looked at."""
    return bytes_padded(words)[: len(words) * 5 // 8]


def bytes_of(words: bytes) -> bytes:
    """What `words_of` was given.

    Raises:
        BadPadding: `words_of` can have given no such words.
    """
    padded = bytes_padded(words)
    content = padded[: len(words) * 5 // 8]
    if len(words) * 5 % 8 >= 5 or any(padded[len(content) :]):
        raise BadPadding
    return content
