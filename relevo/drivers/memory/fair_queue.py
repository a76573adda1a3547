"""Fair queues in memory: keys take turns, as `database/fair_queue.py` explains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from relevo.drivers.memory.job import StoredJob


class FairTurns:
    """The ends of the last turns of the keys, by queue and priority."""

    def __init__(self) -> None:
        self._ends: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)

    def reset(self, queue: str) -> None:
        """Forget all turns of a queue: every key begins anew."""
        for place in [place for place in self._ends if place[0] == queue]:
            del self._ends[place]

    def assign(self, pending: Iterable[StoredJob]) -> None:
        """Give a turn to each pending job without one, in queues whose keys take turns."""
        waiting = list(pending)
        without = [job for job in waiting if job.turn is None]
        first: dict[tuple[str, int], float] = {}
        for job in waiting if without else ():
            if job.turn is not None:
                place = (job.queue, job.priority)
                first[place] = min(job.turn, first.get(place, job.turn))
        for job in sorted(without, key=lambda job: (job.available_at, job.key)):
            place = (job.queue, job.priority)
            if job.fair_key is not None or place in self._ends:
                ends, key = self._ends[place], job.fair_key or ""
                start = first[place] if place in first else max(ends.values(), default=0.0)
                job.turn = max(start, ends.get(key, 0.0))
                first.setdefault(place, job.turn)
                ends[key] = job.turn + 1
