"""The app of the dashboard's real workers: names and arguments of its jobs would run if a page let
them.

The environment names its broker and its store, as in a project.
"""

from __future__ import annotations

import time

from relevo.app import create_app
from relevo.middleware import RateLimited, WithoutOverlapping
from tests.support.hostile_text import HOSTILE

app = create_app(
    "shop",
    limits={"mail": "2/hour"},
    worker_lost_wait=0.1,
    beat_schedule={HOSTILE: {"task": "reports.generate", "args": [HOSTILE], "schedule": 3600}},
)


@app.task(name="images.process" + HOSTILE, tags=lambda name, **_: [name, "all"], shared=False)
def process(name, size=None):
    """Do nothing."""


@app.task(name="reports.generate", tries=1, tags=["reports", HOSTILE], shared=False)
def report(kind):
    raise ValueError(f"no such report: {kind}")


@app.task(name="email.send", middleware=[RateLimited("mail", by="user")], shared=False)
def send(user):
    """Do nothing, at most twice an hour; the third job waits."""


@app.task(
    name="events.process",
    bind=True,
    tries=3,
    middleware=[WithoutOverlapping(by="event")],
    shared=False,
)
def events(self, event):
    """Run until the test makes a file."""
    self.progress(1, 4)
    while not (app.settings.var_dir / "go").exists():
        time.sleep(0.05)
