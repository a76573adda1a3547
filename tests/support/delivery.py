"""A delivery of a job in a worker's main process."""

from __future__ import annotations

from types import SimpleNamespace

from billiard.einfo import ExceptionInfo
from celery.exceptions import TimeLimitExceeded

from relevo.worker.request import Request

EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


class Delivery:
    """A job as the main process holds it, and the answers that it gave to the broker."""

    def __init__(self, app, task, retries=0, **baton):
        headers = {
            "id": "1",
            "task": task.name,
            "retries": retries,
            "relevo": baton,
            "ignore_result": True,
        }
        body = ((), {}, EMBED)
        message = SimpleNamespace(
            headers=headers,
            body=body,
            payload=body,
            content_type="application/json",
            content_encoding="utf-8",
            delivery_info={"exchange": "", "routing_key": "default"},
            properties={},
        )
        self.answers = []
        self.request = Request(
            message,
            app=app,
            task=app.tasks[task.name],
            decoded=True,
            body=body,
            on_ack=lambda *_: self.answers.append("ack"),
            on_reject=lambda _log, _errors, requeue: self.answers.append(
                "back" if requeue else "drop"
            ),
        )

    def ends_in(self, error):
        try:
            raise error
        except type(error):
            self.request.on_failure(ExceptionInfo())
        if isinstance(error, TimeLimitExceeded):
            self.request.on_timeout(soft=False, timeout=5)
