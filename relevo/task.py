"""The Task class: `create_app` puts it under Celery's own decorator.

    @app.task(name="images.process", bind=True, tries=3, backoff=[10, 30, 60], timeout=300)
    def process(self, file_id): ...

    @process.failed
    def process_failed(job, error): ...

    definition   reads our options from the class, and wraps `run` if there is anything to decide
                 (execution/attempt.py)
    dispatch     puts the baton into the message (dispatch/prepare.py)
    execution    names the request class of the worker's main process (worker/request.py)

A task without our options is Celery's in every respect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, NoReturn, Self, TypeVar
from uuid import uuid4

import celery
from celery.app.task import get_actual_ignore_result
from celery.exceptions import TaskPredicate
from celery.utils.log import get_logger

from relevo.batches.replace import ReplaceMixin
from relevo.dispatch import async_result, connections, prepare, unique
from relevo.dispatch.async_dispatch import AsyncDispatchMixin
from relevo.dispatch.builder import DispatchMixin
from relevo.errors import JobFailedError, OptionError
from relevo.execution import body_exit, requeue, stop_flag
from relevo.execution.attempt import apply_outcome, load_state, wrap_attempt, wrap_failed_hook
from relevo.execution.failed_hook import FailedHook
from relevo.job import backoff, body, option_names, payload
from relevo.job.control_flow import FailJob, ReleaseJob
from relevo.job.options import NAMES, OVERRIDES, Options, refuse_mixed_options
from relevo.job.outcome import Released
from relevo.transport import put_results

logger = get_logger(__name__)

Hook = TypeVar("Hook", bound=FailedHook)

#: The state in the result backend of a running job that has reported its progress.
PROGRESS = "PROGRESS"


class Task(DispatchMixin, AsyncDispatchMixin, ReplaceMixin):
    """Celery's Task, with options."""

    abstract = True
    Request = "relevo.worker.request:Request"

    options: ClassVar[Options] = Options()
    failed_hook: FailedHook | None = None
    #: Whether `run` is wrapped (execution/attempt.py).
    is_wrapped: bool = False
    run: Any
    #: Whether `apply_async` is not overridden, so that a batch may copy the messages of its jobs.
    plain_dispatch: ClassVar[bool] = True
    #: Whether the `failed` hook runs around Celery's own retries, outside `wrap_attempt`.
    hook_wraps_celery_retries: bool = False

    # --- the definition ---------------------------------------------------------------------------
    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        name = cls.__dict__.get("name") or cls.name or cls.__name__
        if "run" in cls.__dict__:  # else it is a base class, whose attributes are its own
            _check_class(cls, name)
        given = {name: cls.__dict__[name] for name in NAMES & cls.__dict__.keys()}
        # A callable left on the class would become a method, and Celery deprecates `queue` there.
        for option in given:
            delattr(cls, option)
        cls.options = cls.options.with_given(given, name)
        retries = {"autoretry_for": getattr(cls, "autoretry_for", None)}
        refuse_mixed_options(name, given, {**retries, **cls.__dict__})
        cls.plain_dispatch = cls.apply_async is Task.apply_async
        if given.get("timeout") is not None:
            cls.time_limit = cls.options.timeout

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        task = super().__new__(cls)
        cls.options = cls.options_in_project()
        unique.check_key_names(task, cls.options.unique_by)
        unique.check_key_names(task, cls.options.fair_by, "fair_by")
        app = cls.__dict__.get("app") or cls._app
        is_own = not cls.__module__.startswith("celery.")
        task.run = body_exit.contain(task, task.run)
        if cls.options.needs_wrapping or (is_own and getattr(app, "models", None) is not None):
            task._wrap()
        return task

    @classmethod
    def options_in_project(cls) -> Options:
        """The task's options, with the project's defaults for those that it does not give.

        QUEUE_MAX_TRIES also counts for a task without any option, unless it uses Celery's options
        for retries. Celery's own tasks are left alone.
        """
        app = cls.__dict__.get("app") or cls._app
        options = cls.options
        if cls.__module__.startswith("celery."):
            return options
        if "middleware" not in options.given:
            options = replace(options, middleware=getattr(app, "middleware", ()))
        settings = getattr(app, "settings", None)
        tries, waits = (settings.queue_max_tries, settings.queue_backoff) if settings else (1, ())
        uses_celery_retries = (
            getattr(cls, "autoretry_for", ()) or cls.max_retries != celery.Task.max_retries
        )
        if not options.has_retry_policy and (tries == 1 or uses_celery_retries):
            return options
        return options.with_defaults(tries, waits)

    @classmethod
    def bind(cls, app: Any) -> Any:
        super().bind(app)
        if cls.options.queue:
            prepare.check_queue(app, cls.name, cls.options.queue)
            cls.queue = cls.options.queue
        if cls.options.has_retry_policy:
            # Relevo decides what follows from a failure; Celery only has to ack it.
            cls.acks_on_failure = cls.acks_on_timeout = True
            cls.reject_on_worker_lost = cls.retry_on_worker_lost = False
            cls.max_retries = None  # `tries` counts instead
        return app

    def failed(self, hook: Hook) -> Hook:
        """Decorator: call `hook(job, error)` once when a job of this task has failed for good."""
        if (
            self.is_wrapped
            and not self.options.has_retry_policy
            and hasattr(self, "_orig_run")
            and self.failed_hook is None
        ):
            # Celery's autoretry_for wraps `run` outside `wrap_attempt`. A job has failed only when
            # that gives up, so the hook goes outside of it.
            self.run = wrap_failed_hook(self, self.run)
            self.hook_wraps_celery_retries = True
        self.failed_hook = hook
        self._wrap()
        return hook

    @property
    def app_models(self) -> Any:
        """The models whose rows may be arguments (execution/models.py); None without any."""
        return getattr(self.app, "models", None)

    @property
    def handles_failure(self) -> bool:
        """Whether Relevo decides what follows from a failed attempt."""
        return self.options.has_retry_policy or self.failed_hook is not None

    def _wrap(self) -> None:
        if not self.is_wrapped:
            self.is_wrapped = True
            self.run = wrap_attempt(self, self.run)

    # --- dispatch ---------------------------------------------------------------------------------
    def apply_async(
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: str | None = None,
        *rest: Any,
        **options: Any,
    ) -> Any:
        """Celery's `apply_async` with more options: those of `OVERRIDES`, and the two below.

        `connection`: a connection's name. `session`: dispatch if and only if this SQLAlchemy
        session commits.
        """
        if options:
            option_names.refuse_in_dispatch(self.name, options)
        if "session" in options:
            session = options.pop("session")
            if session is None:
                return self.apply_async(args, kwargs, task_id, *rest, **options)
            return self.app.send_in_session(
                session, lambda: self.apply_async(args, kwargs, task_id, *rest, **options)
            )
        if self.options.needs_baton or not OVERRIDES.isdisjoint(options):
            options = prepare.with_baton(self, args, kwargs, options)
        if isinstance(options.get("connection"), str):
            return connections.dispatch(
                self, options.pop("connection"), args, kwargs, task_id, *rest, **options
            )
        if not payload.is_unique(options):
            return self._publish(args, kwargs, task_id, *rest, **options)
        task_id = task_id or str(uuid4())
        receipt = put_results.expect(task_id)
        return async_result.with_put_result(
            receipt, self._publish(args, kwargs, task_id, *rest, **options)
        )

    def _publish(
        self, args: Any, kwargs: Any, task_id: str | None, *rest: Any, **options: Any
    ) -> Any:
        publisher = getattr(self.app, "publisher", None)
        if rest or publisher is None:
            return super().apply_async(args, kwargs, task_id, *rest, **options)
        return publisher.dispatch(self, args, kwargs, task_id, options)

    def AsyncResult(  # noqa: N802  Celery's name
        self, task_id: str, **options: Any
    ) -> async_result.JobResult:
        """The result of a job of this task."""
        return async_result.JobResult(
            task_id, backend=self.backend, task_name=self.name, app=self.app, **options
        )

    def apply(self, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Any:
        """Celery's `apply`: run the job in this process, with the options of `apply_async`."""
        if options:
            option_names.refuse_in_dispatch(self.name, options)
        if self.options.needs_baton or not OVERRIDES.isdisjoint(options):
            options = prepare.with_baton(self, args, kwargs, options)
        return super().apply(args, kwargs, *rest, **options)

    # --- from inside the job ----------------------------------------------------------------------
    @property
    def attempt(self) -> int:
        """The number of this attempt, counted from 1."""
        return int(self.request.retries) + 1

    @property
    def should_stop(self) -> bool:
        """Whether this worker has been asked to stop: the job should end soon."""
        return stop_flag.is_requested()

    def release(self, seconds: float = 0) -> NoReturn:
        """End this attempt, uncounted: the job runs again after `seconds`."""
        if not backoff.is_wait(seconds):
            raise OptionError(
                f"expected release to be a number of seconds, got {seconds!r} (task {self.name!r})"
            )
        if not self.is_wrapped and not self.request.called_directly:
            raise apply_outcome(Released(seconds), self, payload.baton_of(self.request))
        raise ReleaseJob(seconds)

    def fail(self, error: Exception | str) -> NoReturn:
        """End the job as failed with `error`, even if it has tries left."""
        if isinstance(error, str):
            error = JobFailedError(error)
        raise FailJob(error) if self.is_wrapped and not self.request.called_directly else error

    def progress(self, done: float, total: float) -> None:
        """Store how far the job is, as the state PROGRESS in the result backend if there is one."""
        if (
            self.request.called_directly
            or self.request.is_eager
            or get_actual_ignore_result(self, self.request)
        ):
            return
        try:
            self.update_state(state=PROGRESS, meta={"done": done, "total": total})
        except Exception:  # a job must not fail for its progress bar
            logger.warning(
                "%s[%s] could not store its progress", self.name, self.request.id, exc_info=True
            )

    def retry(self, *args: Any, **options: Any) -> Any:
        """Celery's `retry`. With `tries` it counts by them, and its default wait is the backoff."""
        if self.request.called_directly:
            return super().retry(*args, **options)
        if not self.options.has_retry_policy:
            return requeue.retry_by_celery(self, self.request, super().retry, args, options)
        try:
            return requeue.retry_by_celery(
                self, self.request, super().retry, args, self._retry_options(options)
            )
        except TaskPredicate:
            raise
        except Exception as final:  # Celery gives up: the job has failed, not the attempt alone
            raise FailJob(final) from final

    def _retry_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        _, rules = load_state(self, self.request)
        given = {"max_retries": rules.tries and rules.tries - 1, **options}
        if given.get("countdown") is None and given.get("eta") is None:
            given["countdown"] = backoff.seconds(rules.backoff, self.attempt)
        return given


def _check_class(cls: type[Task], name: str) -> None:
    """Raise OptionError for a class of a task whose names or body can't be meant so."""
    attributes, base = cls.__dict__, cls.__mro__[1]
    if "_decorated" in attributes:  # made by Celery of a function, with the decorator's keywords
        given = {key: value for key, value in attributes.items() if not key.startswith("_")}
        option_names.refuse_in_definition(name, given, base)
    else:
        option_names.refuse_in_class(name, attributes, base)
    for function in ("run", "_decorated_fun"):  # Celery puts a wrapper around a body for pydantic
        body.refuse_unrunnable(name, getattr(cls, function, None), cls)
