"""Celery's cold stop (SIGQUIT, a second Ctrl-C), done where the main thread waits; see
`drivers.safepoint`.

Celery kills what it knows to run. A job that a child has just taken is not among that, and the stop
would wait for its end: so what waits in the pipe is called back first, and what turns out to run
after all is killed then (`is_asked`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from celery.apps import worker as celery_worker
from celery.worker import state

from relevo.execution import stop_flag
from relevo.transport import deferred_signals, qos


def register_cold_shutdown() -> None:
    """Take the place of Celery's own in the handler that it installs for its signals. May be called
    again.
    """
    handler = celery_worker.install_worker_term_hard_handler
    if (
        isinstance(handler, partial)
        and handler.keywords.get("callback") is celery_worker.on_cold_shutdown
    ):
        celery_worker.install_worker_term_hard_handler = partial(
            handler.func, **{**handler.keywords, "callback": on_cold_shutdown}
        )


def is_asked() -> bool:
    """Whether this worker is in its cold stop: nothing is to start any more."""
    return stop_flag.is_cold() or bool(state.should_terminate)


def on_cold_shutdown(worker: Any) -> None:
    """What Celery's signal handler calls."""
    deferred_signals.run(partial(_stop, worker))


def _stop(worker: Any) -> None:
    # The handler has said "terminate" by now if this was put off; Celery's own callback runs before
    # that, and a soft stop waits for running jobs as long as it isn't said.
    state.should_terminate = None
    if worker.app.conf.worker_soft_shutdown_timeout:
        stop_flag.request_stop()
    else:
        stop_flag.request_cold_stop()
    if qos.pool is not None:
        qos.pool.recall()
    celery_worker.on_cold_shutdown(worker)
