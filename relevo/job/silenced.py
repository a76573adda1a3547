"""Jobs whose completion nobody wants to read of: those of RELEVO_SILENCED, and of tasks with
`silenced=True`.

They are recorded and counted like any other, and listed apart. One that fails is a failed job.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

TAG = "tag:"


def is_silenced(app: Any, name: str, tags: Sequence[str]) -> bool:
    """Whether a completed job of this task, with these tags, is listed apart."""
    task = app.tasks.get(name)
    if getattr(getattr(task, "options", None), "silenced", False):
        return True
    names: tuple[str, ...] = app.settings.dashboard.silenced
    return bool(names) and (_fits(names, name) or any(_fits(names, f"{TAG}{tag}") for tag in tags))


@lru_cache(maxsize=4096)
def _fits(names: tuple[str, ...], said: str) -> bool:
    """Only `*` is special."""
    return any(fnmatchcase(said, name.replace("[", "[[]").replace("?", "[?]")) for name in names)
