"""The beat of an app that runs its jobs inline (`QUEUE_CONNECTION=sync`): Celery's own scheduler.

There is nothing to claim. It takes the same entries, but catches up by Celery's rules: the entries'
own catch-up rules are ignored.
"""

from __future__ import annotations

import celery.beat

from relevo.schedule import entry as entries


class Scheduler(celery.beat.PersistentScheduler):
    """Celery's scheduler, for entries with Relevo's keys."""

    Entry = entries.Entry

    def setup_schedule(self) -> None:
        """Read the entries. A wrong entry ends the command with a line that names it."""
        entries.entries_or_exit(self.app)
        super().setup_schedule()
