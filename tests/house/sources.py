"""What the house tests read: every source file of the project, parsed once."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

HOUSE = Path(__file__).parents[2]
PURE_ROOMS = ("wire", "onion", "gossip", "htlc")
ROOMS = (*PURE_ROOMS, "node")

Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class Source(NamedTuple):
    """One file: where it lies, the name it is imported by, its text and its tree."""

    path: str
    module: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())


class Function(NamedTuple):
    """One function or method, by its qualified name; a nested function counts in itself and in its host."""

    path: str
    name: str
    lines: int


@cache
def sources(*rooms: str) -> tuple[Source, ...]:
    """Every Python file of these top-level rooms, in order of path."""
    paths = sorted(path for room in rooms for path in (HOUSE / room).rglob("*.py"))
    return tuple(_read(path) for path in paths)


def functions(source: Source) -> Iterator[Function]:
    """Every function of a file; its decorators do not count as its lines, its docstring does."""
    for name, node in definitions(source.tree):
        assert node.end_lineno is not None
        yield Function(source.path, name, node.end_lineno - node.lineno + 1)


def definitions(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, Definition]]:
    """Every function below a node, with its qualified name."""
    for node in ast.iter_child_nodes(tree):
        name = f"{inside}.{node.name}".lstrip(".") if isinstance(node, Definition | ast.ClassDef) else inside
        if isinstance(node, Definition):
            yield name, node
        yield from definitions(node, name)


def _read(path: Path) -> Source:
    text = path.read_text(encoding="utf-8")
    relative = path.relative_to(HOUSE)
    parts = relative.with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Source(str(relative), module, text, ast.parse(text))
