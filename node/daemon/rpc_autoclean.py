"""Commands about forgetting what is over."""

from typing import Any

from node.daemon.autoclean import KINDS
from node.daemon.node import Node
from node.daemon.rpc_parameters import INVALID_PARAMETERS, U32, CommandFailed, Text


class AutocleanCommands:
    """What is forgotten by its age."""

    def __init__(self, node: Node) -> None:
        self._autoclean = node.autoclean

    async def autoclean_once(self, subsystem: Text, age: U32) -> dict[str, Any]:
        """Forget everything of a kind that ended so many seconds ago."""
        if not age:
            raise CommandFailed(INVALID_PARAMETERS, "age: should be a non-zero number of seconds")
        found = await self._autoclean.clean(_kind(subsystem), age)
        return {"autoclean": {subsystem: {"cleaned": found.cleaned, "uncleaned": found.uncleaned}}}

    async def autoclean_status(self, subsystem: Text | None = None) -> dict[str, Any]:
        """What is forgotten by itself, and how much ever was."""
        kinds = KINDS if subsystem is None else (_kind(subsystem),)
        return {"autoclean": {kind: self._status(kind) for kind in kinds}}

    def _status(self, kind: str) -> dict[str, Any]:
        age_seconds = self._autoclean.ages_seconds.get(kind)
        age = {} if age_seconds is None else {"age": age_seconds}
        return {"enabled": bool(age), **age, "cleaned": self._autoclean.tally.get(kind, 0)}


def _kind(name: str) -> str:
    if name not in KINDS:
        why = f"subsystem: should be one of {', '.join(KINDS)}: invalid token '{name}'"
        raise CommandFailed(INVALID_PARAMETERS, why)
    return name
