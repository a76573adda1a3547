"""What became of a put, told to who dispatched: the job is there, or another one had its unique
key.

Between the two stands Celery, which hands no answer of the broker back to its caller, and perhaps
`Producer.batch()`, which puts long after the caller has gone on. So who wants to know leaves a
receipt under the job's id.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable

from relevo.drivers.values import NewJob, Placed


class Receipt:
    """The answer to one put. `holder` is the id of the job that has the unique key, None as long as
    none is known.

    `replaced`: that job is this one now, under its old id.
    """

    __slots__ = ("__weakref__", "holder", "replaced")

    def __init__(self) -> None:
        self.holder: str | None = None
        self.replaced = False


_asked: weakref.WeakValueDictionary[str, Receipt] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def ask(job_id: str) -> Receipt:
    """A receipt for the job of this id, filled in by its put, for as long as the caller keeps it."""
    receipt = Receipt()
    with _lock:
        _asked[job_id] = receipt
    return receipt


def tell(jobs: Iterable[NewJob], placed: Iterable[Placed]) -> None:
    """These have been put. (A put that was tried again finds itself: that is no other job.)"""
    for job, place in zip(jobs, placed, strict=True):
        answer(job.id, place)


def answer(job_id: str, place: Placed) -> None:
    """The job of this id has been put so."""
    if not place.created and place.id != job_id and (receipt := _asked.get(job_id)):
        receipt.holder, receipt.replaced = place.id, place.replaced


def was_put(job_id: str) -> bool:
    """Whether, as far as anybody asked, the job of this id is there."""
    receipt = _asked.get(job_id)
    return receipt is None or receipt.holder is None
