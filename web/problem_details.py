"""Makes every error a problem document (RFC 9457): `{"type", "title", "status", "detail"}`, and for
a 422 also `errors` by field.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from kombu.exceptions import OperationalError
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from relevo.errors import DriverError

logger = logging.getLogger(__name__)

MEDIA = "application/problem+json"
UNAVAILABLE = "the broker or the database can't do it just now; try again"


class Problem(BaseModel):
    """The error document of an answer."""

    type: str = "about:blank"
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["there is no file 7"])
    errors: list[dict[str, str]] | None = None


def problem_response(status: int, detail: str, **more: Any) -> JSONResponse:
    """An answer with an error document."""
    headers: Mapping[str, str] | None = more.pop("headers", None)
    title = HTTPStatus(status).phrase
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return JSONResponse(problem, status, headers=dict(headers or {}), media_type=MEDIA)


def register_handlers(api: FastAPI) -> None:
    """Answer every error of `api` with an error document."""

    @api.exception_handler(HTTPException)
    async def _http_error(_request: Request, error: HTTPException) -> JSONResponse:
        return problem_response(error.status_code, str(error.detail), headers=error.headers)

    @api.exception_handler(RequestValidationError)
    async def _validation_error(_request: Request, error: RequestValidationError) -> JSONResponse:
        fields = [
            {"field": ".".join(map(str, one["loc"][1:])) or "body", "message": one["msg"]}
            for one in error.errors()
        ]
        return problem_response(422, f"{len(fields)} of the fields don't fit", errors=fields)

    @api.exception_handler(ClientDisconnect)
    async def _disconnect(_request: Request, _error: ClientDisconnect) -> JSONResponse:
        # The client is gone and reads no answer. Without this the log would show it as our error.
        return problem_response(400, "the request was cut off")

    for away in (OperationalError, DriverError, SQLAlchemyError):
        api.exception_handler(away)(_unavailable)
    api.exception_handler(Exception)(_internal_error)


async def _unavailable(_request: Request, error: Exception) -> JSONResponse:
    logger.warning("a request was refused: %s", error)
    return problem_response(503, UNAVAILABLE, headers={"Retry-After": "5"})


async def _internal_error(_request: Request, _error: Exception) -> JSONResponse:
    return problem_response(500, "something went wrong here; it was logged")


#: Errors that every route may answer, for OpenAPI.
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "model": Problem,
        "content": {MEDIA: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status in (400, 401, 403, 404, 409, 413, 422, 429, 503)
}
