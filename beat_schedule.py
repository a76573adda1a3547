"""What runs by the clock: `celery -A tasks beat` dispatches each entry when its time comes."""

from typing import Any

from celery.schedules import crontab

# An entry's key is its name, for people. `task` is a task's permanent name, `schedule` a crontab (in UTC) or a number
# of seconds, `options` say where it goes, and `args` and `kwargs` what the task is called with.
#
# The minutes are odd ones: beside the full hour, at which everyone else begins, and beside each other.
BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "half-written temporary files": {
        "task": "cleanup.temporary_files",
        "schedule": crontab(minute=17),
        "options": {"queue": "low"},
    },
    "files of reports and exports that have expired": {
        "task": "cleanup.documents",
        "schedule": crontab(minute=23),
        "options": {"queue": "low"},
    },
    "uploads of imports that ended a month ago": {
        "task": "cleanup.uploads",
        "schedule": crontab(minute=41, hour=3),
        "options": {"queue": "low"},
    },
    "failed jobs that nobody retried for a month": {
        "task": "cleanup.failed_jobs",
        "schedule": crontab(minute=7, hour=4),
        "options": {"queue": "low"},
    },
    "batches that ended a week ago": {
        "task": "cleanup.batches",
        "schedule": crontab(minute=13, hour=4),
        "options": {"queue": "low"},
    },
    "records that are needed no more": {
        "task": "cleanup.records",
        "schedule": crontab(minute=37),
        "options": {"queue": "low"},
    },
    "the system report of each administrator": {
        "task": "reports.system_daily",
        "schedule": crontab(minute=3, hour=6),
        "options": {"queue": "long"},
    },
}
