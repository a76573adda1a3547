"""Actions on jobs in the broker: on picked jobs, or on all waiting jobs that a search finds."""

from __future__ import annotations

from collections.abc import Iterator

from relevo.dashboard import broker_jobs, formatting
from relevo.dashboard.handlers import Action
from relevo.dashboard.pages.pauses import QueueAction
from relevo.drivers.contract import State
from relevo.errors import OptionError
from relevo.operations import cancel, clear
from relevo.store import search_syntax
from relevo.store.search_syntax import Search

MOST_PICKED = 1000
#: Name in the url -> state in the broker.
BROKER_STATES = {"pending": State.PENDING, "delayed": State.DELAYED, "running": State.RESERVED}
#: States in which an action can be done to all jobs that a search finds.
BULK = ("pending", "delayed")


def with_queue(search: Search, queue: str) -> Search:
    """The same search in one queue; an empty name is any."""
    if not queue:
        return search
    return Search((*search.terms, ("queue", queue)), search.words, search.since, search.until)


class JobsAction(Action):
    """An action on picked jobs in the broker, or (`all`) on all of a state that a search finds."""

    #: The states for which `all` is allowed.
    bulk: tuple[str, ...] = BULK

    def id_chunks(self) -> Iterator[list[str]]:
        """The ids of the jobs, in chunks. Raises OptionError."""
        if self.field("all"):
            state, search = self.field("state"), search_syntax.parse(self.field("q"))
            if state not in self.bulk:
                raise OptionError(
                    f"expected state to be {' or '.join(self.bulk)}, got {state[:60]!r}"
                )
            yield from broker_jobs.matching_ids(
                self.application.source,
                BROKER_STATES[state],
                with_queue(search, self.field("queue")),
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


class CancelJobs(JobsAction):
    """Cancel jobs. Waiting jobs are withdrawn; a running attempt goes on and is the last."""

    name = "cancel"
    terminate = False

    def act(self, *_arguments: str) -> str:
        source, gone, running = self.application.source, 0, 0
        for ids in self.id_chunks():
            done = cancel.cancel(
                source.app, source.driver, source.store, ids, terminate=self.terminate
            )
            gone += len(done.withdrawn) + len(done.killed)
            running += len(done.running)
        said = f"{formatting.counted(gone, 'job')} cancelled."
        return said + (f" {running:,} run to their end, and not again." if running else "")


class StopJobs(CancelJobs):
    """Cancel jobs, and kill the processes that run them."""

    name = "stop"
    terminate = True
    bulk = ()


class DeleteJobs(JobsAction):
    """Delete waiting jobs, without a trace in the history. Batches count them as cancelled."""

    name = "delete"

    def act(self, *_arguments: str) -> str:
        source = self.application.source
        gone = sum(
            cancel.delete(source.app, source.driver, source.store, ids) for ids in self.id_chunks()
        )
        return f"{formatting.counted(gone, 'job')} deleted."


class HastenJobs(JobsAction):
    """Let delayed jobs run now."""

    name = "run now"
    bulk = ("delayed",)

    def act(self, *_arguments: str) -> str:
        hastened = sum(map(self.application.source.driver.hasten, self.id_chunks()))
        return f"{formatting.counted(hastened, 'delayed job')} may run now."


class ClearQueue(QueueAction):
    """Delete the waiting jobs of a queue."""

    name = "clear queue"

    def act(self, *_arguments: str) -> str:
        queue, source = self.queue(), self.application.source
        deleted = clear.clear(source.app, source.driver, queue)
        return f"{formatting.counted(deleted, 'job')} of {queue} deleted."
