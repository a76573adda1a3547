"""Every error of Relevo, in one tree under `RelevoError`.

The docstring of an error is its default message, so it is one line. A message shows what was
expected and what was given, or the name that was probably meant, and then what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RelevoError(Exception):
    """Something in Relevo went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class SettingsError(RelevoError):
    """A setting is missing, unknown or has a bad value."""


class OptionError(RelevoError, ValueError):
    """A task option or a dispatch option has a bad value."""


class UndefinedLimitError(OptionError, LookupError):
    """No limit of this name is defined; name it in `create_app(limits=…)`."""


class UnknownTaskError(RelevoError, LookupError):
    """There is no task of this name in the app."""


class UndeliverableError(RelevoError):
    """The message can't be run: it is not a job, or three workers have died with it."""


class FakeError(RelevoError):
    """A fake was asked for something while it wasn't active."""


class DriverError(RelevoError):
    """The broker refused the step or could not do it."""


class DriverUnavailableError(DriverError, ConnectionError):
    """The broker can't be reached."""


class SchemaError(DriverError):
    """The database's tables are missing or outdated; run `celery -A tasks schema upgrade`."""


class DeadlineError(RelevoError):
    """The job's deadline passed before its next attempt could start."""


class JobFailedError(RelevoError):
    """The job called `fail`."""


class JobExitedError(RelevoError):
    """The job raised what ends a program: `sys.exit`, KeyboardInterrupt or the like."""


class JobMemoryError(RelevoError):
    """The job ran out of memory."""


class BatchError(RelevoError):
    """A batch can't do what was asked: it has finished, was cancelled, or is not there."""


class MissingModelError(RelevoError, LookupError):
    """The row that a job was dispatched for is gone."""


class DiskError(RelevoError):
    """A disk can't do what was asked."""


class LinkError(DiskError):
    """A link to a file was changed, or has expired."""


class MailError(RelevoError, ValueError):
    """A mail can't be sent, now or later."""


class AlertError(RelevoError, OSError):
    """An alert did not reach all its receivers."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` with the nearest known name, or an empty text."""
    near = difflib.get_close_matches(given, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
