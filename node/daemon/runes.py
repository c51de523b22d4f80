"""Runes: bearer tokens that say themselves what they allow, as Core Lightning reads and writes them.

A rune is a code and restrictions, all of which must hold. A restriction is alternatives, one of
which must hold; an alternative compares a field of the request. The code is a SHA-256 over a secret
of the node and the restrictions, each padded to whole blocks, so that anybody can add a restriction
to a rune and nobody can take one away. The first restriction names the rune: it has no field.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import TypeAlias

import msgspec

CODE_BYTES = 32
BLOCK_BYTES = 64
MOST_RUNE_CHARACTERS = 65_536
_CONDITIONS = "!=/^$~<>{}#"
_ALTERNATIVE = re.compile(r"([A-Za-z0-9_ \x80-\U0010ffff]*)([!=/^$~<>{}#])((?:[^\\&|]|\\.)*)", re.DOTALL)
_PUNCTUATION = re.compile(r"[\\&|]")

Field: TypeAlias = str | int | None
Fields: TypeAlias = "Callable[[Alternative], Field | Verdict]"


class BadRune(Exception):
    """The text is no rune, or no restriction of one."""


class Verdict(msgspec.Struct, frozen=True):
    """What a field that judges itself says: why not, or nothing."""

    why_not: str | None = None


class Alternative(msgspec.Struct, frozen=True):
    """A condition on one field of the request."""

    field: str
    condition: str
    value: str

    def __str__(self) -> str:
        return self.field + self.condition + _PUNCTUATION.sub(r"\\\g<0>", self.value)

    @classmethod
    def parse(cls, text: str) -> "Alternative":
        """From `method=getinfo`, as a user writes it.

        Raises:
            BadRune: it is no condition on a field.
        """
        found = re.fullmatch(r"([^!-/:-@\[-^`{-~]+)([!=/^$~<>{}#])(.*)", text, re.DOTALL)
        if found is None:
            raise BadRune(f"{text!r} is no condition on a field")
        return cls(*found.groups())

    def why_not(self, found: Field) -> str | None:
        """Why the field does not satisfy it, or None."""
        if self.condition == "#":
            return None
        if self.condition == "!":
            return None if found is None else f"{self.field} is present"
        if found is None:
            return f"{self.field} not present"
        if self.condition in "<>":
            return self._compared(found)
        holds, otherwise = _TEXT_TESTS[self.condition]
        return None if holds(str(found), self.value) else f"{self.field} {otherwise} {self.value}"

    def _compared(self, found: str | int) -> str | None:
        if isinstance(found, str):
            return f"{self.field} is not an integer field"
        try:
            bound = int(self.value)
        except ValueError:
            return f"{self.value} is not a valid integer"
        if self.condition == "<":
            return None if found < bound else f"{self.field} is greater or equal to {bound}"
        return None if found > bound else f"{self.field} is less or equal to {bound}"

    @property
    def english(self) -> str:
        """For a person."""
        if self.condition == "!":
            return f"{self.field} is missing"
        if self.condition == "#":
            return f"comment: {self.field} {self.value}"
        return f"{self.field} {_ENGLISH[self.condition]} {self.value}"


_TEXT_TESTS: dict[str, tuple[Callable[[str, str], bool], str]] = {
    "=": (str.__eq__, "is not equal to"),
    "/": (str.__ne__, "is equal to"),
    "^": (str.startswith, "does not start with"),
    "$": (str.endswith, "does not end with"),
    "~": (str.__contains__, "does not contain"),
    "{": (str.__lt__, "is equal to or ordered after"),
    "}": (str.__gt__, "is equal to or ordered before"),
}
_ENGLISH = {
    "=": "equal to",
    "/": "unequal to",
    "^": "starts with",
    "$": "ends with",
    "~": "contains",
    "<": "<",
    ">": ">",
    "{": "sorts before",
    "}": "sorts after",
}


class Restriction(msgspec.Struct, frozen=True):
    """Alternatives, one of which must hold."""

    alternatives: tuple[Alternative, ...]

    def __str__(self) -> str:
        return "|".join(map(str, self.alternatives))

    @property
    def english(self) -> str:
        """For a person."""
        return " OR ".join(each.english for each in self.alternatives)

    def why_not(self, fields: Fields) -> str | None:
        """Why none of its alternatives holds, or None."""
        reasons = []
        for each in self.alternatives:
            found = fields(each)
            why = found.why_not if isinstance(found, Verdict) else each.why_not(found)
            if why is None:
                return None
            reasons.append(why)
        return " AND ".join(reasons)


READ_ONLY = (
    Restriction(tuple(map(Alternative.parse, ("method^list", "method^get", "method=summary")))),
    Restriction((Alternative.parse("method/listdatastore"),)),
)


class Rune(msgspec.Struct, frozen=True):
    """A code and the restrictions that it stands for."""

    code: bytes
    restrictions: tuple[Restriction, ...]

    @classmethod
    def made(cls, secret: bytes, restrictions: Sequence[Restriction]) -> "Rune":
        """The rune with these restrictions, for who has the secret."""
        return cls(_code(secret, restrictions), tuple(restrictions))

    @classmethod
    def parse(cls, text: str) -> "Rune":
        """From base64.

        Raises:
            BadRune: it is none.
        """
        if len(text) > MOST_RUNE_CHARACTERS:
            raise BadRune("it is too long")
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            shown = raw[CODE_BYTES:].decode()
        except (binascii.Error, ValueError):
            raise BadRune("it is no base64") from None
        if len(raw) < CODE_BYTES:
            raise BadRune("it is too short")
        rune = cls(raw[:CODE_BYTES], _parsed(shown) if shown else ())
        rune._check_name()
        return rune

    def _check_name(self) -> None:
        for place, restriction in enumerate(self.restrictions):
            for each in restriction.alternatives:
                is_name = place == 0 and len(restriction.alternatives) == 1 and each.condition == "="
                if not each.field and not is_name:
                    raise BadRune("it has a condition on no field")

    def __str__(self) -> str:
        shown = "&".join(map(str, self.restrictions)).encode()
        return base64.urlsafe_b64encode(self.code + shown).decode()

    @property
    def unique_id(self) -> str | None:
        """How it was named, without its version, if it was."""
        first = self.restrictions[0].alternatives[0] if self.restrictions else None
        return first.value.partition("-")[0] if first is not None and not first.field else None

    @property
    def version(self) -> str | None:
        """The version that follows its name, if one does."""
        first = self.restrictions[0].alternatives[0] if self.restrictions else None
        has_one = first is not None and not first.field and "-" in first.value
        return first.value.partition("-")[2] if has_one and first is not None else None

    def is_from(self, secret: bytes) -> bool:
        """Whether who has the secret made it, or somebody added to what they made."""
        return hmac.compare_digest(_code(secret, self.restrictions), self.code)

    def why_not(self, fields: Fields) -> str | None:
        """Why it does not allow the request with these fields, or None."""
        for place, restriction in enumerate(self.restrictions):
            is_name = place == 0 and not restriction.alternatives[0].field
            why = None if is_name else restriction.why_not(fields)
            if why is not None:
                return why
        return None


def plain(fields: Mapping[str, str | int]) -> Fields:
    """Fields that are what they are."""
    return lambda alternative: fields.get(alternative.field)


def _code(secret: bytes, restrictions: Sequence[Restriction]) -> bytes:
    stream = secret
    for restriction in restrictions:
        stream = _padded(stream) + str(restriction).encode()
    return sha256(stream).digest()


def _padded(stream: bytes) -> bytes:
    """With SHA-256's own padding, so that its state here is the digest of what comes before."""
    zeros = -(len(stream) + 9) % BLOCK_BYTES
    return stream + b"\x80" + bytes(zeros) + (8 * len(stream)).to_bytes(8, "big")


def _parsed(text: str) -> tuple[Restriction, ...]:
    restrictions, alternatives, at = [], [], 0
    while True:
        found = _ALTERNATIVE.match(text, at)
        if found is None:
            raise BadRune(f"{text[at:]!r} is no condition")
        field, condition, value = found.groups()
        alternatives.append(Alternative(field, condition, re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)))
        at = found.end()
        if at == len(text) or text[at] == "&":
            restrictions.append(Restriction(tuple(alternatives)))
            alternatives = []
        if at == len(text):
            return tuple(restrictions)
        if text[at] not in "&|":
            raise BadRune(f"{text[at:]!r} follows a condition")
        at += 1
