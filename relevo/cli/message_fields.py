"""Fields of a job's message, for people. Another client may have written the message, so any field
may be missing or malformed.
"""

from __future__ import annotations

import json
from typing import Any

from relevo.drivers import message_codec
from relevo.job import redaction
from relevo.job.payload import HEADER, Baton, parse


def task_of(payload: str) -> str:
    """The name of the task, or `?`."""
    return str(message_codec.headers_of(payload).get("task") or "?")


def arguments_of(app: Any, payload: str) -> str:
    """The redacted arguments: as the client wrote them for people, or else as in the body."""
    headers = message_codec.headers_of(payload)
    if headers.get("argsrepr") or headers.get("kwargsrepr"):
        return redaction.redacted_reprs(
            app, task_of(payload), headers.get("argsrepr"), headers.get("kwargsrepr")
        )
    try:
        args, kwargs, *_ = json.loads(message_codec.loads(payload)["body"])
        args, kwargs = redaction.redacted_arguments(app, task_of(payload), args, kwargs)
    except Exception:  # noqa: BLE001  no JSON, or of another shape
        return "?"
    return f"{args} {kwargs}"


def baton_of(payload: str) -> Baton:
    """The baton of the job: empty if the message has none."""
    sent: Any = message_codec.headers_of(payload).get(HEADER)
    return parse(sent) if isinstance(sent, dict) else Baton()


def tags_of(payload: str) -> tuple[str, ...]:
    return tuple(map(str, baton_of(payload).tags or ()))
