"""The application's Celery settings: its queues, and the queue of every task.

All other settings come from Relevo's preset (relevo/config/celery.py). Names are Celery's own:
https://docs.celeryq.dev/en/stable/userguide/configuration.html
"""

from kombu import Exchange, Queue

from beat_schedule import BEAT_SCHEDULE

# A worker without -Q takes jobs from them in this order: from a queue only while all queues before
# it are empty. With -Q it is the order given there: `-Q critical,high,default`.
QUEUES = (
    "critical",  # must not wait behind anything: orders
    "high",
    "transactional",  # mail that a person waits for
    "default",
    "webhooks",
    "imports",
    "exports",
    "marketing",  # mail without hurry
    "low",
    "long",  # jobs that take minutes; in production they have their own workers
)

task_queues = tuple(Queue(name, Exchange("jobs"), routing_key=name) for name in QUEUES)

# A queue that isn't declared has no worker, and a job there would wait for ever. So the dispatch
# refuses it.
task_create_missing_queues = False

# The first pattern that matches a task's name decides. A queue of the task's options or of the
# dispatch takes precedence.
task_routes = (
    [
        ("images.*", "default"),
        ("email.send_marketing", "marketing"),
        ("email.*", "transactional"),
        ("reports.*", "long"),
        ("exports.*", "exports"),
        ("imports.*", "imports"),
        ("webhooks.*", "webhooks"),
        ("catalog.*", "long"),
        ("cases.*", "high"),
        ("events.*", "default"),
        ("orders.*", "critical"),
        ("files.*", "default"),
        ("alerts.*", "high"),
        ("cleanup.*", "low"),
        ("celery.backend_cleanup", "low"),
    ],
)

beat_schedule = BEAT_SCHEDULE
