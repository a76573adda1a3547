"""Where a dispatch is caught: `send_task` of the app, through which every way of dispatching goes.

    delay, dispatch, canvas, retry ... -> app.send_task -> is there a fake that takes this task? --
    no --> the broker
                                                              | yes: a Pen in the producer's place
                                          Celery routes it and makes its message
                                                              |
                                          amqp.send_task_message -> the Pen writes it down

Celery does all of its work; only the last step is another. While a fake takes every task, results
are kept in memory and producers hang on a broker in memory, so that neither server has to be there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from celery.app import backends
from celery.canvas import maybe_signature
from kombu.connection import Connection
from kombu.pools import ProducerPool

from relevo.batches.chain import links_of
from relevo.dispatch import capture, transactions
from relevo.testing import batches, chains
from relevo.testing.dispatched import Dispatched, recorded
from relevo.testing.patching import Replaced, task_progress

if TYPE_CHECKING:
    from relevo.testing.fake import Fake

RESULTS = "cache+memory://"
UNLOCK = "celery.chord_unlock"

_lock = threading.RLock()
#: The apps that have a fake, by their identity.
_places: dict[int, Interception] = {}


class Pen:
    """In a producer's place: what is published with it is written down. `asked` is what the caller
    asked for.
    """

    def __init__(self, write: Callable[[Dispatched], None]) -> None:
        self.write = write
        self.asked: Mapping[str, Any] = {}
        self.connection = self

    def _reraise_as_library_errors(self) -> AbstractContextManager[None]:
        return nullcontext()


class Interception:
    """What is in place of an app's own methods while a fake of it is active."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.fakes: list[Fake] = []
        self._mine = threading.local()
        self.eager = bool(app.conf.task_always_eager)
        self.always = [
            # An app that runs its jobs in place sends nothing that could be caught.
            Replaced(app.conf.changes, "task_always_eager", lambda _eager: False),
            Replaced(app, "send_task", self._sending),
            Replaced(app.amqp, "send_task_message", self._writing),
            *(
                [
                    Replaced(app, "send_batch", self._batching),
                    Replaced(app, "send_chain", self._chaining),
                    Replaced(app, "send_in_session", self._joining),
                ]
                if hasattr(app, "send_batch")
                else ()
            ),
            task_progress,
        ]
        self.producers = Replaced(app.amqp, "_producer_pool", _producers)
        self.results: list[Replaced] = []
        backend = app.backend_cls or app.conf.result_backend
        if backend and backend != "disabled":
            # By its name: to make one can mean to connect, and to create tables.
            self.always.append(_unasked(backends.by_url(backend, app.loader)[0]))
            self.results.append(Replaced(app, "_backend_cache", self._results))

    def parts(self, fake: Fake) -> list[Replaced]:
        """What is replaced for this fake. Jobs it leaves to a worker need the real broker and the
        real results.
        """
        apart = fake.takes_all or self.eager
        return [
            *self.always,
            *(self.results if apart else ()),
            *((self.producers,) if fake.takes_all else ()),
        ]

    def _results(self, _backend: Any) -> Any:
        backend, url = backends.by_url(RESULTS, self.app.loader)
        return backend(app=self.app, url=url)

    def _sending(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def send_task(
            name: str, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any
        ) -> Any:
            pen = options.get("producer")
            if not isinstance(pen, Pen):
                fake = self.taker(_subject(name, args))
                if fake is None:
                    return self._pass_on(original, name, args, kwargs, *rest, **options)
                options["producer"] = pen = Pen(self._keeping(fake))
            pen.asked = {**dict(zip(("countdown", "eta"), rest, strict=False)), **options}
            with capture.not_collecting() if self._session else nullcontext():
                return original(name, args, kwargs, *rest, **options)

        return send_task

    def _joining(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def send_in_session(session: Any, send: Callable[[], Any]) -> Any:
            with self._in(session):
                return original(session, send)

        return send_in_session

    @contextmanager
    def _in(self, session: Any) -> Iterator[None]:
        before, self._mine.session = self._session, session
        try:
            yield
        finally:
            self._mine.session = before

    @property
    def _session(self) -> Any:
        """The session that this thread dispatches in."""
        return getattr(self._mine, "session", None)

    def _keeping(self, fake: Fake) -> Callable[[Dispatched], None]:
        """What notes a job: at once, or when the session has committed that it is dispatched in."""
        session = self._session
        return (
            fake.keep
            if session is None
            else lambda job: transactions.after_commit(session, lambda: fake.keep(job))
        )

    def _writing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def send_task_message(producer: Any, name: str, message: Any, **sent: Any) -> Any:
            if not isinstance(producer, Pen):
                return original(producer, name, message, **sent)
            producer.write(recorded(self.app, name, message, producer.asked, sent))
            return None

        return send_task_message

    def _batching(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def send_batch(new: Any, id_: str, session: Any = None) -> Any:
            members = batches.read(new)
            fake = next(
                (fake for fake in reversed(tuple(self.fakes)) if fake.takes_batch(members)), None
            )
            if fake is None:
                return original(replace(new, members=members), id_, session)
            return fake.keep_batch(new, members, id_, session)

        return send_batch

    def _chaining(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def send_chain(new: Any, id_: str, session: Any = None) -> Any:
            links = links_of(new)
            fake = next(
                (fake for fake in reversed(tuple(self.fakes)) if fake.takes_batch(links)), None
            )
            if fake is None:
                return original(new, id_, session)
            with self._in(session):
                chains.celerys(new, links, id_).apply_async()
            return fake.keep_chain(new, links, id_, session)

        return send_chain

    def taker(self, name: str) -> Fake | None:
        """The fake that gets jobs of this task: the innermost of those that want them."""
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
        """A job that no fake wants: to the broker, or run in place where the app does that."""
        task = options.pop("task_type", None)
        if not self.eager or task is None:
            return original(name, args, kwargs, *rest, task_type=task, **options)
        link = [*(options.pop("link", None) or ())]
        if chain := options.pop(
            "chain", None
        ):  # `apply` knows no chain: what comes next becomes a callback
            link.append(maybe_signature(chain[-1], app=self.app, clone=True).set(chain=chain[:-1]))
        return task.apply(args, kwargs, link=link, **{**options, "producer": None})


@cache
def _unasked(backend: type) -> Replaced:
    """A result backend that isn't told of a job nobody will run: Redis's would connect to wait for
    its result.
    """

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def on_task_call(self: Any, producer: Any, task_id: str) -> Any:
            return None if isinstance(producer, Pen) else original(self, producer, task_id)

        return on_task_call

    return Replaced(backend, "on_task_call", make)


def _producers(_pool: Any) -> ProducerPool:
    return ProducerPool(connections=Connection("memory://").Pool())


def _subject(name: str, args: Any) -> str:
    """The task that a dispatch is about: a chord's watchdog belongs to the chord's last task."""
    return str(args[1]["task"]) if name == UNLOCK else name


@contextmanager
def intercepted(fake: Fake) -> Iterator[None]:
    """Within the block, `fake` takes its tasks' jobs."""
    with ExitStack() as undo:
        with _lock:
            place = _places.setdefault(id(fake.app), Interception(fake.app))
            place.fakes.append(fake)
            undo.callback(_leave, place, fake)
            for part in place.parts(fake):
                undo.enter_context(part)
        yield


def _leave(place: Interception, fake: Fake) -> None:
    with _lock:
        place.fakes.remove(fake)
        if not place.fakes:
            del _places[id(fake.app)]
