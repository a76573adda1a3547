"""A batch as the link of a chain: a job that dispatches it, and callbacks that end the link.

    link k-1 -> relevo.open_batch -> the batch's members
                all have completed  -> relevo.link_completed  link k has completed -> link k+1
                one has failed      -> relevo.link_failed     link k has failed
                neither, at the end -> relevo.link_cancelled  link k was cancelled

The job `relevo.open_batch` takes the rest of the chain out of its own message and gives it to
`relevo.link_completed`. It may run twice: its id is the batch's id, so one batch is dispatched.
"""

from __future__ import annotations

from typing import Any

from celery.canvas import Signature, _chain, maybe_signature

from relevo.batches import member_jobs
from relevo.batches.spec import BatchSpec
from relevo.dispatch.delivery import delivery_of
from relevo.errors import JobFailedError
from relevo.job import membership
from relevo.store import batch_counts, batches
from relevo.store.batch_counts import Callback

Calls = dict[Callback, tuple[Signature, ...]]

COMPLETED = "relevo.link_completed"
FAILED = "relevo.link_failed"
CANCELLED = "relevo.link_cancelled"


def register_tasks(app: Any) -> None:
    """Define the tasks of nested batches in an app."""
    options = {"shared": False, "ignore_result": True}
    app.task(name=membership.OPEN_BATCH_TASK, bind=True, **options)(open_batch)
    app.task(name=COMPLETED, **options)(link_completed)
    app.task(name=FAILED, **options)(link_failed)
    app.task(name=CANCELLED, bind=True, **options)(link_cancelled)


def signature(app: Any, batch: BatchSpec) -> Signature:
    """The link that dispatches this batch."""
    spec = {
        "members": [member_jobs.as_member(app, member) for member in batch.members],
        "called": batch.called,
        "failures_allowed": batch.failures_allowed,
        "queue": batch.queue,
        "connection": batch.connection,
        "callbacks": {callback.value: list(calls) for callback, calls in batch.callbacks.items()},
    }
    link: Signature = app.signature(membership.OPEN_BATCH_TASK, args=(spec,), immutable=True)
    if batch.queue:
        link.options["queue"] = batch.queue
    return link


def open_batch(self: Any, spec: dict[str, Any]) -> None:
    """The task `relevo.open_batch`: dispatch the link's batch. The chain goes on at its end."""
    app, request = self.app, self.request
    calls = {
        Callback(name): tuple(maybe_signature(each, app=app) for each in given)
        for name, given in spec["callbacks"].items()
    }
    if not request.is_eager:  # an inline chain (inline.py) looks at the batch itself
        calls = _with_ends(app, request, calls, spec["failures_allowed"])
    new = BatchSpec(
        app,
        [maybe_signature(each, app=app) for each in spec["members"]],
        spec["called"],
        spec["failures_allowed"],
        calls,
        spec["queue"],
        spec["connection"],
    )
    app.send_batch(new, request.id)


def _with_ends(app: Any, request: Any, calls: Calls, failures_allowed: bool) -> Calls:
    """The batch's own callbacks, and the callbacks that end the link."""
    rest = [maybe_signature(each, app=app) for each in reversed(request.chain or [])]
    request.chain = None
    place = membership.read(request.headers)
    options = {"headers": membership.with_places(None, *place)}
    done = app.signature(COMPLETED, args=(request.id,), immutable=True, options=options)
    ends = {
        Callback.FINALLY if failures_allowed else Callback.THEN: _chain(done, *rest, app=app)
        if rest
        else done
    }
    if not failures_allowed:
        ends[Callback.CATCH] = app.signature(FAILED, options=options)
        places = [each.header() for each in place]
        ends[Callback.FINALLY] = app.signature(CANCELLED, args=(request.id, places), immutable=True)
    return calls | {callback: (*calls.get(callback, ()), end) for callback, end in ends.items()}


def link_completed(batch: str) -> str:
    """The link has completed. The next link gets the batch's id."""
    return batch


def link_failed(batch: str, error: str | None = None) -> None:
    """A member of the link's batch has failed, so the link fails."""
    raise JobFailedError(f"a member of batch {batch!r} has failed: {error}")


def link_cancelled(self: Any, batch: str, places: list[Any]) -> None:
    """The link's batch has ended. If it neither completed nor failed (it was cancelled, or members
    have expired), the link ends as cancelled, and nothing follows.
    """
    delivery = delivery_of(self.app)
    row = batches.find(delivery.store, batch)
    if row is None or row.tally.failed_at is not None or row.tally.completed_at is not None:
        return
    ends = membership.member_ends(
        {membership.MEMBER_HEADER: places}, batch, batch_counts.CANCELLED, None
    )
    delivery.write_with_retry(batches.prepare_ends(ends, delivery.hand_in))
    delivery.after_commit(
        *{found.connection for end in ends if (found := batches.find(delivery.store, end.batch))}
    )
