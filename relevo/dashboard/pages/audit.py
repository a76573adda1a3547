"""The audit log: who did what, when, and with which outcome."""

from __future__ import annotations

from typing import Any

from relevo.dashboard.handlers import Page, cursor
from relevo.dashboard.pages.failed import SEARCH_SECONDS
from relevo.store import audit

ROWS = 50


class AuditPage(Page):
    """Who did what, when, on which jobs, and with which outcome."""

    template, title, tab = "relevo/audit.html", "Audit log", "more"

    def gather(self, *_arguments: str) -> dict[str, Any]:
        words, before = self.field("q").strip(), self.place()
        found, further = audit.scan(
            self.application.source.store,
            words,
            before=before,
            limit=ROWS + 1,
            seconds=SEARCH_SECONDS,
        )
        last = (found[ROWS - 1].at, found[ROWS - 1].id) if len(found) > ROWS else further
        return {
            "rows": found[:ROWS],
            "more": last and cursor(last),
            "further": further and further[0],
            "q": words,
            "before": before,
        }

    def as_json(self, values: dict[str, Any]) -> dict[str, Any]:
        return {
            "actions": values["rows"],
            "next": {"before": values["more"]} if values["more"] else None,
        }
