"""What the stations below the Task class may ask of a task.

`relevo/task.py` imports those stations, so they can't import it; they name this protocol instead.
"""

from __future__ import annotations

from typing import Any, Protocol


class TaskLike(Protocol):
    """A task of ours: Celery's Task, with options."""

    name: Any
    app: Any
    request: Any
    backend: Any
    acks_late: Any
    typing: Any
    _dump_pydantic_arguments: Any  # of Celery's Task
    Request: Any
    run: Any
    failed_hook: Any
    max_retries: Any
    #: Whether `run` is wrapped in `wrap_attempt`.
    is_wrapped: bool
    #: Whether the `failed` hook runs around Celery's own retries, outside `wrap_attempt`.
    hook_wraps_celery_retries: bool

    @property
    def options(self) -> Any:
        """The task's `Options`. Typed Any: importing them here would close a circle."""

    @property
    def attempt(self) -> int: ...

    @property
    def app_models(self) -> Any: ...

    def apply(self, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Any: ...

    def apply_async(
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: str | None = None,
        *rest: Any,
        **options: Any,
    ) -> Any: ...

    async def aapply_async(
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any
    ) -> Any: ...

    def signature_from_request(self, request: Any = None, **options: Any) -> Any: ...
