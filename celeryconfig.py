"""The application's Celery settings: its queues, and the queue of every task.

The rest is Relevo's preset (relevo/app.py). Names are Celery's own:
https://docs.celeryq.dev/en/stable/userguide/configuration.html
"""

from kombu import Exchange, Queue

from beat_schedule import BEAT_SCHEDULE

# In the order in which a worker without -Q empties them: strictly, the next one only when those
# before it are empty. With -Q it is the order given there: `-Q critical,high,default`.
QUEUES = (
    "critical",  # what can't wait for anything
    "high",
    "transactional",  # mail a person waits for
    "default",
    "webhooks",
    "imports",
    "exports",
    "marketing",  # mail nobody waits for
    "low",
    "long",  # jobs of minutes; in production it has workers of its own
)

task_queues = tuple(Queue(name, Exchange("jobs"), routing_key=name) for name in QUEUES)

# A queue that isn't declared has no worker, so a job sent there would lie for ever: it is refused
# at the dispatch.
task_create_missing_queues = False

# The first pattern that fits a task's name decides. A queue named by the task or by the dispatch
# goes before.
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
