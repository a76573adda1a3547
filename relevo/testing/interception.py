"""Where a dispatch is caught: in the app's `send_task`, which every way of dispatching calls.

    delay, dispatch, canvas, retry … -> app.send_task -> does a fake take this task?
        no:  the broker
        yes: a RecordingProducer replaces the producer; Celery routes the job, makes its message
             and calls amqp.send_task_message -> the producer records the job

Celery does all of its work; only the last step differs. While a fake takes every task, results are
kept in memory and producers use a broker in memory, so neither server has to be there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from typing import Any

from celery.app import backends
from celery.canvas import maybe_signature
from kombu.connection import Connection
from kombu.pools import ProducerPool

from relevo.batches.chain import as_links
from relevo.dispatch import capture, transactions
from relevo.testing import batches, chains
from relevo.testing.dispatched import Dispatched, from_message
from relevo.testing.patching import Replacement, task_batch, task_progress
from relevo.testing.producer import RecordingProducer
from relevo.testing.taker import Taker

RESULTS = "cache+memory://"
UNLOCK = "celery.chord_unlock"

_lock = threading.RLock()
#: The interception of each app that has a fake, by `id(app)`.
_interceptions: dict[int, Interception] = {}


class Interception:
    """What replaces an app's own methods while at least one fake of the app is active."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.fakes: list[Taker] = []
        self._thread = threading.local()
        self.eager = bool(app.conf.task_always_eager)
        self.always = [
            # An eager app runs its jobs itself and sends nothing that could be caught.
            Replacement(app.conf.changes, "task_always_eager", lambda _eager: False),
            Replacement(app, "send_task", self._make_send_task),
            Replacement(app.amqp, "send_task_message", self._make_send_task_message),
            *(
                [
                    Replacement(app, "send_batch", self._make_send_batch),
                    Replacement(app, "send_chain", self._make_send_chain),
                    Replacement(app, "send_in_session", self._make_send_in_session),
                ]
                if hasattr(app, "send_batch")
                else ()
            ),
            task_progress,
            task_batch,
        ]
        self.producers = Replacement(app.amqp, "_producer_pool", _memory_producers)
        self.results: list[Replacement] = []
        backend = app.backend_cls or app.conf.result_backend
        if backend and backend != "disabled":
            # The class, by its name: making an instance can mean to connect and to create tables.
            self.always.append(_quiet_backend(backends.by_url(backend, app.loader)[0]))
            self.results.append(Replacement(app, "_backend_cache", self._memory_results))

    def replacements(self, fake: Taker) -> list[Replacement]:
        """What is replaced for this fake. Jobs that it leaves to a worker need the real broker and
        the real results.
        """
        isolated = fake.takes_all or self.eager
        return [
            *self.always,
            *(self.results if isolated else ()),
            *((self.producers,) if fake.takes_all else ()),
        ]

    def _memory_results(self, _backend: Any) -> Any:
        backend, url = backends.by_url(RESULTS, self.app.loader)
        return backend(app=self.app, url=url)

    def _make_send_task(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def send_task(
            name: str, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any
        ) -> Any:
            recorder = options.get("producer")
            if not isinstance(recorder, RecordingProducer):
                fake = self.taker(_task_of(name, args))
                if fake is None:
                    return self._pass_on(original, name, args, kwargs, *rest, **options)
                recorder = RecordingProducer(self._keep_now_or_at_commit(fake))
                options["producer"] = recorder
            recorder.asked = {**dict(zip(("countdown", "eta"), rest, strict=False)), **options}
            with capture.pause_capture() if self._session else nullcontext():
                return original(name, args, kwargs, *rest, **options)

        return send_task

    def _make_send_in_session(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def send_in_session(session: Any, send: Callable[[], Any]) -> Any:
            with self._dispatching_in(session):
                return original(session, send)

        return send_in_session

    @contextmanager
    def _dispatching_in(self, session: Any) -> Iterator[None]:
        before, self._thread.session = self._session, session
        try:
            yield
        finally:
            self._thread.session = before

    @property
    def _session(self) -> Any:
        """The session that this thread dispatches in."""
        return getattr(self._thread, "session", None)

    def _keep_now_or_at_commit(self, fake: Taker) -> Callable[[Dispatched], None]:
        """How to record a job: at once, or, if it is dispatched in a session, when that commits."""
        session = self._session
        return (
            fake.keep
            if session is None
            else lambda job: transactions.after_commit(session, lambda: fake.keep(job))
        )

    def _make_send_task_message(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def send_task_message(producer: Any, name: str, message: Any, **sent: Any) -> Any:
            if not isinstance(producer, RecordingProducer):
                return original(producer, name, message, **sent)
            producer.record(from_message(self.app, name, message, producer.asked, sent))
            return None

        return send_task_message

    def _make_send_batch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def send_batch(new: Any, id_: str, session: Any = None) -> Any:
            members = batches.checked_members(new)
            fake = next(
                (fake for fake in reversed(tuple(self.fakes)) if fake.takes_batch(members)), None
            )
            if fake is None:
                return original(replace(new, members=members), id_, session)
            return fake.keep_batch(new, members, id_, session)

        return send_batch

    def _make_send_chain(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def send_chain(new: Any, id_: str, session: Any = None) -> Any:
            links = as_links(new)
            fake = next(
                (fake for fake in reversed(tuple(self.fakes)) if fake.takes_batch(links)), None
            )
            if fake is None:
                return original(new, id_, session)
            with self._dispatching_in(session):
                chains.as_celery_chain(new, links, id_).apply_async()
            return fake.keep_chain(new, links, id_, session)

        return send_chain

    def taker(self, name: str) -> Taker | None:
        """The fake that gets the jobs of this task: the innermost one that takes them."""
        return next((fake for fake in reversed(tuple(self.fakes)) if fake.takes(name)), None)

    def _pass_on(
        self,
        original: Callable[..., Any],
        name: str,
        args: Any,
        kwargs: Any,
        *rest: Any,
        **options: Any,
    ) -> Any:
        """Pass on a job that no fake takes: to the broker, or, in an eager app, run it here."""
        task = options.pop("task_type", None)
        if not self.eager or task is None:
            return original(name, args, kwargs, *rest, task_type=task, **options)
        link = [*(options.pop("link", None) or ())]
        # `apply` knows no chain: the next link becomes a callback.
        if chain := options.pop("chain", None):
            link.append(maybe_signature(chain[-1], app=self.app, clone=True).set(chain=chain[:-1]))
        return task.apply(args, kwargs, link=link, **{**options, "producer": None})


@cache
def _quiet_backend(backend: type) -> Replacement:
    """Keep recorded jobs from a result backend class: no worker will run them, and Redis's backend
    would connect to wait for their results.
    """

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def on_task_call(self: Any, producer: Any, task_id: str) -> Any:
            return (
                None
                if isinstance(producer, RecordingProducer)
                else original(self, producer, task_id)
            )

        return on_task_call

    return Replacement(backend, "on_task_call", make)


def _memory_producers(_pool: Any) -> ProducerPool:
    return ProducerPool(connections=Connection("memory://").Pool())


def _task_of(name: str, args: Any) -> str:
    """The task that decides which fake takes a job: for a chord's watchdog, the chord's body."""
    return str(args[1]["task"]) if name == UNLOCK else name


@contextmanager
def intercepted(fake: Taker) -> Iterator[None]:
    """Within the block, `fake` takes its tasks' jobs."""
    with ExitStack() as undo:
        with _lock:
            interception = _interceptions.setdefault(id(fake.app), Interception(fake.app))
            interception.fakes.append(fake)
            undo.callback(_remove, interception, fake)
            for part in interception.replacements(fake):
                undo.enter_context(part)
        yield


def _remove(interception: Interception, fake: Taker) -> None:
    with _lock:
        interception.fakes.remove(fake)
        if not interception.fakes:
            del _interceptions[id(fake.app)]
