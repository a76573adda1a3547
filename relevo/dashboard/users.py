"""Who the user is, and whether they may act.

    no password                everyone who reaches the address may look; no one may act, unless
                               FLOWER_OPERATORS is *
    FLOWER_BASIC_AUTH, --auth  users who have logged in may look; those in FLOWER_OPERATORS may act,
                               or all if it is empty
    FLOWER_API_TOKENS          a program with a token may do what a user of its name may
    FLOWER_READ_ONLY           no one may act

Without a password only the address protects the dashboard. So the Host of a request must be an
address: a site whose name was made to point here (DNS rebinding) is refused.
"""

from __future__ import annotations

import hmac
import ipaddress
from base64 import b64decode
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from tornado.options import define, options

from relevo.config.dashboard import SHORTEST_TOKEN

EVERYBODY = "*"


@dataclass(frozen=True, slots=True)
class User:
    """A user who may look. `operates`: whether they may act, too."""

    name: str
    operates: bool

    def __str__(self) -> str:
        return self.name


def define_options() -> None:
    """Add Relevo's options to the `flower` command, before it reads the environment and its
    arguments. May be called again.
    """
    if "operators" not in options:
        define(
            "api_tokens",
            default=[],
            type=str,
            multiple=True,
            help="name:token of programs, with commas",
        )
        define(
            "operators",
            default="",
            type=str,
            help="who may act: names or emails with commas, or * for everybody",
        )
        define("refresh", default=3.0, type=float, help="seconds between two looks of an open page")


def requires_login(options: Any) -> bool:
    """Whether users have to log in."""
    return bool(options.basic_auth or options.auth)


def user(options: Any, name: str | None, address: str) -> User:
    """The user with this name, which a password or token has proved, or without a name at this
    address.
    """
    named = [
        each.strip()
        for each in str(getattr(options, "operators", "") or "").split(",")
        if each.strip()
    ]
    may = EVERYBODY in named or (name is not None and (not named or name in named))
    return User(name or f"somebody at {address}", may and not options.read_only)


def by_password(credentials: list[str], header: str) -> str | None:
    """The name of the user whose `user:password` an Authorization header has, or None."""
    scheme, _, sent = header.partition(" ")
    try:
        given = b64decode(sent, validate=True)
    except ValueError:
        return None
    if scheme.lower() != "basic":
        return None
    matching = [each for each in credentials if hmac.compare_digest(each.encode(), given)]
    return matching[0].partition(":")[0] if matching else None


def is_program(header: str) -> bool:
    """Whether an Authorization header has a token. Browsers send none by themselves, so no other
    site can misuse one.
    """
    return header.partition(" ")[0].lower() == "bearer"


def by_token(tokens: list[str], header: str) -> str | None:
    """The name of the program with the token of the header; None if there is none.

    `tokens`: `name:token` each.
    """
    sent = header.partition(" ")[2].strip().encode()
    pairs = [
        (name, token.encode())
        for name, _, token in (each.strip().partition(":") for each in tokens)
    ]
    matching = [
        name
        for name, token in pairs
        if len(token) >= SHORTEST_TOKEN
        and hmac.compare_digest(sha256(token).digest(), sha256(sent).digest())
    ]
    return matching[0] if matching else None


def is_allowed_host(host: str, known: str) -> bool:
    """Whether the Host of a request is an address, localhost, or the name that the dashboard
    listens on.
    """
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]").rstrip(".").lower()
    if name in {"localhost", known.lower()} or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
