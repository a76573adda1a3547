"""What every driver promises: the life of a job in the broker, in verbs.

                 put(later)            the clock, or hasten
               +------------> delayed ----------+
               |                                v
    (nothing) -+-- put ------------------>  pending  --- reserve ---> reserved --- ack ---> (gone)
                                             ^   ^                     |    |
                                             |   +---- rescue ---------+    +-- extend (stays reserved)
                                             |     (the lease has ended)    |
                                             +---- release(0) --------------+-- release(later) ---> delayed

A job is in exactly one of three states: *delayed* (not before its time), *pending* (waiting for a
worker) or *reserved* (taken by a worker, or by its id with `hold`, for one lease). Every arrow is
one atomic step, so a crash between any two calls loses nothing and leaves nothing held by two.

* **A lease** is a taking for a while. It is named by a fresh token, so what a worker does with a lease that has ended
  (ack, extend, release) changes nothing. Whoever lives extends; who dies is rescued from. Time
  alone takes nothing away: until a `rescue` or `reserve` has brought the job back, a holder who is
  late may still ack, extend or release it.
* **Order** is strict: the queues in the order they are asked for, then priority (0 first, 9 last: as Celery on Redis),
  then the time since which the job could have run, then the order of putting. In a queue in which
  jobs have a `fair_key`, keys take turns instead of the time: each has one job after the other,
  however many another has waiting; those without a key are one of them. A job that goes back to
  where it stood keeps its turn.
* **Attempts** are counted by `reserve`. `release` gives the attempt back unless told otherwise.
* **Time** is the broker's, in POSIX seconds; durations are seconds. A delayed job whose time has come *is*
  pending, also for `sizes` and `peek`, whoever moves it and when.
* **Names** (queues, ids, unique keys, mailboxes, exchanges) are compared character by character: `A` is not `a`. A
  value that makes no sense (an empty name, a delay of NaN) is an `OptionError` before anything is
  done: `checks.py` has them all.

A driver knows nothing of Celery: a payload is a text it keeps. `tests/contract` is this page as a
test suite; every driver passes it.
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
    "Subscription",
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
]


class Driver(ABC):
    """One broker. Safe to use from several threads; a forked child must make its own.

    Every method raises `DriverUnavailableError` when the broker can't be reached (the step then
    happened wholly or not at all) and `DriverError` when it refuses.
    """

    #: Connection-url scheme family: "sqlite", "postgresql", "mysql", "redis", "memory".
    name: str

    # --- jobs -------------------------------------------------------------------------------------
    @abstractmethod
    def put(self, jobs: Sequence[NewJob]) -> list[Placed]:
        """Put jobs, all or none, now or for later. One whose unique key a living job has is not put
        (and no error).

        Or it takes that one's place (`Conflict`), if that has not started: nobody holds it, and no
        attempt is counted.
        """

    @abstractmethod
    def reserve(
        self, queues: Sequence[str], limit: int, lease: float, by: str, done: Sequence[Lease] = ()
    ) -> list[ReservedJob]:
        """Ack `done`, move what is due, and take up to `limit` jobs for `lease` seconds, in strict
        order, in one step.

        Due are delayed jobs whose time has come and, as in `rescue`, jobs whose lease ended; under
        load a driver may let them wait for a quarter of a second. Jobs of paused queues are not
        taken. `by` names the worker, for people.
        """

    @abstractmethod
    def extend(self, leases: Sequence[Lease], lease: float) -> list[Lease]:
        """Renew leases for `lease` seconds from now. Returns those that were no longer held."""

    @abstractmethod
    def ack(self, leases: Sequence[Lease]) -> int:
        """The jobs are done: forget them. Returns how many were still held; a lease that ended
        changes nothing.
        """

    @abstractmethod
    def release(
        self,
        leases: Sequence[Lease],
        delay: float = 0,
        payload: str | None = None,
        attempts: int | None = None,
    ) -> int:
        """Put jobs back, to run after `delay` seconds (0: as they stood). Returns how many were
        still held.

        `payload` replaces theirs. `attempts` sets their count; by default the attempt is given back
        (not burned).
        """

    @abstractmethod
    def unlock(self, leases: Sequence[Lease]) -> int:
        """Let go the unique keys of jobs that are held, so that others may have them. Returns how
        many were held.
        """

    @abstractmethod
    def rescue(self) -> int:
        """Bring back the jobs whose lease has ended, as they stood in their queue. Returns how
        many.
        """

    # --- looking and mending ----------------------------------------------------------------------
    @abstractmethod
    def queues(self) -> list[str]:
        """The names of all queues that hold a job, sorted."""

    @abstractmethod
    def sizes(self, queue: str) -> Sizes:
        """How full a queue is. A queue nobody has used is empty."""

    @abstractmethod
    def peek(self, queue: str, state: State, limit: int = 50) -> list[JobView]:
        """The first jobs of a queue in one state, in the order in which they will run (reserved:
        their leases end).
        """

    @abstractmethod
    def find(self, ids: Iterable[str]) -> list[JobView]:
        """The living jobs with these ids, in whatever state. (An id may be had by several.)"""

    @abstractmethod
    def scan(self, after: str = "", limit: int = 500) -> tuple[list[JobView], str]:
        """Look through all living jobs, about `limit` a call, in no order. Returns them, and what
        to go on `after`.

        That is an empty text at the end. What lives from the first call to the last is seen, some
        of it twice.
        """

    @abstractmethod
    def hold(self, ids: Iterable[str], lease: float, by: str) -> list[HeldJob]:
        """Take jobs by id, also delayed ones, but none that somebody holds, for `lease` seconds. No
        attempt is counted.

        For who does something about jobs and then acks them: what he holds nobody starts, and if he
        dies it comes back.
        """

    @abstractmethod
    def delete(self, ids: Iterable[str]) -> int:
        """Delete jobs by id, in whatever state. Returns how many. (Who holds one runs it on; its
        ack does nothing.)
        """

    @abstractmethod
    def hasten(self, ids: Iterable[str]) -> int:
        """Make delayed jobs due now, by id. Returns how many. What is pending or reserved is left
        as it is.
        """

    @abstractmethod
    def clear(self, queue: str, but: Sequence[str] = ()) -> int:
        """Delete the pending and delayed jobs of a queue; reserved ones are left to their workers.
        Returns how many.

        Those in whose payload one of the texts `but` occurs are left, and perhaps some that stand
        behind them. In a fair queue all keys begin anew, and it is one again only when the next key
        comes.
        """

    @abstractmethod
    def pause(self, queue: str, until: float | None = None) -> None:
        """Let no worker, also none started later, reserve a job of a queue until an instant (None:
        until resumed).
        """

    @abstractmethod
    def resume(self, queue: str) -> None:
        """End a pause. A queue that is not paused stays so."""

    @abstractmethod
    def paused(self) -> dict[str, float | None]:
        """The paused queues and when each pause ends (None: when resumed)."""

    @abstractmethod
    def suspend(self, what: str, until: float | None = None) -> None:
        """Note that no job of a kind is to be started until an instant (None: until lifted). A
        second call moves it.

        What kind that is, `what` tells the workers: they reserve such jobs, and park them.
        """

    @abstractmethod
    def lift(self, what: str) -> None:
        """End a suspension: the jobs parked for it are due. One that there isn't stays so."""

    @abstractmethod
    def suspended(self) -> dict[str, float | None]:
        """The suspensions, and when each ends (None: when lifted)."""

    @abstractmethod
    def park(self, leases: Sequence[Lease], what: str) -> int:
        """Put jobs back, delayed until a suspension ends or is lifted; without one they stand where
        they stood.

        The attempt is given back. Returns how many were still held.
        """

    @abstractmethod
    def parked(self, what: str) -> int:
        """About how many jobs are parked for a suspension."""

    # --- broadcasts -------------------------------------------------------------------------------
    @abstractmethod
    def subscribe(self, mailbox: str, bindings: Sequence[Binding], ttl: float) -> None:
        """Open a mailbox for what is broadcast from now on, or renew it and add bindings.

        It goes when it was not used for `ttl` seconds.
        """

    @abstractmethod
    def unsubscribe(self, mailbox: str) -> None:
        """Close a mailbox; one that isn't there is already closed."""

    @abstractmethod
    def broadcast(self, messages: Sequence[Broadcast]) -> bool:
        """Send messages to every open mailbox they fit, in order. False: there was none, they are
        dropped.
        """

    @abstractmethod
    def receive(self, mailbox: str) -> list[Broadcast]:
        """Take what has come to a mailbox since the last call, in order; each message once. Renews
        the mailbox.
        """

    # --- housekeeping -----------------------------------------------------------------------------
    @abstractmethod
    def watch(self, queues: Sequence[str]) -> Subscription:
        """Something to wait on for new jobs in `queues` and new broadcasts."""

    @abstractmethod
    def now(self) -> float:
        """The broker's time."""

    @abstractmethod
    def close(self) -> None:
        """Give up the connections. The driver may be used again: it then connects anew."""


# ---- relevo.drivers.bell: What tells an idle worker that there may be something to do.
class Subscription(ABC):
    """What an idle consumer listens to. `hear` may say yes too often (a look is cheap), but never
    misses for long.
    """

    #: The longest a consumer waits before it looks anyway, in seconds.
    interval: float
    #: Whether what was heard last may be mail; a bell that can tell saves the look into the
    #: mailboxes before a job.
    is_mail: bool = True

    # most hear all the time
    def listen(self, room: bool, mailboxes: Collection[str] = ()) -> None:  # noqa: B027
        """A wait begins; `room`: whether this consumer could take a job now; `mailboxes`: those
        that it empties.
        """

    def fileno(self) -> int | None:
        """A descriptor that becomes readable when there may be something new, or None: the broker
        has no such thing.
        """
        return None

    @abstractmethod
    def poll(self) -> bool:
        """Whether there may be something new since the last call. Doesn't block."""

    def decline(self) -> None:  # noqa: B027  most wake everybody
        """What was heard can't be answered here, for want of room: let another consumer hear it."""

    def close(self) -> None:  # noqa: B027  most have nothing to close
        """Stop listening."""
