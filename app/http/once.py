"""A POST with an Idempotency-Key is done once: the same request again gets the same answer, and nothing is done.

    first: a row -> the work -> its answer into the row          again: the answer
    again while the first is under way: 409          the same key, another request: 422

An answer is kept for a day. Errors aren't: the key is free again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from starlette.concurrency import run_in_threadpool

from app.http import access
from app.models import Answer, session
from app.models.base import now

LONGEST_KEY = 64
LONGEST_ANSWER = 60_000
#: A first request that is under way for longer has died with its process.
ABANDONED = timedelta(minutes=5)
_OK = 300

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class OnceRoute(APIRoute):
    """A route whose POSTs take an Idempotency-Key."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def once(request: Request) -> Response:
            key = request.headers.get("idempotency-key")
            if request.method != "POST" or key is None:
                return await handle(request)
            return await _once(request, key, handle)

        return once


async def _once(request: Request, key: str, handle: Handler) -> Response:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    asking = await run_in_threadpool(access.find, token.strip()) if scheme.lower() == "bearer" else None
    if asking is None:
        return await handle(request)  # which says 401
    if not 1 <= len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise HTTPException(422, f"expected Idempotency-Key to be 1 to {LONGEST_KEY} characters")
    mark = hashlib.sha256(f"{request.url.path}\n".encode() + await request.body()).hexdigest()
    kept = await run_in_threadpool(_begun, asking.id, key, mark)
    if kept is not None:
        return kept
    try:
        answer = await handle(request)
    except BaseException:
        await run_in_threadpool(_forget, asking.id, key)
        raise
    body = bytes(answer.body)
    if answer.status_code < _OK and len(body) <= LONGEST_ANSWER:
        await run_in_threadpool(_keep, asking.id, key, answer.status_code, body.decode())
    else:
        await run_in_threadpool(_forget, asking.id, key)
    return answer


def _begun(user_id: int, key: str, mark: str) -> Response | None:
    """Begin; or the answer that was given before. 409 or 422 when the key is in use."""
    try:
        with session() as db:
            db.add(Answer(user_id=user_id, key=key, fingerprint=mark))
    except IntegrityError:
        pass
    else:
        return None
    with session() as db:
        row = db.scalars(select(Answer).filter_by(user_id=user_id, key=key).with_for_update()).one_or_none()
        if row is None:
            raise HTTPException(409, "the first request with this Idempotency-Key has just failed; try again")
        if row.fingerprint != mark:
            raise HTTPException(422, "this Idempotency-Key was used for another request")
        if row.status is None:
            if row.created_at > now() - ABANDONED:
                raise HTTPException(409, "the first request with this Idempotency-Key is under way")
            row.created_at = now()
            return None
        body = json.dumps(json.loads(row.body or "null"))
        return Response(body, row.status, {"Idempotency-Replayed": "true"}, "application/json")


def _keep(user_id: int, key: str, status: int, body: str) -> None:
    with session() as db:
        row = db.scalars(select(Answer).filter_by(user_id=user_id, key=key)).one_or_none()
        if row is not None:
            row.status, row.body = status, body


def _forget(user_id: int, key: str) -> None:
    with session() as db:
        row = db.scalars(select(Answer).filter_by(user_id=user_id, key=key)).one_or_none()
        if row is not None:
            db.delete(row)
