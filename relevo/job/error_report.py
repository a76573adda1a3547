"""What went wrong in one attempt, as it travels with the job and stands in the failed store: a
small JSON object. Pure.

{"attempt": 2, "exception": "ValueError", "message": "…", "traceback": "…", "at": 1790000000.0}
"""

from __future__ import annotations

import traceback
from typing import Any

from relevo import clock

# A job carries what went wrong in its first attempt and in the last of so many.
MOST = 24
# Characters. Of a traceback the end says most, of a message the beginning.
LONGEST_TRACEBACK, LONGEST_MESSAGE = 4000, 2000


def described(attempt: int, error: BaseException, trace: str | None = None) -> dict[str, Any]:
    """An error of an attempt; `trace` is its traceback where the error has lost it (on its way
    between processes).
    """
    if trace is None:
        trace = "".join(traceback.format_exception(error))
    return {
        "attempt": attempt,
        "exception": named(error),
        "message": worded(error),
        "traceback": trace[-LONGEST_TRACEBACK:],
        "at": clock.now(),
    }


def named(error: BaseException) -> str:
    """The class of an error, with its module unless Python itself has it."""
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def worded(error: BaseException) -> str:
    """What an error says. One that can't be said is told by its class."""
    try:
        return str(error)[:LONGEST_MESSAGE]
    except Exception:  # noqa: BLE001  the error is the user's, and so is its __str__
        return named(error)
