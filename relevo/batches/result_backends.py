"""Celery's result backends of databases and Redis, with chords that the store counts (chord.py).

Two more things differ from Celery's own:

- SQLite: each step takes the lock that all our writes on SQLite take. A worker's main process
  writes results (of jobs whose process was killed) in one thread while another forks children. A
  child that is forked in the middle of a transaction finds the file locked for its whole life: it
  inherits the lock, and no thread of it ever gives the lock back.
- Redis: only a caller that waits for a result (`get`, `then`, a group) subscribes to it. Celery
  subscribes at every dispatch. So a dispatch saves a round trip, a Redis of results that is away
  stops only the callers that wait for one, and a process that never waits has no subscriptions.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from celery import states
from celery.app.backends import BACKEND_ALIASES
from celery.backends.database import DatabaseBackend, session_cleanup
from celery.backends.database.session import SessionManager
from celery.backends.redis import RedisBackend, SentinelBackend
from sqlalchemy import Connection, Engine

from relevo.batches import chord
from relevo.database.engine import make_engine, sqlite_lock
from relevo.database.text import storable
from relevo.database.upserts import insert_or_replace
from relevo.job.membership import is_marked
from relevo.recording import results
from relevo.recording.results import CapturedResult

if TYPE_CHECKING:
    from celery.backends.base import Backend as _Base
else:
    _Base = object

# The number of results that are read in one step.
PAGE = 500
_BACKENDS = {
    "db": "DatabaseResults",
    "database": "DatabaseResults",
    "redis": "RedisResults",
    "rediss": "RedisResults",
    "sentinel": "SentinelResults",
}
# The methods of DatabaseBackend that open a connection and close it.
_DATABASE_STEPS = (
    "_create_tables",
    "_store_result",
    "_get_task_meta_for",
    "_task_result_exists",
    "_save_group",
    "_restore_group",
    "_delete_group",
    "_forget",
    "_cleanup",
)


def register_backends() -> None:
    """Make these the backends of `db+sqlite://…`, `redis://…` and the like, for all apps."""
    BACKEND_ALIASES.update({scheme: f"{__name__}:{name}" for scheme, name in _BACKENDS.items()})


# --- chords ---------------------------------------------------------------------------------------
class ChordCountingBackend(ABC, _Base):
    """A result backend whose chords the store counts. Chords without our mark are Celery's."""

    counts_chords = True

    def apply_chord(self, header_result_args: Any, body: Any, **options: Any) -> None:
        id_, results = header_result_args
        if not chord.begin(id_, results, body):
            super().apply_chord(header_result_args, body, **options)

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        if not chord.set_size(group_id, chord_size):
            super().set_chord_size(group_id, chord_size)

    def on_chord_part_return(self, request: Any, state: str, result: Any, **options: Any) -> None:
        if not is_marked(request.chord):  # the recorder counts the members of marked chords
            super().on_chord_part_return(request, state, result, **options)

    def mark_as_done(
        self,
        task_id: str,
        result: Any,
        request: Any = None,
        store_result: bool = True,
        state: str = states.SUCCESS,
    ) -> None:
        super().mark_as_done(task_id, result, request, store_result, state)
        if request and is_marked(request.chord) and (not store_result or request.ignore_result):
            # The chord's body needs the result, also of a task that ignores its results.
            self.store_result(task_id, result, state, request=request)

    def mark_as_failure(
        self,
        task_id: str,
        exc: Any,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        super().mark_as_failure(
            task_id, exc, traceback, request, store_result, call_errbacks, state
        )
        if request and is_marked(request.chord) and not store_result:
            self.store_result(task_id, exc, state, traceback=traceback, request=request)

    def add_to_chord(self, chord_id: str, result: Any) -> None:
        if not chord.grow(self.app, chord_id, result.id):
            super().add_to_chord(chord_id, result)

    def results_of(self, ids: Sequence[str]) -> dict[str, Any]:
        """The results of these jobs by their ids. Jobs that have not completed are left out."""
        found: dict[str, Any] = {}
        for start in range(0, len(ids), PAGE):
            found |= self._results_of(ids[start : start + PAGE])
        return found

    @abstractmethod
    def _results_of(self, ids: Sequence[str]) -> dict[str, Any]:
        """The same for one page of ids."""


def _task_of(request: Any) -> str:
    return str(getattr(request, "task", None) or "")


# --- databases ------------------------------------------------------------------------------------
class Sessions(SessionManager):
    """Keeps one engine for a database and process.

    Celery makes an engine for each stored result, and on SQLite each would have to be set up again.
    """

    def get_engine(self, dburi: str, **options: Any) -> Engine:
        if dburi not in self._engines:
            engine = self._engines[dburi] = make_engine(dburi, **options)
            if self.engine_callback is not None:
                self.engine_callback(engine)
        found: Engine = self._engines[dburi]
        return found


class DatabaseResults(ChordCountingBackend, DatabaseBackend):
    """Results in a database; on SQLite one step at a time."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.session_manager: Any = Sessions(self.session_manager.engine_callback)

    def _update_result(
        self, task: Any, result: Any, state: str, traceback: Any = None, request: Any = None
    ) -> None:
        """Celery's, with a traceback that the column takes: PostgreSQL refuses a NUL in a text."""
        text = traceback if traceback is None else storable(traceback)
        super()._update_result(task, result, state, traceback=text, request=request)

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Any = None,
        **options: Any,
    ) -> Any:
        """Store a result, or have it captured: as the row that it will be."""
        captured = results.capture(task_id, state)
        if captured is None:
            return super()._store_result(
                task_id, result, state, traceback, request=request, **options
            )
        row = self.task_cls(task_id)
        self._update_result(row, result, state, traceback=traceback, request=request)
        columns = [each.name for each in self.task_cls.__table__.columns if each.name != "id"]
        item = {name: getattr(row, name) for name in columns}
        captured.append(CapturedResult(_task_of(request), item))
        return None

    def write_in(self, connection: Connection, items: Sequence[dict[str, Any]]) -> None:
        """Write captured results in a transaction of this database."""
        table = self.task_cls.__table__
        columns = tuple(each.name for each in table.columns if each.name not in {"id", "task_id"})
        statement = insert_or_replace(connection.dialect.name, table, "task_id", columns)
        connection.execute(statement, list(items))

    def prepare(self) -> None:
        """Make the tables, where they aren't there yet."""
        if not self.session_manager.prepared:
            self.ResultSession().close()

    def write_captured(self, items: Sequence[dict[str, Any]]) -> None:
        """Write captured results in a transaction of their own."""
        self.prepare()
        engine = self.session_manager.get_engine(self.url, **self.engine_options)
        with sqlite_lock, engine.begin() as connection:
            self.write_in(connection, items)

    def _results_of(self, ids: Sequence[str]) -> dict[str, Any]:
        kind = self.task_cls
        session = self.ResultSession()
        with session_cleanup(session):
            done = session.query(kind.task_id, kind.result)
            done = done.filter(kind.task_id.in_(ids), kind.status == states.SUCCESS)
            return {row.task_id: self._decode_stored_result(row.result) for row in done}


