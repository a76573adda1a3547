"""The contract of a driver: the life of a job in the broker, in verbs.

             put(later)            the clock, or hasten
           +------------> delayed ----------+
           |                                v
    (new) -+-- put ------------------>  pending  --- reserve ---> reserved --- ack ---> (gone)
                                         ^   ^                     |    |
                                         |   +---- rescue ---------+    +-- extend ---> reserved
                                         |     (the lease has ended)    |
                                         +---- release(0) --------------+-- release(later)
                                                                            ---> delayed

A job is in exactly one of three states: *delayed* (it must not run yet), *pending* (it waits for a
worker) or *reserved* (a worker or another process holds it for one lease). Every arrow is one
atomic step. A crash between two calls loses no job and leaves no job with two holders.

* **Leases.** A reservation holds a job for one lease, which a fresh token names. The holder extends
  the lease while it lives. When the lease has ended, `rescue` brings the job back, and from then on
  ack, extend and release with the old token change nothing. Time alone takes nothing away: until a
  `rescue` or `reserve` has brought the job back, a late holder may still ack, extend or release it.
* **Order** is strict: first the queues in the order of the call, then the priority (0 first, 9
  last, as in Celery on Redis), then the time since which the job could have run, then the order of
  `put`. In a queue whose jobs have a `fair_key`, the keys take turns instead: each key gets one job
  after another key's job, however many jobs wait. Jobs without a key share one turn. A job that
  goes back to its old place keeps its turn.
* **Attempts** are counted by `reserve`. `release` gives the attempt back by default.
* **Time** is the broker's, in POSIX seconds; durations are in seconds. A delayed job whose time has
  come counts as pending, also in `sizes` and `peek`, even before a driver has moved it.
* **Names** (queues, ids, unique keys, mailboxes, exchanges) are compared character by character:
  `A` is not `a`. A senseless value (an empty name, a delay of NaN) raises `OptionError` before
  anything is done; `validation.py` has all these checks.

A driver knows nothing of Celery: to a driver a payload is a text. `tests/contract` states this page
as a test suite, and every driver passes it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence

from relevo.drivers.values import (
    HIGHEST_PRIORITY,
    LOWEST_PRIORITY,
    Binding,
    Broadcast,
    Conflict,
    HeldJob,
    JobView,
    Lease,
    NewJob,
    Placed,
    ReservedJob,
    Sizes,
    State,
)

__all__ = [
    "HIGHEST_PRIORITY",
    "LOWEST_PRIORITY",
    "Binding",
    "Broadcast",
    "Conflict",
    "Driver",
    "HeldJob",
    "JobView",
    "Lease",
    "NewJob",
    "Placed",
    "ReservedJob",
    "Sizes",
    "State",
    "Subscription",
]


class Driver(ABC):
    """One broker. Safe to use from several threads; a forked child must make its own.

    Every method raises `DriverUnavailableError` when the broker can't be reached (the step then
    happened wholly or not at all) and `DriverError` when the broker refuses it.
    """

    #: The family of url schemes: "sqlite", "postgresql", "mysql", "redis", "memory".
    name: str

    # --- jobs -------------------------------------------------------------------------------------
    @abstractmethod
    def put(self, jobs: Sequence[NewJob]) -> list[Placed]:
        """Put all jobs or none, now or for later.

        When a living job has the unique key of a new one, `Conflict` decides: the new job is not
        put (no error), or it replaces the living job. A living job can be replaced only before it
        has started: it is not reserved and has no counted attempt.
        """

    @abstractmethod
    def reserve(
        self, queues: Sequence[str], limit: int, lease: float, by: str, done: Sequence[Lease] = ()
    ) -> list[ReservedJob]:
        """In one step: ack `done`, move due jobs, and take up to `limit` jobs for `lease` seconds.

        Due are the delayed jobs whose time has come and the jobs whose lease has ended (as in
        `rescue`). Under load a driver may move them up to a quarter of a second late. Jobs of
        paused queues are not taken. `by` is the worker's name, shown to people.
        """

    @abstractmethod
    def extend(self, leases: Sequence[Lease], lease: float) -> list[Lease]:
        """Renew leases for `lease` seconds from now. Returns the leases that were lost."""

    @abstractmethod
    def ack(self, leases: Sequence[Lease]) -> int:
        """Delete the jobs: they are done. Returns how many were still held.

        For a lost lease nothing changes.
        """

    @abstractmethod
    def release(
        self,
        leases: Sequence[Lease],
        delay: float = 0,
        payload: str | None = None,
        attempts: int | None = None,
    ) -> int:
        """Return jobs to their queues, to run after `delay` seconds (0: at their old place).

        `payload` replaces the payload. `attempts` sets the count of attempts; by default the
        attempt is given back. Returns how many jobs were still held.
        """

    @abstractmethod
    def unlock(self, leases: Sequence[Lease]) -> int:
        """Free the unique keys of held jobs for other jobs. Returns how many jobs were held."""

    @abstractmethod
    def rescue(self) -> int:
        """Return jobs whose lease has ended to their old places. Returns how many."""

    # --- inspection and repair --------------------------------------------------------------------
    @abstractmethod
    def queues(self) -> list[str]:
        """The names of all queues that hold a job, sorted."""

    @abstractmethod
    def sizes(self, queue: str) -> Sizes:
        """How full a queue is. An unknown queue is empty."""

    @abstractmethod
    def peek(self, queue: str, state: State, limit: int = 50) -> list[JobView]:
        """The first jobs of a queue in one state, in the order in which they will run.

        Reserved jobs come in the order in which their leases end.
        """

    @abstractmethod
    def find(self, ids: Iterable[str]) -> list[JobView]:
        """The living jobs with these ids, in any state. Several jobs may have one id."""

    @abstractmethod
    def scan(self, after: str = "", limit: int = 500) -> tuple[list[JobView], str]:
        """Read all living jobs page by page: about `limit` jobs a call, in no order.

        Returns a page and the `after` for the next call, which is empty behind the last page. A job
        that lives from the first call to the last is seen, perhaps twice.
        """

    @abstractmethod
    def hold(self, ids: Iterable[str], lease: float, by: str) -> list[HeldJob]:
        """Take jobs by id for `lease` seconds, delayed ones too, but no reserved ones.

        No attempt is counted. For a process that changes jobs and then acks them: no worker starts
        a held job, and if the process dies, the job comes back.
        """

    @abstractmethod
    def delete(self, ids: Iterable[str]) -> int:
        """Delete jobs by id, in any state. Returns how many.

        A worker that holds such a job runs it to its end; the ack then changes nothing.
        """

    @abstractmethod
    def hasten(self, ids: Iterable[str]) -> int:
        """Make delayed jobs due now, by id. Returns how many.

        Pending and reserved jobs stay as they are.
        """

    @abstractmethod
    def clear(self, queue: str, but: Sequence[str] = ()) -> int:
        """Delete the pending and delayed jobs of a queue, but not the reserved ones.

        Jobs whose payload contains one of the texts `but` stay, and perhaps some jobs behind them.
        In a fair queue the turns of all keys begin anew. Returns how many jobs were deleted.
        """

    @abstractmethod
    def pause(self, queue: str, until: float | None = None) -> None:
        """Let no worker reserve jobs of a queue until an instant (None: until `resume`).

        That includes workers that start later.
        """

    @abstractmethod
    def resume(self, queue: str) -> None:
        """End the pause of a queue, if it has one."""

    @abstractmethod
    def paused(self) -> dict[str, float | None]:
        """The paused queues and when each pause ends (None: at `resume`)."""

    @abstractmethod
    def suspend(self, target: str, until: float | None = None) -> None:
        """Note that no job of `target` may start until an instant (None: until `lift`).

        A second call moves the end. What a target is, the workers know ("task:mail.send",
        "tag:user:7"): they reserve such jobs and `park` them.
        """

    @abstractmethod
    def lift(self, target: str) -> None:
        """End a suspension, if there is one: the jobs parked for it are due."""

    @abstractmethod
    def suspended(self) -> dict[str, float | None]:
        """The suspended targets and when each suspension ends (None: at `lift`)."""

    @abstractmethod
    def park(self, leases: Sequence[Lease], target: str) -> int:
        """Release jobs, delayed until the suspension of `target` ends or is lifted.

        Without a suspension they return to their old places. The attempts are given back. Returns
        how many jobs were still held.
        """

    @abstractmethod
    def parked(self, target: str) -> int:
        """About how many jobs are parked for a suspension."""

    # --- broadcasts -------------------------------------------------------------------------------
    @abstractmethod
    def subscribe(self, mailbox: str, bindings: Sequence[Binding], ttl: float) -> None:
        """Open a mailbox for broadcasts from now on, or renew it and add bindings.

        A mailbox that is not used for `ttl` seconds goes away.
        """

    @abstractmethod
    def unsubscribe(self, mailbox: str) -> None:
        """Close a mailbox, if it is open."""

    @abstractmethod
    def broadcast(self, messages: Sequence[Broadcast]) -> bool:
        """Send messages to every open mailbox whose bindings fit, in order.

        Returns False when no mailbox fits: the messages are dropped.
        """

    @abstractmethod
    def receive(self, mailbox: str) -> list[Broadcast]:
        """Take the new messages of a mailbox, in order, each once. Renews the mailbox."""

    # --- housekeeping -----------------------------------------------------------------------------
    @abstractmethod
    def watch(self, queues: Sequence[str]) -> Subscription:
        """Something to wait on for new jobs in `queues` and for new broadcasts."""

    @abstractmethod
    def now(self) -> float:
        """The broker's time, in POSIX seconds."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections. The driver may be used again: it then connects anew."""


class Subscription(ABC):
    """Tells an idle consumer when it should look for new jobs or mail.

    False alarms are cheap and allowed. Missed news are found after `interval` seconds at the
    latest.
    """

    #: Seconds after which a consumer looks for news in any case.
    interval: float
    #: Whether the last news may be mail. If not, the consumer skips the look into its mailboxes.
    is_mail: bool = True

    def listen(self, room: bool, mailboxes: Collection[str] = ()) -> None:  # noqa: B027  optional
        """Begin to wait. `room`: this consumer could take a job now. `mailboxes`: its own.

        Most subscriptions listen all the time and do nothing here.
        """

    def fileno(self) -> int | None:
        """A descriptor that becomes readable when there may be news, or None if there is none."""
        return None

    @abstractmethod
    def poll(self) -> bool:
        """Whether there may be news since the last call. Doesn't block."""

    def decline(self) -> None:  # noqa: B027  optional: most brokers wake every consumer
        """Pass the last news on to another consumer: this one has no room for a job."""

    def close(self) -> None:  # noqa: B027  optional: most have nothing to close
        """Stop listening."""
