"""Whether a completed job is silenced: listed apart, so that it doesn't bury the others.

A job is silenced by its task's option `silenced=True` or by the setting RELEVO_SILENCED (names of
tasks and `tag:…`, with `*`). It is recorded and counted all the same. One that fails is a failed
job like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

TAG = "tag:"


def is_silenced(app: Any, name: str, tags: Sequence[str]) -> bool:
    """Whether completed jobs of this task with these tags are listed apart."""
    task = app.tasks.get(name)
    if getattr(getattr(task, "options", None), "silenced", False):
        return True
    names: tuple[str, ...] = app.settings.dashboard.silenced
    return bool(names) and (_fits(names, name) or any(_fits(names, f"{TAG}{tag}") for tag in tags))


@lru_cache(maxsize=4096)
def _fits(names: tuple[str, ...], text: str) -> bool:
    """Whether one of `names` matches. Only `*` is special: a task's name may have brackets."""
    return any(fnmatchcase(text, name.replace("[", "[[]").replace("?", "[?]")) for name in names)