def _with_sqlite_lock(step: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(step)
    def locked(self: DatabaseResults, *args: Any, **kwargs: Any) -> Any:
        if not self.url.startswith(("db+sqlite", "database+sqlite", "sqlite")):
            return step(self, *args, **kwargs)
        with sqlite_lock:
            return step(self, *args, **kwargs)

    return locked


for _name in (*_DATABASE_STEPS, "_results_of"):
    setattr(DatabaseResults, _name, _with_sqlite_lock(getattr(DatabaseResults, _name)))


# --- Redis ----------------------------------------------------------------------------------------
class _RedisBackendMixin(ChordCountingBackend):
    #: `on_task_call` does nothing: relevo/dispatch/publisher.py needn't call it.
    hears_of_dispatches = False

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Don't subscribe at the dispatch."""

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Any = None,
        **options: Any,
    ) -> Any:
        """Store a result, or have it captured: as the text that it will be."""
        captured = results.capture(task_id, state)
        if captured is None:
            return super()._store_result(
                task_id, result, state, traceback, request=request, **options
            )
        meta = self._get_result_meta(
            result=result, state=state, traceback=traceback, request=request
        )
        meta["task_id"] = task_id
        item = (self.get_key_for_task(task_id), self.encode(meta), state)
        captured.append(CapturedResult(_task_of(request), item))
        return result

    def write_captured(self, items: Sequence[tuple[Any, Any, str]]) -> None:
        """Write captured results in one round trip."""
        with self.client.pipeline(transaction=False) as pipe:
            for key, text, state in items:
                lives = self.failure_expires if state == states.FAILURE else self.expires
                pipe.set(key, text, ex=lives or None)
                pipe.publish(key, text)
            pipe.execute()

    def _results_of(self, ids: Sequence[str]) -> dict[str, Any]:
        stored = self.mget([self.get_key_for_task(id_) for id_ in ids])
        metas = {
            id_: self.decode_result(each) for id_, each in zip(ids, stored, strict=True) if each
        }
        return {
            id_: meta["result"] for id_, meta in metas.items() if meta["status"] == states.SUCCESS
        }


class RedisResults(_RedisBackendMixin, RedisBackend):
    """Results in Redis."""


class SentinelResults(_RedisBackendMixin, SentinelBackend):
    """Results in Redis behind Sentinel."""
