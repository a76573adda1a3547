"""The checks that every driver makes before it does anything.

A bad value raises the same `OptionError` on every driver, with what was expected and what was
given, and never leaves a step half done. Names have a limit of length because MySQL can't index
longer ones; NUL characters are refused because PostgreSQL can't store them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from relevo.drivers.contract import HIGHEST_PRIORITY, LOWEST_PRIORITY, Binding, Broadcast, NewJob
from relevo.errors import OptionError

LONGEST_NAME = 255  # characters
# Characters of a bad value that its error message shows.
_SHOWN = 60


def jobs(new: Iterable[NewJob]) -> None:
    """Jobs to put."""
    for job in new:
        name("queue", job.queue)
        name("id", job.id)
        text("payload", job.payload)
        priority(job.priority)
        if job.available_at is not None:
            instant("available_at", job.available_at)
        if job.unique_key is not None:
            name("unique_key", job.unique_key)
        if job.fair_key is not None:
            name("fair_key", job.fair_key)
        if job.unique_for is not None:
            duration("unique_for", job.unique_for)
        if job.max_delay is not None:
            duration("max_delay", job.max_delay)


def cursor(value: str) -> None:
    """The second value of the last `scan`, or an empty text."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{0,20}", value, re.ASCII):
        raise OptionError(f"expected after to be what scan has answered, got {value!r:.60}")


def queues(wanted: Iterable[str]) -> None:
    """Names of queues."""
    names("queue", wanted)


def suspension(target: str, until: float | None = None) -> None:
    """The target of a suspension, and its end."""
    name("target", target)
    instant("until", until or 0)


def hold(ids: Iterable[str], lease: float, by: str) -> None:
    """The arguments of `Driver.hold`."""
    names("id", ids)
    duration("lease", lease)
    name("by", by)


def names(label: str, values: Iterable[str]) -> None:
    """Several names of one kind."""
    for value in values:
        name(label, value)


def bindings(wanted: Iterable[Binding]) -> None:
    """The bindings of a mailbox."""
    for binding in wanted:
        name("exchange", binding.exchange)
        text("pattern", binding.pattern)
        pattern(binding.pattern)


def pattern(value: str) -> None:
    """A regular expression that `re` can compile."""
    try:
        re.compile(value)
    except re.error as error:
        raise OptionError(
            f"expected pattern to be a regular expression, got {_show(value)} ({error})"
        ) from None


def broadcasts(messages: Iterable[Broadcast]) -> None:
    """Messages to send. A routing key may be empty: a fanout exchange needs none."""
    for message in messages:
        name("exchange", message.exchange)
        if message.routing_key:
            name("routing_key", message.routing_key)
        text("payload", message.payload)


def name(label: str, value: str) -> None:
    """The name of a queue, a job, a key or a worker: drivers look it up."""
    text(label, value)
    if not 0 < len(value) <= LONGEST_NAME:
        raise OptionError(
            f"expected {label} to have 1 to {LONGEST_NAME} characters, "
            f"got {len(value)}: {_show(value)}"
        )


def text(label: str, value: str) -> None:
    """A text that every broker can store as UTF-8."""
    if "\0" in value:
        raise OptionError(
            f"expected {label} to be a text without NUL characters, got {_show(value)}"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise OptionError(
            f"expected {label} to be a text that UTF-8 can hold, got {_show(value)}"
        ) from None


def texts(label: str, values: Iterable[str]) -> None:
    """Several texts of one kind."""
    for value in values:
        text(label, value)


def priority(value: int) -> None:
    """A priority: jobs of 0 are taken first, jobs of 9 last."""
    if not HIGHEST_PRIORITY <= value <= LOWEST_PRIORITY:
        raise OptionError(
            f"expected priority to be from {HIGHEST_PRIORITY} to {LOWEST_PRIORITY}, got {value!r}"
        )


def instant(label: str, value: float) -> None:
    """A time in POSIX seconds. NaN and the infinities are refused."""
    if not math.isfinite(value):
        raise OptionError(f"expected {label} to be a finite number of POSIX seconds, got {value!r}")


def duration(label: str, value: float) -> None:
    """For how many seconds a lease or a mailbox lives."""
    if not (math.isfinite(value) and value > 0):
        raise OptionError(f"expected {label} to be a positive number of seconds, got {value!r}")


def delay(value: float) -> None:
    """For how many seconds to wait; 0 is allowed."""
    if not (math.isfinite(value) and value >= 0):
        raise OptionError(f"expected delay to be 0 or more seconds, got {value!r}")


def positive_count(label: str, value: int) -> None:
    """A count of at least one."""
    if not value >= 1:
        raise OptionError(f"expected {label} to be 1 or more, got {value!r}")


def count(label: str, value: int) -> None:
    """A count, 0 included."""
    if not value >= 0:
        raise OptionError(f"expected {label} to be 0 or more, got {value!r}")


def _show(value: str) -> str:
    return repr(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!r}..."
