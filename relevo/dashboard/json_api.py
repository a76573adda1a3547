"""The pages for programs: the same addresses below /api/relevo, with JSON in the place of HTML.
docs/dashboard-api.md.

A page or an action is taken as it is and given another voice, so there is one way to find things
and one to do them.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass
from typing import Any

from tornado.web import HTTPError

from relevo.dashboard.handlers import BAD, Action, Nowhere, Ours, Page, status_of
from relevo.errors import RelevoError

ROOT = "/api/relevo"
_UNSAID = {
    401: "expected Authorization: Bearer and a token of FLOWER_API_TOKENS, or a password",
    404: f"there is no such thing here; GET {ROOT} lists the routes",
    405: "this route has another method",
}
#: Fields whose value is JSON itself.
NESTED = ("args", "kwargs")


class Spoken(Ours):
    """A page or an action that answers with JSON."""

    def ask_to_log_in(self) -> None:
        raise HTTPError(401)

    def check_xsrf_cookie(self) -> None:
        try:
            super().check_xsrf_cookie()
        except HTTPError as error:
            raise HTTPError(
                403,
                "expected Authorization: Bearer and a token of FLOWER_API_TOKENS,"
                " or the token of a page as X-XSRFToken",
            ) from error

    async def prepare(self) -> None:
        await super().prepare()
        if (
            self.request.headers.get("Content-Type", "").partition(";")[0].strip()
            == "application/json"
        ):
            self.request.arguments.update(_fields(self.request.body))

    def say(self, said: Any) -> None:
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.write(json.dumps(plain(said), ensure_ascii=True))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        status, message = status_of(status_code, kwargs.get("exc_info", (None, None))[1])
        self.set_status(status)
        if status == 401:  # noqa: PLR2004
            self.set_header("WWW-Authenticate", "Bearer")
        self.say({"error": message or _UNSAID.get(status, self._reason), "status": status})
        self.finish()


class SpokenPage(Spoken, Page):
    """A page as JSON."""

    def show(self, template: str, **values: Any) -> None:
        """The values of the template, as far as they are for programs."""
        del template
        self.say(self.told(values))


class SpokenAction(Spoken, Action):
    """An action, answered with what it has done."""

    def answer(self, said: str, error: RelevoError | None) -> None:
        if error is None:
            self.say({"done": said})
            return
        self.set_status(status_of(BAD, error)[0])
        self.say({"error": str(error), "status": self.get_status()})


class Index(Spoken):
    """/api/relevo: every address there is."""

    def get(self) -> None:
        self.say(
            {
                "routes": [
                    {"method": method, "path": path, "does": does}
                    for method, path, does in self.application.told_routes
                ]
            }
        )


class SpokenNowhere(Spoken, Nowhere):
    """Any other address below /api/relevo."""


def spoken(handler: type) -> type:
    """A page or an action with this voice."""
    voice = SpokenPage if issubclass(handler, Page) else SpokenAction
    return type(f"Spoken{handler.__name__}", (voice, handler), {"__doc__": handler.__doc__})


def routes(pages: list[tuple[str, Any, str | None]]) -> list[tuple[str, Any, str | None]]:
    """The addresses of these pages for programs."""
    ours = [
        (pattern, handler) for pattern, handler, _ in pages if issubclass(handler, (Page, Action))
    ]
    said = [(ROOT + pattern, spoken(handler), None) for pattern, handler in ours]
    return [(ROOT, Index, None), *said, (f"{ROOT}/.*", SpokenNowhere, None)]


def told(pages: list[tuple[str, Any, str | None]]) -> list[tuple[str, str, str]]:
    """Method, address and meaning of each."""
    return [
        (
            "GET" if issubclass(handler, Page) else "POST",
            ROOT + re.sub(r"\([^)]*\)", "{id}", pattern),
            (handler.__doc__ or "").partition("\n")[0],
        )
        for pattern, handler, _ in pages
        if issubclass(handler, (Page, Action))
    ]


def plain(value: Any) -> Any:
    """A value as JSON can say it."""
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _fields(body: bytes) -> dict[str, list[bytes]]:
    """The fields of a form that was sent as a JSON object. Raises HTTPError."""
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPError(BAD, f"expected a JSON object: {error}") from error
    if not isinstance(sent, dict):
        raise HTTPError(BAD, "expected a JSON object")
    return {name: _values(name, value) for name, value in sent.items()}


def _values(name: str, value: Any) -> list[bytes]:
    each = value if isinstance(value, list) and name not in NESTED else [value]
    texts = [
        one
        if isinstance(one, str) and name not in NESTED
        else ""
        if one in (None, False)
        else json.dumps(one)
        for one in each
    ]
    return [text.encode("utf-8", "surrogatepass") for text in texts]
