"""The FastAPI app: routes, problems, and what every answer carries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response

import tasks  # noqa: F401 - the Celery app is the current one before the first dispatch
from app.http import problems
from app.http.routes import ALL

TITLE = "Relevo"
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


def create() -> FastAPI:
    """The API, ready to be served."""
    api = FastAPI(title=TITLE, version="0.1.0", docs_url="/docs", redoc_url=None,
                  description="Upload pictures, ask for reports, import users, send webhooks; nobody waits.",
                  responses=problems.RESPONSES)  # fmt: skip
    problems.install(api)
    for router in ALL:
        api.include_router(router)

    @api.middleware("http")
    async def _headers(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        answer = await call(request)
        for name, value in _HEADERS.items():
            answer.headers.setdefault(name, value)
        return answer

    return api
