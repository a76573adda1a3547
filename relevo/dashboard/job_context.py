"""The context of a job: its progress, its batch, and the jobs before and after it in a chain."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

from relevo.dashboard.sources import Source
from relevo.database.text import storable
from relevo.drivers import message_codec
from relevo.store import batches
from relevo.task import PROGRESS

logger = logging.getLogger(__name__)

LONGEST_CHAIN = 20


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A job before or after another one. A job that is not sent yet may have no `id`."""

    where: str
    id: str | None
    task: str | None = None


def progress(app: Any, uuid: str) -> tuple[float, float] | None:
    """The reported progress of a running job, as (done, total); None if it can't be read from the
    result backend.
    """
    if getattr(app, "settings", None) is None or app.settings.result_backend is None:
        return None
    try:
        meta = app.backend.get_task_meta(uuid)
        if meta.get("status") != PROGRESS:
            return None
        done, total = float(meta["result"]["done"]), float(meta["result"]["total"])
    except Exception:  # The page is more important than its progress bar.
        logger.info("no progress of job %s can be read", uuid, exc_info=True)
        return None
    return (done, total) if 0 <= done <= total and total > 0 else None


def batch_of(source: Source, uuid: str, said: str | None) -> str | None:
    """The batch of a job: the one in its message, or the one in which it has ended as a member."""
    return said or batches.batch_of(source.store, uuid)


def neighbours(payload: str) -> list[Neighbour]:
    """The job that sent this one, and the jobs that follow it; empty for a malformed message."""
    try:
        message = message_codec.loads(payload)
        parent = (message.get("headers") or {}).get("parent_id")
        chain = (json.loads(message["body"])[2].get("chain") or [])[::-1]
        after = [
            Neighbour("then", _text(link["options"].get("task_id")), _text(link.get("task")))
            for link in chain[:LONGEST_CHAIN]
        ]
    except Exception:  # noqa: BLE001
        return []
    return [*([Neighbour("sent by", _text(parent))] if parent else []), *after]


def _text(value: Any) -> str | None:
    return None if value is None else storable(value)
