"""Celery's cold stop (SIGQUIT, a second Ctrl-C), done where the main thread waits.

See `relevo/transport/deferred_signals.py`. Celery kills the jobs that it knows to run. A job that a
child has just taken is not among them, and the stop would wait for its end. So the jobs in the pipe
are recalled first, and a job that turns out to run after all is killed then (`is_requested`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from celery.apps import worker as celery_worker
from celery.worker import state

from relevo.execution import stop_flag
from relevo.transport import context, deferred_signals


def register_cold_shutdown() -> None:
    """Replace Celery's own callback in the handler that it installs for its signals.

    May be called again.
    """
    handler = celery_worker.install_worker_term_hard_handler
    if (
        isinstance(handler, partial)
        and handler.keywords.get("callback") is celery_worker.on_cold_shutdown
    ):
        celery_worker.install_worker_term_hard_handler = partial(
            handler.func, **{**handler.keywords, "callback": on_cold_shutdown}
        )


def is_requested() -> bool:
    """Whether this worker is in its cold stop, so that no job may start any more."""
    return stop_flag.is_cold() or bool(state.should_terminate)


def on_cold_shutdown(worker: Any) -> None:
    """Called by Celery's signal handler."""
    deferred_signals.defer(partial(_stop, worker))


def _stop(worker: Any) -> None:
    # If this was deferred, the handler has set `should_terminate` by now. Celery's own callback
    # runs before that, and a soft stop waits for running jobs only while it isn't set.
    state.should_terminate = None
    if worker.app.conf.worker_soft_shutdown_timeout:
        stop_flag.request_stop()
    else:
        stop_flag.request_cold_stop()
    context.current().recall_unstarted()
    if (shipper := context.current().shipper) is not None:
        shipper.promote_all()
    celery_worker.on_cold_shutdown(worker)
