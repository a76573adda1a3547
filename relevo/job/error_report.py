"""The error of one attempt as a small JSON object: it travels with the job and stands in the failed
store. Pure.

    {"attempt": 2, "exception": "ValueError", "message": "…", "traceback": "…", "at": 1790000000.0}
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from relevo import clock
from relevo.database.text import storable

# A job carries the error of its first attempt and those of this many latest ones.
MAX_ERRORS = 24
# A traceback is cut at its beginning, a message at its end: they say least there.
MAX_TRACEBACK_CHARS, MAX_MESSAGE_CHARS = 4000, 2000


def report(attempt: int, error: BaseException, trace: str | None = None) -> dict[str, Any]:
    """The report of an attempt's error.

    `trace`: its traceback as text, if the error has lost it on the way between processes.
    """
    if trace is None:
        trace = "".join(traceback.format_exception(error))
    return {
        "attempt": attempt,
        "exception": type_name(error),
        "message": message(error),
        "traceback": storable(trace[-MAX_TRACEBACK_CHARS:]),
        "at": clock.now(),
    }


def type_name(error: BaseException) -> str:
    """The class of an error, with its module unless it is one of Python's own."""
    kind = type(error)
    return storable(
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def title(error: BaseException) -> str:
    """The class and the text of an error in one line, as callbacks of batches get it."""
    return f"{type_name(error)}: {message(error)}"


def message(error: BaseException) -> str:
    """The text of an error, or its class if its `__str__` raises."""
    return _text(error, str)


def representation(error: BaseException) -> str:
    """The `repr` of an error, or its class if its `__repr__` raises."""
    return _text(error, repr)


def _text(error: BaseException, write: Callable[[BaseException], str]) -> str:
    try:
        return storable(write(error)[:MAX_MESSAGE_CHARS])
    except BaseException:  # noqa: BLE001  the user's own method may raise anything, `sys.exit` too
        return type_name(error)
