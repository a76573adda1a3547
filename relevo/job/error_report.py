"""What went wrong in one attempt, as it travels with the job and stands in the failed store: a
small JSON object. Pure.

{"attempt": 2, "exception": "ValueError", "message": "…", "traceback": "…", "at": 1790000000.0}
"""

from __future__ import annotations

import traceback
from typing import Any

from relevo import clock

# A job carries what went wrong in its first attempt and in the last of so many.
MAX_ERRORS = 24
# Characters. Of a traceback the end says most, of a message the beginning.
MAX_TRACEBACK_CHARS, MAX_MESSAGE_CHARS = 4000, 2000


def report(attempt: int, error: BaseException, trace: str | None = None) -> dict[str, Any]:
    """An error of an attempt; `trace` is its traceback where the error has lost it (on its way
    between processes).
    """
    if trace is None:
        trace = "".join(traceback.format_exception(error))
    return {
        "attempt": attempt,
        "exception": type_name(error),
        "message": message(error),
        "traceback": trace[-MAX_TRACEBACK_CHARS:],
        "at": clock.now(),
    }


def type_name(error: BaseException) -> str:
    """The class of an error, with its module unless Python itself has it."""
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def message(error: BaseException) -> str:
    """What an error says. One that can't be said is told by its class."""
    try:
        return str(error)[:MAX_MESSAGE_CHARS]
    except Exception:  # noqa: BLE001  the error is the user's, and so is its __str__
        return type_name(error)
