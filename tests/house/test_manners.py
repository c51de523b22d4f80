"""Manners that a reader relies on: errors are typed, names are the field's."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.house.sources import ROOMS, Source, definitions, sources

# Where a task of the shell ends: it may catch everything, to fail safely and say so.
TASK_BOUNDARIES = {
    ("node/daemon/switch.py", "Switch._run_request"),  # the asking task gets what its request raised
    ("node/daemon/offers.py", "Offers._answer"),  # a stranger's onion message, which costs him nothing
    ("node/daemon/rpc.py", "Commands.call"),  # the client is told that its command failed
}

EVERYTHING = {"Exception", "BaseException"}
EMPTY_WORDS = {"utils", "util", "helpers", "helper", "manager", "common", "info", "data", "misc"}
EMPTY_PREFIX = re.compile(r"_?(handle|process)_")
FOREIGN = re.compile(r"(^|_)(chan|chans|ctn|rhash)($|_)", re.IGNORECASE)

every_file = pytest.mark.parametrize("source", sources(*ROOMS), ids=lambda source: source.path)


@every_file
def test_only_a_tasks_boundary_catches_everything(source: Source) -> None:
    caught = {(source.path, name) for name in _catching_everything(source)}
    assert caught <= TASK_BOUNDARIES, f"catches everything: {caught - TASK_BOUNDARIES}"


@every_file
def test_every_error_has_a_class(source: Source) -> None:
    bare = [
        f"{source.path}:{node.lineno}"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Raise) and _named(node.exc) & EVERYTHING
    ]
    assert not bare, f"raises a bare Exception: {bare}"


@every_file
def test_names_say_something(source: Source) -> None:
    module = source.module.rpartition(".")[2]
    assert module not in EMPTY_WORDS, f"{source.path}: what does it hold?"
    names = [name.rpartition(".")[2] for name, _ in definitions(source.tree)]
    empty = [name for name in names if EMPTY_PREFIX.match(name)]
    assert not empty, f"{source.path}: offer, sign, revoke or receive instead of {empty}"


@every_file
def test_names_are_the_bolts_own(source: Source) -> None:
    foreign = {name for name in _identifiers(source.tree) if FOREIGN.search(name)}
    assert not foreign, f"{source.path}: spell {foreign} as the BOLTs do"


def _catching_everything(source: Source) -> Iterator[str]:
    """The functions with an `except:` or an `except Exception:` that does not pass on what it caught."""
    inside = {id(node): name for name, host in definitions(source.tree) for node in ast.walk(host)}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler) and _is_of_everything(node) and not _passes_on(node):
            yield inside.get(id(node), "module")


def _is_of_everything(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or bool(_named(handler.type) & EVERYTHING)


def _passes_on(handler: ast.ExceptHandler) -> bool:
    """Whether it only tidies up: its last word is a bare `raise`."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def _named(expression: ast.expr | None) -> set[str]:
    """The class names in an except clause or a raise statement."""
    match expression:
        case ast.Name(name) | ast.Call(func=ast.Name(name)):
            return {name}
        case ast.Tuple(elements):
            return set().union(*(_named(element) for element in elements))
        case _:
            return set()


def _identifiers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(name) | ast.arg(name) | ast.Attribute(attr=name):
                yield name
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
                yield name
