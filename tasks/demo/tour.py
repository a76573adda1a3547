"""The tour behind the pictures: a batch, a report, an import with bad rows, and a webhook, with
their mails.

All four are dispatched at once and watched together. Each tour has its own user, since a user gets
ten mails an hour at most.
"""

from __future__ import annotations

import contextlib
import io
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer

from sqlalchemy import select

from app.models import Import, ImportRow, Mail, Report, User, Webhook, session
from tasks import app, documents, files, imports, reports, webhooks
from tasks.demo.interrupt import Interrupt
from tasks.demo.pictures import drawn
from tasks.demo.progress import POLL_SECONDS, STALLED_SECONDS, DemoError
from tasks.demo.screen import Screen
from tasks.demo.worker import NoWorker, Worker
from tasks.dispatch import add_with_job

SMALL, PICTURES = 0.1, 5
#: Mails of the tour: of the batch, the report, the import.
MAILS = 3
BAD_ROWS = "Nobody,no address\n,empty@example.com\n"


@dataclass
class Step:
    """One part of the tour. `look` returns its result as a text, or None before there is one."""

    name: str
    look: Callable[[], str | None]


class Tour:
    """A tour and its user."""

    def __init__(self) -> None:
        self.token = secrets.token_hex(4)
        with session() as db:
            user = User(name="Tourist", email=f"tour-{self.token}@example.com")
            db.add(user)
        self.user = user.id

    @contextlib.contextmanager
    def start(self) -> Iterator[list[Step]]:
        """Dispatch everything. Yields the steps to watch."""
        with webhook_receiver() as (url, heard):
            yield [
                self.batch(),
                self.report(),
                self.csv(),
                self.webhook(url, heard),
                Step("mails", self.mails),
            ]

    def batch(self) -> Step:
        """A batch of a few small pictures."""
        pictures = list(drawn(SMALL))[:PICTURES]
        ids = [files.store(self.user, name, opener()).id for name, opener in pictures]
        number = files.process_batch(self.user, ids, {"icon": 32, "small": 80})

        def look() -> str | None:
            batch = app.batches.find(number)
            done = batch is not None and batch.finished
            return (
                f"{batch.completed} of {batch.total} pictures as a batch, {batch.failed} failed"
                if done
                else None
            )

        return Step("a batch", look)

    def report(self) -> Step:
        """The queues and this machine, as a PDF."""
        with session() as db:
            report = Report(user_id=self.user, type="system-health", format="pdf")
            add_with_job(db, report, reports.generate)

        def look() -> str | None:
            with session() as db:
                row = db.get_one(Report, report.id)
            if row.path is None:
                return row.error
            path, link = app.settings.storage / row.path, documents.link(row)
            return f"{path}\n  its link, where the API runs: {link}"

        return Step("a report", look)

    def csv(self) -> Step:
        """An import of users with two bad rows."""
        good = "".join(
            f"Guest {number},guest{number}-{self.token}@example.com\n" for number in range(3)
        )
        number, _ = imports.store(
            self.user, "guests.csv", io.BytesIO(f"name,email\n{good}{BAD_ROWS}".encode())
        )

        def look() -> str | None:
            with session() as db:
                row = db.get_one(Import, number)
                query = select(ImportRow).where(
                    ImportRow.import_id == number, ImportRow.error.is_not(None)
                )
                bad = db.scalars(query.order_by(ImportRow.number)).all()
            if row.finished_at is None:
                return None
            reasons = "".join(f"\n  row {one.number}: {one.error}" for one in bad)
            return row.error or f"{row.good} users imported, {row.bad} rows bad{reasons}"

        return Step("an import", look)

    def webhook(self, url: str, heard: list[str]) -> Step:
        """A POST to a server of this process."""
        number, _ = webhooks.send(self.user, f"{url}/hook", {"tour": self.token})

        def look() -> str | None:
            with session() as db:
                row = db.get_one(Webhook, number)
            if row.state == "pending":
                return None
            return (
                row.error
                or f"{row.body} delivered to {row.url}, signed {heard[0] if heard else '?'}"
            )

        return Step("a webhook", look)

    def mails(self) -> str | None:
        """The mails that the user of this tour has got."""
        with session() as db:
            sent = db.scalars(
                select(Mail.subject).filter_by(user_id=self.user, state="sent").order_by(Mail.id)
            ).all()
        return f"{', '.join(sent)}; in {app.settings.mail.folder}" if len(sent) >= MAILS else None


def watch(
    steps: list[Step], worker: Worker | NoWorker, interrupt: Interrupt, screen: Screen
) -> None:
    """Report the result of each step, until all have one. Raises DemoError."""
    since = time.monotonic()
    while steps:
        interrupt.check()
        if worker.has_ended() or time.monotonic() - since > STALLED_SECONDS:
            raise DemoError(f"there is no result of {', '.join(step.name for step in steps)}")
        screen.doing(", ".join(step.name for step in steps))
        left = [step for step in steps if not report(step, screen)]
        since = since if len(left) == len(steps) else time.monotonic()
        steps = left
        interrupt.wait(POLL_SECONDS if steps else 0)


def report(step: Step, screen: Screen) -> bool:
    """Report the result of a step. Returns whether there is one."""
    said = step.look()
    if said is not None:
        screen.say(f"{step.name}: {said}")
    return said is not None


@contextlib.contextmanager
def webhook_receiver() -> Iterator[tuple[str, list[str]]]:
    """A receiver of webhooks on the loopback. Yields its url and the received signatures."""
    heard: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            heard.append(self.headers.get("webhook-signature", ""))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            """Log nothing: the demo writes the screen."""

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=lambda: server.serve_forever(0.1), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
