"""Makes the jobs of a batch's members, one by one as the members are read.

`dispatch.py` asks for pages of them. Nothing is sent here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import celery
from celery.canvas import Signature, _chain

from relevo.batches.message_factory import MessageFactory
from relevo.dispatch.capture import captured_jobs
from relevo.drivers.values import NewJob
from relevo.errors import OptionError
from relevo.job import membership
from relevo.job.membership import Membership
from relevo.store.batches import BatchRow

# The number of members that are put in one step.
PAGE = 1000
# Added members are numbered from here on: the dispatch, which may still run, counts from 0.
FIRST_ADDED = 1_000_000_000


def member_pages(
    app: Any, row: BatchRow, given: Iterable[Any], start: int
) -> Iterator[list[NewJob]]:
    """The jobs of members from number `start` on, in pages."""
    factory = MessageFactory(app, options_of(app, row.queue, row.connection))
    numbered = (
        member_job(factory, app, row, member, start + number) for number, member in enumerate(given)
    )
    return chunked(numbered, PAGE)


def member_job(
    factory: MessageFactory, app: Any, row: BatchRow, member: Any, number: int
) -> NewJob:
    """The job of a member; for a chain, the job of its first link."""
    place, uuid = Membership(row.id, number), f"{row.id}.{number}"
    signature = as_member(app, member)
    check_connection(signature, row.connection)
    if not isinstance(signature, _chain):
        return factory.build(signature, uuid, place)
    options = options_of(app, row.queue, row.connection)
    [job] = captured_jobs(app, place_links(signature, [place] * len(signature.tasks), options))
    return replace(job, unique_key=None)


def as_member(app: Any, member: Any) -> Signature:
    """A member as a signature; a list or tuple is a chain. Raises OptionError for anything else."""
    if isinstance(member, (list, tuple)) and member:
        member = celery.chain(*member, app=app)
    if isinstance(member, Signature) and (
        isinstance(member, _chain) or member.subtask_type is None
    ):
        return member
    hint = "; write task.s()" if hasattr(member, "s") else ""
    raise OptionError(
        f"expected a member of a batch to be a signature or a chain, got {member!r}{hint}"
    )


def prepend_argument(signature: Signature, argument: Any) -> Signature:
    """A copy of a signature with one more argument in front.

    Of a chain the first link gets it: Celery's own `clone` forgets the arguments of a chain.
    """
    if not isinstance(signature, _chain):
        return signature.clone(args=(argument,))
    first, *rest = signature.tasks
    return _chain(first.clone(args=(argument,)), *rest, app=signature.app, **signature.options)


def options_of(app: Any, queue: str | None, connection: str) -> dict[str, Any]:
    """The queue and connection that a batch gives to its jobs. A job's own options go before."""
    options = {"queue": queue} if queue else {}
    return (
        options
        if connection == app.settings.queue_connection
        else {**options, "connection": connection}
    )


def check_connection(signature: Any, connection: str) -> None:
    """Raise OptionError for a job that names another connection than its batch."""
    for each in signature.tasks if isinstance(signature, _chain) else [signature]:
        wanted = each["options"].get("connection")
        if wanted is not None and wanted != connection:
            raise OptionError(
                f"expected a job for the connection of its batch, {connection!r},"
                f" got one for {wanted!r}"
            )


def place_links(chain: Any, places: Sequence[Membership], options: dict[str, Any]) -> Any:
    """A chain whose links carry their places, and these options where they have none."""
    links = []
    for link, place in zip(chain.tasks, places, strict=True):
        if link.subtask_type is not None:
            raise OptionError(
                f"expected the links of a chain in a batch to be single jobs, got {link!r}"
            )
        copy = link.clone()
        copy.options["headers"] = membership.with_places(copy.options.get("headers"), place)
        copy.options |= {
            name: value for name, value in options.items() if not copy.options.get(name)
        }
        links.append(copy)
    return _chain(*links, app=chain.app, **chain.options)


def chunked(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """The items in lists of `size`; the last one may be shorter."""
    waiting = iter(items)
    while page := list(itertools.islice(waiting, size)):
        yield page
