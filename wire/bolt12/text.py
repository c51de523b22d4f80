"""Offers, invoice requests and invoices as text (BOLT 12, encoding).

The letters are those of bech32, but there is no checksum, and a long text may be broken up with
`+` and white space behind it, as where only so many characters fit into one message.
"""

import re

from wire.bitcoin.bech32 import (
    InvalidBech32,
    MixedCase,
    NoSeparator,
    bytes_of,
    letters_of,
    words_of,
    words_of_letters,
)
from wire.bolt12.errors import NotText

URI_SCHEME = "lightning:"
PREFIXES = ("lno", "lnr", "lni")

_JOIN = re.compile(r"(?<=[0-9a-z])\+\s*(?=[0-9a-z])", re.ASCII | re.IGNORECASE)


def is_bolt12(text: str) -> bool:
    """Whether a text means to be one of the three, however wrong it may be."""
    return _JOIN.sub("", _bare(text)).lower().startswith(tuple(f"{prefix}1" for prefix in PREFIXES))


def encode_text(prefix: str, raw: bytes) -> str:
    """The text in lower case."""
    return f"{prefix}1{letters_of(words_of(raw))}"


def decode_text(text: str) -> tuple[str, bytes]:
    """The prefix in lower case, and the bytes; a URI scheme before them is passed over.

    Raises:
        NotText: the text breaks a rule of the encoding.
    """
    joined = _JOIN.sub("", _bare(text))
    try:
        # b12-offers.1
        if joined not in (joined.lower(), joined.upper()):
            raise MixedCase
        prefix, separator, letters = joined.lower().partition("1")
        if not separator or not prefix:
            raise NoSeparator
        return prefix, bytes_of(words_of_letters(letters))
    except InvalidBech32 as why:
        raise NotText(why) from None


def _bare(text: str) -> str:
    return text[len(URI_SCHEME) :] if text[: len(URI_SCHEME)].lower() == URI_SCHEME else text
