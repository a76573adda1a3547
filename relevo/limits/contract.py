"""The contract of a store of limits. Each verb is one atomic step, and all times are the broker's.

* **A permit** belongs to the lease of the job that took it, named by the lease's token, and is held
  exactly as long. Extending the lease extends the permit. The permit is free when the job is acked,
  released, deleted or rescued, or when it is released by itself. Nothing else must be renewed and
  nothing expires, so no permit can stick.
* **A rate** counts units; a **breaker** counts errors. Their state is deleted when it has no
  meaning any more.
* A refused job learns for how many seconds to stay away, and waits in line (`waiters.py`).

A key is a text that names the kind of a limit, its name, and the value that it is counted by:
`overlap/images.process/7`. `tests/limits` states this page as a test suite, and every store passes
it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from relevo.errors import OptionError
from relevo.limits.breakers import Breaker
from relevo.limits.rates import Rate

OVERLAP, RATE, ERRORS = "overlap", "rate", "errors"
LONGEST_KEY = 255  # characters
_DIGEST = 40  # characters of a digest at the end of a key that was cut


@dataclass(frozen=True, slots=True)
class Holder:
    """A job that can hold permits: its lease's token, its id and its task's name."""

    token: str
    job_id: str
    task: str


@dataclass(frozen=True, slots=True)
class PermitRequest:
    """A request for one of the `at_most` permits of a key."""

    key: str
    at_most: int
    holder: Holder


@dataclass(frozen=True, slots=True)
class PermitHandover:
    """A permit that a job gives back. `to`: the job of the same worker that gets it."""

    request: PermitRequest
    to: Holder | None = None


@dataclass(frozen=True, slots=True)
class HandoverResult:
    """The result of handing permits over.

    `called`: ids of the waiting jobs whose turn it is now. `crowded`: keys at which jobs wait.
    `without`: tokens of the jobs that were to get a permit and have none.
    """

    called: list[str] = field(default_factory=list)
    crowded: set[str] = field(default_factory=set)
    without: set[str] = field(default_factory=set)

    def add(self, other: HandoverResult) -> None:
        """Add the result of other permits."""
        self.called.extend(other.called)
        self.crowded.update(other.crowded)
        self.without.update(other.without)


@dataclass(frozen=True, slots=True)
class HeldPermit:
    """A held permit: its job, since when, and until when by the lease as it is now."""

    job_id: str
    task: str
    since: float
    until: float | None


@dataclass(frozen=True, slots=True)
class LimitView:
    """A limit as people see it: `used` of `most` (None: unknown).

    `waiting`: the number of waiting jobs; `line`: the ids of the first of them.
    `until`: when the next unit is free, the breaker lets jobs run, or the first lease ends (None:
    now).
    """

    key: str
    used: float
    most: float | None
    waiting: int
    until: float | None = None
    holders: list[HeldPermit] = field(default_factory=list)
    line: list[str] = field(default_factory=list)
    rate: str | None = None


def key_of(kind: str, name: str, by: object) -> str:
    """The key of a limit. A long key is cut and ends in its digest.

    NUL characters and lone surrogates are escaped, because PostgreSQL can't store them.
    """
    text = f"{kind}/{name}/{by}" if by is not None else f"{kind}/{name}"
    safe = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    if len(safe) <= LONGEST_KEY:
        return safe
    digest = sha256(safe.encode()).hexdigest()[:_DIGEST]
    return f"{safe[: LONGEST_KEY - _DIGEST - 1]}#{digest}"


def is_of_rate(key: str, name: str) -> bool:
    """Whether this is a key of the rate of this name."""
    return f"{key}/".startswith(f"{RATE}/{name}/")


def name_of(key: str) -> str:
    """The name of a key's limit."""
    return key.split("/", 2)[1] if "/" in key else ""


def check_key(key: str) -> None:
    """Raise OptionError for a key that a store can't keep."""
    if not isinstance(key, str) or not 0 < len(key) <= LONGEST_KEY or "\0" in key:
        raise OptionError(
            f"expected a limit's key to be a text of 1 to {LONGEST_KEY} characters, got {key!r:.80}"
        )


class Limits(ABC):
    """The limits of one broker. Safe to use from several threads; raises the errors of a driver."""

    # --- permits ----------------------------------------------------------------------------------
    @abstractmethod
    def take(self, key: str, at_most: int, holder: Holder) -> float:
        """Take one of `at_most` permits for a job under its lease.

        Returns 0, or for how many seconds the job must stay away. A job that has a permit keeps it.
        """

    @abstractmethod
    def release(self, key: str, holder: Holder) -> list[str]:
        """Give a permit back, if it is held.

        Returns the ids of the waiting jobs whose turn it is now: the caller hastens them.
        """

    @abstractmethod
    def take_free(self, wanted: Sequence[PermitRequest]) -> set[str]:
        """Take permits for many jobs, where a permit is free and no job waits.

        Returns the tokens of the jobs that have a permit. The other jobs don't wait in line: for
        them nothing has happened.
        """

    @abstractmethod
    def hand_over(self, handovers: Sequence[PermitHandover]) -> HandoverResult:
        """Give many permits back, or to other jobs, one after the other.

        A permit that is not held any more (its lease has ended, its key was cleared) can't be
        handed over; the other job then takes one if a permit is free.
        """

    # --- rates ------------------------------------------------------------------------------------
    @abstractmethod
    def hit(self, key: str, rate: Rate, cost: float, job_id: str) -> float:
        """Take `cost` units of a rate. Returns 0, or for how many seconds the job must stay away.

        If the rate's name (the second part of the key) was redefined, the new rate counts.
        """

    @abstractmethod
    def refund(self, key: str, rate: Rate, cost: float) -> list[str]:
        """Give units of a rate back, because the job has not run after all.

        Returns the ids of the waiting jobs whose turn it is now.
        """

    @abstractmethod
    def redefine(self, name: str, rate: Rate | None) -> list[str]:
        """Replace the rate of a name in all workers from now on. None: the rate in the code again.

        Returns the ids of the jobs that wait at keys of this name, for as long as the old rate
        said: the caller hastens them.
        """

    @abstractmethod
    def redefined_rates(self) -> dict[str, Rate]:
        """The rates that were redefined, by name."""

    # --- breakers ---------------------------------------------------------------------------------
    @abstractmethod
    def check_breaker(self, key: str, job_id: str) -> tuple[float, bool]:
        """For how many seconds a job must stay away (0: it runs), and whether errors count."""

    @abstractmethod
    def record_error(self, key: str, breaker: Breaker) -> float:
        """Count an error. Returns for how many seconds the jobs of the key must wait now."""

    # --- inspection and repair --------------------------------------------------------------------
    @abstractmethod
    def views(self, prefix: str = "", most: int = 1000) -> list[LimitView]:
        """The first `most` limits in use whose keys begin with `prefix`, sorted by key."""

    @abstractmethod
    def clear(self, key: str) -> list[str]:
        """Delete a key with its permits, units, errors and waiting jobs.

        Returns the ids of the waiting jobs: the caller hastens them.
        """
