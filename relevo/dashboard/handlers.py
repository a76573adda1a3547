"""What every page and every action of ours has in common.

A page is made by a function that waits for the store and the broker in a thread, and shown by a
template. The script asks for the same page again every few seconds and puts into place what has
changed, so there is one way to draw. An action is a POST with a token; it is written down, done,
and answered by the page it came from, with a notice.
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
from relevo.dashboard.access import LONGEST_TARGET, POLICY, Guard
from relevo.errors import DriverError, DriverUnavailableError, RelevoError
from relevo.store import audit
from relevo.store.window_scan import Place

logger = logging.getLogger(__name__)

#: The header of a request that an open page makes by itself.
LIVE = "X-Relevo-Live"
NOTICE = "relevo_notice"
LONGEST_NOTICE = 500
LONGEST_FIELD = 1_000_000
AWAY, BAD, CONFLICT = 503, 400, 409
_PLACE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?):(\d{1,18})", re.ASCII)


class Ours(Guard):
    """A handler of ours: strict headers, every token checked, our own words for errors."""

    def set_default_headers(self) -> None:
        """Flower would open an unprotected dashboard to every web page (CORS)."""
        self.set_header("Content-Security-Policy", POLICY)

    def check_xsrf_cookie(self) -> None:
        """Flower asks for a token only where there is a cookie to protect."""
        if users.is_program(self.credentials):
            return
        try:
            RequestHandler.check_xsrf_cookie(self)
        except HTTPError as error:
            raise HTTPError(
                403, "Nothing was done: this page is too old to act. Reload the page."
            ) from error

    def field(self, name: str, default: str = "") -> str:
        """A value of the query or the form, as it was sent."""
        value = self.get_argument(name, default, strip=False, escape=False)
        if len(value) > LONGEST_FIELD:
            raise HTTPError(
                BAD, f"expected {name} to have at most {LONGEST_FIELD} characters, got {len(value)}"
            )
        return value

    def whole(self, name: str, default: int | None = None) -> int | None:
        """A whole number of the query or the form."""
        value = self.field(name).strip()
        if not value:
            return default
        if not value.isdecimal() or len(value) > 18:  # noqa: PLR2004  more digits than any row has
            raise HTTPError(
                BAD, f"expected {name} to be a whole number, got {formatting.cut(value, 60)!r}"
            )
        return int(value)

    def choice(self, name: str, options: Collection[str]) -> str:
        """One of these; the first of them when nothing is said."""
        value = self.field(name) or next(iter(options))
        if value not in options:
            raise HTTPError(
                BAD,
                f"expected {name} to be one of {', '.join(options)}, got {formatting.cut(value, 60)!r}",
            )
        return value

    def place(self) -> Place | None:
        """Where a list goes on: when the last row of the page before was written, and its number."""
        given = self.field("before")
        found = _PLACE.fullmatch(given)
        if given and found is None:
            raise HTTPError(BAD, "expected before to be what the link to the next page says")
        return (float(found[1]), int(found[2])) if found else None

    def path(self, name: str, *arguments: Any) -> str:
        return self.reverse_url(name, *arguments)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """An error of ours or Tornado's as a page, without a word of how we are made."""
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
        """What the last action has to say, once; not to a page that only looks again."""
        sent = self.get_secure_cookie(NOTICE) if LIVE not in self.request.headers else None
        if not sent:
            return None
        self.clear_cookie(NOTICE)
        said = json.loads(sent)
        return {"kind": str(said["kind"]), "text": str(said["text"])}


class Nowhere(Ours):
    """Any address that there isn't."""

    async def prepare(self) -> None:
        await super().prepare()
        if not self._finished:
            raise HTTPError(404)


def cursor(place: Place) -> str:
    """A place in a list, for a link to what comes after it."""
    return f"{place[0]!r}:{place[1]}"


def status_of(status: int, error: Any) -> tuple[int, str]:
    """The status of an answer to which this error has led, and what it says of it."""
    if isinstance(error, RelevoError):
        return AWAY if isinstance(error, DriverUnavailableError) else CONFLICT, str(error)
    return status, (error.get_message() or "") if isinstance(error, HTTPError) else ""


class Page(Ours, ABC):
    """A page: `template`, `title`, and `gather`, which runs in a thread and returns what the
    template shows.
    """

    template: str
    title: str
    tab = ""
    #: Where it looks, to be named when that is away.
    looks_at = "The store"

    @authenticated
    async def get(self, *arguments: str) -> None:
        try:
            values = await self.run(self.gather, *arguments)
        except DriverError as error:
            raise HTTPError(AWAY, "%s can't be reached: %s", self.looks_at, error) from error
        self.show(self.template, **{"title": self.title, "tab": self.tab, **values})

    @abstractmethod
    def gather(self, *arguments: str) -> dict[str, Any]:
        """The values of the template."""

    @abstractmethod
    def told(self, values: dict[str, Any]) -> dict[str, Any]:
        """What a program is told of them: values and dataclasses that JSON can say
        (`relevo/dashboard/json_api.py`).
        """


class Action(Ours, ABC):
    """Something to do. `act` runs in a thread and returns what it has done, for people."""

    name: str

    async def check_may_act(self) -> None:
        self.check_operates()

    @authenticated
    async def post(self, *arguments: str) -> None:
        try:
            done = await self.run(self._recorded, *arguments)
        except RelevoError as error:
            logger.warning("%s failed: %s", self.name, error)
            self.answer("", error)
        else:
            self.answer(done, None)

    def answer(self, said: str, error: RelevoError | None) -> None:
        """Go back to the page it came from, with a notice."""
        text = formatting.cut(said if error is None else f"Not done: {error}", LONGEST_NOTICE)
        notice = {"kind": "done" if error is None else "failed", "text": text}
        self.set_secure_cookie(NOTICE, json.dumps(notice), expires_days=None)
        self.redirect(self._back(), status=303)

    def _recorded(self, *arguments: str) -> str:
        number = self.note(self.name, formatting.cut(self.target(*arguments), LONGEST_TARGET), "")
        try:
            outcome = self.act(*arguments)
        except Exception as error:
            audit.complete(self.application.source.store, number, f"not done: {error}")
            raise
        audit.complete(self.application.source.store, number, outcome)
        return outcome

    def target(self, *arguments: str) -> str:
        """What it is done to, for the audit log."""
        return " ".join(arguments)

    @abstractmethod
    def act(self, *arguments: str) -> str:
        """Do it. Raises RelevoError."""

    def _back(self) -> str:
        """A page of ours: never an address of somebody else's."""
        back, home = self.field("back"), self.path("overview")
        root = home[: -len("overview")]
        plain = all(" " < letter < "\x7f" for letter in back) and "\\" not in back
        return back if plain and back.startswith(root) and not back.startswith("//") else home
