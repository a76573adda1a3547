"""Ends a command (`celery -A …`) that can't start: one line on stderr, and exit code 2."""

from __future__ import annotations

import click

EXIT_MISUSED = 2


def end_command(message: str) -> None:
    """End the running command, if there is one.

    It raises SystemExit, because Celery catches every Exception while it loads the app of `-A`.
    """
    if click.get_current_context(silent=True) is not None:
        click.echo(f"Error: {message}", err=True)
        raise SystemExit(EXIT_MISUSED)
