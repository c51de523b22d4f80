"""The ledger of requirements beside the tests that show them: `make bolt-coverage`.

The ledger is tests/BOLT.md: one line per requirement, opening with its id. A test shows a requirement
by naming the id in `@bolt(...)`. Both are read as text, nothing is imported.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache

from tests.house.sources import HOUSE, sources

LEDGER_LINE = re.compile(r"\s*- `(?P<id>[a-z0-9_-]+\.\d+)` (?P<rule>.*)")


@cache
def ledger() -> dict[str, str]:
    """Every requirement of tests/BOLT.md: its id and the first line of its rule, in the ledger's order."""
    lines = (HOUSE / "tests" / "BOLT.md").read_text(encoding="utf-8").splitlines()
    return {found["id"]: found["rule"] for line in lines if (found := LEDGER_LINE.match(line))}


@cache
def shown() -> dict[str, tuple[str, ...]]:
    """Every id that a test names, and the places that name it."""
    places: dict[str, tuple[str, ...]] = {}
    for source in sources("tests"):
        for line, requirement in _named_ids(source.tree):
            places[requirement] = (*places.get(requirement, ()), f"{source.path}:{line}")
    return places


def _named_ids(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The arguments of every call of `bolt`: as a decorator, in `pytestmark`, or in `marks=`."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name("bolt") | ast.Attribute(attr="bolt"), args=arguments):
                yield from ((node.lineno, name) for argument in arguments for name in _texts(argument))


def _texts(argument: ast.expr) -> list[str]:
    match argument:
        case ast.Constant(str(text)):
            return [text]
        case _:
            return []


def main() -> None:
    """Print the requirements that no test names, then how many are named."""
    named = shown()
    for requirement, rule in ledger().items():
        if requirement not in named:
            print(f"{requirement:<36} {rule}")
    covered = sum(requirement in named for requirement in ledger())
    print(f"\n{covered} of {len(ledger())} requirements are named by a test")


if __name__ == "__main__":
    main()
