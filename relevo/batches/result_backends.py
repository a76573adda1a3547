"""Celery's result backend of databases, with chords that are counted by us (chord.py;
`redis_results.py` is Redis's).

It is made safe beside forks of its process, too. A worker's main process writes results (of jobs
whose process was killed), in a thread beside the one that forks new children. A child that is
forked in the midst of a transaction on SQLite, or of its end, finds the file locked as long as it
lives: the lock isn't its own, and nobody gives it back. So each step takes its turn, as all of ours
do.
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
from sqlalchemy import Engine

from relevo.batches import chord
from relevo.database.engine import make_engine, sqlite_lock
from relevo.job.membership import is_marked

if TYPE_CHECKING:
    from celery.backends.base import Backend as _Base
else:
    _Base = object

# What talks to the database, from making the connection to closing it.
_STEPS = (
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
# So many results are read in one step.
PAGE = 500
_KINDS = {
    "db": f"{__name__}:Results",
    "database": f"{__name__}:Results",
    "redis": "relevo.batches.result_backends:RedisResults",
    "rediss": "relevo.batches.result_backends:RedisResults",
    "sentinel": "relevo.batches.result_backends:SentinelResults",
}


def register_backends() -> None:
    """Make these the backends of `db+sqlite://…`, `redis://…` and their like."""
    BACKEND_ALIASES.update(_KINDS)


class Chords(ABC, _Base):
    """What Celery tells a result backend of chords. One that isn't counted by us goes on to Celery."""

    counts_chords = True

    def apply_chord(self, header_result_args: Any, body: Any, **options: Any) -> None:
        id_, results = header_result_args
        if not chord.opened(id_, results, body):
            super().apply_chord(header_result_args, body, **options)

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        if not chord.sized(group_id, chord_size):
            super().set_chord_size(group_id, chord_size)

    def on_chord_part_return(self, request: Any, state: str, result: Any, **options: Any) -> None:
        if not is_marked(request.chord):  # the recorder counts it
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
            self.store_result(task_id, result, state, request=request)  # the body waits for it

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
        if not chord.grown(self.app, chord_id, result.id):
            super().add_to_chord(chord_id, result)

    def results_of(self, ids: Sequence[str]) -> dict[str, Any]:
        """What these jobs returned, by their ids; of one that has not completed there is nothing."""
        found: dict[str, Any] = {}
        for start in range(0, len(ids), PAGE):
            found |= self._results_of(ids[start : start + PAGE])
        return found

    @abstractmethod
    def _results_of(self, ids: Sequence[str]) -> dict[str, Any]:
        """The same of one page."""


class Sessions(SessionManager):
    """One engine for a database and process. Celery makes one for each stored result, and on SQLite
    each would have to be set up again.
    """

    def get_engine(self, dburi: str, **options: Any) -> Engine:
        if dburi not in self._engines:
            engine = self._engines[dburi] = make_engine(dburi, **options)
            if self.engine_callback is not None:
                self.engine_callback(engine)
        found: Engine = self._engines[dburi]
        return found


class Results(Chords, DatabaseBackend):
    """Celery's, a step at a time."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.session_manager: Any = Sessions(self.session_manager.engine_callback)

    def _results_of(self, ids: Sequence[str]) -> dict[str, Any]:
        kind = self.task_cls
        session = self.ResultSession()
        with session_cleanup(session):
            done = session.query(kind.task_id, kind.result)
            done = done.filter(kind.task_id.in_(ids), kind.status == states.SUCCESS)
            return {row.task_id: self._decode_stored_result(row.result) for row in done}


def _in_turn(step: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(step)
    def taken(self: Results, *args: Any, **kwargs: Any) -> Any:
        if not self.url.startswith(("db+sqlite", "database+sqlite", "sqlite")):
            return step(self, *args, **kwargs)
        with sqlite_lock:
            return step(self, *args, **kwargs)

    return taken


for _name in (*_STEPS, "_results_of"):
    setattr(Results, _name, _in_turn(getattr(Results, _name)))


# ---- relevo.job.redis_results: Celery's result backends of Redis, with chords that are counted by us (chord.py).
#
# Celery subscribes to the result of every job that it dispatches. Here who waits for one does (`get`, `then`, a group):
# a dispatch is a round trip cheaper, a Redis that is away with all results holds up nobody who asks for none, and a
# process that dispatches for weeks and never waits has no subscriptions.
class _InRedis(Chords):
    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Nobody waits yet."""

    def _results_of(self, ids: Sequence[str]) -> dict[str, Any]:
        stored = self.mget([self.get_key_for_task(id_) for id_ in ids])
        metas = {
            id_: self.decode_result(each) for id_, each in zip(ids, stored, strict=True) if each
        }
        return {
            id_: meta["result"] for id_, meta in metas.items() if meta["status"] == states.SUCCESS
        }


class RedisResults(_InRedis, RedisBackend):
    """Results in Redis."""


class SentinelResults(_InRedis, SentinelBackend):
    """Results in Redis behind Sentinel."""
