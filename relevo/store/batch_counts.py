"""The counts of a batch, and what follows when they change. Pure: `batches.py` applies it.

    a member was     and ends as                      because
    not known        completed, failed or cancelled   it has ended
    failed           completed                        it was retried by hand
    cancelled        completed or failed              it was cancelled, but also ran
    completed        anything                         (no change: it is done)

So a member counts once, however often its end is reported, and in whatever order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Kind(StrEnum):
    """What a batch is: members side by side, or the links of a chain, one after the other."""

    BATCH = "batch"
    CHAIN = "chain"
    CHORD = "chord"


class Callback(StrEnum):
    """When a batch dispatches a callback.

    BEFORE comes before its members, PROGRESS at each new percentage, FAILURE for each member that
    has failed, the others once at most.
    """

    BEFORE = "before"
    PROGRESS = "progress"
    FAILURE = "failure"
    CATCH = "catch"
    THEN = "then"
    FINALLY = "finally"


COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"

_CHANGES = {(FAILED, COMPLETED), (CANCELLED, COMPLETED), (CANCELLED, FAILED)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many members a batch has, and how they have ended.

    `streams` counts the dispatches that still add members. `reported_percent` is the percentage of
    the last PROGRESS. An instant is None until its event: the batch was cancelled, a member failed
    first, all have completed, all have ended.
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
        """The number of members that have ended."""
        return self.completed + self.failed + self.cancelled

    @property
    def pending(self) -> int:
        """The number of members that have not ended."""
        return max(self.total - self.processed, 0)

    @property
    def percent(self) -> int:
        """The percentage of members that have ended. It is 100 only when all have."""
        return (
            min(self.processed * 100 // self.total, 100)
            if self.total
            else 100
            if self.finished_at
            else 0
        )


def is_change(before: str | None, after: str) -> bool:
    """Whether an end changes the counts. `before` is the member's known state, if any."""
    return before is None or (before, after) in _CHANGES


def apply(tally: Tally, before: str | None, after: str) -> Tally:
    """Return the counts after a member has changed its state."""
    counts = {after: getattr(tally, after) + 1}
    if before is not None:
        counts[before] = getattr(tally, before) - 1
    return replace(tally, **counts)


def conclude(tally: Tally, now: float) -> tuple[Tally, list[Callback]]:
    """Say what follows from new counts: the instants of new events, and the callbacks due."""
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
    # One callback, when all members have ended; it looks up how. A second one if the last failed
    # member was retried and has completed.
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
    # The links of a chain after a failed or cancelled one never come.
    broken = tally.kind is Kind.CHAIN and bool(tally.failed or tally.cancelled)
    return broken or tally.processed >= tally.total
