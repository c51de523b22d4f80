"""The law of imports: which room may read which, and what a pure room may never touch.

    wire/units ← wire/crypto ← wire/bitcoin ← wire ← wire/messages
    wire ← onion          wire ← gossip          wire, onion ← htlc
    all of these ← node/chain ← node/daemon ← node/stream ← node/lab ← node/cli ← tests

Imports inside functions and under TYPE_CHECKING count like any other.
"""

import ast
from collections.abc import Iterator

import pytest

from tests.house.sources import PURE_ROOMS, ROOMS, Source, sources

WIRE = ["wire.units", "wire.crypto", "wire.bitcoin", "wire", "wire.messages"]
PURE = [*WIRE, "onion", "gossip", "htlc"]
SHELL = ["node.chain", "node.daemon", "node.stream", "node.lab", "node.cli"]

MAY_IMPORT = {
    **{room: set(WIRE[:floor]) for floor, room in enumerate(WIRE)},
    "onion": set(WIRE),
    "gossip": set(WIRE),
    "htlc": {*WIRE, "onion"},
    "node": set(),
    **{room: {*PURE, *SHELL[:floor]} for floor, room in enumerate(SHELL)},
    "tests": {*PURE, *SHELL},
}

# A pure room decides; it neither waits, nor reads a clock, a disk or chance.
IMPURE = {
    "apsw", "asyncio", "datetime", "httpx", "importlib", "logging", "multiprocessing", "os", "pathlib", "pbk",
    "random", "secrets", "select", "selectors", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess",
    "tempfile", "threading", "time", "trio", "uuid",
}  # fmt: skip
BINDINGS = {"coincurve", "cryptography", "nacl"}


def room_of(module: str) -> str:
    """The innermost room that a module lives in."""
    rooms = [room for room in MAY_IMPORT if f"{module}.".startswith(f"{room}.")]
    return max(rooms, key=len, default="")


def imported(source: Source) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, with the line that does."""
    package = source.module if source.path.endswith("__init__.py") else source.module.rpartition(".")[0]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, _resolved(origin, alias.name)) for alias in node.names)


def _resolved(origin: str, name: str) -> str:
    """`from wire import units` imports wire.units; `from wire.units import Msat` imports wire.units too."""
    inner = f"{origin}.{name}"
    known = inner in MAY_IMPORT or any(source.module == inner for source in sources(*ROOMS, "tests"))
    return inner if known else origin


@pytest.mark.parametrize("source", sources(*ROOMS, "tests"), ids=lambda source: source.path)
def test_imports_follow_the_arrows(source: Source) -> None:
    room = room_of(source.module)
    against = [
        f"{source.path}:{line}: {room} may not import {module}"
        for line, module in imported(source)
        if (other := room_of(module)) and other != room and other not in MAY_IMPORT[room]
    ]
    assert not against, "\n".join(against)


@pytest.mark.parametrize("source", sources(*PURE_ROOMS), ids=lambda source: source.path)
def test_pure_rooms_touch_no_clock_disk_network_or_chance(source: Source) -> None:
    touched = [
        f"{source.path}:{line}: imports {module}"
        for line, module in imported(source)
        if module.split(".")[0] in IMPURE
    ]
    assert not touched, "\n".join(touched)


@pytest.mark.parametrize("source", sources(*ROOMS), ids=lambda source: source.path)
def test_only_wire_crypto_touches_the_bindings(source: Source) -> None:
    touched = [
        f"{source.path}:{line}: imports {module}"
        for line, module in imported(source)
        if module.split(".")[0] in BINDINGS and room_of(source.module) != "wire.crypto"
    ]
    assert not touched, "\n".join(touched)


def test_every_room_is_known() -> None:
    assert {room_of(source.module) for source in sources(*ROOMS)} <= set(MAY_IMPORT)
    strays = [s.path for s in sources("node") if room_of(s.module) == "node" and s.module != "node"]
    assert not strays, f"node's code lives in its rooms, not beside them: {strays}"
