"""Skips jobs that have become pointless: the order is paid, the batch was cancelled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from relevo.errors import OptionError
from relevo.job.middleware import CallNext, Middleware, RunningJob

Condition = Callable[[RunningJob], object]


class Skip(Middleware):
    """Skip the job if `when(job)` is true, or if `unless(job)` is false.

    `reason`: what its history says.
    """

    name = "skip"

    def __init__(
        self, *, when: Condition | None = None, unless: Condition | None = None, reason: str = ""
    ) -> None:
        for name, condition in (("when", when), ("unless", unless)):
            if condition is not None and not callable(condition):
                raise OptionError(
                    f"expected {name} of Skip to be a callable that takes the job, got"
                    f" {condition!r}"
                )
        if when is None and unless is None:
            raise OptionError("expected Skip to be given when or unless, got neither")
        self.when, self.unless, self.reason = when, unless, reason

    def handle(self, job: RunningJob, call_next: CallNext) -> Any:
        if self.when is not None and self.when(job):
            job.skip(self.reason or "skipped, by its condition `when`")
        if self.unless is not None and not self.unless(job):
            job.skip(self.reason or "skipped, by its condition `unless`")
        return call_next()
