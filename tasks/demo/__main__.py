"""python -m tasks.demo [--images FOLDER] [--tour]

Pictures to thumbnails; and, unless a folder of one's own was given, the rest of the tour
(`tour.py`).

Exit code 0: every picture has come to its end, as versions or as an error in its row. 1: it could
not go on, and says why. 2: the folder makes no sense. 130: stopped by Ctrl-C.
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

# Without a broker there is no worker: each job runs where it is dispatched.
IS_SYNC = app.settings.connection.driver == "sync"
# On SQLite a worker makes the tables that are missing, or waits for those who are at it: it can
# start meanwhile.
IS_SQLITE = app.settings.database_url.startswith("sqlite")

Pictures = list[tuple[str, pictures.Opener]]


class Demo:
    """One run: what it is to process, and what it knows by now."""

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
        """Store and dispatch one after the other, while the worker is still starting."""
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
        """A file of the folder that can't be read is a line of the table, not the end of the demo."""
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
        self.screen.say(f"They lie in {app.settings.storage / 'versions'}")
        if not IS_SYNC:
            self.screen.say(f"What the worker said is in {self.log}")

    def report_interrupted(self) -> None:
        ended = sum(1 for line in progress.lines(self.results) if line.ended)
        self.screen.say(
            f"Stopped: {ended} of {len(self.chosen)} pictures are done, {len(self.results) - ended} wait in"
            f" the queue for the next demo or worker (celery -A tasks worker -Q {QUEUES})."
        )


def prepare() -> None:
    """Tables for the pictures, and for the jobs where the broker is a database."""
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
        # - a program's last words
        print(f"The demo could not go on: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def choose() -> tuple[Pictures, bool]:
    """The pictures, and whether the tour is wanted: it needs a worker, and sends no mail to the
    world.
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
