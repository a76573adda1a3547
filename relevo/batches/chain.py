"""Chains: one job after the other, each with what the one before returned; known, counted and ended
like a batch.

    app.chain(pay.s(7), reserve.s(), confirm.s()).catch(refund.si(7)).on_queue("orders").dispatch()

Every link is a member that counts for itself. A link that fails, or is cancelled, ends the chain:
`catch`, then `finally_`. If it is put back by hand and completes, the chain goes on from there, and
`then` runs after all.

A batch may be a link: it opens when its turn comes, and the next link gets its id when it has
completed.

    open: row, receipt and first job in one transaction a link has completed -> `handed_on`, in the
    pool's process: the next one, once, however often this one runs
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

from relevo.batches import dispatch as launch
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
        """With further links behind the others; None is left out, so a link may depend on
        something.
        """
        return replace(self, links=self.links + links)

    def name(self, name: str) -> Self:
        """What people know it by."""
        return self._as_batch(self._batch.name(name))

    def catch(self, signature: Signature) -> Self:
        """Hand this in when a link has failed: it gets the chain's id."""
        return self._as_batch(self._batch.catch(signature))

    def then(self, signature: Signature) -> Self:
        """Hand this in when the last link has completed."""
        return self._as_batch(self._batch.then(signature))

    def finally_(self, signature: Signature) -> Self:
        """Hand this in when the chain has ended, however."""
        return self._as_batch(self._batch.finally_(signature))

    def on_queue(self, name: str) -> Self:
        """Links and callbacks go to this queue, unless they have one of their own."""
        return self._as_batch(self._batch.on_queue(name))

    def on_connection(self, name: str) -> Self:
        """The chain begins on the broker of this connection, and its workers go on with it."""
        return self._as_batch(self._batch.on_connection(name))

    # what it is called everywhere
    def dispatch(self, *, session: Any = None, id: str | None = None) -> Batch:  # noqa: A002
        """Send the first link. Returns the chain, as a batch whose members are its links.

        With `session` it exists if and only if that session commits. With an `id` a second dispatch
        does nothing.
        """
        launch.check_id(id)
        return Batch(self.app, self.app.send_chain(self, id or uuid(), session))

    @property
    def _batch(self) -> NewBatch:
        return NewBatch(
            self.app, (), self.called, False, self.callbacks, self.queue, self.connection
        )

    def _as_batch(self, said: NewBatch) -> Self:
        return replace(
            self,
            called=said.called,
            callbacks=said.callbacks,
            queue=said.queue,
            connection=said.connection,
        )


def dispatch(new: NewChain, id_: str, session: Any = None) -> BatchRow:
    """Send a chain. Returns it as it then is."""
    way, links = delivery_of(new.app), links_of(new)
    row = row_of(new, id_, len(links))
    chain = member_jobs.with_links(
        _chain(*links, app=new.app),
        [Membership(id_, n, each=True) for n in range(len(links))],
        member_jobs.options_of(new.app, row.queue, row.connection),
    )
    member_jobs.check_connection(chain, row.connection)
    [first] = captured_jobs(new.app, chain)

    def open_(connection: Connection) -> None:
        if launch.open_with(connection, way.hand_in, row):
            way.hand_in(connection, [outbox_entry(first, row.connection, unique_key=None)])

    if session is not None:
        open_(transactions.store_connection(way, session))
        transactions.after_commit(session, lambda: way.after_commit(row.connection))
        return row
    way.store.write(open_)
    way.after_commit(row.connection)
    return batches.find(way.store, id_) or row


def row_of(new: NewChain, id_: str, links: int) -> BatchRow:
    """The row of a chain of so many links."""
    row = launch.row_of(new._batch, id_)  # noqa: SLF001  its other half
    return replace(row, name=new.called or "chain", tally=Tally(kind=Kind.CHAIN, total=links))


def links_of(new: NewChain) -> list[Signature]:
    """The links of a chain in the making. Raises OptionError for what can't be one, or if there is
    none.
    """
    links = [_link(new.app, each) for each in new.links if each is not None]
    if not links:
        raise OptionError("expected a chain of at least one link, got none")
    return links


def _link(app: Any, link: Any) -> Signature:
    if isinstance(link, NewBatch):
        return nested.signature(app, link)
    if isinstance(link, Signature) and link.subtask_type is None:
        return link
    hint = "; write task.s()" if hasattr(link, "s") else ""
    raise OptionError(
        f"expected a link of a chain to be a signature or a batch, got {link!r}{hint}"
    )


# --- in the pool's process ------------------------------------------------------------------------
def is_handing_on(options: Mapping[str, Any]) -> bool:
    """Whether what is being sent is the link that follows the job which runs just now, a member."""
    if "chain" not in options or not options.get("task_id"):
        return False
    task = celery.current_task
    request = task.request if task else None
    return bool(  # what replaces a job has its id, and is no next link
        request is not None
        and not request.is_eager
        and options["task_id"] != request.id == options.get("parent_id")
        and membership.read(options.get("headers") or {})
    )


def handed_on(app: Any, send: Callable[[], Any]) -> Any:
    """Send the next link, once: a link that is delivered twice hands on the same one.

    Each link once, that is, not each id: what replaces a link ends under its id, and that has been
    handed on before. While the store is away it is tried again; a link that can't hand on has
    failed, and goes on when it is put back.
    """
    with capture() as captured:
        result = send()
        jobs, connections = captured.pop_jobs(), captured.connections
    way, own = delivery_of(app), app.settings.queue_connection
    link = celery.current_task.request.id
    sendings = [
        outbox_entry(
            job, connections.get(job.id, own), once=f"link:{job.id}:{link}", unique_key=None
        )
        for job in jobs
    ]
    try:
        way.write_with_retry(lambda connection: way.hand_in(connection, sendings))
    except DriverUnavailableError as error:
        raise OperationalError(f"the next link could not be handed in: {error}") from error
    way.after_commit(*(each.connection for each in sendings))
    return result
