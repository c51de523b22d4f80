"""The runes that this node has given out, and which of them count no more."""

from collections.abc import Mapping
from typing import Any

import msgspec

from node.daemon.node import Node
from node.daemon.runes import Alternative, Field, Restriction, Rune, Verdict
from wire import bolt11
from wire.bolt12.text import is_bolt12

SCHEMA = """
create table if not exists runes(id integer primary key, rune text not null, last_used real);
create table if not exists rune_blacklist(first integer primary key, last integer not null);
"""
MOST_BLACKLISTED = 100_000_000
MOST_NUMBER_DIGITS = 18
_SECONDS_PER = {
    "": 1.0,
    "sec": 1.0,
    "nsec": 1e-9,
    "usec": 1e-6,
    "msec": 1e-3,
    "min": 60.0,
    "hour": 3600.0,
    "day": 86400.0,
}
_PARAMETER, _PLACE, _INVOICE = "pname", "parr", "pinv"


class NotAuthorized(Exception):
    """The rune is not from this node."""


class Blacklisted(Exception):
    """The rune counts no more."""


class NotPermitted(Exception):
    """The rune does not allow this request."""


class Asking(msgspec.Struct, frozen=True):
    """A request that a rune shall allow."""

    now_seconds: float
    node_id: str | None = None
    method: str | None = None
    params: Mapping[str, Any] | list[Any] | None = None


class Issued(msgspec.Struct):
    """A rune that we made, and when it was used last."""

    rune: str
    last_used: float | None = None


class RuneBook:
    """All runes of one node."""

    def __init__(self, node: Node) -> None:
        self._node, self._secret = node, node.signer.rune_secret
        db = node.store.db
        db.execute(SCHEMA)
        rows = db.execute("select id, rune, last_used from runes order by id")
        self.issued = {number: Issued(rune, last_used) for number, rune, last_used in rows}
        self.blacklist: list[tuple[int, int]] = list(
            db.execute("select first, last from rune_blacklist order by first")
        )

    async def issue(self, restrictions: tuple[Restriction, ...]) -> Rune:
        """A new rune, under the next number."""
        number = max(self.issued, default=-1) + 1
        name = Restriction((Alternative("", "=", str(number)),))
        rune = Rune.made(self._secret, (name, *restrictions))
        self.issued[number] = Issued(str(rune))
        await self._write("insert into runes(id, rune) values(?, ?)", number, str(rune))
        return rune

    def extend(self, rune: Rune, restrictions: tuple[Restriction, ...]) -> Rune:
        """The same rune with more restrictions.

        Raises:
            NotAuthorized: it is not ours.
        """
        self._check_ours(rune)
        return Rune.made(self._secret, (*rune.restrictions, *restrictions))

    def is_ours(self, rune: Rune) -> bool:
        """Whether it, or what it was made from, is from this node."""
        return rune.is_from(self._secret)

    def is_blacklisted(self, rune: Rune) -> bool:
        """Whether it counts no more."""
        number = _number(rune)
        return number is not None and any(first <= number <= last for first, last in self.blacklist)

    async def use(self, rune: Rune, asking: Asking) -> None:
        """Allow a request.

        Raises:
            Blacklisted, NotAuthorized, NotPermitted: it is not allowed.
        """
        if self.is_blacklisted(rune):
            raise Blacklisted("Not authorized: Blacklisted rune")
        self._check_ours(rune)
        number = _number(rune)
        issued = None if number is None else self.issued.get(number)
        why = rune.why_not(lambda alternative: _field(alternative, asking, issued))
        if why is not None:
            shown = why.replace(_PARAMETER, "parameter ", 1) if why.startswith(_PARAMETER) else why
            raise NotPermitted(f"Not permitted: {shown}")
        if issued is not None:
            issued.last_used = asking.now_seconds
            await self._write("update runes set last_used = ? where id = ?", asking.now_seconds, number)

    def _check_ours(self, rune: Rune) -> None:
        if not self.is_ours(rune):
            raise NotAuthorized("Not authorized: Not derived from master")

    async def set_blacklisted(self, first: int, last: int, *, is_listed: bool) -> None:
        """Let these numbers count no more, or again."""
        kept = [
            part
            for low, high in self.blacklist
            for part in ((low, min(high, first - 1)), (max(low, last + 1), high))
            if part[0] <= part[1]
        ]
        self.blacklist = _joined([*kept, (first, last)] if is_listed else kept)
        rows, db = list(self.blacklist), self._node.store.db

        def write() -> None:
            db.execute("delete from rune_blacklist")
            db.executemany("insert into rune_blacklist values(?, ?)", rows)

        await self._node.switch.ask(lambda turn: turn.write(write))

    async def _write(self, statement: str, *values: Any) -> None:
        db = self._node.store.db

        def write() -> None:
            db.execute(statement, values)

        await self._node.switch.ask(lambda turn: turn.write(write))


