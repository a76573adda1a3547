"""Celery's chord, counted by us: no polling, a row among the batches, and a body that is dispatched
once.

    chord([a.s(), b.s()], body.s()).apply_async()

    dispatch    Celery makes all messages; the chord's row and its header's jobs are one transaction (`hand_in`)
    a member has ended -> its row in relevo_members, the counts, and at the last one the job `relevo.chord`:
                one transaction of the recorder (`store/batches.py`), as with a batch
    relevo.chord (joining.py)   reads the results and hands the body in, or calls the error callbacks

A chord inside a chord is part of the same transaction when it is in the header, and of the body's
when it is the body. Apps without a store, and results that are kept neither in a database nor in
Redis, have Celery's own chords.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from celery.canvas import Signature, _chord
from celery.result import GroupResult
from celery.utils.functional import _regen
from sqlalchemy import Connection

from relevo import clock
from relevo.dispatch.capture import capture, captured_jobs, current_producer
from relevo.dispatch.delivery import Delivery, delivery_of, outbox_entry
from relevo.drivers import message_codec
from relevo.drivers.values import NewJob
from relevo.errors import BatchError, OptionError
from relevo.job.membership import CHORD_OPTION, CHORD_TASK
from relevo.store import batches, receipts
from relevo.store.batch_counts import Callback, Kind, Tally
from relevo.store.batches import BatchRow

_mine = threading.local()


@dataclass(slots=True)
class Opened:
    """A chord that is being dispatched: its id is its group's. `results`: of its header's jobs, in
    their order.
    """

    id: str
    body: Signature
    results: Any
    total: int = 0

    def tree(self, jobs: Sequence[NewJob]) -> list[Any] | None:
        """The ids of the header's jobs, where groups among them make lists of lists of their
        results.

        A generator's groups have no ids of their own in Celery's results: theirs is the order in
        which they were sent.
        """
        results = list(self.results)
        if not any(isinstance(each, GroupResult) for each in results):
            return None
        if not isinstance(self.results, _regen):
            return _ids(results)
        sent = [
            job.id for job in jobs if message_codec.headers_of(job.payload).get("group") == self.id
        ]
        return sent if len(sent) == self.total else None


@dataclass(slots=True)
class Together:
    """What a dispatch has brought about: chords, the outermost first, and jobs, some of them for
    other connections.
    """

    chords: list[Opened] = field(default_factory=list)
    jobs: list[NewJob] = field(default_factory=list)
    connections: dict[str, str] = field(default_factory=dict)


def register_chords() -> None:
    """Make Celery's chords go by here."""
    if _chord.run is not run:
        _chord.run = run


def run(
    self: Any,
    header: Any,
    body: Signature,
    partial_args: Any,
    app: Any = None,
    *rest: Any,
    **options: Any,
) -> Any:
    """Celery's `chord.run`, in one transaction where the chord is counted by us."""
    app = app or self._get_app(body)
    if not is_counted(app) or opening() is not None:
        return _celerys_run(self, header, body, partial_args, app, *rest, **options)
    if current_producer() is not None:
        raise OptionError(f"expected a single job or a chain, got a chord: {self!r}")
    with together() as found:
        result = _celerys_run(self, header, body, partial_args, app, *rest, **options)
    way = delivery_of(app)
    way.store.write(lambda connection: hand_in(connection, way, found))
    way.after_commit(*(_connection(app, found, job) for job in found.jobs))
    return result


def is_counted(app: Any) -> bool:
    """Whether chords of this app are ours to count."""
    faked = "send_task" in vars(app)  # relevo.testing: nothing goes anywhere
    return hasattr(app, "settings") and not faked and getattr(app.backend, "counts_chords", False)


@contextmanager
def together() -> Iterator[Together]:
    """Within the block, what this thread dispatches is collected, chords and all; behind it, it is
    there.
    """
    found = Together()
    with capture() as captured:
        _mine.opening = found.chords
        try:
            yield found
        finally:
            _mine.opening = None
        found.jobs, found.connections = captured.pop_jobs(), captured.connections


