"""Celery's settings as Relevo wants them by default: below the project's own configuration."""

from __future__ import annotations

from typing import Any

from relevo.config.settings import (
    REDIS_CONNECT_TIMEOUT_SECONDS,
    REDIS_HEALTH_CHECK_SECONDS,
    REDIS_SOCKET_TIMEOUT_SECONDS,
    Settings,
)

# Results and events too: whoever can write to the broker must not be able to run code by it.
_JSON_ONLY = {
    "accept_content": ["json"],
    "result_accept_content": ["json"],
    "task_serializer": "json",
    "result_serializer": "json",
    "event_serializer": "json",
}

_NOTHING_LOST = {
    "task_acks_late": True,  # a job is done when it has run, not when it has been fetched
    # what a worker holds, it runs; the rest is there for other workers
    "worker_prefetch_multiplier": 1,
    # A broker that refuses a command (full, read-only, failing over) or stays away is waited for,
    # however long: Celery's defaults end the worker at the first refusal, and after a hundred vain
    # attempts to connect.
    "broker_channel_error_retry": True,
    "broker_connection_max_retries": None,
    "broker_connection_retry_on_startup": True,
}

_RESULTS = {
    # Not task_track_started: it would double the writes of every job that keeps a result.
    # with the task's name, arguments and queue; without, a result is a bare id
    "result_extended": True,
    # Not when a program dispatches its first job: it may be in a transaction, and on SQLite that
    # has the one write lock, so that the tables could not be made. The first result makes them.
    "database_create_tables_at_setup": False,
    "redis_socket_timeout": REDIS_SOCKET_TIMEOUT_SECONDS,
    "redis_socket_connect_timeout": REDIS_CONNECT_TIMEOUT_SECONDS,
    "redis_socket_keepalive": True,
    "redis_retry_on_timeout": True,
    "redis_backend_health_check_interval": REDIS_HEALTH_CHECK_SECONDS,
}

_WORKER = {
    "worker_consumer": "relevo.worker.consumer:Consumer",
    "enable_utc": True,
    "timezone": "UTC",
    # with 4 s, a process slow to import its tasks is killed, and the next, for ever
    "worker_proc_alive_timeout": 30,
    # The channel never hands over more than the pool has room for; with the pool's own lock the
    # loop would block on it, deaf to remote control, when an early ack makes room too soon.
    "worker_pool_putlocks": False,
    # the timer's thread sleeps so long before it notices a stop; Celery's is 1 s
    "worker_timer_precision": 0.1,
    # Task events are three a job; sent in groups (worker/event_dispatcher.py), but each is written for whoever
    # listens. They are for those who look: Flower switches them on in every worker when it starts,
    # `worker -E` at the start.
    "worker_send_task_events": False,
    # The project's own logging stays. Celery still sets up the root logger when nobody has.
    "worker_hijack_root_logger": False,
}

_BEAT = {"beat_scheduler": "relevo.schedule.beat:Scheduler"}

_AT_ONCE = {
    "task_always_eager": True,
    "task_eager_propagates": True,
    "beat_scheduler": "relevo.schedule.inline:Scheduler",
}


def preset(settings: Settings) -> dict[str, Any]:
    """Celery's settings as Relevo wants them by default."""
    connection = settings.connection
    return {
        "broker_url": connection.url,
        "broker_transport_options": connection.transport_options,
        "task_default_queue": connection.queue,
        "result_backend": settings.result_backend,
        "result_backend_transport_options": settings.result_transport_options,
        "beat_schedule_filename": str(settings.var_dir / "celerybeat-schedule"),
        **_JSON_ONLY,
        **_NOTHING_LOST,
        **_RESULTS,
        **_WORKER,
        **(_AT_ONCE if connection.driver == "sync" else _BEAT),
    }
