"""The pages and actions as JSON, at the same paths below /api/relevo. See docs/dashboard-api.md.

Each is a subclass of the page or action that only writes another format. So the same code gathers
the data and does the action.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import fields, is_dataclass
from typing import Any

from tornado.web import HTTPError

from relevo.dashboard.handlers import BAD, Action, Handler, NotFound, Page, status_of
from relevo.errors import RelevoError

ROOT = "/api/relevo"
_DEFAULT_MESSAGES = {
    401: "expected Authorization: Bearer and a token of FLOWER_API_TOKENS, or a password",
    404: f"there is no such thing here; GET {ROOT} lists the routes",
    405: "this route has another method",
}
#: Fields whose value is itself JSON.
JSON_FIELDS = ("args", "kwargs")


class JsonHandler(Handler):
    """A handler that answers with JSON."""

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

    def write_json(self, said: Any) -> None:
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.write(json.dumps(to_json_value(said), ensure_ascii=True))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        status, message = status_of(status_code, kwargs.get("exc_info", (None, None))[1])
        self.set_status(status)
        if status == 401:  # noqa: PLR2004
            self.set_header("WWW-Authenticate", "Bearer")
        self.write_json(
            {"error": message or _DEFAULT_MESSAGES.get(status, self._reason), "status": status}
        )
        self.finish()


class JsonPage(JsonHandler, Page):
    """A page as JSON."""

    def show(self, template: str, **values: Any) -> None:
        """Write the values as JSON, instead of the template."""
        del template
        self.write_json(self.as_json(values))


class JsonAction(JsonHandler, Action):
    """An action that answers with JSON."""

    def answer(self, said: str, error: RelevoError | None) -> None:
        if error is None:
            self.write_json({"done": said})
            return
        self.set_status(status_of(BAD, error)[0])
        self.write_json({"error": str(error), "status": self.get_status()})


class JsonIndex(JsonHandler):
    """/api/relevo: a list of all routes."""

    def get(self) -> None:
        self.write_json(
            {
                "routes": [
                    {"method": method, "path": path, "does": does}
                    for method, path, does in self.application.api_routes
                ]
            }
        )


class JsonNotFound(JsonHandler, NotFound):
    """Any other path below /api/relevo."""


def json_handler(handler: type) -> type:
    """A page or an action as a handler that answers with JSON."""
    base = JsonPage if issubclass(handler, Page) else JsonAction
    return type(f"Json{handler.__name__}", (base, handler), {"__doc__": handler.__doc__})


def routes(pages: list[tuple[str, Any, str | None]]) -> list[tuple[str, Any, str | None]]:
    """The JSON routes of these pages."""
    found = [
        (ROOT + pattern, json_handler(handler), None)
        for pattern, handler, _ in pages
        if issubclass(handler, (Page, Action))
    ]
    return [(ROOT, JsonIndex, None), *found, (f"{ROOT}/.*", JsonNotFound, None)]


def list_routes(pages: list[tuple[str, Any, str | None]]) -> list[tuple[str, str, str]]:
    """Method, path and description of each JSON route."""
    return [
        (
            "GET" if issubclass(handler, Page) else "POST",
            ROOT + re.sub(r"\([^)]*\)", "{id}", pattern),
            (handler.__doc__ or "").partition("\n")[0],
        )
        for pattern, handler, _ in pages
        if issubclass(handler, (Page, Action))
    ]


def to_json_value(value: Any) -> Any:
    """A value in the types that JSON has. It has no infinities and no NaN: they become null."""
    if is_dataclass(value):
        return {each.name: to_json_value(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {str(name): to_json_value(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json_value(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int)) else str(value)


def _fields(body: bytes) -> dict[str, list[bytes]]:
    """The fields of a JSON object, in the form of a form's fields. Raises HTTPError."""
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPError(BAD, f"expected a JSON object: {error}") from error
    if not isinstance(sent, dict):
        raise HTTPError(BAD, "expected a JSON object")
    return {name: _encode(name, value) for name, value in sent.items()}


def _encode(name: str, value: Any) -> list[bytes]:
    each = value if isinstance(value, list) and name not in JSON_FIELDS else [value]
    texts = [
        one
        if isinstance(one, str) and name not in JSON_FIELDS
        else ""
        if one in (None, False)
        else json.dumps(one)
        for one in each
    ]
    return [text.encode("utf-8", "surrogatepass") for text in texts]
