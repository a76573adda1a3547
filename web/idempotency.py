"""Does a POST with an Idempotency-Key once. A repeated request gets the first one's answer.

    begin -> insert the key's row -> the route's rows and jobs -> store the answer -> commit

    repeated later                      the stored answer
    repeated while the first one runs   waits for its end; 409 after `WAIT_SECONDS`
    the key with another request        422

All of it is one transaction (`app.models.join_unit`): a process that dies at any moment leaves all
of it, with the answer, or nothing. An answer is kept for a day. An error is not kept: nothing was
written, and the key is free again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

from anyio import CancelScope
from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.types import Message

from app.models import Answer, UnitOfWork, join_unit, separate_session
from relevo.database import errors

LONGEST_KEY = 64
#: The largest body of a request that is no upload: many times what any route needs, and too small
#: to fill the memory.
LARGEST_BODY_BYTES = 1024 * 1024
LONGEST_ANSWER_BYTES = 60_000
#: Seconds that a repeated request waits for the first on PostgreSQL. (On MySQL and MariaDB it waits
#: for innodb_lock_wait_timeout.)
WAIT_SECONDS = 5
_OK = 300
UNDER_WAY = "the first request with this Idempotency-Key is under way"

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

_current: ContextVar[IdempotentRequest | None] = ContextVar("idempotent_request", default=None)


class AnsweredError(Exception):
    """The request was answered before, with `response`."""

    def __init__(self, response: Response) -> None:
        self.response = response


class IdempotentRoute(APIRoute):
    """A route whose POSTs take an Idempotency-Key."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        most = LARGEST_BODY_BYTES if self.body_field else None  # an upload is read by its route

        async def handle_once(request: Request) -> Response:
            if request.method != "POST":
                return await handle(request)
            hashed = HashedRequest(request, most)
            key = request.headers.get("idempotency-key")
            if key is None:
                return await handle(hashed.request)
            if not 1 <= len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable():
                raise HTTPException(
                    422, f"expected Idempotency-Key to be 1 to {LONGEST_KEY} characters"
                )
            return await IdempotentRequest(key, hashed).answer(handle)

        return handle_once


class HashedRequest:
    """A request whose body is hashed while the route reads it, and refused beyond `most` bytes.

    The fingerprint covers the url and the body.
    """

    def __init__(self, request: Request, most: int | None) -> None:
        self.request = Request(request.scope, self._receive_hashed)
        self._receive, self._most, self._read = request.receive, most, 0
        self._hash = hashlib.sha256(f"{request.url.path}?{request.url.query}\n".encode())

    @property
    def fingerprint(self) -> str:
        return self._hash.hexdigest()

    async def _receive_hashed(self) -> Message:
        message = await self._receive()
        body = message.get("body", b"")
        self._hash.update(body)
        self._read += len(body)
        if self._most is not None and self._read > self._most:
            raise HTTPException(413, f"expected a body of at most {self._most:,} bytes")
        return message


class IdempotentRequest:
    """One POST with a key."""

    def __init__(self, key: str, hashed: HashedRequest) -> None:
        self.key, self.hashed = key, hashed
        self.user_id: int | None = None
        self.unit = UnitOfWork(self._begin)
        self._row: Answer | None = None

    async def answer(self, handle: Handler) -> Response:
        token = _current.set(self)
        try:
            with join_unit(self.unit):
                answer = await handle(self.hashed.request)
                await run_in_threadpool(self._store, answer)
        except AnsweredError as error:
            answer = error.response
        finally:
            _current.reset(token)
            # Shielded from a cancelled request: its transaction would keep the key's lock.
            with CancelScope(shield=True):
                await run_in_threadpool(self.unit.undo)
        return answer

    def check_unanswered(self) -> None:
        """Raise AnsweredError if the key has an answer."""
        with separate_session() as db:
            if row := self._find_answer(db):
                raise AnsweredError(self._replay(row))

    def _begin(self, db: Session) -> None:
        """Insert the key's row as the first step of the transaction. A request with the same key
        waits at it for the end of this one.
        """
        if self.user_id is None:  # the answer to a request without a user is not kept
            return
        if db.get_bind().dialect.name == "postgresql":
            db.execute(text(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'"))
        row = Answer(user_id=self.user_id, key=self.key, fingerprint=self.hashed.fingerprint)
        try:
            with db.begin_nested():
                db.add(row)
        except IntegrityError:
            raise self._conflict(db) from None
        except OperationalError as error:
            if not errors.is_lock_timeout(error):
                raise
            raise HTTPException(409, UNDER_WAY) from error
        self._row = row

    def _conflict(self, db: Session) -> Exception:
        row = self._find_answer(db)
        if row is None:
            return HTTPException(
                409, "the first request with this Idempotency-Key has just failed; try again"
            )
        return AnsweredError(self._replay(row))

    def _find_answer(self, db: Session) -> Answer | None:
        return db.scalars(
            select(Answer).filter_by(user_id=self.user_id, key=self.key)
        ).one_or_none()

    def _replay(self, row: Answer) -> Response:
        """The stored answer."""
        if row.fingerprint != self.hashed.fingerprint:
            raise HTTPException(422, "this Idempotency-Key was used for another request")
        if row.status is None:  # by an older version, which stored the answer in a later step
            raise HTTPException(409, UNDER_WAY)
        body = json.dumps(json.loads(row.body or "null"))
        return Response(body, row.status, {"Idempotency-Replayed": "true"}, "application/json")

    def _store(self, answer: Response) -> None:
        """Store the answer in the key's row, and commit."""
        body = bytes(answer.body)
        with self.unit.block() as db:
            if (
                self._row is not None
                and answer.status_code < _OK
                and len(body) <= LONGEST_ANSWER_BYTES
            ):
                self._row.status, self._row.body = answer.status_code, body.decode()
            elif self._row is not None:
                db.delete(self._row)
        self.unit.commit()


def set_user(user_id: int) -> None:
    """Note the user of the running request: each user has their own keys."""
    if (request := _current.get()) is not None:
        request.user_id = user_id


def check_unanswered() -> None:
    """Raise AnsweredError if the running request was answered before. For a route that does costly
    work outside of the transaction: call it before that work.
    """
    if (request := _current.get()) is not None and request.user_id is not None:
        request.check_unanswered()
