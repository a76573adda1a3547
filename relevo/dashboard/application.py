"""Flower's application with our pages, our door and our broker. Flower is not changed: it is this
class's base.

    a request -> the door (guard.py: who is it, what may they do) -> a page of ours, or one of
    Flower's

Every handler of Flower's is served behind the same door; its templates find our navigation bar
where its own was.
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
from relevo.dashboard.assets import TEMPLATES, Overlay, Static
from relevo.dashboard.handlers import Nowhere
from relevo.dashboard.prometheus import Exposition
from relevo.dashboard.sources import Source

logger = logging.getLogger(__name__)
# Flower logs what its libraries say; these say how they were made, when a SQLite file gets its
# tables.
logging.getLogger("alembic").setLevel(logging.WARNING)

users.define_options()

#: Seconds between two questions to the workers while somebody looks.
BETWEEN_LOOKS = 15.0
FLOWERS_TEMPLATES = Path(flower.app.__file__).parent / "templates"
# Of Flower's handlers, those that anybody may ask: they say nothing.
_OPEN = ("/healthcheck", "/login/?")
# What Flower itself still answers below our prefix.
_OTHERS = ("healthcheck", "login", "static/")


class Dashboard(Flower):
    """What `celery flower` starts."""

    def __init__(self, options: Any = None, capp: Any = None, **settings: Any) -> None:
        settings.update(
            template_loader=Overlay(TEMPLATES, FLOWERS_TEMPLATES, autoescape="xhtml_escape"),
            template_path=str(
                TEMPLATES
            ),  # Tornado keeps loaders by it: with Flower's, a stock Flower would get ours
            static_handler_class=Static,
        )
        settings.setdefault("xsrf_cookie_kwargs", {"samesite": "Lax"})
        super().__init__(options=options, capp=capp, **settings)
        self.source = Source(self.capp)
        self.exposition = Exposition(self.source, lambda: self.workers)
        self.add_transform(access.SafeHeaders)
        prefix = f"/{self.options.url_prefix.strip('/')}" if self.options.url_prefix else ""
        self.add_handlers(".*", _routes(prefix, self.capp))
        self.told_routes = json_api.told(routes.PAGES)
        self._looked_at_workers = float("-inf")

    def has_page(self, name: str) -> bool:
        """Whether there is a page of this name: some depend on the broker."""
        try:
            self.reverse_url(name)
        except (KeyError, AssertionError):
            return False
        return True

    async def look_at_workers(self) -> None:
        """Ask the workers who they are, if that is long ago. Only who opens the dashboard waits for
        the answers.
        """
        now = time.monotonic()
        ago = now - self._looked_at_workers
        if ago < BETWEEN_LOOKS:
            return
        self._looked_at_workers = now
        answers = self.update_workers()
        if ago > 4 * BETWEEN_LOOKS:
            try:
                await answers
            except Exception:  # a broker that goes while it is asked: what can be seen is shown
                logger.warning("the workers could not be asked who they are", exc_info=True)


def _routes(prefix: str, app: Any) -> list[Any]:
    ours = [*routes.PAGES, *json_api.routes(routes.PAGES), *routes.broker(app)]
    replaced = {pattern for pattern, _, _ in ours}
    behind = [
        (spec.regex.pattern.rstrip("$"), access.guarded(spec.handler_class), spec.name)
        for spec in map(_spec, flowers)
        if spec.handler_class not in {StaticFileHandler, NotFoundErrorHandler}
        and spec.regex.pattern.rstrip("$") not in {*replaced, "/", *_OPEN}
    ]
    to_overview = {"url": f"{prefix}/overview", "permanent": False}
    home = [url(f"{prefix}/", RedirectHandler, to_overview, name="main")]
    home += [url(prefix, RedirectHandler, to_overview)] if prefix else []
    rest = (f"/(?!{'|'.join(_OTHERS)}).*", Nowhere, None)
    return [
        *home,
        *(
            url(prefix + pattern, handler, name=name)
            for pattern, handler, name in (*ours, *behind, rest)
        ),
    ]


def _spec(route: Any) -> Any:
    return route if hasattr(route, "handler_class") else url(*route)
