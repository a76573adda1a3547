"""What the callbacks of a failure are told: `error`, and `job_id` of the member that has failed.

    @app.task(name="alarm")
    def alarm(batch_id, error=None, job_id=None): ...

    reserve   at the dispatch of the batch: a keyword argument that is None, for each of the two
              that the task has and the signature leaves open
    fill      when the callback is handed in: its value

By name, so that a callback that takes the batch's id alone stays as it is.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

from relevo.database import text
from relevo.drivers import message_codec
from relevo.store.outbox import Sending

ERROR, JOB_ID = "error", "job_id"
# The longest error that a callback gets, in characters. The whole one is with the failed job.
LONGEST_ERROR = 2000


def reserve(app: Any, call: Any) -> dict[str, None]:
    """The keyword arguments to reserve in the signature of a callback."""
    task = app.tasks.get(call["task"])
    if task is None or call.get("immutable"):
        return {}
    try:
        signature = inspect.signature(task.run)
        given = signature.bind_partial(*(call["args"] or ()), **(call["kwargs"] or {})).arguments
    except (TypeError, ValueError):  # no signature, or wrong arguments: the dispatch says so
        return {}
    return {
        name: None
        for name in (ERROR, JOB_ID)
        if name not in given
        and name in signature.parameters
        and signature.parameters[name].kind
        in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    }


def fill(sending: Sending) -> Sending:
    """The job of a callback with what it is told about the failure."""
    told = {
        name: text.storable(value)[:LONGEST_ERROR]
        for name, value in (sending.failure or {}).items()
    }
    args, kwargs, embed = message_codec.body_of(sending.payload)
    wanted = {name: told[name] for name in told if name in kwargs and kwargs[name] is None}
    if not wanted:
        return sending
    message = message_codec.loads(sending.payload)
    message["body"] = message_codec.dumps([args, {**kwargs, **wanted}, embed])  # type: ignore[arg-type]
    shown = str(message["headers"].get("kwargsrepr") or "")
    for name, value in wanted.items():
        shown = shown.replace(f"{name!r}: None", f"{name!r}: {value[:100]!r}")
    message["headers"]["kwargsrepr"] = shown
    return replace(sending, payload=message_codec.dumps(message))
