"""A producer that records jobs instead of publishing them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from relevo.testing.dispatched import Dispatched


class RecordingProducer:
    """Stands in a kombu producer's place. `record` gets each job that is published with it.

    `asked` holds the arguments that `send_task` was called with.
    """

    def __init__(self, record: Callable[[Dispatched], None]) -> None:
        self.record = record
        self.asked: Mapping[str, Any] = {}
        self.connection = self

    def _reraise_as_library_errors(self) -> AbstractContextManager[None]:
        """Celery publishes inside this context manager of a connection."""
        return nullcontext()
