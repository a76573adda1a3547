"""Batches: many jobs as one, with a name, progress, callbacks, and exact counts.

    members = (resize.s(n) for n in files)
    made = app.batch(members).name("import").allow_failures().then(done.s()).dispatch()
    app.batches.find(made.id).percent

| callback | is handed in |
|---|---|
| `before` | before the members |
| `progress` | whenever another percent of the members has ended |
| `then` | once, when every member has completed |
| `catch` | once, when the first member has failed |
| `allow_failures` | for each member that has failed |
| `finally_` | once, when all members have ended |

Callbacks are signatures, and get the batch's id as their first argument; an immutable one, `.si()`,
does not. Those of a failure get `error` and `job_id`, too, if their tasks have such parameters.

    batches/dispatch.py   puts the members into the broker, page by page
    store/batches.py      counts them, in the transaction that records their end
    dispatch/delivery.py  hands the callbacks in, in the same transaction
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

from celery.canvas import Signature
from celery.utils import uuid

from relevo.batches import dispatch as batch_dispatch
from relevo.batches.spec import BatchSpec
from relevo.dispatch.delivery import delivery_of
from relevo.errors import BatchError, OptionError
from relevo.operations import retry
from relevo.store import batches
from relevo.store.batch_counts import Callback
from relevo.store.batches import BatchRow
from relevo.store.failed import Filter


@dataclass(frozen=True, slots=True)
class NewBatch(BatchSpec):
    """A batch in the making. Nothing is sent until `dispatch`."""

    def name(self, name: str) -> Self:
        """Give it a name for people."""
        if not isinstance(name, str) or not name:
            raise OptionError(f"expected the name of a batch to be a text, got {name!r}")
        return replace(self, called=name)

    def allow_failures(self, allowed: bool | Signature = True) -> Self:
        """Let the other members run when one has failed. Otherwise the first failure cancels the
        batch.

        A signature is handed in for each member that has failed.
        """
        if isinstance(allowed, int):
            return replace(self, failures_allowed=bool(allowed))
        return replace(self._calling(Callback.FAILURE, allowed), failures_allowed=True)

    def before(self, signature: Signature) -> Self:
        """Hand this in before the members."""
        return self._calling(Callback.BEFORE, signature)

    def progress(self, signature: Signature) -> Self:
        """Hand this in whenever another percent of the members has ended."""
        return self._calling(Callback.PROGRESS, signature)

    def then(self, signature: Signature) -> Self:
        """Hand this in when every member has completed."""
        return self._calling(Callback.THEN, signature)

    def catch(self, signature: Signature) -> Self:
        """Hand this in when the first member has failed. A task with a parameter `error` gets its
        error as text, one with `job_id` the id of its job.
        """
        return self._calling(Callback.CATCH, signature)

    def finally_(self, signature: Signature) -> Self:
        """Hand this in when every member has ended: completed, failed or cancelled."""
        return self._calling(Callback.FINALLY, signature)

    def on_queue(self, name: str) -> Self:
        """Send members and callbacks to this queue, unless they name one themselves."""
        if not isinstance(name, str) or not name:
            raise OptionError(f"expected the name of a queue, got {name!r}")
        return replace(self, queue=name)

    def on_connection(self, name: str) -> Self:
        """Send members and callbacks to the broker of this connection. Raises SettingsError for an
        unknown one.
        """
        delivery_of(self.app).url_of(name)
        return replace(self, connection=name)

    def dispatch(self, *, session: Any = None, id: str | None = None) -> Batch:  # noqa: A002
        """Send the members, in bounded memory however many there are. Returns the batch.

        With `session` (of SQLAlchemy) the batch exists if and only if that session commits. It is
        one transaction then, so don't send a hundred thousand members that way. With an `id` the
        same dispatch may be repeated: it completes a batch that was sent in part.
        """
        batch_dispatch.check_id(id)
        return Batch(self.app, self.app.send_batch(self, id or uuid(), session))

    def _calling(self, callback: Callback, signature: Signature) -> Self:
        batch_dispatch.check_callback(callback, signature)
        calls = (*self.callbacks.get(callback, ()), signature)
        return replace(self, callbacks={**self.callbacks, callback: calls})


class Batch:
    """A dispatched batch, as it was when it was read from the store. `refresh` reads it again."""

    def __init__(self, app: Any, row: BatchRow) -> None:
        self.app, self.row = app, row

    def __repr__(self) -> str:
        return f"<Batch {self.id} {self.name!r}: {self.processed} of {self.total}>"

    id = property(lambda self: self.row.id, doc="Its id.")
    name = property(lambda self: self.row.name, doc="Its name for people.")
    kind = property(lambda self: self.row.tally.kind.value, doc="batch, chain or chord.")
    queue = property(
        lambda self: self.row.queue, doc="The queue of its members, if the batch names one."
    )
    connection = property(lambda self: self.row.connection, doc="The connection of its members.")
    total = property(lambda self: self.row.tally.total, doc="How many members it has so far.")
    pending = property(lambda self: self.row.tally.pending, doc="How many have not ended.")
    processed = property(lambda self: self.row.tally.processed, doc="How many have ended.")
    completed = property(lambda self: self.row.tally.completed, doc="How many have completed.")
    failed = property(
        lambda self: self.row.tally.failed,
        doc="How many have failed, and have not completed in a later retry.",
    )
    dropped = property(
        lambda self: self.row.tally.cancelled, doc="How many were cancelled or have expired."
    )
    percent = property(lambda self: self.row.tally.percent, doc="The percentage that has ended.")
    finished = property(
        lambda self: self.row.tally.finished_at is not None, doc="Whether all members have ended."
    )
    cancelled = property(
        lambda self: self.row.tally.cancelled_at is not None, doc="Whether it was cancelled."
    )
    created_at = property(lambda self: self.row.created_at, doc="POSIX seconds.")
    finished_at = property(lambda self: self.row.tally.finished_at, doc="POSIX seconds, or None.")
    cancelled_at = property(lambda self: self.row.tally.cancelled_at, doc="POSIX seconds, or None.")
    failed_at = property(
        lambda self: self.row.tally.failed_at, doc="When the first member failed, or None."
    )

    def refresh(self) -> Self:
        """Read it again from the store. Raises BatchError when it was pruned meanwhile."""
        row = batches.find(delivery_of(self.app).store, self.id)
        if row is None:
            raise BatchError(f"no batch with the id {self.id!r}: it was pruned")
        self.row = row
        return self

    def add(self, members: Iterable[Any]) -> Self:
        """Add members while it runs. Raises BatchError when it has finished or was cancelled.

        A member may add others to its own batch. If that member is redelivered and runs twice, its
        second run adds nothing.
        """
        self.row = self.app.add_members(self.row, members)
        return self

    def cancel(self) -> Self:
        """Drop the members that have not started. Running ones can read `cancelled`."""
        self.row = batch_dispatch.cancel(self.app, self.row.id)
        return self

    def retry_failed(self) -> int:
        """Retry its failed members. Returns how many. A member that completes then counts so."""
        return retry.retry_failed(self.app, delivery_of(self.app).store, Filter(batch=self.id))

    def as_dict(self) -> dict[str, Any]:
        """All of its properties, for JSON."""
        names = (
            "id",
            "name",
            "kind",
            "connection",
            "queue",
            "total",
            "pending",
            "processed",
            "completed",
            "failed",
            "dropped",
            "percent",
            "finished",
            "cancelled",
            "created_at",
            "failed_at",
            "cancelled_at",
            "finished_at",
        )
        return {name: getattr(self, name) for name in names}


class Batches:
    """The batches of an app: `app.batches`."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def find(self, id: str) -> Batch | None:  # noqa: A002
        """The batch with this id, or None."""
        row = batches.find(delivery_of(self.app).store, id)
        return Batch(self.app, row) if row is not None else None

    def page(
        self, *, before: Batch | tuple[float, str] | None = None, limit: int = batches.PAGE
    ) -> list[Batch]:
        """Batches, newest first. The next page is `before` the last batch of this one (or its
        `created_at` and `id`).
        """
        if not isinstance(limit, int) or limit < 0:
            raise OptionError(f"expected limit to be 0 or more, got {limit!r}")
        before = (before.created_at, before.id) if isinstance(before, Batch) else before
        rows = batches.page(delivery_of(self.app).store, before=before, limit=limit)
        return [Batch(self.app, row) for row in rows]

    def prune(self, *, finished: float, unfinished: float | None = None) -> int:
        """Delete batches that finished before an instant, and batches without an end that began
        before another. Instants are POSIX seconds. Returns how many.
        """
        for instant in (finished, 0.0 if unfinished is None else unfinished):
            if not isinstance(instant, (int, float)) or not math.isfinite(instant):
                raise OptionError(f"expected an instant in POSIX seconds, got {instant!r}")
        return batches.prune(delivery_of(self.app).store, finished=finished, unfinished=unfinished)
