"""Results on their way to the result backend: captured where the body ran, and written by the main
process with the record of the end.

So a result that can't be stored decides nothing about its job: the body has ended, and how it ended
is known. And no result is seen of a job whose end isn't recorded.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from celery import states

from relevo.errors import DriverUnavailableError
from relevo.store.outcomes import Ending

logger = logging.getLogger(__name__)

# Tries of a result that its backend refuses, before it is left out.
MAX_TRIES = 5


class CapturedResult(NamedTuple):
    """A result as its backend writes it. `task`: whose backend that is."""

    task: str
    item: Any


class _Capture(threading.local):
    id: str | None = None
    found: list[CapturedResult] | None = None


_capture = _Capture()


@contextmanager
def captured(id_: str) -> Iterator[list[CapturedResult]]:
    """Within the block, the final result of this job is put into the list instead of stored."""
    before = _capture.id, _capture.found
    _capture.id, _capture.found = id_, []
    try:
        yield _capture.found
    finally:
        _capture.id, _capture.found = before


def capture(id_: str, state: str) -> list[CapturedResult] | None:
    """The list for the result of this job, or None where it is to be stored at once."""
    return _capture.found if id_ == _capture.id and state in states.READY_STATES else None


def keep(found: Sequence[CapturedResult], backend: Any, recorder: Any) -> None:
    """Write results that no record of an end goes with, now or by the recorder."""
    if recorder is not None:
        recorder.add(Ending(listed=False, results=tuple(found)), lambda _items: None)
        return
    try:
        backend.write_captured([each.item for each in found])
    except Exception:  # a result that can't be stored decides nothing
        logger.exception("%d results could not be stored", len(found))


class ResultWriter:
    """Writes captured results. `is_local`: whether a backend's results lie in the store."""

    def __init__(self, app: Any, is_local: Callable[[Any], bool]) -> None:
        self._app, self._is_local = app, is_local
        self._local: dict[int, bool] = {}
        self._refused: dict[int, int] = {}

    def local_steps(self, found: Sequence[CapturedResult]) -> list[Callable[[Any], None]]:
        """What writes the results that lie in the store, in the store's own transaction."""
        steps: list[Callable[[Any], None]] = []
        for backend, items in self._by_backend(found):
            if self._lies_in_store(backend):
                backend.prepare()
                steps.append(partial(_write_in, backend, items))
        return steps

    def write_local(self, found: Sequence[CapturedResult]) -> None:
        """Write the results that lie in the store, each alone; one that is refused is left out."""
        for backend, items in self._by_backend(found):
            if self._lies_in_store(backend):
                for item in items:
                    if (error := _error(backend, item)) is not None:
                        logger.error("a result was refused and is left out: %r", error)

    def publish(self, found: Sequence[CapturedResult]) -> bool:
        """Write the others. Returns False while a backend is away; done again, it goes on."""
        is_done = True
        for backend, items in self._by_backend(found):
            if not self._lies_in_store(backend):
                is_done &= self._write(backend, items)
        if is_done:
            self._refused.clear()
        return is_done

    def _write(self, backend: Any, items: list[Any]) -> bool:
        try:
            backend.write_captured(items)
        except Exception as error:  # noqa: BLE001  backends raise what they like
            logger.warning("%d results wait for the result backend: %s", len(items), error)
            if is_away(error):
                return False
        else:
            return True
        tried = [self._write_one(backend, item) for item in items]
        return all(tried)

    def _write_one(self, backend: Any, item: Any) -> bool:
        """Write a result alone: the others were not to wait for one that is refused."""
        error = _error(backend, item)
        if error is None:
            return True
        tries = self._refused[id(item)] = self._refused.get(id(item), 0) + 1
        if tries < MAX_TRIES:
            return False
        logger.error("a result was refused %d times and is left out: %r", tries, error)
        return True

    def _by_backend(self, found: Sequence[CapturedResult]) -> list[tuple[Any, list[Any]]]:
        groups: dict[int, tuple[Any, list[Any]]] = {}
        for each in found:
            task = self._app.tasks.get(each.task)
            backend = self._app.backend if task is None else task.backend
            groups.setdefault(id(backend), (backend, []))[1].append(each.item)
        return list(groups.values())

    def _lies_in_store(self, backend: Any) -> bool:
        if id(backend) not in self._local:
            self._local[id(backend)] = self._is_local(backend)
        return self._local[id(backend)]


def is_away(error: Exception | None) -> bool:
    """Whether a backend can't be reached, or takes nothing now."""
    kinds = (OSError, DriverUnavailableError)
    name = type(error).__name__
    return isinstance(error, kinds) or name in _AWAY


# By name: neither Redis's library nor SQLAlchemy need be there.
_AWAY = {"ConnectionError", "TimeoutError", "BusyLoadingError", "ReadOnlyError", "OutOfMemoryError",
         "OperationalError", "InterfaceError", "MasterNotFoundError"}  # fmt: skip


def _error(backend: Any, item: Any) -> Exception | None:
    """The error of writing one result alone, or None."""
    try:
        backend.write_captured([item])
    except Exception as error:  # noqa: BLE001  backends raise what they like
        return error
    return None


def _write_in(backend: Any, items: Sequence[Any], connection: Any) -> None:
    backend.write_in(connection, items)
