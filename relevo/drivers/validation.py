"""What no driver accepts, said in one line before anything is done: what was expected and what was
given.

Every driver asks here first, so that a bad value is the same `OptionError` on all of them and never
a half-done step. Names are bounded because MySQL can't index more; a NUL character is refused
because PostgreSQL can't keep one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from relevo.drivers.contract import HIGHEST_PRIORITY, LOWEST_PRIORITY, Binding, Broadcast, NewJob
from relevo.errors import OptionError

LONGEST_NAME = 255
_SHOWN = 60


def jobs(new: Iterable[NewJob]) -> None:
    """Jobs about to be put."""
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
    """What `scan` has answered, or an empty text."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{0,20}", value, re.ASCII):
        raise OptionError(f"expected after to be what scan has answered, got {value!r:.60}")


def queues(wanted: Iterable[str]) -> None:
    """Queues about to be looked at or changed."""
    names("queue", wanted)


def suspension(target: str, until: float | None = None) -> None:
    """What is suspended, and until when."""
    name("target", target)
    instant("until", until or 0)


def hold(ids: Iterable[str], lease: float, by: str) -> None:
    """Jobs about to be taken by id."""
    names("id", ids)
    duration("lease", lease)
    name("by", by)


def names(label: str, values: Iterable[str]) -> None:
    """Several names of one kind."""
    for value in values:
        name(label, value)


def bindings(wanted: Iterable[Binding]) -> None:
    """Bindings of a mailbox."""
    for binding in wanted:
        name("exchange", binding.exchange)
        text("pattern", binding.pattern)
        pattern(binding.pattern)


def pattern(value: str) -> None:
    """What `re` can compile."""
    try:
        re.compile(value)
    except re.error as error:
        raise OptionError(
            f"expected pattern to be a regular expression, got {_show(value)} ({error})"
        ) from None


def broadcasts(messages: Iterable[Broadcast]) -> None:
    """Messages about to be sent. A routing key may be empty: a fanout exchange has no use for one."""
    for message in messages:
        name("exchange", message.exchange)
        if message.routing_key:
            name("routing_key", message.routing_key)
        text("payload", message.payload)


def name(label: str, value: str) -> None:
    """A queue, an id, a key, a worker: something that is looked up."""
    text(label, value)
    if not 0 < len(value) <= LONGEST_NAME:
        raise OptionError(
            f"expected {label} to have 1 to {LONGEST_NAME} characters, got {len(value)}: {_show(value)}"
        )


def text(label: str, value: str) -> None:
    """Something every broker can keep as UTF-8."""
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
    """0 is taken first, 9 last."""
    if not HIGHEST_PRIORITY <= value <= LOWEST_PRIORITY:
        raise OptionError(
            f"expected priority to be from {HIGHEST_PRIORITY} to {LOWEST_PRIORITY}, got {value!r}"
        )


def instant(label: str, value: float) -> None:
    """POSIX seconds; NaN and the infinities are no time at all."""
    if not math.isfinite(value):
        raise OptionError(f"expected {label} to be a finite number of POSIX seconds, got {value!r}")


def duration(label: str, value: float) -> None:
    """How long something holds: a lease, a mailbox."""
    if not (math.isfinite(value) and value > 0):
        raise OptionError(f"expected {label} to be a positive number of seconds, got {value!r}")


def delay(value: float) -> None:
    """How long to wait; not at all is fine."""
    if not (math.isfinite(value) and value >= 0):
        raise OptionError(f"expected delay to be 0 or more seconds, got {value!r}")


def positive_count(label: str, value: int) -> None:
    """How many at once."""
    if not value >= 1:
        raise OptionError(f"expected {label} to be 1 or more, got {value!r}")


def count(label: str, value: int) -> None:
    """How many."""
    if not value >= 0:
        raise OptionError(f"expected {label} to be 0 or more, got {value!r}")


def _show(value: str) -> str:
    return repr(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!r}..."
