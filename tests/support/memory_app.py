"""Celery apps with our Task class, on kombu's broker in memory."""

from __future__ import annotations

import itertools
import uuid

from celery import Celery


class App(Celery):
    """Keeps its tasks to itself (Celery would define them in every app of the process) and gives
    each a name of its own.
    """

    numbers = itertools.count(1)

    def task(self, *args, **options):
        return super().task(
            *args, **{"shared": False, "name": f"task-{next(self.numbers)}", **options}
        )


def make_app(**config) -> Celery:
    """An app on a broker in memory. Its results are kept, so that a test can wait for one."""
    return App(
        "shop",
        broker="memory://",
        backend="cache+memory://",
        task_cls="relevo.task:Task",
        set_as_current=False,
        changes={
            # kombu's memory is one for the whole process
            "task_default_queue": f"default-{uuid.uuid4()}",
            "task_acks_late": True,
            "worker_prefetch_multiplier": 1,
            "broker_transport_options": {"polling_interval": 0.001},
            **config,
        },
    )
