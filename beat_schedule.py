"""What runs by the clock: `celery -A tasks beat` dispatches each entry when its time comes."""

from celery.schedules import crontab

# An entry's key is its name, for people. `task` is a task's permanent name, `schedule` a crontab (in UTC) or a number
# of seconds, `options` say where it goes, and `args` and `kwargs` what the task is called with.
BEAT_SCHEDULE = {
    "half-written temporary files": {
        "task": "cleanup.temporary_files",
        "schedule": crontab(minute=17),  # every hour, beside the full hour at which everyone else begins
        "options": {"queue": "low"},
    },
}
