"""The fake: a context manager and a decorator, for all tasks of an app or for some.

`with fake() as queue:` takes the jobs of every task. `fake(only=[send], app=shop)` takes those of
one task; the others go to the broker. Under `@fake()`, a function with an argument `fake` gets it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import wraps
from typing import Any, Self

import celery

from relevo.drivers.values import Placed
from relevo.errors import FakeError
from relevo.testing import interception
from relevo.testing.chains import ChainAssertions
from relevo.testing.dispatch_assertions import DispatchAssertions
from relevo.testing.dispatched import Dispatched
from relevo.testing.runner import Runner
from relevo.transport import put_results

__tracebackhide__ = True


class Fake(DispatchAssertions, ChainAssertions, Runner):
    """Takes the jobs of an app's tasks in the broker's place. See `fake`."""

    def __init__(self, app: Any, only: Iterable[Any] | None, except_: Iterable[Any] | None) -> None:
        super().__init__(app)
        self._only = None if only is None else {self.name_of(task) for task in only}
        self._except = {self.name_of(task) for task in except_ or ()}

    # --- being active -----------------------------------------------------------------------------
    @property
    def takes_all(self) -> bool:
        return self._only is None and not self._except

    def takes(self, name: str) -> bool:
        """Whether jobs of this task are taken."""
        return name not in self._except and (self._only is None or name in self._only)

    def __enter__(self) -> Self:
        if self._undo is not None:
            raise FakeError("This fake is active already; make another one to nest it.")
        self._undo = ExitStack()
        self._undo.enter_context(interception.intercepted(self))
        return self

    def __exit__(self, *_error: object) -> None:
        undo, self._undo = self._undo, None
        if undo is not None:
            undo.close()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """As a decorator: each call of `function` runs under a new fake, which is its argument
        `fake` if it has one.
        """
        signature = inspect.signature(function)
        rest = [one for name, one in signature.parameters.items() if name != "fake"]
        given = len(rest) < len(signature.parameters)

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._another() as another:
                return function(*args, **kwargs, **({"fake": another} if given else {}))

        @wraps(function)
        async def call_later(*args: Any, **kwargs: Any) -> Any:
            with self._another() as another:
                return await function(*args, **kwargs, **({"fake": another} if given else {}))

        faked: Any = call_later if inspect.iscoroutinefunction(function) else call
        # pytest takes the remaining parameters for fixtures.
        faked.__signature__ = signature.replace(parameters=rest)
        return faked

    def _another(self) -> Fake:
        return Fake(self.app, self._only, self._except)

    def keep(self, record: Dispatched) -> None:
        """Record a job. A job that is running has dispatched itself again: it is not a new one."""
        with self._lock:
            again = record.id in self._running
            place, kept = Placed(record.id, created=True), record
            if not again:
                place, kept = self._keys.place(record, self._backlog)
            if place.created and not again and not record.task.startswith(interception.UNLOCK):
                self._records.append(record)
            if place.replaced:
                self._records = [kept if known.id == kept.id else known for known in self._records]
                self._backlog.replace(kept)
        if place.created:
            self._backlog.add(record)
        put_results.resolve_one(record.id, place)


def fake(
    only: Iterable[Any] | None = None, except_: Iterable[Any] | None = None, app: Any = None
) -> Fake:
    """A fake of `app` (default: Celery's current app). It takes the jobs of all tasks, of those in
    `only`, or of all except those in `except_`.

    While it is active, no thread of this process sends such a job. Raises UnknownTaskError.
    """
    return Fake(app if app is not None else celery.current_app._get_current_object(), only, except_)  # noqa: SLF001
