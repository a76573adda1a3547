"""email.send and email.send_marketing: send one mail each, from two templates of app/templates.

    a row in the mail log, by the job's id -> a place among the user's mails of this hour
        -> the mail server accepts the mail -> the row is `sent`

A redelivered job finds its row, and does not send a sent mail again. A mail goes out twice in one
case only: the worker is killed between the server's answer and the commit. Both mails have the same
Message-ID then. Beyond the limit of an hour the job is released for a minute, which burns no
attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import settings
from app.models import Mail, User, session
from app.models.base import now
from relevo import mail
from relevo.mail import MailError, Message, Templates
from tasks import app

TEMPLATES = Templates(Path(settings.__file__).parent / "templates")
TRANSACTIONAL, MARKETING = "transactional", "marketing"
#: Transactional mails that a user gets in an hour. Further ones wait.
MOST_AN_HOUR = 10
HOUR = timedelta(hours=1)
WAIT_SECONDS = 60

Place = Enum("Place", ["TAKEN", "NONE", "SENT"])


def tags_of(template: str, user_id: int, data: Any = None) -> list[str]:  # noqa: ARG001
    return ["email", f"template:{template}", f"user:{user_id}"]


@app.task(
    name="email.send", bind=True, tries=5, timeout=30, backoff=[5, 15, 30, 60, 120], tags=tags_of
)
def send(self: Any, template: str, user_id: int, data: dict[str, Any] | None = None) -> str:
    """Send a user a mail that concerns them. At most ten an hour; further mails come later."""
    return _deliver(self, TRANSACTIONAL, template, user_id, data or {})


@app.task(
    name="email.send_marketing",
    bind=True,
    tries=5,
    timeout=30,
    backoff=[5, 15, 30, 60, 120],
    tags=tags_of,
)
def send_marketing(
    self: Any, template: str, user_id: int, data: dict[str, Any] | None = None
) -> str:
    """Send a user a marketing mail, without a limit."""
    return _deliver(self, MARKETING, template, user_id, data or {})


@send.failed
@send_marketing.failed
def send_failed(job: Any, error: BaseException) -> None:
    """Write the error of the last try into the mail log."""
    with session() as db:
        if row := _row(db, job.id):
            row.state, row.error = "failed", error_line(error)


def send_once(db: Session, about: str, template: str, user_id: int, **data: Any) -> None:
    """Dispatch a mail in the transaction of `db`. It is sent once, however often this is called
    with the same `about`.
    """
    send.apply_async((template, user_id, data), task_id=f"mail-{about}", session=db)


def error_line(error: BaseException) -> str:
    """An error in one line, for a row or a mail."""
    return (str(error) or type(error).__name__).partition("\n")[0][:1000]


def _deliver(task: Any, kind: str, template: str, user_id: int, data: Mapping[str, Any]) -> str:
    job_id = task.request.id or str(uuid4())
    try:
        user = _user(user_id)
        message = _message(job_id, template, user, data)
    except (MailError, LookupError) as error:
        task.fail(error)
    place = _take_place(job_id, kind, template, user, message)
    if place is Place.SENT:
        return "sent before"
    if place is Place.NONE:
        task.release(WAIT_SECONDS)
    try:
        mail.send(app.settings.mail, message)
    except MailError as error:
        task.fail(error)
    with session() as db:
        row = _row(db, job_id)
        row.state, row.sent_at, row.error = "sent", now(), None
    return "sent"


def _user(user_id: int) -> User:
    with session() as db:
        user = db.get(User, user_id)
    if user is None:
        raise LookupError(f"there is no user {user_id!r} to be mailed")
    return user


def _message(job_id: str, template: str, user: User, data: Mapping[str, Any]) -> Message:
    rendered = TEMPLATES.render(
        template, {"user": user.name, "app_url": settings.application().url, **data}
    )
    return Message(to=user.email, name=user.name, id=job_id, **rendered)


def _take_place(job_id: str, kind: str, template: str, user: User, message: Message) -> Place:
    """Write the mail's row. It takes a place of the hour if one is free."""
    with session() as db:
        # Locked, or two jobs would take the last place.
        db.get(User, user.id, with_for_update=True)
        row = _row(db, job_id) or Mail(
            user_id=user.id,
            job_id=job_id,
            kind=kind,
            template=template,
            state="pending",
            address=user.email,
            subject=message.subject,
            attempts=0,
        )
        db.add(row)
        if row.state == "sent":
            return Place.SENT
        if (
            row.taken_at is None
            and kind == TRANSACTIONAL
            and _count_taken(db, user.id) >= MOST_AN_HOUR
        ):
            return Place.NONE
        row.taken_at = row.taken_at or now()
        row.attempts, row.state = row.attempts + 1, "pending"
    return Place.TAKEN


def _count_taken(db: Session, user_id: int) -> int:
    query = (
        select(func.count())
        .select_from(Mail)
        .where(
            Mail.user_id == user_id,
            Mail.kind == TRANSACTIONAL,
            Mail.taken_at > now() - HOUR,
            Mail.state != "failed",
        )
    )
    return db.scalar(query) or 0


def _row(db: Session, job_id: str) -> Mail | None:
    return db.scalars(select(Mail).filter_by(job_id=job_id)).one_or_none()
