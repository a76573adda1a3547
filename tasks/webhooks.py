"""webhooks.deliver: POSTs a body to an url of a user, signed as https://www.standardwebhooks.com
describes.

    send()    writes a row and dispatches the job; one at a time for the same user, url and body
    deliver   POSTs the body, and writes each attempt into the log

A server error (5xx) and a network error are tried again. A refusal (4xx, a redirect that changes
the method) and a private address are not.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import httpx
from celery.exceptions import SoftTimeLimitExceeded
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app import settings
from app.models import Delivery, User, Webhook, session
from app.models.base import now
from relevo import clock
from relevo.errors import JobFailedError
from tasks import app, email, storage, untrusted_urls
from tasks.dispatch import add_with_job

LONGEST_BODY = 60_000
#: The soft time limit of a delivery, in seconds. Before the hard one the attempt is logged.
SOFT_LIMIT_SECONDS = 25
_OK, _REFUSED, _SERVER_ERROR = 200, 300, 500


class ReceiverError(OSError):
    """A failure of the receiver that may pass: try again."""


def send(user_id: int, url: str, body: Any) -> tuple[int, bool]:
    """Deliver `body` as JSON. Returns the webhook's id, and whether it is a new one.

    Raises RefusedUrlError, ValueError.
    """
    untrusted_urls.parse_url(url)
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if len(text.encode()) > LONGEST_BODY:
        raise ValueError(
            f"expected a body of at most {LONGEST_BODY:,} bytes, got {len(text.encode()):,}"
        )
    key = hashlib.sha256(json.dumps([user_id, url, text]).encode()).hexdigest()
    try:
        with session() as db:
            row = Webhook(user_id=user_id, url=url, body=text, pending_key=key)
            add_with_job(db, row, deliver)
    except IntegrityError:  # the same message is on its way
        with session() as db:
            there = db.scalars(select(Webhook.id).filter_by(pending_key=key)).one_or_none()
            if there is None and db.get(User, user_id) is None:
                raise
        return (there, False) if there is not None else send(user_id, url, body)
    return row.id, True


def secret_of(user_id: int) -> str:
    """The secret of a user's webhooks, in the form of Standard Webhooks; made of RELEVO_SECRET."""
    digest = hmac.new(
        storage.secret(), f"webhooks of user {user_id}".encode(), hashlib.sha256
    ).digest()
    return "whsec_" + base64.b64encode(digest).decode()


def headers_of(user_id: int, message: str, body: bytes) -> dict[str, str]:
    """The headers of a delivery, with its signature."""
    moment = str(int(clock.now()))
    key = base64.b64decode(secret_of(user_id).removeprefix("whsec_"))
    signed = hmac.new(key, f"{message}.{moment}.".encode() + body, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "user-agent": "Relevo",
        "webhook-id": message,
        "webhook-timestamp": moment,
        "webhook-signature": "v1," + base64.b64encode(signed).decode(),
    }


def tags_of(webhook_id: int) -> list[str]:
    return ["webhook", f"webhook:{webhook_id}"]


@app.task(
    name="webhooks.deliver",
    bind=True,
    tries=5,
    timeout=30,
    soft_time_limit=SOFT_LIMIT_SECONDS,
    backoff=[30, 60, 120, 300, 600],
    tags=tags_of,
)
def deliver(self: Any, webhook_id: int) -> dict[str, Any]:
    """Deliver a webhook. Returns its id and the status of the answer."""
    with session() as db:
        hook = db.get(Webhook, webhook_id)
    if hook is None:
        raise LookupError(
            f"there is no webhook {webhook_id!r}: it was deleted, or is not committed yet"
        )
    if hook.state == "completed":  # by an earlier run; a failed webhook may be retried by hand
        return {"webhook": webhook_id, "skipped": "it is completed"}
    log = Delivery(webhook_id=webhook_id, attempt=self.attempt, seconds=0)
    try:
        status = _post(hook, log)
    except untrusted_urls.RefusedUrlError as error:
        self.fail(error)
    if status >= _SERVER_ERROR:
        raise ReceiverError(f"the receiver answered {status}")
    if not _OK <= status < _REFUSED:
        self.fail(JobFailedError(f"the receiver refused the webhook: {status}"))
    _record_end(webhook_id, "completed")
    return {"webhook": webhook_id, "status": status}


@deliver.failed
def deliver_failed(job: Any, error: BaseException) -> None:
    """Write the error of the last try into the row."""
    _record_end(
        job.args[0] if job.args else job.kwargs["webhook_id"], "failed", email.error_line(error)
    )


def _post(hook: Webhook, log: Delivery) -> int:
    """POST the webhook. Returns the answer's status. Every attempt becomes a row of the log."""
    began = time.monotonic()
    body = hook.body.encode()
    try:
        answer = untrusted_urls.post(
            hook.url,
            body,
            headers_of(hook.user_id, f"msg_{hook.id}", body),
            private=settings.application().private_webhooks,
        )
        log.status, log.answer = answer.status, answer.text
    except SoftTimeLimitExceeded as error:
        log.error = f"no answer within {SOFT_LIMIT_SECONDS} seconds"
        raise ReceiverError(log.error) from error
    except BaseException as error:
        log.error = f"{type(error).__name__}: {error}"[:1000]
        if isinstance(error, httpx.HTTPError):
            raise ReceiverError(f"the receiver can't be reached: {log.error}") from error
        raise
    finally:
        log.seconds = round(time.monotonic() - began, 3)
        with session() as db:
            db.add(log)
    return answer.status


def _record_end(webhook_id: int, state: str, error: str | None = None) -> None:
    with session() as db:
        if hook := db.get(Webhook, webhook_id):
            hook.state, hook.error, hook.pending_key, hook.finished_at = state, error, None, now()
