"""Commands about runes: making, checking, showing them, and letting them count no more."""

import time
from typing import Any

from node.daemon.node import Node
from node.daemon.rpc_parameters import (
    INVALID_PARAMETERS,
    Anything,
    Boolean,
    CommandFailed,
    Integer,
    NodeId,
    Text,
)
from node.daemon.rune_book import (
    MOST_BLACKLISTED,
    Asking,
    Blacklisted,
    Issued,
    NotAuthorized,
    NotPermitted,
    RuneBook,
)
from node.daemon.runes import READ_ONLY, Alternative, BadRune, Restriction, Rune

NOT_AUTHORIZED, NOT_PERMITTED, BLACKLISTED = 1501, 1502, 1503
_CODES = {NotAuthorized: NOT_AUTHORIZED, NotPermitted: NOT_PERMITTED, Blacklisted: BLACKLISTED}
_UNRESTRICTED = "Whoever has this rune may do everything here, and take all the money: restrict it."


class RuneCommands:
    """Bearer tokens for those who may ask over HTTP."""

    def __init__(self, node: Node) -> None:
        self.book = RuneBook(node)

    async def createrune(self, rune: Text | None = None, restrictions: Anything = ()) -> dict[str, Any]:
        """Make a rune, or add restrictions to one: arrays of alternatives, or `readonly`."""
        wanted = _restrictions(restrictions)
        try:
            made = await self.book.issue(wanted) if rune is None else self.book.extend(read(rune), wanted)
        except NotAuthorized as foreign:
            raise CommandFailed(NOT_AUTHORIZED, str(foreign)) from None
        view: dict[str, Any] = {"rune": str(made), "unique_id": made.unique_id or ""}
        if len(made.restrictions) == 1:
            view["warning_unrestricted_rune"] = f"WARNING: {_UNRESTRICTED}"
        return view

    async def checkrune(
        self,
        rune: Text,
        nodeid: NodeId | None = None,
        method: Text | None = None,
        params: Anything = None,
    ) -> dict[str, Any]:
        """Whether a rune allows a request; the use counts."""
        if params is not None and not isinstance(params, dict | list):
            raise CommandFailed(INVALID_PARAMETERS, "params: must be object or array")
        asking = Asking(time.time(), None if nodeid is None else nodeid.hex(), method, params)
        try:
            await self.book.use(read(rune), asking)
        except (NotAuthorized, NotPermitted, Blacklisted) as refused:
            raise CommandFailed(_CODES[type(refused)], str(refused)) from None
        return {"valid": True}

    async def showrunes(self, rune: Text | None = None) -> dict[str, Any]:
        """All runes that this node has made, or what this one says."""
        if rune is None:
            issued = self.book.issued.values()
            return {"runes": [self._view(read(each.rune), each) for each in issued]}
        shown = read(rune)
        found = [each for each in self.book.issued.values() if each.rune == str(shown)]
        return {"runes": [self._view(shown, found[0] if found else None)]}

    def _view(self, rune: Rune, issued: Issued | None) -> dict[str, Any]:
        shown = [each for each in rune.restrictions if each.alternatives[0].field]
        view: dict[str, Any] = {
            "rune": str(rune),
            "unique_id": rune.unique_id or "",
            "restrictions": [_restriction_view(each) for each in shown],
            "restrictions_as_english": " AND ".join(each.english for each in shown),
        }
        if issued is None:
            view["stored"] = False
        elif issued.last_used is not None:
            view["last_used"] = issued.last_used
        if self.book.is_blacklisted(rune):
            view["blacklisted"] = True
        if not self.book.is_ours(rune):
            view["our_rune"] = False
        return view

    async def blacklistrune(
        self, start: Integer | None = None, end: Integer | None = None, relist: Boolean = False
    ) -> dict[str, Any]:
        """Let the runes of these numbers count no more; with relist, count again."""
        if start is None and end is not None:
            raise CommandFailed(INVALID_PARAMETERS, "Can not specify end without start")
        if start is not None:
            last = start if end is None else end
            if not start <= last < MOST_BLACKLISTED:
                raise CommandFailed(INVALID_PARAMETERS, f"Cannot blacklist beyond {MOST_BLACKLISTED}")
            await self.book.set_blacklisted(start, last, is_listed=not relist)
        return {"blacklist": [{"start": first, "end": last} for first, last in self.book.blacklist]}


def read(text: str) -> Rune:
    """The rune that a text is.

    Raises:
        CommandFailed: it is none.
    """
    try:
        return Rune.parse(text)
    except BadRune as bad:
        why = f"rune: should be base64 string: {bad}: invalid token '{text}'"
        raise CommandFailed(INVALID_PARAMETERS, why) from None


def _restrictions(given: Any) -> tuple[Restriction, ...]:
    if given == "readonly":
        return READ_ONLY
    try:
        if not isinstance(given, list | tuple):
            raise BadRune("it is no array")
        return tuple(map(_restriction, given))
    except BadRune as bad:
        why = f"restrictions: not a valid restriction (should be array): {bad}: invalid token '{given}'"
        raise CommandFailed(INVALID_PARAMETERS, why) from None


def _restriction(given: Any) -> Restriction:
    if not isinstance(given, list) or not given:
        raise BadRune(f"{given!r} is no array of alternatives")
    return Restriction(tuple([Alternative.parse(str(each)) for each in given]))


def _restriction_view(restriction: Restriction) -> dict[str, Any]:
    return {
        "alternatives": [
            {
                "fieldname": each.field,
                "value": each.value,
                "condition": each.condition,
                "english": each.english,
            }
            for each in restriction.alternatives
        ],
        "english": restriction.english,
    }
