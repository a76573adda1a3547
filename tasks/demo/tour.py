"""The rest of the tour: a batch, a report, an import with bad rows, a webhook; each with its mail,
and where it lies.

All four are handed in at once, behind the pictures, by a user of this tour's own (ten mails an hour
is all that one gets), and watched together.
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
    """One thing that was asked for. `look` says what came of it, or None as long as nothing has."""

    name: str
    look: Callable[[], str | None]


class Tour:
    """What was asked for, and for whom."""

    def __init__(self) -> None:
        self.token = secrets.token_hex(4)
        with session() as db:
            user = User(name="Tourist", email=f"tour-{self.token}@example.com")
            db.add(user)
        self.user = user.id

    @contextlib.contextmanager
    def start(self) -> Iterator[list[Step]]:
        """Ask for everything; what is to be watched, within the block."""
        with webhook_receiver() as (url, heard):
            yield [
                self.batch(),
                self.report(),
                self.csv(),
                self.webhook(url, heard),
                Step("mails", self.mails),
            ]

    def batch(self) -> Step:
        """A few small pictures at once; the first callback to come is the mail."""
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
            return f"{app.settings.storage / row.path}\n  its link, where the API runs: {documents.link(row)}"

        return Step("a report", look)

    def csv(self) -> Step:
        """Users, of whom two are none."""
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
        """What lies in the outbox for the user of this tour."""
        with session() as db:
            sent = db.scalars(
                select(Mail.subject).filter_by(user_id=self.user, state="sent").order_by(Mail.id)
            ).all()
        return f"{', '.join(sent)}; in {app.settings.mail.folder}" if len(sent) >= MAILS else None


def watch(
    steps: list[Step], worker: Worker | NoWorker, interrupt: Interrupt, screen: Screen
) -> None:
    """Say what comes of each step, until something has come of all."""
    since = time.monotonic()
    while steps:
        interrupt.check()
        if worker.has_ended() or time.monotonic() - since > STALLED_SECONDS:
            raise DemoError(f"nothing came of {', '.join(step.name for step in steps)}")
        screen.doing(", ".join(step.name for step in steps))
        left = [step for step in steps if not report(step, screen)]
        since = since if len(left) == len(steps) else time.monotonic()
        steps = left
        interrupt.wait(POLL_SECONDS if steps else 0)


def report(step: Step, screen: Screen) -> bool:
    """Say what came of a step, if anything has."""
    said = step.look()
    if said is not None:
        screen.say(f"{step.name}: {said}")
    return said is not None


@contextlib.contextmanager
def webhook_receiver() -> Iterator[tuple[str, list[str]]]:
    """A receiver of webhooks on the loopback: its url, and the signatures it has heard."""
    heard: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            heard.append(self.headers.get("webhook-signature", ""))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            """The screen is the demo's."""

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=lambda: server.serve_forever(0.1), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
