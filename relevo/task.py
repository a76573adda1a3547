"""The Task class: what `create_app` puts under Celery's own decorator.

    @app.task(name="images.process", bind=True, tries=3, backoff=[10, 30, 60], timeout=300)
    def process(self, file_id): ...

    @process.failed
    def process_failed(job, error): ...

It reads our options off the definition, wraps `run` where there is something to decide
(execute.py), puts the baton into what is dispatched (dispatch.py) and names the request class of
the worker's main process (request.py). A task without our options is Celery's in every respect.
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
from relevo.dispatch.builder import DispatchMixin
from relevo.errors import JobFailedError, OptionError
from relevo.execution import attempt as execute
from relevo.execution import requeue, stop_flag
from relevo.execution.failed_hook import FailedHook
from relevo.job import backoff, payload
from relevo.job.control_flow import FailJob, ReleaseJob
from relevo.job.options import NAMES, OVERRIDES, Options, refuse_mixed_options
from relevo.job.outcome import Released
from relevo.transport import put_results

logger = get_logger(__name__)

Hook = TypeVar("Hook", bound=FailedHook)

#: The state a running job has in the result backend once it has said how far it is.
PROGRESS = "PROGRESS"


class Task(DispatchMixin, ReplaceMixin):
    """Celery's Task, with options."""

    abstract = True
    Request = "relevo.worker.request:Request"

    options: ClassVar[Options] = Options()
    failed_hook: FailedHook | None = None
    #: Whether `run` is wrapped, that is, whether there is anything of ours to decide.
    is_wrapped: bool = False
    run: Any
    #: Whether `apply_async` is ours, so that a batch may copy the messages of its jobs.
    plain_dispatch: ClassVar[bool] = True
    #: Whether the hook is run around Celery's retries, and not by what is wrapped.
    hook_wraps_celery_retries: bool = False

    # --- the definition ---------------------------------------------------------------------------
    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        given = {name: cls.__dict__[name] for name in NAMES & cls.__dict__.keys()}
        # a callable left on the class would become a method, and Celery deprecates `queue` there
        for name in given:
            delattr(cls, name)
        name = cls.__dict__.get("name") or cls.name or cls.__name__
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
        if cls.options.needs_wrapping or (is_own and getattr(app, "models", None) is not None):
            task._wrap()
        return task

    @classmethod
    def options_in_project(cls) -> Options:
        """The task's options, with what the project says where it leaves them open. Celery's own
        tasks are left alone.

        QUEUE_MAX_TRIES is for a task that says nothing at all, too, unless it has words of Celery's
        for it.
        """
        app = cls.__dict__.get("app") or cls._app
        options = cls.options
        if cls.__module__.startswith("celery."):
            return options
        if "middleware" not in options.given:
            options = replace(options, middleware=getattr(app, "middleware", ()))
        settings = getattr(app, "settings", None)
        tries, waits = (settings.queue_max_tries, settings.queue_backoff) if settings else (1, ())
        celerys = getattr(cls, "autoretry_for", ()) or cls.max_retries != celery.Task.max_retries
        if not options.has_retry_policy and (tries == 1 or celerys):
            return options
        return options.with_defaults(tries, waits)

    @classmethod
    def bind(cls, app: Any) -> Any:
        super().bind(app)
        if cls.options.queue:
            prepare.check_queue(app, cls.name, cls.options.queue)
            cls.queue = cls.options.queue
        if (
            cls.options.has_retry_policy
        ):  # what follows from a failure is ours to say: Celery may only ack it
            cls.acks_on_failure = cls.acks_on_timeout = True
            cls.reject_on_worker_lost = cls.retry_on_worker_lost = False
            cls.max_retries = None  # `tries` counts
        return app

    def failed(self, hook: Hook) -> Hook:
        """Decorator: call `hook(job, error)` once when a job of this task has failed for good."""
        if (
            self.is_wrapped
            and not self.options.has_retry_policy
            and hasattr(self, "_orig_run")
            and self.failed_hook is None
        ):
            # Celery's autoretry_for stands around what we have is_wrapped, and only what it gives up
            # on has failed.
            self.run, self.hook_wraps_celery_retries = (
                execute.wrap_failed_hook(self, self.run),
                True,
            )
        self.failed_hook = hook
        self._wrap()
        return hook

    @property
    def app_models(self) -> Any:
        """The models whose rows may be arguments."""
        return getattr(self.app, "models", None)

    @property
    def handles_failure(self) -> bool:
        """Whether it is ours to say what follows from an attempt that went wrong."""
        return self.options.has_retry_policy or self.failed_hook is not None

    def _wrap(self) -> None:
        if not self.is_wrapped:
            self.is_wrapped = True
            self.run = execute.wrap_attempt(self, self.run)

    # --- handing in -------------------------------------------------------------------------------
    def apply_async(
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: str | None = None,
        *rest: Any,
        **options: Any,
    ) -> Any:
        """Celery's `apply_async`, which also takes the options in `OVERRIDES`, and a `session` to
        commit it with.
        """
        if "session" in options:
            session = options.pop("session")
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
            return super().apply_async(args, kwargs, task_id, *rest, **options)
        task_id = task_id or str(uuid4())
        receipt = put_results.expect(task_id)
        return async_result.with_put_result(
            receipt, super().apply_async(args, kwargs, task_id, *rest, **options)
        )

    # Celery's name
    def AsyncResult(self, task_id: str, **options: Any) -> async_result.JobResult:  # noqa: N802
        """The result of a job of this task."""
        return async_result.JobResult(
            task_id, backend=self.backend, task_name=self.name, app=self.app, **options
        )

    def apply(self, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Any:
        """Celery's `apply`: run the job here, with the same options as `apply_async`."""
        if self.options.needs_baton or not OVERRIDES.isdisjoint(options):
            options = prepare.with_baton(self, args, kwargs, options)
        return super().apply(args, kwargs, *rest, **options)

    # --- from inside the job ----------------------------------------------------------------------
    @property
    def attempt(self) -> int:
        """Which attempt this is, counted from 1."""
        return int(self.request.retries) + 1

    @property
    def should_stop(self) -> bool:
        """Whether this worker has been asked to stop: it waits for the job, which had better come
        to an end.
        """
        return stop_flag.is_requested()

    def release(self, seconds: float = 0) -> NoReturn:
        """End this attempt: the job goes back and runs again after `seconds`. It burns no attempt."""
        if not backoff.is_wait(seconds):
            raise OptionError(
                f"expected release to be a number of seconds, got {seconds!r} (task {self.name!r})"
            )
        if not self.is_wrapped and not self.request.called_directly:
            raise execute.apply_outcome(Released(seconds), self, payload.baton_of(self.request))
        raise ReleaseJob(seconds)

    def fail(self, error: Exception | str) -> NoReturn:
        """End the job: it has failed for good, with `error`, whatever tries it had left."""
        if isinstance(error, str):
            error = JobFailedError(error)
        raise FailJob(error) if self.is_wrapped and not self.request.called_directly else error

    def progress(self, done: float, total: float) -> None:
        """Say how far the job is. It stands in the result backend, as the state PROGRESS; without
        one, nowhere.
        """
        if (
            self.request.called_directly
            or self.request.is_eager
            or get_actual_ignore_result(self, self.request)
        ):
            return
        try:
            self.update_state(state=PROGRESS, meta={"done": done, "total": total})
        except Exception:  # a progress bar is not worth a job
            logger.warning(
                "%s[%s] could not store its progress", self.name, self.request.id, exc_info=True
            )

    def retry(self, *args: Any, **options: Any) -> Any:
        """Celery's `retry`. With `tries` it counts by them, and waits for the backoff unless it is
        told how long.
        """
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
        except (
            Exception
        ) as final:  # it has given up: what it raises is the end of the job, not of an attempt
            raise FailJob(final) from final

    def _retry_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        _, rules = execute.load_state(self, self.request)
        told = {"max_retries": rules.tries and rules.tries - 1, **options}
        if told.get("countdown") is None and told.get("eta") is None:
            told["countdown"] = backoff.seconds(rules.backoff, self.attempt)
        return told
