"""Chains of `app.chain` under a fake: recorded like Celery's own, by their first job, and run link
by link.

When a link has failed or the last one has completed, `drain` dispatches `catch`, `then` and
`finally_` as jobs with the chain's id, as in production. Nothing is counted: no store is used.
"""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import Any

from celery.canvas import Signature, _chain

from relevo.batches import member_jobs
from relevo.batches.chain import NewChain
from relevo.job.outcome import Cancelled, Completed, Failed
from relevo.store.batch_counts import Callback, Kind, Tally
from relevo.store.batches import BatchRow
from relevo.testing.attempt import Attempt
from relevo.testing.batches import (
    BatchAssertions,
    build_row,
    callbacks_of,
    callbacks_text,
    record_dispatch,
)
from relevo.testing.canvas_shapes import Steps, shown, steps
from relevo.testing.dispatched import CHAIN, Dispatched

__tracebackhide__ = True


@dataclass(frozen=True, slots=True)
class DispatchedChain:
    """A chain of `app.chain` as it was dispatched. `callbacks`: the steps of each given callback,
    by its name (`then`, `catch` …).
    """

    id: str
    name: str
    links: Steps
    callbacks: dict[str, tuple[Steps, ...]]
    queue: str | None
    connection: str | None

    def __str__(self) -> str:
        return f"{self.name or 'a chain'} of {shown(self.links)}{callbacks_text(self.callbacks)}"


class ChainAssertions(BatchAssertions, ABC):
    """The recorded chains of `app.chain`. `assert_chained` covers them and Celery's own."""

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self._chains: list[DispatchedChain] = []
        self._calls: dict[tuple[str, Callback], list[Signature]] = {}

    def chains(self) -> list[DispatchedChain]:
        """Every chain of `app.chain` that was dispatched, oldest first."""
        with self._lock:
            return list(self._chains)

    def keep_chain(
        self, new: NewChain, links: list[Signature], id_: str, session: Any = None
    ) -> BatchRow:
        """Record a chain (in a session: when that commits). Return it as it would be once sent."""
        chain = DispatchedChain(
            id_, new.called, steps(links), callbacks_of(new), new.queue, new.connection
        )
        self._calls |= {(id_, callback): _calls(new, id_, callback) for callback in new.callbacks}
        record_dispatch(self._chains, chain, session)
        return build_row(new, id_, Tally(kind=Kind.CHAIN, total=len(links)))

    def after_last_attempt(self, attempt: Attempt) -> None:
        """Dispatch the callbacks of the job's chain that fit its end, each once."""
        id_ = attempt.job.message.get(CHAIN)
        if isinstance(id_, str):
            for callback in _due(attempt.job, attempt):
                for call in self._calls.pop((id_, callback), ()):
                    call.apply_async()


def as_celery_chain(new: NewChain, links: list[Signature], id_: str) -> Any:
    """The chain as Celery's own, each link marked with the chain's id."""
    copies = [_with_options(new, link.clone()) for link in links]
    for copy in copies:
        copy.options["headers"] = {**(copy.options.get("headers") or {}), CHAIN: id_}
    return _chain(*copies, app=new.app)


def _due(job: Dispatched, attempt: Attempt) -> tuple[Callback, ...]:
    if isinstance(attempt.outcome, Failed):
        return Callback.CATCH, Callback.FINALLY
    if attempt.state == "REVOKED":
        return (Callback.FINALLY,)
    is_last = isinstance(attempt.outcome, (Completed, Cancelled)) and not job.chain
    return (Callback.THEN, Callback.FINALLY) if is_last else ()


def _calls(new: NewChain, id_: str, callback: Callback) -> list[Signature]:
    return [_with_options(new, call.clone(args=(id_,))) for call in new.callbacks[callback]]


def _with_options(new: NewChain, signature: Signature) -> Signature:
    options = member_jobs.options_of(
        new.app, new.queue, new.connection or new.app.settings.queue_connection
    )
    signature.options |= {
        name: value for name, value in options.items() if not signature.options.get(name)
    }
    return signature
