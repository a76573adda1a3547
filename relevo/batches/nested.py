"""A batch as the link of a chain: a job that opens it, and two of its callbacks that end the link.

    link k-1 -> relevo.open_batch -> members ...  -> all have completed: relevo.batch_done   (link k) -> link k+1
                                                  -> one has failed:     relevo.batch_broke  (link k has failed)
                                                  -> neither, at the end: relevo.batch_fell  (link k was cancelled)

The job that opens it takes what follows in the chain out of its own message and gives it to the
callback. It may run twice: the batch's id is its own.
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

DONE, BROKE, FELL = "relevo.batch_done", "relevo.batch_broke", "relevo.batch_fell"


def register_tasks(app: Any) -> None:
    """Give an app the tasks."""
    options = {"shared": False, "ignore_result": True}
    app.task(name=membership.OPEN_BATCH_TASK, bind=True, **options)(open_batch)
    app.task(name=DONE, **options)(batch_done)
    app.task(name=BROKE, **options)(batch_broke)
    app.task(name=FELL, bind=True, **options)(batch_fell)


def signature(app: Any, batch: BatchSpec) -> Signature:
    """The link that opens a batch."""
    spec = {
        "members": [member_jobs.member_of(app, member) for member in batch.members],
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
    """Dispatch the batch of this link; the chain goes on when it has ended."""
    app, request = self.app, self.request
    calls = {
        Callback(name): tuple(maybe_signature(each, app=app) for each in given)
        for name, given in spec["callbacks"].items()
    }
    if not request.is_eager:  # whoever runs the chain in place sees what has become of the batch
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
    """The callbacks of a link's batch, and those that end the link."""
    rest = [maybe_signature(each, app=app) for each in reversed(request.chain or [])]
    request.chain = None
    place = membership.read(request.headers)
    options = {"headers": membership.with_places(None, *place)}
    done = app.signature(DONE, args=(request.id,), immutable=True, options=options)
    ends = {
        Callback.FINALLY if failures_allowed else Callback.THEN: _chain(done, *rest, app=app)
        if rest
        else done
    }
    if not failures_allowed:
        ends[Callback.CATCH] = app.signature(
            BROKE, args=(request.id,), immutable=True, options=options
        )
        places = [each.header() for each in place]
        ends[Callback.FINALLY] = app.signature(FELL, args=(request.id, places), immutable=True)
    return calls | {callback: (*calls.get(callback, ()), end) for callback, end in ends.items()}


def batch_done(batch: str) -> str:
    """The link is done: the next one gets the batch's id."""
    return batch


def batch_broke(batch: str) -> None:
    """A member of the link's batch has failed, and so has the link."""
    raise JobFailedError(f"a member of batch {batch!r} has failed")


def batch_fell(self: Any, batch: str, places: list[Any]) -> None:
    """The link's batch has ended. If it was cancelled, or members have expired, so was the link:
    nothing follows.
    """
    way = delivery_of(self.app)
    row = batches.find(way.store, batch)
    if row is None or row.tally.failed_at is not None or row.tally.completed_at is not None:
        return
    ends = membership.member_ends(
        {membership.MEMBER_HEADER: places}, batch, batch_counts.CANCELLED, None
    )
    way.write_with_retry(batches.prepare_ends(ends, way.hand_in))
    way.after_commit(
        *{found.connection for end in ends if (found := batches.find(way.store, end.batch))}
    )
