"""The counts of a batch, and what follows when they move. Pure: `batches.py` applies it.

    nothing known -> completed | failed | cancelled         the member has ended
    failed        -> completed                              it was retried by hand
    cancelled     -> completed | failed                     it was dropped in one place, and ran in another
    completed     -> (whatever comes)                       nothing: it is done

So a member counts once, however often its ending is told, and in whatever order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Kind(StrEnum):
    """What is counted: members side by side, or the links of a chain, one after the other."""

    BATCH = "batch"
    CHAIN = "chain"
    CHORD = "chord"


class Callback(StrEnum):
    """When a batch hands in a job: before its members, at a new percentage, and once each of the
    others.
    """

    BEFORE = "before"
    PROGRESS = "progress"
    CATCH = "catch"
    THEN = "then"
    FINALLY = "finally"


COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"

_CHANGES = {(FAILED, COMPLETED), (CANCELLED, COMPLETED), (CANCELLED, FAILED)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many members a batch has and how they have ended; `streams`: who is still putting members
    in.

    `told` is the percentage that was last told of. The instants are None until it has happened: it
    was cancelled, its first member failed, all have completed, all have ended.
    """

    kind: Kind = Kind.BATCH
    allow_failures: bool = False
    streams: int = 0
    total: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    reported_percent: int = 0
    cancelled_at: float | None = None
    failed_at: float | None = None
    completed_at: float | None = None
    finished_at: float | None = None

    @property
    def processed(self) -> int:
        """Members that have ended."""
        return self.completed + self.failed + self.cancelled

    @property
    def pending(self) -> int:
        """Members that have not ended yet."""
        return max(self.total - self.processed, 0)

    @property
    def percent(self) -> int:
        """How many of a hundred members have ended: 100 only when all have."""
        return (
            min(self.processed * 100 // self.total, 100)
            if self.total
            else 100
            if self.finished_at
            else 0
        )


def is_change(before: str | None, after: str) -> bool:
    """Whether a member that was `before` (None: nobody knew) counts anew when it is said to be
    `after`.
    """
    return before is None or (before, after) in _CHANGES


def apply(tally: Tally, before: str | None, after: str) -> Tally:
    """The counts when a member goes from one state to another."""
    counts = {after: getattr(tally, after) + 1}
    if before is not None:
        counts[before] = getattr(tally, before) - 1
    return replace(tally, **counts)


def conclude(tally: Tally, now: float) -> tuple[Tally, list[Callback]]:
    """What the counts mean: the tally with the instants of what has just happened, and the
    callbacks that are due.
    """
    if tally.kind is Kind.CHORD:
        return _conclude_chord(tally, now)
    due: list[Callback] = []
    if tally.failed and tally.failed_at is None:
        due.append(Callback.CATCH)
        tally = replace(tally, failed_at=now)
        if tally.kind is Kind.BATCH and not tally.allow_failures and tally.cancelled_at is None:
            tally = replace(tally, cancelled_at=now)
    if tally.percent > tally.reported_percent:
        due.append(Callback.PROGRESS)
        tally = replace(tally, reported_percent=tally.percent)
    if not tally.streams:
        if tally.completed >= tally.total and tally.completed_at is None:
            due.append(Callback.THEN)
            tally = replace(tally, completed_at=now)
        if _has_ended(tally) and tally.finished_at is None:
            due.append(Callback.FINALLY)
            tally = replace(tally, finished_at=now)
    return tally, due


def _conclude_chord(tally: Tally, now: float) -> tuple[Tally, list[Callback]]:
    # One callback, when all have ended: it finds out what became of them. Once more when the last
    # that had failed has completed after all.
    failed_at = now if tally.failed and tally.failed_at is None else tally.failed_at
    tally = replace(
        tally, reported_percent=max(tally.reported_percent, tally.percent), failed_at=failed_at
    )
    complete = tally.completed >= tally.total
    if (
        tally.streams
        or tally.pending
        or (tally.completed_at if complete else tally.finished_at) is not None
    ):
        return tally, []
    completed_at = now if complete else None
    return replace(tally, completed_at=completed_at, finished_at=tally.finished_at or now), [
        Callback.FINALLY
    ]


def _has_ended(tally: Tally) -> bool:
    # The links behind one that failed or was cancelled never come.
    broken = tally.kind is Kind.CHAIN and bool(tally.failed or tally.cancelled)
    return broken or tally.processed >= tally.total
