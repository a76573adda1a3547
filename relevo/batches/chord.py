"""Celery's chord, counted by the store: no polling, a row among the batches, one dispatch of the
body.

    chord([a.s(), b.s()], body.s()).apply_async()

    dispatch        Celery makes all messages. The chord's row and its header's jobs are written in
                    one transaction (`store_and_send`).
    a member ends   Its row in relevo_members, the counts, and after the last one the job
                    `relevo.chord` are one transaction of the recorder (store/batches.py).
    relevo.chord    reads the results, and sends the body or its error callbacks (chord_callback.py)

A chord in the header of a chord belongs to the same transaction. A chord that is the body belongs
to the transaction that sends the body. Apps without a store, and result backends other than
databases and Redis, keep Celery's own chords.
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
class PendingChord:
    """A chord that is being dispatched. Its id is the id of its group. `results`: Celery's results
    of the header's jobs, in order.
    """

    id: str
    body: Signature
    results: Any
    total: int = 0

    def tree(self, jobs: Sequence[NewJob]) -> list[Any] | None:
        """The ids of the header's jobs, nested as the body gets their results. None: a flat list.

        If the header is a generator, Celery's results have no ids for its groups. Then the ids are
        in the order in which the jobs were sent.
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
class CapturedDispatch:
    """The chords and jobs of one dispatch, the outermost chord first.

    `connections`: job id -> connection, for jobs that name another connection than the app's.
    """

    chords: list[PendingChord] = field(default_factory=list)
    jobs: list[NewJob] = field(default_factory=list)
    connections: dict[str, str] = field(default_factory=dict)


def register_chords() -> None:
    """Replace Celery's `chord.run` by ours, for all apps of the process."""
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
    """Celery's `chord.run`; a chord that the store counts is dispatched in one transaction."""
    app = app or self._get_app(body)
    if not is_counted(app) or current() is not None:
        return _run_by_celery(self, header, body, partial_args, app, *rest, **options)
    if current_producer() is not None:
        raise OptionError(f"expected a single job or a chain, got a chord: {self!r}")
    with capture_chords() as found:
        result = _run_by_celery(self, header, body, partial_args, app, *rest, **options)
    delivery = delivery_of(app)
    delivery.store.write(lambda connection: store_and_send(connection, delivery, found))
    delivery.after_commit(*(_connection(app, found, job) for job in found.jobs))
    return result


def is_counted(app: Any) -> bool:
    """Whether the store counts the chords of this app."""
    faked = "send_task" in vars(app)  # by relevo.testing, which sends nothing
    return hasattr(app, "settings") and not faked and getattr(app.backend, "counts_chords", False)


@contextmanager
def capture_chords() -> Iterator[CapturedDispatch]:
    """Within the block, this thread's dispatches are captured, not sent. The value is filled when
    the block ends.
    """
    found = CapturedDispatch()
    with capture() as captured:
        _mine.current = found.chords
        try:
            yield found
        finally:
            _mine.current = None
        found.jobs, found.connections = captured.pop_jobs(), captured.connections


def store_and_send(connection: Connection, delivery: Delivery, found: CapturedDispatch) -> None:
    """Write chords and jobs in a transaction of the store.

    A chord that was dispatched before stays as it is, and nothing is sent. (A chord in one of
    Celery's chains is dispatched twice if the link before it is delivered twice.)
    """
    app = delivery.app
    rows = [build_row(app, chord, found.jobs) for chord in found.chords]
    if rows and not receipts.insert_once(connection, f"batch:{rows[0].id}"):
        return
    for row in rows:
        batches.create(connection, row)
    # No unique key: a member that was left out as a duplicate would never end.
    delivery.hand_in(
        connection,
        [outbox_entry(job, _connection(app, found, job), unique_key=None) for job in found.jobs],
    )
    for row in rows:
        if not row.tally.total:
            batches.update_counts(connection, row.id, delivery.hand_in, lambda empty: empty.tally)


def build_row(app: Any, chord: PendingChord, jobs: Sequence[NewJob]) -> BatchRow:
    """The row of a chord: a batch with one callback, the job `relevo.chord`."""
    first = _first(chord.body)
    join = app.signature(CHORD_TASK, args=(chord.id, chord.body, chord.tree(jobs)), immutable=True)
    name = app.settings.queue_connection
    told = repr((chord.id,))  # without the body, whose arguments may be redacted
    [job] = captured_jobs(
        app, join, task_id=f"{chord.id}.joined", argsrepr=told, **_route_of(app, first)
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


# --- called by Celery through the result backend (result_backends.py) -----------------------------
def current() -> list[PendingChord] | None:
    """The chords of the dispatch that this thread is capturing, or None."""
    found: list[PendingChord] | None = getattr(_mine, "current", None)
    return found


def begin(id_: str, results: Any, body: Signature) -> bool:
    """Note a chord whose dispatch begins. Returns False for a chord that Celery counts.

    The body gets our mark. Its members carry the body, so the recorder sees it in their messages.
    """
    chords = current()
    if chords is None:
        return False
    body.options[CHORD_OPTION] = True
    chords.append(PendingChord(id_, body, results))
    return True


def set_size(id_: str, total: int) -> bool:
    """Note the number of a chord's members. Returns False for a chord that Celery counts."""
    for chord in current() or ():
        if chord.id == id_:
            chord.total = total
            return True
    return False


def grow(app: Any, id_: str, uuid: str) -> bool:
    """Count one more member of a running chord, this job. Returns False for a chord that Celery
    counts. Raises BatchError when the chord has finished.
    """
    if not is_counted(app):
        return False
    delivery = delivery_of(app)

    def add_one(row: BatchRow) -> Tally:
        if row.tally.finished_at is not None:
            raise BatchError(f"chord {id_!r} has finished: nothing can be added to it")
        return replace(row.tally, total=row.tally.total + 1)

    def write(connection: Connection) -> bool:
        known = batches.exists(connection, id_)
        if known and receipts.insert_once(connection, f"added:{id_}:{uuid}"):
            batches.update_counts(connection, id_, delivery.hand_in, add_one)
        return known

    return bool(delivery.store.write(write))


def _connection(app: Any, found: CapturedDispatch, job: NewJob) -> str:
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


def _route_of(app: Any, first: Any) -> dict[str, Any]:
    """The queue and priority of the body's first job. `relevo.chord` goes there, as Celery's job
    `celery.chord_unlock` does.
    """
    task, name = app.tasks.get(first.get("task")), first.get("task")
    options = {**(task._get_exec_options() if task else {}), **(first.get("options") or {})}  # noqa: SLF001
    said = {
        key: options[key]
        for key in ("queue", "exchange", "routing_key")
        if options.get(key) is not None
    }
    queue = app.amqp.router.route(said, name, task_type=task).get("queue")
    route = {"queue": getattr(queue, "name", queue), "priority": options.get("priority")}
    return {key: value for key, value in route.items() if value is not None}


_run_by_celery = _chord.run
