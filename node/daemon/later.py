"""Modules that most nodes never need, read when somebody first asks for something in them.

One of ours is put off by who uses it: the importer shows it to the type checker alone,

    if TYPE_CHECKING:
        from htlc import simple_close
    else:
        simple_close = Later("htlc.simple_close")

One of a library is put off by who starts the program, with `put_off`, before that library is imported.
The standard library's own way, `importlib.util.LazyLoader`, reads a module at its second import.
"""

import sys
from importlib import import_module
from typing import Any


class Later:
    """Stands for a module. What was asked for once is found as fast as in the module itself."""

    __spec__ = None  # the import system looks at it each time, and nothing in it is asked for by that

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        standing: object = sys.modules.get(self._name)
        if standing is self:
            del sys.modules[self._name]
        found = getattr(import_module(self._name), attribute)
        setattr(self, attribute, found)
        return found


def put_off(*names: str) -> None:
    """Let these modules be read when something in them is asked for, by whoever has imported them."""
    for name in names:
        if name not in sys.modules:
            sys.modules[name] = Later(name)  # type: ignore[assignment]