def hand_in(connection: Connection, way: Delivery, found: Together) -> None:
    """Write chords and jobs in a transaction of the store.

    A chord that was dispatched before (a link of Celery's chain, delivered twice) is left as it is:
    nothing is sent.
    """
    app = way.app
    rows = [row_of(app, chord, found.jobs) for chord in found.chords]
    if rows and not receipts.insert_once(connection, f"batch:{rows[0].id}"):
        return
    for row in rows:
        batches.create(connection, row)
    # A member that was left out as a duplicate would never end.
    way.hand_in(
        connection,
        [outbox_entry(job, _connection(app, found, job), unique_key=None) for job in found.jobs],
    )
    for row in rows:
        if not row.tally.total:
            batches.update_counts(connection, row.id, way.hand_in, lambda opened: opened.tally)


def row_of(app: Any, chord: Opened, jobs: Sequence[NewJob]) -> BatchRow:
    """The row of a chord: a batch whose one callback ends it."""
    first = _first(chord.body)
    join = app.signature(CHORD_TASK, args=(chord.id, chord.body, chord.tree(jobs)), immutable=True)
    name = app.settings.queue_connection
    told = repr((chord.id,))  # and not the body, whose arguments may be nobody else's business
    [job] = captured_jobs(
        app, join, task_id=f"{chord.id}.joined", argsrepr=told, **_way_of(app, first)
    )
    return BatchRow(
        id=chord.id,
        name=str(first.get("task") or "chord"),
        connection=name,
        queue=None,
        callbacks={Callback.FINALLY.value: [outbox_entry(job, name).as_json()]},
        created_at=clock.now(),
        tally=Tally(kind=Kind.CHORD, total=chord.total),
    )


# --- what Celery tells the result backend (results.py) --------------------------------------------
def opening() -> list[Opened] | None:
    """The chords that this thread is dispatching together, or None."""
    found: list[Opened] | None = getattr(_mine, "opening", None)
    return found


def opened(id_: str, results: Any, body: Signature) -> bool:
    """A chord begins. Returns whether it is counted by us; its body, which its members are about to
    carry, says so.
    """
    chords = opening()
    if chords is None:
        return False
    body.options[CHORD_OPTION] = True
    chords.append(Opened(id_, body, results))
    return True


def sized(id_: str, total: int) -> bool:
    """A chord that has begun has so many members. Returns whether it is one of ours."""
    for chord in opening() or ():
        if chord.id == id_:
            chord.total = total
            return True
    return False


def grown(app: Any, id_: str, uuid: str) -> bool:
    """A chord gets one more member, this job. Returns whether it is one of ours. Raises BatchError
    when it is over.
    """
    if not is_counted(app):
        return False
    way = delivery_of(app)

    def grow(row: BatchRow) -> Tally:
        if row.tally.finished_at is not None:
            raise BatchError(f"chord {id_!r} has finished: nothing can be added to it")
        return replace(row.tally, total=row.tally.total + 1)

    def write(connection: Connection) -> bool:
        known = batches.exists(connection, id_)
        if known and receipts.insert_once(connection, f"added:{id_}:{uuid}"):
            batches.update_counts(connection, id_, way.hand_in, grow)
        return known

    return bool(way.store.write(write))


def _connection(app: Any, found: Together, job: NewJob) -> str:
    return found.connections.get(job.id, str(app.settings.queue_connection))


def _ids(results: Any) -> list[Any]:
    return [_ids(each.results) if isinstance(each, GroupResult) else each.id for each in results]


def _first(body: Any) -> Any:
    """The first single job of a body, which may be a chain, a group or a chord."""
    kwargs, kind = body.get("kwargs") or {}, body.get("subtask_type")
    inner = kwargs.get("header") if kind == "chord" else kwargs.get("tasks")
    if kind == "chord" and isinstance(inner, dict):
        inner = [inner]
    return _first(inner[0]) if kind is not None and inner else body


def _way_of(app: Any, first: Any) -> dict[str, Any]:
    """Queue and priority of a body's first job: where Celery's own job that polls went."""
    task, name = app.tasks.get(first.get("task")), first.get("task")
    options = {**(task._get_exec_options() if task else {}), **(first.get("options") or {})}  # noqa: SLF001
    said = {
        key: options[key]
        for key in ("queue", "exchange", "routing_key")
        if options.get(key) is not None
    }
    queue = app.amqp.router.route(said, name, task_type=task).get("queue")
    way = {"queue": getattr(queue, "name", queue), "priority": options.get("priority")}
    return {key: value for key, value in way.items() if value is not None}


_celerys_run = _chord.run
