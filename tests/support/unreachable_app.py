"""An app whose broker and result backend can't be reached: sending a job for real is an error."""

from __future__ import annotations

from kombu.exceptions import OperationalError

from relevo import config
from relevo.app import App
from relevo.transport import registration

NOWHERE = "redis://127.0.0.1:1/0"
#: The error of an attempt to reach it: the broker's, or that of Celery's result backend.
REFUSED = (OperationalError, RuntimeError)


def make_app(**changes) -> App:
    changes = {
        "broker_url": NOWHERE,
        "result_backend": NOWHERE,
        "result_backend_transport_options": {"retry_policy": {"max_retries": 0}},
        "task_publish_retry": False,
        **changes,
    }
    registration.register_transport()  # as create_app does; the messages of a fake need it, too
    return App("shop", settings=config.load(), set_as_current=False, changes=changes)
