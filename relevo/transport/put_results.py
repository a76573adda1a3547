"""What became of a put: a new job, or another job that has its unique key; and who hears of it.

Celery stands between the dispatch and the broker, and hands no answer back. `Producer.batch()` may
even put long after the caller has gone on. So a caller that wants to know expects a result under
the job's id, and the put fills it in.

A listener of `dispatched` hears of a job when a broker has it, which is not when Celery says so: it
may only have been collected, in a batch or for a transaction. So a put in one step says `collected`
of its jobs, and `announce` when they are put and committed.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Sequence

from relevo.drivers.values import NewJob, Placed


class PutResult:
    """The answer to one put.

    `holder`: the id of the job that has the unique key; None if the job is new, or not put yet.
    `replaced`: that job was replaced by this one, which has its id.
    """

    __slots__ = ("__weakref__", "holder", "replaced")

    def __init__(self) -> None:
        self.holder: str | None = None
        self.replaced = False


Observer = Callable[[Sequence[NewJob]], None]

_expected: weakref.WeakValueDictionary[str, PutResult] = weakref.WeakValueDictionary()
_lock = threading.Lock()
_observers: list[Observer] = []
_mine = threading.local()


def expect(job_id: str) -> PutResult:
    """Return the result that the put of this job will fill in, as long as the caller keeps it."""
    result = PutResult()
    with _lock:
        _expected[job_id] = result
    return result


def resolve(jobs: Iterable[NewJob], placed: Iterable[Placed]) -> None:
    """Fill in the results of these jobs, which have been put."""
    for job, place in zip(jobs, placed, strict=True):
        resolve_one(job.id, place)


def resolve_one(job_id: str, place: Placed) -> None:
    """Fill in the result of this job. (A put that was tried again finds itself: no other job.)"""
    if not place.created and place.id != job_id and (result := _expected.get(job_id)):
        result.holder, result.replaced = place.id, place.replaced


def observe(observer: Observer) -> None:
    """Call this with jobs that were put in one step. A second call with the same does nothing."""
    if observer not in _observers:
        _observers.append(observer)


def announce(jobs: Sequence[NewJob], placed: Iterable[Placed] | None = None) -> None:
    """Tell the observers that a broker has these jobs. `placed`: what the put answered."""
    if not _observers:
        return
    new = (
        jobs
        if placed is None
        else [job for job, place in zip(jobs, placed, strict=True) if place.created]
    )
    for observer in _observers:
        observer(new)


def collected(job_ids: Iterable[str]) -> None:
    """Note that this thread has collected the jobs of one message, to put them later."""
    _mine.collected = frozenset(job_ids)


def was_put(job_id: str) -> bool:
    """Whether the job that this thread has just published is at the broker.

    Not if it was only collected, or, where a result was expected, if another has its unique key.
    """
    if job_id in getattr(_mine, "collected", ()):
        _mine.collected = ()
        return False
    result = _expected.get(job_id)
    return result is None or result.holder is None
