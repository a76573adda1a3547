"""The audit log: who did what on the dashboard, when, to which jobs, and with what outcome.

An action is recorded before it is done, with an empty outcome, and its row is completed afterwards.
So an action that was interrupted is in the log as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import insert, or_, select, update

from relevo import clock
from relevo.database import text
from relevo.store import pages, window_scan
from relevo.store.store import Store
from relevo.store.tables import audit
from relevo.store.window_scan import Ordering, Place

#: Rows that a search reads at a time.
WINDOW = 10_000


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action. `at` and `id` are 0 until it is recorded, `outcome` is empty until it is done."""

    who: str
    action: str
    target: str
    outcome: str = ""
    at: float = 0.0
    id: int = 0


def record(store: Store, entry: AuditEntry) -> int:
    """Record an action. Returns the number of its row. Raises DriverError."""
    row = {
        "at": clock.now(),
        "who": text.name(entry.who),
        "action": text.name(entry.action),
        "target": text.storable(entry.target),
        "outcome": text.storable(entry.outcome),
    }
    written = insert(audit).values(**row)
    return store.write(
        lambda connection: int((connection.execute(written).inserted_primary_key or (0,))[0])
    )


def complete(store: Store, number: int, outcome: str) -> None:
    """Write the outcome of an action that is done."""
    done = update(audit).where(audit.c.id == number).values(outcome=text.storable(outcome))
    store.write(lambda connection: connection.execute(done))


def prune(store: Store, before: float) -> int:
    """Delete the actions before an instant. Returns how many."""
    return pages.prune(store, audit, audit.c.at < before)


def page(
    store: Store, words: str = "", *, before: int | None = None, limit: int = 50
) -> list[AuditEntry]:
    """Return actions, newest first. `words` must occur in the person, action, target or outcome."""
    place = None if before is None else (0.0, before)
    return scan(store, words, before=place, limit=limit, seconds=float("inf"))[0]


def scan(
    store: Store, words: str, *, before: Place | None, limit: int, seconds: float
) -> tuple[list[AuditEntry], Place | None]:
    """Like `page`, for about so many seconds. Also returns where to continue (None: at the end)."""
    query = select(audit)
    if words:
        columns = (audit.c.who, audit.c.action, audit.c.target, audit.c.outcome)
        query = query.where(or_(*(column.icontains(words, autoescape=True) for column in columns)))
    order = Ordering(audit.c.at, audit.c.id, WINDOW, by_time=False)
    rows, place = window_scan.rows(store, order, query, before=before, limit=limit, seconds=seconds)
    return [AuditEntry(**row._mapping) for row in rows], place  # noqa: SLF001
