"""The unique keys of a fake's jobs. A second job with a key is dropped, replaces the first, or both
are kept, as in a broker.

A job holds its key until it has ended, or (`unique_until="start"`, `debounce`) until its first
attempt begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from relevo.drivers import message_codec
from relevo.drivers.values import Conflict, Placed
from relevo.testing.backlog import Backlog
from relevo.testing.dispatched import Dispatched


@dataclass
class UniqueKeys:
    """The job that holds each key, as first dispatched. Not thread-safe: the fake has a lock."""

    _holders: dict[str, Dispatched] = field(default_factory=dict)

    def place(self, record: Dispatched, backlog: Backlog) -> tuple[Placed, Dispatched]:
        """Place a dispatched job. Return where it went, and the job to record: itself, or the
        earlier job with its key, replaced or not.
        """
        said = message_codec.unique_of(record.message)
        key, conflict = said.get("key"), said.get("on") or Conflict.KEEP
        holder = self._holder(key, record, said) if key else None
        if holder is None:
            return self._take(key, record)
        waiting = next(
            (job for job in backlog.waiting() if job.id == holder.id and job.attempt == 1), None
        )
        if conflict is not Conflict.KEEP and waiting is not None:
            return Placed(holder.id, created=False, replaced=True), _replacement(
                waiting, record, holder, said
            )
        if conflict is Conflict.LATEST:
            return self._take(key, record)
        return Placed(holder.id, created=False), holder

    def on_attempt_start(self, record: Dispatched) -> None:
        """Free the key of a job whose attempt begins, if it holds the key until then."""
        if message_codec.unique_of(record.message).get("until") == message_codec.START:
            self.free(record.id)

    def free(self, job_id: str) -> None:
        self._holders = {
            key: holder for key, holder in self._holders.items() if holder.id != job_id
        }

    def _holder(self, key: Any, record: Dispatched, said: Mapping[str, Any]) -> Dispatched | None:
        holder = self._holders.get(key)
        lasting = said.get("for")
        if holder is None or (
            lasting is not None and holder.dispatched_at + lasting <= record.dispatched_at
        ):
            return None
        return holder

    def _take(self, key: Any, record: Dispatched) -> tuple[Placed, Dispatched]:
        if key:
            self._holders[key] = record
        return Placed(record.id, created=True), record


def _replacement(
    waiting: Dispatched, new: Dispatched, first: Dispatched, said: Mapping[str, Any]
) -> Dispatched:
    """The new job under the id of the waiting one, at its time unless the new job has a delay."""
    changed = replace(new, id=waiting.id, message={**new.message, "id": waiting.id})
    if new.delay is None:
        return replace(changed, delay=waiting.delay, dispatched_at=waiting.dispatched_at)
    most = said.get("most")
    till = new.available_at if most is None else min(new.available_at, first.dispatched_at + most)
    return replace(changed, delay=max(0.0, till - new.dispatched_at) or None)
