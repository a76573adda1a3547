"""A job that goes on as another one: Celery's `replace`, for members of batches, chains and chords,
and `add_to_chord`.

What replaces a member gets its place, and the job that was replaced says nothing about it: Celery
ends it with Ignore, which otherwise means that it is done.
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


class Replacing(celery.Task):
    """What a task says about the batch or chord that its job is a member of."""

    abstract = True

    @property
    def batch(self) -> Batch | None:
        """The batch this job is a member of, looked up now; None if it is in none."""
        request = self.request
        embed, headers = (
            {"chord": request.chord},
            {**(request.headers or {}), "group": request.group},
        )
        ids = membership.batch_ids(headers, embed)
        return self.app.batches.find(ids[0]) if ids else None

    def replace(self, sig: Any) -> Any:
        """Celery's `replace`: the job goes on as `sig`, under its id, and in its place in a batch."""
        if places := membership.read(self.request.headers):
            sig = _in_place(self.app, sig, places)
        if not isinstance(sig, (group, _chain, _chord)) and (run := self._scheduled()):
            sig = sig.clone().set(headers={**(sig.options.get("headers") or {}), **run})
        return super().replace(sig)

    def _scheduled(self) -> dict[str, Any]:
        """What says of which run of the schedule this is the job; nothing if links come behind it."""
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
            # It has come, so its row can go. Not with its end: by then what goes on under its id
            # may have such a row.
            uuid = str(self.request.id)
            delivery_of(self.app).write_with_retry(
                lambda connection: outbox.delete_delivered(connection, [uuid])
            )
        sig.delay()
        is_run = membership.ENTRY_HEADER in (sig.options.get("headers") or {})
        raise (ContinuedRun if is_run else Replaced)("Replaced by new task")

    def add_to_chord(self, sig: Any, lazy: bool = False) -> Any:
        """Celery's `add_to_chord`. Done again by a job that is delivered twice, it adds the same
        member.
        """
        if membership.is_marked(self.request.chord) and "task_id" not in sig.options:
            added = self.request.__dict__.setdefault("_relevo_added", [])
            sig.options["task_id"] = str(
                uuid5(NAMESPACE_OID, f"{membership.run_key(self.request)}.{len(added)}")
            )
            added.append(sig.options["task_id"])
        return super().add_to_chord(sig, lazy)


def _in_place(app: Any, sig: Signature, places: tuple[Membership, ...]) -> Signature:
    if isinstance(sig, group):  # as Celery does itself
        sig |= app.tasks["celery.accumulate"].s(index=0)
    if isinstance(sig, _chord):
        sig = sig.clone()
        sig.body = _in_place(app, sig.body, places)
        return sig
    if not isinstance(sig, _chain):
        return sig.set(headers=membership.with_places(sig.options.get("headers"), *places))
    *first, last = sig.tasks
    # A link before the last says how the member has ended only when it fails.
    silent = tuple(replace(place, each=False) for place in places)
    links = [*(_in_place(app, link, silent) for link in first), _in_place(app, last, places)]
    return _chain(*links, app=sig.app, **sig.options)
