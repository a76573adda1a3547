"""Who is asking: a bearer token, what it may do, and how often.

Tokens are kept as SHA-256 (they are random, so no slow hash is needed), shown once, and end. A password is kept as
Argon2. Each token, and each address without one, has so many requests a minute, counted in the database for all
processes of the API.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Annotated, Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import settings
from app.models import RequestCount, Token, User, session
from app.models.base import now
from relevo import clock

ABILITIES = ("cases", "events", "exports", "files", "imports", "notifications", "orders", "queues", "reports", "stores",
             "tokens", "users", "webhooks")  # fmt: skip
EVERYTHING = "*"
PREFIX = "rlv_"
#: Logins of one address a minute.
LOGINS_A_MINUTE = 10

_bearer = HTTPBearer(auto_error=False, description="A token of POST /api/tokens")
_passwords = PasswordHasher()


@dataclass(frozen=True, slots=True)
class Caller:
    """A user, and the token they came with."""

    user: User
    token: Token

    @property
    def id(self) -> int:
        return self.user.id

    def may(self, ability: str) -> bool:
        return EVERYTHING in self.token.abilities or ability in self.token.abilities


def hashed(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def caller(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]) -> Caller:
    """Whoever is asking. 401 without a token that is good, 429 when it asks too often."""
    if given is None:
        counted(f"address:{address(request)}", settings.application().requests_a_minute)
        raise _unknown("a bearer token is needed")
    found, requests = _found_and_counted(given.credentials, _minute())
    if found is None:
        counted(f"address:{address(request)}", settings.application().requests_a_minute)
        raise _unknown("the token is unknown, was revoked, or has expired")
    _check(requests, settings.application().requests_a_minute)
    return found


def find(token: str) -> Caller | None:
    """The caller whose token this is, if it is good."""
    with session() as db:
        return _find(db, token)


def _find(db: Session, token: str) -> Caller | None:
    query = select(Token, User).join(User, User.id == Token.user_id)
    row = db.execute(query.where(Token.hash == hashed(token), Token.expires_at > now())).one_or_none()
    return Caller(row.User, row.Token) if row is not None else None


def _found_and_counted(token: str, minute: int) -> tuple[Caller | None, int]:
    """The caller, and how often they have asked in this minute: one transaction for each request, not two."""
    try:
        with session() as db:
            found = _find(db, token)
            return found, _count(db, f"token:{found.token.id}", minute) if found else 0
    except IntegrityError:  # somebody else wrote the minute's first
        return _found_and_counted(token, minute)


@cache
def able(ability: str) -> Callable[..., Caller]:
    """A dependency: the caller, whose token has this ability."""

    # Called, not depended on: each dependency is a way to another thread and back.
    def allowed(
        request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
    ) -> Caller:
        asking = caller(request, given)
        if not asking.may(ability):
            raise HTTPException(403, f"the token lacks the ability {ability!r}")
        return asking

    return allowed


def administrator(ability: str) -> Callable[..., Caller]:
    """A dependency: the caller, who is an administrator, with a token of this ability."""

    def allowed(asking: Caller = Depends(able(ability))) -> Caller:  # noqa: B008 - `ability` is no global name
        if not asking.user.admin:
            raise HTTPException(403, "this is for administrators")
        return asking

    return allowed


def new_token(user_id: int, name: str, abilities: list[str], days: int) -> tuple[str, Token]:
    """A token, which is nowhere else than in the answer, and its row."""
    token = PREFIX + secrets.token_urlsafe(32)
    row = Token(user_id=user_id, name=name, hash=hashed(token), abilities=abilities,
                expires_at=now() + timedelta(days=days))  # fmt: skip
    with session() as db:
        db.add(row)
    return token, row


def password_hash(password: str) -> str:
    return _passwords.hash(password)


def password_fits(user: User | None, password: str) -> bool:
    """Whether it is the user's password. It takes as long for a user who isn't there."""
    kept = user.password if user is not None and user.password else _nobody()
    try:
        _passwords.verify(kept, password)
    except (VerificationError, InvalidHashError):
        return False
    return user is not None and user.password is not None


@cache
def _nobody() -> str:
    return _passwords.hash(secrets.token_hex())


def counted(subject: str, most: int) -> None:
    """Count a request. 429 when there were more than `most` in this minute."""
    _check(_counted(subject, _minute()), most)


def _minute() -> int:
    return int(clock.now()) // 60


def _check(requests: int, most: int) -> None:
    if requests > most:
        wait = 60 - int(clock.now()) % 60
        raise HTTPException(429, f"more than {most} requests a minute", {"Retry-After": str(wait)})


def _counted(subject: str, minute: int) -> int:
    try:
        with session() as db:
            return _count(db, subject, minute)
    except IntegrityError:  # somebody else wrote the minute's first
        return _counted(subject, minute)


def _count(db: Session, subject: str, minute: int) -> int:
    mine = RequestCount.subject == subject, RequestCount.minute == minute
    if not db.execute(update(RequestCount).where(*mine).values(requests=RequestCount.requests + 1)).rowcount:
        db.add(RequestCount(subject=subject, minute=minute, requests=1))
        db.flush()
        return 1
    return db.scalar(select(RequestCount.requests).where(*mine)) or 1


def address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _unknown(detail: str) -> HTTPException:
    return HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})


def own(db: Any, model: type, number: int, asking: Caller) -> Any:
    """A row that is the caller's. 404 when there is none, 403 when it is another's (an administrator may see all)."""
    row = db.get(model, number)
    if row is None:
        raise HTTPException(404, f"there is no {model.__name__.lower()} {number}")
    if row.user_id != asking.id and not asking.user.admin:
        raise HTTPException(403, f"the {model.__name__.lower()} {number} is another user's")
    return row
