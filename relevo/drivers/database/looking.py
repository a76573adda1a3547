"""The verbs of the database driver that look, and the one that takes what it sees."""

from __future__ import annotations

from collections.abc import Iterable

from relevo.database.connections import Connections
from relevo.drivers import validation
from relevo.drivers.contract import Driver, HeldJob, JobView, Sizes, State
from relevo.drivers.database import jobs, queries

# The highest number a row can have.
HIGHEST = 2**63 - 1


class Looking(Driver):
    """A part of the driver; the steps are in `peek.py` and `jobs.py`."""

    connections: Connections

    def queues(self) -> list[str]:
        return self.connections.read(queries.queues)

    def sizes(self, queue: str) -> Sizes:
        validation.queues([queue])
        now = self.now()
        return self.connections.read(lambda connection: queries.sizes(connection, queue, now))

    def peek(self, queue: str, state: State, limit: int = 50) -> list[JobView]:
        validation.queues([queue])
        validation.count("limit", limit)
        now = self.now()
        return self.connections.read(
            lambda connection: queries.peek(connection, queue, state, limit, now)
        )

    def find(self, ids: Iterable[str]) -> list[JobView]:
        wanted, now = list(dict.fromkeys(ids)), self.now()
        validation.names("id", wanted)
        return self.connections.read(lambda connection: queries.find(connection, wanted, now))

    def scan(self, after: str = "", limit: int = 500) -> tuple[list[JobView], str]:
        validation.cursor(after)
        validation.positive_count("limit", limit)
        now, number = self.now(), min(int(after or 0), HIGHEST)
        return self.connections.read(
            lambda connection: queries.scan(connection, number, limit, now)
        )

    def hold(self, ids: Iterable[str], lease: float, by: str) -> list[HeldJob]:
        wanted, now = list(dict.fromkeys(ids)), self.now()
        validation.hold(wanted, lease, by)
        return self.connections.write(
            lambda connection: jobs.hold(connection, wanted, now, now + lease, by)
        )
