"""python -m tasks.demo [--images FOLDER] [--tour]

Makes thumbnails of pictures. Without a folder, or with --tour, the rest of the tour follows
(`tour.py`).

Exit code 0: every picture has versions, or an error in its row. 1: the demo could not go on, and
says why. 2: the folder can't be used. 130: stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any

from kombu.exceptions import OperationalError
from sqlalchemy.exc import SQLAlchemyError

from app.models import schema
from relevo.database.engine import engine_for
from relevo.database.schema import create_schema
from relevo.errors import RelevoError
from tasks import app
from tasks.demo import pictures, progress, tour, uploads
from tasks.demo.interrupt import Interrupt, InterruptedDemoError
from tasks.demo.progress import DemoError
from tasks.demo.screen import Line, Screen
from tasks.demo.worker import QUEUES, NoWorker, Worker

# The `sync` connection has no worker: each job runs where it is dispatched.
IS_SYNC = app.settings.connection.driver == "sync"
# On SQLite a worker makes missing tables, or waits while another process makes them. So it can
# start before `prepare`.
IS_SQLITE = app.settings.database_url.startswith("sqlite")

Pictures = list[tuple[str, pictures.Opener]]


class Demo:
    """One run: its pictures, and the results so far."""

    def __init__(self, chosen: Pictures, touring: bool, interrupt: Interrupt) -> None:
        self.chosen, self.tour = chosen, touring
        self.interrupt = interrupt
        self.names: dict[int, str] = {}
        self.results: dict[int, Any] = {}
        self.unread: list[Line] = []
        self.screen = Screen(len(chosen))
        self.log = app.settings.var_dir / "demo-worker.log"

    def run(self) -> None:
        if not IS_SQLITE:
            prepare()
        worker = NoWorker() if IS_SYNC else Worker(self.log, self.interrupt)
        try:
            with self.screen, worker, contextlib.ExitStack() as stack:
                if IS_SQLITE:
                    prepare()
                self.dispatch_pictures()
                steps = stack.enter_context(tour.Tour().start()) if self.tour else []
                self.screen.doing("at work")
                if self.names:
                    progress.watch(self.names, worker, self.interrupt, self.screen)
                tour.watch(steps, worker, self.interrupt, self.screen)
                self.report()
                self.screen.doing("stopping the worker")
        except DemoError as error:
            said = worker.log_tail() if isinstance(worker, Worker) else ""
            raise DemoError(f"{error}.\nThe end of {self.log}:\n{said}") from error

    def dispatch_pictures(self) -> None:
        """Store and dispatch the pictures one by one, while the worker is starting."""
        user = uploads.demo_user()
        for name, opener in self.chosen:
            self.interrupt.check()
            self.screen.doing(f"storing {name}"[:60])
            try:
                source = opener()
            except OSError as error:
                self.skip_unreadable(name, error)
                continue
            with source:
                file_id = uploads.store(user, name, source)
            self.names[file_id] = name
            self.results[file_id] = progress.dispatch(file_id, user)

    def skip_unreadable(self, name: str, error: OSError) -> None:
        """Show an unreadable file as a line of the table, and go on."""
        self.unread.append(Line(name, 0, [], None, f"can't be read: {error.strerror}"))
        self.screen.done(name, self.unread[-1].error)

    def report(self) -> None:
        made = progress.lines(self.results) + self.unread
        self.screen.table(made)
        errors = sum(1 for line in made if line.error)
        versions = sum(len(line.versions) for line in made)
        self.screen.say(
            f"{len(made) - errors} pictures have {versions} versions; {errors} ended in an error."
        )
        self.screen.say(f"They are in {app.settings.storage / 'versions'}")
        if not IS_SYNC:
            self.screen.say(f"The log of the worker is {self.log}")

    def report_interrupted(self) -> None:
        ended = sum(1 for line in progress.lines(self.results) if line.ended)
        self.screen.say(
            f"Stopped: {ended} of {len(self.chosen)} pictures are done,"
            f" {len(self.results) - ended} wait in the queue for the next demo or worker"
            f" (celery -A tasks worker -Q {QUEUES})."
        )


def prepare() -> None:
    """Make the tables of the application, and those of the broker if it is a database."""
    engine = engine_for(app.settings.database_url)
    schema.upgrade(engine)
    if app.settings.connection.driver == "database":
        create_schema(engine)


def main() -> int:
    interrupt = Interrupt()
    demo = Demo(*choose(), interrupt)
    try:
        demo.run()
    except InterruptedDemoError:
        demo.report_interrupted()
        return 130
    except (DemoError, RelevoError, OperationalError, SQLAlchemyError, OSError) as error:
        print(f"The demo could not go on: {error}", file=sys.stderr)  # noqa: T201  a program's output
        return 1
    return 0


def choose() -> tuple[Pictures, bool]:
    """The pictures, and whether the tour follows: it needs a worker, and a mailer that sends no
    real mail.
    """
    parser = argparse.ArgumentParser(
        "python -m tasks.demo", description="Pictures to thumbnails, by a real queue."
    )
    parser.add_argument(
        "--images", metavar="FOLDER", help="your pictures, with those of its folders"
    )
    parser.add_argument(
        "--tour", action="store_true", help="the rest of the tour, with pictures of your own, too"
    )
    given = parser.parse_args()
    folder, touring = (
        given.images,
        (given.tour or given.images is None) and not IS_SYNC and not app.settings.mail.host,
    )
    if folder is None:
        return list(pictures.drawn()), touring
    if not folder or not Path(folder).is_dir():  # an empty path would be the current folder
        parser.error(f"expected --images to be a folder, got {folder!r}")
    found = list(pictures.in_folder(Path(folder)))
    return (
        (found, touring)
        if found
        else parser.error(f"expected pictures in {folder!r}, found no file")
    )


if __name__ == "__main__":
    sys.exit(main())
