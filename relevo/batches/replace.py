"""Celery's `Task.replace` and `add_to_chord` for members of batches, chains and chords.

The replacement of a member gets its place. The replaced job must not end the member: Celery ends it
with Ignore, which otherwise means that a job has completed, so ours is an Ignore of its own kind.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import celery
from celery.canvas import Signature, _chain, _chord, group

from relevo.batches.batch import Batch
from relevo.dispatch.delivery import delivery_of
from relevo.job import membership
from relevo.job.control_flow import ContinuedRun, Replaced
from relevo.job.membership import Membership
from relevo.store import outbox


class ReplaceMixin(celery.Task):
    """The part of Task that knows the batch or chord of the running job."""

    abstract = True

    @property
    def batch(self) -> Batch | None:
        """The batch of the running job, read from the store now; None if it has none."""
        request = self.request
        embed, headers = (
            {"chord": request.chord},
            {**(request.headers or {}), "group": request.group},
        )
        ids = membership.batch_ids(headers, embed)
        return self.app.batches.find(ids[0]) if ids else None

    def replace(self, sig: Any) -> Any:
        """Celery's `replace`: the job goes on as `sig`, with its id and its place in a batch."""
        if places := membership.read(self.request.headers):
            sig = _with_places(self.app, sig, places)
        if not isinstance(sig, (group, _chain, _chord)) and (run := self._scheduled()):
            sig = sig.clone().set(headers={**(sig.options.get("headers") or {}), **run})
        return super().replace(sig)

    def _scheduled(self) -> dict[str, Any]:
        """The headers that name the schedule's run of this job; empty if links follow."""
        headers = {} if self.request.chain else self.request.headers or {}
        return {
            name: headers[name]
            for name in (membership.ENTRY_HEADER, membership.DUE_HEADER)
            if name in headers
        }

    def on_replace(self, sig: Any) -> Any:
        if self.request.is_eager:
            return super().on_replace(sig)
        if (self.request.headers or {}).get(membership.OUTBOX_HEADER):
            # Delete this job's outbox row now, not with its end: by then the replacement, which has
            # the same id, may have a row of its own.
            uuid = str(self.request.id)
            delivery_of(self.app).write_with_retry(
                lambda connection: outbox.delete_delivered(connection, [uuid])
            )
        sig.delay()
        is_run = membership.ENTRY_HEADER in (sig.options.get("headers") or {})
        raise (ContinuedRun if is_run else Replaced)("Replaced by new task")

    def add_to_chord(self, sig: Any, lazy: bool = False) -> Any:
        """Celery's `add_to_chord`. A job that is delivered twice adds the same member again, which
        counts once.
        """
        if membership.is_marked(self.request.chord) and "task_id" not in sig.options:
            added = self.request.__dict__.setdefault("_relevo_added", [])
            sig.options["task_id"] = str(
                uuid5(NAMESPACE_OID, f"{membership.run_key(self.request)}.{len(added)}")
            )
            added.append(sig.options["task_id"])
        return super().add_to_chord(sig, lazy)


def _with_places(app: Any, sig: Signature, places: tuple[Membership, ...]) -> Signature:
    if isinstance(sig, group):  # Celery's own `replace` does the same
        sig |= app.tasks["celery.accumulate"].s(index=0)
    if isinstance(sig, _chord):
        sig = sig.clone()
        sig.body = _with_places(app, sig.body, places)
        return sig
    if not isinstance(sig, _chain):
        return sig.set(headers=membership.with_places(sig.options.get("headers"), *places))
    *first, last = sig.tasks
    # A link before the last ends the member only if it fails.
    inner = tuple(replace(place, each=False) for place in places)
    links = [*(_with_places(app, link, inner) for link in first), _with_places(app, last, places)]
    return _chain(*links, app=sig.app, **sig.options)
