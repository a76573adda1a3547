"""`celery -A tasks work`: a worker that ends by itself, for cron, containers and tests.

It is Celery's own worker with every option of `celery worker` (`-Q`, `-c`, `-P`, `-l` …), and with
limits (`relevo/transport/work_limits.py`). Several may run at once: each job is reserved by one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import click
from celery.bin.worker import worker as celery_worker

from relevo.cli.context import driver_of
from relevo.cli.options import Duration
from relevo.cli.output import one_line_errors
from relevo.transport.context import current, wake_worker
from relevo.transport.work_limits import WorkLimits


@click.command("work", context_settings={"ignore_unknown_options": True})
@click.option("--once", is_flag=True, help="Run one job, if one is due.")
@click.option("--stop-when-empty", "when_empty", is_flag=True, help="Run all due jobs.")
@click.option(
    "--max-jobs", type=click.IntRange(1), help="Stop after this many jobs; wait for them."
)
@click.option(
    "--max-time",
    type=Duration(),
    help="Stop after 90 (seconds), 15m, 4h or 2d; running jobs finish.",
)
@click.argument(
    "worker_options", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS OF celery worker]"
)
@click.pass_context
@one_line_errors
def work(
    context: click.Context,
    once: bool,
    when_empty: bool,
    max_jobs: int | None,
    max_time: float | None,
    worker_options: tuple[str, ...],
) -> None:
    """A worker that ends by itself: after some jobs, when no job is due, or after a time.

    Every option of `celery worker` may follow, like -Q high,default or -c 4.
    """
    if not (once or when_empty or max_jobs or max_time):
        raise click.UsageError(
            "expected --once, --stop-when-empty, --max-jobs or --max-time;"
            " `celery worker` is a worker without an end"
        )
    if once and max_jobs:
        raise click.UsageError("expected --once or --max-jobs, got both")
    # If the broker is away, this ends now. A worker would wait for it, and cron would start more.
    driver_of(context).paused()
    limits = WorkLimits(1 if once else max_jobs, once or when_empty)
    if max_time:
        limits.stop_after(max_time, wake_worker)
    current().work_limits = limits  # until the worker starts, and makes a context of its own
    context.obj.quiet = True  # No banner: cron would mail it each time.
    try:
        with celery_worker.make_context(
            "worker", _options(worker_options, once), parent=context
        ) as worker:
            celery_worker.invoke(worker)
    finally:
        limits.cancel_timer()
        current().work_limits = WorkLimits()


def _options(given: Sequence[str], once: bool) -> list[str]:
    """The worker's options, with a unique name (two workers of one name would share a mailbox), and
    with one process for one job.
    """
    options = list(given)
    if not _has(given, "-n", "--hostname"):
        options += ["-n", f"work-{os.getpid()}@%h"]
    if once and not _has(given, "-c", "--concurrency", "--autoscale"):
        options += ["-c", "1"]
    return options


def _has(given: Sequence[str], *names: str) -> bool:
    return any(
        word.partition("=")[0] in names or (word[:2] in names and word[:2] != "--")
        for word in given
    )
