"""A dashboard in this process, and a browser's way of asking it."""

from __future__ import annotations

import asyncio
import threading
from base64 import b64encode
from dataclasses import dataclass
from http.client import HTTPConnection
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

from flower.urls import settings as flowers_settings
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.options import options as flowers_options
from tornado.testing import bind_unused_port

from relevo import config
from relevo.app import create_app
from relevo.dashboard.application import Dashboard
from tests.support.waits import LONG

FORM = "application/x-www-form-urlencoded"
PASSWORDS = ["ann:secret", "bob:geheim"]


@dataclass
class Answer:
    code: int
    headers: Any
    body: str


class Site:
    """One dashboard, in a thread of its own. `get` and `post` send what a browser would send."""

    def __init__(
        self, app: Any, workers: dict[str, Any] | None = None, asking: bool = False, **given: Any
    ) -> None:
        """`workers` are those that have replied. With `asking` they are asked."""
        self.app, self.options, self._asking = app, copied(**given), asking
        self.headers: dict[str, str] = {}
        self.cookies: dict[str, str] = {}
        self.prefix = f"/{given['url_prefix']}" if given.get("url_prefix") else ""
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(workers or {},), daemon=True)
        self._thread.start()
        assert self._ready.wait(LONG)

    def _serve(self, workers: dict[str, Any]) -> None:
        async def serve() -> None:
            settings = dict(flowers_settings)
            if self.prefix:
                settings.update(
                    login_url=self.prefix + "/login", static_url_prefix=self.prefix + "/static/"
                )
            self.dashboard = Dashboard(
                options=self.options, capp=self.app, io_loop=IOLoop.current(), **settings
            )
            if not self._asking:
                self.dashboard.update_workers = self._no_workers
            self.dashboard.inspector.workers.update(workers)
            listening, self.port = bind_unused_port()
            server = HTTPServer(self.dashboard)
            server.add_sockets([listening])
            self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
            self._ready.set()
            await self._over.wait()
            server.stop()
            await server.close_all_connections()

        asyncio.run(serve())

    async def _no_workers(self) -> None:
        """Nobody is asked who works: a test says it."""

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(LONG)

    # --- asking -----------------------------------------------------------------------------------
    def log_in(self, credentials: str) -> Site:
        self.headers["Authorization"] = f"Basic {b64encode(credentials.encode()).decode()}"
        return self

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: str | None = None,
        kind: str = FORM,
        **headers: str,
    ) -> Answer:
        sent = {
            **self.headers,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        if self.cookies:
            sent.setdefault(
                "Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            )
        connection = HTTPConnection("127.0.0.1", self.port, timeout=LONG)
        if body is not None:
            sent["Content-Type"] = kind
        connection.request(method, self.prefix + path, body, sent)
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read().decode())
        connection.close()
        for cookie in answer.headers.get_all("Set-Cookie") or []:
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer

    def get(self, path: str) -> str:
        """The text of a page, which must exist."""
        answer = self.ask(path)
        assert answer.code == 200, (answer.code, answer.body[-3000:])
        return answer.body

    def token(self) -> str:
        if "_xsrf" not in self.cookies:
            self.ask("/pauses")  # the first form brings it
        return self.cookies.get("_xsrf", "")

    def post(self, path: str, **fields: Any) -> Answer:
        """Send a form, as a page does."""
        return self.ask(path, "POST", urlencode({"_xsrf": self.token(), **fields}, doseq=True))

    def act(self, path: str, **fields: Any) -> str:
        """Send a form; returns the page that it leads to."""
        answer = self.post(path, **fields)
        assert answer.code == 303, (answer.code, answer.body[-2000:])
        return self.get(answer.headers["Location"].removeprefix(self.prefix))


def copied(**given: Any) -> Any:
    """A copy of Flower's options, which exist once in a process."""
    values = {
        "url_prefix": "",
        "basic_auth": None,
        "auth": "",
        "api_tokens": [],
        "read_only": False,
        "operators": "",
        "refresh": 0.2,
        **given,
    }
    return SimpleNamespace(**{**flowers_options.as_dict(), **values})


def make_app(url: str, folder: Any, **environ: str) -> Any:
    """An app whose broker and store are at this url."""
    key = {"redis": "REDIS_URL"}.get(url.partition(":")[0], "DATABASE_URL")
    given = {"RELEVO_VAR_DIR": str(folder), "QUEUE_RESULTS": "none", key: url, **environ}
    return create_app("shop", config.load(given, env_file=None))
