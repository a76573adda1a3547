"""The tasks that the tests of Celery's chords dispatch.

Some note their calls in `calls`. `breaks` raises until `mended` is set.
"""

from __future__ import annotations

import threading
from types import SimpleNamespace

from celery import chain, chord, group
from celery.exceptions import Ignore

from relevo import config
from relevo.app import create_app
from relevo.store.store import store_for

calls: list[tuple] = []
mended = threading.Event()


def add(x, y=0):
    return x + y


def total(numbers):
    calls.append(("total", numbers))
    return sum(numbers)


def same(given):
    return given


def breaks(number):
    if not mended.is_set():
        raise ValueError(number)
    return number


def alarm(request, error, _traceback):
    calls.append(("alarm", request.id, type(error).__name__))


def late_alarm(uuid):
    calls.append(("late_alarm", uuid))


def ignores():
    raise Ignore


def goes_on(self, how):
    made = self.app.tasks["add"]
    parts = [made.si(40), made.si(2)]
    breaks = self.app.tasks["breaks"].si(1)
    return self.replace(
        {
            "job": made.si(40, 2),
            "chain": chain(made.si(40), made.s(2)),
            "group": group(parts),
            "breaks": chord([breaks, made.si(1)], self.app.tasks["total"].s()),
            "breaks before a chain": chord(
                [breaks, made.si(1)], chain(self.app.tasks["total"].s(), made.s(1))
            ),
        }[how]
    )


def grows(self, again=False):
    self.add_to_chord(self.app.tasks["add"].s(100))
    return self.replace(self.app.tasks["grows"].si()) if again else 1


def is_in(self):
    return self.batch.id


def cancels(self):
    self.batch.cancel()
    return 1


def app_on(connection, folder, environ):
    """An app with these tasks, by their names, and its store."""
    environ = {
        "QUEUE_CONNECTION": connection,
        "DATABASE_URL": f"sqlite:///{folder}/relevo.sqlite3",
        "RELEVO_VAR_DIR": str(folder),
        **environ,
    }
    app = create_app("shop", config.load(environ, None), task_default_queue=f"chords-{folder.name}")
    made = {
        each.__name__: app.task(each, name=each.__name__, shared=False)
        for each in (add, total, same, breaks, alarm, late_alarm, ignores)
    }
    made |= {
        each.__name__: app.task(each, name=each.__name__, shared=False, bind=True)
        for each in (goes_on, grows, is_in, cancels)
    }
    made["alone"] = app.task(add, name="alone", shared=False, unique_by=[])
    made["quiet"] = app.task(add, name="quiet", shared=False, ignore_result=True)
    if connection == "database":
        app.backend.session_manager.forked = (
            True  # as in a pool's process: one engine for all steps
        )
    return SimpleNamespace(app=app, store=store_for(app.settings.database_url), **made)
