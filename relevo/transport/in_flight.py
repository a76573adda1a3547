"""The jobs that this process has, by their names at the broker, so that a job which comes back is
recognised.

A process that stood still for longer than a lease (a frozen machine, a debugger, a very long
garbage collection) finds that its leases have ended. Its next reservation may bring the jobs that
its pool still runs. They are not started a second time: the run gets the new lease. A job that has
ended here meanwhile is acked without a run. So is a job whose ack was written too late, after a
reservation had found its lease ended.

Not thread-safe: the lease keeper has the lock.
"""

from __future__ import annotations

from relevo.drivers.contract import ReservedJob

Name = tuple[int | str, str]

# How many finished jobs are remembered. An acked job never comes back for another reason: a job
# that is put again has another key.
MOST_FINISHED = 1000


class InFlightJobs:
    """The jobs that were handed over and have not ended, and the last ones that have."""

    def __init__(self) -> None:
        self._tokens: dict[Name, str] = {}
        self._names: dict[str, Name] = {}
        self._finished: dict[Name, None] = {}

    def add(self, job: ReservedJob) -> str | None:
        """Note a job. Returns the token of its first lease, if it has been here all the time."""
        name = (job.lease.key, job.id)
        if name in self._tokens:
            return self._tokens[name]
        self._tokens[name] = job.lease.token
        self._names[job.lease.token] = name
        return None

    def name_of(self, token: str) -> Name | None:
        """Return the name of the job that came with this token, while it is here."""
        return self._names.get(token)

    def remove(self, token: str) -> Name | None:
        """Forget a job. Returns its name, or None if it was not here."""
        name = self._names.pop(token, None)
        if name is not None:
            self._tokens.pop(name, None)
        return name

    def finish(self, token: str) -> None:
        """Note that a job has ended here.

        If its lease has ended, too, the broker can't be told: another worker has the job, or it
        will come back.
        """
        name = self.remove(token)
        if name is not None:
            self._finished[name] = None
            if len(self._finished) > MOST_FINISHED:
                del self._finished[next(iter(self._finished))]

    def take_finished(self, job: ReservedJob) -> bool:
        """Whether this job has ended here without the broker's knowledge. True only once."""
        return self.take_finished_name((job.lease.key, job.id))

    def take_finished_name(self, name: Name) -> bool:
        """Whether the job of this name has ended here. True only once."""
        return self._finished.pop(name, name) is None
