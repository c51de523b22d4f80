"""Commands about what programs keep in the node: values under keys that are paths."""

from typing import Any

import msgspec

from node.daemon.node import Node
from node.daemon.rpc_parameters import INVALID_PARAMETERS, Anything, Bytes, CommandFailed, Integer, Text

SCHEMA = """
create table if not exists datastore(key text primary key, value blob not null, generation integer not null)
    without rowid;
"""
NOT_THERE_TO_DELETE, WRONG_TO_DELETE = 1200, 1201
EXISTS, NOT_THERE, WRONG_GENERATION, HAS_CHILDREN, PARENT_HAS_VALUE = 1202, 1203, 1204, 1205, 1206
_MODES = ("must-create", "must-replace", "create-or-replace", "must-append", "create-or-append")

Key = tuple[str, ...]


class Kept(msgspec.Struct, frozen=True):
    """A value, and how often it was replaced."""

    value: bytes
    generation: int = 0


class DatastoreCommands:
    """A store for programs beside the node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        node.store.db.execute(SCHEMA)
        rows = node.store.db.execute("select key, value, generation from datastore")
        self._kept = {
            msgspec.json.decode(key, type=Key): Kept(value, generation) for key, value, generation in rows
        }

    async def datastore(
        self,
        key: Anything,
        string: Text | None = None,
        hex: Bytes | None = None,
        mode: Text = "must-create",
        generation: Integer | None = None,
    ) -> dict[str, Any]:
        """Keep a value under a key."""
        path, value = _key(key), hex if string is None else string.encode()
        if (string is None) is (hex is None) or value is None:
            raise CommandFailed(INVALID_PARAMETERS, "Must have either string or hex, and not both")
        if mode not in _MODES:
            why = f"mode: should be one of {', '.join(_MODES)}: invalid token '{mode}'"
            raise CommandFailed(INVALID_PARAMETERS, why)
        if generation is not None and mode not in ("must-replace", "must-append"):
            raise CommandFailed(INVALID_PARAMETERS, "generation only valid with must-replace or must-append")
        self._check_place(path)
        before = self._kept.get(path)
        _check_mode(mode, before, generation)
        if before is not None:
            value = before.value + value if mode.endswith("append") else value
        kept = Kept(value, 0 if before is None else before.generation + 1)
        await self._put(path, kept)
        return _view(path, kept)

    def _check_place(self, path: Key) -> None:
        if any(len(other) > len(path) and other[: len(path)] == path for other in self._kept):
            raise CommandFailed(HAS_CHILDREN, "Key has children already")
        if any(path[:length] in self._kept for length in range(1, len(path))):
            raise CommandFailed(PARENT_HAS_VALUE, "Parent key already exists with a value")

    async def listdatastore(self, key: Anything = None) -> dict[str, Any]:
        """What is kept under a key, or the keys one step below it."""
        path = () if key is None or key == [] else _key(key)
        if path in self._kept:
            return {"datastore": [_view(path, self._kept[path])]}
        below = {other[: len(path) + 1] for other in self._kept if other[: len(path)] == path}
        return {"datastore": [_view(other, self._kept.get(other)) for other in sorted(below)]}

    async def deldatastore(self, key: Anything, generation: Integer | None = None) -> dict[str, Any]:
        """Keep a value no longer."""
        path = _key(key)
        kept = self._kept.get(path)
        if kept is None:
            raise CommandFailed(NOT_THERE_TO_DELETE, "Key does not exist")
        if generation not in (None, kept.generation):
            raise CommandFailed(WRONG_TO_DELETE, "generation is different")
        await self._put(path, None)
        return _view(path, kept)

    async def datastoreusage(self, key: Anything = None) -> dict[str, Any]:
        """How many bytes are kept under a key, those of the keys too."""
        path = () if key in (None, "", []) else _key(key)
        total = sum(
            len("\0".join(other).encode()) + len(kept.value)
            for other, kept in self._kept.items()
            if other[: len(path)] == path
        )
        return {"datastoreusage": {"key": f"[{','.join(path)}]", "total_bytes": total}}

    async def _put(self, path: Key, kept: Kept | None) -> None:
        db, name = self._node.store.db, msgspec.json.encode(path).decode()

        def write() -> None:
            if kept is None:
                db.execute("delete from datastore where key = ?", (name,))
            else:
                row = (name, kept.value, kept.generation)
                db.execute("insert or replace into datastore values(?, ?, ?)", row)

        # before anybody else looks
        if kept is None:
            del self._kept[path]
        else:
            self._kept[path] = kept
        await self._node.switch.ask(lambda turn: turn.write(write))


def _check_mode(mode: str, before: Kept | None, generation: int | None) -> None:
    if before is None and mode in ("must-replace", "must-append"):
        raise CommandFailed(NOT_THERE, "Key does not exist")
    if before is not None and mode == "must-create":
        raise CommandFailed(EXISTS, "Key already exists")
    if before is not None and generation not in (None, before.generation):
        raise CommandFailed(WRONG_GENERATION, "generation is different")


def _key(given: Any) -> Key:
    """A key is a word, or an array of words."""
    words = given if isinstance(given, list) else [given]
    if not words or not all(isinstance(word, str | int) and str(word) for word in words):
        raise CommandFailed(INVALID_PARAMETERS, f"key: should be string or array: invalid token '{given}'")
    return tuple(map(str, words))


def _view(path: Key, kept: Kept | None) -> dict[str, Any]:
    view: dict[str, Any] = {"key": list(path)}
    if kept is None:
        return view
    view |= {"generation": kept.generation, "hex": kept.value.hex()}
    try:
        text = kept.value.decode()
    except UnicodeDecodeError:
        return view
    return view if "\0" in text else {**view, "string": text}
