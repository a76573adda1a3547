"""The line of jobs that wait at a limit: who is let in next, and how long the others stay away.
Pure.

A job that found no room goes back to its queue, delayed, and leaves its name here: since when it
waits, and when it is *due* to look again. Whoever gives a permit back calls the first in line (it
becomes due now, and the driver makes its job due); a rate gives each a time of its own. So nobody
asks again and again.

* In order, roughly: who is due now and hasn't come yet keeps its turn for GRACE seconds against
  those who came later. Not for longer: it may never come (its job was deleted, its queue is
  paused).
* A call that doesn't arrive (its caller is killed, the job was just on its way back) costs time,
  never the turn: each looks again by itself, after FIRST seconds for each turn of the permits
  before its own, then after as long as it has waited already.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from relevo.limits.rates import FIXED, Rate

# How long a turn is kept, in seconds; half a period at most.
GRACE = 1.0
# The first wait for a permit, and the longest of the first HEAD in line, in seconds.
FIRST, LONGEST, HEAD = 1.5, 30.0, 100
# The longest wait of all.
MOST = 600.0
# A window opens by the broker's clock; who comes a moment early would have to go again.
MARGIN = 0.002
# Who hasn't come so long after it was due is forgotten, in seconds.
FORGET = 60.0


@dataclass(frozen=True, slots=True)
class Waiter:
    """A job in line: since when, and when it looks again."""

    job_id: str
    since: float
    due: float


def count_ahead(expected: Iterable[Waiter], mine: Waiter | None) -> int:
    """How many of those that are expected now came before me."""
    return sum(
        1 for one in expected if mine is None or (one.since, one.job_id) < (mine.since, mine.job_id)
    )


def grace_seconds(rate: Rate) -> float:
    """How long a turn at a rate is kept."""
    return min(GRACE, rate.per / 2)


def permit_wait(waited: float, place: int, at_most: int) -> float:
    """How long a job stays away that waits for one of `at_most` permits, as the one at `place`
    (from 0).
    """
    return min(max(FIRST, waited, FIRST * place / at_most), LONGEST * max(1.0, place / HEAD), MOST)


def rate_wait(rate: Rate, cost: float, opens_in: float, before: int) -> float:
    """How long a job stays away that waits for a rate with so many others `before` it.

    A window lets in as many as it holds when it opens, and as many with each further one; elsewhere
    units come evenly.
    """
    units = before * cost
    turns = units // rate.amount if rate.kind == FIXED else units / rate.amount
    return min(opens_in + turns * rate.per, max(MOST, opens_in)) + MARGIN
