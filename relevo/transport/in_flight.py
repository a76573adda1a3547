"""Which jobs this process has, by what the broker calls them: so that one which comes back to it is
known again.

A process that stood still for longer than a lease (a frozen machine, a debugger, a very long
garbage collection) finds that its leases have ended, and its next reservation may bring it the very
jobs that its pool still runs. They are not started a second time: the new lease goes to the run
there is. A job that ended here meanwhile is acked unseen, and so is one whose ack came too late
without anybody noticing: a reservation had just found its lease ended, and left it to the next.

Not thread-safe: the ledger has the lock.
"""

from __future__ import annotations

from relevo.drivers.contract import ReservedJob

Name = tuple[int | str, str]

# So many jobs that ended here are remembered. What was acked never comes back for another reason: a
# job that is put again has another key.
MOST_OVER = 1000


class Roster:
    """The jobs that were handed over and have not ended, and those that have ended last."""

    def __init__(self) -> None:
        self._tokens: dict[Name, str] = {}
        self._names: dict[str, Name] = {}
        self._over: dict[Name, None] = {}

    def enter(self, job: ReservedJob) -> str | None:
        """It is here now. Returns the token of the lease it came with before, if it has been here
        all the time.
        """
        name = (job.lease.key, job.id)
        if name in self._tokens:
            return self._tokens[name]
        self._tokens[name] = job.lease.token
        self._names[job.lease.token] = name
        return None

    def name_of(self, token: str) -> Name | None:
        """The name of the job that came with this token, while it is here."""
        return self._names.get(token)

    def leave(self, token: str) -> Name | None:
        """It is here no longer. Returns its name, or None if it was not here."""
        name = self._names.pop(token, None)
        if name is not None:
            self._tokens.pop(name, None)
        return name

    def end(self, token: str) -> None:
        """It has ended here. Where its lease has, too, the broker can't be told: it is another's,
        or will come back.
        """
        name = self.leave(token)
        if name is not None:
            self._over[name] = None
            if len(self._over) > MOST_OVER:
                del self._over[next(iter(self._over))]

    def has_ended(self, job: ReservedJob) -> bool:
        """Whether this is a job that has ended here, and the broker doesn't know. It is told once."""
        return self.is_over((job.lease.key, job.id))

    def is_over(self, name: Name) -> bool:
        """The same of a job by its name."""
        return self._over.pop(name, name) is None
