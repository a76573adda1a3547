"""Celery's database result backend, made safe beside forks of its process.

A worker's main process writes results, too (of jobs whose process was killed), in a thread beside the one that forks
new children. A child that is forked in the midst of a transaction on SQLite, or of its end, finds the file locked as
long as it lives: the lock isn't its own, and nobody gives it back. So each step takes its turn, as all of ours do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from celery.app.backends import BACKEND_ALIASES
from celery.backends.database import DatabaseBackend

from relevo.engine import sqlite_turn

# What talks to the database, from making the connection to closing it.
_STEPS = (
    "_create_tables", "_store_result", "_get_task_meta_for", "_task_result_exists", "_save_group", "_restore_group",
    "_delete_group", "_forget", "_cleanup",
)  # fmt: skip


def install() -> None:
    """Make this the backend of `db+sqlite://…` and its like."""
    for name in ("db", "database"):
        BACKEND_ALIASES[name] = f"{__name__}:Results"


class Results(DatabaseBackend):
    """Celery's, a step at a time."""


def _in_turn(step: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(step)
    def taken(self: Results, *args: Any, **kwargs: Any) -> Any:
        if not self.url.startswith(("db+sqlite", "database+sqlite", "sqlite")):
            return step(self, *args, **kwargs)
        with sqlite_turn:
            return step(self, *args, **kwargs)

    return taken


for _name in _STEPS:
    setattr(Results, _name, _in_turn(getattr(DatabaseBackend, _name)))
