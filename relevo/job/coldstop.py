"""Celery's cold stop (SIGQUIT, a second Ctrl-C), done between two steps of the loop; see `drivers.safepoint`."""

from __future__ import annotations

from functools import partial
from typing import Any

from celery.apps import worker as celery_worker
from celery.worker import state

from relevo.drivers import safepoint


def install() -> None:
    """Take the place of Celery's own in the handler that it installs for its signals. May be called again."""
    handler = celery_worker.install_worker_term_hard_handler
    if isinstance(handler, partial) and handler.keywords.get("callback") is celery_worker.on_cold_shutdown:
        celery_worker.install_worker_term_hard_handler = partial(
            handler.func, **{**handler.keywords, "callback": on_cold_shutdown}
        )


def on_cold_shutdown(worker: Any) -> None:
    """What Celery's signal handler calls."""
    safepoint.run(partial(_stop, worker))


def _stop(worker: Any) -> None:
    # The handler has said "terminate" by now if this was put off; Celery's own callback runs before that, and a soft
    # stop waits for running jobs as long as it isn't said.
    state.should_terminate = None
    celery_worker.on_cold_shutdown(worker)
