"""The result of a dispatched job: Celery's AsyncResult with the broker's answer to the put.

    result = deliver.dispatch("https://…")
    result.is_duplicate     # True: another job has the unique key; `result` is that job's

The broker answers a put with the holder of the key. `relevo/transport/put_results.py` keeps that
answer per job; here it is read when the caller asks for it.
"""

from __future__ import annotations

from typing import Any

from celery.result import AsyncResult
from vine import barrier

from relevo.transport.put_results import PutResult


class JobResult(AsyncResult):
    """Celery's AsyncResult with the broker's answer to the dispatch.

    `receipt`: that answer; None for a job without a unique key.
    """

    receipt: PutResult | None = None

    @property
    def is_duplicate(self) -> bool:
        """Whether another job held the unique key. Nothing was put; this is that job's result."""
        return self.receipt is not None and self.receipt.holder is not None

    @property
    def has_replaced(self) -> bool:
        """Whether the job that held the key, not started yet, got this dispatch's arguments."""
        return self.receipt is not None and self.receipt.replaced

    def then(self, callback: Any, on_error: Any = None, weak: bool = False) -> Any:
        """Call `callback` when the result is there, even if it was there before this call."""
        promised = super().then(callback, on_error, weak)
        if not isinstance(callback, barrier):  # a group reads all of its results in `join`
            self._get_task_meta()
        return promised

    def _given_id(self) -> str:
        own: str = self.__dict__["id"]
        return own if self.receipt is None else self.receipt.holder or own

    def _set_id(self, value: str) -> None:
        self.__dict__["id"] = value

    id = property(_given_id, _set_id)


def with_put_result(receipt: PutResult, result: Any) -> Any:
    """The result of a dispatched job, told the answer of its put (which may still be to come)."""
    if isinstance(result, JobResult):
        result.receipt = receipt
    return result
