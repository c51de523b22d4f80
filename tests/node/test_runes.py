"""Runes: the figures of those who thought of them, and that nobody can take a restriction away."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.daemon.runes import Alternative, BadRune, Restriction, Rune, plain

SECRET = bytes(16)
ROWS = list(csv.reader((Path(__file__).parents[1] / "vectors" / "runes.csv").open(), quoting=csv.QUOTE_NONE))


def fields_of(texts: list[str]) -> dict[str, str | int]:
    """The fields of a row, numbers as numbers."""
    pairs = [text.partition("=") for text in texts]
    values = {name: value.replace("\\|", "|").replace("\\&", "&") for name, _, value in pairs}
    return {name: int(value) if _is_number(value) else value for name, value in values.items()}


def _is_number(value: str) -> bool:
    return value.removeprefix("-").isdigit()


def test_the_figures() -> None:
    rune, count = None, 0
    for kind, *row in ROWS:
        count += 1
        if kind == "VALID":
            rune = Rune.parse(row[2])
            assert (rune.code.hex() + ":" + row[1].partition(":")[2]) == row[1]
            assert rune.is_from(SECRET), row
            assert str(rune) == row[2]
            assert [rune.unique_id, rune.version] == [*row[3:], None, None][:2]
        elif kind == "DERIVE":
            start = Rune.parse(row[1])
            alternatives = [Alternative(*row[at : at + 3]) for at in range(3, len(row), 3)]
            rune = Rune.made(SECRET, (*start.restrictions, Restriction(tuple(alternatives))))
            assert str(rune) == row[2], row
        elif kind in ("PASS", "FAIL"):
            assert rune is not None
            assert (rune.why_not(plain(fields_of(row))) is None) is (kind == "PASS"), (str(rune), row)
        elif kind == "MALFORMED":
            with pytest.raises(BadRune):
                Rune.parse(row[2])
        elif kind.startswith("BAD"):
            assert not Rune.parse(row[2]).is_from(SECRET)
    assert count > 100


FIELDS = st.from_regex("[a-z]{1,5}", fullmatch=True)
ALTERNATIVES = st.builds(Alternative, FIELDS, st.sampled_from("=/^$~<>{}#!"), st.text())
RESTRICTIONS = st.builds(Restriction, st.lists(ALTERNATIVES, min_size=1, max_size=3).map(tuple))


@given(st.binary(min_size=16, max_size=32), st.lists(RESTRICTIONS, min_size=1), st.binary(min_size=1))
def test_a_rune_reads_as_it_was_written_and_every_restriction_counts(
    secret: bytes, restrictions: list[Restriction], other: bytes
) -> None:
    rune = Rune.made(secret, restrictions)
    assert Rune.parse(str(rune)) == rune
    assert rune.is_from(secret)
    assert not rune.is_from(other + secret)
    assert not Rune(rune.code, rune.restrictions[:-1]).is_from(secret)


@given(st.text() | st.binary().map(bytes.hex))
def test_any_text_is_a_rune_or_refused(text: str) -> None:
    try:
        rune = Rune.parse(text)
    except BadRune:
        return
    assert not rune.is_from(SECRET) or text.startswith("N0cI__")


def test_what_is_missing_is_said() -> None:
    either = Restriction((Alternative("method", "=", "pay"), Alternative("pnum", "<", "2")))
    rune = Rune.made(SECRET, [either])
    assert rune.why_not(plain({"method": "stop", "pnum": 3})) == (
        "method is not equal to pay AND pnum is greater or equal to 2"
    )
    assert rune.restrictions[0].english == "method equal to pay OR pnum < 2"
