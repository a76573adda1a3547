"""All jobs in memory, with pauses and suspensions. The driver has the lock and the time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Iterable, Sequence

from relevo.drivers.contract import Conflict, Lease, NewJob, Placed, Sizes, State
from relevo.drivers.memory.fair_queue import FairTurns
from relevo.drivers.memory.job import ORDER, StoredJob, run_order
from relevo.drivers.values import UNTIL_LIFTED


class Jobs:
    """The living jobs, by their keys and by their unique keys, and the pauses and suspensions."""

    def __init__(self) -> None:
        self._keys = itertools.count(1)
        self._living: dict[int | str, StoredJob] = {}
        self._unique: dict[str, StoredJob] = {}
        self._pauses: dict[str, float | None] = {}
        self.suspended: dict[str, float | None] = {}
        self._turns = FairTurns()
        self._parked: dict[str, dict[int, float]] = {}

    def put(self, jobs: Sequence[NewJob], now: float) -> list[Placed]:
        placed = [self._put(job, now) for job in jobs]
        for queue in {job.queue for job in jobs if job.fair_key is not None}:
            self._turns.assign(self._in(queue, State.PENDING, now))
        return placed

    def _put(self, new: NewJob, now: float) -> Placed:
        holder = self._unique.get(new.unique_key) if new.unique_key is not None else None
        if (
            holder is not None
            and new.unique_for is not None
            and holder.created_at <= now - new.unique_for
        ):
            self.unlock([holder])
            holder = None
        if holder is not None and new.on_conflict is not Conflict.KEEP:
            if holder.has_not_started:
                holder.replace(new, now)
                return Placed(holder.id, created=False, replaced=True)
            if new.on_conflict is Conflict.LATEST:
                self.unlock([holder])
                holder = None
        if holder is not None:
            return Placed(holder.id, created=False)
        available_at = max(now, new.available_at or 0)
        key = next(self._keys)
        job = StoredJob(
            key,
            new.id,
            new.queue,
            new.payload,
            new.priority,
            new.unique_key,
            available_at,
            created_at=now,
            fair_key=new.fair_key,
        )
        self._living[key] = job
        if job.unique_key is not None:
            self._unique[job.unique_key] = job
        return Placed(job.id, created=True)

    def next(self, queues: Sequence[str], limit: int, now: float) -> list[StoredJob]:
        """The next jobs to run. A queue that is named twice counts at its first place."""
        paused = self.paused(now)
        rank = {
            queue: place
            for place, queue in reversed(list(enumerate(queues)))
            if queue not in paused
        }
        waiting = [job for queue in rank for job in self._in(queue, State.PENDING, now)]
        self._turns.assign(waiting)
        return heapq.nsmallest(limit, waiting, key=lambda job: (rank[job.queue], *run_order(job)))

    def held(self, leases: Iterable[Lease]) -> list[StoredJob]:
        """The jobs that are still held under these leases, each once."""
        found = ((lease, self._living.get(int(lease.key))) for lease in set(leases))
        return [job for lease, job in found if job is not None and job.token == lease.token]

    def lease_ends(self, token: str) -> float | None:
        return next(
            (job.reserved_until for job in self._living.values() if job.token == token), None
        )

    def rescue(self, now: float) -> int:
        ended = [job for job in self._living.values() if job.lease_is_over(now)]
        for job in ended:
            job.unlease()
            job.rescues += 1
        return len(ended)

    def remove(self, jobs: Iterable[StoredJob]) -> int:
        gone = list(jobs)
        for job in gone:
            del self._living[job.key]
            if job.unique_key is not None:
                del self._unique[job.unique_key]
        return len(gone)

    def unlock(self, jobs: Sequence[StoredJob]) -> int:
        for job in jobs:
            if job.unique_key is not None:
                del self._unique[job.unique_key]
                job.unique_key = None
        return len(jobs)

    def with_ids(self, ids: Collection[str]) -> list[StoredJob]:
        return [job for job in self._living.values() if job.id in ids]

    def page_after(self, key: int, limit: int) -> list[StoredJob]:
        """The next jobs behind `key`, in the order of their puts."""
        return list(
            itertools.islice((job for job in self._living.values() if job.key > key), limit)
        )

    def hasten(self, ids: Collection[str], now: float) -> int:
        delayed = [job for job in self.with_ids(ids) if job.state(now) is State.DELAYED]
        for job in delayed:
            job.available_at, job.turn = now, None
        return len(delayed)

    def clear(self, queue: str, but: Sequence[str]) -> int:
        """Remove the jobs of a queue that are not reserved, unless their payload has a text `but`.

        Returns how many.
        """
        self._turns.reset(queue)
        return self.remove(
            [job for job in self.free(queue) if not any(text in job.payload for text in but)]
        )

    def free(self, queue: str) -> list[StoredJob]:
        """The jobs of a queue that are not reserved."""
        return [job for job in self._living.values() if job.queue == queue and job.token is None]

    def queues(self) -> list[str]:
        return sorted({job.queue for job in self._living.values()})

    def sizes(self, queue: str, now: float) -> Sizes:
        pending = self._in(queue, State.PENDING, now)
        delayed, reserved = (
            len(self._in(queue, state, now)) for state in (State.DELAYED, State.RESERVED)
        )
        oldest = now - min(job.available_at for job in pending) if pending else None
        return Sizes(len(pending), delayed, reserved, oldest)

    def came_due(self, since: float, now: float) -> bool:
        """Whether a delayed job came due, or a lease ended, after `since` and up to `now`."""
        return any(
            since < (job.reserved_until or job.available_at) <= now for job in self._living.values()
        )

    def first(self, queue: str, state: State, limit: int, now: float) -> list[StoredJob]:
        self._turns.assign(self._in(queue, State.PENDING, now))
        return heapq.nsmallest(limit, self._in(queue, state, now), key=ORDER[state])

    def pause(self, queue: str, until: float | None) -> None:
        self._pauses[queue] = until

    def resume(self, queue: str) -> None:
        self._pauses.pop(queue, None)

    def paused(self, now: float) -> dict[str, float | None]:
        self._pauses = {
            queue: until for queue, until in self._pauses.items() if until is None or until > now
        }
        return dict(self._pauses)

    def park(self, jobs: Sequence[StoredJob], target: str, now: float) -> int:
        """Release jobs until the suspension ends; without one they return to their old places."""
        until = self.suspended.get(target, now)
        until = UNTIL_LIFTED if until is None else until
        for job in jobs:
            job.unlease()
            job.attempts -= 1
            if until > now:
                job.turn = None
                job.available_at = self._parked.setdefault(target, {})[job.key] = until
        return len(jobs)

    def parked(self, target: str) -> list[StoredJob]:
        """The jobs that are still delayed to the instant to which they were parked."""
        known = [
            (self._living.get(key), until) for key, until in self._parked.get(target, {}).items()
        ]
        return [job for job, until in known if job is not None and job.available_at == until]

    def unpark(self, target: str, keep: float | None, now: float) -> None:
        """Make parked jobs due, except those parked until `keep`."""
        for job in self.parked(target):
            if job.available_at != keep:
                job.available_at = min(now, job.available_at)
        self._parked[target] = {
            job.key: job.available_at for job in self.parked(target) if job.available_at == keep
        }

    def lift(self, target: str, now: float) -> None:
        self.unpark(target, None, now)
        self.suspended.pop(target, None)

    def _in(self, queue: str, state: State, now: float) -> list[StoredJob]:
        return [
            job for job in self._living.values() if job.queue == queue and job.state(now) is state
        ]
