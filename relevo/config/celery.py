"""Relevo's defaults for Celery's settings. A project's own configuration goes before them."""

from __future__ import annotations

from typing import Any

from relevo.config.settings import (
    REDIS_CONNECT_TIMEOUT_SECONDS,
    REDIS_HEALTH_CHECK_SECONDS,
    REDIS_SOCKET_TIMEOUT_SECONDS,
    Settings,
)

# Also for results and events: access to the broker must not be enough to run code in a worker.
_JSON_ONLY = {
    "accept_content": ["json"],
    "result_accept_content": ["json"],
    "task_serializer": "json",
    "result_serializer": "json",
    "event_serializer": "json",
}

_NOTHING_LOST = {
    "task_acks_late": True,  # a job is acked when it has run, not when it is fetched
    # A worker holds only the jobs that it runs; the others are left for other workers.
    "worker_prefetch_multiplier": 1,
    # The worker waits for a broker that refuses commands (full, read-only, failing over) or is
    # away, for as long as it takes. With Celery's defaults it ends at the first refusal, or after
    # a hundred attempts to connect.
    "broker_channel_error_retry": True,
    "broker_connection_max_retries": None,
    "broker_connection_retry_on_startup": True,
}

_RESULTS = {
    # task_track_started is left off: it would double the writes of every job that keeps a result.
    # Results hold the task's name, arguments and queue; otherwise a result is a bare id.
    "result_extended": True,
    # The first result makes the tables. At setup, a program may dispatch its first job in a
    # transaction; on SQLite that holds the one write lock, so the tables could not be made.
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
    # With 4 s, a process that imports its tasks slowly is killed, and so is the next, for ever.
    "worker_proc_alive_timeout": 30,
    # The channel never delivers more jobs than the pool has room for. If an early ack made room too
    # soon, the pool's own lock would block the event loop, and remote control with it.
    "worker_pool_putlocks": False,
    # How long the timer's thread may sleep before it notices a stop. Celery's default is 1 s.
    "worker_timer_precision": 0.1,
    # Three events a job. They are sent in groups (worker/event_dispatcher.py), but each is written
    # for every listener, so they are off until one asks: Flower turns them on in all workers when
    # it starts, and `worker -E` from the start.
    "worker_send_task_events": False,
    # The project's own logging stays. Celery still sets up the root logger if it has no handler.
    "worker_hijack_root_logger": False,
}

_BEAT = {"beat_scheduler": "relevo.schedule.beat:Scheduler"}

_INLINE = {
    "task_always_eager": True,
    "task_eager_propagates": True,
    "beat_scheduler": "relevo.schedule.inline:Scheduler",
}


def preset(settings: Settings) -> dict[str, Any]:
    """Return Celery's settings with Relevo's defaults."""
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
        **(_INLINE if connection.driver == "sync" else _BEAT),
    }
