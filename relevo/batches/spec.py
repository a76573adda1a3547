"""The plain fields of a batch before its dispatch. `NewBatch` adds the methods that set them."""

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

    `members`: signatures and chains, read once. `called`: the batch's name for people. `queue`
    and `connection` hold for the members and callbacks that name none.
    """

    app: Any
    members: Iterable[Any]
    called: str = ""
    failures_allowed: bool = False
    callbacks: Callbacks = field(default_factory=dict)
    queue: str | None = None
    connection: str | None = None
