"""The base classes of Relevo's pages and actions.

A page gathers its values in a thread, where it may wait for the store and the broker; a template
shows them. The script in the browser requests the same page every few seconds and replaces what has
changed, so there is one way to draw. An action is a POST with a token. It is recorded in the audit
log, done, and answered with a redirect to the page that it came from, with a notice.
"""

from __future__ import annotations

import json
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any

from tornado.web import HTTPError, RequestHandler, authenticated

from relevo.dashboard import formatting, users
from relevo.dashboard.access import LONGEST_TARGET, POLICY, GuardedHandler
from relevo.errors import DriverError, DriverUnavailableError, RelevoError
from relevo.store import audit
from relevo.store.window_scan import Place

logger = logging.getLogger(__name__)

#: The header of a request that the script of an open page makes.
LIVE = "X-Relevo-Live"
NOTICE = "relevo_notice"
LONGEST_NOTICE = 500
LONGEST_FIELD = 1_000_000
AWAY, BAD, CONFLICT = 503, 400, 409
_PLACE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?):(\d{1,18})", re.ASCII)


class Handler(GuardedHandler):
    """The base of Relevo's handlers: strict headers, every token checked, errors as pages."""

    def set_default_headers(self) -> None:
        """Replace Flower's headers, which open an unprotected dashboard to every site (CORS)."""
        self.set_header("Content-Security-Policy", POLICY)

    def check_xsrf_cookie(self) -> None:
        """Check the token always. Flower checks it only if there is a cookie to protect."""
        if users.is_program(self.credentials):
            return
        try:
            RequestHandler.check_xsrf_cookie(self)
        except HTTPError as error:
            raise HTTPError(
                403, "Nothing was done: this page is too old to act. Reload the page."
            ) from error

    def field(self, name: str, default: str = "") -> str:
        """A value of the query or the form, unchanged. Raises HTTPError if it is too long."""
        value = self.get_argument(name, default, strip=False, escape=False)
        if len(value) > LONGEST_FIELD:
            raise HTTPError(
                BAD, f"expected {name} to have at most {LONGEST_FIELD} characters, got {len(value)}"
            )
        return value

    def whole_number(self, name: str, default: int | None = None) -> int | None:
        """A whole number of the query or the form. Raises HTTPError."""
        value = self.field(name).strip()
        if not value:
            return default
        if not value.isdecimal() or len(value) > 18:  # noqa: PLR2004  more digits than any row has
            raise HTTPError(
                BAD, f"expected {name} to be a whole number, got {formatting.cut(value, 60)!r}"
            )
        return int(value)

    def choice(self, name: str, options: Collection[str]) -> str:
        """One of `options`; the first of them if the field is empty. Raises HTTPError."""
        value = self.field(name) or next(iter(options))
        if value not in options:
            got = formatting.cut(value, 60)
            raise HTTPError(BAD, f"expected {name} to be one of {', '.join(options)}, got {got!r}")
        return value

    def place(self) -> Place | None:
        """Where a list continues: the time and the number of the last row of the page before."""
        given = self.field("before")
        found = _PLACE.fullmatch(given)
        if given and found is None:
            raise HTTPError(BAD, "expected before to be what the link to the next page says")
        return (float(found[1]), int(found[2])) if found else None

    def path(self, name: str, *arguments: Any) -> str:
        return self.reverse_url(name, *arguments)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Show an error as a page, without internals."""
        if status_code == 401:  # noqa: PLR2004
            super().write_error(status_code, **kwargs)
            return
        status_code, message = status_of(status_code, kwargs.get("exc_info", (None, None))[1])
        self.set_status(status_code)
        self.current_user = getattr(self, "_current_user", None)
        self.show(
            "relevo/trouble.html", title="Trouble", tab="", status=status_code, message=message
        )

    def show(self, template: str, **values: Any) -> None:
        user = self.current_user
        self.render(
            template,
            ui=formatting,
            live=LIVE in self.request.headers,
            user=user,
            notice=self._notice(),
            operates=bool(user and user.operates),
            here=self.request.uri,
            refresh=int(1000 * self.application.options.refresh),
            **values,
        )

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if isinstance(value, RelevoError):
            logger.warning("%s %s: %s", self.request.method, self.request.path, value)
        else:
            super().log_exception(typ, value, tb)

    def _notice(self) -> dict[str, str] | None:
        """The notice of the last action, shown once; not for a request of the script."""
        sent = self.get_secure_cookie(NOTICE) if LIVE not in self.request.headers else None
        if not sent:
            return None
        self.clear_cookie(NOTICE)
        said = json.loads(sent)
        return {"kind": str(said["kind"]), "text": str(said["text"])}


class NotFound(Handler):
    """Any path without a page."""

    async def prepare(self) -> None:
        await super().prepare()
        if not self._finished:
            raise HTTPError(404)


def cursor(place: Place) -> str:
    """A place in a list as text, for the link to the next page."""
    return f"{place[0]!r}:{place[1]}"


def status_of(status: int, error: Any) -> tuple[int, str]:
    """The HTTP status and the message for an error."""
    if isinstance(error, RelevoError):
        return AWAY if isinstance(error, DriverUnavailableError) else CONFLICT, str(error)
    return status, (error.get_message() or "") if isinstance(error, HTTPError) else ""


class Page(Handler, ABC):
    """A page: `template`, `title`, and `gather`, which runs in a thread and returns the values of
    the template.
    """

    template: str
    title: str
    tab = ""
    #: What an error page names if it can't be reached.
    server_name = "The store"

    @authenticated
    async def get(self, *arguments: str) -> None:
        try:
            values = await self.run(self.gather, *arguments)
        except DriverError as error:
            raise HTTPError(AWAY, "%s can't be reached: %s", self.server_name, error) from error
        self.show(self.template, **{"title": self.title, "tab": self.tab, **values})

    @abstractmethod
    def gather(self, *arguments: str) -> dict[str, Any]:
        """The values of the template."""

    @abstractmethod
    def as_json(self, values: dict[str, Any]) -> dict[str, Any]:
        """The values as JSON (`relevo/dashboard/json_api.py`): plain values and dataclasses."""


class Action(Handler, ABC):
    """An action. `act` runs in a thread and returns a sentence about what it has done."""

    name: str

    async def check_may_act(self) -> None:
        self.check_operates()

    @authenticated
    async def post(self, *arguments: str) -> None:
        try:
            done = await self.run(self._act_and_audit, *arguments)
        except RelevoError as error:
            logger.warning("%s failed: %s", self.name, error)
            self.answer("", error)
        else:
            self.answer(done, None)

    def answer(self, said: str, error: RelevoError | None) -> None:
        """Redirect to the page that the action came from, with a notice."""
        text = formatting.cut(said if error is None else f"Not done: {error}", LONGEST_NOTICE)
        notice = {"kind": "done" if error is None else "failed", "text": text}
        self.set_secure_cookie(NOTICE, json.dumps(notice), expires_days=None)
        self.redirect(self._return_path(), status=303)

    def _act_and_audit(self, *arguments: str) -> str:
        number = self.record_action(
            self.name, formatting.cut(self.target(*arguments), LONGEST_TARGET), ""
        )
        try:
            outcome = self.act(*arguments)
        except Exception as error:
            audit.complete(self.application.source.store, number, f"not done: {error}")
            raise
        audit.complete(self.application.source.store, number, outcome)
        return outcome

    def target(self, *arguments: str) -> str:
        """The objects of the action, as text for the audit log."""
        return " ".join(arguments)

    @abstractmethod
    def act(self, *arguments: str) -> str:
        """Do the action. Raises RelevoError."""

    def _return_path(self) -> str:
        """The page to return to: always one of the dashboard, never another site's."""
        back, home = self.field("back"), self.path("overview")
        root = home[: -len("overview")]
        plain = all(" " < letter < "\x7f" for letter in back) and "\\" not in back
        return back if plain and back.startswith(root) and not back.startswith("//") else home
