"""Modules that most nodes never need, read when somebody first asks for something in them.

The asker imports the module for the type checker, and puts a `Later` in its place for the rest:

    if TYPE_CHECKING:
        from htlc import simple_close
    else:
        simple_close = Later("htlc.simple_close")
"""

from importlib import import_module
from typing import Any


class Later:
    """Stands for a module. What was asked for once is found as fast as in the module itself."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(import_module(self._name), attribute)
        setattr(self, attribute, found)
        return found
