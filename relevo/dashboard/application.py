"""Flower's application with Relevo's pages, access control and broker, as a subclass.

    a request -> access control (access.py) -> a page of Relevo's (routes.py), or one of Flower's

Flower's own handlers get the same access control, and their templates find Relevo's navigation bar
in the place of Flower's.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import flower.app
from flower.app import Flower
from flower.urls import handlers as flowers
from flower.views.error import NotFoundErrorHandler
from tornado.web import RedirectHandler, StaticFileHandler, url

from relevo.dashboard import access, json_api, routes, users
from relevo.dashboard.assets import TEMPLATES, OverlayLoader, StaticFiles
from relevo.dashboard.handlers import NotFound
from relevo.dashboard.prometheus import Exposition
from relevo.dashboard.sources import Source

logger = logging.getLogger(__name__)
# Flower logs the messages of its libraries. Alembic would log each table of a new SQLite file.
logging.getLogger("alembic").setLevel(logging.WARNING)

users.define_options()

#: Seconds between two inspections of the workers while the dashboard is open.
INSPECT_INTERVAL_SECONDS = 15.0
FLOWER_TEMPLATES = Path(flower.app.__file__).parent / "templates"
# Flower's handlers without access control: they show nothing.
_OPEN = ("/healthcheck", "/login/?")
# Paths below the prefix that Flower's own routes answer.
_FLOWER_PATHS = ("healthcheck", "login", "static/")


class Dashboard(Flower):
    """The application that `celery flower` starts."""

    def __init__(self, options: Any = None, capp: Any = None, **settings: Any) -> None:
        settings.update(
            template_loader=OverlayLoader(TEMPLATES, FLOWER_TEMPLATES, autoescape="xhtml_escape"),
            # Tornado caches loaders by this path: with Flower's path, a stock Flower in the same
            # process would get Relevo's templates.
            template_path=str(TEMPLATES),
            static_handler_class=StaticFiles,
        )
        settings.setdefault("xsrf_cookie_kwargs", {"samesite": "Lax"})
        super().__init__(options=options, capp=capp, **settings)
        self.source = Source(self.capp)
        self.exposition = Exposition(self.source, lambda: self.workers)
        self.add_transform(access.SecurityHeaders)
        prefix = f"/{self.options.url_prefix.strip('/')}" if self.options.url_prefix else ""
        self.add_handlers(".*", _routes(prefix, self.capp))
        self.api_routes = json_api.list_routes(routes.PAGES)
        self._asked_at = float("-inf")

    def has_page(self, name: str) -> bool:
        """Whether there is a page of this name: some exist only for certain brokers."""
        try:
            self.reverse_url(name)
        except (KeyError, AssertionError):
            return False
        return True

    async def ask_workers(self) -> None:
        """Inspect the workers, if the last time is long ago. Only the request that opens the
        dashboard waits for the answers.
        """
        now = time.monotonic()
        ago = now - self._asked_at
        if ago < INSPECT_INTERVAL_SECONDS:
            return
        self._asked_at = now
        answers = self.update_workers()
        if ago > 4 * INSPECT_INTERVAL_SECONDS:
            try:
                await answers
            except Exception:  # The broker has gone meanwhile: the page shows the rest.
                logger.warning("the workers could not be inspected", exc_info=True)


def _routes(prefix: str, app: Any) -> list[Any]:
    ours = [*routes.PAGES, *json_api.routes(routes.PAGES), *routes.broker(app)]
    replaced = {pattern for pattern, _, _ in ours}
    behind = [
        (spec.regex.pattern.rstrip("$"), access.guard_handler(spec.handler_class), spec.name)
        for spec in map(_spec, flowers)
        if spec.handler_class not in {StaticFileHandler, NotFoundErrorHandler}
        and spec.regex.pattern.rstrip("$") not in {*replaced, "/", *_OPEN}
    ]
    to_overview = {"url": f"{prefix}/overview", "permanent": False}
    home = [url(f"{prefix}/", RedirectHandler, to_overview, name="main")]
    home += [url(prefix, RedirectHandler, to_overview)] if prefix else []
    rest = (f"/(?!{'|'.join(_FLOWER_PATHS)}).*", NotFound, None)
    return [
        *home,
        *(
            url(prefix + pattern, handler, name=name)
            for pattern, handler, name in (*ours, *behind, rest)
        ),
    ]


def _spec(route: Any) -> Any:
    return route if hasattr(route, "handler_class") else url(*route)
