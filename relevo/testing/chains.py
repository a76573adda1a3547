"""Chains of ours under a fake: recorded as Celery's own chain is, by their first job, and run link
by link.

`catch`, `then` and `finally_` are handed in by `drain` when a link has failed, or the last has
completed: as jobs, with the chain's id, as in production. Nothing is counted: no store is asked.
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
from relevo.testing.batches import BatchAssertions, callbacks_of, note, row_of, with_callbacks
from relevo.testing.canvas_shapes import Steps, shown, steps
from relevo.testing.dispatched import CHAIN, Dispatched

__tracebackhide__ = True


@dataclass(frozen=True, slots=True)
class DispatchedChain:
    """A chain of ours as it was dispatched. `callbacks`: then, catch, … -> the steps of each that
    was given.
    """

    id: str
    name: str
    links: Steps
    callbacks: dict[str, tuple[Steps, ...]]
    queue: str | None
    connection: str | None

    def __str__(self) -> str:
        return f"{self.name or 'a chain'} of {shown(self.links)}{with_callbacks(self.callbacks)}"


class ChainAssertions(BatchAssertions, ABC):
    """What a fake knows of chains of ours; `assert_chained` speaks of theirs and Celery's alike."""

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self._chains: list[DispatchedChain] = []
        self._calls: dict[tuple[str, Callback], list[Signature]] = {}

    def chains(self) -> list[DispatchedChain]:
        """Every chain of ours that was dispatched, oldest first."""
        with self._lock:
            return list(self._chains)

    def keep_chain(
        self, new: NewChain, links: list[Signature], id_: str, session: Any = None
    ) -> BatchRow:
        """Note a chain (with a session, when that commits). Returns it as it would be once it is
        sent.
        """
        chain = DispatchedChain(
            id_, new.called, steps(links), callbacks_of(new), new.queue, new.connection
        )
        self._calls |= {(id_, callback): _calls(new, id_, callback) for callback in new.callbacks}
        note(self._chains, chain, session)
        return row_of(new, id_, Tally(kind=Kind.CHAIN, total=len(links)))

    def attempted(self, attempt: Attempt) -> None:
        """An attempt has ended: hand in what a chain of ours wants to have then, each once."""
        id_ = attempt.job.message.get(CHAIN)
        if isinstance(id_, str):
            for callback in _due(attempt.job, attempt):
                for call in self._calls.pop((id_, callback), ()):
                    call.apply_async()


def celerys(new: NewChain, links: list[Signature], id_: str) -> Any:
    """The chain as one of Celery's."""
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
