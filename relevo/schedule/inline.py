"""The beat of an app that runs its jobs in place (`QUEUE_CONNECTION=sync`): Celery's own, as there
is nothing to claim.

It takes the same entries, and makes up for a missed tick by Celery's rules: what an entry says of
that is left aside.
"""

from __future__ import annotations

import celery.beat

from relevo.schedule import entry as entries


class Scheduler(celery.beat.PersistentScheduler):
    """Celery's scheduler, for entries that may say more than Celery knows."""

    Entry = entries.Entry

    def setup_schedule(self) -> None:
        """Read the entries. A wrong one ends the command with a line that names it."""
        entries.entries_or_exit(self.app)
        super().setup_schedule()
