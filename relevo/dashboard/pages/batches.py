"""Batches, chains and chords: their progress, their members, and the actions on them."""

from __future__ import annotations

from typing import Any

from tornado.web import HTTPError

from relevo.batches.batch import Batch
from relevo.dashboard import formatting
from relevo.dashboard.handlers import BAD, Action, Page
from relevo.dashboard.pages.failed import failed_job_json
from relevo.errors import OptionError
from relevo.store import batches, failed
from relevo.store.failed import Filter

ROWS = 50
LONGEST_ID = 255
MISSING = 404


def state_of(batch: Batch) -> tuple[str, str]:
    """The state of a batch, and the class of the style sheet for it."""
    if batch.cancelled:
        return "cancelled", "warn"
    if batch.finished:
        return ("finished with failures", "bad") if batch.failed else ("finished", "good")
    return ("running, with failures", "bad") if batch.failed else ("running", "")


class BatchesPage(Page):
    """Batches, chains and chords, newest first."""

    template, title, tab = "relevo/batches.html", "Batches", "batches"

    def gather(self, *_arguments: str) -> dict[str, Any]:
        given = self.field("before")
        at, _, id_ = given.partition(" ")
        try:
            before = (float(at), id_) if given else None
        except ValueError as error:
            raise HTTPError(
                BAD, "expected before to be what the link to the next page says"
            ) from error
        found = self.application.capp.batches.page(before=before, limit=ROWS + 1)
        rows = [(batch, state_of(batch)) for batch in found[:ROWS]]
        last = found[ROWS - 1] if len(found) > ROWS else None
        more = f"{last.created_at!r} {last.id}" if last is not None else None
        return {"rows": rows, "before": before, "more": more}

    def as_json(self, values: dict[str, Any]) -> dict[str, Any]:
        return {
            "batches": [batch.as_dict() for batch, _ in values["rows"]],
            "next": {"before": values["more"]} if values["more"] else None,
        }


class BatchPage(Page):
    """A batch: its counts, its failed members and its ended members."""

    template, title, tab = "relevo/batch.html", "Batch", "batches"

    def gather(self, *arguments: str) -> dict[str, Any]:
        store = self.application.source.store
        batch = (
            self.application.capp.batches.find(arguments[0])
            if len(arguments[0]) <= LONGEST_ID
            else None
        )
        if batch is None:
            raise HTTPError(MISSING, "There is no batch with this id: it may have been pruned.")
        failures = failed.page(store, Filter(batch=batch.id), limit=ROWS)
        members = batches.ended_members(store, batch.id, limit=2 * ROWS)
        facts = [
            ("Kind", batch.kind),
            ("Members", batch.total),
            ("Completed", batch.completed),
            ("Failed", batch.failed),
            ("Cancelled", batch.dropped),
            ("Still to end", batch.pending),
            ("Queue", batch.queue or "each member's own"),
            ("Connection", batch.connection),
            ("Created", batch.created_at),
        ]
        times = (
            ("First failure", batch.failed_at),
            ("Cancelled at", batch.cancelled_at),
            ("Finished", batch.finished_at),
        )
        facts += [(name, at) for name, at in times if at is not None]
        return {
            "title": batch.name or batch.id,
            "batch": batch,
            "state": state_of(batch),
            "facts": facts,
            "failures": failures,
            "members": members,
        }

    def as_json(self, values: dict[str, Any]) -> dict[str, Any]:
        return {
            **values["batch"].as_dict(),
            "failures": [failed_job_json(job) for job in values["failures"]],
            "members": values["members"],
        }


class BatchAction(Action):
    """An action on the batch in the url."""

    def target(self, *arguments: str) -> str:
        return f"batch {arguments[0]}"

    def batch(self, id_: str) -> Batch:
        """The batch. Raises OptionError when there is none."""
        found = self.application.capp.batches.find(id_)
        if found is None:
            raise OptionError(f"there is no batch {id_[:60]!r}")
        return found


class CancelBatch(BatchAction):
    """Cancel its members that have not started."""

    name = "cancel batch"

    def act(self, *arguments: str) -> str:
        batch = self.batch(arguments[0]).cancel()
        return f"{batch.name or batch.id} is cancelled: members that have not started are dropped."


class RetryBatch(BatchAction):
    """Put its failed members back."""

    name = "retry batch"

    def act(self, *arguments: str) -> str:
        retried = self.batch(arguments[0]).retry_failed()
        return f"{formatting.counted(retried, 'failed member')} put back."
