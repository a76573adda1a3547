"""What every store of limits promises. Each verb is one atomic step, and all times are the
broker's.

* **A permit** belongs to the lease of the job that took it, named by the lease's token. It is held
  exactly as long: it is renewed by renewing the lease, and gone when the job is acked, put back,
  deleted or rescued, or when it is given back. There is nothing else to renew and nothing to
  expire, so none can stick.
* **A rate** counts units; a **breaker** counts errors. Their state goes when it means nothing any
  more.
* Who is refused is told how many seconds to stay away, and stands in line (`line.py`).

A key is a text that says what kind it is, what it belongs to, and whose it is:
`overlap/images.process/7`. `tests/limits` is this page as a test suite; every store passes it.
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
LONGEST_KEY = 255
_DIGEST = 40


@dataclass(frozen=True, slots=True)
class Holder:
    """A job under a lease: the lease's token, the job's id and its task's name."""

    token: str
    job_id: str
    task: str


@dataclass(frozen=True, slots=True)
class PermitRequest:
    """A permit for a job: of which key, and how many there are."""

    key: str
    at_most: int
    holder: Holder


@dataclass(frozen=True, slots=True)
class PermitHandover:
    """A permit that a job has no use for any more. `to`: the job of the same worker that has begun
    under it.
    """

    wanted: PermitRequest
    to: Holder | None = None


@dataclass(frozen=True, slots=True)
class HandoverResult:
    """What became of permits that were left: whom it calls, the keys that somebody waits at, who
    has none after all.
    """

    called: list[str] = field(default_factory=list)
    crowded: set[str] = field(default_factory=set)
    without: set[str] = field(default_factory=set)

    def add(self, other: HandoverResult) -> None:
        """What became of others, too."""
        self.called.extend(other.called)
        self.crowded.update(other.crowded)
        self.without.update(other.without)


@dataclass(frozen=True, slots=True)
class HeldPermit:
    """A permit: who has it, since when, and until when by the lease as it is now."""

    job_id: str
    task: str
    since: float
    until: float | None


@dataclass(frozen=True, slots=True)
class LimitView:
    """A limit as people see it: `used` of `most` (None: nobody knows).

    `until`: when the next unit is free, the breaker lets jobs run, or the first lease ends; None
    for now.
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
    """The key of a limit. A long one is cut and ends in its digest; PostgreSQL keeps no NUL and no
    lone surrogate.
    """
    text = f"{kind}/{name}/{by}" if by is not None else f"{kind}/{name}"
    safe = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    if len(safe) <= LONGEST_KEY:
        return safe
    digest = sha256(safe.encode()).hexdigest()[:_DIGEST]
    return f"{safe[: LONGEST_KEY - _DIGEST - 1]}#{digest}"


def is_of_rate(key: str, name: str) -> bool:
    """Whether this is a key of the rate that is called so."""
    return f"{key}/".startswith(f"{RATE}/{name}/")


def name_of(key: str) -> str:
    """What the limit of a key is called."""
    return key.split("/", 2)[1] if "/" in key else ""


def check_key(key: str) -> None:
    """Raise OptionError for what no store keeps."""
    if not isinstance(key, str) or not 0 < len(key) <= LONGEST_KEY or "\0" in key:
        raise OptionError(
            f"expected a limit's key to be a text of 1 to {LONGEST_KEY} characters, got {key!r:.80}"
        )


class Limits(ABC):
    """The limits of one broker. Safe to use from several threads. Raises `DriverError` as drivers
    do.
    """

    # --- permits ----------------------------------------------------------------------------------
    @abstractmethod
    def take(self, key: str, at_most: int, holder: Holder) -> float:
        """Take one of `at_most` permits for a job under its lease. Returns 0, or for how many
        seconds to stay away.

        Who has one already has it.
        """

    @abstractmethod
    def release(self, key: str, holder: Holder) -> list[str]:
        """Give a permit back, if it is held. Returns the ids of the jobs whose turn it is now:
        hasten them.
        """

    @abstractmethod
    def take_free(self, wanted: Sequence[PermitRequest]) -> set[str]:
        """Take permits for many jobs, where there is room and nobody waits. Returns the tokens that
        have one.

        Who gets none stands in no line: nothing has happened to it.
        """

    @abstractmethod
    def hand_over(self, left: Sequence[PermitHandover]) -> HandoverResult:
        """Give many permits back, or to another job, one after the other.

        Of what is not held any more (its lease has ended, its key was cleared) nothing can be
        passed on: the other job then takes one where there is room.
        """

    # --- rates ------------------------------------------------------------------------------------
    @abstractmethod
    def hit(self, key: str, rate: Rate, cost: float, job_id: str) -> float:
        """Take `cost` units of a rate. Returns 0, or for how many seconds the job is to stay away.

        Where the rate's name (the second part of the key) was redefined, that rate counts.
        """

    @abstractmethod
    def refund(self, key: str, rate: Rate, cost: float) -> list[str]:
        """Give units of a rate back: the job has not run after all. Returns the ids of those whose
        turn it is now.
        """

    @abstractmethod
    def redefine(self, name: str, rate: Rate | None) -> list[str]:
        """Let another rate count from now on, everywhere, for this name; None: the one in the code
        again.

        Returns the ids of the jobs that wait at keys of this name, for as long as the old rate
        said: hasten them.
        """

    @abstractmethod
    def redefined_rates(self) -> dict[str, Rate]:
        """The names with another rate than in the code."""

    # --- breakers ---------------------------------------------------------------------------------
    @abstractmethod
    def check_breaker(self, key: str, job_id: str) -> tuple[float, bool]:
        """For how many seconds a job of the key is to stay away (0: it runs), and whether errors
        are remembered.
        """

    @abstractmethod
    def record_error(self, key: str, breaker: Breaker) -> float:
        """Count an error. Returns for how many seconds the jobs of the key wait now."""

    # --- looking and mending ----------------------------------------------------------------------
    @abstractmethod
    def views(self, prefix: str = "", most: int = 1000) -> list[LimitView]:
        """The limits in use whose keys begin so, sorted: the first `most`. Nothing changes."""

    @abstractmethod
    def clear(self, key: str) -> list[str]:
        """Forget all about a key: its permits, units, errors and line. Returns the jobs that
        waited: hasten them.
        """
