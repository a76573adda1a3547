"""Jobs that wait in line at a limit: which is let in next, and how long the others stay away. Pure.

A job that finds no room goes back to its queue, delayed, and becomes a waiter: it has an instant
since which it waits, and an instant at which it is *due* to try again. A released permit calls the
first waiter: it becomes due now, and the driver makes its job due. A rate gives each waiter a time
of its own. Therefore no job asks again and again.

* The order is kept roughly: for GRACE seconds a waiter that is due and hasn't come yet keeps its
  turn against later ones. Not for longer, because it may never come (its job was deleted, its queue
  is paused).
* A lost call (the calling worker is killed, the job was just on its way back) costs time but never
  the turn. Each waiter tries again by itself: first after FIRST seconds for each round of permits
  before its own, then after as long as it has waited already.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from relevo.limits.rates import FIXED, Rate

# For how many seconds a turn is kept; with a rate for half a period at most.
GRACE = 1.0
# Seconds of the first wait for a permit, and of the longest wait of the first HEAD waiters.
FIRST, LONGEST, HEAD = 1.5, 30.0, 100
# Seconds of the longest wait at all.
MOST = 600.0
# Seconds added to a wait for a rate: a job that comes a moment too early would have to wait again.
MARGIN = 0.002
# A waiter that hasn't come this many seconds after it was due is removed.
FORGET = 60.0


@dataclass(frozen=True, slots=True)
class Waiter:
    """A waiting job: since when it waits, and when it is due to try again."""

    job_id: str
    since: float
    due: float


def count_ahead(expected: Iterable[Waiter], mine: Waiter | None) -> int:
    """How many of the expected waiters come before this job (`mine`; None: it is new)."""
    return sum(
        1 for one in expected if mine is None or (one.since, one.job_id) < (mine.since, mine.job_id)
    )


def grace_seconds(rate: Rate) -> float:
    """For how many seconds a turn at a rate is kept."""
    return min(GRACE, rate.per / 2)


def permit_wait(waited: float, place: int, at_most: int) -> float:
    """Seconds to wait for one of `at_most` permits at `place` (from 0) in line."""
    return min(max(FIRST, waited, FIRST * place / at_most), LONGEST * max(1.0, place / HEAD), MOST)


def rate_wait(rate: Rate, cost: float, opens_in: float, before: int) -> float:
    """For how many seconds a job waits for a rate, with `before` other jobs in line.

    A fixed window admits as many units as it holds when it opens, and as many again with each
    further window. Other rates free their units evenly.
    """
    units = before * cost
    turns = units // rate.amount if rate.kind == FIXED else units / rate.amount
    return min(opens_in + turns * rate.per, max(MOST, opens_in)) + MARGIN
