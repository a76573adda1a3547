"""JSON from a service that the settings name: of bounded size, or an error that says what came
instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx

from relevo.errors import JobFailedError
from tasks.outgoing import certificates

LARGEST = 1024 * 1024
_NOT_OURS, _BROKEN, _TOO_MANY = 400, 500, 429


class ServiceError(OSError):
    """The service has a trouble that may pass."""


def ask(
    method: str,
    url: str,
    timeout: float,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The object that the service answers. Raises ServiceError for what may pass, JobFailedError
    for what won't.
    """
    try:
        with (
            httpx.Client(timeout=timeout, follow_redirects=False, verify=certificates()) as client,
            client.stream(
                method, url, json=body, headers={"accept": "application/json", **(headers or {})}
            ) as answer,
        ):
            _check(answer.status_code)
            return _object(answer)
    except httpx.HTTPError as error:
        raise ServiceError(
            f"the service can't be reached: {type(error).__name__}: {error}"
        ) from error


def _check(status: int) -> None:
    if status >= _BROKEN or status == _TOO_MANY:
        raise ServiceError(f"the service answered {status}")
    if status >= _NOT_OURS or status < 200 or status >= 300:  # noqa: PLR2004 - what a success is
        raise JobFailedError(f"the service refused: {status}")


def _object(answer: httpx.Response) -> dict[str, Any]:
    read = b""
    for part in answer.iter_bytes():
        read += part
        if len(read) > LARGEST:
            raise JobFailedError(f"expected an answer of at most {LARGEST:,} bytes")
    try:
        told = json.loads(read)
    except ValueError as error:
        raise JobFailedError(f"expected JSON of the service, got {read[:60]!r}") from error
    if not isinstance(told, dict):
        raise JobFailedError(f"expected a JSON object of the service, got {type(told).__name__}")
    return told
