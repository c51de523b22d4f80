"""Forgetting what is over: invoices, payments and passages of a certain age, as Core Lightning's autoclean.

Nothing is forgotten unless our user says so, with a command or with an age in the configuration. (What
the node asks for by itself, for a sale, is forgotten by its invoices once it has lapsed.)
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import trio

from node.daemon.payments import Status

if TYPE_CHECKING:
    from node.daemon.switch import Switch
    from node.daemon.turn import Turn

log = logging.getLogger("rill.autoclean")

USUAL_CYCLE_SECONDS = 3600
TALLY = "autoclean_tally"
_FORWARDS = {"succeededforwards": ("settled",), "failedforwards": ("failed", "local_failed")}
_PAYS = {"succeededpays": Status.COMPLETE, "failedpays": Status.FAILED}
_INVOICES = {"paidinvoices": True, "expiredinvoices": False}
KINDS = (*_FORWARDS, *_PAYS, *_INVOICES)


class Cleaned(msgspec.Struct, frozen=True):
    """What came of one look at one kind."""

    cleaned: int
    uncleaned: int


class Autoclean:
    """Forgets by age. Start `run` in a nursery."""

    def __init__(
        self, switch: "Switch", ages_seconds: Mapping[str, int], cycle_seconds: int = USUAL_CYCLE_SECONDS
    ) -> None:
        self._switch, self._cycle_seconds = switch, cycle_seconds
        self.ages_seconds = ages_seconds
        raw = switch.store.meta(TALLY)
        self.tally: dict[str, int] = msgspec.json.decode(raw) if raw else {}
        """How many of each kind were ever forgotten."""

    async def run(self) -> None:
        """Look once per cycle, until cancelled."""
        while self.ages_seconds:
            for kind, age_seconds in self.ages_seconds.items():
                found = await self.clean(kind, age_seconds)
                if found.cleaned:
                    log.info("cleaned", extra={"kind": kind, "count": found.cleaned})
            await trio.sleep(self._cycle_seconds)

    async def clean(self, kind: str, age_seconds: int) -> Cleaned:
        """Forget all of a kind that ended so long ago."""
        last = self._switch.now() - age_seconds
        return await self._switch.ask(lambda turn: self._clean(turn, kind, last))

    def _clean(self, turn: "Turn", kind: str, last: float) -> Cleaned:
        if kind in _FORWARDS:
            found = self._forwards(turn, _FORWARDS[kind], last)
        elif kind in _PAYS:
            found = self._pays(turn, _PAYS[kind], last)
        else:
            found = self._invoices(turn, last, is_paid=_INVOICES[kind])
        if found.cleaned:
            self.tally[kind] = self.tally.get(kind, 0) + found.cleaned
            tally = msgspec.json.encode(self.tally)
            turn.write(lambda: self._switch.store.put_meta(TALLY, tally))
        return found

    def _invoices(self, turn: "Turn", last: float, *, is_paid: bool) -> Cleaned:
        invoices, now = self._switch.invoices, self._switch.now()
        rows = [row for row in invoices.rows.values() if row.is_paid == is_paid]
        over = [row for row in rows if is_paid or not (row.is_open(now) or row.accepted_at)]
        old = [row for row in over if (row.paid_at or row.expires_at) <= last]
        for row in old:
            invoices.delete(turn, row)
        return Cleaned(len(old), len(over) - len(old))

    def _pays(self, turn: "Turn", status: Status, last: float) -> Cleaned:
        payments = self._switch.payments
        rows = [row for row in payments.rows.values() if row.status is status]
        # a part may still be on its way although the payment is decided
        over = [row for row in rows if not payments.is_on_its_way(row.payment_hash)]
        old = [row for row in over if (row.ended_at or row.created_at) <= last]
        for row in old:
            payments.forget(turn, row.payment_hash, payments.attempts(row.payment_hash))
        return Cleaned(len(old), len(over) - len(old))

    def _forwards(self, turn: "Turn", statuses: Sequence[str], last: float) -> Cleaned:
        ledger = self._switch.ledger
        rows = [row for row in ledger.passages() if row.status in statuses]
        old = [row for row in rows if row.resolved_at <= last]
        ledger.forget(turn, old)
        return Cleaned(len(old), len(rows) - len(old))


def ages_in(find: Callable[[str], int | None]) -> dict[str, int]:
    """The ages that a configuration has, by kind; `find` knows options by name."""
    found = {kind: find(f"autoclean-{kind}-age") for kind in KINDS}
    return {kind: age for kind, age in found.items() if age}
