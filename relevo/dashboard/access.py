"""Access control: every page and action, Flower's and Relevo's, passes through it.

It finds out who the user is, refuses what they may not do, and records their actions in the audit
log (relevo/store/audit.py).
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Any, TypeVar
from urllib.parse import urlencode

from flower.views import BaseHandler
from flower.views.tasks import TasksDataTable
from tornado.web import HTTPError, OutputTransform

from relevo.dashboard import users
from relevo.dashboard.users import User
from relevo.store import audit

Result = TypeVar("Result")

READING = ("GET", "HEAD", "OPTIONS")
LONGEST_TARGET = 200

# Nothing from other hosts, and no script or style inside a page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
# Flower's own pages have style attributes, and its page of workers has a script of one line, which
# says whether the page refreshes itself.
_LINES = [f"\nvar autorefresh = {each};\n" for each in (0, 1)]
_HASHES = [b64encode(sha256(line.encode()).digest()).decode() for line in _LINES]
_ALLOWED = "script-src 'self' " + " ".join(f"'sha256-{each}'" for each in _HASHES)

_HEADERS = {
    "Content-Security-Policy": POLICY.replace("script-src 'self'", _ALLOWED)
    + "; style-src-attr 'unsafe-inline'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class SecurityHeaders(OutputTransform):
    """Adds the security headers to every answer, unless its handler has set them."""

    def transform_first_chunk(
        self, status_code: int, headers: Any, chunk: bytes, finishing: bool
    ) -> Any:
        for name, value in _HEADERS.items():
            if name not in headers and not (name == "Cache-Control" and "Etag" in headers):
                headers[name] = value
        return super().transform_first_chunk(status_code, headers, chunk, finishing)


class GuardedHandler(BaseHandler):
    """A handler with access control."""

    application: Any
    #: Whether a POST only reads: its parameters are too long for a url.
    only_reads = False

    @property
    def credentials(self) -> str:
        """The Authorization header."""
        return str(self.request.headers.get("Authorization", ""))

    def check_xsrf_cookie(self) -> None:
        """Check it, unless a program's token was sent: no site can make a browser send one."""
        if not users.is_program(self.credentials):
            super().check_xsrf_cookie()

    async def prepare(self) -> None:
        options = self.application.options
        program = users.is_program(self.credentials)
        known = (
            program
            or users.requires_login(options)
            or users.is_allowed_host(self.request.host, options.address or "")
        )
        if not known:
            raise HTTPError(
                403,
                "Without a password the dashboard answers to its address only, not to a name."
                " Set FLOWER_BASIC_AUTH, or open it by its IP address.",
            )
        super().prepare()
        if not self.current_user:
            # `get_current_user` raises an error for a wrong password: here the cookie is missing.
            self.ask_to_log_in()
            return
        if self.request.method not in READING and not self.only_reads:
            await self.check_may_act()

    def ask_to_log_in(self) -> None:
        self.redirect(f"{self.get_login_url()}?{urlencode({'next': self.request.uri})}")

    async def check_may_act(self) -> None:
        """Before an action of Flower's: refuse it, or record it in the audit log."""
        self.check_operates()
        await self.run(self.record_action, f"flower {self.request.method}", self.request.path, "")

    def check_operates(self) -> None:
        """Raise HTTPError unless the user may act."""
        site = self.request.headers.get("Sec-Fetch-Site", "same-origin")
        if site not in {"same-origin", "none"}:
            raise HTTPError(403, "Cross-site request forbidden")
        if not self.current_user.operates:
            raise HTTPError(403, f"{self.current_user} may look, but not act here.")

    def record_action(self, action: str, target: str, outcome: str) -> int:
        """Record an action in the audit log. Returns the number of its row. Raises DriverError."""
        entry = audit.AuditEntry(
            who=str(self.current_user), action=action, target=target, outcome=outcome
        )
        return audit.record(self.application.source.store, entry)

    def get_current_user(self) -> User | None:
        options = self.application.options
        name = None
        if users.is_program(self.credentials):
            name = users.by_token(getattr(options, "api_tokens", None) or [], self.credentials)
            if name is None:
                raise HTTPError(401)
            return users.user(options, name, self.request.remote_ip or "?")
        if options.basic_auth:
            name = users.by_password(options.basic_auth, self.credentials)
            if name is None:
                raise HTTPError(401)
        if options.auth:
            name = self._name_of_cookie()
            if name is None:
                return None
        return users.user(options, name, self.request.remote_ip or "?")

    def _name_of_cookie(self) -> str | None:
        from flower.utils.authentication import authenticate  # noqa: PLC0415  OAuth only

        sent = self.get_secure_cookie("user")
        name = sent.decode("utf-8", "replace") if sent else ""
        return name if name and authenticate(self.application.options.auth, name) else None

    async def run(self, work: Callable[..., Result], *args: Any) -> Result:
        """Run in a thread a function that waits for a broker or a database."""
        return await asyncio.get_running_loop().run_in_executor(
            self.application.executor, work, *args
        )


def guard_handler(handler: type) -> type:
    """A handler of Flower's with access control."""
    return type(
        handler.__name__, (GuardedHandler, handler), {"only_reads": handler is TasksDataTable}
    )
