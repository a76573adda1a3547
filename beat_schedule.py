"""The schedule: `celery -A tasks beat` dispatches each entry when it is due, once, also if several
beats run.

An entry's key is its name for people. `task` is the permanent name of a task, `schedule` a crontab
(in UTC) or a number of seconds, `options` has the queue, `args` and `kwargs` are the task's
arguments. `catch_up` is the rule for missed ticks (docs/schedule.md).
"""

from typing import Any

from celery.schedules import crontab

HOUR = 3600


def cleanup(task: str, **when: Any) -> dict[str, Any]:
    """An entry of a cleanup task. After a gap it runs once, however many ticks were missed."""
    return {
        "task": task,
        "schedule": crontab(**when),
        "options": {"queue": "low"},
        "catch_up": "one",
    }


# Odd minutes: away from the full hour, at which other programs start, and from each other.
BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "half-written temporary files": cleanup("cleanup.temporary_files", minute=17),
    "files of reports and exports that have expired": cleanup("cleanup.documents", minute=23),
    "records that are needed no more": cleanup("cleanup.records", minute=37),
    "uploads of imports that ended a month ago": cleanup("cleanup.uploads", minute=41, hour=3),
    "failed jobs that nobody retried for a month": cleanup("cleanup.failed_jobs", minute=7, hour=4),
    "batches that ended a week ago": cleanup("cleanup.batches", minute=13, hour=4),
    "the system report of each administrator": {
        "task": "reports.system_daily",
        "schedule": crontab(minute=3, hour=6),
        "options": {"queue": "long"},
        "catch_up": "one",
        "catch_up_window": 12 * HOUR,  # a morning's report is not made in the evening
    },
}
