"""Routes of tokens and users."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.models import Token, User, session
from tasks import email
from tasks.imports import address_of
from web import access
from web.access import Caller
from web.idempotency import IdempotentRoute
from web.pagination import After, Limit, Page, page
from web.schemas import Id, Login, NewUser

router = APIRouter(prefix="/api", tags=["people"], route_class=IdempotentRoute)
TOKEN_FIELDS = ("name", "abilities", "expires_at", "created_at")


class NewToken(BaseModel):
    id: int
    token: str
    abilities: list[str]
    expires_at: datetime


class UserMade(BaseModel):
    id: int
    name: str
    email: str


@router.post("/tokens", status_code=201)
def login(request: Request, given: Login) -> NewToken:
    """A token for an address and a password. It is shown here and never again."""
    access.check_rate(f"login:{access.address(request)}", access.LOGINS_A_MINUTE)
    with session() as db:
        user = db.scalars(select(User).filter_by(email=given.email.lower())).one_or_none()
    if not access.verify_password(user, given.password) or user is None:
        raise HTTPException(
            401, "the address or the password is wrong", {"WWW-Authenticate": "Bearer"}
        )
    token, row = access.new_token(user.id, given.name, list(given.abilities), given.days)
    return NewToken(id=row.id, token=token, abilities=row.abilities, expires_at=row.expires_at)


@router.get("/tokens")
def tokens(
    caller: Annotated[Caller, Depends(access.require_ability("tokens"))],
    limit: Limit = 50,
    after: After = None,
) -> Page:
    """Your tokens, without their secrets."""
    return page(select(Token).filter_by(user_id=caller.id), Token, limit, after, TOKEN_FIELDS)


@router.delete("/tokens/{token_id}", status_code=204)
def revoke(
    token_id: Id, caller: Annotated[Caller, Depends(access.require_ability("tokens"))]
) -> Response:
    """Revoke a token, at once."""
    with session() as db:
        db.delete(access.get_own(db, Token, token_id, caller))
    return Response(status_code=204)


@router.post("/users", status_code=201)
def create_user(
    given: NewUser, _caller: Annotated[Caller, Depends(access.require_admin("users"))]
) -> UserMade:
    """Create a user and mail them a welcome. For administrators."""
    hashed = access.password_hash(given.password) if given.password else None
    user = User(name=given.name, email=address_of(given.email), password=hashed)
    try:
        with session() as db:
            db.add(user)
            db.flush()
            email.send_once(db, f"welcome-{user.id}", "welcome", user.id)
    except IntegrityError as error:
        raise HTTPException(409, f"there is a user with the address {user.email}") from error
    return UserMade(id=user.id, name=user.name, email=user.email)
