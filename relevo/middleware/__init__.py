"""Middlewares wrap the run of a job. This is their public home: the base class, and those that come
with Relevo.

    class Timed(Middleware):
        def handle(self, job, call_next):
            began = time.monotonic()
            try:
                return call_next()                  # the next middleware, and in the end the job
            finally:
                log.info("%s took %.1f s", job.task, time.monotonic() - began)

    @app.task(name="reports.generate",
              middleware=[Timed(), Skip(when=lambda job: is_closed(job.args[0]))])
    def generate(report_id): ...

They run in the process that runs the job, at every attempt, the first one outermost. The error that
one raises is the attempt's; the value that it returns is the job's result. Instead of calling
`call_next` it may end the attempt: with `job.release(seconds)` (which doesn't count as an attempt),
`job.skip(reason)` or `job.fail(error)`.
"""

from __future__ import annotations

from relevo.job.middleware import FunctionMiddleware, Middleware, RunningJob
from relevo.middleware.limits import RateLimited, ThrottleErrors, WithoutOverlapping
from relevo.middleware.skip import Skip
from relevo.middleware.transaction import Transaction, session

__all__ = [
    "FunctionMiddleware",
    "Middleware",
    "RateLimited",
    "RunningJob",
    "Skip",
    "ThrottleErrors",
    "Transaction",
    "WithoutOverlapping",
    "session",
]
