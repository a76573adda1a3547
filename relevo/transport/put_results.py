"""What became of a put: a new job, or another job that has its unique key.

Celery stands between the dispatch and the broker, and hands no answer back. `Producer.batch()` may
even put long after the caller has gone on. So a caller that wants to know expects a result under
the job's id, and the put fills it in.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable

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


_expected: weakref.WeakValueDictionary[str, PutResult] = weakref.WeakValueDictionary()
_lock = threading.Lock()


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


def was_put(job_id: str) -> bool:
    """Whether the job is at the broker, as far as a result was expected. True if none was."""
    result = _expected.get(job_id)
    return result is None or result.holder is None