def _number(rune: Rune) -> int | None:
    text = rune.unique_id
    is_number = text is not None and len(text) <= MOST_NUMBER_DIGITS and text.isascii() and text.isdigit()
    return int(text) if is_number and text is not None else None


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return found


def _field(alternative: Alternative, asking: Asking, issued: Issued | None) -> Field | Verdict:
    """What a request has in the field of a condition."""
    name = alternative.field
    if name in ("per", "rate"):
        return _paced(alternative, asking.now_seconds, issued)
    if name.startswith(_INVOICE):
        return _of_invoice(name.removeprefix(_INVOICE), asking.params)
    known = {"time": int(asking.now_seconds), "id": asking.node_id, "method": asking.method}
    return known[name] if name in known else _parameters(asking.params).get(name)


def _parameters(params: Mapping[str, Any] | list[Any] | None) -> dict[str, Field]:
    fields: dict[str, Field] = {"pnum": len(params or ())}
    if isinstance(params, Mapping):
        for name, value in params.items():
            bare = "".join(each for each in name if each.isalnum() or each == "_")
            # both spellings are in use: underscores were once left out
            fields[_PARAMETER + bare] = fields[_PARAMETER + bare.replace("_", "")] = _shown(value)
    else:
        for place, value in enumerate(params or ()):
            fields[f"{_PLACE}{place}"] = _shown(value)
    return fields


def _shown(value: Any) -> Field:
    is_plain = isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))
    return value if is_plain else msgspec.json.encode(value).decode()


def _paced(alternative: Alternative, now_seconds: float, issued: Issued | None) -> Verdict:
    """Whether enough time has passed since the rune was used."""
    digits = alternative.value[: len(alternative.value) - len(alternative.value.lstrip("0123456789"))]
    unit = alternative.value[len(digits) :]
    is_per = alternative.field == "per"
    is_known = unit in _SECONDS_PER if is_per else not unit
    if alternative.condition != "=" or not int(digits or 0) or not is_known:
        return Verdict(f"malformed {alternative.field}")
    apart_seconds = int(digits) * _SECONDS_PER[unit] if is_per else 60.0 / int(digits)
    last_used = issued.last_used if issued is not None else None
    is_soon = last_used is not None and now_seconds - last_used < apart_seconds
    return Verdict("too soon" if is_soon else None)


def _of_invoice(name: str, params: Mapping[str, Any] | list[Any] | None) -> Field:
    """A field of the invoice in a parameter, as `bolt11_amount`."""
    parameter, _, field = name.rpartition("_")
    text = params.get(parameter) if isinstance(params, Mapping) else None
    if not isinstance(text, str):
        return None
    if is_bolt12(text):
        return _of_bolt12(text, field)
    try:
        invoice = bolt11.decode(text)
    except bolt11.InvalidInvoice:
        return None
    return {
        "amount": invoice.amount_msat,
        "description": invoice.description,
        "node": invoice.payee.hex(),
    }.get(field)


def _of_bolt12(text: str, field: str) -> Field:
    """A field of an invoice; an offer has none of them, for its payer may still choose."""
    # most nodes never see one
    from wire.bolt12.errors import Unacceptable
    from wire.bolt12.forms import Invoice, read_form

    try:
        invoice = read_form(Invoice, text)
    except Unacceptable:
        return None
    return {
        "amount": invoice.invoice_amount,
        "description": invoice.offer_description,
        "node": (invoice.invoice_node_id or b"").hex(),
    }.get(field)
