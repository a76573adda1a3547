"""A process that dies at a chosen moment, as far as its files and rows can tell."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

from celery.exceptions import WorkerTerminate
from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from relevo import mail
from relevo.disks import LocalDisk, local
from tasks import service_client, untrusted_urls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

#: What has an effect outside of a transaction. A process can die before each of them, and after.
EFFECTS = (
    (LocalDisk, "put"),
    (local, "_rename"),
    (LocalDisk, "delete"),
    (mail, "send"),
    (untrusted_urls, "post"),
    (service_client, "request_json"),
)


class Died(WorkerTerminate):
    """In place of a kill: no `except Exception` stops it."""


class Life:
    """Counts the moments at which a process can die: around each commit and each effect. Dies at
    one of them.
    """

    def __init__(self) -> None:
        self.ends_at: int | None = None
        self.moments = 0

    def moment(self) -> None:
        self.moments += 1
        if self.moments == self.ends_at:
            raise Died

    def dies_at(self, moment: int) -> None:
        self.ends_at, self.moments = moment, 0


@contextlib.contextmanager
def mortal(patch: pytest.MonkeyPatch) -> Iterator[Life]:
    """Within the block, a life whose end can be set."""
    life = Life()
    for owner, name in EFFECTS:
        patch.setattr(owner, name, _around(life, getattr(owner, name)))
    with committing(before=lambda _: life.moment(), after=lambda _: life.moment()):
        yield life


def _around(life: Life, effect: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(effect)
    def lived(*args: Any, **kwargs: Any) -> Any:
        life.moment()
        answer = effect(*args, **kwargs)
        life.moment()
        return answer

    return lived


@contextlib.contextmanager
def committing(
    before: Callable[[Session], Any] = id, after: Callable[[Session], Any] = id
) -> Iterator[None]:
    """Within the block, these are called before and after each commit: `after` when the commit and
    every listener to it are done.
    """
    commit = SessionTransaction.commit

    def commit_and_tell(transaction: SessionTransaction, *args: Any, **options: Any) -> None:
        session, is_outermost = transaction.session, transaction.parent is None
        commit(transaction, *args, **options)
        if is_outermost:
            after(session)

    event.listen(Session, "before_commit", before)
    SessionTransaction.commit = commit_and_tell  # type: ignore[method-assign]
    try:
        yield
    finally:
        event.remove(Session, "before_commit", before)
        SessionTransaction.commit = commit  # type: ignore[method-assign]
