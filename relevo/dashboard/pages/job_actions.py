"""What can be done to jobs in the broker: to those that were picked, or to all that wait and that a
search finds.
"""

from __future__ import annotations

from collections.abc import Iterator

from relevo.dashboard import broker_jobs, formatting
from relevo.dashboard.handlers import Action
from relevo.dashboard.pages.pauses import OfQueue
from relevo.drivers.contract import State
from relevo.errors import OptionError
from relevo.operations import cancel, clear
from relevo.store import search_syntax as searching
from relevo.store.search_syntax import Search

MOST_PICKED = 1000
#: Name in the url -> state in the broker.
TO_DO = {"pending": State.PENDING, "delayed": State.DELAYED, "running": State.RESERVED}
#: States of which all that are found can be meant.
BULK = ("pending", "delayed")


def in_queue(search: Search, queue: str) -> Search:
    """The same search in one queue; an empty name is any."""
    if not queue:
        return search
    return Search((*search.terms, ("queue", queue)), search.words, search.since, search.until)


class OfJobs(Action):
    """An action on jobs in the broker that were picked, or on all of a state that a search finds
    (`all`).
    """

    #: The states of which all can be meant.
    bulk: tuple[str, ...] = BULK

    def portions(self) -> Iterator[list[str]]:
        """Their ids, some at a time. Raises OptionError."""
        if self.field("all"):
            state, search = self.field("state"), searching.parse(self.field("q"))
            if state not in self.bulk:
                raise OptionError(
                    f"expected state to be {' or '.join(self.bulk)}, got {state[:60]!r}"
                )
            yield from broker_jobs.every(
                self.application.source, TO_DO[state], in_queue(search, self.field("queue"))
            )
            return
        picked = list(dict.fromkeys(self.get_arguments("id", strip=False)))
        if not picked or len(picked) > MOST_PICKED:
            raise OptionError(f"expected 1 to {MOST_PICKED} jobs to be picked, got {len(picked)}")
        yield picked

    def target(self, *_arguments: str) -> str:
        if not self.field("all"):
            return "jobs " + ", ".join(self.get_arguments("id", strip=False)[:MOST_PICKED])
        said = f"all {self.field('state')} jobs"
        said += f" of {self.field('queue')}" if self.field("queue") else ""
        return said + (f" that fit: {self.field('q')}" if self.field("q") else "")


class CancelJobs(OfJobs):
    """Cancel jobs, wherever they are: those that wait are withdrawn, what runs goes on to its end
    and not again.
    """

    name = "cancel"
    terminate = False

    def act(self, *_arguments: str) -> str:
        source, gone, running = self.application.source, 0, 0
        for ids in self.portions():
            done = cancel.cancel(
                source.app, source.driver, source.store, ids, terminate=self.terminate
            )
            gone += len(done.withdrawn) + len(done.killed)
            running += len(done.running)
        said = f"{formatting.counted(gone, 'job')} cancelled."
        return said + (f" {running:,} run to their end, and not again." if running else "")


class StopJobs(CancelJobs):
    """Cancel them, and kill the processes of those that run."""

    name = "stop"
    terminate = True
    bulk = ()


class DeleteJobs(OfJobs):
    """Delete jobs that wait, without a trace in history; their batches count them as cancelled."""

    name = "delete"

    def act(self, *_arguments: str) -> str:
        source = self.application.source
        gone = sum(
            cancel.delete(source.app, source.driver, source.store, ids) for ids in self.portions()
        )
        return f"{formatting.counted(gone, 'job')} deleted."


class HastenJobs(OfJobs):
    """Let delayed jobs run now."""

    name = "run now"
    bulk = ("delayed",)

    def act(self, *_arguments: str) -> str:
        driver = self.application.source.driver
        return f"{formatting.counted(sum(map(driver.hasten, self.portions())), 'delayed job')} may run now."


class ClearQueue(OfQueue):
    """Delete what waits in a queue."""

    name = "clear queue"

    def act(self, *_arguments: str) -> str:
        queue, source = self.queue(), self.application.source
        return f"{formatting.counted(clear.clear(source.app, source.driver, queue), 'job')} of {queue} deleted."
