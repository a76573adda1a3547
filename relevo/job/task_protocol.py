"""What the stations below the Task class may ask of a task.

`relevo/task.py` stands at the top and imports them, so they name this protocol instead of the class.
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
    _dump_pydantic_arguments: Any  # Celery's own
    Request: Any
    run: Any
    failed_hook: Any
    #: Whether the hook runs around Celery's own retries, outside what we wrap.
    hook_wraps_celery_retries: bool

    @property
    def options(self) -> Any:
        """The task's `Options` (not named here: they are made of middlewares, which get a job)."""

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

    def signature_from_request(self, request: Any = None, **options: Any) -> Any: ...
