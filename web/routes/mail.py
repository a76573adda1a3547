"""Notifications and webhooks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException
from sqlalchemy import select

from app.models import Delivery, Webhook, session
from tasks import email, webhooks
from tasks.accepting import hand_in
from tasks.outgoing import RefusedUrlError
from web import access
from web.access import Caller
from web.once import OnceRoute
from web.paging import After, Limit, Page, page
from web.shapes import Accepted, Id, NewWebhook, Notification

router = APIRouter(prefix="/api", tags=["mail and webhooks"], route_class=OnceRoute)
Asking = Annotated[Caller, Depends(access.able("webhooks"))]


@router.post("/send-notification", status_code=202)
def notify(
    given: Notification, asking: Annotated[Caller, Depends(access.able("notifications"))]
) -> Accepted:
    """Mail oneself something, now or later."""
    marketing = given.template == "announcement"
    task = email.send_marketing if marketing else email.send
    said = {"subject": given.subject, "message": given.message}
    with session() as db:
        wait = given.delay_minutes * 60 or None
        result = hand_in(db, task, given.template, asking.id, said, countdown=wait)
    return Accepted(
        id=result.id, job=result.id, queue=email.MARKETING if marketing else email.TRANSACTIONAL
    )


@router.post("/webhooks", status_code=202)
def send(given: NewWebhook, asking: Asking) -> Accepted:
    """Have a body delivered to an url. The same to the same url is on its way once."""
    try:
        number, _new = webhooks.send(asking.id, given.url, given.body)
    except (RefusedUrlError, ValueError) as error:
        raise HTTPException(422, str(error)) from error
    with session() as db:
        row = db.get_one(Webhook, number)
    return Accepted(id=number, job=row.job_id, queue="webhooks")


@router.get("/webhooks")
def sent(asking: Asking, limit: Limit = 50, after: After = None) -> Page:
    """One's own webhooks, and what became of them."""
    fields = ("url", "state", "error", "created_at", "finished_at")
    return page(select(Webhook).filter_by(user_id=asking.id), Webhook, limit, after, fields)


@router.get("/webhooks/{webhook_id}/deliveries")
def deliveries(webhook_id: Id, asking: Asking, limit: Limit = 50, after: After = None) -> Page:
    """Every attempt to deliver a webhook."""
    with session() as db:
        access.own(db, Webhook, webhook_id, asking)
    fields = ("attempt", "status", "answer", "error", "seconds", "created_at")
    return page(select(Delivery).filter_by(webhook_id=webhook_id), Delivery, limit, after, fields)


@router.get("/webhook-secret")
def secret(asking: Asking) -> dict[str, str]:
    """What one's webhooks are signed with, as https://www.standardwebhooks.com says."""
    return {"secret": webhooks.secret_of(asking.id)}
