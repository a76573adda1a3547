"""What a batch is made of, as plain fields: `NewBatch` adds the words to fill them in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from celery.canvas import Signature

from relevo.store.batch_counts import Callback

Callbacks = Mapping[Callback, tuple[Signature, ...]]


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """A batch that is not sent yet.

    `members`: signatures and chains, read once. `called`: its name for people. `queue`,
    `connection`: for members and callbacks that name none.
    """

    app: Any
    members: Iterable[Any]
    called: str = ""
    failures_allowed: bool = False
    callbacks: Callbacks = field(default_factory=dict)
    queue: str | None = None
    connection: str | None = None
