"""Every requirement that a test or a comment names is one of tests/BOLT.md."""

import io
import re
import tokenize
from collections.abc import Iterator

import pytest

from tests.house.coverage import ledger, shown
from tests.house.sources import ROOMS, Source, sources

# A comment opens with the ids that its line obeys (`# update_add_htlc.1: ...`), or cites one in passing.
OPENING = re.compile(r"#\s*(?P<ids>[a-z0-9_-]+\.\d+(?:, [a-z0-9_-]+\.\d+)*):")
CITED = re.compile(r"(?<![\w.-])[a-z][a-z0-9_-]*\.\d+(?![\w.]*\w)")


def test_every_marked_requirement_is_in_the_ledger() -> None:
    unknown = {requirement: places for requirement, places in shown().items() if requirement not in ledger()}
    assert not unknown


@pytest.mark.parametrize("source", sources(*ROOMS), ids=lambda source: source.path)
def test_every_cited_requirement_is_in_the_ledger(source: Source) -> None:
    unknown = [f"{source.path}:{line}: {name}" for line, name in _cited(source) if name not in ledger()]
    assert not unknown, "\n".join(unknown)


def _cited(source: Source) -> Iterator[tuple[int, str]]:
    families = {requirement.rpartition(".")[0] for requirement in ledger()}
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type not in (tokenize.COMMENT, tokenize.STRING):
            continue
        opening = OPENING.match(token.string) if token.type == tokenize.COMMENT else None
        names = set(opening["ids"].split(", ")) if opening else set()
        names |= {name for name in CITED.findall(token.string) if name.rpartition(".")[0] in families}
        yield from ((token.start[0], name) for name in names)
