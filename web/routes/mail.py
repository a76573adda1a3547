"""Routes of notifications and webhooks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException
from sqlalchemy import select

from app.models import Delivery, Webhook, session
from tasks import email, webhooks
from tasks.dispatch import dispatch_in
from tasks.untrusted_urls import RefusedUrlError
from web import access
from web.access import Caller
from web.idempotency import IdempotentRoute
from web.pagination import After, Limit, Page, page
from web.schemas import Accepted, Id, NewWebhook, Notification

router = APIRouter(prefix="/api", tags=["mail and webhooks"], route_class=IdempotentRoute)
AuthorizedCaller = Annotated[Caller, Depends(access.require_ability("webhooks"))]


@router.post("/send-notification", status_code=202)
def notify(
    given: Notification, caller: Annotated[Caller, Depends(access.require_ability("notifications"))]
) -> Accepted:
    """Send yourself a mail, now or later."""
    marketing = given.template == "announcement"
    task = email.send_marketing if marketing else email.send
    said = {"subject": given.subject, "message": given.message}
    with session() as db:
        wait = given.delay_minutes * 60 or None
        result = dispatch_in(db, task, given.template, caller.id, said, countdown=wait)
    return Accepted(
        id=result.id, job=result.id, queue=email.MARKETING if marketing else email.TRANSACTIONAL
    )


@router.post("/webhooks", status_code=202)
def send(given: NewWebhook, caller: AuthorizedCaller) -> Accepted:
    """Deliver a body to an url. While the same body is on its way there, it is not sent again."""
    try:
        number, _new = webhooks.send(caller.id, given.url, given.body)
    except (RefusedUrlError, ValueError) as error:
        raise HTTPException(422, str(error)) from error
    with session() as db:
        row = db.get_one(Webhook, number)
    return Accepted(id=number, job=row.job_id, queue="webhooks")


@router.get("/webhooks")
def sent(caller: AuthorizedCaller, limit: Limit = 50, after: After = None) -> Page:
    """Your webhooks and their states."""
    fields = ("url", "state", "error", "created_at", "finished_at")
    return page(select(Webhook).filter_by(user_id=caller.id), Webhook, limit, after, fields)


@router.get("/webhooks/{webhook_id}/deliveries")
def deliveries(
    webhook_id: Id, caller: AuthorizedCaller, limit: Limit = 50, after: After = None
) -> Page:
    """Every attempt to deliver a webhook."""
    with session() as db:
        access.get_own(db, Webhook, webhook_id, caller)
    fields = ("attempt", "status", "answer", "error", "seconds", "created_at")
    return page(select(Delivery).filter_by(webhook_id=webhook_id), Delivery, limit, after, fields)


@router.get("/webhook-secret")
def secret(caller: AuthorizedCaller) -> dict[str, str]:
    """The secret that signs your webhooks (https://www.standardwebhooks.com)."""
    return {"secret": webhooks.secret_of(caller.id)}
