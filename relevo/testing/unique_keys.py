"""Who has which unique key in a fake, as the broker would have it: kept out, replaced, or the
latest of a series.

A job has its key until it is over, or (`unique_until="start"`, `debounce`) until its first attempt
begins.
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
class Keys:
    """The jobs that have a key, each as it was first dispatched. Not thread-safe: the fake has the
    lock.
    """

    _holders: dict[str, Dispatched] = field(default_factory=dict)

    def place(self, record: Dispatched, backlog: Backlog) -> tuple[Placed, Dispatched]:
        """What became of a job that is dispatched, and what is to be noted: it, or the one that it
        replaces.
        """
        said = message_codec.unique_of(record.message)
        key, conflict = said.get("key"), said.get("on") or Conflict.KEEP
        holder = self._living(key, record, said) if key else None
        if holder is None:
            return self._taken(key, record)
        waiting = next(
            (job for job in backlog.waiting() if job.id == holder.id and job.attempt == 1), None
        )
        if conflict is not Conflict.KEEP and waiting is not None:
            return Placed(holder.id, created=False, replaced=True), _replaced(
                waiting, record, holder, said
            )
        if conflict is Conflict.LATEST:
            return self._taken(key, record)
        return Placed(holder.id, created=False), holder

    def begins(self, record: Dispatched) -> None:
        """An attempt of it begins."""
        if message_codec.unique_of(record.message).get("until") == message_codec.START:
            self.free(record.id)

    def free(self, job_id: str) -> None:
        self._holders = {
            key: holder for key, holder in self._holders.items() if holder.id != job_id
        }

    def _living(self, key: Any, record: Dispatched, said: Mapping[str, Any]) -> Dispatched | None:
        holder = self._holders.get(key)
        lasting = said.get("for")
        if holder is None or (
            lasting is not None and holder.dispatched_at + lasting <= record.dispatched_at
        ):
            return None
        return holder

    def _taken(self, key: Any, record: Dispatched) -> tuple[Placed, Dispatched]:
        if key:
            self._holders[key] = record
        return Placed(record.id, created=True), record


def _replaced(
    waiting: Dispatched, new: Dispatched, first: Dispatched, said: Mapping[str, Any]
) -> Dispatched:
    """The new job under the name of the one that waits, and in its place unless it has a time of
    its own.
    """
    changed = replace(new, id=waiting.id, message={**new.message, "id": waiting.id})
    if new.delay is None:
        return replace(changed, delay=waiting.delay, dispatched_at=waiting.dispatched_at)
    most = said.get("most")
    till = new.available_at if most is None else min(new.available_at, first.dispatched_at + most)
    return replace(changed, delay=max(0.0, till - new.dispatched_at) or None)
