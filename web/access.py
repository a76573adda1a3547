"""Authentication, abilities and rate limits of the API.

A caller has a bearer token. The database keeps its SHA-256 (tokens are random, so no slow hash is
needed); the token itself is shown once, and expires. Passwords are kept as Argon2. Each token, and
each address without a token, may make a limited number of requests a minute (request_counts.py).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Annotated, Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import bindparam, select

from app import settings
from app.models import Token, User, read_connection, session
from app.models.base import now
from relevo import clock
from web import idempotency, request_counts

ABILITIES = (
    "cases",
    "events",
    "exports",
    "files",
    "imports",
    "notifications",
    "orders",
    "queues",
    "reports",
    "stores",
    "tokens",
    "users",
    "webhooks",
)
EVERYTHING = "*"
PREFIX = "rlv_"
#: The logins that one address may try in a minute.
LOGINS_A_MINUTE = 10

_bearer = HTTPBearer(auto_error=False, description="A token of POST /api/tokens")
_passwords = PasswordHasher()


@dataclass(frozen=True, slots=True)
class Caller:
    """The user of a request, and the abilities of their token."""

    id: int
    admin: bool
    token: int
    abilities: Sequence[str]

    def may(self, ability: str) -> bool:
        return EVERYTHING in self.abilities or ability in self.abilities


#: Built once: building it for each request took longer than the query itself.
_FIND_CALLER = (
    select(User.id, User.admin, Token.id.label("token"), Token.abilities)
    .join(Token, Token.user_id == User.id)
    .where(Token.hash == bindparam("hash"), Token.expires_at > bindparam("moment"))
)


def hash_token(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def authenticate(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> Caller:
    """The caller of a request. 401 without a valid token, 429 after too many requests."""
    if given is None:
        check_rate(f"address:{address(request)}", settings.application().requests_a_minute)
        raise _unauthorized("a bearer token is needed")
    found = _find(given.credentials)
    if found is None:
        check_rate(f"address:{address(request)}", settings.application().requests_a_minute)
        raise _unauthorized("the token is unknown, was revoked, or has expired")
    check_rate(f"token:{found.token}", settings.application().requests_a_minute)
    idempotency.set_user(found.id)
    return found


def _find(token: str) -> Caller | None:
    with read_connection() as db:
        row = db.execute(_FIND_CALLER, {"hash": hash_token(token), "moment": now()}).one_or_none()
    return Caller(*row) if row is not None else None


@cache
def require_ability(ability: str) -> Callable[..., Caller]:
    """A dependency: the caller, whose token must have this ability."""

    # `authenticate` is called, not a dependency of its own: each one costs a change of threads.
    def allowed(
        request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
    ) -> Caller:
        caller = authenticate(request, given)
        if not caller.may(ability):
            raise HTTPException(403, f"the token lacks the ability {ability!r}")
        return caller

    return allowed


def require_admin(ability: str) -> Callable[..., Caller]:
    """A dependency: the caller, who must be an administrator with a token of this ability."""

    # `Depends` as a default and not in an annotation: `ability` is no global name.
    def allowed(caller: Caller = Depends(require_ability(ability))) -> Caller:  # noqa: B008
        if not caller.admin:
            raise HTTPException(403, "this is for administrators")
        return caller

    return allowed


def new_token(user_id: int, name: str, abilities: list[str], days: int) -> tuple[str, Token]:
    """A new token and its row. Only the hash of the token is stored."""
    token = PREFIX + secrets.token_urlsafe(32)
    row = Token(
        user_id=user_id,
        name=name,
        hash=hash_token(token),
        abilities=abilities,
        expires_at=now() + timedelta(days=days),
    )
    with session() as db:
        db.add(row)
    return token, row


def password_hash(password: str) -> str:
    return _passwords.hash(password)


def verify_password(user: User | None, password: str) -> bool:
    """Whether it is the user's password. For an unknown user it takes the same time."""
    kept = user.password if user is not None and user.password else _dummy_hash()
    try:
        _passwords.verify(kept, password)
    except (VerificationError, InvalidHashError):
        return False
    return user is not None and user.password is not None


@cache
def _dummy_hash() -> str:
    return _passwords.hash(secrets.token_hex())


def check_rate(subject: str, most: int) -> None:
    """Count a request of a token or an address. 429 after more than `most` in this minute."""
    if request_counts.count(subject, int(clock.now()) // 60) > most:
        wait = 60 - int(clock.now()) % 60
        raise HTTPException(429, f"more than {most} requests a minute", {"Retry-After": str(wait)})


def address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _unauthorized(detail: str) -> HTTPException:
    return HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})


def get_own(db: Any, model: type, number: int, caller: Caller) -> Any:
    """A row of the caller. 404 for an unknown id, 403 for a row of another user. An administrator
    may see all rows.
    """
    row = db.get(model, number)
    if row is None:
        raise HTTPException(404, f"there is no {model.__name__.lower()} {number}")
    if row.user_id != caller.id and not caller.admin:
        raise HTTPException(403, f"the {model.__name__.lower()} {number} is another user's")
    return row
