"""Whether the process lives, and whether it can work: for load balancers, without a token."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from sqlalchemy import text

from app.models import session
from relevo.drivers import driver_for
from tasks import app
from web import problem_details

router = APIRouter(tags=["health"])


@router.get("/health")
def health() -> dict[str, str]:
    """The process runs. This checks nothing else."""
    return {"status": "ok"}


@router.get("/ready", response_model=None)
def ready() -> JSONResponse:
    """The database and the broker answer."""
    with session() as db:
        db.execute(text("SELECT 1"))
    connection = app.settings.connection
    if connection.driver in {"database", "redis"}:
        try:
            driver_for(connection.url, connection.transport_options).sizes(connection.queue)
        except OSError:
            return problem_details.problem_response(503, problem_details.UNAVAILABLE)
    return JSONResponse({"status": "ok"})
