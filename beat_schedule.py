"""What runs by the clock: `celery -A tasks beat` dispatches each entry when its time comes, once,
however many run.

An entry's key is its name, for people. `task` is a task's permanent name, `schedule` a crontab (in
UTC) or a number of seconds, `options` say where it goes, and `args` and `kwargs` what the task is
called with. `catch_up` says what becomes of ticks that were missed (docs/schedule.md).
"""

from typing import Any

from celery.schedules import crontab

HOUR = 3600


def tidying(task: str, **when: Any) -> dict[str, Any]:
    """An entry that deletes what is old: after a gap once is enough, however many runs were missed."""
    return {
        "task": task,
        "schedule": crontab(**when),
        "options": {"queue": "low"},
        "catch_up": "one",
    }


# The minutes are odd ones: beside the full hour, at which everyone else begins, and beside each
# other.
BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "half-written temporary files": tidying("cleanup.temporary_files", minute=17),
    "files of reports and exports that have expired": tidying("cleanup.documents", minute=23),
    "records that are needed no more": tidying("cleanup.records", minute=37),
    "uploads of imports that ended a month ago": tidying("cleanup.uploads", minute=41, hour=3),
    "failed jobs that nobody retried for a month": tidying("cleanup.failed_jobs", minute=7, hour=4),
    "batches that ended a week ago": tidying("cleanup.batches", minute=13, hour=4),
    "the system report of each administrator": {
        "task": "reports.system_daily",
        "schedule": crontab(minute=3, hour=6),
        "options": {"queue": "long"},
        "catch_up": "one",
        "catch_up_window": 12 * HOUR,  # in the evening it is no morning's report
    },
}
