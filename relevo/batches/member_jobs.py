"""The jobs of a batch's members, made one after the other as they are read."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import celery
from celery.canvas import Signature, _chain

from relevo.batches.message_template import Press
from relevo.dispatch.capture import captured_jobs
from relevo.drivers.values import NewJob
from relevo.errors import OptionError
from relevo.job import membership
from relevo.job.membership import Membership
from relevo.store.batches import BatchRow

# So many members are put in one step.
PAGE = 1000
# Members that are added are numbered from here on: the dispatch, which may be under way, goes on
# with its own numbers.
ADDED = 1_000_000_000


def pages(app: Any, row: BatchRow, given: Iterable[Any], start: int) -> Iterator[list[NewJob]]:
    """The jobs of members from number `start` on, in pages."""
    press = Press(app, options_of(app, row.queue, row.connection))
    numbered = (
        job_of(press, app, row, member, start + number) for number, member in enumerate(given)
    )
    return batched(numbered, PAGE)


def job_of(press: Press, app: Any, row: BatchRow, member: Any, number: int) -> NewJob:
    """The job of a member: of its first link, if it is a chain."""
    place, uuid = Membership(row.id, number), f"{row.id}.{number}"
    signature = member_of(app, member)
    check_connection(signature, row.connection)
    if not isinstance(signature, _chain):
        return press.job(signature, uuid, place)
    options = options_of(app, row.queue, row.connection)
    [job] = captured_jobs(app, with_links(signature, [place] * len(signature.tasks), options))
    return replace(job, unique_key=None)


def member_of(app: Any, member: Any) -> Signature:
    """A member as a signature. Raises OptionError for what can't be one."""
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


def with_first(signature: Signature, argument: Any) -> Signature:
    """A copy that gets this as its first argument; of a chain its first link: Celery's copy forgets
    a chain's own.
    """
    if not isinstance(signature, _chain):
        return signature.clone(args=(argument,))
    first, *rest = signature.tasks
    return _chain(first.clone(args=(argument,)), *rest, app=signature.app, **signature.options)


def options_of(app: Any, queue: str | None, connection: str) -> dict[str, Any]:
    """What a batch says of where its jobs go; what a job says for itself comes first."""
    options = {"queue": queue} if queue else {}
    return (
        options
        if connection == app.settings.queue_connection
        else {**options, "connection": connection}
    )


def check_connection(signature: Any, connection: str) -> None:
    """Raise OptionError for a job that wants to go to another broker than its batch."""
    for each in signature.tasks if isinstance(signature, _chain) else [signature]:
        wanted = each["options"].get("connection")
        if wanted is not None and wanted != connection:
            raise OptionError(
                f"expected a job for the connection of its batch, {connection!r}, got one for {wanted!r}"
            )


def with_links(chain: Any, places: Sequence[Membership], options: dict[str, Any]) -> Any:
    """A chain whose links know their places, with the options that they don't have themselves."""
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


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Items in lists of `size`."""
    waiting = iter(items)
    while page := list(itertools.islice(waiting, size)):
        yield page
