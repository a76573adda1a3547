"""Requests JSON from a service of the settings (cases, payments). Answers are of bounded size, and
errors say whether another try makes sense.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx

from relevo.errors import JobFailedError
from tasks.untrusted_urls import ssl_context

LARGEST_BYTES = 1024 * 1024
_CLIENT_ERROR, _SERVER_ERROR, _TOO_MANY_REQUESTS = 400, 500, 429


class ServiceError(OSError):
    """A failure of the service that may pass: try again."""


def request_json(
    method: str,
    url: str,
    timeout: float,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The JSON object that the service answers.

    Raises ServiceError for a failure that may pass, JobFailedError for one that won't.
    """
    try:
        with (
            httpx.Client(timeout=timeout, follow_redirects=False, verify=ssl_context()) as client,
            client.stream(
                method, url, json=body, headers={"accept": "application/json", **(headers or {})}
            ) as answer,
        ):
            _check_status(answer.status_code)
            return _read_object(answer)
    except httpx.HTTPError as error:
        raise ServiceError(
            f"the service can't be reached: {type(error).__name__}: {error}"
        ) from error


def _check_status(status: int) -> None:
    if status >= _SERVER_ERROR or status == _TOO_MANY_REQUESTS:
        raise ServiceError(f"the service answered {status}")
    if status >= _CLIENT_ERROR or status < 200 or status >= 300:  # noqa: PLR2004  2xx is a success
        raise JobFailedError(f"the service refused: {status}")


def _read_object(answer: httpx.Response) -> dict[str, Any]:
    read = b""
    for part in answer.iter_bytes():
        read += part
        if len(read) > LARGEST_BYTES:
            raise JobFailedError(f"expected an answer of at most {LARGEST_BYTES:,} bytes")
    try:
        found = json.loads(read)
    except ValueError as error:
        raise JobFailedError(f"expected JSON of the service, got {read[:60]!r}") from error
    if not isinstance(found, dict):
        raise JobFailedError(f"expected a JSON object of the service, got {type(found).__name__}")
    return found
