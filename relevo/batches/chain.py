"""Chains: one job after the other, each with the result of the one before. The store counts the
links like the members of a batch.

    app.chain(pay.s(7), reserve.s(), confirm.s()).catch(refund.si(7)).on_queue("orders").dispatch()

Every link is a member that counts for itself. A link that fails or is cancelled ends the chain:
`catch` and `finally_` are handed in. If that link is retried by hand and completes, the chain goes
on from there, and `then` runs after all.

A batch may be a link (nested.py): it is dispatched when its turn comes, and the next link gets its
id when it has completed.

    dispatch()            the chain's row, its receipt and the first job, in one transaction
    dispatch_next_link()  in the pool's process, when a link has completed: sends the next link
                          once, also if the completed link runs twice
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import celery
from celery.canvas import Signature, _chain
from celery.utils import uuid
from kombu.exceptions import OperationalError
from sqlalchemy import Connection

from relevo.batches import dispatch as batch_dispatch
from relevo.batches import member_jobs, nested
from relevo.batches.batch import Batch, NewBatch
from relevo.dispatch import transactions
from relevo.dispatch.capture import capture, captured_jobs
from relevo.dispatch.delivery import delivery_of, outbox_entry
from relevo.errors import DriverUnavailableError, OptionError
from relevo.job import membership
from relevo.job.membership import Membership
from relevo.store import batches
from relevo.store.batch_counts import Callback, Kind, Tally
from relevo.store.batches import BatchRow


@dataclass(frozen=True, slots=True)
class NewChain:
    """A chain in the making. Nothing is sent until `dispatch`."""

    app: Any
    links: tuple[Any, ...]
    called: str = ""
    callbacks: Mapping[Callback, tuple[Signature, ...]] = field(default_factory=dict)
    queue: str | None = None
    connection: str | None = None

    def add(self, *links: Any) -> Self:
        """Append links. None is left out, so a link may be conditional."""
        return replace(self, links=self.links + links)

    def name(self, name: str) -> Self:
        """Give it a name for people."""
        return self._as_batch(self._batch.name(name))

    def catch(self, signature: Signature) -> Self:
        """Hand this in when a link has failed. It gets the chain's id, like each callback, and the
        error as a batch's does.
        """
        return self._as_batch(self._batch.catch(signature))

    def then(self, signature: Signature) -> Self:
        """Hand this in when the last link has completed."""
        return self._as_batch(self._batch.then(signature))

    def finally_(self, signature: Signature) -> Self:
        """Hand this in when the chain has ended: completed, failed or cancelled."""
        return self._as_batch(self._batch.finally_(signature))

    def on_queue(self, name: str) -> Self:
        """Send links and callbacks to this queue, unless they name one themselves."""
        return self._as_batch(self._batch.on_queue(name))

    def on_connection(self, name: str) -> Self:
        """Send the first link to the broker of this connection. Its workers send the next ones."""
        return self._as_batch(self._batch.on_connection(name))

    def dispatch(self, *, session: Any = None, id: str | None = None) -> Batch:  # noqa: A002
        """Send the first link. Returns the chain, as a batch whose members are its links.

        With `session` it exists if and only if that session commits. With an `id` a second dispatch
        does nothing.
        """
        batch_dispatch.check_id(id)
        return Batch(self.app, self.app.send_chain(self, id or uuid(), session))

    @property
    def _batch(self) -> NewBatch:
        return NewBatch(
            self.app, (), self.called, False, self.callbacks, self.queue, self.connection
        )

    def _as_batch(self, batch: NewBatch) -> Self:
        return replace(
            self,
            called=batch.called,
            callbacks=batch.callbacks,
            queue=batch.queue,
            connection=batch.connection,
        )


def dispatch(new: NewChain, id_: str, session: Any = None) -> BatchRow:
    """Send a chain. Returns its row after that."""
    delivery, links = delivery_of(new.app), as_links(new)
    row = build_row(new, id_, len(links))
    chain = member_jobs.place_links(
        _chain(*links, app=new.app),
        [Membership(id_, n, each=True) for n in range(len(links))],
        member_jobs.options_of(new.app, row.queue, row.connection),
    )
    member_jobs.check_connection(chain, row.connection)
    [first] = captured_jobs(new.app, chain)

    def open_(connection: Connection) -> None:
        if batch_dispatch.create(connection, delivery.hand_in, row):
            delivery.hand_in(connection, [outbox_entry(first, row.connection, unique_key=None)])

    if session is not None:
        connection = transactions.store_connection(delivery, session)
        with transactions.handing_in(delivery, session, [row.connection]):
            open_(connection)
        return row
    delivery.store.write(open_)
    delivery.after_commit(row.connection)
    return batches.find(delivery.store, id_) or row


def build_row(new: NewChain, id_: str, links: int) -> BatchRow:
    """The row of a chain with this number of links."""
    row = batch_dispatch.build_row(new._batch, id_)  # noqa: SLF001
    return replace(row, name=new.called or "chain", tally=Tally(kind=Kind.CHAIN, total=links))


def as_links(new: NewChain) -> list[Signature]:
    """The links of a new chain. Raises OptionError for none, or for an object that can't be one."""
    links = [_as_link(new.app, each) for each in new.links if each is not None]
    if not links:
        raise OptionError("expected a chain of at least one link, got none")
    return links


def _as_link(app: Any, link: Any) -> Signature:
    if isinstance(link, NewBatch):
        return nested.signature(app, link)
    if isinstance(link, Signature) and link.subtask_type is None:
        return link
    hint = "; write task.s()" if hasattr(link, "s") else ""
    raise OptionError(
        f"expected a link of a chain to be a signature or a batch, got {link!r}{hint}"
    )


# --- in the pool's process ------------------------------------------------------------------------
def is_next_link(options: Mapping[str, Any]) -> bool:
    """Whether the job that is dispatched with these options of `apply_async` is the link after the
    running job, and the running job is a member.
    """
    if "chain" not in options or not options.get("task_id"):
        return False
    task = celery.current_task
    request = task.request if task else None
    return bool(  # a replacement has the id of the running job, and is no next link
        request is not None
        and not request.is_eager
        and options["task_id"] != request.id == options.get("parent_id")
        and membership.read(options.get("headers") or {})
    )


def dispatch_next_link(app: Any, send: Callable[[], Any]) -> Any:
    """Send the next link once, also when the running link is delivered twice.

    The receipt names both links: a replacement of the running link ends under the same id, and
    sends its own next link. While the store is away this tries again. If it gives up, the running
    link has failed, and the chain goes on when that is retried.
    """
    with capture() as captured:
        result = send()
        jobs, connections = captured.pop_jobs(), captured.connections
    delivery, own = delivery_of(app), app.settings.queue_connection
    link = celery.current_task.request.id
    sendings = [
        outbox_entry(
            job, connections.get(job.id, own), once=f"link:{job.id}:{link}", unique_key=None
        )
        for job in jobs
    ]
    try:
        delivery.write_with_retry(lambda connection: delivery.hand_in(connection, sendings))
    except DriverUnavailableError as error:
        raise OperationalError(f"the next link could not be handed in: {error}") from error
    delivery.after_commit(*(each.connection for each in sendings))
    return result
